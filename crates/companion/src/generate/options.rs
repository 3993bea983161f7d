//! Options of an image generator: the checkpoint, the device and the source of the prompt embeddings.

use std::path::PathBuf;

use pixart_model::WeightFormat;
use pixart_protocol::EncodeResponse;

use crate::{ComponentPaths, LoraPath, device};

/// Options of [`ImageGenerator::open`](super::ImageGenerator::open).
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// A diffusers folder or a packed one.
    pub checkpoint: PathBuf,
    pub device: device::DeviceSpec,
    /// Weight format of the transformer's blocks; `None` chooses the best that fits the device.
    pub weight_format: Option<WeightFormat>,
    pub prompt_embeds: PromptEmbedsSource,
    /// Bytes that the text encoder's blocks may take; a larger encoder is streamed block by block. `None` loads all blocks.
    pub text_memory: Option<u64>,
    /// Variant of the weight files to read, as `fp16`.
    pub variant: Option<String>,
    /// Components that replace the checkpoint's.
    pub components: ComponentPaths,
    /// LoRAs for the transformer and the text encoder, merged in their order.
    pub loras: Vec<LoraPath>,
    /// Loads the VAE encoder, for img2img and inpainting.
    pub vae_encoder: bool,
}

/// Source of the prompt embeddings.
#[derive(Clone, Debug, Default)]
pub enum PromptEmbedsSource {
    /// The checkpoint's text encoder.
    #[default]
    TextEncoder,
    /// Stored embeddings, for every image; the text encoder is not loaded.
    Stored(EncodeResponse),
    /// The caller, by [`ImageGenerator::generate_from_embeds`](super::ImageGenerator::generate_from_embeds).
    Caller,
}
