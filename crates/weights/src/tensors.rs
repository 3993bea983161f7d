//! Named tensors of one network, read from `<stem>.safetensors` or from the shards that `<stem>.safetensors.index.json`
//! lists. A [`Tensors`] borrows the folder's bytes; only the tensor that is asked for is copied, as f32.
//!
//! [`Tensors::f32`] is the road for weights: it refuses a shape other than the one asked for, a dtype other than F32,
//! F16 and BF16, and a number that is not finite, so a damaged file is found while loading and not in the picture. The
//! roads for recorded values ([`Tensors::any_f32`], [`Tensors::integers`], [`Tensors::u8`]) take any shape and hand out
//! what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::{Adapter, Error, Folder};

const WEIGHT_DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];
const INTEGER_DTYPES: [Dtype; 8] =
    [Dtype::BOOL, Dtype::U8, Dtype::I8, Dtype::U16, Dtype::I16, Dtype::U32, Dtype::I32, Dtype::I64];

/// The tensors of one network, by name.
pub struct Tensors<'folder> {
    /// The file, or the index, that a missing tensor is reported against.
    source: String,
    stored: BTreeMap<String, Stored<'folder>>,
    adapters: Vec<Arc<Adapter>>,
}

#[derive(Clone)]
struct Stored<'folder> {
    file: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Little endian, row major, with no alignment.
    bytes: &'folder [u8],
}

impl<'folder> Tensors<'folder> {
    /// Reads `<dir>/<stem>.safetensors`, or the shards of `<dir>/<stem>.safetensors.index.json` where there is no such
    /// file.
    pub fn open(folder: &'folder Folder, dir: &str, stem: &str) -> Result<Self, Error> {
        let whole = format!("{dir}/{stem}.safetensors");
        let index = format!("{whole}.index.json");
        let mut tensors = match folder.contains(&whole) || !folder.contains(&index) {
            true => Self::file(folder, &whole)?,
            false => Self::shards(folder, dir, index)?,
        };
        tensors.adapters = folder.adapters(dir);
        for (name, shape) in tensors.adapters.iter().flat_map(|adapter| adapter.weights()) {
            let has = tensors.stored.get(name).map(|stored| &stored.shape[..]);
            if has != Some(shape) {
                let has = has.map_or("none".to_owned(), |has| format!("{has:?}"));
                return Err(Error::AdapterDoesNotFit { tensor: name.to_owned(), got: shape.to_vec(), has });
            }
        }
        Ok(tensors)
    }

    /// Reads one safetensors file, whatever it holds.
    pub fn file(folder: &'folder Folder, path: &str) -> Result<Self, Error> {
        Ok(Self { source: path.to_owned(), stored: stored_of(folder, path)?, adapters: Vec::new() })
    }

    fn shards(folder: &'folder Folder, dir: &str, index: String) -> Result<Self, Error> {
        let weight_map = weight_map(folder.bytes(&index)?, &index)?;
        let shard_names: BTreeSet<&String> = weight_map.values().collect();
        let mut shards = BTreeMap::new();
        for name in shard_names {
            shards.insert(name, stored_of(folder, &format!("{dir}/{name}"))?);
        }

        let mut stored = BTreeMap::new();
        for (tensor, shard) in &weight_map {
            let found = shards[shard]
                .get(tensor)
                .ok_or_else(|| Error::MissingTensor { file: format!("{dir}/{shard}"), tensor: tensor.clone() })?;
            stored.insert(tensor.clone(), found.clone());
        }
        Ok(Self { source: index, stored, adapters: Vec::new() })
    }

    /// Every tensor's name, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.stored.keys().map(String::as_str)
    }

    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.stored.contains_key(name)
    }

    pub fn shape(&self, name: &str) -> Result<&[usize], Error> {
        Ok(&self.stored(name)?.shape)
    }

    /// A weight: of this shape, stored as F32, F16 or BF16, and finite throughout.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let stored = self.stored(name)?;
        if stored.shape != shape {
            return Err(Error::WrongShape {
                file: stored.file.clone(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
                got: stored.shape.clone(),
            });
        }
        let mut values = match stored.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 => stored.floats(),
            _ => return Err(stored.wrong_dtype(name, &WEIGHT_DTYPES)),
        };
        self.adapters.iter().for_each(|adapter| adapter.add_to(name, &mut values));
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let value = values[index];
            return Err(Error::NotFinite { file: stored.file.clone(), tensor: name.to_owned(), index, value });
        }
        Ok(values)
    }

    /// A recorded tensor of any shape, of a float or integer dtype, rounded to the nearest f32.
    pub fn any_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), Error> {
        let stored = self.stored(name)?;
        let values = match stored.dtype {
            Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64 => stored.floats(),
            dtype if INTEGER_DTYPES.contains(&dtype) => stored.integers().into_iter().map(|it| it as f32).collect(),
            _ => {
                let accepted = [&WEIGHT_DTYPES[..], &[Dtype::F64], &INTEGER_DTYPES].concat();
                return Err(stored.wrong_dtype(name, &accepted));
            }
        };
        Ok((stored.shape.clone(), values))
    }

    /// A recorded tensor of any shape and of an integer dtype; booleans are 0 and 1.
    pub fn integers(&self, name: &str) -> Result<(Vec<usize>, Vec<i64>), Error> {
        let stored = self.stored(name)?;
        if !INTEGER_DTYPES.contains(&stored.dtype) {
            return Err(stored.wrong_dtype(name, &INTEGER_DTYPES));
        }
        Ok((stored.shape.clone(), stored.integers()))
    }

    /// A recorded tensor of bytes, such as a picture, as it lies in the folder.
    pub fn u8(&self, name: &str) -> Result<(Vec<usize>, &'folder [u8]), Error> {
        let stored = self.stored(name)?;
        match stored.dtype {
            Dtype::U8 => Ok((stored.shape.clone(), stored.bytes)),
            _ => Err(stored.wrong_dtype(name, &[Dtype::U8])),
        }
    }

    fn stored(&self, name: &str) -> Result<&Stored<'folder>, Error> {
        self.stored.get(name).ok_or_else(|| Error::MissingTensor { file: self.source.clone(), tensor: name.to_owned() })
    }
}

