//! Stage 1: checks a request against a checkpoint and decides everything that its images need.

use std::rc::Rc;

use pixart_protocol::{Fault, FaultCode, GenerateRequest, Limits, ResolvedRequest, TokenCount};

use super::bins;
use super::{GuidanceConfig, Pipeline};
use crate::image::{Rgb8, Size, encode_png};
use crate::loading::config::PATCH;
use crate::planning::memory_plan::{LatentBatch, MemoryPlan};
use crate::schedulers::{Scheduler, SchedulerOptions, SchedulerState, Steps};
use crate::text::weighting::weighted_caption;
use crate::{Error, clean_caption, normalize_caption};

/// Smallest and largest side offered, as a divisor and a factor of the size that the checkpoint was trained at.
const SIZE_RANGE: u32 = 2;

/// A checked request with everything that follows from it before the first tensor is made.
#[derive(Clone, Debug)]
pub struct PreparedRequest {
    pub request: GenerateRequest,
    /// Cleaned prompts in the order of the batch: the negative prompts where guidance uses them, then the prompts. One with weights holds
    /// them, as the text encoder reads them.
    pub prompts: Vec<String>,
    /// Size of the finished image.
    pub size: Size,
    /// Size at which the image is generated, before it is resized to `size`.
    pub generated_size: Size,
    /// Batch, channels, rows and columns of the latents `[P, C, H, W]`.
    pub latent_shape: [usize; 4],
    pub guidance: GuidanceConfig,
    /// The memory plan; with a second pass the most of both.
    pub plan: MemoryPlan,
    /// The second pass, whose image is still to be generated.
    pub(super) second: Option<Rc<Self>>,
    pub(super) scheduler: Scheduler,
}

impl PreparedRequest {
    /// Returns the number of denoising steps of all passes.
    ///
    /// # Errors
    /// See [`Pipeline::prepare`].
    pub fn total_steps(&self) -> Result<u32, Error> {
        let own = self.scheduler_state()?.remaining_calls() as u32;
        self.second.as_ref().map_or(Ok(own), |second| Ok(own + second.total_steps()?))
    }

    /// Returns whether a second pass follows.
    #[must_use]
    pub fn has_second_pass(&self) -> bool {
        self.second.is_some()
    }

    /// Returns the second pass over the image of the first: image-to-image.
    ///
    /// # Errors
    /// An image that PNG cannot hold.
    ///
    /// # Panics
    /// Where there is one pass.
    pub fn second_pass(&self, image: &Rgb8) -> Result<Self, Error> {
        let mut second = Self::clone(self.second.as_ref().expect("there is a second pass"));
        second.request.image = Some(encode_png(image, &[])?);
        Ok(second)
    }

    /// Returns the number of samplers that the request needs: one for each image.
    #[must_use]
    pub fn images(&self) -> usize {
        self.request.num_images_per_prompt as usize
    }

    /// Returns a sentence where the image takes longer than its size suggests, and one for each prompt that the text encoder did not read
    /// to its end. `counts` are those of [`PreparedRequest::prompts`].
    #[must_use]
    pub fn notes(&self, counts: &[TokenCount]) -> Vec<String> {
        let negatives = self.prompts.len() / self.guidance.rows() * (self.guidance.rows() - 1);
        let name = |row| if row < negatives { "negative prompt" } else { "prompt" };
        let truncations = counts.iter().enumerate().filter_map(|(row, count)| count.note(name(row)));
        self.binning_note().into_iter().chain(truncations).collect()
    }

    /// Returns a sentence where the resolution bin has many more pixels than the image.
    fn binning_note(&self) -> Option<String> {
        let (generated, Size { height, width }) = (self.generated_size, self.size);
        (generated.width * generated.height > 2 * width * height).then(|| {
            format!(
                "the image is generated at {} × {} px, the nearest size that the checkpoint was trained at, and resized to \
                 {width} × {height} px: a smaller size is not faster unless use_resolution_binning is false",
                generated.width, generated.height
            )
        })
    }

    /// Fixes the timesteps of one image.
    pub(super) fn scheduler_state(&self) -> Result<SchedulerState, Error> {
        scheduler_state(&self.request, &self.scheduler)
    }
}

/// Prompts and size of one sampler's images, where they do not come from a request's own fields.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Cleaned prompts, one for each image.
    pub prompts: &'a [String],
    /// Cleaned negative prompt of all images.
    pub negative_prompt: &'a str,
    /// Height and width in pixels at which the images are generated.
    pub generated_size: [u32; 2],
}

impl Pipeline {
    /// Checks `request` and decides prompts, sizes, guidance, timesteps and memory. Nothing else validates a request.
    ///
    /// # Errors
    /// The first field that cannot be used, by name, and [`FaultCode::OutOfMemory`] where the image does not fit.
    pub fn prepare(&self, request: &GenerateRequest) -> Result<PreparedRequest, Error> {
        let resolved = request.resolve(&self.limits()).map_err(Error::Request)?;
        let ResolvedRequest { prompt, negative_prompt, height, width } = resolved;
        let batch = Batch {
            prompts: &[caption(request, &prompt)?],
            negative_prompt: &caption(request, &negative_prompt)?,
            generated_size: self.generated_size(request, [height, width]),
        };
        let size = Size { height: height as usize, width: width as usize };
        let first = PreparedRequest { size, ..self.prepare_batch(request, batch)? };
        let Some(second) = request.second_pass() else { return Ok(first) };
        let generated_size = request.second_size([height, width], &self.limits()).map_err(Error::Request)?;
        let second = self.prepare_batch(&second, Batch { generated_size, ..batch })?;
        let [height, width] = generated_size;
        let mut plan = first.plan;
        plan.denoise_bytes = plan.denoise_bytes.max(second.plan.denoise_bytes);
        plan.decode_bytes = plan.decode_bytes.max(second.plan.decode_bytes);
        plan.binding_bytes = plan.binding_bytes.max(second.plan.binding_bytes);
        plan.reasons.push(format!("second pass of {width}x{height}: {}", second.plan.line()));
        Ok(PreparedRequest { plan, second: Some(Rc::new(second)), ..first })
    }

