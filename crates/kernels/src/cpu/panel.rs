//! Panels of weights, and the register tile that is accumulated from one.
//!
//! A panel is two vectors of neighbouring columns over a range of inputs, `[inputs, 2·COUNT]`, one input after another,
//! with zeros where the matrix has no more columns. Packed weights become f32 on the way in, a panel at a time.

use std::ops::Range;

use pixart_weights::{ColumnOrder, MappedLayout, MappedMatrix, MatrixData};

use super::DEPTH;
use super::simd::Lanes;
use crate::{BLOCK, WeightFormat};

/// Whether the module is a tab's, in which no file is mapped. Code for mapped matrices is then left out.
pub(crate) const IN_TAB: bool = cfg!(target_family = "wasm");

/// The most columns that are packed at a time.
pub(super) const MOST_COLUMNS: usize = 64;

/// Weights `[K, N]` in CPU memory.
pub(super) type WeightSlice<'a> = MatrixData<&'a [f32], &'a [i32], &'a MappedMatrix>;

/// Returns the columns of a panel.
pub(super) const fn width<L: Lanes>() -> usize {
    2 * L::COUNT
}

/// Writes the panels that hold `columns` of `inputs`, one after another.
#[inline(always)]
pub(super) fn pack<L: Lanes>(
    weights: WeightSlice<'_>,
    [k, n]: [usize; 2],
    inputs: Range<usize>,
    columns: Range<usize>,
    panels: &mut [f32],
) {
    let WeightSlice::Mapped(matrix) = weights else {
        return pack_words::<L>(weights, [k, n], inputs, columns, panels);
    };
    if IN_TAB {
        unreachable!("a tab maps no file");
    }
    let [k, outputs] = matrix.part_shape();
    let MappedLayout::Words(format) = matrix.layout() else {
        return pack_transposed::<L>(matrix, inputs, columns, panels);
    };
    if matrix.order() == ColumnOrder::Interleaved && matrix.parts() > 1 {
        return pack_interleaved::<L>(matrix, format, inputs, columns, panels);
    }
    // The columns of a task are in one part.
    let (part, columns) = (columns.start / outputs, columns.start % outputs..(columns.end - 1) % outputs + 1);
    pack_words::<L>(part_words(matrix, part, format), [k, outputs], inputs, columns, panels);
}

/// Returns whether [`pack`] reads the matrix where it lies.
pub(crate) fn reads_mapped(matrix: &MappedMatrix) -> bool {
    let ([inputs, outputs], parts) = (matrix.part_shape(), matrix.parts());
    match (matrix.layout(), matrix.order()) {
        (MappedLayout::Words(_), _) if parts == 1 => true,
        // Columns of one part are packed at a time.
        (MappedLayout::Words(_), ColumnOrder::Concatenated) => outputs.is_multiple_of(MOST_COLUMNS),
        (MappedLayout::Words(_), ColumnOrder::Interleaved) => parts == 2 && outputs.is_multiple_of(8),
        _ => inputs.is_multiple_of(matrix.block_inputs()) && DEPTH.is_multiple_of(matrix.block_inputs()),
    }
}

fn part_words(matrix: &MappedMatrix, part: usize, format: WeightFormat) -> WeightSlice<'_> {
    match format {
        WeightFormat::F32 => MatrixData::Dense(matrix.words(part)),
        _ => MatrixData::Quantized(matrix.words(part), format),
    }
}

/// [`pack`] for two mapped parts whose columns take turns, four of each.
#[inline(always)]
fn pack_interleaved<L: Lanes>(
    matrix: &MappedMatrix,
    format: WeightFormat,
    inputs: Range<usize>,
    columns: Range<usize>,
    panels: &mut [f32],
) {
    const GROUP: usize = 4;
    // Columns begin at a multiple of 64, so that those of a part begin with a word.
    let of_part = columns.start / 2..columns.end / 2;
    let part_panels = of_part.len().next_multiple_of(width::<L>()) * inputs.len();
    let mut packed = vec![0.0; part_panels];
    for part in 0..2 {
        pack_words::<L>(
            part_words(matrix, part, format),
            matrix.part_shape(),
            inputs.clone(),
            of_part.clone(),
            &mut packed,
        );
        for row in 0..inputs.len() {
            let place =
                |column: usize| (column / width::<L>() * inputs.len() + row) * width::<L>() + column % width::<L>();
            for group in 0..of_part.len() / GROUP {
                let (from, to) = (place(GROUP * group), place(GROUP * (2 * group + part)));
                panels[to..to + GROUP].copy_from_slice(&packed[from..from + GROUP]);
            }
            for beyond in columns.len()..columns.len().next_multiple_of(width::<L>()) {
                panels[place(beyond)] = 0.0;
            }
        }
    }
}

