use burn::tensor::{DType, Device, Tensor, TensorData};

use super::attention;
use crate::options::{MIN_SCORE, broadcast_strides};
use crate::testing::{assert_close, checks, read, values};
use crate::{AttentionOptions, Heads, KernelVariant, LaunchCounts, count_launches};

/// The inputs of a call, as plain numbers. q is a tensor of its own; k and v are columns of one tensor, between others.
#[derive(Clone, Copy)]
struct Case {
    b: usize,
    n: usize,
    t: usize,
    l: usize,
    d: usize,
    /// Columns before, between and after q, k and v.
    gap: usize,
    /// The axes of the bias that have the length of the scores' axis; None for no bias.
    bias: Option<[bool; 4]>,
    /// Keys at the end that are masked, and what is added to their scores.
    masked: usize,
    mask: f32,
    half: bool,
}

const PLAIN: Case = Case { b: 1, n: 1, t: 1, l: 1, d: 4, gap: 0, bias: None, masked: 0, mask: 0.0, half: false };

const KEYS_ALONE: Option<[bool; 4]> = Some([true, false, false, true]);

impl Case {
    fn query_columns(&self) -> usize {
        self.n * self.d + 2 * self.gap
    }

    fn key_columns(&self) -> usize {
        2 * self.n * self.d + 3 * self.gap
    }

    fn value_first(&self) -> usize {
        self.n * self.d + 2 * self.gap
    }

    fn bias_dims(&self) -> Option<[usize; 4]> {
        let full = [self.b, self.n, self.t, self.l];
        self.bias.map(|axes| std::array::from_fn(|axis| if axes[axis] { full[axis] } else { 1 }))
    }

    /// Queries, keys with values, bias.
    fn numbers(&self) -> [Vec<f32>; 3] {
        let rounded = |values: Vec<f32>| -> Vec<f32> {
            if self.half {
                values.into_iter().map(|value| half::f16::from_f32(value).to_f32()).collect()
            } else {
                values
            }
        };
        let mut bias = self.bias_dims().map_or(vec![], |dims| values(3, dims.iter().product()));
        for (at, value) in bias.iter_mut().enumerate() {
            if at % self.l >= self.l - self.masked {
                *value += self.mask;
            }
        }
        let queries = values(1, self.b * self.t * self.query_columns());
        [rounded(queries), rounded(values(2, self.b * self.l * self.key_columns())), bias]
    }

    fn scale(&self) -> f32 {
        (self.d as f32).sqrt().recip()
    }

    /// The formula in f64, with all scores of a query at once.
    fn reference(&self) -> Vec<f32> {
        let Self { b, n, t, l, d, gap, .. } = *self;
        let [queries, keys, bias] = self.numbers();
        let strides = self.bias_dims().map(broadcast_strides).map(|strides| strides.map(|stride| stride as usize));
        let mut y = Vec::with_capacity(b * t * n * d);
        for (picture, query, head) in (0..b * t * n).map(|at| (at / n / t, at / n % t, at % n)) {
            let q = &queries[(picture * t + query) * self.query_columns() + gap + head * d..][..d];
            let row =
                |key: usize, first: usize| &keys[(picture * l + key) * self.key_columns() + first + head * d..][..d];
            let scores: Vec<f64> = (0..l)
                .map(|key| {
                    let products = q.iter().zip(row(key, gap)).map(|(q, k)| f64::from(*q) * f64::from(*k));
                    let added = strides.map_or(0.0, |strides| {
                        let at = [picture, head, query, key].into_iter().zip(strides).map(|(at, stride)| at * stride);
                        bias[at.sum::<usize>()]
                    });
                    (f64::from(self.scale()) * products.sum::<f64>() + f64::from(added)).max(f64::from(MIN_SCORE))
                })
                .collect();
            let peak = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - peak).exp()).collect();
            let total: f64 = weights.iter().sum();
            y.extend((0..d).map(|channel| {
                let sum: f64 = (0..l).map(|key| weights[key] * f64::from(row(key, self.value_first())[channel])).sum();
                (sum / total) as f32
            }));
        }
        y
    }

    async fn launched(&self, device: &Device) -> Vec<f32> {
        let Self { b, n, t, l, d, gap, .. } = *self;
        let [queries, keys, bias] = self.numbers();
        let stored = if self.half { DType::F16 } else { DType::F32 };
        let q = Tensor::<3>::from_data(TensorData::new(queries, [b, t, self.query_columns()]), (device, stored));
        let kv = Tensor::<3>::from_data(TensorData::new(keys, [b, l, self.key_columns()]), (device, stored));
        let bias = self.bias_dims().map(|dims| Tensor::<4>::from_data(TensorData::new(bias, dims), device));
        let options = AttentionOptions { heads: n, head_channels: d, scale: self.scale(), bias: bias.as_ref() };
        let [k, v] = [gap, self.value_first()].map(|first| Heads { tensor: &kv, first });
        let y = attention(Heads { tensor: &q, first: gap }, k, v, &options);
        assert_eq!((y.dims(), y.dtype()), ([b, t, n * d], stored));
        read(y).await
    }

    async fn check(&self, device: &Device) {
        let Self { b, n, t, l, d, gap, bias, half, .. } = *self;
        let want = self.reference();
        assert!(want.iter().any(|value| value.abs() > 0.1), "nothing is asked for");
        // Scores reach a few hundred here, so that an f32 sum of products moves a weight by some 1e-5 of it.
        let tolerance = if half { 1e-3 } else { 2e-5 };
        let what = format!("{b}·{n} heads of {d}, {t}×{l}, gap {gap}, bias {bias:?}, half {half}");
        assert_close(&self.launched(device).await, &want, tolerance, &what);
    }
}

