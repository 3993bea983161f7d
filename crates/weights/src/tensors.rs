//! The tensors of a safetensors file in memory, by name: recorded inputs and outputs of networks, LoRA adapters.
//!
//! Tensors of any shape and dtype are returned as they are stored. Weights of networks are read with [`crate::Weights`].

use std::collections::{BTreeMap, HashMap};

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::Error;

const FLOAT_DTYPES: [Dtype; 4] = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64];
const INTEGER_DTYPES: [Dtype; 8] =
    [Dtype::BOOL, Dtype::U8, Dtype::I8, Dtype::U16, Dtype::I16, Dtype::U32, Dtype::I32, Dtype::I64];

/// The tensors of one file, by name.
///
/// ```
/// use std::collections::HashMap;
///
/// use pixart_weights::{Dtype, Tensors, serialize_tensors};
///
/// let file = serialize_tensors(vec![("mask".to_owned(), Dtype::BOOL, vec![2], vec![1, 0])], HashMap::new());
/// let tensors = Tensors::parse("io.safetensors", &file)?;
/// assert_eq!(tensors.integers("mask")?, (vec![2], vec![1, 0]));
/// # Ok::<(), pixart_weights::Error>(())
/// ```
pub struct Tensors<'bytes> {
    /// The file that errors name.
    file: String,
    tensors: BTreeMap<String, TensorBytes<'bytes>>,
    metadata: HashMap<String, String>,
}

struct TensorBytes<'bytes> {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Little-endian, row-major, without alignment.
    bytes: &'bytes [u8],
}

/// A float or integer tensor as its file holds it, which takes less memory than its values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredTensor {
    dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl StoredTensor {
    /// Returns the values, each rounded to the nearest f32.
    pub(crate) fn values(&self) -> Vec<f32> {
        TensorBytes { dtype: self.dtype, shape: Vec::new(), bytes: &self.bytes }.values()
    }
}

impl<'bytes> Tensors<'bytes> {
    /// Parses a safetensors file; errors name it `file`.
    ///
    /// # Errors
    /// A file that is truncated or damaged.
    pub fn parse(file: &str, bytes: &'bytes [u8]) -> Result<Self, Error> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| damage(file, bytes, &error))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| damage(file, bytes, &error))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let tensors = tensors.tensors().into_iter().map(|(name, view)| {
            let (dtype, shape, bytes) = (view.dtype(), view.shape().to_vec(), view.data());
            (name, TensorBytes { dtype, shape, bytes })
        });
        Ok(Self { file: file.to_owned(), tensors: tensors.collect(), metadata })
    }

    /// Returns the names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns a text of the file's metadata.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Returns whether the file has a tensor of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns the shape of a tensor.
    ///
    /// # Errors
    /// A tensor that is missing.
    pub fn shape(&self, name: &str) -> Result<&[usize], Error> {
        Ok(&self.tensor(name)?.shape)
    }

    /// Returns the dtype of a tensor, if there is one of this name.
    #[must_use]
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.tensors.get(name).map(|tensor| tensor.dtype)
    }

    /// Returns the shape and values of a float or integer tensor, each rounded to the nearest f32.
    ///
    /// # Errors
    /// A tensor that is missing or of another dtype.
    pub fn any_f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), Error> {
        let tensor = self.number_tensor(name)?;
        Ok((tensor.shape.clone(), tensor.values()))
    }

    /// Returns a copy of a float or integer tensor.
    pub(crate) fn stored(&self, name: &str) -> Result<StoredTensor, Error> {
        let TensorBytes { dtype, shape, bytes } = self.number_tensor(name)?;
        Ok(StoredTensor { dtype: *dtype, shape: shape.clone(), bytes: bytes.to_vec() })
    }

    fn number_tensor(&self, name: &str) -> Result<&TensorBytes<'bytes>, Error> {
        let tensor = self.tensor(name)?;
        let accepted = [&FLOAT_DTYPES[..], &INTEGER_DTYPES].concat();
        if accepted.contains(&tensor.dtype) { Ok(tensor) } else { Err(self.wrong_dtype(name, tensor, &accepted)) }
    }

    /// Returns the shape and values of an integer tensor; booleans are 0 and 1.
    ///
    /// # Errors
    /// A tensor that is missing or of another dtype.
    pub fn integers(&self, name: &str) -> Result<(Vec<usize>, Vec<i64>), Error> {
        let tensor = self.tensor(name)?;
        if !INTEGER_DTYPES.contains(&tensor.dtype) {
            return Err(self.wrong_dtype(name, tensor, &INTEGER_DTYPES));
        }
        Ok((tensor.shape.clone(), tensor.integers()))
    }

    /// Returns the shape and bytes of a U8 tensor, such as an image, without a copy.
    ///
    /// # Errors
    /// A tensor that is missing or of another dtype.
    pub fn u8(&self, name: &str) -> Result<(Vec<usize>, &'bytes [u8]), Error> {
        let tensor = self.tensor(name)?;
        match tensor.dtype {
            Dtype::U8 => Ok((tensor.shape.clone(), tensor.bytes)),
            _ => Err(self.wrong_dtype(name, tensor, &[Dtype::U8])),
        }
    }

    fn tensor(&self, name: &str) -> Result<&TensorBytes<'bytes>, Error> {
        self.tensors.get(name).ok_or_else(|| Error::MissingTensor { file: self.file.clone(), tensor: name.to_owned() })
    }

    fn wrong_dtype(&self, name: &str, tensor: &TensorBytes<'_>, accepted: &[Dtype]) -> Error {
        let accepted = accepted.iter().map(|dtype| (*dtype).into()).collect();
        Error::WrongDtype { file: self.file.clone(), tensor: name.to_owned(), got: tensor.dtype.into(), accepted }
    }
}

