//! How a matrix of weights is kept: in full, in half, or in blocks of small integers. One word is a u32; a word holds
//! neighbouring columns of one input, the first in its lowest bits.
//!
//! | precision | a word | scales |
//! |---|---|---|
//! | f32 | one column | |
//! | f16 | two columns | |
//! | q8 | four columns as i8 | one f16 for 32 inputs of a column |
//! | q4 | eight columns, four bits each, stored plus 8 | one f16 for 32 inputs of a column |
//!
//! Scales follow the weights in the same buffer: `[K/32, N]`, two to a word. Rounding is to nearest, ties to even; the
//! scale of a block is its largest magnitude over 127 or 7, rounded to f16 first, so that packing sees the scale that
//! unpacking will.

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_wgpu::CubeTensor;
use half::f16;

use crate::cpu::{Slice, Weights};
use crate::launch::on_gpu;

/// Inputs that share a scale.
pub const BLOCK: usize = 32;

/// The precision of a matrix of weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    #[default]
    F32,
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
            Self::F16 => inputs.is_multiple_of(4) && outputs.is_multiple_of(4),
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
            Self::F16 => inputs * outputs * 2,
            Self::Q8 => inputs * outputs + scales,
            Self::Q4 => inputs * outputs / 2 + scales,
        }
    }

    fn shader(self) -> &'static str {
        match self {
            Self::F32 => "weights_f32",
            Self::F16 => "weights_f16",
            Self::Q8 => "weights_q8",
            Self::Q4 => "weights_q4",
        }
    }

    /// The largest integer of a block.
    fn steps(self) -> f32 {
        if self == Self::Q8 { 127.0 } else { 7.0 }
    }
}

/// Weights `[K, N]` on a device.
#[derive(Clone, Debug)]
pub struct Matrix {
    words: Words,
    shape: [usize; 2],
}

#[derive(Clone, Debug)]
enum Words {
    Full(Tensor<2>),
    Packed(Tensor<1, Int>, Precision),
}

impl Matrix {
    /// Puts `values`, row-major `[inputs, outputs]`, on the device.
    ///
    /// # Panics
    /// Where the shape does not fit the values or the precision.
    #[must_use]
    pub fn new(values: Vec<f32>, [inputs, outputs]: [usize; 2], precision: Precision, device: &Device) -> Self {
        assert_eq!(values.len(), inputs * outputs, "values of a {inputs} × {outputs} matrix");
        assert!(precision.fits(inputs, outputs), "{inputs} × {outputs} cannot be kept as {precision:?}");
        let shape = [inputs, outputs];
        let words = if precision == Precision::F32 {
            Words::Full(Tensor::from_data(TensorData::new(values, shape), device))
        } else {
            let words: Vec<i32> = pack(&values, shape, precision).into_iter().map(u32::cast_signed).collect();
            let count = words.len();
            Words::Packed(Tensor::from_data(TensorData::new(words, [count]), device), precision)
        };
        Self { words, shape }
    }

    /// Inputs and outputs.
    #[must_use]
    pub fn dims(&self) -> [usize; 2] {
        self.shape
    }

    #[must_use]
    pub fn precision(&self) -> Precision {
        match &self.words {
            Words::Full(_) => Precision::F32,
            Words::Packed(_, precision) => *precision,
        }
    }
}

impl Matrix {
    /// The words as a shader reads them, and the shared file that unpacks them; None where the device speaks no WGSL.
    pub(crate) fn bound(&self) -> Option<(CubeTensor, &'static str)> {
        Some(match &self.words {
            Words::Full(values) => (on_gpu(values)?, Precision::F32.shader()),
            Words::Packed(words, precision) => (on_gpu(words)?, precision.shader()),
        })
    }

    /// The words where the device is the processor, for [`Self::weights`].
    pub(crate) fn slice(&self) -> Option<Slice> {
        match &self.words {
            Words::Full(values) => Slice::of(values),
            Words::Packed(words, _) => Slice::of_words(words),
        }
    }

    pub(crate) fn weights<'a>(&self, words: &'a Slice) -> Weights<'a> {
        match &self.words {
            Words::Full(_) => Weights::Full(words.values()),
            Words::Packed(_, precision) => Weights::Packed(words.words(), *precision),
        }
    }

    /// The weights as numbers. Packed ones are unpacked for the call.
    pub(crate) fn values(&self) -> Tensor<2> {
        match &self.words {
            Words::Full(values) => values.clone(),
            Words::Packed(words, precision) => {
                let device = words.device();
                let words: Vec<i32> = words.clone().into_data().try_into_vec().expect("words are i32");
                let words: Vec<u32> = words.into_iter().map(i32::cast_unsigned).collect();
                Tensor::from_data(TensorData::new(unpack(&words, self.shape, *precision), self.shape), &device)
            }
        }
    }
}