    /// [`Pipeline::prepare`] for one batch of images with prompts and a size of their own, which need not be within
    /// [`Pipeline::limits`]: for recorded batches, and for networks that are smaller than a checkpoint's.
    ///
    /// # Errors
    /// As for [`Pipeline::prepare`].
    pub fn prepare_batch(&self, request: &GenerateRequest, batch: Batch<'_>) -> Result<PreparedRequest, Error> {
        let scheduler = self.scheduler.choose(request.scheduler.as_deref())?;
        scheduler_state(request, &scheduler)?;
        let guidance = self.guidance(request)?;
        let Batch { prompts, negative_prompt, generated_size } = batch;
        let negative = std::iter::repeat_n(negative_prompt.to_owned(), (guidance.rows() - 1) * prompts.len());
        let [height, width] = generated_size.map(|side| side as usize);
        let latent_size = [height, width].map(|side| side / self.vae.config().factor());
        let latents = LatentBatch { images: prompts.len(), latent_size, guided: guidance.is_guided() };
        Ok(PreparedRequest {
            prompts: negative.chain(prompts.iter().cloned()).collect(),
            size: Size { height, width },
            generated_size: Size { height, width },
            latent_shape: [prompts.len(), self.transformer.config().latent_channels, latent_size[0], latent_size[1]],
            guidance,
            plan: self.planner.plan(latents, self.weight_format).map_err(Error::Request)?,
            second: None,
            scheduler,
            request: request.clone(),
        })
    }

    /// Returns the sizes that a request to this checkpoint can have.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let factor = self.vae.config().factor();
        let native_size = (self.transformer.config().sample_size * factor) as u32;
        let size_multiple = (factor * PATCH) as u32;
        Limits {
            native_size,
            size_min: (native_size / SIZE_RANGE).next_multiple_of(size_multiple),
            size_max: native_size * SIZE_RANGE,
            size_multiple,
            binned: bins::nearest_bin(native_size, 1, 1).is_some(),
        }
    }

    /// Returns height and width at which an image of `[height, width]` is generated: those of its resolution bin, or its own.
    #[must_use]
    pub fn generated_size(&self, request: &GenerateRequest, [height, width]: [u32; 2]) -> [u32; 2] {
        let bin = bins::nearest_bin(self.limits().native_size, height, width);
        bin.filter(|_| request.use_resolution_binning).unwrap_or([height, width])
    }

    fn guidance(&self, request: &GenerateRequest) -> Result<GuidanceConfig, Error> {
        let layers = self.transformer.config().layers;
        let middle = [layers as u32 / 2];
        let pag_applied_layers = request.pag_applied_layers.as_deref().unwrap_or(&middle);
        if pag_applied_layers.is_empty() || pag_applied_layers.iter().any(|layer| *layer as usize >= layers) {
            let remedy = format!("choose blocks from 0 to {}, or leave them out for the middle one", layers - 1);
            let what = format!("pag_applied_layers is {pag_applied_layers:?}");
            return Err(Error::Request(Fault::new(FaultCode::BadRequest, what, remedy)));
        }
        Ok(GuidanceConfig {
            guidance_scale: request.guidance_scale,
            pag_scale: request.pag_scale,
            pag_adaptive_scale: request.pag_adaptive_scale,
            pag_applied_layers: pag_applied_layers.iter().map(|layer| *layer as usize).collect(),
        })
    }
}

/// Cleans a prompt of a request, with the weights in it where the request reads them.
pub(super) fn caption(request: &GenerateRequest, prompt: &str) -> Result<String, Error> {
    let clean = if request.clean_caption { clean_caption } else { normalize_caption };
    match request.prompt_weighting {
        true => weighted_caption(prompt, clean).map_err(Error::Request),
        false => Ok(clean(prompt)),
    }
}

/// Returns the timesteps that a request lists, or as many as it asks for, less those that `strength` skips.
fn scheduler_state(request: &GenerateRequest, scheduler: &Scheduler) -> Result<SchedulerState, Error> {
    let steps = match (&request.timesteps, &request.sigmas) {
        (Some(timesteps), _) => Steps::Timesteps(timesteps),
        (None, Some(sigmas)) => Steps::Sigmas(sigmas),
        (None, None) => Steps::Count(request.num_inference_steps as usize),
    };
    let state = scheduler.set_timesteps(&SchedulerOptions { steps, eta: request.eta })?;
    if request.image.is_none() {
        return Ok(state);
    }
    let (count, strength) = (steps.len(), request.strength());
    let made = (count as f64 * strength) as usize;
    if made == 0 {
        let remedy = format!("choose at least {:.3}, or more steps", 1.0 / count as f64);
        let what = format!("strength is {strength}, which of {count} steps leaves none");
        return Err(Error::Request(Fault::new(FaultCode::BadRequest, what, remedy)));
    }
    Ok(state.set_begin_index(count - made.min(count)))
}
