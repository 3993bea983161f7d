//! Results of a generation: progress, files and timings.

use pixart_model::image::Rgb8;
use serde::Serialize;

/// Progress of a request, after a denoising step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GenerationProgress {
    /// Index of the image, from 0.
    pub image_index: u32,
    /// Denoising steps done, and their number.
    pub step: u32,
    pub total_steps: u32,
    /// 1, or 2 in the second pass of a request with `hires_scale`.
    pub pass: u32,
    /// A small preview of the image, where previews are wanted.
    #[serde(skip)]
    pub preview: Option<Rgb8>,
}

/// How a generation is stopped before its last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopGeneration {
    /// Nobody waits for the images: [`Error::Cancelled`](crate::Error::Cancelled).
    Cancel,
    /// The image is finished as the last step predicts it, and the next one is begun.
    Skip,
    /// The image is finished as the last step predicts it, and is the last one.
    Interrupt,
}

/// A generated image.
#[derive(Clone, Debug)]
pub struct GeneratedImage {
    /// A PNG, or a safetensors file with the one tensor `images` or `latents`.
    pub file: Vec<u8>,
    /// The bytes of a [`Recording`](pixart_verify::recording::Recording), where the request has `record` set.
    pub recording: Option<Vec<u8>>,
    pub report: GenerationReport,
}

/// Device, size and timings of a generated image.
#[derive(Clone, Debug, Serialize)]
pub struct GenerationReport {
    pub device: String,
    /// The memory plan, in words.
    pub memory_plan: String,
    pub width: u32,
    pub height: u32,
    pub num_inference_steps: u32,
    pub seed: u32,
    pub millis: GenerationMillis,
    /// Remarks about the image, such as the part of a prompt that the text encoder did not read.
    pub notes: Vec<String>,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// Wall time of each stage in milliseconds. `load` is that of the checkpoint, once; `total` excludes it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GenerationMillis {
    pub load: f64,
    pub text: f64,
    pub denoise: f64,
    pub decode: f64,
    pub total: f64,
}
