//! Quantization of weight matrices `[inputs, outputs]` to the words of a [`WeightFormat`], and back.
//!
//! w ≈ q·s, with one scale s per [`BLOCK`] inputs of a column. Values are rounded to nearest, ties to even. The scale is
//! rounded to f16 before values are divided by it, so that quantization sees the scale that dequantization will.
//!
//! - q8: s = max|w| / 127, q in -127..=127.
//! - q4: q in -8..=7. Of a few candidates for s around max|w|/7 and max|w|/8, of either sign, the one of the least squared
//!   error is taken.
//! - q4_affine: w ≈ q·s + m, with q in 0..=15, m = min w and s = (max w - m) / 15, both in f32 ([`affine`]).

use std::ops::Range;

use half::{bf16, f16};

use crate::{BLOCK, GgmlType, MatrixData, WeightFormat, gguf};

mod affine;
mod blocks;
mod dequantize;
mod merged;

pub(crate) use affine::AffineBlock;
pub use dequantize::dequantize;
use dequantize::dequantized;
pub use merged::MergedMatrix;

/// Columns of each matrix that are neighbours in an interleaved one.
pub(crate) const INTERLEAVED_COLUMNS: usize = 4;
/// Candidate scales of a q4 block below each starting point, and their distance relative to it.
const SCALE_CANDIDATES: u8 = 6;
const SCALE_STEP: f32 = 0.05;

/// The integer grid of a quantized format.
#[derive(Clone, Copy)]
struct Grid {
    min: f32,
    max: f32,
    searches_scale: bool,
}

impl Grid {
    /// Returns the grid of q8, or of q4.
    fn of(format: WeightFormat) -> Self {
        match format {
            WeightFormat::Q8 => Self { min: -127.0, max: 127.0, searches_scale: false },
            _ => Self { min: -8.0, max: 7.0, searches_scale: true },
        }
    }

    fn round(self, value: f32) -> f32 {
        value.round_ties_even().clamp(self.min, self.max)
    }

    /// Returns the scale of a block, rounded to f16.
    fn scale(self, block: &[f32; BLOCK]) -> f32 {
        let to_f16 = |scale: f32| f16::from_f32(scale).to_f32();
        let peak = block.iter().fold(0.0, |peak: f32, value| if value.abs() > peak.abs() { *value } else { peak });
        if !self.searches_scale || peak == 0.0 {
            return to_f16(peak.abs() / self.max);
        }
        // A grid of 16 steps gains from a search for the scale, which may be negative.
        let squared_error = |scale: f32| -> f32 {
            let error = |value: &f32| value - scale * self.round(value / scale);
            block.iter().map(|value| error(value) * error(value)).sum()
        };
        let starts = [peak.abs() / self.max, -peak.abs() / self.max, peak / self.min];
        let candidates = starts
            .into_iter()
            .flat_map(|start| (0..SCALE_CANDIDATES).map(move |i| start * (1.0 - i as f32 * SCALE_STEP)));
        let errors = candidates.map(to_f16).filter(|scale| *scale != 0.0).map(|scale| (squared_error(scale), scale));
        errors.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |(_, scale)| scale)
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

/// A weight matrix on the host, as the words of a format. [`WeightFormat::F32`] is a format too: one word per value.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedMatrix {
    pub words: Vec<u32>,
    /// `[inputs, outputs]`.
    pub shape: [usize; 2],
    pub format: WeightFormat,
}

impl QuantizedMatrix {
    /// Quantizes `values`, row-major `[inputs, outputs]`.
    ///
    /// # Panics
    /// If the shape does not match the number of values, or the format does not fit the shape.
    #[must_use]
    pub fn new(values: &[f32], shape: [usize; 2], format: WeightFormat) -> Self {
        let [inputs, outputs] = shape;
        assert_eq!(values.len(), inputs * outputs, "values of a {inputs} × {outputs} matrix");
        assert!(format.fits(inputs, outputs), "{inputs} × {outputs} cannot be stored as {format}");
        Self { words: quantize(values, shape, format), shape, format }
    }

