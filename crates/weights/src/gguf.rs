//! The header of a GGUF file: metadata, and dtypes, shapes and byte ranges of its tensors, read without the tensors.
//!
//! Layout (ggml's `docs/gguf.md`): `GGUF`, version, counts of tensors and metadata, the metadata, the tensors' descriptions, then the
//! data at a multiple of `general.alignment`. Versions 2 and 3 are read. Numbers are little-endian.

use std::collections::BTreeMap;

use crate::tensor_location::TensorLocation;
use crate::{Error, Folder, StoredDtype, TensorLayout};

mod dequantize;
mod ggml_type;
mod names;
#[cfg(test)]
mod tests;

pub use ggml_type::GgmlType;

pub(crate) use dequantize::{affine_block, dequantize, dequantize_into, integers};
pub(crate) use names::{is_t5, renamed_t5, t5_module_from_flat};
pub use names::{is_text_encoder_tensor, llama_cpp_name, text_encoder_tensor_names};

const MAGIC: &[u8] = b"GGUF";
/// Bytes of the header that are read first. A tokenizer in it takes megabytes more.
const FIRST_BYTES: u64 = 1 << 20;
const ALIGNMENT_KEY: &[u8] = b"general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;
/// Axes of a ggml tensor.
const AXES_MAX: u32 = 4;
/// Metadata arrays within arrays.
const NESTING_MAX: usize = 4;

/// Reads the header of the file `path`.
///
/// # Errors
/// A file that is truncated or damaged, of another version, or with a tensor of a type that is not supported.
pub(crate) async fn read_gguf_header(folder: &Folder, path: &str) -> Result<BTreeMap<String, TensorLocation>, Error> {
    let length = folder.length(path)?;
    let mut size = FIRST_BYTES.min(length);
    loop {
        let bytes = folder.read(path, 0..size).await?;
        match parse(path, &bytes, length) {
            Err(Stop::MoreBytes) if size < length => size = size.saturating_mul(2).min(length),
            Err(Stop::MoreBytes) => {
                let why = format!("the file ends at byte {length}, inside its header");
                return Err(Error::Truncated { file: path.to_owned(), why });
            }
            Err(Stop::Because(error)) => return Err(error),
            Ok(tensors) => return Ok(tensors),
        }
    }
}

/// The reason that a header cannot be parsed.
enum Stop {
    /// The bytes end inside it.
    MoreBytes,
    Because(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Because(error)
    }
}

/// The bytes of a header that are not parsed yet.
struct Cursor<'a> {
    path: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn corrupt(&self, why: String) -> Stop {
        Stop::Because(Error::Corrupt { file: self.path.to_owned(), why })
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], Stop> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or(Stop::MoreBytes)?;
        self.at += taken.len();
        Ok(taken)
    }

    fn number<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Stop> {
        Ok(self.take(BYTES as u64)?.try_into().expect("as many bytes as were asked for"))
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    fn u64(&mut self) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.number()?))
    }

    fn string(&mut self) -> Result<&'a [u8], Stop> {
        let length = self.u64()?;
        self.take(length)
    }

    /// Returns the bytes of a metadata value of a fixed size; skips strings and arrays, and returns none.
    fn value(&mut self, kind: u32, nesting: usize) -> Result<Option<&'a [u8]>, Stop> {
        const STRING: u32 = 8;
        const ARRAY: u32 = 9;
        let scalar_bytes = |kind: u32| match kind {
            0 | 1 | 7 => Some(1),
            2 | 3 => Some(2),
            4..=6 => Some(4),
            10..=12 => Some(8),
            _ => None,
        };
        if let Some(bytes) = scalar_bytes(kind) {
            return self.take(bytes).map(Some);
        }
        match kind {
            STRING => self.string().map(|_| None),
            ARRAY if nesting < NESTING_MAX => {
                let (kind, count) = (self.u32()?, self.u64()?);
                if let Some(bytes) = scalar_bytes(kind) {
                    self.take(count.saturating_mul(bytes))?;
                    return Ok(None);
                }
                for _ in 0..count {
                    self.value(kind, nesting + 1)?;
                }
                Ok(None)
            }
            _ => Err(self.corrupt(format!("a metadata value has the type {kind}"))),
        }
    }
}

fn parse(path: &str, bytes: &[u8], length: u64) -> Result<BTreeMap<String, TensorLocation>, Stop> {
    let mut cursor = Cursor { path, bytes, at: 0 };
    if cursor.take(MAGIC.len() as u64)? != MAGIC {
        return Err(cursor.corrupt("it does not begin with GGUF".into()));
    }
    let version = cursor.u32()?;
    if !(2..=3).contains(&version) {
        let (file, key) = (path.to_owned(), "version".to_owned());
        return Err(Stop::Because(Error::Unsupported { file, key, why: format!("it is {version}, expected 2 or 3") }));
    }
    let (tensors, values) = (cursor.u64()?, cursor.u64()?);
    let mut alignment = DEFAULT_ALIGNMENT;
    for _ in 0..values {
        let (key, kind) = (cursor.string()?, cursor.u32()?);
        let value = cursor.value(kind, 0)?;
        if key == ALIGNMENT_KEY {
            let bytes = value.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
            alignment = bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(bytes)));
        }
    }
    if !alignment.is_power_of_two() {
        return Err(cursor.corrupt(format!("general.alignment is {alignment}, not a power of two")));
    }
    let mut described = Vec::new();
    for _ in 0..tensors {
        let name = String::from_utf8(cursor.string()?.to_vec());
        let name = name.map_err(|_| cursor.corrupt("the name of a tensor is no UTF-8".into()))?;
        let axes = cursor.u32()?;
        if axes > AXES_MAX {
            return Err(cursor.corrupt(format!("`{name}` has {axes} axes")));
        }
        // The first axis of ggml is the last of torch.
        let mut shape = Vec::new();
        for _ in 0..axes {
            let side = cursor.u64()?;
            // No file has an empty tensor, and loops over its rows could take forever.
            let held = usize::try_from(side).ok().filter(|side| *side > 0);
            shape.insert(0, held.ok_or_else(|| cursor.corrupt(format!("`{name}` has an axis of {side}")))?);
        }
        let (kind, offset) = (cursor.u32()?, cursor.u64()?);
        described.push((name, shape, kind, offset));
    }
    let data = (cursor.at as u64).next_multiple_of(alignment);
    let mut located = BTreeMap::new();
    for (name, shape, kind, offset) in described {
        let unsupported = |why: String| Error::Unsupported { file: path.to_owned(), key: name.clone(), why };
        let dtype = StoredDtype::from_ggml(kind);
        let dtype = dtype.ok_or_else(|| unsupported(format!("its type is number {kind} of ggml")))?;
        let layout = TensorLayout::row_major(dtype);
        let (Some(bytes), Some(start)) = (layout.bytes(&shape), data.checked_add(offset)) else {
            let why = format!("a tensor of shape {shape:?} cannot be stored as {dtype}");
            return Err(Stop::Because(unsupported(why)));
        };
        let end = start.checked_add(bytes).filter(|end| *end <= length);
        let Some(end) = end else {
            let why = format!("`{name}` takes {bytes} bytes from byte {start} on, and the file has {length}");
            return Err(Stop::Because(Error::Truncated { file: path.to_owned(), why }));
        };
        let location = TensorLocation { file: path.to_owned(), layout, shape, range: start..end };
        if located.insert(name.clone(), location).is_some() {
            return Err(cursor.corrupt(format!("`{name}` is there twice")));
        }
    }
    Ok(located)
}
