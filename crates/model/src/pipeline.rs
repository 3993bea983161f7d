//! From a request to a picture, in stages a caller can drive one by one: encode the captions, step through the noise,
//! decode. Between two calls nothing is pending on the host, so a caller can look for a cancellation or draw a
//! progress bar. It never reads a tensor back; [`crate::image`] does.

use std::cell::RefCell;
use std::rc::Rc;

use burn::tensor::{Device, Tensor, TensorData};
use pixart_protocol::{Fault, FaultCode, GenerateRequest, Limits, Preset, ResolvedRequest};
use pixart_weights::{Folder, WeightFormat};

use crate::planning::memory_plan::{DeviceLimits, MemoryPlan, text_encoder_bytes};
use crate::{CaptionTokenizer, Error, T5, Taps, TokenizedCaption, VaeEncoder, clean_caption, normalize_caption};

pub(crate) mod bins;
mod guidance;
mod init_latents;
mod painter;
mod sampler;
#[cfg(test)]
mod tests;

pub use guidance::GuidanceConfig;
pub use init_latents::InitLatents;
pub use painter::{Painter, preset_of};
pub use sampler::{Sampler, SamplerProgress, StepOutput};

/// Text embeddings of a batch of prompts: diffusers' `prompt_embeds` and `prompt_attention_mask`.
#[derive(Clone)]
pub struct PromptEmbeds {
    /// `[B, L, C]`.
    pub embeds: Tensor<3>,
    /// `[B, L]`: 1 for a token, 0 for padding.
    pub attention_mask: Tensor<2>,
}

impl PromptEmbeds {
    /// Copies embeddings that were computed elsewhere to `device`.
    ///
    /// # Errors
    /// Values that do not fill the shape, or are not finite.
    pub fn from_values(
        embeds: Vec<f32>,
        attention_mask: Vec<f32>,
        shape: [usize; 3],
        device: &Device,
    ) -> Result<Self, Error> {
        let [b, l, c] = shape;
        let remedy = "encode the prompt again with the text encoder of this checkpoint";
        let bad = |what: String| Err(Error::Request(Fault::new(FaultCode::BadRequest, what, remedy)));
        if embeds.len() != b * l * c || attention_mask.len() != b * l || embeds.is_empty() {
            let (embeds, mask) = (embeds.len(), attention_mask.len());
            return bad(format!("text embeddings of shape {shape:?} came with {embeds} values and a mask of {mask}"));
        }
        if let Some(index) = embeds.iter().chain(&attention_mask).position(|value| !value.is_finite()) {
            return bad(format!("the text embeddings are not finite at element {index}"));
        }
        Ok(Self {
            embeds: Tensor::from_data(TensorData::new(embeds, [b, l, c]), device),
            attention_mask: Tensor::from_data(TensorData::new(attention_mask, [b, l]), device),
        })
    }
}

/// The text stage: a tokenizer and its T5.
pub struct TextEncoder {
    tokenizer: CaptionTokenizer,
    t5: T5,
    device: Device,
}

impl TextEncoder {
    /// Reads `tokenizer/` and `text_encoder/`, in the precision that loses nothing.
    ///
    /// # Errors
    /// See [`T5::load`] and [`CaptionTokenizer::load`].
    pub async fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        Self::load_as(folder, None, device).await
    }

    /// [`TextEncoder::load`] with matrices in `precision`, where there is one.
    ///
    /// # Errors
    /// See [`T5::load`] and [`CaptionTokenizer::load`].
    pub async fn load_as(folder: &Folder, precision: Option<WeightFormat>, device: &Device) -> Result<Self, Error> {
        let tokenizer = CaptionTokenizer::load(folder).await?;
        let t5 = T5::load(folder, precision, device).await?;
        Ok(Self { tokenizer, t5, device: device.clone() })
    }

    /// Captions, one row each, lower-cased and stripped, padded or cut to `tokens` tokens.
    ///
    /// # Errors
    /// A caption the tokenizer cannot read.
    pub fn tokens(&self, captions: &[impl AsRef<str>], tokens: usize) -> Result<Vec<TokenizedCaption>, Error> {
        captions.iter().map(|caption| self.tokenizer.encode(&normalize_caption(caption.as_ref()), tokens)).collect()
    }

    /// Captions → text embeddings.
    ///
    /// # Errors
    /// A caption the tokenizer cannot read.
    pub fn encode(&self, captions: &[impl AsRef<str>], tokens: usize, taps: &mut Taps) -> Result<PromptEmbeds, Error> {
        let rows = self.tokens(captions, tokens)?;
        let mask: Vec<f32> = rows.iter().flat_map(|row| row.attention_mask.iter().copied()).collect();
        let attention_mask = Tensor::from_data(TensorData::new(mask, [rows.len(), tokens]), &self.device);
        Ok(PromptEmbeds { embeds: self.t5.forward(&rows, taps), attention_mask })
    }
}

/// All stages of one checkpoint.
pub struct Pipeline {
    /// Loaded when it is first needed, or never; with its bytes.
    text: RefCell<Option<(Rc<TextEncoder>, u64)>>,
    pub painter: Painter,
}

impl Pipeline {
    /// Reads a diffusers folder for a device of these limits.
    ///
    /// # Errors
    /// The first file, key or tensor that cannot be used, by name, and [`FaultCode::OutOfMemory`] where the transformer fits
    /// in no precision.
    pub async fn load_within(folder: &Folder, device: &Device, limits: DeviceLimits) -> Result<Self, Error> {
        let pipeline = Self::without_text(folder, device, limits).await?;
        pipeline.load_text(folder).await?;
        Ok(pipeline)
    }

