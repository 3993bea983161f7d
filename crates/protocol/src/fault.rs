//! The one error that crosses every border: what failed, with which value, and what to do about it.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// What kind of thing went wrong. The page chooses its presentation by this code and never by the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The browser offers no WebGPU, or no adapter.
    NoWebgpu,
    /// The GPU device was lost; a new one has to be opened.
    DeviceLost,
    /// The GPU could not allocate a buffer.
    OutOfMemory,
    /// The GPU rejected a shader or a command.
    GpuValidation,
    /// A field of the request cannot be used.
    BadRequest,
    /// A checkpoint file is missing, truncated, or holds an unexpected tensor.
    BadWeights,
    /// A configuration file is missing a key or holds a value that is not supported.
    BadConfig,
    /// A file could not be fetched.
    Network,
    /// The browser has no room for a checkpoint, or could not keep it.
    Storage,
    /// The companion did not answer or refused.
    Companion,
    /// The companion has too much to do; ask again later.
    Busy,
    /// A fault of this program.
    Internal,
}

/// One failure, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Fault {
    pub code: FaultCode,
    /// What failed, and the value it failed on.
    pub what: String,
    /// What the reader can do next.
    pub remedy: String,
}

impl Fault {
    #[must_use]
    pub fn new(code: FaultCode, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, what: what.into(), remedy: remedy.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} ({})", self.what, self.remedy)
    }
}

impl std::error::Error for Fault {}
