//! Events from the worker to its page. Every event about one image or check carries the `id` of its request.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{
    Fault, Limits, LoadProgress, LoraScale, Preset, PromptCacheSize, StoredCheckpoint, TextEncoderLayer, TokenCount,
};

/// A message from the worker to the page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EngineEvent {
    /// The device is open.
    Adapter(AdapterInfo),
    /// Progress of loading a checkpoint.
    Loading(LoadProgress),
    /// `compiled` of `shaders` are ready on the GPU. The last one stands for all of burn's built-in kernels.
    Compiling { compiled: u32, shaders: u32 },
    /// The estimate that was requested.
    Estimated(Estimate),
    /// The checkpoint is on the device: requests can be sent.
    Ready(Box<Checkpoint>),
    /// The memory plan of image `id`, in one line with the reasons.
    /// `peak_bytes` includes the weights.
    Planned { id: u32, plan: String, peak_bytes: f64 },
    /// A warning about image `id`; generation continues.
    Note { id: u32, text: String },
    /// A stage of image `id` has started.
    StageStarted { id: u32, stage: GenerationStage },
    /// A block of the text encoder was applied.
    TextEncoderLayer(TextEncoderLayer),
    /// A denoising step is done.
    Step(DenoisingStep),
    /// The image is finished.
    Image(ImageResult),
    /// Image `id` was cancelled.
    Cancelled { id: u32 },
    /// The comparisons of check `id`.
    Checked { id: u32, rows: Vec<TapRow> },
    /// The stored checkpoints, after [`crate::StorageTask`] `id`.
    StoredCheckpoints { id: u32, checkpoints: Vec<StoredCheckpoint>, prompt_cache: PromptCacheSize },
    /// The LoRAs that are now merged into the transformer, after [`crate::EngineRequest::SetLoras`] `id`.
    LorasSet { id: u32, loras: Vec<LoraScale> },
    /// Tokens of the prompts of a [`crate::EngineRequest::CountTokens`]; `null` where no text encoder is loaded.
    TokensCounted(TokensCounted),
    /// A failure. `id` names the image or check that it ended; without one it concerns the device or the load.
    Fault { id: Option<u32>, fault: Fault },
}

/// The GPU adapter, or the CPU, that runs the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct AdapterInfo {
    /// Vendor, architecture and description, as the browser or driver reports them.
    pub name: String,
    /// `webgpu`, or `wasm` for the CPU.
    pub backend: String,
    /// WebGPU's `isFallbackAdapter`: the adapter emulates a GPU on the CPU.
    pub is_fallback_adapter: bool,
    /// Reason for the choice of this device, in words.
    pub reason: String,
}

/// Tokens of the prompts of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct TokensCounted {
    pub id: u32,
    pub prompt: Option<TokenCount>,
    pub negative_prompt: Option<TokenCount>,
}

/// Cost of opening a checkpoint, estimated before it is downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Estimate {
    pub id: u32,
    /// Bytes that are still to be downloaded.
    pub download_bytes: f64,
    /// Storage quota that is not in use; `null` where the browser does not report it.
    pub free_storage_bytes: Option<f64>,
    /// Throughput of the connection; `null` where it was not measured.
    pub bytes_per_second: Option<f64>,
    /// `null` where it was not measured.
    pub generation_cost: Option<GenerationCost>,
}

/// Cost of one image of the checkpoint's native size on this device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct GenerationCost {
    /// Width and height in pixels.
    pub size: u32,
    pub num_inference_steps: u32,
    /// Peak memory, with all weights that are loaded with the checkpoint.
    pub memory_bytes: f64,
    /// Extrapolated from about a second of the same operations, without the text encoder.
    pub seconds: f64,
}

/// The loaded checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Checkpoint {
    pub limits: Limits,
    /// The recommended preset.
    pub preset: Preset,
    /// All presets.
    pub presets: Vec<Preset>,
    /// Valid names of a request's `scheduler`.
    pub schedulers: Vec<String>,
    /// Valid names of a request's `style`.
    pub styles: Vec<String>,
    /// Bytes of weights on the device.
    pub weight_bytes: f64,
    /// Name of the checkpoint, as in the metadata of its images.
    pub model: String,
    /// Hash of the packed checkpoint, as in the metadata of its images.
    pub model_hash: Option<String>,
    /// Hash of the packed text encoder; none where prompts are encoded elsewhere.
    #[serde(default)]
    pub text_encoder_hash: Option<String>,
    /// Weight format of the transformer's matrices: `f32`, `bf16`, `f16`, `q8`, `q4_affine` or `q4`.
    pub weight_format: String,
    /// LoRAs merged into the transformer.
    pub loras: Vec<LoraScale>,
    /// Storage backend of the checkpoint: `indexeddb`, `opfs` or `memory`.
    pub storage: String,
    /// From the first byte requested until the weights were on the device.
    pub load_millis: f64,
    /// Part of `load_millis`: from storage to the device.
    pub upload_millis: f64,
    /// Size of the wasm heap, which never shrinks: the peak of loading.
    pub heap_bytes: f64,
}

/// Progress after one denoising step: `step` of `total_steps` of image `id` are done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct DenoisingStep {
    pub id: u32,
    pub step: u32,
    /// Steps of all passes.
    pub total_steps: u32,
    /// 1, or 2 in the second pass of a request with `hires_scale`.
    #[serde(default)]
    pub pass: u32,
    /// The image so far; `null` where the VAE's latent RGB factors are unknown.
    pub preview: Option<PreviewImage>,
    /// The guided model output of this step: f32, little-endian. Those of all steps so far are the input of
    /// [`crate::EngineRequest::Resume`].
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub model_output: Vec<u8>,
}

/// A preview with one pixel per latent position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct PreviewImage {
    pub width: u32,
    pub height: u32,
    /// Red, green and blue of each pixel, row by row.
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub rgb: Vec<u8>,
}

/// A stage of generating an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum GenerationStage {
    Text,
    Denoise,
    Decode,
}

/// A finished image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct ImageResult {
    pub id: u32,
    pub width: u32,
    pub height: u32,
    /// Steps that were run: fewer than requested where `strength` is below 1.
    pub num_inference_steps: u32,
    pub seed: u32,
    /// The image as a PNG file with its request in text chunks.
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub png: Vec<u8>,
    /// The latents after each step as a safetensors file, where `record` was set.
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array | null")]
    pub recording: Option<Vec<u8>>,
    pub millis: StageMillis,
    pub memory: MemoryUsage,
}

/// Memory held after an image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct MemoryUsage {
    /// Size of the wasm heap, which never shrinks.
    pub heap_bytes: f64,
    /// GPU memory, where there is a GPU: weights, and pooled pages.
    pub device_bytes: Option<f64>,
}

/// Wall-clock time of each stage, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct StageMillis {
    pub text: f64,
    pub denoise: f64,
    pub decode: f64,
    pub total: f64,
}

/// One tap of one golden variant, compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct TapRow {
    pub variant: String,
    pub tap: String,
    /// Largest absolute difference; not finite where either side is.
    pub max_abs: f64,
    /// `max_abs` over the largest magnitude of the recorded tensor.
    pub max_relative: f64,
    /// The bound that `max_relative` (for the 8-bit image: `max_abs`) was held to.
    pub tolerance: f64,
    pub verdict: Verdict,
}

/// The outcome of one comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    /// Out of tolerance, or not comparable: `why` says which.
    Fail {
        why: String,
    },
    /// The variant needs a feature that this build does not have.
    NotBuilt {
        why: String,
    },
}
