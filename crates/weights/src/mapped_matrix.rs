//! Weight matrices that stay in a memory-mapped file. Nothing is copied, and the operating system can drop pages and read
//! them again.

use std::ops::Range;
use std::sync::Arc;

use half::bf16;

use crate::WeightFormat;

/// A byte range of a memory-mapped file.
#[derive(Clone)]
pub struct MappedBytes {
    pub file: Arc<dyn AsRef<[u8]> + Send + Sync>,
    pub range: Range<usize>,
}

impl MappedBytes {
    fn bytes(&self) -> &[u8] {
        &(*self.file).as_ref()[self.range.clone()]
    }
}

/// The order of columns in a matrix that is made of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnOrder {
    /// All columns of the first matrix, then all of the second, and so on.
    Concatenated,
    /// Four columns of each matrix in turn.
    Interleaved,
}

/// A matrix `[inputs, outputs]`, made of parts that are stored as `[outputs, inputs]` each, in f32 or bf16, little-endian.
#[derive(Clone)]
pub struct MappedMatrix {
    parts: Vec<MappedBytes>,
    order: ColumnOrder,
    /// `[inputs, outputs]` of each part.
    part_shape: [usize; 2],
    format: WeightFormat,
}

impl MappedMatrix {
    /// Makes one matrix of parts of shape `[inputs, outputs]`.
    ///
    /// # Panics
    /// If the bytes of a part do not match the shape, or the format is neither f32 nor bf16.
    #[must_use]
    pub fn new(parts: Vec<MappedBytes>, order: ColumnOrder, part_shape: [usize; 2], format: WeightFormat) -> Self {
        let [inputs, outputs] = part_shape;
        assert!(matches!(format, WeightFormat::F32 | WeightFormat::Bf16), "a mapped matrix in {format}");
        let bytes = format.bytes(inputs, outputs);
        assert!(parts.iter().all(|part| part.bytes().len() == bytes), "parts of {bytes} bytes");
        Self { parts, order, part_shape, format }
    }

    /// Returns `[inputs, outputs]` of the whole matrix.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        let [inputs, outputs] = self.part_shape;
        [inputs, outputs * self.parts.len()]
    }

    /// Returns the format of the stored values: f32 or bf16.
    #[must_use]
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Returns the bytes of a range of inputs of one column, which are contiguous in the file.
    #[must_use]
    pub fn column(&self, column: usize, inputs: Range<usize>) -> &[u8] {
        let ([k, outputs], parts) = (self.part_shape, self.parts.len());
        let (part, row) = match self.order {
            ColumnOrder::Concatenated => (column / outputs, column % outputs),
            ColumnOrder::Interleaved => (column / 4 % parts, column / (4 * parts) * 4 + column % 4),
        };
        let element = self.format.bits() / 8;
        &self.parts[part].bytes()[(row * k + inputs.start) * element..(row * k + inputs.end) * element]
    }

    /// Returns the values, row-major `[inputs, outputs]`.
    #[must_use]
    pub fn values(&self) -> Vec<f32> {
        let [inputs, outputs] = self.shape();
        let mut values = vec![0.0; inputs * outputs];
        for column in 0..outputs {
            let bytes = self.column(column, 0..inputs);
            let value = |input: usize| match self.format {
                WeightFormat::F32 => f32::from_le_bytes(bytes.as_chunks().0[input]),
                _ => bf16::from_le_bytes(bytes.as_chunks().0[input]).to_f32(),
            };
            (0..inputs).for_each(|input| values[input * outputs + column] = value(input));
        }
        values
    }

    /// Finds a value that is not finite: its part, its index in the part, and the value. Reads all of the file.
    pub(crate) fn find_non_finite(&self) -> Option<(usize, usize, f32)> {
        self.parts.iter().enumerate().find_map(|(part, mapped)| {
            let (index, value) = match self.format {
                WeightFormat::F32 => find_non_finite(mapped.bytes(), f32::from_le_bytes),
                _ => find_non_finite(mapped.bytes(), |bytes| bf16::from_le_bytes(bytes).to_f32()),
            }?;
            Some((part, index, value))
        })
    }
}

fn find_non_finite<const BYTES: usize>(bytes: &[u8], value: impl Fn([u8; BYTES]) -> f32) -> Option<(usize, f32)> {
    // A run is tested without branches. Only the run that fails is searched.
    const RUN: usize = 4096;
    let elements = bytes.as_chunks::<BYTES>().0;
    let run = elements.chunks(RUN).position(|run| {
        run.iter().fold(false, |any, bytes| any | (value(*bytes).to_bits() & 0x7f80_0000 == 0x7f80_0000))
    })?;
    let mut values = elements.iter().map(|bytes| value(*bytes)).enumerate().skip(run * RUN);
    values.find(|(_, value)| !value.is_finite())
}

impl std::fmt::Debug for MappedMatrix {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { parts, order, part_shape, format } = self;
        write!(out, "{} parts {part_shape:?} in {format}, {order:?}", parts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QuantizedMatrix;

    fn mapped(values: &[f32], format: WeightFormat) -> MappedBytes {
        let bytes: Vec<u8> = match format {
            WeightFormat::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        };
        // The tensor is not at the start of its file.
        let file = [vec![7; 3], bytes].concat();
        MappedBytes { range: 3..file.len(), file: Arc::new(file) }
    }

    #[test]
    fn mapped_parts_have_the_values_of_the_merged_matrices() {
        let ([inputs, outputs], numbers) = ([12, 8], |seed: usize| -> Vec<f32> {
            (0..96).map(|i| ((i * 37 + seed * 11) % 64) as f32 / 4.0 - 8.0).collect()
        });
        for format in [WeightFormat::F32, WeightFormat::Bf16] {
            let maps = [numbers(1), numbers(2)];
            let packed = maps
                .each_ref()
                .map(|map| QuantizedMatrix::new(&crate::transposed(map, outputs, inputs), [inputs, outputs], format));
            for (order, want) in [
                (ColumnOrder::Concatenated, QuantizedMatrix::concat_columns(&packed)),
                (ColumnOrder::Interleaved, QuantizedMatrix::interleave_columns(&packed)),
            ] {
                let stored = maps.iter().map(|map| mapped(map, format)).collect();
                let rows = MappedMatrix::new(stored, order, [inputs, outputs], format);
                assert_eq!((rows.shape(), rows.values()), (want.shape, want.values()), "{format} {order:?}");
                assert_eq!(rows.find_non_finite(), None);
            }
        }
    }

    #[test]
    fn a_value_that_is_not_finite_is_found() {
        for format in [WeightFormat::F32, WeightFormat::Bf16] {
            let mut values = vec![1.0; 9000];
            let good = mapped(&values, format);
            values[8191] = f32::NEG_INFINITY;
            let rows =
                MappedMatrix::new(vec![good, mapped(&values, format)], ColumnOrder::Concatenated, [90, 100], format);
            assert_eq!(rows.find_non_finite(), Some((1, 8191, f32::NEG_INFINITY)));
        }
    }
}
