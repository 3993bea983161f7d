//! The pipeline of one checkpoint, in the stages of diffusers' `__call__`:
//!
//! 1. check the inputs and plan: [`Pipeline::prepare`],
//! 2. encode the prompts: [`Pipeline::encode`],
//! 3. prepare the timesteps, 4. the latents and 5. the conditioning: [`Pipeline::sampler`],
//! 6. the denoising loop: [`Sampler::step`],
//! 7. decode the latents: [`Pipeline::decode`].
//!
//! A caller drives the stages one by one. Between two calls nothing is pending on the host, so it can look for a
//! cancellation or show progress. No stage reads a tensor back; [`crate::image`] does.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use burn::tensor::{Device, Tensor};
use pixart_kernels::WeightFormat;
use pixart_protocol::{Fault, FaultCode, GenerateRequest, Preset, TokenCount};
use pixart_weights::Folder;

use crate::image::GenerationMetadata;
use crate::loading::config::MICRO_CONDITION_SAMPLE_SIZE;
use crate::loading::json::Json;
use crate::noise::Noise;
use crate::planning::memory_plan::{DeviceLimits, Planner};
use crate::schedulers::{MODEL_INDEX, SchedulerConfig, class as scheduler_class};
use crate::{Dit, Error, MicroConditions, Taps, VaeDecoder, VaeEncoder};

pub(crate) mod bins;
mod guidance;
mod init_latents;
mod prepare;
mod prompt_embeds;
mod sampler;
#[cfg(test)]
mod tests;

pub use guidance::GuidanceConfig;
use init_latents::InitLatents;
pub use prepare::{Batch, PreparedRequest};
pub use prompt_embeds::{PromptEmbeds, TextEncoder, TextEncoding};
pub use sampler::{Sampler, SamplerProgress, StepOutput};

/// The networks and the scheduler of one checkpoint on one device.
///
/// ```
/// use pixart_model::{DeviceLimits, Error, Pipeline, Taps, image};
/// use pixart_protocol::GenerateRequest;
///
/// async fn generate(folder: &pixart_weights::Folder, prompt: &str) -> Result<image::Rgb8, Error> {
///     let pipeline = Pipeline::load(folder, &burn::tensor::Device::flex(), DeviceLimits::UNLIMITED, None).await?;
///     pipeline.load_text_encoder(folder).await?;
///     let prepared = pipeline.prepare(&GenerateRequest::of(prompt))?;
///     let mut sampler = pipeline.sampler(&prepared, pipeline.encode(&prepared).await?, 0)?;
///     while sampler.step(&mut Taps::off()) {}
///     image::rgb8_read(pipeline.decode(sampler.into_latents(), &prepared), prepared.size).await
/// }
/// ```
pub struct Pipeline {
    /// Optional: prompts may be encoded elsewhere.
    text_encoder: RefCell<Option<Rc<TextEncoder>>>,
    /// Memory for the text encoder's blocks; none where it depends on the rest of the plan.
    text_memory: Cell<Option<u64>>,
    /// Optional: only image-to-image needs it.
    vae_encoder: RefCell<Option<VaeEncoder>>,
    pub transformer: Dit,
    pub scheduler: SchedulerConfig,
    pub vae: VaeDecoder,
    planner: Planner,
    weight_format: WeightFormat,
    preset: Preset,
    /// Source and hash in a packed checkpoint's manifest.
    origin: Option<[String; 2]>,
    device: Device,
}

impl Pipeline {
    /// Loads `transformer/`, `scheduler/` and the decoder of `vae/`, for a device of these limits.
    ///
    /// The transformer's blocks are held in the weight format `chosen`, or in the smaller one that they are stored in; where
    /// none is chosen, in the best one that fits. Activations are f16 where the device computes in f16.
    ///
    /// # Errors
    /// The first file, key or tensor that cannot be used, by name, and [`FaultCode::OutOfMemory`] where no format fits.
    pub async fn load(
        folder: &Folder,
        device: &Device,
        limits: DeviceLimits,
        chosen: Option<WeightFormat>,
    ) -> Result<Self, Error> {
        let planner = Planner { chosen, ..Planner::read(folder, limits)? };
        let weight_format = planner.weight_format().map_err(Error::Request)?;
        let transformer = Dit::load_as(folder, weight_format, device).await?;
        Ok(Self {
            text_encoder: RefCell::default(),
            text_memory: Cell::default(),
            vae_encoder: RefCell::default(),
            transformer: if limits.shader_f16 { transformer.with_f16_activations() } else { transformer },
            scheduler: SchedulerConfig::read(folder)?,
            vae: VaeDecoder::load(folder, device).await?,
            planner,
            weight_format,
            preset: preset_of(folder)?,
            origin: folder.manifest().map(|manifest| [manifest.source.clone(), manifest.hash()]),
            device: device.clone(),
        })
    }

