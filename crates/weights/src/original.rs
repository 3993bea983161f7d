//! Converts `.pth` files of PixArt's own checkpoints to a safetensors file with diffusers' tensor names. A `.pth` file is a zip
//! archive of a pickle and of the storages that it refers to. It is read as data and never executed.
//!
//! As in diffusers, the null caption of the caption embedder and the position embeddings are dropped. A checkpoint with
//! compressed keys or normalized queries is refused, as diffusers has no network for it.
//!
//! Source: diffusers `scripts/convert_pixart_alpha_to_diffusers.py` and PixArt-Σ's `tools/convert_pixart_to_diffusers.py`.

use std::collections::BTreeSet;
use std::io::{Cursor, Read};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

use crate::original_names::{WRAPPERS, diffusers_names};
use crate::pickle::{PickleValue, StorageView, TorchStorage, Unpickler};
use crate::{Error, StoredDtype};

/// The keys that a state dict can be stored under, in the order of preference.
const STATE_DICT_KEYS: [&str; 8] =
    ["state_dict", "state_dict_ema", "model_state_dict", "model", "module", "ema", "model_ema", "transformer"];
/// The most dicts that a state dict lies in.
const NESTING_MAX: usize = 3;
/// Tensors that the network does not need.
const UNUSED: [&str; 3] = ["pos_embed", "y_embedder.y_embedding", "caption_projection.y_embedding"];

/// Converts the transformer of a `.pth` file to a safetensors file. Errors name the file `file`.
///
/// # Errors
/// A file that is not an archive of `torch.save`, a pickle that does more than describe tensors, tensors outside of their
/// storage or larger than the file together, or names that are not PixArt's.
pub fn transformer(file: &str, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let corrupt = |why: String| Error::Corrupt { file: file.into(), why };
    let archive = TorchArchive::open(bytes).map_err(corrupt)?;
    let (pickle, value) = Unpickler::run(&archive.read("data.pkl").map_err(corrupt)?).map_err(corrupt)?;
    let (mut tensors, mut total, mut seen) = (Vec::new(), 0_usize, BTreeSet::new());
    for (name, view) in state_dict(&pickle, value).map_err(corrupt)? {
        if UNUSED.iter().any(|unused| name.strip_suffix(unused).is_some_and(is_wrapper)) {
            continue;
        }
        let (dtype, values) = archive.read_tensor(&pickle, view).map_err(|why| corrupt(format!("`{name}`: {why}")))?;
        // Tensors may share a storage, but not so often that a small file becomes a large one.
        total += values.len();
        if total > bytes.len() {
            return Err(corrupt(format!(
                "the tensors up to `{name}` have {total} bytes, and the file has {}",
                bytes.len()
            )));
        }
        let names = diffusers_names(name).ok_or_else(|| Error::Unsupported {
            file: file.into(),
            key: name.into(),
            why: "diffusers' transformer has no such tensor".into(),
        })?;
        if let Some(twice) = names.iter().find(|name| !seen.insert((*name).clone())) {
            return Err(corrupt(format!("`{name}` and another tensor are both `{twice}`")));
        }
        // The parts of a fused weight have equal sizes.
        let mut shape = view.shape.clone();
        if shape.first().is_none_or(|rows| rows % names.len() != 0) {
            return Err(corrupt(format!(
                "`{name}` has shape {shape:?}, which does not split into {} equal parts",
                names.len()
            )));
        }
        shape[0] /= names.len();
        let part = values.len() / names.len();
        let parts = (0..names.len()).map(|index| values[index * part..(index + 1) * part].to_vec());
        tensors.extend(names.into_iter().zip(parts).map(|(name, part)| (name, dtype, shape.clone(), part)));
    }
    let views =
        tensors.iter().map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)));
    let views =
        views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>().map_err(|error| corrupt(error.to_string()))?;
    serialize(views, None).map_err(|error| corrupt(error.to_string()))
}

/// Returns whether a name is made of prefixes of wrappers alone.
fn is_wrapper(mut name: &str) -> bool {
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = rest;
    }
    name.is_empty()
}