/// `values` `[inputs, outputs]` as words.
#[must_use]
pub fn pack(values: &[f32], [inputs, outputs]: [usize; 2], precision: Precision) -> Vec<u32> {
    let half = |value: f32| u32::from(f16::from_f32(value).to_bits());
    let halves = |values: &[f32]| -> Vec<u32> {
        values.chunks_exact(2).map(|pair| half(pair[0]) | half(pair[1]) << 16).collect()
    };
    match precision {
        Precision::F32 => return values.iter().map(|value| value.to_bits()).collect(),
        Precision::F16 => return halves(values),
        Precision::Q8 | Precision::Q4 => {}
    }
    let mut scales = vec![0.0_f32; inputs / BLOCK * outputs];
    for (row, values) in values.chunks_exact(outputs).enumerate() {
        let scales = &mut scales[row / BLOCK * outputs..][..outputs];
        for (scale, value) in scales.iter_mut().zip(values) {
            *scale = scale.max(value.abs() / precision.steps());
        }
    }
    scales.iter_mut().for_each(|scale| *scale = f16::from_f32(*scale).to_f32());
    let integer = |row: usize, column: usize| {
        let scale = scales[row / BLOCK * outputs + column];
        let steps = if scale == 0.0 { 0.0 } else { values[row * outputs + column] / scale };
        steps.round_ties_even().clamp(-precision.steps(), precision.steps()) as i32
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
    words.extend(halves(&scales));
    words
}

/// The values `[inputs, outputs]` that `words` stand for.
#[must_use]
pub fn unpack(words: &[u32], [inputs, outputs]: [usize; 2], precision: Precision) -> Vec<f32> {
    let half = |words: &[u32], at: usize| f16::from_bits((words[at / 2] >> (16 * (at % 2))) as u16).to_f32();
    let count = inputs * outputs;
    let value = |at: usize| match precision {
        Precision::F32 => f32::from_bits(words[at]),
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
mod tests {
    use super::*;
    use crate::testing::values;

    const SHAPE: [usize; 2] = [64, 24];

    #[test]
    fn a_matrix_survives_packing_within_half_a_step() {
        let kept = values(1, SHAPE[0] * SHAPE[1]);
        for (precision, steps) in [(Precision::Q8, 127.0), (Precision::Q4, 7.0)] {
            let words = pack(&kept, SHAPE, precision);
            assert_eq!(words.len() * 4, precision.bytes(SHAPE[0], SHAPE[1]));
            let back = unpack(&words, SHAPE, precision);
            for (at, (back, value)) in back.iter().zip(&kept).enumerate() {
                let block = (0..BLOCK).map(|i| kept[(at / SHAPE[1] / BLOCK * BLOCK + i) * SHAPE[1] + at % SHAPE[1]]);
                let scale = block.fold(0.0_f32, |peak, value| peak.max(value.abs())) / steps;
                // The scale itself is rounded to f16, by at most one part in 2048.
                assert!(
                    (back - value).abs() <= scale * (0.5 + steps / 2048.0),
                    "{precision:?} {at}: {back} for {value}"
                );
            }
        }
    }

    #[test]
    fn halves_and_whole_numbers_are_kept_exactly() {
        let kept: Vec<f32> = (0..SHAPE[0] * SHAPE[1]).map(|i| (i % 255) as f32 - 127.0).collect();
        for precision in [Precision::F32, Precision::F16] {
            assert_eq!(unpack(&pack(&kept, SHAPE, precision), SHAPE, precision), kept);
        }
    }

    #[test]
    fn the_layout_of_a_word_is_the_documented_one() {
        let mut kept = vec![0.0; 32 * 8];
        kept[0] = 127.0;
        kept[1] = -127.0;
        kept[8] = 1.0;
        let words = pack(&kept, [32, 8], Precision::Q8);
        assert_eq!((words[0], words[2], words.len()), (0x0000_817f, 0x0000_0001, 32 * 2 + 4));
        assert_eq!(words[64], 0x3c00_3c00, "two scales of 1");
        let kept: Vec<f32> = kept.iter().map(|value| value.clamp(-7.0, 7.0)).collect();
        let words = pack(&kept, [32, 8], Precision::Q4);
        assert_eq!((words[0], words[1], words.len()), (0x8888_881f, 0x8888_8889, 32 + 4));
    }
}
