use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{layer_norm, rms_norm};
use crate::testing::{assert_close, checks, read, values};
use crate::{AdaLnChunk, Modulation};

const EPS: f64 = 1e-6;
const LAYERS: usize = 2;
const TABLE_ROWS: usize = 6;
/// B, T, C: ones, primes, one past the workgroup, and channels that no shader takes.
const SHAPES: [[usize; 3]; 6] = [[1, 1, 4], [2, 7, 20], [1, 65, 260], [2, 3, 1152], [3, 130, 64], [2, 3, 7]];

fn on<const RANK: usize>(values: &[f32], shape: [usize; RANK], device: &Device, dtype: DType) -> Tensor<RANK> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (device, dtype))
}

/// Rows normalised in f64; `centred` for layer norm.
fn normalised(x: &[f32], c: usize, centred: bool) -> Vec<f64> {
    x.chunks(c)
        .flat_map(|row| {
            let sum: f64 = row.iter().copied().map(f64::from).sum();
            let mean = if centred { sum / c as f64 } else { 0.0 };
            let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / c as f64;
            row.iter().map(move |x| (f64::from(*x) - mean) / (variance + EPS).sqrt()).collect::<Vec<_>>()
        })
        .collect()
}

async fn layer_norm_agrees_with_the_f64_reference(device: &Device) {
    for [b, t, c] in SHAPES {
        // An offset: a variance computed as a difference of squares would show.
        let x: Vec<f32> = values(1, b * t * c).iter().map(|x| x + 50.0).collect();
        let table = values(2, LAYERS * b * TABLE_ROWS * c);
        let want = normalised(&x, c, true);
        let plain: Vec<f32> = want.iter().map(|value| *value as f32).collect();
        let place = |at: usize, row: usize| ((b + at / (t * c)) * TABLE_ROWS + row) * c + at % c;
        let modulated = want.iter().enumerate().map(|(at, value)| {
            let [shift, scale] = [3, 4].map(|row| f64::from(table[place(at, row)]));
            (value * (1.0 + scale) + shift) as f32
        });
        let modulated: Vec<f32> = modulated.collect();
        let table = on(&table, [LAYERS, b, TABLE_ROWS, c], device, DType::F32);
        let row = |chunk| AdaLnChunk { table: &table, layer: 1, chunk };
        let modulation = Modulation { shift: row(3), scale: row(4) };
        let x = on(&x, [b, t, c], device, DType::F32);
        // 50 is 2^21 units in the last place of the smallest deviations: that much is lost in x itself.
        assert_close(&read(layer_norm(x.clone(), None, EPS)).await, &plain, 2e-5, &format!("{b}·{t}×{c}"));
        let got = read(layer_norm(x, Some(modulation), EPS)).await;
        assert_close(&got, &modulated, 2e-5, &format!("{b}·{t}×{c} modulated"));
    }
}

async fn rms_norm_agrees_with_the_f64_reference(device: &Device) {
    for [b, t, c] in SHAPES {
        let (x, weight) = (values(3, b * t * c), values(4, c));
        let want = normalised(&x, c, false);
        let want: Vec<f32> =
            want.iter().enumerate().map(|(at, value)| (value * f64::from(weight[at % c])) as f32).collect();
        let weight = on(&weight, [c], device, DType::F32);
        let got = read(rms_norm(on(&x, [b, t, c], device, DType::F32), &weight, EPS)).await;
        assert_close(&got, &want, 2e-6, &format!("{b}·{t}×{c}"));
    }
}

async fn half_precision_loses_no_more_than_its_rounding(device: &Device) {
    let [b, t, c] = [2, 5, 64];
    let x: Vec<f32> = values(5, b * t * c).iter().map(|x| half::f16::from_f32(*x).to_f32()).collect();
    let want: Vec<f32> = normalised(&x, c, true).iter().map(|value| *value as f32).collect();
    let got = layer_norm(on(&x, [b, t, c], device, DType::F16), None, EPS);
    assert_eq!(got.dtype(), DType::F16);
    assert_close(&read(got).await, &want, 1e-3, "half");
}

checks! {
    [
        layer_norm_agrees_with_the_f64_reference,
        rms_norm_agrees_with_the_f64_reference,
    ],
    shader_f16: [half_precision_loses_no_more_than_its_rounding]
}
