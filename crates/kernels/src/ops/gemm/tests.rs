use burn::tensor::{DType, Device, Tensor, TensorData};

use super::linear;
use crate::testing::{assert_close, checks, read, values};
use crate::{
    Activation, AdaLnChunk, ColumnOrder, Epilogue, Matrix, QuantizedMatrix, WeightFormat, dequantize, quantize,
};

/// The inputs of a call, as plain numbers.
struct Case {
    b: usize,
    t: usize,
    k: usize,
    n: usize,
    format: WeightFormat,
    activation: Activation,
    biased: bool,
    gated: bool,
    /// Images of the residual; 0 for none.
    residual: usize,
    half: bool,
}

const PLAIN: Case = Case {
    b: 1,
    t: 1,
    k: 4,
    n: 4,
    format: WeightFormat::F32,
    activation: Activation::None,
    biased: false,
    gated: false,
    residual: 0,
    half: false,
};

const LAYERS: usize = 2;
const ROWS: usize = 3;

impl Case {
    fn numbers(&self) -> [Vec<f32>; 5] {
        let Self { b, t, k, n, .. } = *self;
        let weights = values(2, k * n);
        let weights = match self.format {
            WeightFormat::F32 => weights,
            // Outliers would make the blocks they are in useless; what is left still fills the range of the integers.
            format => {
                let tame: Vec<f32> = weights.iter().map(|value| value.clamp(-1.0, 1.0)).collect();
                dequantize(&quantize(&tame, [k, n], format), [k, n], format)
            }
        };
        let rounded = |values: Vec<f32>| {
            if self.half {
                values.into_iter().map(|value| half::f16::from_f32(value).to_f32()).collect()
            } else {
                values
            }
        };
        let residual = rounded(values(4, self.residual * t * n));
        [rounded(values(1, b * t * k)), weights, values(3, n), residual, values(5, LAYERS * b * ROWS * n)]
    }

    /// Computes the formula in f64.
    fn reference(&self) -> Vec<f32> {
        let Self { b, t, k, n, .. } = *self;
        let [x, w, bias, residual, table] = self.numbers();
        let sums = |row: usize, column: usize| -> f64 {
            (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(w[i * n + column])).sum()
        };
        if self.activation == Activation::GatedGelu {
            let pairs = (0..b * t).flat_map(|row| (0..n / 2).map(move |column| (row, column / 4 * 8 + column % 4)));
            return pairs.map(|(row, at)| (gelu(sums(row, at)) * sums(row, at + 4)) as f32).collect();
        }
        let mut y = Vec::with_capacity(b * t * n);
        for row in 0..b * t {
            for column in 0..n {
                let mut sum = sums(row, column);
                if self.biased {
                    sum += f64::from(bias[column]);
                }
                sum = match self.activation {
                    Activation::Gelu => gelu(sum),
                    Activation::Silu => sum / (1.0 + (-sum).exp()),
                    _ => sum,
                };
                if self.gated {
                    sum *= f64::from(table[((b + row / t) * ROWS + 2) * n + column]);
                }
                if self.residual > 0 {
                    sum += f64::from(residual[row % (self.residual * t) * n + column]);
                }
                y.push(sum as f32);
            }
        }
        y
    }

    async fn launched(&self, device: &Device) -> Vec<f32> {
        let Self { b, t, k, n, .. } = *self;
        let [x, w, bias, residual, table] = self.numbers();
        let stored = if self.half { DType::F16 } else { DType::F32 };
        let x = Tensor::<3>::from_data(TensorData::new(x, [b, t, k]), (device, stored));
        let w = Matrix::new(w, [k, n], self.format, device);
        let bias = Tensor::<1>::from_data(TensorData::new(bias, [n]), device);
        let table = Tensor::<4>::from_data(TensorData::new(table, [LAYERS, b, ROWS, n]), device);
        let residual = (self.residual > 0)
            .then(|| Tensor::from_data(TensorData::new(residual, [self.residual, t, n]), (device, stored)));
        let epilogue = Epilogue {
            bias: self.biased.then_some(&bias),
            activation: self.activation,
            gate: self.gated.then_some(AdaLnChunk { table: &table, layer: 1, chunk: 2 }),
            residual,
        };
        read(linear(x, &w, epilogue)).await
    }