    /// [`Pipeline::load_within`] without the text encoder, which [`Pipeline::load_text`] loads.
    ///
    /// # Errors
    /// As [`Pipeline::load_within`]'s.
    pub async fn without_text(folder: &Folder, device: &Device, limits: DeviceLimits) -> Result<Self, Error> {
        Ok(Self { text: RefCell::default(), painter: Painter::load_within(folder, device, limits).await? })
    }

    /// Reads the text encoder, unless it is there.
    ///
    /// # Errors
    /// See [`TextEncoder::load`].
    pub async fn load_text(&self, folder: &Folder) -> Result<(), Error> {
        if !self.can_read() {
            let loaded = TextEncoder::load(folder, &self.painter.device).await?;
            let bytes = text_encoder_bytes(folder)?;
            self.text.replace(Some((Rc::new(loaded), bytes)));
        }
        Ok(())
    }

    /// Whether the text encoder is there.
    #[must_use]
    pub fn can_read(&self) -> bool {
        self.text.borrow().is_some()
    }

    #[must_use]
    pub fn limits(&self) -> Limits {
        self.painter.limits()
    }

    /// See [`Painter::preset`].
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.painter.preset()
    }

    /// See [`Painter::resolve`].
    ///
    /// # Errors
    /// The first field that cannot be used, by name.
    pub fn resolve(&self, request: &GenerateRequest) -> Result<ResolvedRequest, Error> {
        self.painter.resolve(request)
    }

    /// The captions of `request`, one row each → text embeddings of its `max_sequence_length`. A text encoder that does not fit
    /// beside the picture is let go, and has to be loaded again for the next one.
    ///
    /// # Errors
    /// A caption the tokenizer cannot read, or no text encoder.
    pub fn encode(&self, request: &GenerateRequest, resolved: &ResolvedRequest) -> Result<PromptEmbeds, Error> {
        let Some((text, bytes)) = self.text.borrow().clone() else {
            let remedy = "load it, or let a companion read the prompt";
            return Err(Error::Request(Fault::new(FaultCode::BadRequest, "no text encoder is loaded", remedy)));
        };
        let captions = captions_of(request, resolved);
        let prompt_embeds = text.encode(&captions, request.max_sequence_length as usize, &mut Taps::off())?;
        let plan = self.plan(request, resolved)?;
        let together = plan.bytes().saturating_add(bytes);
        if together > self.painter.device_limits().memory() {
            self.text.take();
            drop(text);
            self.painter.device.memory_cleanup();
        }
        Ok(prompt_embeds)
    }

    /// See [`Painter::plan`].
    ///
    /// # Errors
    /// [`FaultCode::OutOfMemory`] where the picture fits in no way.
    pub fn plan(&self, request: &GenerateRequest, resolved: &ResolvedRequest) -> Result<MemoryPlan, Error> {
        self.painter.plan(request, resolved)
    }

    /// Prepares the first picture that `request` asks for; `caption` as [`captions_of`] orders it, `encoding` where it brings
    /// an image.
    ///
    /// # Errors
    /// A caption of another checkpoint.
    pub fn sampler(
        &self,
        request: &GenerateRequest,
        resolved: &ResolvedRequest,
        encoding: Option<&VaeEncoder>,
        prompt_embeds: PromptEmbeds,
        plan: &MemoryPlan,
    ) -> Result<Sampler<'_>, Error> {
        let (expected, channels) = (caption_rows(request), self.painter.dit.config().caption_channels);
        let [rows, _, got] = prompt_embeds.embeds.dims();
        if (rows, got) != (expected, channels) {
            return Err(Error::Request(Fault::new(
                FaultCode::BadRequest,
                format!("the text embeddings are {rows} captions of {got} channels, not {expected} of {channels}"),
                "encode the negative prompt and the prompt with the text encoder of this checkpoint",
            )));
        }
        let mut noise = self.painter.noises(request, resolved).swap_remove(0);
        let init = self.painter.init_latents(request, resolved, encoding, 0, &mut noise)?;
        let (guidance, scheduler) = (self.painter.guidance(request)?, self.painter.scheduler_state(request)?);
        let sampler = self.painter.sampler(init, noise, prompt_embeds, guidance, scheduler);
        Ok(sampler.planned(plan.cfg_batching))
    }

    /// Finished latent → picture in -1..1 `[1, 3, height, width]`.
    #[must_use]
    pub fn decode(&self, latent: Tensor<4>, plan: &MemoryPlan) -> Tensor<4> {
        self.painter.decode_as(latent, plan.decode_mode)
    }
}

/// The captions a request needs encoded, cleaned where it asks for that, in the order of the batch: the negative prompt
/// only where guidance uses it.
#[must_use]
pub fn captions_of(request: &GenerateRequest, resolved: &ResolvedRequest) -> Vec<String> {
    let negative = Some(&resolved.negative_prompt).filter(|_| request.is_guided());
    let prepare = if request.clean_caption { clean_caption } else { normalize_caption };
    negative.into_iter().chain([&resolved.prompt]).map(|caption| prepare(caption)).collect()
}

/// The number of them.
#[must_use]
pub fn caption_rows(request: &GenerateRequest) -> usize {
    if request.is_guided() { 2 } else { 1 }
}