    /// Drops the transformer and loads it again from `folder`, the one that the pipeline was loaded from, with other LoRA adapters.
    /// The rest stays on the device.
    ///
    /// # Errors
    /// As [`Pipeline::load`]'s; the pipeline is dropped then.
    pub async fn with_transformer(self, folder: &Folder) -> Result<Self, Error> {
        drop(self.transformer);
        self.device.memory_cleanup();
        let transformer = Dit::load_as(folder, self.weight_format, &self.device).await?;
        let is_f16 = self.planner.limits.shader_f16;
        Ok(Self { transformer: if is_f16 { transformer.with_f16_activations() } else { transformer }, ..self })
    }

    /// Sets the bytes that the text encoder's blocks may take on the device, before it is loaded. A larger encoder is streamed block
    /// by block. By default that depends on the memory that the transformer and an image of its native size leave.
    pub fn set_text_memory(&self, bytes: u64) {
        self.text_memory.set(Some(bytes));
    }

    /// Opens `tokenizer/` and `text_encoder/`, unless they are open, and loads the blocks if there is memory for all of them. Else
    /// they are streamed for each batch of prompts.
    ///
    /// # Errors
    /// See [`TextEncoder::load`].
    pub async fn load_text_encoder(&self, folder: &Folder) -> Result<(), Error> {
        if self.has_text_encoder() {
            return Ok(());
        }
        let opened = TextEncoder::open(folder, None, &self.device).await?;
        let plan = self.planner.plan(self.planner.native_batch(), self.weight_format);
        if self.has_room_for(&opened, plan.map_or(u64::MAX, |plan| plan.bytes())) {
            opened.load_blocks().await?;
        }
        self.text_encoder.replace(Some(Rc::new(opened)));
        Ok(())
    }

    fn has_room_for(&self, text_encoder: &TextEncoder, plan_bytes: u64) -> bool {
        let bytes = text_encoder.block_bytes();
        match self.text_memory.get() {
            Some(memory) => bytes <= memory,
            None => plan_bytes.saturating_add(bytes) <= self.planner.limits.memory(),
        }
    }

    #[must_use]
    pub fn has_text_encoder(&self) -> bool {
        self.text_encoder.borrow().is_some()
    }

    /// Loads the encoder of `vae/`, which reads input images, unless it is loaded.
    ///
    /// # Errors
    /// See [`VaeEncoder::load`].
    pub async fn load_vae_encoder(&self, folder: &Folder) -> Result<(), Error> {
        if !self.has_vae_encoder() {
            let loaded = VaeEncoder::load(folder, &self.device).await?;
            self.vae_encoder.replace(Some(loaded));
        }
        Ok(())
    }

    #[must_use]
    pub fn has_vae_encoder(&self) -> bool {
        self.vae_encoder.borrow().is_some()
    }

