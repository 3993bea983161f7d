//! The values of ggml's blocks, with the operations of gguf-py's `quants.py` in its order, so that the numbers are the same bit for bit.

use half::f16;

use super::GgmlType;
use crate::quantize::AffineBlock;

/// Levels of IQ4_NL and IQ4_XS.
const IQ4_LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Dequantizes whole blocks.
///
/// # Panics
/// If a block is incomplete.
pub(crate) fn dequantize(ggml_type: GgmlType, bytes: &[u8]) -> Vec<f32> {
    let size = ggml_type.block_bytes();
    assert!(bytes.len().is_multiple_of(size), "{} bytes are no whole blocks of {ggml_type}", bytes.len());
    let mut values = vec![0.0; bytes.len() / size * ggml_type.block_values()];
    dequantize_into(ggml_type, bytes, &mut values);
    values
}

/// Dequantizes whole blocks to as many values.
pub(crate) fn dequantize_into(ggml_type: GgmlType, bytes: &[u8], values: &mut [f32]) {
    let block = match ggml_type {
        GgmlType::Q4_0 => q4_0,
        GgmlType::Q4_1 => q4_1,
        GgmlType::Q5_0 => q5_0,
        GgmlType::Q5_1 => q5_1,
        GgmlType::Q8_0 => q8_0,
        GgmlType::Q2_K => q2_k,
        GgmlType::Q3_K => q3_k,
        GgmlType::Q4_K => q4_k,
        GgmlType::Q5_K => q5_k,
        GgmlType::Q6_K => q6_k,
        GgmlType::IQ4_NL => iq4_nl,
        GgmlType::IQ4_XS => iq4_xs,
    };
    let blocks = bytes.chunks_exact(ggml_type.block_bytes());
    for (bytes, values) in blocks.zip(values.chunks_exact_mut(ggml_type.block_values())) {
        block(bytes, values);
    }
}

/// Values of a block of Q8_0 and Q4_0.
const INTEGER_BLOCK: usize = 32;

/// Returns the bits of the f16 scale and the integers of a block of Q8_0 or Q4_0.
///
/// # Panics
/// For another type.
pub(crate) fn integers(ggml_type: GgmlType, block: &[u8]) -> (u16, [i8; INTEGER_BLOCK]) {
    let scale = u16::from_le_bytes([block[0], block[1]]);
    let quants = &block[2..];
    let integer = |at: usize| match ggml_type {
        GgmlType::Q8_0 => quants[at] as i8,
        GgmlType::Q4_0 => nibble(quants, at) as i8 - 8,
        _ => panic!("blocks of {ggml_type} are no integers with one scale"),
    };
    (scale, std::array::from_fn(integer))
}

