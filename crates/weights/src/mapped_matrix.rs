//! Weight matrices that stay in a memory-mapped file. Nothing is copied, and the operating system can drop pages and read
//! them again.

use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};

use crate::dtype::f16s;
use crate::gguf::dequantize_into;
use crate::{ColumnOrder, GgmlType, QuantizedMatrix, StoredDtype, TensorLayout, WeightFormat, quantize};

/// A memory-mapped file.
pub type MappedFile = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A byte range of a memory-mapped file.
#[derive(Clone)]
pub struct MappedBytes {
    pub file: MappedFile,
    pub range: Range<usize>,
}

impl MappedBytes {
    fn bytes(&self) -> &[u8] {
        &(*self.file).as_ref()[self.range.clone()]
    }
}

/// The order and the encoding of the elements of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappedLayout {
    /// f32, bf16 or f16 values `[outputs, inputs]`.
    Floats(WeightFormat),
    /// Blocks of ggml, `[outputs, inputs]`.
    Blocks(GgmlType),
    /// The words of a format, `[inputs, outputs]`, at an address that is a multiple of four.
    Words(WeightFormat),
}

impl MappedLayout {
    /// Returns the layout of a tensor in a file whose numbers are those of `format`, or are widened to it without rounding; none of
    /// another tensor.
    pub(crate) fn of(stored: TensorLayout, format: WeightFormat) -> Option<Self> {
        if let Some(words) = stored.weight_format() {
            return (words == format).then_some(Self::Words(words));
        }
        let widens = format == WeightFormat::F32;
        match stored.dtype {
            StoredDtype::F32 if widens => Some(Self::Floats(WeightFormat::F32)),
            StoredDtype::F16 if widens || format == WeightFormat::F16 => Some(Self::Floats(WeightFormat::F16)),
            StoredDtype::Bf16 if widens || format == WeightFormat::Bf16 => Some(Self::Floats(WeightFormat::Bf16)),
            StoredDtype::Ggml(ggml_type) if ggml_type.same_numbers() == Some(format) => Some(Self::Blocks(ggml_type)),
            _ => None,
        }
    }
}

/// A matrix `[inputs, outputs]`, made of parts that are stored in a file each, little-endian.
#[derive(Clone)]
pub struct MappedMatrix {
    parts: Vec<MappedBytes>,
    order: ColumnOrder,
    /// `[inputs, outputs]` of each part.
    part_shape: [usize; 2],
    layout: MappedLayout,
}

impl MappedMatrix {
    /// Makes one matrix of parts of shape `[inputs, outputs]`. Returns none for words that are not aligned.
    ///
    /// # Panics
    /// If the bytes of a part do not match the shape and the layout.
    #[must_use]
    pub fn new(
        parts: Vec<MappedBytes>,
        order: ColumnOrder,
        part_shape: [usize; 2],
        layout: MappedLayout,
    ) -> Option<Self> {
        let [inputs, outputs] = part_shape;
        let bytes = match layout {
            MappedLayout::Floats(format) => {
                assert!(!format.has_scales(), "{format} is no float");
                inputs * outputs * format.bits() / 8
            }
            MappedLayout::Blocks(ggml_type) => outputs * ggml_type.bytes(inputs),
            MappedLayout::Words(format) => format.bytes(inputs, outputs),
        };
        assert!(parts.iter().all(|part| part.bytes().len() == bytes), "parts of {bytes} bytes");
        let is_readable = |part: &MappedBytes| {
            cfg!(target_endian = "little") && bytemuck::try_cast_slice::<u8, u32>(part.bytes()).is_ok()
        };
        let has_words = matches!(layout, MappedLayout::Words(_));
        (!has_words || parts.iter().all(is_readable)).then_some(Self { parts, order, part_shape, layout })
    }

