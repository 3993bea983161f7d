//! The conversion of a row-major tensor, a few rows at a time, so that no tensor is ever whole in f32.

use std::ops::Range;

use crate::tensor_location::TensorLocation;
use crate::{Error, QuantizedMatrix, StoredDtype, WeightFormat, transposed};

/// Output rows that a part of a matrix is a multiple of, so that the words of every format are whole.
pub(crate) const ROW_GROUP: u64 = 8;

/// A row-major tensor in its file.
#[derive(Clone, Copy)]
pub(crate) struct StoredRows<'a> {
    pub(crate) name: &'a str,
    pub(crate) tensor: &'a TensorLocation,
    /// Factor of the values.
    pub(crate) scale: f32,
}

impl StoredRows<'_> {
    /// Returns the values and bytes of the smallest unit: an element, or a block of ggml.
    fn unit(&self) -> (usize, u64) {
        match self.tensor.layout.dtype {
            StoredDtype::Ggml(ggml_type) => (ggml_type.block_values(), ggml_type.block_bytes() as u64),
            dtype => (1, dtype.element_bytes().expect("a row-major tensor has elements or blocks")),
        }
    }

    /// Returns the ranges of the file of about `bytes` that are read one by one. Those of a matrix that is `transposed` hold whole
    /// groups of rows.
    pub(crate) fn chunks(&self, bytes: u64, transposed: bool) -> Vec<Range<u64>> {
        let (values, unit_bytes) = self.unit();
        let group = match transposed {
            true => self.tensor.shape[1] as u64 / values as u64 * unit_bytes * ROW_GROUP,
            false => unit_bytes,
        };
        let step = (bytes / group.max(1)).max(1) * group;
        let Range { start, end } = self.tensor.range;
        if start == end {
            return std::iter::once(start..end).collect();
        }
        (start..end).step_by(step as usize).map(|from| from..end.min(from + step)).collect()
    }

    /// Returns the values of a part of the tensor that begins at the element `first`.
    pub(crate) fn values(&self, bytes: &[u8], first: usize) -> Result<Vec<f32>, Error> {
        let TensorLocation { file, layout, .. } = self.tensor;
        let decoded = layout.dtype.decode(bytes);
        let mut values = decoded.ok_or_else(|| Error::weight_dtype(file, self.name, layout.dtype))?;
        if self.scale != 1.0 {
            values.iter_mut().for_each(|value| *value *= self.scale);
        }
        // A run is tested without branches. Only the run that fails is searched.
        const RUN: usize = 4096;
        let is_finite = |run: &[f32]| run.iter().fold(true, |all, value| all & value.is_finite());
        match values.chunks(RUN).position(|run| !is_finite(run)) {
            Some(run) => {
                let mut values = values.into_iter().enumerate().skip(run * RUN);
                let (index, value) = values.find(|(_, value)| !value.is_finite()).expect("the run has one");
                Err(self.not_finite(first + index, value))
            }
            None => Ok(values),
        }
    }

    fn not_finite(&self, index: usize, value: f32) -> Error {
        Error::NotFinite { file: self.tensor.file.clone(), tensor: self.name.to_owned(), index, value }
    }

    pub(crate) fn too_large(&self, value: f32) -> Error {
        Error::TooLargeForF16 { file: self.tensor.file.clone(), tensor: self.name.to_owned(), value }
    }

    /// Converts a chunk of rows of `[outputs, inputs]`, found at byte `at` of the file, to columns of `words`, a matrix `[inputs,
    /// outputs]` in `format`, on every core. Blocks of ggml with the numbers of `format` are not rounded.
    ///
    /// # Errors
    /// A value that is not finite, or a value or scale beyond f16.
    pub(crate) fn quantize(
        &self,
        bytes: &[u8],
        at: u64,
        format: WeightFormat,
        words: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let [outputs, inputs] = self.tensor.shape[..].try_into().expect("a transposed tensor has two axes");
        words.resize(format.bytes(inputs, outputs) / 4, 0);
        let (unit_values, unit_bytes) = self.unit();
        let row_bytes = inputs / unit_values * unit_bytes as usize;
        let first = (at - self.tensor.range.start) as usize / row_bytes.max(1);
        let columns = bytes.len() / row_bytes.max(1);
        // Threads take whole groups of rows, so that the words of each are whole.
        let group = columns.div_ceil(threads()).next_multiple_of(ROW_GROUP as usize).max(ROW_GROUP as usize);
        let quantized = |rows: &[u8], row: usize| {
            let columns = rows.len() / row_bytes.max(1);
            match self.tensor.layout.dtype {
                StoredDtype::Ggml(ggml_type) if ggml_type.same_numbers() == Some(format) => {
                    match ggml_type.find_non_finite(rows) {
                        Some((index, scale)) => Err(self.not_finite(row * inputs + index, scale)),
                        None => Ok(QuantizedMatrix::from_integer_blocks(rows, [inputs, columns], ggml_type)),
                    }
                }
                _ => {
                    let values = transposed(&self.values(rows, row * inputs)?, columns, inputs);
                    let part = QuantizedMatrix::new(&values, [inputs, columns], format);
                    match part.find_non_finite() {
                        Some((_, value)) => Err(self.too_large(value)),
                        None => Ok(part),
                    }
                }
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
            part?.place_columns(words, outputs, first);
        }
        Ok(())
    }
}

/// Returns the number of threads that quantize: one in a tab.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
