//! The matrix product compared with f64, on shapes that fill no tile and on inputs with outliers. The operations are tested in
//! `ops`, on every device.

use std::sync::Arc;

use pixart_weights::{ColumnOrder, GgmlType, MappedBytes, MappedLayout, MappedMatrix};

use super::matmul::{MatmulEpilogue, matmul};
use super::panel::{WeightSlice, reads_mapped};
use crate::testing::{assert_close, values};
use crate::{WeightFormat, dequantize, quantize};

const TOLERANCE: f32 = 2e-6;

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn narrow(values: Vec<f64>) -> Vec<f32> {
    assert!(values.iter().any(|value| value.abs() > 0.1), "nothing is asked for");
    values.into_iter().map(|value| value as f32).collect()
}

/// x `[M, K]` times w `[K, N]`.
fn matmul_f64(x: &[f32], w: &[f32], [k, n]: [usize; 2]) -> Vec<f64> {
    let (x, w) = (wide(x), wide(w));
    let rows = x.chunks_exact(k).flat_map(|x| (0..n).map(move |column| (x, column)));
    rows.map(|(x, column)| x.iter().zip(w.iter().skip(column).step_by(n)).map(|(x, w)| x * w).sum()).collect()
}

#[test]
fn products_of_every_shape_agree() {
    // Ones, primes, one past a tile, past a block of rows, of columns and of inputs.
    for [m, k, n] in [[1, 1, 1], [7, 11, 13], [6, 256, 16], [25, 257, 65], [97, 600, 129], [1031, 5, 7], [2, 4608, 3]] {
        let (x, w) = (values(1, m * k), values(2, k * n));
        let got = matmul(&x, WeightSlice::Dense(&w), [k, n], MatmulEpilogue::default());
        assert_close(&got, &narrow(matmul_f64(&x, &w, [k, n])), TOLERANCE, &format!("{m}×{k}×{n}"));
    }
}

#[test]
fn packed_weights_give_what_they_stand_for() {
    for format in [WeightFormat::Bf16, WeightFormat::F16, WeightFormat::Q8, WeightFormat::Q4Affine, WeightFormat::Q4] {
        // Blocks of 32 inputs across pieces of 256, and columns that fill no panel.
        for [m, k, n] in [[3, 32, 8], [13, 320, 72], [8, 288, 24]] {
            let tame: Vec<f32> = values(2, k * n).iter().map(|value| value.clamp(-1.0, 1.0)).collect();
            let words = quantize(&tame, [k, n], format);
            let (x, dequantized) = (values(1, m * k), dequantize(&words, [k, n], format));
            let words: Vec<i32> = words.into_iter().map(u32::cast_signed).collect();
            let got = matmul(&x, WeightSlice::Quantized(&words, format), [k, n], MatmulEpilogue::default());
            let want = narrow(matmul_f64(&x, &dequantized, [k, n]));
            assert_close(&got, &want, TOLERANCE, &format!("{format:?} {m}×{k}×{n}"));
        }
    }
}

/// Words in a file.
struct FileWords(Vec<u32>);

