//! How a matrix of weights `[inputs, outputs]` is kept, in a file and on a device: in full, in half, or in blocks of small
//! integers. One word is a u32; a word holds neighbouring columns of one input, the first in its lowest bits.
//!
//! | precision | a word | scales |
//! |---|---|---|
//! | f32 | one column | |
//! | bf16, f16 | two columns | |
//! | q8 | four columns as i8 | one f16 for 32 inputs of a column |
//! | q4 | eight columns, four bits each, stored plus 8 | one f16 for 32 inputs of a column |
//!
//! Scales follow the weights in the same buffer: `[K/32, N]`, two to a word. Rounding is to nearest, ties to even. The scale
//! of a block is rounded to f16 first, so that packing sees the scale that unpacking will: for q8 the block's largest
//! magnitude over 127; for q4, whose integers are -8 to 7, the one of the least squared error among a few near the largest
//! over 7 or 8, of either sign.

use std::borrow::Cow;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// How many scales are tried for a block of q4, and how far apart.
const TRIES: u8 = 6;
const TRY: f32 = 0.05;

/// Inputs that share a scale.
pub const BLOCK: usize = 32;

/// The precision of a matrix of weights, the best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    F32,
    Bf16,
    F16,
    Q8,
    Q4,
}

impl Precision {
    /// Whether a matrix of `inputs` × `outputs` can be kept this way.
    #[must_use]
    pub fn fits(self, inputs: usize, outputs: usize) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 | Self::F16 => inputs.is_multiple_of(4) && outputs.is_multiple_of(4),
            Self::Q8 => inputs.is_multiple_of(BLOCK) && outputs.is_multiple_of(4),
            Self::Q4 => inputs.is_multiple_of(BLOCK) && outputs.is_multiple_of(8),
        }
    }

    /// Bytes of a matrix.
    #[must_use]
    pub fn bytes(self, inputs: usize, outputs: usize) -> usize {
        let scales = inputs / BLOCK * outputs * 2;
        match self {
            Self::F32 => inputs * outputs * 4,
            Self::Bf16 | Self::F16 => inputs * outputs * 2,
            Self::Q8 => inputs * outputs + scales,
            Self::Q4 => inputs * outputs / 2 + scales,
        }
    }

    /// Bits of one number.
    pub(crate) fn bits(self) -> usize {
        match self {
            Self::F32 => 32,
            Self::Bf16 | Self::F16 => 16,
            Self::Q8 => 8,
            Self::Q4 => 4,
        }
    }

    /// The smallest and the largest integer of a block.
    fn steps(self) -> [f32; 2] {
        if self == Self::Q8 { [-127.0, 127.0] } else { [-8.0, 7.0] }
    }

    fn rounded(self, steps: f32) -> f32 {
        let [least, most] = self.steps();
        steps.round_ties_even().clamp(least, most)
    }

    /// The scale of a block, as it is stored.
    fn scale(self, block: &[f32; BLOCK]) -> f32 {
        let [least, most] = self.steps();
        let stored = |scale: f32| f16::from_f32(scale).to_f32();
        let peak = block.iter().fold(0.0, |peak: f32, value| if value.abs() > peak.abs() { *value } else { peak });
        if self == Self::Q8 || peak == 0.0 {
            return stored(peak.abs() / most);
        }
        // With so few steps it pays to look for the scale of the least error, and to let it be negative.
        let error = |scale: f32| -> f32 {
            let off = |value: &f32| value - scale * self.rounded(value / scale);
            block.iter().map(|value| off(value) * off(value)).sum()
        };
        let full = [peak.abs() / most, -peak.abs() / most, peak / least];
        let candidates = full.into_iter().flat_map(|full| (0..TRIES).map(move |i| full * (1.0 - i as f32 * TRY)));
        let tried = candidates.map(stored).filter(|scale| *scale != 0.0).map(|scale| (error(scale), scale));
        tried.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |(_, scale)| scale)
    }
}

/// A matrix as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed {
    pub words: Vec<u32>,
    /// Inputs and outputs.
    pub shape: [usize; 2],
    pub precision: Precision,
}

