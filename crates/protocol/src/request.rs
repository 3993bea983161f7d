//! Requests: from the page to its worker, and from HTTP clients to the companion. [`GenerateRequest::resolve`] is the only
//! validation, on every path.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{
    ComponentPlaces, Fault, FaultCode, StorageBackend, StorageTask, TextEncoderLayer, TokenCount, WeightDtype,
};

mod resolve;
#[cfg(test)]
mod tests;

pub use resolve::ResolvedRequest;

/// The longest prompt accepted, in characters. T5 reads at most 300 tokens of it; the rest is truncated with a note.
pub(crate) const PROMPT_CHARS_MAX: usize = 100_000;
/// The most captions encoded at once: the prompts and negative prompts of eight images.
pub(crate) const CAPTIONS_MAX: usize = 16;
/// The most denoising steps accepted: the schedulers are trained on 1000 timesteps.
pub(crate) const STEPS_MAX: u32 = 1_000;
/// The largest guidance scale accepted.
pub(crate) const GUIDANCE_MAX: f64 = 100.0;

/// The largest factor of a second pass.
pub(crate) const HIRES_SCALE_MAX: f64 = 4.0;
/// The denoising strength of a second pass where none is given: AUTOMATIC1111's.
pub(crate) const HIRES_STRENGTH: f64 = 0.7;

/// The most images of one request.
pub(crate) const IMAGES_MAX: u32 = 16;
/// The most tokens of a caption: PixArt-Σ's.
pub(crate) const TOKENS_MAX: u32 = 300;
/// The noisiest timestep of the schedule that PixArt was trained with.
pub(crate) const TIMESTEP_MAX: u32 = 999;

/// A message from the page to its worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EngineRequest {
    /// Open `device` and load the checkpoint under the URL `checkpoint` (ending in `/`): a packed one, or a diffusers folder,
    /// which is converted to `dtype`. Without `load_text_encoder` the text encoder is loaded when a request first needs it.
    /// `memory_limit_bytes` lowers the memory that the planner assumes the device has. `loras` are merged into the transformer.
    Open {
        checkpoint: String,
        device: DeviceKind,
        load_text_encoder: bool,
        storage: StorageBackend,
        dtype: WeightDtype,
        memory_limit_bytes: Option<f64>,
        #[serde(default)]
        #[ts(optional, as = "Option<ComponentPlaces>")]
        components: ComponentPlaces,
        #[serde(default)]
        #[ts(optional, as = "Option<Vec<LoraSource>>")]
        loras: Vec<LoraSource>,
    },
    /// Estimate the cost of [`EngineRequest::Open`]. Where more than `measure_above_bytes` are still to be downloaded, the
    /// connection and the device are timed for a second each.
    Estimate {
        id: u32,
        checkpoint: String,
        device: DeviceKind,
        load_text_encoder: bool,
        storage: StorageBackend,
        dtype: WeightDtype,
        measure_above_bytes: f64,
        #[serde(default)]
        #[ts(optional, as = "Option<ComponentPlaces>")]
        components: ComponentPlaces,
    },
    /// Merge these LoRAs, and no others, into the transformer of the loaded checkpoint. Answered with
    /// [`crate::EngineEvent::LorasSet`].
    SetLoras { id: u32, loras: Vec<LoraSource> },
    /// Generate an image.
    Generate(Box<GenerateRequest>),
    /// Resume `request` after an interruption. `model_outputs` holds the [`crate::DenoisingStep`] output of every step already run;
    /// `text_encoder_layer` the last event of a text encoder that was interrupted.
    Resume {
        request: Box<GenerateRequest>,
        #[ts(type = "Uint8Array[]")]
        #[serde(alias = "said")]
        model_outputs: Vec<serde_bytes::ByteBuf>,
        #[serde(default)]
        #[ts(optional)]
        text_encoder_layer: Option<TextEncoderLayer>,
    },
    /// Cancel image `id` before its next step.
    Cancel { id: u32 },
    /// Count the tokens of the prompts of `request`, as its text encoder would read them. Answered at once, also while an image is
    /// generated, with [`crate::EngineEvent::TokensCounted`].
    CountTokens { id: u32, request: Box<GenerateRequest> },
    /// Compare every recorded tap of the golden variant under the URL `variant` (ending in `/`) on `device`.
    Check { id: u32, variant: String, device: DeviceKind },
    /// List, verify or delete stored checkpoints. Answered with [`crate::EngineEvent::StoredCheckpoints`].
    Storage { id: u32, task: StorageTask, storage: StorageBackend },
}

