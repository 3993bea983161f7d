//! `meta.json` of a golden variant: the recorded call.

use pixart_weights::Folder;
use serde::Deserialize;

use crate::Error;
use crate::pipeline::GuidanceConfig;
use crate::schedulers::{SchedulerOptions, Steps};

const FILE: &str = "meta.json";

/// The recorded call of diffusers' pipeline.
pub(super) struct GoldenMeta {
    pub(super) prompts: Vec<String>,
    /// The cleaned prompts: the tokenizer's input.
    pub(super) cleaned: Vec<String>,
    pub(super) negative_cleaned: String,
    steps: usize,
    timesteps: Option<Vec<u32>>,
    pub(super) guidance: GuidanceConfig,
    pub(super) seed: u64,
    pub(super) tokens: usize,
    /// Distance of the recorded last latents from those of diffusers' own f64 run, relative to their peak.
    pub(super) sampling_rounding: f64,
    /// Images of each prompt: `num_images_per_prompt`.
    pub(super) images: usize,
    /// Requested height and width, where the image is generated at the size of a resolution bin.
    pub(super) binned: Option<[u32; 2]>,
}

#[derive(Deserialize)]
struct MetaFile {
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
    call: MetaCall,
}

#[derive(Deserialize)]
struct MetaCall {
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

impl GoldenMeta {
    pub(super) fn read(folder: &Folder) -> Result<Self, Error> {
        let bad = |why: String| Error::Config { file: FILE.into(), key: "(whole file)".into(), why };
        let file: MetaFile = serde_json::from_slice(folder.bytes(FILE)?).map_err(|error| bad(error.to_string()))?;
        let MetaCall { height, width, use_resolution_binning, num_images_per_prompt, timesteps, .. } = file.call;
        let MetaCall { pag_scale, pag_adaptive_scale, pag_applied_layers, .. } = file.call;
        Ok(Self {
            prompts: file.prompts,
            cleaned: file.cleaned,
            negative_cleaned: file.neg_cleaned.into_iter().next().unwrap_or_default(),
            steps: file.steps,
            timesteps,
            guidance: GuidanceConfig {
                pag_scale,
                pag_adaptive_scale,
                pag_applied_layers,
                ..GuidanceConfig::classifier_free(file.guidance_scale)
            },
            seed: file.seed,
            tokens: file.max_sequence_length,
            sampling_rounding: file.sampling_rounding,
            images: num_images_per_prompt,
            binned: use_resolution_binning.then_some([height, width]),
        })
    }

    pub(super) fn scheduler_options(&self) -> SchedulerOptions<'_> {
        let steps = self.timesteps.as_ref().map_or(Steps::Count(self.steps), |list| Steps::Timesteps(list));
        SchedulerOptions { steps, eta: 0.0 }
    }
}
