//! What can go wrong around the model: files, devices, ports. The model's own errors pass through unchanged.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use pixart_protocol::{Fault, FaultCode};

use crate::device::Kind;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{}` cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("`{}` is not a checkpoint: it has no file `{missing}`", path.display())]
    NotACheckpoint { path: PathBuf, missing: &'static str },
    #[error("`{}` is not a list of prompts: {why}", path.display())]
    BadPrompts { path: PathBuf, why: String },
    #[error("`{}` holds no usable embeddings: {why}", path.display())]
    BadEmbeds { path: PathBuf, why: String },
    #[error("`{}` is not a folder of goldens: {why}", path.display())]
    BadGoldens { path: PathBuf, why: String },
    #[error("`{}` is not a built page: it has no file `index.html`", path.display())]
    NoPage { path: PathBuf },
    #[error("no GPU could be opened: {why}")]
    NoGpu { why: String },
    #[error("this build has no device `{kind}`")]
    NotInThisBuild { kind: Kind },
    #[error("the device failed while {doing}: {why}")]
    Device { doing: &'static str, why: String },
    #[error("the text embedding holds {value} at element {index}")]
    NotFinite { value: f32, index: usize },
    #[error("{address} cannot be listened on: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("other computers would reach {address} without a token")]
    OpenDoor { address: SocketAddr },
    #[error("the token in `{}` has {has} characters", path.display())]
    WeakToken { path: PathBuf, has: usize, least: usize },
    #[error("nobody waits for the picture any more")]
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
            Error::Write { .. } => (FaultCode::BadRequest, "choose a folder that exists and may be written to"),
            Error::NotACheckpoint { .. } => {
                (FaultCode::BadWeights, "name the folder that diffusers' save_pretrained wrote")
            }
            Error::BadPrompts { .. } => {
                (FaultCode::BadRequest, r#"write it as JSON: [{"prompt": "a red circle", "seed": 7}]"#)
            }
            Error::BadEmbeds { .. } => (FaultCode::BadRequest, "write the file with `pixart encode`"),
            Error::BadGoldens { .. } => {
                (FaultCode::BadRequest, "name a folder with one sub-folder per variant, each with a meta.json")
            }
            Error::NoPage { .. } => {
                (FaultCode::Companion, "build the page with `cargo xtask start`, or pass --api-only")
            }
            Error::NoGpu { .. } => {
                (FaultCode::NoWebgpu, "see `pixart doctor`; install a Vulkan driver, or use --device cpu")
            }
            Error::NotInThisBuild { kind: Kind::Cuda(_) } => (
                FaultCode::BadRequest,
                "install it with `cargo install --locked --path crates/companion --features cuda`",
            ),
            Error::NotInThisBuild { .. } => {
                (FaultCode::BadRequest, "install it with `cargo install --path crates/companion --features vulkan`")
            }
            Error::Device { .. } => (FaultCode::DeviceLost, "start again; if it stays, use --device cpu"),
            Error::NotFinite { .. } => (FaultCode::Internal, "check the text encoder's weights, or use --device cpu"),
            Error::Listen { .. } => (FaultCode::Companion, "choose another one with --listen"),
            Error::OpenDoor { .. } => {
                (FaultCode::Companion, "pass --token-file with a secret, or listen on 127.0.0.1 alone")
            }
            Error::WeakToken { least, .. } => {
                let remedy = format!("write at least {least} random ones, as `openssl rand -hex 32` does");
                return Fault::new(FaultCode::Companion, what, remedy);
            }
            Error::Cancelled => (FaultCode::Companion, "ask again"),
            Error::ThreadStopped => (FaultCode::Internal, "the log above says why"),
        };
        Fault::new(code, what, remedy)
    }
}
