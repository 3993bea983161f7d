//! Checkpoints as named tensors: safetensors folders with shard indexes, packed checkpoints, PixArt's `.pth` files, LoRA
//! adapters, and the quantized formats of weight matrices.
//!
//! The crate is sans-I/O: callers bring the bytes, and nothing here opens a file or a socket.
//!
//! Contract: a weight that is returned has the requested shape and holds finite values only. Everything else is an [`Error`]
//! that names the file and the tensor.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod derive;
mod dtype;
mod error;
mod folder;
mod gguf;
mod header;
mod lora;
pub mod manifest;
mod mapped_matrix;
mod matrix_data;
#[cfg(not(target_family = "wasm"))]
pub mod original;
mod original_names;
pub mod packer;
#[cfg(not(target_family = "wasm"))]
mod pickle;
mod quantize;
mod stored_rows;
mod tensor_location;
mod tensors;
mod transposed;
mod variant;
mod weight_format;
mod weights;

pub use derive::derive_text_encoder_config;
pub use dtype::{StoredDtype, TensorLayout};
pub use error::Error;
pub use folder::{Folder, ReadFuture, Reader};
pub use gguf::{GgmlType, is_text_encoder_tensor, llama_cpp_name, text_encoder_tensor_names};
pub use lora::LoraAdapter;
pub use manifest::Manifest;
pub use mapped_matrix::{MappedBytes, MappedFile, MappedLayout, MappedMatrix};
pub use matrix_data::MatrixData;
pub use original_names::{is_transformer_tensor, transformer_tensor_names};
pub use quantize::{ColumnOrder, MergedMatrix, QuantizedMatrix, dequantize, quantize};
pub use safetensors::Dtype;
pub use tensors::{Tensors, serialize_tensors};
pub use transposed::transposed;
pub use weight_format::{BLOCK, WeightFormat};
pub use weights::Weights;