/// Returns the scale, the minimum and the integers of 32 inputs of a row of Q4_1 or Q4_K: those from 32·`at` on.
///
/// # Panics
/// For another type.
pub(crate) fn affine_block(ggml_type: GgmlType, row: &[u8], at: usize) -> AffineBlock {
    let groups = ggml_type.block_values() / INTEGER_BLOCK;
    let block = &row[at / groups * ggml_type.block_bytes()..][..ggml_type.block_bytes()];
    match ggml_type {
        GgmlType::Q4_1 => {
            let integers = std::array::from_fn(|at| nibble(&block[4..], at));
            AffineBlock { scale: half(block, 0), minimum: half(block, 2), integers }
        }
        GgmlType::Q4_K => {
            let (scale, min, quants) = q4_k_group(block, at % groups);
            // To subtract a number is to add its negative.
            AffineBlock { scale, minimum: -min, integers: quants }
        }
        _ => panic!("blocks of {ggml_type} have no scale and minimum of 32 integers of four bits"),
    }
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Returns value `at` of 4-bit values: the low nibbles of all bytes, then the high ones.
fn nibble(bytes: &[u8], at: usize) -> u8 {
    bytes[at % bytes.len()] >> (4 * (at / bytes.len())) & 15
}

/// Writes the values of 4-bit values in the order of [`nibble`].
fn nibbles(bytes: &[u8], values: &mut [f32], value: impl Fn(u8) -> f32) {
    let (low, high) = values.split_at_mut(bytes.len());
    for ((low, high), byte) in low.iter_mut().zip(high).zip(bytes) {
        (*low, *high) = (value(byte & 15), value(byte >> 4));
    }
}

fn q4_0(block: &[u8], values: &mut [f32]) {
    let d = half(block, 0);
    nibbles(&block[2..], values, |quant| d * (f32::from(quant) - 8.0));
}

fn q4_1(block: &[u8], values: &mut [f32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    nibbles(&block[4..], values, |quant| d * f32::from(quant) + m);
}

/// Returns value `at` of 5-bit values, whose fifth bits are in `high`.
fn five_bits(high: &[u8], quants: &[u8], at: usize) -> u8 {
    nibble(quants, at) | (high[at / 8] >> (at % 8) & 1) << 4
}

fn q5_0(block: &[u8], values: &mut [f32]) {
    let (d, high, quants) = (half(block, 0), &block[2..6], &block[6..]);
    for (at, value) in values.iter_mut().enumerate() {
        *value = d * (f32::from(five_bits(high, quants, at)) - 16.0);
    }
}

fn q5_1(block: &[u8], values: &mut [f32]) {
    let (d, m, high, quants) = (half(block, 0), half(block, 2), &block[4..8], &block[8..]);
    values.iter_mut().enumerate().for_each(|(at, value)| *value = d * f32::from(five_bits(high, quants, at)) + m);
}

fn q8_0(block: &[u8], values: &mut [f32]) {
    let d = half(block, 0);
    values.iter_mut().zip(&block[2..]).for_each(|(value, quant)| *value = d * f32::from(*quant as i8));
}

/// Returns value `at` of 2-bit values: in each 32 bytes the lowest bits of all bytes, then the next ones.
fn two_bits(bytes: &[u8], at: usize) -> u8 {
    bytes[at / 128 * 32 + at % 32] >> (2 * (at / 32 % 4)) & 3
}

fn q2_k(block: &[u8], values: &mut [f32]) {
    let (scales, quants, d, dmin) = (&block[..16], &block[16..80], half(block, 80), half(block, 82));
    for (at, value) in values.iter_mut().enumerate() {
        let scale = scales[at / 16];
        *value = d * f32::from(scale & 15) * f32::from(two_bits(quants, at)) - dmin * f32::from(scale >> 4);
    }
}

fn q3_k(block: &[u8], values: &mut [f32]) {
    let (mask, quants, scales, d) = (&block[..32], &block[32..96], &block[96..108], half(block, 108));
    for (at, value) in values.iter_mut().enumerate() {
        let group = at / 16;
        let low = scales[group % 8] >> (4 * (group / 8)) & 15;
        let high = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
        let scale = (low | high << 4) as i8 - 32;
        // A bit of the mask that is not set subtracts four.
        let lowered = (mask[at % 32] >> (at / 32) & 1 ^ 1) << 2;
        *value = d * f32::from(scale) * f32::from(two_bits(quants, at) as i8 - lowered as i8);
    }
}

/// Returns the 6-bit scale and minimum of group `group` of Q4_K and Q5_K.
fn scale_and_min(scales: &[u8], group: usize) -> (f32, f32) {
    let (scale, min) = if group < 4 {
        (scales[group] & 63, scales[group + 4] & 63)
    } else {
        let both = scales[group + 4];
        (both & 15 | scales[group - 4] >> 2 & 0x30, both >> 4 | scales[group] >> 2 & 0x30)
    };
    (f32::from(scale), f32::from(min))
}

fn q4_k(block: &[u8], values: &mut [f32]) {
    for (group, values) in values.chunks_exact_mut(INTEGER_BLOCK).enumerate() {
        let (scale, min, quants) = q4_k_group(block, group);
        values.iter_mut().zip(quants).for_each(|(value, quant)| *value = scale * f32::from(quant) - min);
    }
}

/// Returns the scale, the minimum that is subtracted, and the integers of a group of a block of Q4_K.
fn q4_k_group(block: &[u8], group: usize) -> (f32, f32, [u8; INTEGER_BLOCK]) {
    let (d, dmin, scales, quants) = (half(block, 0), half(block, 2), &block[4..16], &block[16..]);
    let (scale, min) = scale_and_min(scales, group);
    let quants: &[u8; INTEGER_BLOCK] =
        quants[group / 2 * INTEGER_BLOCK..].first_chunk().expect("128 bytes of integers");
    (d * scale, dmin * min, std::array::from_fn(|at| quants[at] >> (4 * (group % 2)) & 15))
}

fn q5_k(block: &[u8], values: &mut [f32]) {
    let (d, dmin, scales, high, quants) = (half(block, 0), half(block, 2), &block[4..16], &block[16..48], &block[48..]);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_and_min(scales, group);
        let (scale, min, quants) = (d * scale, dmin * min, &quants[group / 2 * 32..][..32]);
        for ((value, byte), high) in values.iter_mut().zip(quants).zip(high) {
            let quant = byte >> (4 * (group % 2)) & 15 | (high >> group & 1) << 4;
            *value = scale * f32::from(quant) - min;
        }
    }
}

fn q6_k(block: &[u8], values: &mut [f32]) {
    let (low, high, scales, d) = (&block[..128], &block[128..192], &block[192..208], half(block, 208));
    for (at, value) in values.iter_mut().enumerate() {
        let low = low[at / 128 * 64 + at % 64] >> (4 * (at / 64 % 2)) & 15;
        let quant = (low | two_bits(high, at) << 4) as i8 - 32;
        *value = d * f32::from(scales[at / 16] as i8) * f32::from(quant);
    }
}

fn iq4_nl(block: &[u8], values: &mut [f32]) {
    let (d, quants) = (half(block, 0), &block[2..]);
    for (at, value) in values.iter_mut().enumerate() {
        *value = d * f32::from(IQ4_LEVELS[usize::from(nibble(quants, at))]);
    }
}

fn iq4_xs(block: &[u8], values: &mut [f32]) {
    let (d, high, low, quants) = (half(block, 0), u16::from_le_bytes([block[2], block[3]]), &block[4..8], &block[8..]);
    for (group, values) in values.chunks_exact_mut(32).enumerate() {
        let scale = low[group / 2] >> (4 * (group % 2)) & 15 | ((high >> (2 * group) & 3) as u8) << 4;
        let (scale, quants) = (d * f32::from(scale as i8 - 32), &quants[group * 16..][..16]);
        for (at, value) in values.iter_mut().enumerate() {
            *value = scale * f32::from(IQ4_LEVELS[usize::from(nibble(quants, at))]);
        }
    }
}
