//! The denoising loop of one image, which a caller drives a slice of a step at a time.

use burn::tensor::Tensor;

use super::guidance::GuidanceConfig;
use super::init_latents::InpaintMask;
use crate::noise::Noise;
use crate::planning::memory_plan::CfgBatching;
use crate::schedulers::SchedulerState;
use crate::transformer::ForwardState;
use crate::{Conditioning, Dit, Taps};

/// The denoising of one image, from the initial latents to the clean ones.
pub struct Sampler<'pipeline> {
    dit: &'pipeline Dit,
    /// Conditioning of one forward pass each. Batched guidance has one for all prompts; sequential guidance has one for the
    /// negative prompts and one for the others. Perturbed attention adds one for the prompts.
    conditions: Vec<Conditioning>,
    guidance: GuidanceConfig,
    scheduler: SchedulerState,
    noise: Noise,
    latents: Tensor<4>,
    inpaint: Option<InpaintMask>,
    /// The forward pass at work, and the outputs of the passes before it in the same step.
    pass: Option<ForwardState>,
    outs: Vec<Tensor<4>>,
    step_output: Option<StepOutput>,
}

/// Outputs of one denoising step, both `[P, latent_channels, H, W]`.
#[derive(Clone)]
pub struct StepOutput {
    /// The guided model output. Together with the request, the model outputs of all steps determine the image: a generation
    /// can be replayed on another device with [`Sampler::replay`].
    pub model_output: Tensor<4>,
    /// The clean latents predicted at this step.
    pub pred_original_sample: Tensor<4>,
}

/// Progress made by one call of [`Sampler::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerProgress {
    /// This many blocks were computed, and the step is not complete.
    Within(usize),
    /// This many blocks were computed, and the step is complete.
    Step(usize),
    /// No step is left.
    Done,
}

impl<'pipeline> Sampler<'pipeline> {
    pub(super) fn new(
        dit: &'pipeline Dit,
        conditions: Conditioning,
        guidance: GuidanceConfig,
        scheduler: SchedulerState,
        noise: Noise,
        latents: Tensor<4>,
        inpaint: Option<InpaintMask>,
    ) -> Self {
        let layers = &guidance.pag_applied_layers;
        let perturbed = guidance.is_perturbed().then(|| conditions.with_perturbed_attention(latents.dims()[0], layers));
        let conditions = std::iter::once(conditions).chain(perturbed).collect();
        let (pass, outs, step_output) = (None, Vec::new(), None);
        Self { dit, conditions, guidance, scheduler, noise, latents, inpaint, pass, outs, step_output }
    }

    /// Sets how the prompts of classifier-free guidance are computed: in one batch, or one after the other.
    #[must_use]
    pub fn planned(mut self, batching: CfgBatching) -> Self {
        if self.guidance.is_guided() && batching == CfgBatching::Sequential {
            let both = self.conditions.remove(0).split_cfg();
            self.conditions.splice(0..0, both);
        }
        self
    }

    /// Makes one step. Returns false where no step is left.
    pub fn step(&mut self, taps: &mut Taps) -> bool {
        self.advance(usize::MAX, taps) != SamplerProgress::Done
    }

    /// Continues a step or begins one, and stops at its end or after `blocks` blocks of the transformer.
    pub fn advance(&mut self, blocks: usize, taps: &mut Taps) -> SamplerProgress {
        let Some(timestep) = self.scheduler.timestep() else { return SamplerProgress::Done };
        let mut made = 0;
        while made < blocks {
            let conditions = &self.conditions[self.outs.len()];
            let begin = || {
                let input = self.scheduler.scale_model_input(self.latents.clone());
                self.dit.begin(input, timestep, conditions, taps)
            };
            let mut pass = self.pass.take().unwrap_or_else(begin);
            if self.dit.advance(&mut pass, conditions, taps) {
                self.pass = Some(pass);
                made += 1;
                continue;
            }
            self.outs.push(self.dit.finish(pass, conditions, taps));
            if self.outs.len() == self.conditions.len() {
                let outs = Tensor::cat(std::mem::take(&mut self.outs), 0);
                let model_output = self.guidance.apply(outs, timestep, self.latents.dims());
                taps.record(format_args!("eps"), &model_output);
                self.scheduler_step(model_output);
                taps.record(format_args!("prev_sample"), &self.latents);
                return SamplerProgress::Step(made);
            }
        }
        SamplerProgress::Within(made)
    }

    /// Makes a step with a recorded [`StepOutput::model_output`] in place of a forward pass. Returns false where no step is
    /// left.
    ///
    /// # Panics
    /// In the middle of a step.
    pub fn replay(&mut self, model_output: Tensor<4>) -> bool {
        assert!(self.pass.is_none() && self.outs.is_empty(), "the present step is not complete");
        let is_left = self.scheduler.timestep().is_some();
        if is_left {
            self.scheduler_step(model_output);
        }
        is_left
    }

    fn scheduler_step(&mut self, model_output: Tensor<4>) {
        let pred_original_sample = self.scheduler.pred_original_sample(self.latents.clone(), model_output.clone());
        self.step_output = Some(StepOutput { model_output: model_output.clone(), pred_original_sample });
        self.latents = self.scheduler.step(self.latents.clone(), model_output, &mut || self.noise.draw());
        if let Some(inpaint) = &self.inpaint {
            self.latents = inpaint.blend(&self.scheduler, self.latents.clone());
        }
    }

    /// Returns the outputs of the last step.
    #[must_use]
    pub fn step_output(&self) -> Option<StepOutput> {
        self.step_output.clone()
    }

    /// Returns one element of the tensor computed last: reading it back waits for that computation.
    #[must_use]
    pub fn latest(&self) -> Tensor<1> {
        let latest = self.pass.as_ref().map(ForwardState::hidden_states);
        latest.unwrap_or_else(|| self.outs.last().unwrap_or(&self.latents).clone().flatten(0, 3)).narrow(0, 0, 1)
    }

    /// Returns the scheduler's state: timesteps, noise levels and the steps that remain.
    #[must_use]
    pub fn scheduler(&self) -> &SchedulerState {
        &self.scheduler
    }

    /// Returns the present latents `[P, latent_channels, H, W]`.
    #[must_use]
    pub fn latents(&self) -> Tensor<4> {
        self.latents.clone()
    }

    /// Returns the latents; after the last step they are clean.
    #[must_use]
    pub fn into_latents(self) -> Tensor<4> {
        self.latents
    }
}
