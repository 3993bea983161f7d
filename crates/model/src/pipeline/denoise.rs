//! The loop of steps from noise to a clean latent, which a caller drives a slice at a time.

use burn::tensor::Tensor;

use super::start::Known;
use crate::dit::Pass;
use crate::noise::Noise;
use crate::plan::Guidance;
use crate::schedulers::Run;
use crate::{Conditions, Dit, Taps};

/// A picture on its way from noise to a clean latent.
pub struct Denoise<'painter> {
    dit: &'painter Dit,
    /// Of all captions, or of the negative ones and then of the others; then, perturbed, of the others again.
    conditions: Vec<Conditions>,
    scales: Scales,
    run: Run,
    noise: Noise,
    latent: Tensor<4>,
    known: Option<Known>,
    /// The step at work, and what the captions before it gave where they take turns.
    pass: Option<Pass>,
    outs: Vec<Tensor<4>>,
    glimpse: Option<Glimpse>,
}

/// What the network said at a step, guided, `[P, latent_channels, H, W]`.
///
/// A picture is its request and these: whoever keeps them can [`Denoise::repeat`] its steps on another device, in another
/// process, and go on.
#[derive(Clone)]
pub struct Glimpse {
    pub said: Tensor<4>,
    /// The finished latent, by what was said so far.
    pub clean: Tensor<4>,
}

/// How strongly a picture follows its prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Scales {
    /// Of classifier-free guidance: the step away from the negative prompt. On above 1.
    pub guidance: f64,
    /// Of perturbed-attention guidance: the step away from a picture whose attention is spoilt. On above 0.
    pub pag: f64,
    /// What `pag` falls by with each timestep below 1000. (diffusers' PixArt pipeline fails on any but 0.)
    pub pag_adaptive: f64,
    /// The blocks whose attention is spoilt.
    pub pag_layers: Vec<usize>,
}

impl Scales {
    /// Classifier-free guidance alone.
    #[must_use]
    pub fn of(guidance: f64) -> Self {
        Self { guidance, pag: 0.0, pag_adaptive: 0.0, pag_layers: Vec::new() }
    }

    pub(crate) fn is_guided(&self) -> bool {
        self.guidance > 1.0
    }

    pub(crate) fn is_perturbed(&self) -> bool {
        self.pag > 0.0
    }

    /// The noise half of the channels of `out`, a network that also predicts a variance returns it in the other half:
    /// unconditional + g·(conditional - unconditional) (Ho and Salimans 2022, eq. 6) + s·(conditional - perturbed)
    /// (Ahn et al. 2024, eq. 13). The rows of `out` are `[unconditional, conditional, perturbed]`, of which the first and
    /// the last may be missing.
    fn guide(&self, out: Tensor<4>, timestep: f32, [pictures, channels, rows, columns]: [usize; 4]) -> Tensor<4> {
        let part = |index: usize| {
            let start = index * pictures;
            out.clone().slice([start..start + pictures, 0..channels, 0..rows, 0..columns])
        };
        let prompt = usize::from(self.is_guided());
        let (unconditional, conditional) = (part(0), part(prompt));
        let guided = match self.is_guided() {
            true => unconditional.clone() + (conditional.clone() - unconditional) * self.guidance,
            false => conditional.clone(),
        };
        if !self.is_perturbed() {
            return guided;
        }
        let scale = (self.pag - self.pag_adaptive * (1000.0 - f64::from(timestep))).max(0.0);
        guided + (conditional - part(prompt + 1)) * scale
    }
}

/// How far [`Denoise::advance`] came, by so many blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Into the middle of a step.
    Within(usize),
    /// To the end of a step.
    Step(usize),
    /// Nowhere: there was no step left to make.
    Done,
}

impl<'painter> Denoise<'painter> {
    pub(super) fn new(
        dit: &'painter Dit,
        conditions: Conditions,
        scales: Scales,
        run: Run,
        noise: Noise,
        latent: Tensor<4>,
        known: Option<Known>,
    ) -> Self {
        let perturbed = scales.is_perturbed().then(|| conditions.perturbed(latent.dims()[0], &scales.pag_layers));
        let conditions = std::iter::once(conditions).chain(perturbed).collect();
        Self { dit, conditions, scales, run, noise, latent, known, pass: None, outs: Vec::new(), glimpse: None }
    }

