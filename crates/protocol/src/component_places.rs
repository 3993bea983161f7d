//! The places of a checkpoint's components.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Components that are in other places than their checkpoint. Each place is the URL of a folder, which ends in `/`, or of a
/// `.safetensors` or `.gguf` file, or the name of local files that were sent to the worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct ComponentPlaces {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub transformer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub vae: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub text_encoder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub tokenizer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub scheduler: Option<String>,
}
