//! The stages that draw: what a request asks for as latents, steps and a picture, on the networks of one checkpoint.

use burn::tensor::{Device, Tensor};
use pixart_kernels::WeightFormat;
use pixart_protocol::{Fault, FaultCode, GenerateRequest, Limits, Preset, ResolvedRequest};
use pixart_weights::Folder;

use super::{GuidanceConfig, InitLatents, PromptEmbeds, Sampler};
use crate::image::GenerationMetadata;
use crate::loading::config::{Json, MICRO_CONDITION_SAMPLE_SIZE, PATCH};
use crate::noise::Noise;
use crate::pipeline::bins;
use crate::planning::memory_plan::{DeviceLimits, LatentBatch, MemoryPlan, Planner};
use crate::schedulers::{SchedulerConfig, SchedulerOptions, SchedulerState, Steps};
use crate::vae::DecodeMode;
use crate::{Dit, Error, MicroConditions, Taps, VaeDecoder};

/// The smallest and largest picture offered, in halves and doubles of the size the checkpoint was trained at.
const SIZE_RANGE: u32 = 2;

/// The picture stages: transformer, scheduler and autoencoder. It needs no text encoder.
pub struct Painter {
    pub dit: Dit,
    pub scheduler: SchedulerConfig,
    pub vae: VaeDecoder,
    planner: Planner,
    precision: WeightFormat,
    preset: Preset,
    /// What a packed checkpoint's manifest says of where it is from, and its hash.
    origin: Option<[String; 2]>,
    pub(super) device: Device,
}

