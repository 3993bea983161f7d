//! Storage of checkpoints in a browser: where they are stored, in which dtype, how they are managed, and progress of loading.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Dtype that a transformer's matrices are converted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum WeightDtype {
    /// The most precise one that fits the device.
    #[default]
    Auto,
    F32,
    F16,
    Q8,
    Q4,
}

/// Browser storage for checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum StorageBackend {
    /// The faster of the persistent two, measured once; memory where the browser persists nothing.
    #[default]
    Auto,
    Indexeddb,
    /// The origin's private file system.
    Opfs,
    /// Until the tab is closed.
    Memory,
}

/// A task on stored checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum StorageTask {
    List,
    /// Hash every shard and delete those whose hash is wrong: opening the checkpoint downloads them again. Then ask the server
    /// whether the checkpoint has changed.
    Verify {
        checkpoint: String,
    },
    Delete {
        checkpoint: String,
    },
    /// Delete the stored embeddings of all prompts.
    DeletePrompts,
}

/// Embeddings of prompts in the browser's storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct PromptCacheSize {
    pub prompts: u32,
    pub bytes: f64,
}

/// A checkpoint, a text encoder from another place, or a LoRA in the browser's storage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct StoredCheckpoint {
    /// The checkpoint's URL or the name of its local files; the places of its components too, where they are in several.
    pub checkpoint: String,
    pub kind: StoredKind,
    /// The request that opens a checkpoint whose components are in several places.
    #[serde(default)]
    #[ts(optional)]
    pub composition: Option<StoredComposition>,
    /// `indexeddb`, `opfs` or `memory`.
    pub storage: String,
    pub bytes: f64,
    /// Shards that are missing, or were found damaged and deleted.
    pub missing: u32,
    /// True if the server had another checkpoint at the last verification.
    pub changed: bool,
    /// Milliseconds since 1970.
    pub saved_at: f64,
}

/// The content of an entry in the browser's storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum StoredKind {
    /// Transformer and VAE, with or without a text encoder.
    Model,
    TextEncoder,
    Lora,
}

/// The places of a checkpoint and of its components.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct StoredComposition {
    pub checkpoint: String,
    pub components: crate::ComponentPlaces,
}

/// The progress of one stage of loading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct LoadProgress {
    pub stage: LoadStage,
    /// The file that the bytes belong to.
    pub file: String,
    pub loaded_bytes: f64,
    /// `null` where the total is unknown.
    pub total_bytes: Option<f64>,
    /// Average of the last seconds; 0 at first.
    pub bytes_per_second: f64,
    /// `null` while it is unknown.
    pub seconds_left: Option<f64>,
}

/// A stage of loading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum LoadStage {
    /// Waiting for another tab that downloads the same checkpoint.
    Wait,
    /// Shards are downloaded and verified.
    Fetch,
    /// Files are downloaded and converted.
    Convert,
    /// Weights are uploaded to the device.
    Upload,
}
