//! What is asked: by the page of its worker, and by anyone of the companion. A request is validated once, in Rust, by
//! the same function on every road.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{ConvertTo, Fault, FaultCode, KeepTask, StoreKind};

mod resolve;
#[cfg(test)]
mod tests;

pub use resolve::Resolved;

/// The longest prompt accepted, in characters. T5 reads at most 300 tokens of it.
pub(crate) const PROMPT_CHARS_MAX: usize = 2_000;
/// The most captions encoded at once: the prompts and negative prompts of eight pictures.
pub(crate) const CAPTIONS_MAX: usize = 16;
/// The most denoising steps accepted: the schedulers are trained on 1000 timesteps.
pub(crate) const STEPS_MAX: u32 = 1_000;
/// The largest guidance scale accepted.
pub(crate) const GUIDANCE_MAX: f64 = 100.0;

/// The most pictures of one request.
pub(crate) const IMAGES_MAX: u32 = 16;
/// The most tokens of a caption: PixArt-Σ's.
pub(crate) const TOKENS_MAX: u32 = 300;
/// The noisiest timestep of the schedule that PixArt was trained with.
pub(crate) const TIMESTEP_MAX: u32 = 999;

/// A message from the page to its worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Request {
    /// Open `device` and load the checkpoint found under the URL `checkpoint` (ending in `/`): a packed one, or a diffusers
    /// folder, which is converted. With `text` its text encoder is loaded at once, and not when a picture first needs it.
    /// `memory_bytes` is what may be planned with, where less is to be used than the device seems to have.
    Open {
        checkpoint: String,
        device: DeviceKind,
        text: bool,
        store: StoreKind,
        convert: ConvertTo,
        memory_bytes: Option<f64>,
    },
    /// What opening a checkpoint would take: as for [`Request::Open`]. Where more than `least_bytes` are still to be fetched, the
    /// connection and the device are timed for a second each.
    Estimate {
        id: u32,
        checkpoint: String,
        device: DeviceKind,
        text: bool,
        store: StoreKind,
        convert: ConvertTo,
        least_bytes: f64,
    },
    /// Draw a picture.
    Generate(Box<Generate>),
    /// Draw the picture of `request` from where it was left: `said` is from [`crate::Step`], of every step that was made.
    Resume {
        request: Box<Generate>,
        #[ts(type = "Uint8Array[]")]
        said: Vec<serde_bytes::ByteBuf>,
    },
    /// Stop the picture `id` before its next step.
    Cancel { id: u32 },
    /// Compare every recorded tap of the golden variant found under the URL `variant` (ending in `/`) on `device`.
    Check { id: u32, variant: String, device: DeviceKind },
    /// Do something about the checkpoints that are kept in the browser; those that are then kept are told.
    Keep { id: u32, task: KeepTask, store: StoreKind },
}

/// What a tab computes with. A worker opens one device, the first that it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The GPU, unless there is none or WebGPU would have the processor play it, which is slower than asking the processor.
    #[default]
    Auto,
    /// WebGPU, on whatever adapter the browser offers.
    Webgpu,
    /// The processor: one thread of vector instructions in wasm.
    Wasm,
}

