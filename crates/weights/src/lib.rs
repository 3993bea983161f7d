//! A checkpoint's bytes as named tensors: folders of files, held in memory or read piece by piece; safetensors and their
//! shard indexes; packed checkpoints, read and written. Sans-io: callers bring the bytes, nothing here opens a file or a
//! socket.
//!
//! Contract: a weight that is handed out has the shape that was asked for and holds finite numbers only; everything else is
//! an [`Error`] that names the file and the tensor.

mod adapter;
mod error;
mod folder;
mod header;
pub mod manifest;
#[cfg(not(target_family = "wasm"))]
pub mod original;

pub mod packer;
#[cfg(not(target_family = "wasm"))]
mod pickle;
mod precision;
mod rows;
mod tensors;
mod weights;

pub use adapter::Adapter;
pub use error::Error;
pub use folder::{Folder, Reader, Reading};
pub use manifest::{Form, Kept, Manifest};
pub use precision::{BLOCK, Packed, Precision, pack, unpack};
pub use rows::{Mapped, Order, Rows};
pub use safetensors::Dtype;
pub use tensors::{Tensors, written};
pub use weights::{Weights, transposed};