impl TensorBytes<'_> {
    fn values(&self) -> Vec<f32> {
        if FLOAT_DTYPES.contains(&self.dtype) {
            return self.floats();
        }
        self.integers().into_iter().map(|integer| integer as f32).collect()
    }

    fn floats(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => self.elements(f32::from_le_bytes),
            Dtype::F16 => self.elements(|bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => self.elements(|bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::F64 => self.elements(|bytes| f64::from_le_bytes(bytes) as f32),
            dtype => unreachable!("callers exclude {dtype}"),
        }
    }

    fn integers(&self) -> Vec<i64> {
        match self.dtype {
            Dtype::BOOL | Dtype::U8 => self.elements(|bytes| u8::from_le_bytes(bytes).into()),
            Dtype::I8 => self.elements(|bytes| i8::from_le_bytes(bytes).into()),
            Dtype::U16 => self.elements(|bytes| u16::from_le_bytes(bytes).into()),
            Dtype::I16 => self.elements(|bytes| i16::from_le_bytes(bytes).into()),
            Dtype::U32 => self.elements(|bytes| u32::from_le_bytes(bytes).into()),
            Dtype::I32 => self.elements(|bytes| i32::from_le_bytes(bytes).into()),
            Dtype::I64 => self.elements(i64::from_le_bytes),
            dtype => unreachable!("callers exclude {dtype}"),
        }
    }

    fn elements<const BYTES: usize, T>(&self, element: impl Fn([u8; BYTES]) -> T) -> Vec<T> {
        let (elements, rest) = self.bytes.as_chunks::<BYTES>();
        assert!(rest.is_empty(), "header checks leave whole elements, not {} bytes over", rest.len());
        elements.iter().map(|bytes| element(*bytes)).collect()
    }
}

/// Writes a safetensors file of tensors, each a name, dtype, shape and bytes, with texts as metadata.
///
/// # Panics
/// If the bytes of a tensor do not match its shape and dtype.
#[must_use]
pub fn serialize_tensors(
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
    metadata: HashMap<String, String>,
) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).expect("the bytes match the shape"))
    });
    safetensors::serialize(views, Some(metadata)).expect("tensors of known size can be laid out")
}

/// Distinguishes a file that ends too early from one whose bytes are wrong.
fn damage(path: &str, bytes: &[u8], error: &SafeTensorError) -> Error {
    let (file, got) = (path.to_owned(), bytes.len());
    match error {
        SafeTensorError::HeaderTooSmall => {
            Error::Truncated { file, why: format!("the file has {got} bytes, and the header length alone takes 8") }
        }
        SafeTensorError::InvalidHeaderLength => {
            Error::Truncated { file, why: format!("the file ends at byte {got}, inside its header") }
        }
        SafeTensorError::MetadataIncompleteBuffer => match declared_bytes(bytes) {
            Some(declared) if got as u64 > declared => {
                Error::Corrupt { file, why: format!("the header describes {declared} bytes, the file has {got}") }
            }
            Some(declared) => Error::Truncated { file, why: format!("{got} of {declared} bytes are there") },
            None => Error::Corrupt { file, why: error.to_string() },
        },
        _ => Error::Corrupt { file, why: error.to_string() },
    }
}

/// Returns the length of the file that its header declares: prefix, header and the largest of `data_offsets`.
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