/// Returns the tensors of the state dict that `value` is, or has under one of [`STATE_DICT_KEYS`].
fn state_dict(pickle: &Unpickler, value: PickleValue) -> Result<Vec<(&str, &StorageView)>, String> {
    let items = |value: PickleValue| match value {
        PickleValue::Dict(dict) => Ok(&pickle.dicts[dict]),
        _ => Err("the pickle is not a dict of tensors".to_owned()),
    };
    let text = |value: &PickleValue| match value {
        PickleValue::Text(text) => Some(pickle.texts[*text].as_str()),
        _ => None,
    };
    let mut dict = items(value)?;
    for _ in 0..NESTING_MAX {
        let nested = |name: &str| {
            let inner = dict.iter().find(|(key, _)| text(key) == Some(name)).map(|(_, value)| *value)?;
            matches!(inner, PickleValue::Dict(_)).then_some(inner)
        };
        match STATE_DICT_KEYS.iter().find_map(|name| nested(name)) {
            Some(inner) => dict = items(inner)?,
            None => break,
        }
    }
    let tensors: Vec<_> = dict
        .iter()
        .filter_map(|(key, value)| match value {
            PickleValue::Tensor(view) => Some((text(key)?, &pickle.views[*view])),
            _ => None,
        })
        .collect();
    if tensors.is_empty() { Err("the dict holds no tensors".into()) } else { Ok(tensors) }
}

/// An archive of `torch.save`: files in one folder, little-endian, not compressed.
struct TorchArchive<'a> {
    bytes: &'a [u8],
    folder: String,
}

impl<'a> TorchArchive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let archive =
            zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| format!("it is not a zip archive: {error}"))?;
        let pickle = archive.file_names().find_map(|name| name.strip_suffix("/data.pkl"));
        let folder = pickle.ok_or("the archive holds no data.pkl")?.to_owned();
        let archive = Self { bytes, folder };
        match archive.read("byteorder") {
            Ok(order) if order != b"little" => Err("its values are big-endian".into()),
            _ => Ok(archive),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, String> {
        let mut archive = zip::ZipArchive::new(Cursor::new(self.bytes)).map_err(|error| error.to_string())?;
        let file = archive.by_name(&format!("{}/{name}", self.folder)).map_err(|error| format!("{name}: {error}"))?;
        let length = file.size();
        if file.compression() != zip::CompressionMethod::Stored || length > self.bytes.len() as u64 {
            return Err(format!("{name} is compressed, which torch.save does not do"));
        }
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(length).read_to_end(&mut bytes).map_err(|error| format!("{name}: {error}"))?;
        Ok(bytes)
    }

    /// Reads the values of a tensor, row-major.
    fn read_tensor(&self, pickle: &Unpickler, view: &StorageView) -> Result<(Dtype, Vec<u8>), String> {
        let StorageView { storage: TorchStorage { file, dtype }, offset, shape, strides } = view;
        let (dtype, size) = match dtype {
            StoredDtype::F32 => (Dtype::F32, 4),
            StoredDtype::F16 => (Dtype::F16, 2),
            StoredDtype::Bf16 => (Dtype::BF16, 2),
            other => return Err(format!("its dtype is {other}, and weights are F32, F16 or BF16")),
        };
        let bytes = self.read(&format!("data/{}", pickle.texts[*file]))?;
        let outside = || format!("shape {shape:?} with strides {strides:?} from {offset} reaches outside its storage");
        let count = shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side)).ok_or_else(outside)?;
        // A view could repeat elements. Weights do not.
        if count > bytes.len() / size {
            return Err(outside());
        }
        if is_row_major(shape, strides) {
            let range = offset.checked_mul(size).and_then(|begin| Some(begin..begin.checked_add(count * size)?));
            return Ok((dtype, range.and_then(|range| bytes.get(range)).ok_or_else(outside)?.to_vec()));
        }
        let mut values = Vec::with_capacity(count * size);
        let mut index = vec![0; shape.len()];
        for _ in 0..count {
            let place = index
                .iter()
                .zip(strides)
                .try_fold(*offset, |sum, (index, stride): (&usize, _)| sum.checked_add(index.checked_mul(*stride)?));
            let begin = place.and_then(|place| place.checked_mul(size)).ok_or_else(outside)?;
            let element = begin.checked_add(size).and_then(|end| bytes.get(begin..end)).ok_or_else(outside)?;
            values.extend_from_slice(element);
            for (index, side) in index.iter_mut().zip(shape).rev() {
                *index += 1;
                if *index < *side {
                    break;
                }
                *index = 0;
            }
        }
        Ok((dtype, values))
    }
}

/// Returns whether the elements of a view are contiguous and row-major.
fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut step = 1_usize;
    shape.iter().zip(strides).rev().all(|(side, stride)| {
        let next = *side == 1 || *stride == step;
        step = step.saturating_mul(*side);
        next
    })
}

#[cfg(test)]
mod tests;