/// [`pack`] for weights in row-major order.
#[inline(always)]
fn pack_words<L: Lanes>(
    weights: WeightSlice<'_>,
    [k, n]: [usize; 2],
    inputs: Range<usize>,
    columns: Range<usize>,
    panels: &mut [f32],
) {
    let (mut scales, mut minimums) = ([0.0_f32; MOST_COLUMNS], [0.0_f32; MOST_COLUMNS]);
    for (at, first) in columns.clone().step_by(width::<L>()).enumerate() {
        for row in inputs.clone() {
            let panel = (at * inputs.len() + row - inputs.start) * width::<L>();
            let (values, beyond) = panels[panel..][..width::<L>()].split_at_mut(width::<L>().min(columns.end - first));
            beyond.fill(0.0);
            let place = row * n + first;
            match weights {
                WeightSlice::Dense(full) if values.len() == width::<L>() => {
                    let full = &full[place..][..width::<L>()];
                    L::load(full).store(values);
                    L::load(&full[L::COUNT..]).store(&mut values[L::COUNT..]);
                }
                WeightSlice::Dense(full) => values.copy_from_slice(&full[place..][..values.len()]),
                WeightSlice::Mapped(_) => unreachable!("its words are packed"),
                WeightSlice::Quantized(words, WeightFormat::Bf16) => brain_halves(&words[place / 2..], values),
                WeightSlice::Quantized(words, WeightFormat::F16) => halves(&words[place / 2..], values),
                WeightSlice::Quantized(words, WeightFormat::Q4Affine) => {
                    let scales = &mut scales[at * width::<L>()..][..values.len()];
                    let minimums = &mut minimums[at * width::<L>()..][..values.len()];
                    if row == inputs.start || row.is_multiple_of(BLOCK) {
                        let from = k * n / 8 + row / BLOCK * n + first;
                        singles(&words[from..], scales);
                        singles(&words[from + k / BLOCK * n..], minimums);
                    }
                    affine_nibbles(&words[place / 8..], scales, minimums, values);
                }
                WeightSlice::Quantized(words, format) => {
                    let (in_word, integers) = if format == WeightFormat::Q8 { (4, k * n / 4) } else { (8, k * n / 8) };
                    let scales = &mut scales[at * width::<L>()..][..values.len()];
                    if row == inputs.start || row.is_multiple_of(BLOCK) {
                        halves(&words[integers + (row / BLOCK * n + first) / 2..], scales);
                    }
                    let words = &words[place / in_word..];
                    if in_word == 4 { bytes(words, scales, values) } else { nibbles(words, scales, values) }
                }
            }
        }
    }
}

/// [`pack`] for weights whose columns are contiguous.
#[inline(always)]
fn pack_transposed<L: Lanes>(matrix: &MappedMatrix, inputs: Range<usize>, columns: Range<usize>, panels: &mut [f32]) {
    let mut values = [0.0; DEPTH];
    let values = &mut values[..inputs.len()];
    let panels = panels.chunks_exact_mut(inputs.len() * width::<L>());
    for (first, panel) in columns.clone().step_by(width::<L>()).zip(panels) {
        for at in 0..width::<L>() {
            let places = panel[at..].iter_mut().step_by(width::<L>());
            if first + at >= columns.end {
                places.for_each(|place| *place = 0.0);
                continue;
            }
            matrix.column(first + at, inputs.start, values);
            places.zip(&*values).for_each(|(place, value)| *place = *value);
        }
    }
}

/// Unpacks two f16 of each word. Subnormal ones are exact; infinities and NaN are not weights.
#[inline(always)]
fn halves(words: &[i32], values: &mut [f32]) {
    // 2¹¹²: the difference of the two formats' exponent biases.
    const RESCALE: f32 = f32::from_bits((127 + 112) << 23);
    let half = |bits: u32| {
        let magnitude = f32::from_bits((bits & 0x7fff) << 13) * RESCALE;
        f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16)
    };
    for (pair, word) in values.chunks_exact_mut(2).zip(words) {
        let word = word.cast_unsigned();
        pair[0] = half(word & 0xffff);
        pair[1] = half(word >> 16);
    }
}