/// N, T, L, D: ones, primes, one past each tile, the widths of the models, and heads that no shader takes.
const SHAPES: [[usize; 4]; 11] = [
    [1, 1, 1, 4],
    [2, 7, 5, 8],
    [3, 1, 33, 48],
    [2, 65, 1, 64],
    [16, 9, 17, 72],
    [2, 129, 16, 72],
    [1, 3, 120, 128],
    [2, 17, 33, 132],
    [1, 16, 65, 512],
    [2, 13, 515, 17],
    [1, 2, 3, 516],
];

/// Mesa compiles the text for software adapters for minutes where heads are wider: its loops over a private array become
/// branches. A browser's compiler takes a second, and there all are tested.
const WIDEST_IN_REGISTERS: usize = 48;

fn widest() -> usize {
    if cfg!(not(target_family = "wasm")) && KernelVariant::current() == KernelVariant::RegisterTiled {
        WIDEST_IN_REGISTERS
    } else {
        usize::MAX
    }
}

/// Filters the pairs whose first number, the channels of a head, is not too wide for the variant.
fn narrow(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    pairs.iter().copied().filter(|(d, _)| *d <= widest()).collect()
}

async fn heads_of_every_shape_agree_with_the_f64_reference(device: &Device) {
    for [n, t, l, d] in SHAPES.into_iter().filter(|[.., d]| *d <= widest()) {
        Case { n, t, l, d, ..PLAIN }.check(device).await;
        Case { b: 2, n, t, l, d, gap: 4, bias: KEYS_ALONE, ..PLAIN }.check(device).await;
    }
}

async fn a_bias_broadcasts_from_any_axis(device: &Device) {
    for axes in 0..16 {
        let bias = Some(std::array::from_fn(|axis| axes >> axis & 1 == 1));
        Case { b: 2, n: 3, t: 10, l: 19, d: 8, bias, ..PLAIN }.check(device).await;
    }
    for (d, l) in narrow(&[(16, 7), (136, 7)]) {
        Case { b: 2, n: 2, t: 5, l, d, bias: Some([false, true, true, true]), ..PLAIN }.check(device).await;
    }
}

async fn masked_keys_weigh_nothing(device: &Device) {
    for mask in [f32::MIN, -10_000.0] {
        for (d, l) in narrow(&[(12, 37), (136, 37)]) {
            let case = Case { b: 2, n: 2, t: 6, l, d, bias: KEYS_ALONE, masked: 20, mask, ..PLAIN };
            case.check(device).await;
            let all = case.launched(device).await;
            let kept = Case { masked: 0, ..case };
            assert!(kept.reference().iter().zip(&all).any(|(one, other)| (one - other).abs() > 0.1), "the mask shows");
        }
    }
}

async fn a_query_whose_keys_are_all_masked_takes_the_mean_of_the_values(device: &Device) {
    for (d, l) in narrow(&[(8, 1), (8, 21), (136, 21)]) {
        let case = Case { t: 3, l, d, bias: KEYS_ALONE, masked: l, mask: f32::MIN, ..PLAIN };
        case.check(device).await;
        let [_, keys, _] = case.numbers();
        let column = |channel: usize| keys[d + channel..].iter().step_by(2 * d).map(|value| f64::from(*value));
        let mean: Vec<f32> = (0..d).map(|channel| (column(channel).sum::<f64>() / l as f64) as f32).collect();
        assert_close(&case.launched(device).await[..d], &mean, 2e-6, "mean");
    }
}

