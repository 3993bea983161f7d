//! `meta.json` of a golden variant: the call that was recorded.

use pixart_weights::Folder;
use serde::Deserialize;

use crate::Error;
use crate::pipeline::Scales;
use crate::schedulers::{Asked, Steps};

const FILE: &str = "meta.json";

/// The call that was recorded.
pub(super) struct Meta {
    pub(super) prompts: Vec<String>,
    /// The prompts as the tokenizer got them.
    pub(super) cleaned: Vec<String>,
    pub(super) negative_cleaned: String,
    steps: usize,
    timesteps: Option<Vec<u32>>,
    scales: Scales,
    pub(super) guidance: f64,
    pub(super) seed: u64,
    pub(super) tokens: usize,
    /// How far the recorded last latent is from diffusers' own f64 run, relative to its peak.
    pub(super) sampling_rounding: f64,
    /// Pictures of each prompt.
    pub(super) images: usize,
    /// Height and width that were asked for, where those that are drawn are a bin's.
    pub(super) binned: Option<[u32; 2]>,
}

#[derive(Deserialize)]
struct File {
    prompts: Vec<String>,
    cleaned: Vec<String>,
    #[serde(default)]
    neg_cleaned: Vec<String>,
    steps: usize,
    guidance_scale: f64,
    seed: u64,
    max_sequence_length: usize,
    #[serde(default)]
    sampling_rounding: f64,
    call: Call,
}

#[derive(Deserialize)]
struct Call {
    height: u32,
    width: u32,
    #[serde(default = "yes")]
    use_resolution_binning: bool,
    timesteps: Option<Vec<u32>>,
    #[serde(default = "one")]
    num_images_per_prompt: usize,
    #[serde(default)]
    pag_scale: f64,
    #[serde(default)]
    pag_adaptive_scale: f64,
    #[serde(default)]
    pag_applied_layers: Vec<usize>,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

impl Meta {
    pub(super) fn read(folder: &Folder) -> Result<Self, Error> {
        let bad = |why: String| Error::Config { file: FILE.into(), key: "(whole file)".into(), why };
        let file: File = serde_json::from_slice(folder.bytes(FILE)?).map_err(|error| bad(error.to_string()))?;
        let Call { height, width, use_resolution_binning, num_images_per_prompt, timesteps, .. } = file.call;
        let (pag, pag_adaptive) = (file.call.pag_scale, file.call.pag_adaptive_scale);
        let pag_layers = file.call.pag_applied_layers;
        Ok(Self {
            prompts: file.prompts,
            cleaned: file.cleaned,
            negative_cleaned: file.neg_cleaned.into_iter().next().unwrap_or_default(),
            steps: file.steps,
            timesteps,
            scales: Scales { pag, pag_adaptive, pag_layers, ..Scales::of(file.guidance_scale) },
            guidance: file.guidance_scale,
            seed: file.seed,
            tokens: file.max_sequence_length,
            sampling_rounding: file.sampling_rounding,
            images: num_images_per_prompt,
            binned: use_resolution_binning.then_some([height, width]),
        })
    }

    pub(super) fn scales(&self) -> Scales {
        self.scales.clone()
    }

    pub(super) fn asked(&self) -> Asked<'_> {
        let steps = self.timesteps.as_ref().map_or(Steps::Count(self.steps), |list| Steps::Timesteps(list));
        Asked { steps, eta: 0.0 }
    }
}