    /// Takes the integers, scales and minimums of ggml's blocks, rows `[outputs, inputs]` in Q8_0, Q4_0, Q4_1 or Q4_K, without
    /// rounding.
    ///
    /// # Panics
    /// For another type, or a shape that does not match the bytes or the format.
    pub(crate) fn from_integer_blocks(rows: &[u8], [inputs, outputs]: [usize; 2], ggml_type: GgmlType) -> Self {
        let format = ggml_type.same_numbers().expect("a type of integers with one scale");
        let block_bytes = ggml_type.block_bytes();
        let row_bytes = inputs / ggml_type.block_values() * block_bytes;
        assert_eq!(rows.len(), outputs * row_bytes, "rows of a {inputs} × {outputs} matrix as {ggml_type}");
        assert!(format.fits(inputs, outputs), "{inputs} × {outputs} cannot be stored as {format}");
        if format == WeightFormat::Q4Affine {
            let block =
                |output: usize, block| gguf::affine_block(ggml_type, &rows[output * row_bytes..][..row_bytes], block);
            return Self::from_affine_blocks(block, [inputs, outputs]);
        }
        let (bits, columns) = (format.bits(), 32 / format.bits());
        let (row_words, mask, offset) = (outputs / columns, u32::MAX >> (32 - bits), if bits == 4 { 8 } else { 0 });
        let mut words = vec![0_u32; format.bytes(inputs, outputs) / 4];
        let (values, scales) = words.split_at_mut(inputs * row_words);
        for block in 0..inputs / BLOCK {
            for output in 0..outputs {
                let (scale, integers) =
                    gguf::integers(ggml_type, &rows[output * row_bytes + block * block_bytes..][..block_bytes]);
                let at = block * outputs + output;
                scales[at / 2] |= u32::from(scale) << (16 * (at % 2));
                let shift = bits * (output % columns);
                for (row, integer) in integers.into_iter().enumerate() {
                    let field = (i32::from(integer) + offset) as u32 & mask;
                    values[(block * BLOCK + row) * row_words + output / columns] |= field << shift;
                }
            }
        }
        Self { words, shape: [inputs, outputs], format }
    }

    /// Returns the matrix in `format`: itself where that is its own.
    #[must_use]
    pub fn requantized(self, format: WeightFormat) -> Self {
        if self.format == format { self } else { Self::new(&self.values(), self.shape, format) }
    }

    /// Copies these columns to their places, from `first` on, in the words of a matrix of `outputs` columns.
    pub(crate) fn place_columns(&self, into: &mut [u32], outputs: usize, first: usize) {
        let ([inputs, columns], format) = (self.shape, self.format);
        let (mut part_to, mut part_from) = (0, 0);
        for (rows, bits) in format.parts(inputs) {
            let words = columns * bits / 32;
            for row in 0..rows {
                let to = part_to + (row * outputs + first) * bits / 32;
                let from = part_from + row * words;
                into[to..to + words].copy_from_slice(&self.words[from..from + words]);
            }
            (part_to, part_from) = (part_to + rows * outputs * bits / 32, part_from + rows * words);
        }
    }

    /// Returns a copy of neighbouring columns, whose number and first index are multiples of 8, or the last of all.
    pub(crate) fn take_columns(&self, columns: Range<usize>) -> Self {
        let ([inputs, outputs], format) = (self.shape, self.format);
        let mut words = Vec::with_capacity(format.bytes(inputs, columns.len()) / size_of::<u32>());
        let mut part = 0;
        for (rows, bits) in format.parts(inputs) {
            for row in 0..rows {
                let from = part + row * outputs * bits / 32;
                words.extend_from_slice(&self.words[from + columns.start * bits / 32..from + columns.end * bits / 32]);
            }
            part += rows * outputs * bits / 32;
        }
        Self { words, shape: [inputs, columns.len()], format }
    }

    /// Returns the dequantized values `[inputs, outputs]`.
    #[must_use]
    pub fn values(&self) -> Vec<f32> {
        dequantize(&self.words, self.shape, self.format)
    }

    /// Returns the dequantized values of one column.
    pub(crate) fn column(&self, column: usize) -> Vec<f32> {
        let [inputs, outputs] = self.shape;
        let value = |input: usize| dequantized(&self.words, self.shape, self.format, input * outputs + column);
        (0..inputs).map(value).collect()
    }

    /// Returns the storage for a device: f32 words become dense values.
    #[must_use]
    pub fn into_data<Mapped>(self) -> MatrixData<Vec<f32>, Vec<u32>, Mapped> {
        match self.format {
            WeightFormat::F32 => MatrixData::Dense(self.words.into_iter().map(f32::from_bits).collect()),
            format => MatrixData::Quantized(self.words, format),
        }
    }