    /// Returns `[inputs, outputs]` of the whole matrix.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        let [inputs, outputs] = self.part_shape;
        [inputs, outputs * self.parts.len()]
    }

    /// Returns `[inputs, outputs]` of each part.
    #[must_use]
    pub fn part_shape(&self) -> [usize; 2] {
        self.part_shape
    }

    #[must_use]
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    #[must_use]
    pub fn order(&self) -> ColumnOrder {
        self.order
    }

    #[must_use]
    pub fn layout(&self) -> MappedLayout {
        self.layout
    }

    /// Returns the words of a part, of [`MappedLayout::Words`], as integers or as f32.
    ///
    /// # Panics
    /// For another layout.
    #[must_use]
    pub fn words<T: bytemuck::AnyBitPattern>(&self, part: usize) -> &[T] {
        assert!(matches!(self.layout, MappedLayout::Words(_)), "{:?} has no words", self.layout);
        bytemuck::cast_slice(self.parts[part].bytes())
    }

    /// Writes the values of the inputs from `first` on of one column, which are contiguous in the file.
    ///
    /// # Panics
    /// For [`MappedLayout::Words`]; for blocks, if `first` or the number of values is not a multiple of a block's.
    pub fn column(&self, column: usize, first: usize, values: &mut [f32]) {
        let ([inputs, outputs], parts) = (self.part_shape, self.parts.len());
        let (part, row) = match self.order {
            ColumnOrder::Concatenated => (column / outputs, column % outputs),
            ColumnOrder::Interleaved => (column / 4 % parts, column / (4 * parts) * 4 + column % 4),
        };
        let bytes = self.parts[part].bytes();
        let (first, end) = (row * inputs + first, row * inputs + first + values.len());
        match self.layout {
            MappedLayout::Floats(WeightFormat::F32) => {
                let stored = &bytes.as_chunks().0[first..end];
                values.iter_mut().zip(stored).for_each(|(value, bytes)| *value = f32::from_le_bytes(*bytes));
            }
            MappedLayout::Floats(format) => {
                let stored = &bytes.as_chunks().0[first..end];
                if format == WeightFormat::F16 {
                    f16s(stored, values);
                } else {
                    values
                        .iter_mut()
                        .zip(stored)
                        .for_each(|(value, bytes)| *value = bf16::from_le_bytes(*bytes).to_f32());
                }
            }
            MappedLayout::Blocks(ggml_type) => {
                assert!(first.is_multiple_of(ggml_type.block_values()), "{first} is inside a block");
                dequantize_into(ggml_type, &bytes[ggml_type.bytes(first)..ggml_type.bytes(end)], values);
            }
            MappedLayout::Words(_) => panic!("columns of words are not contiguous"),
        }
    }

    /// Returns the inputs that a range of [`MappedMatrix::column`] is a multiple of.
    #[must_use]
    pub fn block_inputs(&self) -> usize {
        match self.layout {
            MappedLayout::Blocks(ggml_type) => ggml_type.block_values(),
            _ => 1,
        }
    }

    /// Returns the values, row-major `[inputs, outputs]`.
    #[must_use]
    pub fn values(&self) -> Vec<f32> {
        let [inputs, outputs] = self.shape();
        if let MappedLayout::Words(format) = self.layout {
            let part = |part| QuantizedMatrix { words: self.words(part).to_vec(), shape: self.part_shape, format };
            return QuantizedMatrix::merged((0..self.parts.len()).map(part).collect(), self.order).values();
        }
        let mut values = vec![0.0; inputs * outputs];
        let mut read = vec![0.0; inputs];
        for column in 0..outputs {
            self.column(column, 0, &mut read);
            read.iter().enumerate().for_each(|(input, value)| values[input * outputs + column] = *value);
        }
        values
    }

    /// Finds a value, or a scale, that is not finite: its part, its index in the part, and the value. Reads all of the file but
    /// integers.
    pub(crate) fn find_non_finite(&self) -> Option<(usize, usize, f32)> {
        (0..self.parts.len()).find_map(|part| {
            let bytes = self.parts[part].bytes();
            let (index, value) = match self.layout {
                MappedLayout::Floats(WeightFormat::F32) => find_non_finite(bytes, 0x7f80_0000, f32::from_le_bytes),
                MappedLayout::Floats(WeightFormat::F16) => {
                    let value = |bytes: [u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(bytes)));
                    find_non_finite(bytes, 0x7c00, value)
                        .map(|(index, bits)| (index, f16::from_bits(bits.to_bits() as u16).to_f32()))
                }
                MappedLayout::Floats(_) => {
                    find_non_finite(bytes, 0x7f80_0000, |bytes| bf16::from_le_bytes(bytes).to_f32())
                }
                MappedLayout::Blocks(ggml_type) => ggml_type.find_non_finite(bytes),
                MappedLayout::Words(format) => quantize::find_non_finite(self.words(part), self.part_shape, format),
            }?;
            Some((part, index, value))
        })
    }
}

/// Finds a value that has all bits of `exponent`.
fn find_non_finite<const BYTES: usize>(
    bytes: &[u8],
    exponent: u32,
    value: impl Fn([u8; BYTES]) -> f32,
) -> Option<(usize, f32)> {
    // A run is tested without branches. Only the run that fails is searched.
    const RUN: usize = 4096;
    let elements = bytes.as_chunks::<BYTES>().0;
    let is_infinite = |bytes: &[u8; BYTES]| value(*bytes).to_bits() & exponent == exponent;
    let run = elements.chunks(RUN).position(|run| run.iter().fold(false, |any, bytes| any | is_infinite(bytes)))? * RUN;
    let index = run + elements[run..].iter().position(is_infinite)?;
    Some((index, value(elements[index])))
}

impl std::fmt::Debug for MappedMatrix {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { parts, order, part_shape, layout } = self;
        write!(out, "{} parts {part_shape:?} in {layout:?}, {order:?}", parts.len())
    }
}

#[cfg(test)]
mod tests;
