//! The error type of every interface: what failed, with which value, and a remedy.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Kind of a failure. The page chooses its presentation by this code and never by the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The browser offers no WebGPU, or no adapter.
    NoWebgpu,
    /// The GPU device was lost; a new device has to be opened.
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
    /// A file could not be downloaded.
    Network,
    /// The browser's quota is exceeded, or a write failed.
    Storage,
    /// The companion did not answer or refused.
    Companion,
    /// The companion's queue is full; try again later.
    Busy,
    /// A bug in this program.
    Internal,
}

/// One failure, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Fault {
    pub code: FaultCode,
    /// Description of the failure, with the value that caused it.
    pub what: String,
    /// Next step for the user.
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