async fn activations_in_half_precision_lose_no_more_than_their_rounding(device: &Device) {
    for (d, _) in narrow(&[(24, 0), (132, 0)]) {
        Case { b: 2, n: 2, t: 70, l: 35, d, gap: 8, bias: KEYS_ALONE, half: true, ..PLAIN }.check(device).await;
    }
}

/// Scores of ±4·30² would overflow `exp` at once, and the maximum comes last, first or in between.
async fn scores_that_would_overflow_are_weighed_all_the_same(device: &Device) {
    for peak in [0, 20, 39] {
        for (d, _) in narrow(&[(4, 0), (132, 0)]) {
            let q = Tensor::<3>::from_data(TensorData::new(vec![30.0_f32; d], [1, 1, d]), device);
            let key = |at: usize| if at == peak { 30.0 } else { -30.0 + at as f32 };
            let keys: Vec<f32> = (0..40).flat_map(|at| vec![key(at); d]).collect();
            let k = Tensor::<3>::from_data(TensorData::new(keys, [1, 40, d]), device);
            let v: Vec<f32> = (0..40).flat_map(|at| vec![at as f32 - 7.5; d]).collect();
            let v = Tensor::<3>::from_data(TensorData::new(v, [1, 40, d]), device);
            let [q, k, v] = [&q, &k, &v].map(|tensor| Heads { tensor, first: 0 });
            let options = AttentionOptions { heads: 1, head_channels: d, scale: 1.0, bias: None };
            let want = vec![peak as f32 - 7.5; d];
            assert_close(&read(attention(q, k, v, &options)).await, &want, 1e-6, &format!("{d} channels, peak {peak}"));
        }
    }
}

async fn heads_of_one_tensor_are_attended_to_in_one_launch_without_a_copy(device: &Device) {
    let (b, t, n, d) = (2, 20, 3, 8);
    let own = Tensor::<3>::from_data(TensorData::new(values(9, b * t * 3 * n * d), [b, t, 3 * n * d]), device);
    let columns = |at: usize| Heads { tensor: &own, first: at * n * d };
    let options = AttentionOptions { heads: n, head_channels: d, scale: 0.25, bias: None };
    let (y, counts) = count_launches(|| attention(columns(0), columns(1), columns(2), &options));
    // The log of `on_every_device` does not see launches of a log within it.
    let again = attention(columns(0), columns(1), columns(2), &options);
    assert_eq!(read(y).await, read(again).await);
    if !device.eq(&Device::flex()) {
        assert!(matches!(counts, LaunchCounts { dispatches: 1, copies: 0, .. }), "{counts:?}");
    }
}

checks! {
    [
        heads_of_every_shape_agree_with_the_f64_reference,
        a_bias_broadcasts_from_any_axis,
        masked_keys_weigh_nothing,
        a_query_whose_keys_are_all_masked_takes_the_mean_of_the_values,
        scores_that_would_overflow_are_weighed_all_the_same,
        heads_of_one_tensor_are_attended_to_in_one_launch_without_a_copy,
    ],
    shader_f16: [activations_in_half_precision_lose_no_more_than_their_rounding]
}

#[test]
#[should_panic(expected = "a bias [1, 1, 2, 3] for scores [1, 1, 1, 3]")]
fn a_bias_of_another_length_is_refused() {
    let device = Device::flex();
    let [q, k] = [1, 3].map(|tokens| Tensor::<3>::zeros([1, tokens, 4], &device));
    let bias = Tensor::<4>::zeros([1, 1, 2, 3], &device);
    let [q, k] = [&q, &k].map(|tensor| Heads { tensor, first: 0 });
    let options = AttentionOptions { heads: 1, head_channels: 4, scale: 1.0, bias: Some(&bias) };
    let _ = attention(q, k, k, &options);
}

#[test]
#[should_panic(expected = "8 channels of heads from 4 on, in 8 columns")]
fn heads_past_the_last_column_are_refused() {
    let x = Tensor::<3>::zeros([1, 1, 8], &Device::flex());
    let columns = |first| Heads { tensor: &x, first };
    let _ = attention(
        columns(0),
        columns(4),
        columns(0),
        &AttentionOptions { heads: 1, head_channels: 8, scale: 1.0, bias: None },
    );
}
