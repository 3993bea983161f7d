//! Progress of a text encoder: an event, and the input of a request that resumes.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Progress of encoding the prompts of image `id`: `layer` of `layers` blocks of the text encoder were applied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct TextEncoderLayer {
    pub id: u32,
    pub layer: u32,
    pub layers: u32,
    /// Whether each block is read from storage when it is needed, and dropped after it: the device has no room for all.
    pub is_streamed: bool,
    /// The hidden state `[B, L, C]` after this block: f32, little-endian. It is an input of [`crate::EngineRequest::Resume`].
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub hidden_state: Vec<u8>,
}
