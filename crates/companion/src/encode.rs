//! Captions → text embeddings, on one device. The whole of a text encoder is loaded, nothing else of the checkpoint.

use std::path::Path;

use futures_lite::future::block_on;
use pixart_model::{Caption, Taps, TextEncoder};
use pixart_protocol::{EncodeReply, EncodeRequest};

use crate::device::{self, Opened};
use crate::{Error, checkpoint};

/// A loaded text encoder.
pub struct Encoder {
    text: TextEncoder,
    opened: Opened,
}

impl Encoder {
    /// Loads the text encoder of the checkpoint folder `dir`.
    pub fn open(dir: &Path, kind: device::Kind) -> Result<Self, Error> {
        let opened = device::open(kind)?;
        let folder = checkpoint::read(dir, &["transformer", "vae", "scheduler"])?;
        Ok(Self { text: block_on(TextEncoder::load(&folder, &opened.device))?, opened })
    }

    /// The device it runs on, in words.
    #[must_use]
    pub fn device_name(&self) -> &str {
        &self.opened.name
    }

    /// One row of embeddings per caption, read back to the host.
    pub fn encode(&self, request: &EncodeRequest) -> Result<EncodeReply, Error> {
        request.validate()?;
        let captions: Vec<&str> = request.captions.iter().map(String::as_str).collect();
        caption_read(self.text.encode(&captions, request.max_sequence_length as usize, &mut Taps::off())?)
    }
}

fn caption_read(caption: Caption) -> Result<EncodeReply, Error> {
    let unread = |why: String| Error::Device { doing: "reading the text embeddings", why };
    let shape = caption.embeds.dims().map(|length| u32::try_from(length).expect("a side of a tensor in memory"));
    let embeds = block_on(caption.embeds.into_data_async()).map_err(|error| unread(error.to_string()))?;
    let mask = block_on(caption.mask.into_data_async()).map_err(|error| unread(error.to_string()))?;
    let embeds = embeds.try_into_vec::<f32>().map_err(|error| unread(format!("{error:?}")))?;
    let mask = mask.try_into_vec::<f32>().map_err(|error| unread(format!("{error:?}")))?;
    if let Some(index) = embeds.iter().position(|value| !value.is_finite()) {
        return Err(Error::NotFinite { value: embeds[index], index });
    }
    Ok(EncodeReply { shape, embeds, mask })
}
