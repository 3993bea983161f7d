//! Quantization loses no more than it says, and merges as values would.

use super::*;

const SHAPE: [usize; 2] = [64, 24];
/// Numbers in -1..1, and now and then 30.
fn values(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    (0..count).map(|_| if next() % 97 == 0 { 30.0 } else { (next() >> 8) as f32 / 8_388_608.0 - 1.0 }).collect()
}

/// The columns of `maps` `[inputs, columns]`, row by row, `turn` of each in turn.
fn merged(maps: &[Vec<f32>], columns: usize, turn: usize) -> Vec<f32> {
    let rows = (0..maps[0].len()).step_by(turn);
    assert!(columns.is_multiple_of(turn));
    rows.flat_map(|at| maps.iter().flat_map(move |map| &map[at..at + turn])).copied().collect()
}

#[test]
fn maps_are_merged_as_their_values_would_be() {
    let maps = [values(2, SHAPE[0] * SHAPE[1]), values(3, SHAPE[0] * SHAPE[1])];
    let wide = [SHAPE[0], 2 * SHAPE[1]];
    for format in WeightFormat::ALL {
        let packed = maps.each_ref().map(|map| QuantizedMatrix::new(map, SHAPE, format));
        let beside = QuantizedMatrix::new(&merged(&maps, SHAPE[1], SHAPE[1]), wide, format);
        assert_eq!(QuantizedMatrix::merged(packed.to_vec(), ColumnOrder::Concatenated), beside);
        let in_turns = QuantizedMatrix::new(&merged(&maps, SHAPE[1], 4), wide, format);
        assert_eq!(QuantizedMatrix::merged(packed.into(), ColumnOrder::Interleaved), in_turns);
        assert_ne!(in_turns.values(), beside.values());
    }
}

/// The words by the definition: one column after the other, with the functions of the standard library.
fn by_definition(values: &[f32], [inputs, outputs]: [usize; 2], format: WeightFormat) -> Vec<u32> {
    let (grid, bits) = (Grid::of(format), format.bits());
    let (columns, offset, mask) = (32 / bits, if bits == 4 { 8 } else { 0 }, (1_u32 << bits) - 1);
    let scale = |block: usize, column: usize| {
        grid.scale(&std::array::from_fn(|row| values[(block * BLOCK + row) * outputs + column]))
    };
    let scales: Vec<f32> = (0..inputs / BLOCK * outputs).map(|at| scale(at / outputs, at % outputs)).collect();
    let field = |at: usize| {
        let scale = scales[at / outputs / BLOCK * outputs + at % outputs];
        let integer = if scale == 0.0 { 0.0 } else { grid.round(values[at] / scale) } as i32;
        ((integer + offset).cast_unsigned() & mask) << (bits * (at % columns))
    };
    let words = (0..inputs * outputs).step_by(columns).map(|at| (at..at + columns).map(field).sum::<u32>());
    let halves = scales.chunks_exact(2).map(|pair| {
        let [low, high] = [pair[0], pair[1]].map(|scale| u32::from(f16::from_f32(scale).to_bits()));
        low | high << 16
    });
    words.chain(halves).collect()
}

#[test]
fn columns_together_give_the_words_of_each_alone() {
    for (format, shape) in [(WeightFormat::Q8, [64, 12]), (WeightFormat::Q8, [32, 24]), (WeightFormat::Q4, [96, 24])] {
        let plain = values(5, shape[0] * shape[1]);
        let kinds: [&dyn Fn(usize, f32) -> f32; 9] = [
            &|_, value| value,
            &|_, value| value * 1e-7,
            &|_, value| value * 3e-6,
            &|_, value| value * 400_000.0,
            &|_, value| half::bf16::from_f32(value).to_f32(),
            &|at, value| if at % 3 == 0 { 0.0 } else { value * 0.01 },
            &|at, _| (at % 17) as f32 - 8.0,
            &|at, value| if at % shape[1] < 4 { 0.0 } else { -value },
            &|_, value| value.powi(3) * 1e-3,
        ];
        for (kind, change) in kinds.into_iter().enumerate() {
            let values: Vec<f32> = plain.iter().enumerate().map(|(at, value)| change(at, *value)).collect();
            assert!(quantize(&values, shape, format) == by_definition(&values, shape, format), "{format}, kind {kind}");
        }
    }
}