impl AsRef<[u8]> for FileWords {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Two parts of any bytes, whose values are below two.
fn mapped(layout: MappedLayout, order: ColumnOrder, [k, n]: [usize; 2]) -> MappedMatrix {
    let part = |seed: u32| {
        let tame: Vec<f32> = values(seed, k * n).iter().map(|value| value.clamp(-1.0, 1.0)).collect();
        let words = match layout {
            MappedLayout::Words(format) => quantize(&tame, [k, n], format),
            // Rows are as good as columns.
            MappedLayout::Floats(format) => quantize(&tame, [n, k], format),
            // A scale of 1/128 in every block of 34 bytes.
            MappedLayout::Blocks(_) => {
                let mut bytes: Vec<u8> =
                    (0..k * n / 32 * 34).map(|at| (at * 89 + at / 11) as u8 ^ seed as u8).collect();
                bytes.chunks_exact_mut(34).for_each(|block| block[..2].copy_from_slice(&[0, 0x20]));
                bytemuck::pod_collect_to_vec(&bytes)
            }
        };
        let bytes = words.len() * 4;
        MappedBytes { file: Arc::new(FileWords(words)), range: 0..bytes }
    };
    MappedMatrix::new(vec![part(2), part(3)], order, [k, n], layout).expect("words are aligned")
}

#[test]
fn a_mapped_matrix_has_the_products_of_its_values() {
    let words = WeightFormat::ALL.map(MappedLayout::Words);
    let floats = [WeightFormat::F32, WeightFormat::Bf16, WeightFormat::F16].map(MappedLayout::Floats);
    for layout in words.into_iter().chain(floats).chain([MappedLayout::Blocks(GgmlType::Q8_0)]) {
        for order in [ColumnOrder::Concatenated, ColumnOrder::Interleaved] {
            // Pieces of 256 inputs and less, whole blocks of 64 columns and, where columns take turns, half a block.
            for (m, k, n) in [(3, 320, 128), (13, 256, if order == ColumnOrder::Interleaved { 48 } else { 64 })] {
                let matrix = mapped(layout, order, [k, n]);
                assert!(reads_mapped(&matrix), "{layout:?}");
                let (x, w) = (values(1, m * k), matrix.values());
                let want = matmul(&x, WeightSlice::Dense(&w), [k, 2 * n], MatmulEpilogue::default());
                let got = matmul(&x, WeightSlice::Mapped(&matrix), [k, 2 * n], MatmulEpilogue::default());
                assert!(want.iter().any(|value| value.abs() > 0.1) && got == want, "{layout:?} {order:?} {m}×{k}×{n}");
            }
        }
    }
    let part_of_a_block = mapped(MappedLayout::Words(WeightFormat::Q8), ColumnOrder::Concatenated, [32, 40]);
    assert!(!reads_mapped(&part_of_a_block), "64 columns would be of two parts");
}

#[test]
fn small_halves_are_exact() {
    let halves: Vec<f32> =
        [1, 2, 0x3ff, 0x400, 0x3c00, 0x7bff, 0x8001, 0xbc00].map(|bits| half::f16::from_bits(bits).to_f32()).to_vec();
    let words: Vec<i32> = quantize(&halves, [1, 8], WeightFormat::F16).into_iter().map(u32::cast_signed).collect();
    let got = matmul(&[1.0], WeightSlice::Quantized(&words, WeightFormat::F16), [1, 8], MatmulEpilogue::default());
    assert_eq!(got, halves);
}

#[test]
fn every_set_of_instructions_gives_the_same_product() {
    use super::panel::{accumulate_panels, pack, width};
    use super::simd::{Lanes, Portable, SimdTask, dispatch};

    struct Small<'a> {
        x: &'a [f32],
        w: &'a [f32],
        y: &'a mut Vec<f32>,
    }
    impl SimdTask for Small<'_> {
        #[inline(always)]
        fn run<L: Lanes>(self) {
            let rows: Vec<&[f32]> = self.x.chunks_exact(40).collect();
            let mut panels = vec![0.0; 40 * 32];
            pack::<L>(WeightSlice::Dense(self.w), [40, 19], 0..40, 0..19, &mut panels);
            let stride = 19_usize.next_multiple_of(width::<L>());
            let mut sums = vec![0.0; rows.len() * stride];
            accumulate_panels::<L>(&rows, &panels[..40 * stride], &mut sums, stride);
            *self.y = sums.chunks_exact(stride).flat_map(|row| row[..19].to_vec()).collect();
        }
    }

    let (x, w) = (values(1, 13 * 40), values(2, 40 * 19));
    let want = narrow(matmul_f64(&x, &w, [40, 19]));
    let (mut best, mut portable) = (Vec::new(), Vec::new());
    dispatch(Small { x: &x, w: &w, y: &mut best });
    Small { x: &x, w: &w, y: &mut portable }.run::<Portable>();
    #[cfg(target_arch = "x86_64")]
    if super::simd::x86::has_avx2() {
        let mut avx2 = Vec::new();
        // SAFETY: the machine has it.
        unsafe { super::simd::x86::avx2(Small { x: &x, w: &w, y: &mut avx2 }) };
        assert_close(&avx2, &want, TOLERANCE, "AVX2's");
    }
    assert_close(&best, &want, TOLERANCE, "the machine's");
    assert_close(&portable, &want, TOLERANCE, "portable");
}
