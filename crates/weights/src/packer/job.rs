//! One tensor on its way into a packed checkpoint: the pieces it is read in, and what each becomes.

use std::ops::Range;

use half::{bf16, f16};
use safetensors::Dtype;

use super::PIECE;
use crate::manifest::{Form, Kept};
use crate::{BLOCK, Error, Packed, Precision, transposed};

/// Columns that a band of a matrix has a multiple of, so that each precision's words are whole.
const BAND: usize = 8;

/// One tensor to be converted.
pub(super) struct Job {
    pub(super) section: &'static str,
    pub(super) dir: String,
    pub(super) name: String,
    pub(super) file: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// In the file.
    pub(super) range: Range<u64>,
    pub(super) form: Form,
    pub(super) kept_bytes: u64,
}

impl Job {
    fn element(&self) -> u64 {
        match self.dtype {
            Dtype::F32 => 4,
            Dtype::U8 => 1,
            _ => 2,
        }
    }

    /// The parts of the file that are read one by one. Those of a matrix are bands of whole rows.
    pub(super) fn pieces(&self) -> Vec<Range<u64>> {
        let row = if self.form.transposed { self.shape[1] as u64 * self.element() } else { self.element() };
        let rows = if self.form.transposed { BAND as u64 } else { 1 };
        let step = (PIECE / (row * rows).max(1)).max(1) * row * rows;
        let Range { start, end } = self.range;
        if start == end {
            return std::iter::once(start..end).collect();
        }
        (start..end).step_by(step as usize).map(|from| from..end.min(from + step)).collect()
    }

    fn values(&self, bytes: &[u8]) -> Result<Vec<f32>, Error> {
        let halves = |read: fn([u8; 2]) -> f32| bytes.as_chunks::<2>().0.iter().map(|half| read(*half)).collect();
        let values: Vec<f32> = match self.dtype {
            Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            Dtype::F16 => halves(|half| f16::from_le_bytes(half).to_f32()),
            _ => halves(|half| bf16::from_le_bytes(half).to_f32()),
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(index) => {
                let (file, tensor) = (self.file.clone(), self.name.clone());
                Err(Error::NotFinite { file, tensor, index, value: values[index] })
            }
            None => Ok(values),
        }
    }

    fn too_large(&self, value: f32) -> Error {
        Error::TooLargeForHalf { file: self.file.clone(), tensor: self.name.clone(), value }
    }

    /// A piece of a row-major tensor.
    pub(super) fn converted(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        if self.form.dtype == Kept::U8 {
            return Ok(bytes);
        }
        let values = self.values(&bytes)?;
        if self.form.dtype == Kept::F32 {
            return Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect());
        }
        if let Some(value) = values.iter().find(|value| !f16::from_f32(**value).is_finite()) {
            return Err(self.too_large(*value));
        }
        Ok(values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect())
    }

    /// Adds a band of rows of `[outputs, inputs]` as columns to `matrix` `[inputs, outputs]`.
    pub(super) fn band(&self, bytes: &[u8], at: u64, precision: Precision, matrix: &mut Vec<u32>) -> Result<(), Error> {
        let [outputs, inputs] = [self.shape[0], self.shape[1]];
        matrix.resize(precision.bytes(inputs, outputs) / 4, 0);
        let values = self.values(bytes)?;
        let first = ((at - self.range.start) / self.element()) as usize / inputs.max(1);
        let columns = values.len() / inputs.max(1);
        let packed = Packed::new(&transposed(&values, columns, inputs), [inputs, columns], precision);
        if let Some((_, value)) = packed.not_finite() {
            return Err(self.too_large(value));
        }
        let numbers = |columns: usize| inputs * columns * precision.bits() / 32;
        let rows = [(0, 0, inputs, precision.bits())];
        let scales = [(numbers(outputs), numbers(columns), inputs / BLOCK, 16)];
        let has_scales = matches!(precision, Precision::Q8 | Precision::Q4);
        for (to, from, rows, bits) in rows.into_iter().chain(scales.into_iter().filter(|_| has_scales)) {
            let words = columns * bits / 32;
            for row in 0..rows {
                let to = to + (row * outputs + first) * bits / 32;
                let from = from + row * words;
                matrix[to..to + words].copy_from_slice(&packed.words[from..from + words]);
            }
        }
        Ok(())
    }
}