/// A LoRA to merge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct LoraSource {
    /// The URL of a `.safetensors` file or of PEFT's folder, which ends in `/`; or the name of local files.
    pub source: String,
    /// The name in the metadata of images.
    pub name: String,
    /// The factor of its update. At 0 it is off.
    pub scale: f64,
}

/// A LoRA in the transformer on the device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct LoraScale {
    pub name: String,
    pub scale: f64,
}

/// The device that a tab computes with. A worker opens one device, the first that is requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The GPU; the CPU where WebGPU is missing or has a fallback adapter only, which is slower than wasm.
    #[default]
    Auto,
    /// WebGPU, on whatever adapter the browser offers.
    Webgpu,
    /// The CPU: one thread of wasm SIMD.
    Wasm,
}

/// One generation: the arguments of diffusers' `PixArtAlphaPipeline.__call__`, with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct GenerateRequest {
    /// Chosen by the client; every event about this image carries it.
    pub id: u32,
    /// May end in `--ar H:W` or `--hw H:W`, which choose the size.
    pub prompt: String,
    #[serde(default)]
    #[ts(optional, as = "Option<String>")]
    pub negative_prompt: String,
    /// Read `(word:1.3)`, `(word)` and `[word]` in the prompts as weights of words, and `\(` as a parenthesis. Without it brackets are
    /// text.
    #[serde(default, skip_serializing_if = "is_off")]
    #[ts(optional, as = "Option<bool>")]
    pub prompt_weighting: bool,
    /// Seed of the torch-compatible noise; one generator serves all images of the request.
    #[serde(default)]
    #[ts(optional, as = "Option<u32>")]
    pub seed: u32,
    /// A seed for each image, in place of `seed`.
    #[serde(default)]
    #[ts(optional)]
    pub seeds: Option<Vec<u32>>,
    /// Seed of the noise that the initial noise is turned towards by `variation_strength`. The images of a request all start from
    /// the noise of their seed itself, each with the next variation seed, as in AUTOMATIC1111's web UI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub variation_seed: Option<u32>,
    /// Part of the way to the noise of `variation_seed`, from 0 (off) to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub variation_strength: Option<f64>,
    /// Number of denoising steps.
    #[serde(default = "num_inference_steps", alias = "steps")]
    #[ts(optional, as = "Option<u32>")]
    pub num_inference_steps: u32,
    /// The timesteps to denoise at, downwards, in place of `num_inference_steps`.
    #[serde(default)]
    #[ts(optional)]
    pub timesteps: Option<Vec<u32>>,
    /// The noise levels to denoise at, downwards, in place of `num_inference_steps`.
    #[serde(default)]
    #[ts(optional)]
    pub sigmas: Option<Vec<f64>>,
    /// Classifier-free guidance scale. At 1 or below guidance is off and the negative prompt is ignored.
    #[serde(default = "guidance_scale", alias = "guidance")]
    #[ts(optional, as = "Option<f64>")]
    pub guidance_scale: f64,
    /// Scale of perturbed-attention guidance; off at 0.
    #[serde(default)]
    #[ts(optional, as = "Option<f64>")]
    pub pag_scale: f64,
    /// Decrease of `pag_scale` with each timestep below 1000.
    #[serde(default)]
    #[ts(optional, as = "Option<f64>")]
    pub pag_adaptive_scale: f64,
    /// Transformer blocks whose self-attention is perturbed; the middle one by default.
    #[serde(default)]
    #[ts(optional)]
    pub pag_applied_layers: Option<Vec<u32>>,
    #[serde(default = "one")]
    #[ts(optional, as = "Option<u32>")]
    pub num_images_per_prompt: u32,
    /// Generate only this one of the `num_images_per_prompt` images, counted from 0. Its pixels are those of the whole request.
    #[serde(default)]
    #[ts(optional)]
    pub image_index: Option<u32>,
    /// Image width in pixels; the checkpoint's native size by default.
    #[serde(default)]
    #[ts(optional)]
    pub width: Option<u32>,
    /// Image height in pixels; the checkpoint's native size by default.
    #[serde(default)]
    #[ts(optional)]
    pub height: Option<u32>,
    /// DDIM's η, from 0 to 1; ignored by schedulers without it.
    #[serde(default)]
    #[ts(optional, as = "Option<f64>")]
    pub eta: f64,
    #[serde(default)]
    #[ts(optional, as = "Option<OutputType>")]
    pub output_type: OutputType,
    /// Clean the prompts of links, markup and the like.
    #[serde(default = "yes")]
    #[ts(optional, as = "Option<bool>")]
    pub clean_caption: bool,
    /// Generate at the nearest resolution bin, then resize and crop.
    #[serde(default = "yes")]
    #[ts(optional, as = "Option<bool>")]
    pub use_resolution_binning: bool,
    /// Tokens a caption is padded or cut to: 120 for PixArt-α, 300 for PixArt-Σ.
    #[serde(default = "tokens")]
    #[ts(optional, as = "Option<u32>")]
    pub max_sequence_length: u32,
    /// A scheduler with its settings, as `euler:use_karras_sigmas=true`; the checkpoint's by default.
    #[serde(default)]
    #[ts(optional)]
    pub scheduler: Option<String>,
    /// The name of one of [`crate::STYLES`].
    #[serde(default)]
    #[ts(optional)]
    pub style: Option<String>,
    /// The input image of img2img and inpainting, a PNG; a companion takes JPEG and WebP, too. EXIF orientation is applied, alpha ignored.
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "Uint8Array")]
    pub image: Option<Vec<u8>>,
    /// The inpainting mask, a PNG: white pixels are repainted, black pixels of `image` are preserved.
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "Uint8Array")]
    pub mask_image: Option<Vec<u8>>,
    /// Denoising strength in (0, 1]; 1 ignores the input image. Default 0.8, with a mask 1.
    #[serde(default)]
    #[ts(optional)]
    pub strength: Option<f64>,
    /// Factor of both sides in a second pass, above 1 up to 4: the image is resized by it and denoised again with `hires_strength`, as
    /// AUTOMATIC1111's hires fix does. Off by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub hires_scale: Option<f64>,
    /// Denoising strength of the second pass in (0, 1]. Default 0.7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub hires_strength: Option<f64>,
    /// Denoising steps that `hires_strength` takes its part of; those of the first pass by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub hires_steps: Option<u32>,
    /// Initial noise, in place of the seed's: a safetensors file with `latents` `[images, 4, H/8, W/8]`.
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "Uint8Array")]
    pub latents: Option<Vec<u8>>,
    #[serde(default, alias = "text")]
    #[ts(optional, as = "Option<TextEncoderSource>")]
    pub text_encoder: TextEncoderSource,
    /// Record the latents after each step, to compare them with another device's.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub record: bool,
}

