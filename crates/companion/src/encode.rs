//! Captions → text embeddings, on one device. A text encoder is loaded, nothing else of the checkpoint.

use std::path::PathBuf;
use std::time::Instant;

use futures_lite::future::block_on;
use pixart_model::{PromptEmbeds, Taps, TextEncoder, WeightFormat};
use pixart_protocol::{EncodeRequest, EncodeResponse, Fault, FaultCode};
use pixart_weights::Folder;

use crate::device::{self, Opened};
use crate::{Error, checkpoint};

/// Which text encoder, where, and how it is kept.
#[derive(Clone, Debug, Default)]
pub struct TextOpening {
    /// A diffusers folder or a packed one, which need have no other network.
    pub checkpoint: PathBuf,
    pub device: device::Kind,
    /// Of the matrices; none is as they are stored.
    pub precision: Option<WeightFormat>,
    /// Blocks from the first on, to measure one; none is all.
    pub layers: Option<usize>,
}

/// A loaded text encoder.
pub struct Encoder {
    text: TextEncoder,
    opened: Opened,
}

impl Encoder {
    /// Loads what `opening` names.
    ///
    /// # Errors
    /// A file that is missing or damaged, a precision in which no text encoder works, or a device that is not there.
    pub fn open(opening: &TextOpening) -> Result<Self, Error> {
        Self::on(device::open(opening.device)?, opening)
    }

    /// [`Encoder::open`] on a device that is open.
    ///
    /// # Errors
    /// See [`Encoder::open`].
    pub fn on(opened: Opened, opening: &TextOpening) -> Result<Self, Error> {
        let TextOpening { checkpoint, precision, layers, .. } = opening;
        let precision = *precision;
        if precision == Some(WeightFormat::F16) {
            let what = "a text encoder in f16: T5's activations pass 65504, the largest f16, and become infinite";
            return Err(Fault::new(FaultCode::BadRequest, what, "choose bf16, q8 or f32").into());
        }
        let began = Instant::now();
        let mut folder = checkpoint::part(checkpoint, &["transformer", "vae", "scheduler"])?;
        if let Some(layers) = layers {
            shorten(&mut folder, *layers)?;
        }
        let text = block_on(TextEncoder::load_as(&folder, precision, &opened.device))?;
        tracing::info!(device = opened.name, seconds = began.elapsed().as_secs_f64(), "the text encoder is loaded");
        Ok(Self { text, opened })
    }

    /// The device it runs on, in words.
    #[must_use]
    pub fn device_name(&self) -> &str {
        &self.opened.name
    }

    /// One row of embeddings per caption, read back to the host.
    pub fn encode(&self, request: &EncodeRequest) -> Result<EncodeResponse, Error> {
        request.validate()?;
        let captions: Vec<&str> = request.captions.iter().map(String::as_str).collect();
        prompt_embeds_read(self.text.encode(&captions, request.max_sequence_length as usize, &mut Taps::off())?)
    }
}

/// Leaves the text encoder its first `layers` blocks.
fn shorten(folder: &mut Folder, layers: usize) -> Result<(), Error> {
    const CONFIG: &str = "text_encoder/config.json";
    let config = folder.bytes(CONFIG).map_err(pixart_model::Error::Weights)?;
    // What is no object is told by whoever reads the configuration.
    if let Ok(mut keys) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(config) {
        keys.insert("num_layers".to_owned(), layers.into());
        folder.insert(CONFIG, serde_json::Value::Object(keys).to_string().into_bytes());
    }
    Ok(())
}

fn prompt_embeds_read(prompt_embeds: PromptEmbeds) -> Result<EncodeResponse, Error> {
    let unread = |why: String| Error::Device { doing: "reading the text embeddings", why };
    let shape = prompt_embeds.embeds.dims().map(|length| u32::try_from(length).expect("a side of a tensor in memory"));
    let embeds = block_on(prompt_embeds.embeds.into_data_async()).map_err(|error| unread(error.to_string()))?;
    let mask = block_on(prompt_embeds.attention_mask.into_data_async()).map_err(|error| unread(error.to_string()))?;
    let embeds = embeds.try_into_vec::<f32>().map_err(|error| unread(format!("{error:?}")))?;
    let mask = mask.try_into_vec::<f32>().map_err(|error| unread(format!("{error:?}")))?;
    if let Some(index) = embeds.iter().position(|value| !value.is_finite()) {
        return Err(Error::NotFinite { value: embeds[index], index });
    }
    Ok(EncodeResponse { shape, embeds, attention_mask: mask })
}