impl Packed {
    /// `values`, row-major `[inputs, outputs]`, in `precision`.
    ///
    /// # Panics
    /// Where the shape does not fit the values or the precision.
    #[must_use]
    pub fn new(values: &[f32], shape: [usize; 2], precision: Precision) -> Self {
        let [inputs, outputs] = shape;
        assert_eq!(values.len(), inputs * outputs, "values of a {inputs} × {outputs} matrix");
        assert!(precision.fits(inputs, outputs), "{inputs} × {outputs} cannot be kept as {precision:?}");
        Self { words: pack(values, shape, precision), shape, precision }
    }

    /// `halves`, the bits of numbers of a half precision, row-major `[inputs, outputs]`.
    ///
    /// # Panics
    /// Where the shape does not fit the numbers or the precision, or that is no half.
    #[must_use]
    pub fn of_halves(halves: &[u16], shape: [usize; 2], precision: Precision) -> Self {
        let [inputs, outputs] = shape;
        assert_eq!(halves.len(), inputs * outputs, "numbers of a {inputs} × {outputs} matrix");
        assert!(precision.bits() == 16 && precision.fits(inputs, outputs), "{inputs} × {outputs} as {precision:?}");
        let words = halves.chunks_exact(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16).collect();
        Self { words, shape, precision }
    }

    /// The values `[inputs, outputs]` that it stands for.
    #[must_use]
    pub fn values(&self) -> Vec<f32> {
        unpack(&self.words, self.shape, self.precision)
    }

    /// The first number of it that is not finite, and which; of blocks, their scales.
    pub(crate) fn not_finite(&self) -> Option<(usize, f32)> {
        // Of halves those are not finite whose exponent is all ones.
        let halves = |words: &[u32], exponent: u32, value: fn(u16) -> f32| {
            let infinite = |half: u32| half & exponent == exponent;
            let at = words.iter().position(|word| infinite(*word) || infinite(word >> 16))?;
            let half = if infinite(words[at]) { words[at] } else { words[at] >> 16 };
            Some((at * 2, value(half as u16)))
        };
        let f16s = |words: &[u32]| halves(words, 0x7c00, |bits| f16::from_bits(bits).to_f32());
        match self.precision {
            Precision::F32 => {
                let mut values = self.words.iter().map(|bits| f32::from_bits(*bits)).enumerate();
                values.find(|(_, value)| !value.is_finite())
            }
            Precision::Bf16 => halves(&self.words, 0x7f80, |bits| bf16::from_bits(bits).to_f32()),
            Precision::F16 => f16s(&self.words),
            Precision::Q8 | Precision::Q4 => {
                f16s(&self.words[self.shape[0] * self.shape[1] * self.precision.bits() / 32..])
            }
        }
    }

    /// Matrices of one shape and precision as one: their columns side by side.
    #[must_use]
    pub fn side_by_side(maps: &[Self]) -> Self {
        Self::merged(maps, maps[0].shape[1])
    }

    /// Two such matrices with their columns in turns of four.
    #[must_use]
    pub fn in_turns_of_four(maps: &[Self; 2]) -> Self {
        Self::merged(maps, 4)
    }

    fn merged(maps: &[Self], turn: usize) -> Self {
        let (shape, precision) = (maps[0].shape, maps[0].precision);
        assert!(maps.iter().all(|map| (map.shape, map.precision) == (shape, precision)), "maps of one kind");
        let [inputs, outputs] = shape;
        // Of a word that holds the columns of two turns each takes half.
        let halves =
            |words: &[u32]| -> Vec<u32> { words.iter().flat_map(|word| [word & 0xffff, word >> 16]).collect() };
        let mut merged = Vec::with_capacity(maps.iter().map(|map| map.words.len()).sum());
        let numbers = inputs * outputs * precision.bits() / 32;
        let parts = [(0..numbers, precision.bits()), (numbers..maps[0].words.len(), 16)];
        for (part, bits) in parts {
            let whole = (turn * bits).is_multiple_of(32);
            let part: Vec<Cow<'_, [u32]>> = maps
                .iter()
                .map(|map| &map.words[part.clone()])
                .map(|words| if whole { Cow::Borrowed(words) } else { Cow::Owned(halves(words)) })
                .collect();
            let turn = turn * bits / if whole { 32 } else { 16 };
            let mut units = Vec::with_capacity(part.len() * part[0].len());
            for at in (0..part[0].len()).step_by(turn) {
                part.iter().for_each(|map| units.extend_from_slice(&map[at..at + turn]));
            }
            if whole {
                merged.append(&mut units);
            } else {
                merged.extend(units.chunks_exact(2).map(|pair| pair[0] | pair[1] << 16));
            }
        }
        Self { words: merged, shape: [inputs, maps.len() * outputs], precision }
    }
}