fn num_inference_steps() -> u32 {
    20
}

fn guidance_scale() -> f64 {
    4.5
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn is_off(value: &bool) -> bool {
    !value
}

fn tokens() -> u32 {
    120
}

impl GenerateRequest {
    /// Field names that are accepted beside today's: `(former, current)`. Older PNG files and clients use them.
    pub const FORMER_NAMES: [(&str, &str); 3] =
        [("steps", "num_inference_steps"), ("guidance", "guidance_scale"), ("text", "text_encoder")];

    /// Returns the request for `prompt` with all defaults.
    #[must_use]
    pub fn of(prompt: impl Into<String>) -> Self {
        Self {
            id: 0,
            prompt: prompt.into(),
            negative_prompt: String::new(),
            prompt_weighting: false,
            seed: 0,
            seeds: None,
            variation_seed: None,
            variation_strength: None,
            num_inference_steps: num_inference_steps(),
            timesteps: None,
            sigmas: None,
            guidance_scale: guidance_scale(),
            pag_scale: 0.0,
            pag_adaptive_scale: 0.0,
            pag_applied_layers: None,
            num_images_per_prompt: one(),
            image_index: None,
            width: None,
            height: None,
            eta: 0.0,
            output_type: OutputType::Png,
            clean_caption: yes(),
            use_resolution_binning: yes(),
            max_sequence_length: tokens(),
            scheduler: None,
            style: None,
            image: None,
            mask_image: None,
            strength: None,
            hires_scale: None,
            hires_strength: None,
            hires_steps: None,
            latents: None,
            text_encoder: TextEncoderSource::Tab,
            record: false,
        }
    }

    /// Returns the request without its files and its text encoder.
    #[must_use]
    pub fn without_files(&self) -> Self {
        Self { image: None, mask_image: None, latents: None, text_encoder: TextEncoderSource::Tab, ..self.clone() }
    }
}

/// Format of the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    /// A PNG file.
    #[default]
    Png,
    /// f32 `[1, H, W, 3]` from 0 to 1.
    Np,
    /// f32 `[1, 3, H, W]` from 0 to 1.
    Pt,
    /// The denoised latents `[1, 4, H/8, W/8]`, f32, not decoded.
    Latent,
}

