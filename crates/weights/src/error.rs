//! What can be wrong with a checkpoint's files. Each message says which file and tensor, what was expected, what was
//! found and what to do about it.

use safetensors::Dtype;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("the checkpoint has no file `{file}`; add it, or load the folder that diffusers' save_pretrained wrote")]
    MissingFile { file: String },

    #[error("`{file}` is not held in memory; read it whole first")]
    NotHeld { file: String },

    #[error("`{file}` could not be read: {why}; try again")]
    Unreadable { file: String, why: String },

    #[error("`{file}` could not be kept: {why}; make room, then go on")]
    Unwritable { file: String, why: String },

    #[error("tensor `{tensor}` of `{file}` holds {value}, which f16 cannot; pack it as f32")]
    TooLargeForHalf { file: String, tensor: String, value: f32 },

    #[error("`{file}` is truncated: {why}; fetch the file again")]
    Truncated { file: String, why: String },

    #[error("`{file}` is corrupt: {why}; fetch the file again")]
    Corrupt { file: String, why: String },

    #[error("`{file}` is not the JSON that was expected: {why}; fetch the file again")]
    BadJson { file: String, why: String },

    #[error("`{file}` has no key `{key}`; fetch the file again, or save the checkpoint with safetensors")]
    MissingKey { file: String, key: String },

    #[error("`{file}`: `{key}`: {why}; save it in a form that is supported")]
    Unsupported { file: String, key: String, why: String },

    #[error(
        "an adapter is for `{tensor}` of shape {got:?}, and the checkpoint has {has}; use one made for this network"
    )]
    AdapterDoesNotFit { tensor: String, got: Vec<usize>, has: String },

    #[error("`{file}` holds no tensor `{tensor}`; check that the file belongs to this network and its config.json")]
    MissingTensor { file: String, tensor: String },

    #[error(
        "tensor `{tensor}` of `{file}` has shape {got:?}, expected {expected:?}; check that config.json and the \
         weights belong to one checkpoint"
    )]
    WrongShape { file: String, tensor: String, expected: Vec<usize>, got: Vec<usize> },

    #[error("tensor `{tensor}` of `{file}` is stored as {got:?}, accepted are {accepted:?}; save it as one of those")]
    WrongDtype { file: String, tensor: String, got: Dtype, accepted: Vec<Dtype> },

    #[error("tensor `{tensor}` of `{file}` holds {value} at index {index}; fetch the file again, or save it as F32")]
    NotFinite { file: String, tensor: String, index: usize, value: f32 },
}