/// `values` `[inputs, outputs]` as words.
#[must_use]
pub fn pack(values: &[f32], [inputs, outputs]: [usize; 2], precision: Precision) -> Vec<u32> {
    let halves = |values: &[f32], half: fn(f32) -> u16| -> Vec<u32> {
        values.chunks_exact(2).map(|pair| u32::from(half(pair[0])) | u32::from(half(pair[1])) << 16).collect()
    };
    let f16s = |values: &[f32]| halves(values, |value| f16::from_f32(value).to_bits());
    match precision {
        Precision::F32 => return values.iter().map(|value| value.to_bits()).collect(),
        Precision::Bf16 => return halves(values, |value| bf16::from_f32(value).to_bits()),
        Precision::F16 => return f16s(values),
        Precision::Q8 | Precision::Q4 => {}
    }
    let mut scales = vec![0.0_f32; inputs / BLOCK * outputs];
    let mut block = [0.0; BLOCK];
    for (at, scale) in scales.iter_mut().enumerate() {
        let (first, column) = (at / outputs * BLOCK, at % outputs);
        block.iter_mut().zip(first..).for_each(|(value, row)| *value = values[row * outputs + column]);
        *scale = precision.scale(&block);
    }
    let integer = |row: usize, column: usize| {
        let scale = scales[row / BLOCK * outputs + column];
        let steps = if scale == 0.0 { 0.0 } else { values[row * outputs + column] / scale };
        precision.rounded(steps) as i32
    };
    let (columns, bits, offset) = if precision == Precision::Q8 { (4, 8, 0) } else { (8, 4, 8) };
    let mask = (1_u32 << bits) - 1;
    let mut words = Vec::with_capacity(inputs * outputs / columns + scales.len() / 2);
    for row in 0..inputs {
        for first in (0..outputs).step_by(columns) {
            let field = |i: usize| ((integer(row, first + i) + offset).cast_unsigned() & mask) << (bits * i);
            words.push((0..columns).map(field).fold(0, |word, field| word | field));
        }
    }
    words.extend(f16s(&scales));
    words
}

/// The values `[inputs, outputs]` that `words` stand for.
#[must_use]
pub fn unpack(words: &[u32], [inputs, outputs]: [usize; 2], precision: Precision) -> Vec<f32> {
    let bits = |words: &[u32], at: usize| (words[at / 2] >> (16 * (at % 2))) as u16;
    let half = |words: &[u32], at: usize| f16::from_bits(bits(words, at)).to_f32();
    let count = inputs * outputs;
    let value = |at: usize| match precision {
        Precision::F32 => f32::from_bits(words[at]),
        Precision::Bf16 => bf16::from_bits(bits(words, at)).to_f32(),
        Precision::F16 => half(words, at),
        Precision::Q8 | Precision::Q4 => {
            let scales = &words[count / if precision == Precision::Q8 { 4 } else { 8 }..];
            let scale = half(scales, at / outputs / BLOCK * outputs + at % outputs);
            let integer = if precision == Precision::Q8 {
                i32::from((words[at / 4] >> (8 * (at % 4))) as i8)
            } else {
                (words[at / 8] >> (4 * (at % 8)) & 15) as i32 - 8
            };
            scale * integer as f32
        }
    };
    (0..count).map(value).collect()
}

#[cfg(test)]
mod tests;