#[test]
fn a_matrix_survives_packing_within_half_a_step() {
    let kept = values(1, SHAPE[0] * SHAPE[1]);
    let words = quantize(&kept, SHAPE, WeightFormat::Q8);
    assert_eq!(words.len() * 4, WeightFormat::Q8.bytes(SHAPE[0], SHAPE[1]));
    let back = dequantize(&words, SHAPE, WeightFormat::Q8);
    for (at, (back, value)) in back.iter().zip(&kept).enumerate() {
        let scale = block(&kept, at).fold(0.0_f32, |peak, value| peak.max(value.abs())) / 127.0;
        // The scale itself is rounded to f16, by at most one part in 2048.
        assert!((back - value).abs() <= scale * (0.5 + 127.0 / 2048.0), "{at}: {back} for {value}");
    }
}

#[test]
fn no_block_of_q4_is_worse_than_by_the_scale_of_its_largest_magnitude() {
    let kept = values(1, SHAPE[0] * SHAPE[1]);
    let words = quantize(&kept, SHAPE, WeightFormat::Q4);
    assert_eq!(words.len() * 4, WeightFormat::Q4.bytes(SHAPE[0], SHAPE[1]));
    let back = dequantize(&words, SHAPE, WeightFormat::Q4);
    let mut better = 0;
    for at in (0..kept.len()).filter(|at| (at / SHAPE[1]).is_multiple_of(BLOCK)) {
        let plain = f16::from_f32(block(&kept, at).fold(0.0, |peak: f32, value| peak.max(value.abs())) / 7.0).to_f32();
        let square = |off: f32| off * off;
        let error: f32 = block(&kept, at).zip(block(&back, at)).map(|(value, back)| square(value - back)).sum();
        let plain: f32 = block(&kept, at).map(|value| square(value - plain * (value / plain).round_ties_even())).sum();
        assert!(error <= plain * 1.0001, "the block at {at}: {error}, {plain}");
        better += usize::from(error < plain * 0.9);
    }
    assert!(better > 20, "only {better} blocks are better");
}

/// The block of the matrix that element `at` is in.
fn block(values: &[f32], at: usize) -> impl Iterator<Item = f32> {
    (0..BLOCK).map(move |i| values[(at / SHAPE[1] / BLOCK * BLOCK + i) * SHAPE[1] + at % SHAPE[1]])
}

#[test]
fn halves_and_whole_numbers_are_kept_exactly() {
    let kept: Vec<f32> = (0..SHAPE[0] * SHAPE[1]).map(|i| (i % 255) as f32 - 127.0).collect();
    for format in [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::F16] {
        assert_eq!(dequantize(&quantize(&kept, SHAPE, format), SHAPE, format), kept);
    }
}

#[test]
fn the_layout_of_a_word_is_the_documented_one() {
    let mut kept = vec![0.0; 32 * 8];
    kept[0] = 127.0;
    kept[1] = -127.0;
    kept[8] = 1.0;
    kept[9] = 1.0;
    let words = quantize(&kept, [32, 8], WeightFormat::Q8);
    assert_eq!((words[0], words[2], words.len()), (0x0000_817f, 0x0000_0101, 32 * 2 + 4));
    assert_eq!(words[64], 0x3c00_3c00, "two scales of 1");
    let kept: Vec<f32> = kept.iter().map(|value| value.clamp(-7.0, 7.0)).collect();
    let words = quantize(&kept, [32, 8], WeightFormat::Q4);
    assert_eq!((words[0], words[1], words.len()), (0x8888_881f, 0x8888_8899, 32 + 4));
}