/// What to draw: the arguments of diffusers' `PixArtAlphaPipeline.__call__`, with its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Generate {
    /// Chosen by the asker; every event about this picture carries it.
    pub id: u32,
    /// May end in `--ar H:W` or `--hw H:W`, which choose the size.
    pub prompt: String,
    #[serde(default)]
    #[ts(optional, as = "Option<String>")]
    pub negative_prompt: String,
    /// Seed of the torch-compatible noise; one generator draws for all pictures.
    #[serde(default)]
    #[ts(optional, as = "Option<u32>")]
    pub seed: u32,
    /// A seed for each picture, in place of `seed`.
    #[serde(default)]
    #[ts(optional)]
    pub seeds: Option<Vec<u32>>,
    /// diffusers' `num_inference_steps`.
    #[serde(default = "steps")]
    #[ts(optional, as = "Option<u32>")]
    pub steps: u32,
    /// The timesteps to denoise at, downwards, in place of `steps`.
    #[serde(default)]
    #[ts(optional)]
    pub timesteps: Option<Vec<u32>>,
    /// The noise levels to denoise at, downwards, in place of `steps`.
    #[serde(default)]
    #[ts(optional)]
    pub sigmas: Option<Vec<f64>>,
    /// Classifier-free `guidance_scale`; at 1 or below the negative prompt is not used.
    #[serde(default = "guidance")]
    #[ts(optional, as = "Option<f64>")]
    pub guidance: f64,
    /// Perturbed-attention guidance's scale; off at 0.
    #[serde(default)]
    #[ts(optional, as = "Option<f64>")]
    pub pag_scale: f64,
    /// What `pag_scale` falls by with each timestep below 1000.
    #[serde(default)]
    #[ts(optional, as = "Option<f64>")]
    pub pag_adaptive_scale: f64,
    /// The blocks whose attention is perturbed; the middle one where it is left out.
    #[serde(default)]
    #[ts(optional)]
    pub pag_applied_layers: Option<Vec<u32>>,
    #[serde(default = "one")]
    #[ts(optional, as = "Option<u32>")]
    pub num_images_per_prompt: u32,
    /// Picture width in pixels; the checkpoint's own where it is left out.
    #[serde(default)]
    #[ts(optional)]
    pub width: Option<u32>,
    /// Picture height in pixels; the checkpoint's own where it is left out.
    #[serde(default)]
    #[ts(optional)]
    pub height: Option<u32>,
    /// DDIM's η, from 0 to 1; other schedulers have none.
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
    /// Draw at the nearest size the network was trained on, then resize and crop.
    #[serde(default = "yes")]
    #[ts(optional, as = "Option<bool>")]
    pub use_resolution_binning: bool,
    /// Tokens a caption is padded or cut to: 120 for PixArt-α, 300 for PixArt-Σ.
    #[serde(default = "tokens")]
    #[ts(optional, as = "Option<u32>")]
    pub max_sequence_length: u32,
    /// A scheduler with its settings, as `euler:use_karras_sigmas=true`; the checkpoint's own where it is left out.
    #[serde(default)]
    #[ts(optional)]
    pub scheduler: Option<String>,
    /// The name of one of [`crate::STYLES`].
    #[serde(default)]
    #[ts(optional)]
    pub style: Option<String>,
    /// A PNG to draw over.
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "Uint8Array")]
    pub image: Option<Vec<u8>>,
    /// A PNG that is white where `image` is to be drawn anew, and black where it is to stay.
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "Uint8Array")]
    pub mask_image: Option<Vec<u8>>,
    /// How far `image` is given up, from above 0 to 1, all of it: 0.8 where it is left out, and 1 with a mask.
    #[serde(default)]
    #[ts(optional)]
    pub strength: Option<f64>,
    /// A safetensors file with `latents` `[pictures, 4, H/8, W/8]`: normal noise to draw from, in place of the seed's.
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "Uint8Array")]
    pub latents: Option<Vec<u8>>,
    #[serde(default)]
    #[ts(optional, as = "Option<TextSource>")]
    pub text: TextSource,
    /// Keep the latent after each step, to compare it with another device's.
    #[serde(default)]
    #[ts(optional, as = "Option<bool>")]
    pub record: bool,
}

fn steps() -> u32 {
    20
}

fn guidance() -> f64 {
    4.5
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

fn tokens() -> u32 {
    120
}

impl Generate {
    /// The request that says nothing but its prompt.
    #[must_use]
    pub fn of(prompt: impl Into<String>) -> Self {
        Self {
            id: 0,
            prompt: prompt.into(),
            negative_prompt: String::new(),
            seed: 0,
            seeds: None,
            steps: steps(),
            timesteps: None,
            sigmas: None,
            guidance: guidance(),
            pag_scale: 0.0,
            pag_adaptive_scale: 0.0,
            pag_applied_layers: None,
            num_images_per_prompt: one(),
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
            latents: None,
            text: TextSource::Tab,
            record: false,
        }
    }

    /// The request without the files that it brings along, and without who reads its text.
    #[must_use]
    pub fn without_files(&self) -> Self {
        Self { image: None, mask_image: None, latents: None, text: TextSource::Tab, ..self.clone() }
    }
}

/// What comes back.
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
    /// The clean latent `[1, 4, H/8, W/8]`, f32, not decoded.
    Latent,
}

/// Where the text embeddings come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TextSource {
    /// The T5 encoder that runs in the tab.
    #[default]
    Tab,
    /// `POST /v1/encode` of a companion at this origin, with the token it asks for; the tab itself where it does not answer.
    Companion {
        url: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        token: Option<String>,
    },
    /// A safetensors file with diffusers' `prompt_embeds`, `prompt_attention_mask` and, where guidance is above 1,
    /// `negative_prompt_embeds` and `negative_prompt_attention_mask`; or one that `pixart encode` wrote, with the negative
    /// prompt's row before the prompt's. The prompt then only names the picture.
    File {
        #[serde(with = "serde_bytes")]
        #[ts(type = "Uint8Array")]
        bytes: Vec<u8>,
    },
}

/// What the loaded checkpoint can draw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Limits {
    /// Width and height the checkpoint was trained at, in pixels.
    pub native_size: u32,
    pub size_min: u32,
    pub size_max: u32,
    /// Width and height must be multiples of this: the VAE's factor times the patch size.
    pub size_multiple: u32,
    /// The checkpoint's size has resolution bins: a picture drawn in its bin may have any sides in the range.
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
    /// `captions` as PixArt-α reads them.
    #[must_use]
    pub fn of(captions: Vec<String>) -> Self {
        Self { captions, max_sequence_length: tokens() }
    }

    /// Checks the number of captions and the length of each. An empty caption is a good one: it stands for a negative
    /// prompt that was left out.
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

/// Reply of `POST /v1/encode`: one row per caption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct EncodeReply {
    /// `[captions, tokens, channels]` of `embeds`.
    pub shape: [u32; 3],
    /// Row-major f32 text embeddings.
    pub embeds: Vec<f32>,
    /// Row-major `[captions, tokens]`: 1 for a token to attend to, 0 for padding.
    pub mask: Vec<f32>,
}
