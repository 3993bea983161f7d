//! Errors of files, devices and ports. The model's errors pass through unchanged.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use pixart_protocol::{Fault, FaultCode};

use crate::device::DeviceSpec;

/// Error of the companion. [`Fault`] adds a code and a remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{}` cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("standard output cannot be written: {source}")]
    Print { source: io::Error },
    #[error("`{}` is not a checkpoint: it has no file `{missing}`", path.display())]
    NotACheckpoint { path: PathBuf, missing: &'static str },
    #[error("`{}` is not a list of prompts: {why}", path.display())]
    BadPrompts { path: PathBuf, why: String },
    #[error("`{}` has no usable embeddings: {why}", path.display())]
    BadEmbeds { path: PathBuf, why: String },
    #[error("`{}` is not a folder of goldens: {why}", path.display())]
    BadGoldens { path: PathBuf, why: String },
    #[error("`{}` is not a built page: it has no file `index.html`", path.display())]
    NotAPage { path: PathBuf },
    #[error("no GPU could be opened: {why}")]
    NoGpu { why: String },
    #[error("this build has no device `{kind}`")]
    NotInThisBuild { kind: DeviceSpec },
    #[error("the device failed while {doing}: {why}")]
    Device { doing: &'static str, why: String },
    #[error("the prompt embeddings have {value} at element {index}")]
    NotFinite { value: f32, index: usize },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("{address} can be reached by other computers, and no token is set")]
    TokenRequired { address: SocketAddr },
    #[error("the token in `{}` has only {has} characters", path.display())]
    TokenTooShort { path: PathBuf, has: usize, least: usize },
    #[error("the generation was cancelled")]
    Cancelled,
    #[error("the device thread stopped before the model was loaded")]
    ThreadStopped,
    #[error(transparent)]
    Model(#[from] pixart_model::Error),
    #[error(transparent)]
    Request(#[from] Fault),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let what = error.to_string();
        let (code, remedy) = match error {
            Error::Model(error) => return error.into(),
            Error::Request(fault) => return fault,
            Error::Read { .. } => (FaultCode::BadRequest, "check the path and its permissions"),
            Error::Write { .. } => (FaultCode::BadRequest, "choose an existing folder with write permission"),
            Error::Print { .. } => {
                (FaultCode::BadRequest, "free space where it is redirected to, or print to the terminal")
            }
            Error::NotACheckpoint { .. } => {
                (FaultCode::BadWeights, "name a folder that diffusers' save_pretrained wrote, or a packed one")
            }
            Error::BadPrompts { .. } => {
                (FaultCode::BadRequest, r#"write it as JSON: [{"prompt": "a red circle", "seed": 7}]"#)
            }
            Error::BadEmbeds { .. } => (FaultCode::BadRequest, "write the file with `pixart encode`"),
            Error::BadGoldens { .. } => {
                (FaultCode::BadRequest, "name a folder with one sub-folder per variant, each with a meta.json")
            }
            Error::NotAPage { .. } => {
                (FaultCode::Companion, "build the page with `cargo xtask start`, or pass --api-only")
            }
            Error::NoGpu { .. } => {
                (FaultCode::NoWebgpu, "see `pixart doctor`; install a Vulkan driver, or use --device cpu")
            }
            Error::NotInThisBuild { kind: DeviceSpec::Cuda(_) } => (
                FaultCode::BadRequest,
                "install it with `cargo install --locked --path crates/companion --features cuda`",
            ),
            Error::NotInThisBuild { .. } => {
                (FaultCode::BadRequest, "install it with `cargo install --path crates/companion --features vulkan`")
            }
            Error::Device { .. } => {
                (FaultCode::DeviceLost, "run the command again; if it fails again, use --device cpu")
            }
            Error::NotFinite { .. } => (FaultCode::Internal, "check the text encoder's weights, or use --device cpu"),
            Error::Listen { .. } => (FaultCode::Companion, "choose another address with --listen"),
            Error::TokenRequired { .. } => (FaultCode::Companion, "pass --token-file, or listen on 127.0.0.1"),
            Error::TokenTooShort { least, .. } => {
                let remedy =
                    format!("write at least {least} random characters, for example with `openssl rand -hex 32`");
                return Fault::new(FaultCode::Companion, what, remedy);
            }
            Error::Cancelled => (FaultCode::Companion, "send the request again"),
            Error::ThreadStopped => (FaultCode::Internal, "see the log above for the reason"),
        };
        Fault::new(code, what, remedy)
    }
}