    /// Returns the recommended settings for this checkpoint.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.preset.clone()
    }

    /// Stage 2: encodes the prompts of a request with the loaded text encoder.
    ///
    /// # Errors
    /// A prompt that cannot be tokenized, a block that cannot be read, or no text encoder.
    pub async fn encode(&self, prepared: &PreparedRequest) -> Result<PromptEmbeds, Error> {
        let (text_encoder, taps) = (self.text_encoder()?, &mut Taps::off());
        let tokens = prepared.request.max_sequence_length as usize;
        let mut encoding =
            text_encoder.begin(&prepared.prompts, tokens, self.keeps_text_encoder(prepared), taps).await?;
        while encoding.step(taps).await? {}
        Ok(encoding.finish(taps))
    }

    /// Returns the loaded text encoder, to encode block by block.
    ///
    /// # Errors
    /// No text encoder.
    pub fn text_encoder(&self) -> Result<Rc<TextEncoder>, Error> {
        self.text_encoder.borrow().clone().ok_or_else(|| {
            let remedy = "load it, or let a companion encode the prompt";
            Error::Request(Fault::new(FaultCode::BadRequest, "no text encoder is loaded", remedy))
        })
    }

    /// Returns whether the text encoder's blocks stay on the device beside this request's images.
    #[must_use]
    pub fn keeps_text_encoder(&self, prepared: &PreparedRequest) -> bool {
        self.text_encoder.borrow().as_ref().is_some_and(|loaded| self.has_room_for(loaded, prepared.plan.bytes()))
    }

    /// Counts the tokens of the prompts of a request, in the order of [`PreparedRequest::prompts`]; none where no text encoder is
    /// loaded.
    ///
    /// # Errors
    /// A prompt that cannot be tokenized.
    pub fn token_counts(&self, prepared: &PreparedRequest) -> Result<Vec<TokenCount>, Error> {
        self.counts(&prepared.prompts, &prepared.request)
    }

    /// Counts the tokens of prompt and negative prompt of a request that need not be valid otherwise; none where no text encoder is
    /// loaded.
    ///
    /// # Errors
    /// A style that does not exist, a length that is not in the range, or a prompt that cannot be tokenized.
    pub fn typed_token_counts(&self, request: &GenerateRequest) -> Result<Vec<TokenCount>, Error> {
        let (prompt, negative_prompt) = request.styled_prompts().map_err(Error::Request)?;
        let [prompt, negative_prompt] = [prompt, negative_prompt].map(|prompt| prepare::caption(request, &prompt));
        self.counts(&[prompt?, negative_prompt?], request)
    }

    fn counts(&self, prompts: &[String], request: &GenerateRequest) -> Result<Vec<TokenCount>, Error> {
        let tokens = request.max_sequence_length.max(1) as usize;
        self.text_encoder.borrow().as_ref().map_or(Ok(Vec::new()), |loaded| loaded.token_counts(prompts, tokens))
    }

    /// Drops the text encoder's blocks where the device cannot hold them beside the image. The next prompt streams them.
    pub fn make_room(&self, prepared: &PreparedRequest) {
        if let Some(loaded) = &*self.text_encoder.borrow()
            && loaded.is_resident()
            && !self.has_room_for(loaded, prepared.plan.bytes())
        {
            loaded.drop_blocks();
            self.device.memory_cleanup();
        }
    }

    /// Stages 3 to 5: assembles the sampler of image `index`. `prompt_embeds` has the rows of [`PreparedRequest::prompts`].
    ///
    /// # Errors
    /// Embeddings of another checkpoint, latents of another shape, an input image that cannot be read, or one without
    /// [`Pipeline::load_vae_encoder`].
    pub fn sampler(
        &self,
        prepared: &PreparedRequest,
        prompt_embeds: PromptEmbeds,
        index: usize,
    ) -> Result<Sampler<'_>, Error> {
        let mut noise = self.noise(prepared, index);
        let init_latents = self.init_latents(prepared, index, &mut noise)?;
        self.assemble(prepared, prompt_embeds, init_latents, noise)
    }

    /// [`Pipeline::sampler`] from given normal noise `latents`. What a scheduler adds later is drawn from `noise`.
    ///
    /// # Errors
    /// Embeddings of another checkpoint.
    pub fn sampler_from(
        &self,
        prepared: &PreparedRequest,
        prompt_embeds: PromptEmbeds,
        latents: Tensor<4>,
        noise: Noise,
    ) -> Result<Sampler<'_>, Error> {
        self.assemble(prepared, prompt_embeds, InitLatents::from_noise(latents), noise)
    }

    /// Checks the shape of prompt embeddings: the channels of the checkpoint, and the rows of a request if one is given.
    ///
    /// # Errors
    /// Embeddings of another checkpoint, or of another number of prompts.
    pub fn check_prompt_embeds(
        &self,
        [rows, _, channels]: [u32; 3],
        prepared: Option<&PreparedRequest>,
    ) -> Result<(), Error> {
        let caption_channels = self.transformer.config().caption_channels as u32;
        let expected = prepared.map_or(rows, |prepared| prepared.prompts.len() as u32);
        if [rows, channels] == [expected, caption_channels] {
            return Ok(());
        }
        Err(Error::Request(Fault::new(
            FaultCode::BadRequest,
            format!("the text embeddings are {rows} rows of {channels} channels, not {expected} of {caption_channels}"),
            "encode the negative prompt, then the prompt, with the text encoder of this checkpoint; at guidance 1 or \
             below the prompt alone",
        )))
    }

    fn assemble(
        &self,
        prepared: &PreparedRequest,
        prompt_embeds: PromptEmbeds,
        init_latents: InitLatents,
        mut noise: Noise,
    ) -> Result<Sampler<'_>, Error> {
        let PromptEmbeds { embeds, attention_mask } = prompt_embeds;
        self.check_prompt_embeds(embeds.dims().map(|side| side as u32), Some(prepared))?;

        // 3. Timesteps.
        let scheduler = prepared.scheduler_state()?;

        // 4. Latents.
        let (latents, inpaint) = init_latents.begin(&scheduler, &mut noise);

        // 5. Conditioning: prompts, latent size and, for PixArt-α 1024, the image's size.
        let [_, _, h, w] = latents.dims();
        let factor = self.vae.config().factor();
        let (height, width) = ((h * factor) as f32, (w * factor) as f32);
        let config = self.transformer.config();
        let has_micro = config.sample_size == MICRO_CONDITION_SAMPLE_SIZE && config.micro_conditions;
        let micro = has_micro.then_some(MicroConditions { height, width, aspect_ratio: height / width });
        let conditions = self.transformer.prepare_conditioning(embeds, attention_mask, [h, w], micro, &mut Taps::off());

        let guidance = prepared.guidance.clone();
        let sampler = Sampler::new(&self.transformer, conditions, guidance, scheduler, noise, latents, inpaint);
        Ok(sampler.planned(prepared.plan.cfg_batching))
    }

    /// Returns the noise of image `index`. One generator makes it for all images, or each image has a seed of its own. Variations of
    /// one seed all start from its own image.
    #[must_use]
    pub fn noise(&self, prepared: &PreparedRequest, index: usize) -> Noise {
        let request = &prepared.request;
        let variation = request.variation_of(index);
        let place = match request.seeds.is_some() || variation.is_some() {
            true => [0, 1],
            false => [index, prepared.images()],
        };
        let noise = Noise::new(u64::from(request.seed_of(index)), place, prepared.latent_shape, &self.device);
        noise.with_variation(variation)
    }

    /// Stage 7: decodes clean latents to an image in -1..1, `[P, 3, 8·H, 8·W]`.
    #[must_use]
    pub fn decode(&self, latents: Tensor<4>, prepared: &PreparedRequest) -> Tensor<4> {
        self.vae.decode(latents / self.vae.config().scaling_factor, prepared.plan.decode_mode)
    }

    /// Stages 3 to 7 at once: generates image `index` from its prompt embeddings, `[P, 3, 8·H, 8·W]` in -1..1.
    ///
    /// # Errors
    /// As for [`Pipeline::sampler`].
    pub fn generate(
        &self,
        prepared: &PreparedRequest,
        prompt_embeds: PromptEmbeds,
        index: usize,
    ) -> Result<Tensor<4>, Error> {
        let mut sampler = self.sampler(prepared, prompt_embeds, index)?;
        // 6. Denoising loop.
        while sampler.step(&mut Taps::off()) {}
        Ok(self.decode(sampler.into_latents(), prepared))
    }

    /// Returns the metadata of an image generated on the device of this name.
    #[must_use]
    pub fn metadata(&self, prepared: &PreparedRequest, device: &str) -> GenerationMetadata {
        let (model, model_hash) = self.model();
        GenerationMetadata {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: device.to_owned(),
            model: model.to_owned(),
            model_hash: model_hash.map(str::to_owned),
            weight_format: self.weight_format,
            scheduler: prepared.scheduler.name().to_owned(),
            loras: Vec::new(),
            transformer: None,
            vae: None,
            text_encoder: None,
            files: Vec::new(),
        }
    }

    /// Returns name and hash of a packed checkpoint; an empty name where the checkpoint names no source.
    #[must_use]
    pub fn model(&self) -> (&str, Option<&str>) {
        let Some([source, hash]) = &self.origin else { return ("", None) };
        // A hub's address ends in the revision.
        let repository = source.split_once("/resolve/").map_or(source.as_str(), |(repository, _)| repository);
        (repository.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default(), Some(hash.as_str()))
    }

    /// Returns the format that the transformer's matrices are held in.
    #[must_use]
    pub fn weight_format(&self) -> WeightFormat {
        self.weight_format
    }
}

/// Returns the preset of a checkpoint: that which its index names, or else by the classes of its pipeline and its scheduler. (That a
/// checkpoint was distilled to one step is in no published file.)
///
/// # Errors
/// A file that cannot be read.
pub fn preset_of(folder: &Folder) -> Result<Preset, Error> {
    let index = if folder.contains(MODEL_INDEX) { Some(Json::read(folder, MODEL_INDEX)?) } else { None };
    let named = index.as_ref().and_then(|index| index.optional("preset")?.as_str());
    if let Some(preset) = named.and_then(|name| Preset::named(name).ok()) {
        return Ok(preset);
    }
    let pipeline = index.map_or(Ok(String::new()), |index| index.text("_class_name").map(str::to_owned))?;
    let scheduler = scheduler_class(folder)?;
    let name = match (pipeline.as_str(), scheduler.as_str()) {
        (pipeline, _) if pipeline.starts_with("PixArtSigma") => "sigma",
        (_, "LCMScheduler") => "alpha-lcm",
        _ => "alpha",
    };
    Preset::named(name).map_err(Error::Request)
}