impl Stored<'_> {
    fn floats(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => self.numbers(f32::from_le_bytes),
            Dtype::F16 => self.numbers(|bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => self.numbers(|bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::F64 => self.numbers(|bytes| f64::from_le_bytes(bytes) as f32),
            dtype => unreachable!("callers sort out {dtype:?}"),
        }
    }

    fn integers(&self) -> Vec<i64> {
        match self.dtype {
            Dtype::BOOL | Dtype::U8 => self.numbers(|bytes| u8::from_le_bytes(bytes).into()),
            Dtype::I8 => self.numbers(|bytes| i8::from_le_bytes(bytes).into()),
            Dtype::U16 => self.numbers(|bytes| u16::from_le_bytes(bytes).into()),
            Dtype::I16 => self.numbers(|bytes| i16::from_le_bytes(bytes).into()),
            Dtype::U32 => self.numbers(|bytes| u32::from_le_bytes(bytes).into()),
            Dtype::I32 => self.numbers(|bytes| i32::from_le_bytes(bytes).into()),
            Dtype::I64 => self.numbers(i64::from_le_bytes),
            dtype => unreachable!("callers sort out {dtype:?}"),
        }
    }

    fn numbers<const BYTES: usize, T>(&self, read: impl Fn([u8; BYTES]) -> T) -> Vec<T> {
        let (numbers, rest) = self.bytes.as_chunks::<BYTES>();
        assert!(rest.is_empty(), "the header check leaves whole numbers, not {} bytes over", rest.len());
        numbers.iter().map(|bytes| read(*bytes)).collect()
    }

    fn wrong_dtype(&self, name: &str, accepted: &[Dtype]) -> Error {
        Error::WrongDtype {
            file: self.file.clone(),
            tensor: name.to_owned(),
            got: self.dtype,
            accepted: accepted.to_vec(),
        }
    }
}

fn stored_of<'folder>(folder: &'folder Folder, path: &str) -> Result<BTreeMap<String, Stored<'folder>>, Error> {
    let bytes = folder.bytes(path)?;
    let read = SafeTensors::deserialize(bytes).map_err(|error| damage(path, bytes, &error))?;
    let stored = read.tensors().into_iter().map(|(name, view)| {
        let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data());
        (name, Stored { file: path.to_owned(), dtype, shape, bytes })
    });
    Ok(stored.collect())
}

/// Tells a file that ends too early from one whose bytes are wrong. The layout is an 8-byte little-endian header
/// length, the header, the data (safetensors' README, "Format").
fn damage(path: &str, bytes: &[u8], error: &SafeTensorError) -> Error {
    let (file, got) = (path.to_owned(), bytes.len());
    match error {
        SafeTensorError::HeaderTooSmall => {
            Error::Truncated { file, why: format!("{got} bytes, and a header length alone takes 8") }
        }
        SafeTensorError::InvalidHeaderLength => {
            Error::Truncated { file, why: format!("it ends at byte {got}, inside its header") }
        }
        SafeTensorError::MetadataIncompleteBuffer => match declared_bytes(bytes) {
            Some(declared) if got as u64 > declared => {
                Error::Corrupt { file, why: format!("its header describes {declared} bytes, it has {got}") }
            }
            Some(declared) => Error::Truncated { file, why: format!("{got} of {declared} bytes are there") },
            None => Error::Corrupt { file, why: error.to_string() },
        },
        _ => Error::Corrupt { file, why: error.to_string() },
    }
}

/// The whole file's length by its own header: the prefix, the header and the furthest `data_offsets`.
fn declared_bytes(bytes: &[u8]) -> Option<u64> {
    let (prefix, rest) = bytes.split_first_chunk::<8>()?;
    let header_bytes = u64::from_le_bytes(*prefix);
    let header = rest.get(..usize::try_from(header_bytes).ok()?)?;
    let entries: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    let ends = entries.values().filter_map(|entry| entry.get("data_offsets")?.get(1)?.as_u64());
    Some(8 + header_bytes + ends.max()?)
}

/// Tensor name to shard file name, from an index file: `{"metadata": .., "weight_map": {tensor: file}}`.
fn weight_map(bytes: &[u8], file: &str) -> Result<BTreeMap<String, String>, Error> {
    let bad = |error: serde_json::Error| Error::BadJson { file: file.to_owned(), why: error.to_string() };
    let mut index: BTreeMap<String, serde_json::Value> = serde_json::from_slice(bytes).map_err(bad)?;
    let key = "weight_map";
    let map = index.remove(key).ok_or_else(|| Error::MissingKey { file: file.to_owned(), key: key.to_owned() })?;
    serde_json::from_value(map).map_err(bad)
}

#[cfg(test)]
mod tests;
