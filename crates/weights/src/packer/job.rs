//! The conversion of one tensor: the chunks it is read in, and the bytes that each becomes.

use std::ops::Range;

use half::{bf16, f16};

use super::CHUNK_BYTES;
use crate::header::TensorLocation;
use crate::{BLOCK, Error, QuantizedMatrix, StoredDtype, TensorLayout, WeightFormat, transposed};

/// Output rows that a chunk of a matrix is a multiple of, so that the words of every format are whole.
const ROW_GROUP: u64 = 8;

/// One tensor to be packed.
pub(super) struct TensorJob {
    pub(super) section: &'static str,
    pub(super) dir: String,
    pub(super) name: String,
    pub(super) source: TensorLocation,
    pub(super) layout: TensorLayout,
    pub(super) packed_bytes: u64,
}

impl TensorJob {
    fn element_bytes(&self) -> u64 {
        self.source.layout.dtype.element_bytes().expect("a source tensor is row-major")
    }

    /// Returns the ranges of the file that are read one by one. Those of a matrix hold whole rows.
    pub(super) fn chunks(&self) -> Vec<Range<u64>> {
        let element = self.element_bytes();
        let group = if self.layout.transposed { self.source.shape[1] as u64 * element * ROW_GROUP } else { element };
        let step = (CHUNK_BYTES / group.max(1)).max(1) * group;
        let Range { start, end } = self.source.range;
        if start == end {
            return std::iter::once(start..end).collect();
        }
        (start..end).step_by(step as usize).map(|from| from..end.min(from + step)).collect()
    }

    fn values(&self, bytes: &[u8]) -> Result<Vec<f32>, Error> {
        let halves = |value: fn([u8; 2]) -> f32| bytes.as_chunks::<2>().0.iter().map(|half| value(*half)).collect();
        let values: Vec<f32> = match self.source.layout.dtype {
            StoredDtype::F32 => bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            StoredDtype::F16 => halves(|half| f16::from_le_bytes(half).to_f32()),
            _ => halves(|half| bf16::from_le_bytes(half).to_f32()),
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => {
                let (file, tensor) = (self.source.file.clone(), self.name.clone());
                Err(Error::NotFinite { file, tensor, index, value: values[index] })
            }
            None => Ok(values),
        }
    }

    fn too_large(&self, value: f32) -> Error {
        Error::TooLargeForF16 { file: self.source.file.clone(), tensor: self.name.clone(), value }
    }

    /// Converts a chunk of a row-major tensor.
    pub(super) fn convert(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        if self.layout.dtype == StoredDtype::U8 {
            return Ok(bytes);
        }
        let values = self.values(&bytes)?;
        if self.layout.dtype == StoredDtype::F32 {
            return Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect());
        }
        if let Some(value) = values.iter().find(|value| !f16::from_f32(**value).is_finite()) {
            return Err(self.too_large(*value));
        }
        Ok(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect())
    }

    /// Quantizes a chunk of rows of `[outputs, inputs]`, found at byte `at` of the file, into the columns of `matrix`
    /// `[inputs, outputs]`.
    pub(super) fn quantize_rows(
        &self,
        bytes: &[u8],
        at: u64,
        format: WeightFormat,
        matrix: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let [outputs, inputs] = self.source.shape[..].try_into().expect("a transposed tensor has two axes");
        matrix.resize(format.bytes(inputs, outputs) / 4, 0);
        let values = self.values(bytes)?;
        let first = ((at - self.source.range.start) / self.element_bytes()) as usize / inputs.max(1);
        let columns = values.len() / inputs.max(1);
        let part = QuantizedMatrix::new(&transposed(&values, columns, inputs), [inputs, columns], format);
        if let Some((_, value)) = part.find_non_finite() {
            return Err(self.too_large(value));
        }
        let value_words = |columns: usize| inputs * columns * format.bits() / 32;
        let values = (0, 0, inputs, format.bits());
        let scales = format.has_scales().then(|| (value_words(outputs), value_words(columns), inputs / BLOCK, 16));
        for (to, from, rows, bits) in std::iter::once(values).chain(scales) {
            let words = columns * bits / 32;
            for row in 0..rows {
                let to = to + (row * outputs + first) * bits / 32;
                let from = from + row * words;
                matrix[to..to + words].copy_from_slice(&part.words[from..from + words]);
            }
        }
        Ok(())
    }
}
