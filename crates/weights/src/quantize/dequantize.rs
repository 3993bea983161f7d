//! The values of a matrix in the words of a [`WeightFormat`]: all of them, or one.

use half::{bf16, f16};

use super::affine;
use crate::{BLOCK, WeightFormat};

/// Dequantizes the words of `format` to values, row-major `[inputs, outputs]`.
#[must_use]
pub fn dequantize(words: &[u32], [inputs, outputs]: [usize; 2], format: WeightFormat) -> Vec<f32> {
    let bits = format.bits();
    let (integers, numbers) = words.split_at(inputs * outputs * bits / 32);
    let mut values = vec![0.0; inputs * outputs];
    if values.is_empty() {
        return values;
    }
    if !format.has_scales() {
        let columns = 32 / bits;
        for (values, word) in values.chunks_exact_mut(columns).zip(integers) {
            for (column, value) in values.iter_mut().enumerate() {
                let half = (word >> (16 * column)) as u16;
                *value = match format {
                    WeightFormat::F32 => f32::from_bits(*word),
                    WeightFormat::Bf16 => bf16::from_bits(half).to_f32(),
                    _ => f16::from_bits(half).to_f32(),
                };
            }
        }
        return values;
    }
    let (mut scales, mut minimums) = (vec![0.0; outputs], vec![0.0; outputs]);
    let integers = integers.chunks_exact(BLOCK * outputs * bits / 32);
    for (block, (values, integers)) in values.chunks_exact_mut(BLOCK * outputs).zip(integers).enumerate() {
        if format == WeightFormat::Q4Affine {
            let row =
                |first: usize| numbers[first + block * outputs..][..outputs].iter().map(|bits| f32::from_bits(*bits));
            scales.iter_mut().zip(row(0)).for_each(|(scale, stored)| *scale = stored);
            minimums.iter_mut().zip(row(inputs / BLOCK * outputs)).for_each(|(minimum, stored)| *minimum = stored);
        } else {
            let words = &numbers[block * outputs / 2..][..outputs / 2];
            for (scales, word) in scales.chunks_exact_mut(2).zip(words) {
                scales[0] = f16::from_bits(*word as u16).to_f32();
                scales[1] = f16::from_bits((word >> 16) as u16).to_f32();
            }
        }
        for (values, words) in values.chunks_exact_mut(outputs).zip(integers.chunks_exact(outputs * bits / 32)) {
            match format {
                WeightFormat::Q8 => {
                    row::<4>(values, words, &scales, |word, column| f32::from((word >> (8 * column)) as i8));
                }
                WeightFormat::Q4 => {
                    row::<8>(values, words, &scales, |word, column| (word >> (4 * column) & 15) as f32 - 8.0);
                }
                _ => {
                    row::<8>(values, words, &scales, |word, column| (word >> (4 * column) & 15) as f32);
                    values.iter_mut().zip(&minimums).for_each(|(value, minimum)| *value += minimum);
                }
            }
        }
    }
    values
}

/// Multiplies the integers of a row by their scales.
fn row<const COLUMNS: usize>(values: &mut [f32], words: &[u32], scales: &[f32], integer: impl Fn(u32, usize) -> f32) {
    let (values, scales) = (values.as_chunks_mut::<COLUMNS>().0, scales.as_chunks::<COLUMNS>().0);
    for ((values, word), scales) in values.iter_mut().zip(words).zip(scales) {
        for column in 0..COLUMNS {
            values[column] = scales[column] * integer(*word, column);
        }
    }
}

/// Returns the value at the index `at` of a matrix, row-major `[inputs, outputs]`.
pub(super) fn dequantized(words: &[u32], [inputs, outputs]: [usize; 2], format: WeightFormat, at: usize) -> f32 {
    let bits = |words: &[u32], at: usize| (words[at / 2] >> (16 * (at % 2))) as u16;
    let half = |words: &[u32], at: usize| f16::from_bits(bits(words, at)).to_f32();
    match format {
        WeightFormat::F32 => f32::from_bits(words[at]),
        WeightFormat::Bf16 => bf16::from_bits(bits(words, at)).to_f32(),
        WeightFormat::F16 => half(words, at),
        WeightFormat::Q4Affine => affine::dequantized(words, [inputs, outputs], at),
        WeightFormat::Q8 | WeightFormat::Q4 => {
            let scales = &words[inputs * outputs / if format == WeightFormat::Q8 { 4 } else { 8 }..];
            let scale = half(scales, at / outputs / BLOCK * outputs + at % outputs);
            let integer = if format == WeightFormat::Q8 {
                i32::from((words[at / 4] >> (8 * (at % 4))) as i8)
            } else {
                (words[at / 8] >> (4 * (at % 8)) & 15) as i32 - 8
            };
            scale * integer as f32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_values_are_those_of_each_index() {
        let shape = [96, 24];
        for format in WeightFormat::ALL {
            let count = format.bytes(shape[0], shape[1]) / size_of::<u32>();
            // Odd multiples are spread over all bits; exponents are kept small.
            let words: Vec<u32> = (1..=count as u32).map(|at| at.wrapping_mul(0x9e37_79b9) & 0xbfff_bfff).collect();
            let all = dequantize(&words, shape, format);
            let each: Vec<u32> = (0..96 * 24).map(|at| dequantized(&words, shape, format, at).to_bits()).collect();
            assert_eq!(all.iter().map(|value| value.to_bits()).collect::<Vec<u32>>(), each, "{format}");
        }
        assert!(dequantize(&[], [32, 0], WeightFormat::Q8).is_empty());
    }
}