/// Unpacks two bf16 of each word: the upper halves of f32.
#[inline(always)]
fn brain_halves(words: &[i32], values: &mut [f32]) {
    for (pair, word) in values.chunks_exact_mut(2).zip(words) {
        let word = word.cast_unsigned();
        pair[0] = f32::from_bits(word << 16);
        pair[1] = f32::from_bits(word & 0xffff_0000);
    }
}

#[inline(always)]
fn bytes(words: &[i32], scales: &[f32], values: &mut [f32]) {
    for ((four, scales), word) in values.chunks_exact_mut(4).zip(scales.chunks_exact(4)).zip(words) {
        for ((value, scale), byte) in four.iter_mut().zip(scales).zip(word.to_le_bytes()) {
            *value = f32::from(byte.cast_signed()) * scale;
        }
    }
}

#[inline(always)]
fn nibbles(words: &[i32], scales: &[f32], values: &mut [f32]) {
    for ((eight, scales), word) in values.chunks_exact_mut(8).zip(scales.chunks_exact(8)).zip(words) {
        for (i, (value, scale)) in eight.iter_mut().zip(scales).enumerate() {
            *value = ((word >> (4 * i) & 15) - 8) as f32 * scale;
        }
    }
}

/// Reads one f32 of each word.
#[inline(always)]
fn singles(words: &[i32], values: &mut [f32]) {
    values.iter_mut().zip(words).for_each(|(value, word)| *value = f32::from_bits(word.cast_unsigned()));
}

#[inline(always)]
fn affine_nibbles(words: &[i32], scales: &[f32], minimums: &[f32], values: &mut [f32]) {
    let blocks = scales.chunks_exact(8).zip(minimums.chunks_exact(8));
    for ((eight, (scales, minimums)), word) in values.chunks_exact_mut(8).zip(blocks).zip(words) {
        for (i, (value, (scale, minimum))) in eight.iter_mut().zip(scales.iter().zip(minimums)).enumerate() {
            *value = (word >> (4 * i) & 15) as f32 * scale + minimum;
        }
    }
}

/// Adds Σᵢ rows[r][i] · weights[i][column] to `sums` `[rows, stride]` for the columns of all panels.
#[inline(always)]
pub(super) fn accumulate_panels<L: Lanes>(rows: &[&[f32]], panels: &[f32], sums: &mut [f32], stride: usize) {
    let Some(inputs) = rows.first().map(|row| row.len()) else { return };
    for (at, panel) in panels.chunks_exact(inputs * width::<L>()).enumerate() {
        let mut first = 0;
        while first < rows.len() {
            let (rows, sums) = (&rows[first..], &mut sums[first * stride + at * width::<L>()..]);
            first += match rows.len().min(L::ROWS) {
                8.. => add_tile::<L, 8>(rows, panel, sums, stride),
                6.. => add_tile::<L, 6>(rows, panel, sums, stride),
                4.. => add_tile::<L, 4>(rows, panel, sums, stride),
                2.. => add_tile::<L, 2>(rows, panel, sums, stride),
                _ => add_tile::<L, 1>(rows, panel, sums, stride),
            };
        }
    }
}

/// Does the same for one panel and the first `ROWS` rows; returns `ROWS`.
#[inline(always)]
fn add_tile<L: Lanes, const ROWS: usize>(rows: &[&[f32]], panel: &[f32], sums: &mut [f32], stride: usize) -> usize {
    let products = tile::<L, ROWS>(*rows.first_chunk().expect("as many rows"), panel);
    for (sums, products) in sums.chunks_mut(stride).zip(products) {
        for (sums, products) in sums.chunks_exact_mut(L::COUNT).zip(products) {
            L::splat(1.0).mul_add(products, L::load(sums)).store(sums);
        }
    }
    ROWS
}

/// Returns Σᵢ rows[r][i] · panel[i][column] for each row and the panel's columns.
#[inline(always)]
fn tile<L: Lanes, const ROWS: usize>(rows: [&[f32]; ROWS], panel: &[f32]) -> [[L; 2]; ROWS] {
    let count = panel.len() / width::<L>();
    assert!(rows.iter().all(|row| row.len() == count), "rows of a panel over {count} inputs");
    let mut sums = [[L::splat(0.0); 2]; ROWS];
    for (i, weights) in panel.chunks_exact(width::<L>()).enumerate() {
        let weights = [L::load(weights), L::load(&weights[L::COUNT..])];
        for (sums, row) in sums.iter_mut().zip(rows) {
            // SAFETY: i < count, and rows are that long. The check costs more than the sums do in a tab.
            let x = L::splat(unsafe { *row.get_unchecked(i) });
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = x.mul_add(weights, *sum);
            }
        }
    }
    sums
}
