//! Errors of the model crate, and their conversion to the [`Fault`]s that cross process and language boundaries.

use pixart_protocol::{Fault, FaultCode};

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
                Fault::new(FaultCode::BadWeights, what, "download the checkpoint again, or choose another one")
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
            Error::Image { .. } => Fault::new(FaultCode::BadRequest, what, crate::image::IMAGE_REMEDY),
            Error::Png { .. } => Fault::new(FaultCode::Internal, what, "choose a smaller image"),
        }
    }
}