    async fn check(&self, device: &Device) {
        let Self { b, t, k, n, format, activation, .. } = *self;
        let want = self.reference();
        assert!(want.iter().any(|value| value.abs() > 0.1), "nothing is asked for");
        let tolerance = if self.half { 1e-3 } else { 2e-6 };
        let what = format!("{b}·{t}×{k}×{n} {format:?} {activation:?} half {}", self.half);
        assert_close(&self.launched(device).await, &want, tolerance, &what);
    }
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
}

/// B, T, K, N: ones, primes, one past the tile, many stages, as many tiles as a GPU's larger ones are for, and shapes that no
/// shader takes.
const SHAPES: [[usize; 4]; 9] = [
    [1, 1, 4, 4],
    [1, 7, 12, 20],
    [2, 64, 64, 64],
    [3, 65, 36, 68],
    [1, 13, 200, 12],
    [2, 40, 192, 192],
    [1, 9, 36, 16388],
    [2, 13, 7, 11],
    [1, 1, 1, 1],
];

async fn sums_agree_with_the_twin_for_every_shape(device: &Device) {
    for [b, t, k, n] in SHAPES {
        Case { b, t, k, n, ..PLAIN }.check(device).await;
        Case { b, t, k, n, biased: true, gated: true, residual: b, ..PLAIN }.check(device).await;
    }
}

async fn each_epilogue_agrees_with_the_f64_reference(device: &Device) {
    let case = Case { b: 2, t: 33, k: 32, n: 24, biased: true, ..PLAIN };

    for activation in [Activation::Gelu, Activation::Silu] {
        Case { activation, ..case }.check(device).await;
        Case { activation, gated: true, residual: 1, ..case }.check(device).await;
    }
    Case { activation: Activation::GatedGelu, biased: false, ..case }.check(device).await;
    Case { residual: 2, ..case }.check(device).await;
}

async fn each_weight_format_agrees_with_the_f64_reference(device: &Device) {
    for format in [WeightFormat::Bf16, WeightFormat::F16, WeightFormat::Q8, WeightFormat::Q4Affine, WeightFormat::Q4] {
        for (t, k, n) in [(1, 32, 8), (65, 96, 72), (64, 128, 64)] {
            Case { t, k, n, format, biased: true, ..PLAIN }.check(device).await;
        }
        Case { t: 9, k: 64, n: 32, format, activation: Activation::GatedGelu, ..PLAIN }.check(device).await;
    }
}

async fn activations_in_half_precision_lose_no_more_than_their_rounding(device: &Device) {
    Case { b: 2, t: 35, k: 64, n: 72, biased: true, gated: true, residual: 2, half: true, ..PLAIN }.check(device).await;
    Case { t: 70, k: 64, n: 64, format: WeightFormat::Q8, half: true, ..PLAIN }.check(device).await;
}

async fn two_interleaved_maps_are_gated_by_the_first(device: &Device) {
    let (gate, value) = (values(6, 8 * 4), values(7, 8 * 4));
    let x = values(8, 8);
    let sum =
        |w: &[f32], column: usize| -> f64 { (0..8).map(|i| f64::from(x[i]) * f64::from(w[i * 4 + column])).sum() };
    let want: Vec<f32> = (0..4).map(|column| (gelu(sum(&gate, column)) * sum(&value, column)) as f32).collect();

    let maps = [&gate, &value].map(|map| QuantizedMatrix::new(map, [8, 4], WeightFormat::F32));
    let w = Matrix::of(QuantizedMatrix::merged(maps.into(), ColumnOrder::Interleaved), device);
    let x = Tensor::<3>::from_data(TensorData::new(x.clone(), [1, 1, 8]), device);
    let epilogue = Epilogue { activation: Activation::GatedGelu, ..Epilogue::default() };
    assert_close(&read(linear(x, &w, epilogue)).await, &want, 2e-6, "gated");
}

checks! {
    [
        sums_agree_with_the_twin_for_every_shape,
        each_epilogue_agrees_with_the_f64_reference,
        each_weight_format_agrees_with_the_f64_reference,
        two_interleaved_maps_are_gated_by_the_first,
    ],
    shader_f16: [activations_in_half_precision_lose_no_more_than_their_rounding]
}

#[test]
fn gelu_of_large_numbers_is_the_number_or_zero() {
    let x = Tensor::<3>::from_data([[[-1e6_f32, -60.0, -10.0, 0.0, 1.0, 10.0, 60.0, 1e6]]], &Device::flex());
    let y: Vec<f32> = super::activate(x, Activation::Gelu).into_data().try_into_vec().expect("f32 comes back");
    assert_eq!(y, [0.0, 0.0, 0.0, 0.0, 0.841_192, 10.0, 60.0, 1e6]);
}