#[test]
fn the_affine_format_is_a_scale_times_an_integer_plus_a_minimum() {
    let kept = values(1, SHAPE[0] * SHAPE[1]);
    let words = quantize(&kept, SHAPE, WeightFormat::Q4Affine);
    assert_eq!(words.len() * 4, WeightFormat::Q4Affine.bytes(SHAPE[0], SHAPE[1]));
    assert_eq!(words.len() * 32, SHAPE[0] * SHAPE[1] * 6, "six bits a weight");
    let back = dequantize(&words, SHAPE, WeightFormat::Q4Affine);
    for (at, (back, value)) in back.iter().zip(&kept).enumerate() {
        let [least, most] = [f32::min, f32::max].map(|end| block(&kept, at).reduce(end).expect("32 values"));
        let step = (most - least) / 15.0;
        assert!((back - value).abs() <= step * 0.5001, "{at}: {back} for {value}, a step of {step}");
        assert!(*value != least || *back == least, "the least value is exact");
    }
    let mut ramp: Vec<f32> = (0..32 * 8).map(|at| (at / 8 % 16) as f32 * 0.25 - 1.0).collect();
    assert_eq!(dequantize(&quantize(&ramp, [32, 8], WeightFormat::Q4Affine), [32, 8], WeightFormat::Q4Affine), ramp);
    ramp.fill(-0.7);
    assert_eq!(dequantize(&quantize(&ramp, [32, 8], WeightFormat::Q4Affine), [32, 8], WeightFormat::Q4Affine), ramp);
}

#[test]
fn affine_blocks_are_transposed_without_rounding() {
    let ([inputs, outputs], block) = ([64, 16], |output: usize, at: usize| AffineBlock {
        scale: 0.1 * (output + 1) as f32,
        minimum: -0.3 * at as f32,
        integers: std::array::from_fn(|row| ((row * 7 + output) % 16) as u8),
    });
    let matrix = QuantizedMatrix::from_affine_blocks(block, [inputs, outputs]);
    let value = |at: usize| {
        let AffineBlock { scale, minimum, integers } = block(at % outputs, at / outputs / BLOCK);
        let product = scale * f32::from(integers[at / outputs % BLOCK]);
        product + minimum
    };
    assert_eq!(matrix.values(), (0..inputs * outputs).map(value).collect::<Vec<_>>());
    assert_eq!(matrix.words[0] & 0xfff, 0x210, "neighbouring outputs, the first in the low bits");
    assert_eq!(f32::from_bits(matrix.words[inputs * outputs / 8 + 1]), 0.2, "scales follow the integers");
    assert_eq!(f32::from_bits(*matrix.words.last().expect("words")), -0.3, "minimums follow the scales");
}

#[test]
fn an_affine_block_with_a_weight_beyond_f32_is_found() {
    let matrix = |scale: f32, minimum: f32| {
        let block = move |output, at| {
            let (scale, minimum) = if (output, at) == (3, 1) { (scale, minimum) } else { (1.0, 0.0) };
            AffineBlock { scale, minimum, integers: [0; BLOCK] }
        };
        QuantizedMatrix::from_affine_blocks(block, [64, 8]).find_non_finite()
    };
    assert_eq!(matrix(2e37, -1.0), None);
    assert_eq!(matrix(f32::MAX / 8.0, 0.0), Some((11, f32::INFINITY)));
    assert_eq!(matrix(0.0, f32::NEG_INFINITY), Some((11, f32::NEG_INFINITY)));
    assert!(matrix(f32::NAN, 0.0).is_some_and(|(at, value)| at == 11 && value.is_nan()));
}

#[test]
fn a_range_and_a_searched_scale_lose_what_is_documented_of_normal_weights() {
    // Box and Muller's transformation.
    let uniform: Vec<f32> = values(9, 2 * 512 * 64 * 2).into_iter().filter(|value| value.abs() < 1.0).collect();
    let radius = |value: f32| (-2.0 * (1.0 - value.abs()).ln()).sqrt();
    let pairs = uniform.as_chunks().0.iter().map(|[u, v]| radius(*u) * (std::f32::consts::PI * v).cos());
    let normal: Vec<f32> = pairs.take(512 * 64).collect();
    let shape = [512, 64];
    let square_sum = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value * value)).sum::<f64>();
    let error = |format| {
        let back = dequantize(&quantize(&normal, shape, format), shape, format);
        let off = square_sum(&mut back.iter().zip(&normal).map(|(back, value)| back - value));
        (off / square_sum(&mut normal.iter().copied())).sqrt()
    };
    let [affine, q4] = [WeightFormat::Q4Affine, WeightFormat::Q4].map(error);
    assert!((affine - 0.079).abs() < 0.002 && (q4 - 0.082).abs() < 0.002, "{affine}, {q4}");
}