    /// Finds the first value, or the first scale of a format that has scales, that is not finite: its index and value. In q4_affine
    /// a block is not finite where its largest or smallest weight is not.
    pub(crate) fn find_non_finite(&self) -> Option<(usize, f32)> {
        find_non_finite(&self.words, self.shape, self.format)
    }

    /// Makes one matrix of the columns of matrices of one shape and format.
    ///
    /// # Panics
    /// If the shapes or formats differ, or there is no matrix.
    #[must_use]
    pub fn merged(mut matrices: Vec<Self>, order: ColumnOrder) -> Self {
        if matrices.len() == 1 {
            return matrices.remove(0);
        }
        let mut merged = MergedMatrix::new(matrices[0].shape, matrices[0].format, matrices.len(), order);
        matrices.into_iter().for_each(|matrix| merged.push(matrix));
        merged.finish()
    }
}

/// Does the same as [`QuantizedMatrix::find_non_finite`] for the words of a matrix `[inputs, outputs]`.
pub(crate) fn find_non_finite(words: &[u32], shape: [usize; 2], format: WeightFormat) -> Option<(usize, f32)> {
    // A 16-bit float is not finite if all bits of its exponent are set.
    let halves = |words: &[u32], exponent: u32, value: fn(u16) -> f32| {
        let is_infinite = |half: u32| half & exponent == exponent;
        let index = words.iter().position(|word| is_infinite(*word) || is_infinite(word >> 16))?;
        let half = if is_infinite(words[index]) { words[index] } else { words[index] >> 16 };
        Some((index * 2, value(half as u16)))
    };
    let f16s = |words: &[u32]| halves(words, 0x7c00, |bits| f16::from_bits(bits).to_f32());
    match format {
        WeightFormat::F32 => {
            let mut values = words.iter().map(|bits| f32::from_bits(*bits)).enumerate();
            values.find(|(_, value)| !value.is_finite())
        }
        WeightFormat::Bf16 => halves(words, 0x7f80, |bits| bf16::from_bits(bits).to_f32()),
        WeightFormat::F16 => f16s(words),
        WeightFormat::Q4Affine => affine::find_non_finite(words, shape),
        WeightFormat::Q8 | WeightFormat::Q4 => f16s(&words[shape[0] * shape[1] * format.bits() / 32..]),
    }
}

/// Quantizes `values`, row-major `[inputs, outputs]`, to the words of `format`.
///
/// ```
/// use pixart_weights::{WeightFormat, dequantize, quantize};
///
/// let values: Vec<f32> = (0..32 * 8).map(|i| (i % 17) as f32 / 16.0 - 0.5).collect();
/// let words = quantize(&values, [32, 8], WeightFormat::Q8);
/// let errors = dequantize(&words, [32, 8], WeightFormat::Q8).into_iter().zip(&values).map(|(got, want)| (got - want).abs());
/// assert!(errors.fold(0.0, f32::max) < 0.003, "half a step of 1/254");
/// ```
#[must_use]
pub fn quantize(values: &[f32], [inputs, outputs]: [usize; 2], format: WeightFormat) -> Vec<u32> {
    let halves = |values: &[f32], half: fn(f32) -> u16| -> Vec<u32> {
        values.chunks_exact(2).map(|pair| u32::from(half(pair[0])) | u32::from(half(pair[1])) << 16).collect()
    };
    let f16s = |values: &[f32]| halves(values, |value| f16::from_f32(value).to_bits());
    match format {
        WeightFormat::F32 => return values.iter().map(|value| value.to_bits()).collect(),
        WeightFormat::Bf16 => return halves(values, |value| bf16::from_f32(value).to_bits()),
        WeightFormat::F16 => return f16s(values),
        WeightFormat::Q4Affine => return affine::quantize(values, [inputs, outputs]),
        WeightFormat::Q8 | WeightFormat::Q4 => {}
    }
    let bits = format.bits();
    let mut scales = vec![0.0_f32; inputs / BLOCK * outputs];
    let mut words = vec![0_u32; inputs * outputs * bits / 32];
    blocks::quantize(values, outputs, Grid::of(format), bits, &mut words, &mut scales);
    words.extend(f16s(&scales));
    words
}

#[cfg(test)]
mod tests;
