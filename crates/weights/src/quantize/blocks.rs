//! Quantization of blocks, several columns at a time: each lane of a vector is a column, and the arithmetic of a lane is that of
//! one column alone, so that the numbers do not depend on the width of vectors or the number of threads.

use super::{Grid, SCALE_CANDIDATES, SCALE_STEP};
use crate::BLOCK;

/// Columns that are quantized together.
const LANES: usize = 8;
/// Magnitudes from which a value is infinite in f16.
const F16_OVERFLOW: f32 = 65_520.0;

type ColumnLanes = [f32; LANES];

/// Quantizes `values`, row-major `[inputs, outputs]`, to integers in words of `bits` bits a column, and scales
/// `[inputs / BLOCK, outputs]`, which are f16 values.
pub(super) fn quantize(values: &[f32], outputs: usize, grid: Grid, bits: usize, words: &mut [u32], scales: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { quantize_avx2(values, outputs, grid, bits, words, scales) };
    }
    quantize_lanes(values, outputs, grid, bits, words, scales);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn quantize_avx2(values: &[f32], outputs: usize, grid: Grid, bits: usize, words: &mut [u32], scales: &mut [f32]) {
    quantize_lanes(values, outputs, grid, bits, words, scales);
}

#[inline(always)]
fn quantize_lanes(values: &[f32], outputs: usize, grid: Grid, bits: usize, words: &mut [u32], scales: &mut [f32]) {
    let columns = 32 / bits;
    let row_words = outputs / columns;
    // Fields of q4 are stored plus 8, those of q8 as they are.
    let (mask, offset) = (u32::MAX >> (32 - bits), if bits == 4 { 8 } else { 0 });
    let mut rows = [[0.0; LANES]; BLOCK];
    for (block, scales) in scales.chunks_exact_mut(outputs).enumerate() {
        for first in (0..outputs).step_by(LANES) {
            let width = LANES.min(outputs - first);
            for (row, lanes) in rows.iter_mut().enumerate() {
                let from = (block * BLOCK + row) * outputs + first;
                if width == LANES {
                    lanes.copy_from_slice(&values[from..from + LANES]);
                } else {
                    *lanes = [0.0; LANES];
                    lanes[..width].copy_from_slice(&values[from..from + width]);
                }
            }
            let scale = scale(&rows, grid);
            scales[first..first + width].copy_from_slice(&scale[..width]);
            for (row, lanes) in rows.iter().enumerate() {
                let mut fields = [0_u32; LANES];
                for lane in 0..LANES {
                    let scaled = if scale[lane] == 0.0 { 0.0 } else { lanes[lane] / scale[lane] };
                    // The low bits of a number shifted so are the integer.
                    let integer = (round(scaled, grid) + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits());
                    fields[lane] = (integer.wrapping_add(offset) & mask) << (bits * (lane % columns));
                }
                let at = (block * BLOCK + row) * row_words + first / columns;
                for (word, fields) in words[at..at + width / columns].iter_mut().zip(fields.chunks_exact(columns)) {
                    *word = fields.iter().fold(0, |word, field| word | field);
                }
            }
        }
    }
}

/// 1.5·2²³: a number of this size has no bit for a fraction.
const SHIFT: f32 = 12_582_912.0;

/// Rounds to nearest, ties to even, and clamps; magnitudes are below 2²². Without SSE4.1 the function of the standard library is
/// a call.
#[inline(always)]
fn round(value: f32, grid: Grid) -> f32 {
    let value = (value + SHIFT) - SHIFT;
    // Comparisons become one instruction each, unlike `clamp`, which keeps a NaN.
    let value = if value > grid.min { value } else { grid.min };
    if value < grid.max { value } else { grid.max }
}

/// Rounds to the nearest f16, ties to even.
#[inline(always)]
fn to_f16(value: f32) -> f32 {
    /// The least normal f16, and a number whose neighbours are as far apart as subnormal f16s.
    const NORMAL: f32 = 6.103_515_6e-5;
    const SUBNORMAL_SHIFT: f32 = 0.75;
    let bits = value.to_bits();
    let magnitude = f32::from_bits(bits & 0x7fff_ffff);
    let normal = f32::from_bits((magnitude.to_bits() + 0xfff + (bits >> 13 & 1)) & !0x1fff);
    let subnormal = (magnitude + SUBNORMAL_SHIFT) - SUBNORMAL_SHIFT;
    let rounded = if magnitude < NORMAL { subnormal } else { normal };
    let rounded = if magnitude >= F16_OVERFLOW { f32::INFINITY } else { rounded };
    f32::from_bits(rounded.to_bits() | (bits & 0x8000_0000))
}

/// Returns the scale of each lane's block, as [`Grid::scale`].
#[inline(always)]
fn scale(rows: &[ColumnLanes; BLOCK], grid: Grid) -> ColumnLanes {
    let mut peak = [0.0_f32; LANES];
    for lanes in rows {
        for lane in 0..LANES {
            peak[lane] = if lanes[lane].abs() > peak[lane].abs() { lanes[lane] } else { peak[lane] };
        }
    }
    // Values beyond f16, which are refused later, have scales that are not finite.
    if peak.iter().any(|peak| peak.abs() >= F16_OVERFLOW) {
        return std::array::from_fn(|lane| grid.scale(&std::array::from_fn(|row| rows[row][lane])));
    }
    let mut best = peak.map(|peak| to_f16(peak.abs() / grid.max));
    if !grid.searches_scale {
        return best;
    }
    let mut least = [f32::INFINITY; LANES];
    for start in 0..3 {
        let start: ColumnLanes = std::array::from_fn(|lane| match start {
            0 => peak[lane].abs() / grid.max,
            1 => -peak[lane].abs() / grid.max,
            _ => peak[lane] / grid.min,
        });
        for candidate in 0..SCALE_CANDIDATES {
            let share = 1.0 - f32::from(candidate) * SCALE_STEP;
            let scale: ColumnLanes = std::array::from_fn(|lane| to_f16(start[lane] * share));
            // Division by zero gives numbers that are not compared below.
            let mut errors = [0.0_f32; LANES];
            for lanes in rows {
                for lane in 0..LANES {
                    let error = lanes[lane] - scale[lane] * round(lanes[lane] / scale[lane], grid);
                    errors[lane] += error * error;
                }
            }
            for lane in 0..LANES {
                let is_better = scale[lane] != 0.0 && errors[lane] < least[lane];
                least[lane] = if is_better { errors[lane] } else { least[lane] };
                best[lane] = if is_better { scale[lane] } else { best[lane] };
            }
        }
    }
    // A block whose candidates are all zero in f16 has the scale zero.
    std::array::from_fn(|lane| if least[lane] == f32::INFINITY { 0.0 } else { best[lane] })
}
