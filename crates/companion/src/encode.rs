//! Captions → prompt embeddings on one device. Only the text encoder of the checkpoint is loaded.

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Device;
use futures_lite::future::block_on;
use pixart_model::{PromptEmbeds, Taps, TextEncoder, WeightFormat};
use pixart_protocol::{EncodeRequest, EncodeResponse, Fault, FaultCode};
use pixart_weights::Folder;

use crate::device::{self, LoadedDevice};
use crate::loras::insert_loras;
use crate::{ComponentPaths, Error, LoraPath, checkpoint};

/// Options of [`PromptEncoder::open`].
#[derive(Clone, Debug, Default)]
pub struct PromptEncoderOptions {
    /// A diffusers folder or a packed one; other networks need not be in it.
    pub checkpoint: PathBuf,
    /// Components that replace the checkpoint's.
    pub components: ComponentPaths,
    pub device: device::DeviceSpec,
    /// Weight format of the matrices; `None` leaves them as stored.
    pub weight_format: Option<WeightFormat>,
    /// Number of blocks to use, for measurements; `None` uses all.
    pub layers: Option<usize>,
    /// Bytes that the encoder's blocks may take; a larger encoder is streamed block by block. `None` loads all blocks.
    pub text_memory: Option<u64>,
    /// Variant of the weight files to read, as `fp16`.
    pub variant: Option<String>,
    /// LoRAs, merged in their order.
    pub loras: Vec<LoraPath>,
}

/// A loaded text encoder.
///
/// ```no_run
/// use pixart_companion::{PromptEncoder, PromptEncoderOptions, embeds};
/// use pixart_protocol::EncodeRequest;
///
/// let options = PromptEncoderOptions { checkpoint: "web/models/scenes".into(), ..PromptEncoderOptions::default() };
/// let captions = vec![String::new(), "a red circle".to_owned()];
/// let prompt_embeds = PromptEncoder::open(&options)?.encode(&EncodeRequest::of(captions.clone()))?;
/// std::fs::write("embeds.safetensors", embeds::write(&prompt_embeds, &captions))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PromptEncoder {
    text: TextEncoder,
    opened: LoadedDevice,
}

impl PromptEncoder {
    /// Opens a device and loads the text encoder on it.
    ///
    /// # Errors
    /// A file that is missing or damaged, a weight format that T5 does not work in, or a device that is not there.
    pub fn open(options: &PromptEncoderOptions) -> Result<Self, Error> {
        let opened = device::open(options.device)?;
        let folder = checkpoint::read_partial(&options.checkpoint, &["transformer", "vae", "scheduler"])?;
        Self::load(opened, folder, options)
    }

    /// Loads the text encoder of `folder` on an open device.
    ///
    /// # Errors
    /// See [`PromptEncoder::open`].
    pub fn load(opened: LoadedDevice, mut folder: Folder, options: &PromptEncoderOptions) -> Result<Self, Error> {
        let PromptEncoderOptions { weight_format, layers, .. } = *options;
        if weight_format == Some(WeightFormat::F16) {
            let what = "the text encoder cannot run in f16: T5's activations exceed 65504, the largest f16, and become infinite";
            return Err(Fault::new(FaultCode::BadRequest, what, "choose bf16, q8 or f32").into());
        }
        let began = Instant::now();
        checkpoint::set_variant(&mut folder, options.variant.as_deref())?;
        options.components.mount(&mut folder)?;
        insert_loras(&mut folder, &options.loras)?;
        if let Some(layers) = layers {
            truncate_layers(&mut folder, layers)?;
        }
        // Small files and the headers of large ones first.
        block_on(TextEncoder::load(&folder.headers_only(), weight_format, &Device::flex()))?;
        let text = block_on(TextEncoder::open(&folder, weight_format, &opened.device))?;
        if text.block_bytes() <= options.text_memory.unwrap_or(u64::MAX) {
            block_on(text.load_blocks())?;
        }
        tracing::info!(device = opened.name, seconds = began.elapsed().as_secs_f64(), "text encoder loaded");
        Ok(Self { text, opened })
    }

    /// Name of the device it runs on.
    #[must_use]
    pub fn device_name(&self) -> &str {
        &self.opened.name
    }

    /// Encodes the captions of a request and reads the embeddings `[captions, tokens, channels]` back.
    ///
    /// # Errors
    /// An invalid request, or embeddings that are not finite.
    pub fn encode(&self, request: &EncodeRequest) -> Result<EncodeResponse, Error> {
        request.validate()?;
        let captions: Vec<&str> = request.captions.iter().map(String::as_str).collect();
        let tokens = request.max_sequence_length as usize;
        let token_counts = self.text.token_counts(&captions, tokens)?;
        let response = embeds_read(block_on(self.text.encode(&captions, tokens, &mut Taps::off()))?)?;
        Ok(EncodeResponse { token_counts, ..response })
    }
}

/// Sets the number of the text encoder's blocks in its configuration.
fn truncate_layers(folder: &mut Folder, layers: usize) -> Result<(), Error> {
    const CONFIG: &str = "text_encoder/config.json";
    let config = folder.bytes(CONFIG).map_err(pixart_model::Error::Weights)?;
    // A configuration that is no object is an error when it is read.
    if let Ok(mut keys) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(config) {
        keys.insert("num_layers".to_owned(), layers.into());
        folder.insert(CONFIG, serde_json::Value::Object(keys).to_string().into_bytes());
    }
    Ok(())
}

/// Reads embeddings and mask back.
fn embeds_read(prompt_embeds: PromptEmbeds) -> Result<EncodeResponse, Error> {
    let unread = |why: String| Error::Device { doing: "reading the text embeddings", why };
    let shape = prompt_embeds.embeds.dims().map(|length| u32::try_from(length).expect("a side of a tensor in memory"));
    let embeds = block_on(prompt_embeds.embeds.into_data_async()).map_err(|error| unread(error.to_string()))?;
    let mask = block_on(prompt_embeds.attention_mask.into_data_async()).map_err(|error| unread(error.to_string()))?;
    let embeds = embeds.try_into_vec::<f32>().map_err(|error| unread(error.to_string()))?;
    let mask = mask.try_into_vec::<f32>().map_err(|error| unread(error.to_string()))?;
    if let Some(index) = embeds.iter().position(|value| !value.is_finite()) {
        return Err(Error::NotFinite { value: embeds[index], index });
    }
    Ok(EncodeResponse { shape, embeds, attention_mask: mask, token_counts: Vec::new() })
}