    /// The same, as planned: the captions of guidance together or in turn.
    #[must_use]
    pub fn planned(mut self, guidance: Guidance) -> Self {
        if self.scales.is_guided() && guidance == Guidance::InTurn {
            let both = self.conditions.remove(0).halves();
            self.conditions.splice(0..0, both);
        }
        self
    }

    /// Makes one step. False once there is none left to make.
    pub fn step(&mut self, taps: &mut Taps) -> bool {
        self.advance(usize::MAX, taps) != Progress::Done
    }

    /// Goes on with a step, or begins one, and stops at its end or after `blocks` blocks of the transformer.
    pub fn advance(&mut self, blocks: usize, taps: &mut Taps) -> Progress {
        let Some(timestep) = self.run.timestep() else { return Progress::Done };
        let mut made = 0;
        while made < blocks {
            let conditions = &self.conditions[self.outs.len()];
            let begin = || self.dit.begin(self.run.input(self.latent.clone()), timestep, conditions, taps);
            let mut pass = self.pass.take().unwrap_or_else(begin);
            if self.dit.advance(&mut pass, conditions, taps) {
                self.pass = Some(pass);
                made += 1;
                continue;
            }
            self.outs.push(self.dit.finish(pass, conditions, taps));
            if self.outs.len() == self.conditions.len() {
                let outs = Tensor::cat(std::mem::take(&mut self.outs), 0);
                let predicted = self.scales.guide(outs, timestep, self.latent.dims());
                taps.see(format_args!("eps"), &predicted);
                self.take(predicted);
                taps.see(format_args!("prev_sample"), &self.latent);
                return Progress::Step(made);
            }
        }
        Progress::Within(made)
    }

    /// Makes a step by what the network `said` before, in [`Glimpse::said`], in place of asking it. False once there is none
    /// left to make.
    pub fn repeat(&mut self, said: Tensor<4>) -> bool {
        assert!(self.pass.is_none() && self.outs.is_empty(), "a step is at work");
        let is_left = self.run.timestep().is_some();
        if is_left {
            self.take(said);
        }
        is_left
    }

    fn take(&mut self, said: Tensor<4>) {
        let clean = self.run.clean(self.latent.clone(), said.clone());
        self.glimpse = Some(Glimpse { said: said.clone(), clean });
        self.latent = self.run.step(self.latent.clone(), said, &mut || self.noise.draw());
        if let Some(known) = &self.known {
            self.latent = known.put_back(&self.run, self.latent.clone());
        }
    }

    /// Of the last step that was made.
    #[must_use]
    pub fn glimpse(&self) -> Option<Glimpse> {
        self.glimpse.clone()
    }

    /// One number of what was computed last: it can be read once that is there.
    #[must_use]
    pub fn latest(&self) -> Tensor<1> {
        let latest = self.pass.as_ref().map(Pass::latest);
        latest.unwrap_or_else(|| self.outs.last().unwrap_or(&self.latent).clone().flatten(0, 3)).narrow(0, 0, 1)
    }

    #[must_use]
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The latent as it is now.
    #[must_use]
    pub fn latent(&self) -> Tensor<4> {
        self.latent.clone()
    }

    #[must_use]
    pub fn into_latent(self) -> Tensor<4> {
        self.latent
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::Scales;

    #[test]
    fn guidance_steps_away_from_both_others_and_fades_with_the_timestep() {
        // One number for each of unconditional, conditional and perturbed, beside a variance that is dropped.
        let out = TensorData::new(vec![1.0_f32, 9.0, 3.0, 9.0, 2.0, 9.0], [3, 2, 1, 1]);
        let guided = |pag, pag_adaptive, timestep| {
            let scales = Scales { pag, pag_adaptive, pag_layers: vec![0], ..Scales::of(4.0) };
            let rows = if pag > 0.0 { 3 } else { 2 };
            let out: Tensor<4> = Tensor::from_data(out.clone(), &Device::flex()).narrow(0, 0, rows);
            scales.guide(out, timestep, [1, 1, 1, 1]).into_scalar::<f32>()
        };
        assert_eq!(guided(0.0, 0.0, 999.0), 1.0 + 4.0 * 2.0);
        assert_eq!(guided(2.0, 0.0, 500.0), 9.0 + 2.0);
        assert_eq!(guided(2.0, 0.002, 500.0), 9.0 + 1.0);
        assert_eq!(guided(2.0, 0.01, 500.0), 9.0);
    }
}
