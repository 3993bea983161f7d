//! Recorded tensors, by name, of a safetensors file that is held in memory: inputs and outputs of networks, adapters. They
//! are of any shape and dtype, and handed out as they are stored; weights have a road of their own, [`crate::Weights`].

use std::collections::{BTreeMap, HashMap};

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::{Error, Folder};

const FLOAT_DTYPES: [Dtype; 4] = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64];
const INTEGER_DTYPES: [Dtype; 8] =
    [Dtype::BOOL, Dtype::U8, Dtype::I8, Dtype::U16, Dtype::I16, Dtype::U32, Dtype::I32, Dtype::I64];

/// The tensors of one file, by name.
pub struct Tensors<'folder> {
    source: String,
    stored: BTreeMap<String, Stored<'folder>>,
    notes: HashMap<String, String>,
}

struct Stored<'folder> {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Little endian, row major, with no alignment.
    bytes: &'folder [u8],
}

impl<'folder> Tensors<'folder> {
    /// Reads one safetensors file, whatever it holds.
    ///
    /// # Errors
    /// A file that is missing, not held in memory, or damaged.
    pub fn file(folder: &'folder Folder, path: &str) -> Result<Self, Error> {
        let bytes = folder.bytes(path)?;
        let read = SafeTensors::deserialize(bytes).map_err(|error| damage(path, bytes, &error))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| damage(path, bytes, &error))?;
        let notes = header.metadata().clone().unwrap_or_default();
        let stored = read.tensors().into_iter().map(|(name, view)| {
            let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data());
            (name, Stored { dtype, shape, bytes })
        });
        Ok(Self { source: path.to_owned(), stored: stored.collect(), notes })
    }

    /// Every tensor's name, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.stored.keys().map(String::as_str)
    }

    /// A text of the file's metadata.
    #[must_use]
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }

    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.stored.contains_key(name)
    }

    pub fn shape(&self, name: &str) -> Result<&[usize], Error> {
        Ok(&self.stored(name)?.shape)
    }

    /// A recorded tensor of any shape, of a float or integer dtype, rounded to the nearest f32.
    pub fn any_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), Error> {
        let stored = self.stored(name)?;
        let values = match stored.dtype {
            dtype if FLOAT_DTYPES.contains(&dtype) => stored.floats(),
            dtype if INTEGER_DTYPES.contains(&dtype) => stored.integers().into_iter().map(|it| it as f32).collect(),
            _ => {
                let accepted = [&FLOAT_DTYPES[..], &INTEGER_DTYPES].concat();
                return Err(self.wrong_dtype(name, stored, &accepted));
            }
        };
        Ok((stored.shape.clone(), values))
    }

    /// A recorded tensor of any shape and of an integer dtype; booleans are 0 and 1.
    pub fn integers(&self, name: &str) -> Result<(Vec<usize>, Vec<i64>), Error> {
        let stored = self.stored(name)?;
        if !INTEGER_DTYPES.contains(&stored.dtype) {
            return Err(self.wrong_dtype(name, stored, &INTEGER_DTYPES));
        }
        Ok((stored.shape.clone(), stored.integers()))
    }

    /// A recorded tensor of bytes, such as a picture, as it lies in the folder.
    pub fn u8(&self, name: &str) -> Result<(Vec<usize>, &'folder [u8]), Error> {
        let stored = self.stored(name)?;
        match stored.dtype {
            Dtype::U8 => Ok((stored.shape.clone(), stored.bytes)),
            _ => Err(self.wrong_dtype(name, stored, &[Dtype::U8])),
        }
    }

    fn stored(&self, name: &str) -> Result<&Stored<'folder>, Error> {
        self.stored.get(name).ok_or_else(|| Error::MissingTensor { file: self.source.clone(), tensor: name.to_owned() })
    }

    fn wrong_dtype(&self, name: &str, stored: &Stored<'_>, accepted: &[Dtype]) -> Error {
        let (file, tensor) = (self.source.clone(), name.to_owned());
        Error::WrongDtype { file, tensor, got: stored.dtype, accepted: accepted.to_vec() }
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
}

/// The bytes of a file of these tensors, each with its name, dtype, shape and bytes, and with texts as metadata.
///
/// # Panics
/// Where bytes do not fit a shape.
#[must_use]
pub fn written(tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>, notes: HashMap<String, String>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).expect("bytes that fit the shape"))
    });
    safetensors::serialize(views, Some(notes)).expect("tensors of known size can be laid out")
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

#[cfg(test)]
mod tests;
