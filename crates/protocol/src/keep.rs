//! Checkpoints between a server and a tab's device: where they are kept, as what, what can be done about them, and how far one
//! is on its way.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// How a tab keeps the matrices of a transformer that it converts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ConvertTo {
    /// The best that fits the device.
    #[default]
    Auto,
    F32,
    F16,
    Q8,
    Q4,
}

/// Where a tab keeps checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// The faster of the two that keep, by a measurement once; memory where the browser keeps nothing.
    #[default]
    Auto,
    Indexeddb,
    /// The origin's private file system.
    Opfs,
    /// Until the tab is closed.
    Memory,
}

/// What can be done about kept checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum KeepTask {
    List,
    /// Hash every record of one, and forget those that are not what they should be: opening it fetches them again. Then ask its
    /// address whether another one is there now.
    Verify {
        checkpoint: String,
    },
    Delete {
        checkpoint: String,
    },
}

/// A checkpoint that is kept in the browser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct KeptCheckpoint {
    pub checkpoint: String,
    /// `indexeddb`, `opfs` or `memory`.
    pub store: String,
    pub bytes: f64,
    /// Records that are missing, or were found damaged and removed.
    pub missing: u32,
    /// Another checkpoint was at its address when it was last verified.
    pub changed: bool,
    /// Milliseconds since 1970.
    pub saved_at: f64,
}

/// The progress of one stage of loading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Loading {
    pub stage: LoadingStage,
    /// What the bytes are of.
    pub file: String,
    pub loaded_bytes: f64,
    /// `null` where nobody tells how many there will be.
    pub total_bytes: Option<f64>,
    /// Over the last seconds; 0 at first.
    pub bytes_per_second: f64,
    /// `null` while it cannot be told.
    pub seconds_left: Option<f64>,
}

/// What is done with a checkpoint's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum LoadingStage {
    /// Another tab is fetching the same checkpoint.
    Wait,
    /// Records are fetched and verified.
    Fetch,
    /// Files are fetched, and converted on their way.
    Convert,
    /// Records go to the device.
    Upload,
}
