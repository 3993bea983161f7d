//! `meta.json` of a golden variant: the recorded call.

use pixart_model::Error;
use pixart_protocol::GenerateRequest;
use pixart_weights::Folder;
use serde::Deserialize;

const FILE: &str = "meta.json";

/// The recorded call of diffusers' pipeline.
pub(super) struct GoldenMeta {
    pub(super) prompts: Vec<String>,
    /// The cleaned prompts: the tokenizer's input.
    pub(super) cleaned: Vec<String>,
    /// The call, with the cleaned negative prompt.
    pub(super) request: GenerateRequest,
    /// Distance of the recorded last latents from those of diffusers' own f64 run, relative to their peak.
    pub(super) sampling_rounding: f64,
    /// Images of each prompt in the one recorded batch: `num_images_per_prompt`.
    pub(super) images: usize,
}

#[derive(Deserialize)]
struct MetaFile {
    prompts: Vec<String>,
    cleaned: Vec<String>,
    #[serde(default)]
    neg_cleaned: Vec<String>,
    steps: u32,
    guidance_scale: f64,
    seed: u32,
    max_sequence_length: u32,
    #[serde(default)]
    sampling_rounding: f64,
    call: MetaCall,
}

#[derive(Deserialize)]
struct MetaCall {
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
    pag_applied_layers: Option<Vec<u32>>,
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
        let call = file.call;
        let request = GenerateRequest {
            negative_prompt: file.neg_cleaned.into_iter().next().unwrap_or_default(),
            seed: file.seed,
            num_inference_steps: file.steps,
            timesteps: call.timesteps,
            guidance_scale: file.guidance_scale,
            pag_scale: call.pag_scale,
            pag_adaptive_scale: call.pag_adaptive_scale,
            pag_applied_layers: call.pag_applied_layers,
            use_resolution_binning: call.use_resolution_binning,
            max_sequence_length: file.max_sequence_length,
            ..GenerateRequest::of("")
        };
        let MetaFile { prompts, cleaned, sampling_rounding, .. } = file;
        Ok(Self { prompts, cleaned, request, sampling_rounding, images: call.num_images_per_prompt })
    }

    /// Returns the cleaned prompts of the recorded batch, one for each image.
    pub(super) fn batch_prompts(&self) -> Vec<String> {
        self.cleaned.iter().flat_map(|prompt| std::iter::repeat_n(prompt.clone(), self.images)).collect()
    }
}
