//! Errors of the model crate, and their conversion to the [`Fault`]s that cross process and language boundaries.

use pixart_protocol::{Fault, FaultCode};

/// The remedy where an image cannot be read.
pub(crate) const IMAGE_REMEDY: &str = if cfg!(feature = "jpeg-webp") {
    "give a PNG, JPEG or WebP file of at most 64 megapixels"
} else {
    "give a PNG file of at most 64 megapixels"
};

/// An error of the checkpoint, the request or the device. Bugs of this crate panic instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Weights(#[from] pixart_weights::Error),
    #[error("{file}: `{key}`: {why}")]
    Config { file: String, key: String, why: String },
    #[error("{file}: {why}")]
    Tokenizer { file: String, why: String },
    #[error("{0}")]
    Request(Fault),
    #[error("{what} is not finite at element {index}")]
    NotFinite { what: String, index: usize },
    #[error("{what} could not be read back from the device: {why}")]
    Read { what: String, why: String },
    #[error("the PNG could not be written: {why}")]
    Png { why: String },
    #[error("the image cannot be read: {why}")]
    Image { why: String },
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let what = error.to_string();
        match error {
            Error::Request(fault) => fault,
            Error::Weights(_) => {
                // Each text of that crate ends in its own remedy.
                let whole = (what.as_str(), "download the checkpoint again, or choose another one");
                let (what, remedy) = what.rsplit_once("; ").unwrap_or(whole);
                Fault::new(FaultCode::BadWeights, what, remedy)
            }
            Error::Config { .. } => {
                Fault::new(FaultCode::BadConfig, what, "use a checkpoint saved by diffusers' save_pretrained")
            }
            Error::Tokenizer { .. } => {
                Fault::new(FaultCode::BadWeights, what, "use the tokenizer folder of a T5 v1.1 checkpoint")
            }
            Error::NotFinite { .. } => Fault::new(
                FaultCode::Internal,
                what,
                "the weights or the GPU driver are faulty: try the companion with `--device cpu`",
            ),
            Error::Read { .. } => Fault::new(FaultCode::DeviceLost, what, "reload the page to open the device again"),
            Error::Image { .. } => Fault::new(FaultCode::BadRequest, what, IMAGE_REMEDY),
            Error::Png { .. } => Fault::new(FaultCode::Internal, what, "choose a smaller image"),
        }
    }
}
