//! The conversion of one tensor: the chunks it is read in, and the bytes that each becomes.

use std::ops::Range;

use half::f16;

use super::CHUNK_BYTES;
use crate::tensor_location::TensorLocation;
use crate::{Error, QuantizedMatrix, StoredDtype, TensorLayout, WeightFormat, transposed};

/// Output rows that a chunk of a matrix is a multiple of, so that the words of every format are whole.
const ROW_GROUP: u64 = 8;

/// One tensor to be packed.
pub(super) struct TensorJob {
    pub(super) section: &'static str,
    pub(super) dir: String,
    pub(super) name: String,
    pub(super) source: TensorLocation,
    /// Factor of the source's values.
    pub(super) scale: f32,
    pub(super) layout: TensorLayout,
    pub(super) packed_bytes: u64,
}

impl TensorJob {
    /// Returns the values and bytes of the source's smallest unit: an element, or a block of ggml.
    fn unit(&self) -> (usize, u64) {
        match self.source.layout.dtype {
            StoredDtype::Ggml(ggml_type) => (ggml_type.block_values(), ggml_type.block_bytes() as u64),
            dtype => (1, dtype.element_bytes().expect("a source tensor is row-major")),
        }
    }

    /// Returns the ranges of the file that are read one by one. Those of a matrix hold whole rows.
    pub(super) fn chunks(&self) -> Vec<Range<u64>> {
        let (values, bytes) = self.unit();
        let group = match self.layout.transposed {
            true => self.source.shape[1] as u64 / values as u64 * bytes * ROW_GROUP,
            false => bytes,
        };
        let step = (CHUNK_BYTES / group.max(1)).max(1) * group;
        let Range { start, end } = self.source.range;
        if start == end {
            return std::iter::once(start..end).collect();
        }
        (start..end).step_by(step as usize).map(|from| from..end.min(from + step)).collect()
    }

    /// Returns the values of a part of the tensor that begins at the element `first`.
    fn values(&self, bytes: &[u8], first: usize) -> Result<Vec<f32>, Error> {
        let dtype = self.source.layout.dtype;
        let decoded = dtype.decode(bytes).ok_or_else(|| Error::weight_dtype(&self.source.file, &self.name, dtype))?;
        let values: Vec<f32> = decoded.into_iter().map(|value| value * self.scale).collect();
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => {
                let (file, tensor) = (self.source.file.clone(), self.name.clone());
                Err(Error::NotFinite { file, tensor, index: first + index, value: values[index] })
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
        let values = self.values(&bytes, 0)?;
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
        let (unit_values, unit_bytes) = self.unit();
        let row_bytes = inputs / unit_values * unit_bytes as usize;
        let first = (at - self.source.range.start) as usize / row_bytes.max(1);
        let columns = bytes.len() / row_bytes.max(1);
        // Threads take whole groups of rows, so that the words of each are whole.
        let group = columns.div_ceil(threads()).next_multiple_of(ROW_GROUP as usize).max(ROW_GROUP as usize);
        let quantized = |rows: &[u8], row: usize| {
            let columns = rows.len() / row_bytes.max(1);
            let part = match self.source.layout.dtype {
                StoredDtype::Ggml(ggml_type) if ggml_type.same_numbers() == Some(format) => {
                    QuantizedMatrix::from_integer_blocks(rows, [inputs, columns], ggml_type)
                }
                _ => {
                    let values = self.values(rows, row * inputs)?;
                    QuantizedMatrix::new(&transposed(&values, columns, inputs), [inputs, columns], format)
                }
            };
            match part.find_non_finite() {
                Some((_, value)) => Err(self.too_large(value)),
                None => Ok(part),
            }
        };
        let rows = bytes.chunks((group * row_bytes).max(1)).zip((first..).step_by(group));
        let parts: Vec<Result<QuantizedMatrix, Error>> = if columns <= group {
            rows.map(|(rows, row)| quantized(rows, row)).collect()
        } else {
            std::thread::scope(|scope| {
                let quantized = &quantized;
                let started: Vec<_> = rows.map(|(rows, row)| scope.spawn(move || quantized(rows, row))).collect();
                let finish = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                started.into_iter().map(finish).collect()
            })
        };
        for (part, first) in parts.into_iter().zip((first..).step_by(group)) {
            part?.place_columns(matrix, outputs, first);
        }
        Ok(())
    }
}

/// Returns the number of threads that quantize: one in a tab.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
