//! The errors of a checkpoint's files. Each message names the file and the tensor, what was expected, what was found, and a
//! remedy.

use crate::StoredDtype;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("the checkpoint has no file `{file}`; add it, or load a folder that diffusers' save_pretrained wrote")]
    MissingFile { file: String },

    #[error("`{dir}` holds `{}` and `{}`, and either may be its weights; leave one of them in the folder", files[0], files[1])]
    Ambiguous { dir: String, files: [String; 2] },

    #[error("`{file}` is not in memory; read it whole first")]
    NotInMemory { file: String },

    #[error("`{file}` could not be read: {why}; try again")]
    Unreadable { file: String, why: String },

    #[error("`{file}` could not be stored: {why}; free some space and resume")]
    Unwritable { file: String, why: String },

    #[error("tensor `{tensor}` of `{file}` holds {value}, which is outside the range of f16; pack it as f32")]
    TooLargeForF16 { file: String, tensor: String, value: f32 },

    #[error("`{file}` is truncated: {why}; download the file again")]
    Truncated { file: String, why: String },

    #[error("`{file}` is corrupt: {why}; download the file again")]
    Corrupt { file: String, why: String },

    #[error("`{file}` is not the expected JSON: {why}; download the file again")]
    BadJson { file: String, why: String },

    #[error("`{file}` has no key `{key}`; download the file again, or save the checkpoint with safetensors")]
    MissingKey { file: String, key: String },

    #[error("`{file}`: `{key}`: {why}; save the file in a supported form")]
    Unsupported { file: String, key: String, why: String },

    #[error(
        "the LoRA adapter is for a tensor `{tensor}` of shape {shape:?}, and the checkpoint has {found}; use an adapter of \
         this network"
    )]
    LoraDoesNotFit { tensor: String, shape: Vec<usize>, found: String },

    #[error(
        "`{file}` is a LoRA for {network}, as its tensor `{tensor}` tells; use a LoRA that was trained on a PixArt model"
    )]
    LoraOfAnotherNetwork { file: String, tensor: String, network: String },

    #[error("`{file}` holds no tensor `{tensor}`; check that the file belongs to this network and its config.json")]
    MissingTensor { file: String, tensor: String },

    #[error(
        "tensor `{tensor}` of `{file}` has shape {shape:?}, expected {expected_shape:?}; check that config.json and \
         the weights belong to one checkpoint",
        shape = .got,
        expected_shape = .expected
    )]
    WrongShape { file: String, tensor: String, expected: Vec<usize>, got: Vec<usize> },

    #[error("tensor `{tensor}` of `{file}` is stored as {got}; save it as one of {}", names(accepted))]
    WrongDtype { file: String, tensor: String, got: StoredDtype, accepted: Vec<StoredDtype> },

    #[error("tensor `{tensor}` of `{file}` holds {value} at index {index}; download the file again, or save it as F32")]
    NotFinite { file: String, tensor: String, index: usize, value: f32 },
}

impl Error {
    /// Returns the error of a weight whose dtype is not a float that weights are stored in.
    pub(crate) fn weight_dtype(file: &str, tensor: &str, got: StoredDtype) -> Self {
        let accepted = vec![StoredDtype::F32, StoredDtype::F16, StoredDtype::Bf16];
        Self::WrongDtype { file: file.to_owned(), tensor: tensor.to_owned(), got, accepted }
    }
}

fn names(dtypes: &[StoredDtype]) -> String {
    dtypes.iter().map(StoredDtype::to_string).collect::<Vec<_>>().join(", ")
}
