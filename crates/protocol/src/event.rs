//! What is answered: by the worker, to its page. Every event about one picture or check carries the asker's `id`.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{Fault, KeptCheckpoint, Limits, Loading, Preset};

/// A message from the worker to the page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The device is open.
    Adapter(Adapter),
    /// How far a checkpoint is on its way to the device.
    Loading(Loading),
    /// `compiled` of `shaders` that the checkpoint needs are ready on the GPU; the last stands for all of burn's own.
    Compiling { compiled: u32, shaders: u32 },
    /// What opening a checkpoint would take.
    Estimated(Estimate),
    /// The checkpoint is on the device and pictures can be asked for.
    Ready(Checkpoint),
    /// How picture `id` is computed within the device's memory, in one line with the reasons.
    /// `bytes` is what it needs at once, weights and all.
    Planned { id: u32, plan: String, bytes: f64 },
    /// Something about picture `id` that its reader should know and that stops nothing.
    Note { id: u32, text: String },
    /// A stage of picture `id` has begun.
    Began { id: u32, stage: Stage },
    /// A denoising step has been done.
    Step(Step),
    /// Picture `id` is finished.
    Image(Image),
    /// Picture `id` was stopped as asked.
    Cancelled { id: u32 },
    /// All rows of check `id`.
    Checked { id: u32, rows: Vec<TapRow> },
    /// The checkpoints that are kept, after task `id`.
    Kept { id: u32, checkpoints: Vec<KeptCheckpoint> },
    /// Something failed. `id` names the picture or check it ended; without one the fault concerns the device or the load.
    Fault { id: Option<u32>, fault: Fault },
}

/// The GPU, or the processor, that runs the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Adapter {
    /// As the browser or driver reports it: vendor, architecture, description.
    pub name: String,
    /// The graphics interface it is reached through.
    pub backend: String,
    /// True where the adapter is a GPU that is known to be played by the processor.
    pub software: bool,
    /// Why it was taken, in words.
    pub why: String,
}

/// What is known of a checkpoint before it is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Estimate {
    pub id: u32,
    /// Bytes that are still to be fetched.
    pub fetch_bytes: f64,
    /// Bytes that the browser offers for what is kept; `null` where it does not tell.
    pub room_bytes: Option<f64>,
    /// Of the connection; `null` where it was not measured.
    pub bytes_per_second: Option<f64>,
    /// `null` where it was not measured.
    pub drawing: Option<Cost>,
}

/// What a picture of a checkpoint's own size costs on a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Cost {
    /// Width and height in pixels.
    pub size: u32,
    pub steps: u32,
    /// What has to be held at once, all weights included that are loaded with the checkpoint.
    pub memory_bytes: f64,
    /// By the time that the same kinds of operations took in about a second, without reading the prompt.
    pub seconds: f64,
}

/// The loaded checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Checkpoint {
    pub limits: Limits,
    /// What it is best asked for.
    pub preset: Preset,
    /// What it, and others of its kind, may be asked for.
    pub presets: Vec<Preset>,
    /// The names that a request's `scheduler` may be.
    pub schedulers: Vec<String>,
    /// The names that a request's `style` may be.
    pub styles: Vec<String>,
    /// Bytes that went to the device.
    pub bytes: f64,
    /// Where the checkpoint is kept: `indexeddb`, `opfs` or `memory`.
    pub store: String,
    /// From the first byte asked for until the weights were on the device.
    pub load_millis: f64,
    /// Of that, from the store to the device.
    pub upload_millis: f64,
    /// The module's memory, which never shrinks: the most that loading took.
    pub heap_bytes: f64,
}

/// `step` of `steps` denoising steps of picture `id` have been done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct Step {
    pub id: u32,
    pub step: u32,
    pub steps: u32,
    /// The picture as it looks so far; `null` where nothing is known of the autoencoder's colours.
    pub preview: Option<Preview>,
    /// What the network said: f32, little-endian. With those of all steps before, [`crate::Request::Resume`] goes on from here.
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub said: Vec<u8>,
}

/// A small picture: one pixel for each of the latent's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Preview {
    pub width: u32,
    pub height: u32,
    /// Red, green and blue of each pixel, row by row.
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub rgb: Vec<u8>,
}

/// One stage of drawing a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Text,
    Denoise,
    Decode,
}

/// A finished picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Image {
    pub id: u32,
    pub width: u32,
    pub height: u32,
    pub steps: u32,
    pub seed: u32,
    /// The picture as a PNG file with its request in text chunks.
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub png: Vec<u8>,
    /// What the picture was on its way, as a safetensors file, where that was asked for.
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array | null")]
    pub recording: Option<Vec<u8>>,
    pub millis: StageMillis,
    pub memory: Memory,
}

/// What is held once a picture is finished.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Memory {
    /// The module's memory, which never shrinks.
    pub heap_bytes: f64,
    /// Of the GPU's, where there is one: weights, and pages kept for the next picture.
    pub device_bytes: Option<f64>,
}

/// Wall time of each stage, in milliseconds.
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
    /// The bound that `max_relative` (for the 8-bit picture: `max_abs`) was held to.
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
    /// What the variant needs that this build does not have.
    NotBuilt {
        why: String,
    },
}