/// Source of the prompt embeddings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TextEncoderSource {
    /// The T5 encoder that runs in the tab.
    #[default]
    Tab,
    /// `POST /v1/encode` of a companion at this origin, with its bearer token; the tab where the companion does not answer.
    Companion {
        url: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        token: Option<String>,
    },
    /// A safetensors file with diffusers' `prompt_embeds`, `prompt_attention_mask` and, where guidance is above 1,
    /// `negative_prompt_embeds` and `negative_prompt_attention_mask`; or one that `pixart encode` wrote, with the negative
    /// prompt's row before the prompt's. The prompt then is metadata only.
    File {
        #[serde(with = "serde_bytes")]
        #[ts(type = "Uint8Array")]
        bytes: Vec<u8>,
    },
}

/// Image sizes that the loaded checkpoint supports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Limits {
    /// Width and height of the training images, in pixels.
    pub native_size: u32,
    pub size_min: u32,
    pub size_max: u32,
    /// Divisor of width and height: the VAE's scale factor times the patch size.
    pub size_multiple: u32,
    /// True if there are resolution bins for the native size. An image generated in its bin may have any sides in the range.
    pub binned: bool,
}

/// Body of `POST /v1/encode`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct EncodeRequest {
    /// Captions to encode, in the order of the reply's rows.
    pub captions: Vec<String>,
    /// Tokens a caption is padded or cut to: 120 for PixArt-α, 300 for PixArt-Σ.
    #[serde(default = "tokens")]
    #[ts(optional, as = "Option<u32>")]
    pub max_sequence_length: u32,
}

impl EncodeRequest {
    /// Returns the request for `captions` at PixArt-α's sequence length.
    #[must_use]
    pub fn of(captions: Vec<String>) -> Self {
        Self { captions, max_sequence_length: tokens() }
    }

    /// Checks the number of captions and the length of each. An empty caption is valid: it stands for an omitted negative prompt.
    ///
    /// # Errors
    /// A [`FaultCode::BadRequest`] naming the value that cannot be used and the accepted range.
    pub fn validate(&self) -> Result<(), Fault> {
        let bad = |what: String, remedy: String| Err(Fault::new(FaultCode::BadRequest, what, remedy));
        let count = self.captions.len();
        if !(1..=CAPTIONS_MAX).contains(&count) {
            return bad(format!("{count} captions were sent"), format!("send 1 to {CAPTIONS_MAX}"));
        }
        let tokens = self.max_sequence_length;
        if !(1..=TOKENS_MAX).contains(&tokens) {
            let remedy = format!("choose a whole number from 1 to {TOKENS_MAX}");
            return bad(format!("max_sequence_length is {tokens}"), remedy);
        }
        for (index, caption) in self.captions.iter().enumerate() {
            let chars = caption.chars().count();
            if chars > PROMPT_CHARS_MAX {
                let what = format!("caption {index} has {chars} characters");
                return bad(what, format!("shorten it to at most {PROMPT_CHARS_MAX}"));
            }
        }
        Ok(())
    }
}

/// Response of `POST /v1/encode`: one row per caption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct EncodeResponse {
    /// `[captions, tokens, channels]` of `embeds`.
    pub shape: [u32; 3],
    /// Row-major f32 prompt embeddings.
    pub embeds: Vec<f32>,
    /// Row-major `[captions, tokens]`: 1 for a token to attend to, 0 for padding.
    #[serde(alias = "mask")]
    pub attention_mask: Vec<f32>,
    /// Tokens of each caption, and what was truncated; empty where the encoder does not tell.
    #[serde(default)]
    #[ts(optional, as = "Option<Vec<TokenCount>>")]
    pub token_counts: Vec<TokenCount>,
}