impl Painter {
    /// Reads `transformer/`, `scheduler/` and `vae/`.
    ///
    /// # Errors
    /// See [`Dit::load`], [`SchedulerConfig::read`] and [`VaeDecoder::load`].
    pub async fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        Self::load_within(folder, device, DeviceLimits::UNLIMITED).await
    }

    /// [`Painter::load`], the transformer in the best precision that fits a device of these limits, and with activations in
    /// half precision where that is faster.
    ///
    /// # Errors
    /// As [`Painter::load`]'s, and [`FaultCode::OutOfMemory`] where no precision fits.
    pub async fn load_within(folder: &Folder, device: &Device, limits: DeviceLimits) -> Result<Self, Error> {
        Self::load_as(folder, device, limits, None).await
    }

    /// [`Painter::load_within`], the transformer's blocks in `precision` where one is chosen, or in the smaller one they are
    /// stored in.
    ///
    /// # Errors
    /// As [`Painter::load_within`]'s.
    pub async fn load_as(
        folder: &Folder,
        device: &Device,
        limits: DeviceLimits,
        chosen: Option<WeightFormat>,
    ) -> Result<Self, Error> {
        let planner = Planner { chosen, ..Planner::read(folder, limits)? };
        let precision = planner.weight_format().map_err(Error::Request)?;
        let dit = Dit::load_as(folder, precision, device).await?;
        Ok(Self {
            dit: if limits.shader_f16 { dit.with_f16_activations() } else { dit },
            scheduler: SchedulerConfig::read(folder)?,
            vae: VaeDecoder::load(folder, device).await?,
            planner,
            precision,
            preset: preset_of(folder)?,
            origin: folder.manifest().map(|manifest| [manifest.source.clone(), manifest.hash()]),
            device: device.clone(),
        })
    }

    /// What this checkpoint is best asked for.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.preset.clone()
    }

    /// The request with everything filled in that it leaves to the checkpoint.
    ///
    /// # Errors
    /// The first field that cannot be used, by name.
    pub fn resolve(&self, request: &GenerateRequest) -> Result<ResolvedRequest, Error> {
        let resolved = request.resolve(&self.limits()).map_err(Error::Request)?;
        self.scheduler_state(request)?;
        self.guidance(request)?;
        Ok(resolved)
    }

    /// What a picture of `request` is drawn by, on the `device` of that name.
    ///
    /// # Errors
    /// A scheduler that there is not.
    pub fn metadata(&self, request: &GenerateRequest, device: &str) -> Result<GenerationMetadata, Error> {
        let [source, hash] = self.origin.clone().unwrap_or_default();
        let model = source.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default().to_owned();
        let scheduler = self.scheduler.choose(request.scheduler.as_deref())?.name().to_owned();
        Ok(GenerationMetadata {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: device.to_owned(),
            model,
            model_hash: Some(hash).filter(|hash| !hash.is_empty()),
            weight_format: self.precision,
            scheduler,
        })
    }

    /// How the picture that `request` asks for is computed within the limits that were told at loading.
    ///
    /// # Errors
    /// [`FaultCode::OutOfMemory`] where it fits in no way.
    pub fn plan(&self, request: &GenerateRequest, resolved: &ResolvedRequest) -> Result<MemoryPlan, Error> {
        let latent_size = self.drawn_size(request, resolved).map(|side| side as usize / self.vae.config().factor());
        let batch = LatentBatch { images: 1, latent_size, guided: request.is_guided() };
        self.planner.plan(batch, self.precision).map_err(Error::Request)
    }

    /// What this checkpoint can draw.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let factor = self.vae.config().factor();
        let native_size = (self.dit.config().sample_size * factor) as u32;
        let size_multiple = (factor * PATCH) as u32;
        Limits {
            native_size,
            size_min: (native_size / SIZE_RANGE).next_multiple_of(size_multiple),
            size_max: native_size * SIZE_RANGE,
            size_multiple,
            binned: bins::nearest_bin(native_size, 1, 1).is_some(),
        }
    }

    pub(super) fn device_limits(&self) -> DeviceLimits {
        self.planner.limits
    }

    /// Height and width that `request` is drawn at: those of its bin, or its own.
    #[must_use]
    pub fn drawn_size(&self, request: &GenerateRequest, resolved: &ResolvedRequest) -> [u32; 2] {
        let ResolvedRequest { height, width, .. } = *resolved;
        let bin = bins::nearest_bin(self.limits().native_size, height, width);
        bin.filter(|_| request.use_resolution_binning).unwrap_or([height, width])
    }

    /// The noise of each picture of `request`: one generator draws it for all, or each has a seed of its own.
    #[must_use]
    pub fn noises(&self, request: &GenerateRequest, resolved: &ResolvedRequest) -> Vec<Noise> {
        let factor = self.vae.config().factor();
        let [rows, columns] = self.drawn_size(request, resolved).map(|side| side as usize / factor);
        let shape = [1, self.dit.config().latent_channels, rows, columns];
        let noise = |seed: u32, place| Noise::new(u64::from(seed), place, shape, &self.device);
        match &request.seeds {
            Some(seeds) => seeds.iter().map(|seed| noise(*seed, [0, 1])).collect(),
            None => {
                let pictures = request.num_images_per_prompt as usize;
                (0..pictures).map(|index| noise(request.seed, [index, pictures])).collect()
            }
        }
    }

    /// Returns the state of the denoising that `request` asks for, by the scheduler it names or the checkpoint's own.
    ///
    /// # Errors
    /// An unknown scheduler, an unknown setting of it, or steps that it does not support.
    pub fn scheduler_state(&self, request: &GenerateRequest) -> Result<SchedulerState, Error> {
        let steps = match (&request.timesteps, &request.sigmas) {
            (Some(timesteps), _) => Steps::Timesteps(timesteps),
            (None, Some(sigmas)) => Steps::Sigmas(sigmas),
            (None, None) => Steps::Count(request.num_inference_steps as usize),
        };
        let state = self
            .scheduler
            .choose(request.scheduler.as_deref())?
            .set_timesteps(&SchedulerOptions { steps, eta: request.eta })?;
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

    /// Returns the guidance of `request`.
    ///
    /// # Errors
    /// Perturbed attention in blocks that the transformer does not have.
    pub fn guidance(&self, request: &GenerateRequest) -> Result<GuidanceConfig, Error> {
        let layers = self.dit.config().layers;
        let middle = [layers as u32 / 2];
        let asked = request.pag_applied_layers.as_deref().unwrap_or(&middle);
        if asked.is_empty() || asked.iter().any(|layer| *layer as usize >= layers) {
            let remedy = format!("choose blocks from 0 to {}, or leave them out for the middle one", layers - 1);
            let what = format!("pag_applied_layers is {asked:?}");
            return Err(Error::Request(Fault::new(FaultCode::BadRequest, what, remedy)));
        }
        Ok(GuidanceConfig {
            guidance_scale: request.guidance_scale,
            pag_scale: request.pag_scale,
            pag_adaptive_scale: request.pag_adaptive_scale,
            pag_applied_layers: asked.iter().map(|layer| *layer as usize).collect(),
        })
    }

    /// Assembles the sampler of one image from its initial latents. Schedulers that add noise in each step draw it from
    /// `noise`.
    ///
    /// `prompt_embeds` has one row for each image, or two where guidance is on: those of the negative prompts, then those of
    /// the prompts.
    ///
    /// # Panics
    /// Where `prompt_embeds` has another number of rows.
    #[must_use]
    pub fn sampler(
        &self,
        init_latents: InitLatents,
        mut noise: Noise,
        prompt_embeds: PromptEmbeds,
        guidance: GuidanceConfig,
        scheduler: SchedulerState,
    ) -> Sampler<'_> {
        let (latents, inpaint) = init_latents.begin(&scheduler, &mut noise);
        let PromptEmbeds { embeds, attention_mask } = prompt_embeds;
        let [p, _, h, w] = latents.dims();
        assert_eq!(embeds.dims()[0], guidance.rows() * p, "prompt embeddings for {p} images, {guidance:?}");

        let factor = self.vae.config().factor();
        let (height, width) = ((h * factor) as f32, (w * factor) as f32);
        let config = self.dit.config();
        let has_micro = config.sample_size == MICRO_CONDITION_SAMPLE_SIZE && config.micro_conditions;
        let micro = has_micro.then_some(MicroConditions { height, width, aspect_ratio: height / width });
        let conditions = self.dit.prepare_conditioning(embeds, attention_mask, [h, w], micro, &mut Taps::off());
        Sampler::new(&self.dit, conditions, guidance, scheduler, noise, latents, inpaint)
    }

    /// Finished latent → picture in -1..1 `[P, 3, 8·H, 8·W]`.
    #[must_use]
    pub fn decode(&self, latent: Tensor<4>) -> Tensor<4> {
        self.decode_as(latent, DecodeMode::Whole)
    }

    /// [`Painter::decode`] as planned.
    #[must_use]
    pub fn decode_as(&self, latent: Tensor<4>, how: DecodeMode) -> Tensor<4> {
        self.vae.decode(latent / self.vae.config().scaling_factor, how)
    }
}

/// The preset of a checkpoint, by the pipeline and the scheduler that it names. That it was distilled to one step stands in
/// no file.
///
/// # Errors
/// A file that cannot be read.
pub fn preset_of(folder: &Folder) -> Result<Preset, Error> {
    let class = |file: &str| match folder.contains(file) {
        true => Ok::<_, Error>(Json::read(folder, file)?.text("_class_name")?.to_owned()),
        false => Ok(String::new()),
    };
    let (pipeline, scheduler) = (class("model_index.json")?, class("scheduler/scheduler_config.json")?);
    let name = match (pipeline.as_str(), scheduler.as_str()) {
        (pipeline, _) if pipeline.starts_with("PixArtSigma") => "sigma",
        (_, "LCMScheduler") => "alpha-lcm",
        _ => "alpha",
    };
    Preset::named(name).map_err(Error::Request)
}
