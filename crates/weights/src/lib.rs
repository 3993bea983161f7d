//! A checkpoint's bytes as named tensors: a folder of files held in memory, safetensors headers, shard indexes, and
//! the conversion of stored floats to f32. Sans-io: callers bring the bytes, nothing here opens a file or a socket.
//!
//! Contract: a tensor that is handed out has the shape that was asked for and holds finite numbers only; everything
//! else is an [`Error`] that names the file and the tensor.

mod adapter;
mod error;
mod folder;
#[cfg(not(target_family = "wasm"))]
pub mod original;
#[cfg(not(target_family = "wasm"))]
mod pickle;
mod tensors;

pub use adapter::Adapter;
pub use error::Error;
pub use folder::Folder;
pub use safetensors::Dtype;
pub use tensors::Tensors;
