use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{combine_moments, group_moments, group_norm, group_norm_with_moments};
use crate::testing::{assert_close, assert_moments_close, checks, moments, read, values};
use crate::{GroupNormOptions, count_launches};

const EPS: f64 = 1e-6;

#[derive(Clone, Copy)]
struct Case {
    /// B, H, W, C.
    shape: [usize; 4],
    groups: usize,
    silu: bool,
    half: bool,
    /// Added to every number.
    far: f32,
}

impl Case {
    /// Input, weight and bias. Channels differ in their mean, so that a wrong group shows.
    fn numbers(&self) -> [Vec<f32>; 3] {
        let [b, h, w, c] = self.shape;
        let stored = |value: f32| if self.half { half::f16::from_f32(value).to_f32() } else { value };
        let x = values(1, b * h * w * c).into_iter().zip(0..);
        [x.map(|(value, at)| stored(value + self.far + (at % c) as f32 / 4.0)).collect(), values(2, c), values(3, c)]
    }

    fn reference(&self) -> Vec<f32> {
        let ([b, h, w, c], [x, weight, bias]) = (self.shape, self.numbers());
        let own = c / self.groups;
        let mut y = vec![0.0; x.len()];
        for set in 0..b * self.groups {
            let (picture, first) = (set / self.groups, set % self.groups * own);
            let places: Vec<usize> =
                (0..h * w * own).map(|at| (picture * h * w + at / own) * c + first + at % own).collect();
            let mean = places.iter().map(|at| f64::from(x[*at])).sum::<f64>() / places.len() as f64;
            let squares = places.iter().map(|at| (f64::from(x[*at]) - mean).powi(2)).sum::<f64>();
            let deviation = (squares / places.len() as f64 + EPS).sqrt();
            for at in places {
                let z = f64::from(weight[at % c]) * (f64::from(x[at]) - mean) / deviation + f64::from(bias[at % c]);
                y[at] = if self.silu { z / (1.0 + (-z).exp()) } else { z } as f32;
            }
        }
        y
    }

    fn launched(&self, device: &Device) -> Tensor<4> {
        let ([_, _, _, c], [x, weight, bias]) = (self.shape, self.numbers());
        let stored = if self.half { DType::F16 } else { DType::F32 };
        let x = Tensor::<4>::from_data(TensorData::new(x, self.shape), (device, stored));
        let [weight, bias] = [weight, bias].map(|each| Tensor::<1>::from_data(TensorData::new(each, [c]), device));
        let Self { groups, silu, .. } = *self;
        group_norm(x, &GroupNormOptions { weight: &weight, bias: &bias, groups, eps: EPS, silu })
    }

    async fn check(&self, device: &Device, tolerance: f32) {
        let want = self.reference();
        assert!(want.iter().any(|value| value.abs() > 0.1), "nothing is asked for");
        let Self { shape, groups, silu, half, far } = self;
        let what = format!("{shape:?} in {groups} silu {silu} half {half} far {far}");
        assert_close(&read(self.launched(device)).await, &want, tolerance, &what);
    }
}

/// One pixel, primes, more pixels than a run and than 16 chunks of the least size, groups of 1, 2, 3 and 6 channels, which
/// share vectors, and channels that no shader takes.
const SHAPES: [([usize; 4], usize); 11] = [
    ([1, 1, 1, 8], 8),
    ([2, 7, 11, 64], 32),
    ([1, 29, 31, 12], 4),
    ([1, 97, 101, 24], 4),
    ([1, 1, 1, 4], 1),
    ([2, 5, 7, 24], 3),
    ([1, 13, 17, 16], 4),
    ([3, 1, 31, 12], 3),
    ([1, 97, 101, 8], 2),
    ([2, 3, 5, 6], 6),
    ([1, 4, 4, 6], 2),
];

async fn every_shape_agrees_with_the_f64_reference(device: &Device) {
    for (shape, groups) in SHAPES {
        for silu in [false, true] {
            Case { shape, groups, silu, half: false, far: 0.0 }.check(device, 2e-6).await;
        }
    }
}

async fn a_mean_far_from_zero_costs_only_the_rounding_of_the_input(device: &Device) {
    // At 1000 an f32 is 6e-5 apart, and the deviation is about 3: E[x²] - E[x]² would have no digit right.
    let case = Case { shape: [1, 40, 33, 16], groups: 4, silu: false, half: false, far: 1000.0 };
    case.check(device, 2e-5).await;
}

async fn activations_in_half_precision_lose_no_more_than_their_rounding(device: &Device) {
    let case = Case { shape: [2, 9, 31, 24], groups: 3, silu: true, half: true, far: 0.0 };
    case.check(device, 1e-3).await;
}

async fn a_norm_is_two_launches(device: &Device) {
    let case = Case { shape: [2, 33, 65, 16], groups: 4, silu: true, half: false, far: 0.0 };
    case.check(device, 2e-6).await;
    let (_, counts) = count_launches(|| case.launched(device));
    assert_eq!(counts.dispatches, if *device == Device::flex() { 0 } else { 2 });
}

async fn sets_of_channels_are_merged_to_groups(device: &Device) {
    // More chunks than a workgroup has invocations, and fewer than there are groups.
    for (chunks, sets, groups) in [(131, 6, 3), (1, 8, 8), (2, 12, 2)] {
        let case = Case { shape: [2, chunks, 1, 4 * sets], groups: sets, silu: false, half: false, far: 4.0 };
        let [numbers, ..] = case.numbers();
        let x = Tensor::<4>::from_data(TensorData::new(numbers.clone(), case.shape), device);
        let rows = (0..chunks).map(|row| group_moments(&x.clone().narrow(1, row, 1), sets)).collect();
        let merged = combine_moments(&Tensor::cat(rows, 1), groups);
        assert_eq!(merged.dims(), [2, 1, groups, 4]);
        let want = moments(&numbers, [2, 4 * sets, groups]);
        assert_moments_close(
            &read(merged).await,
            &want,
            2e-6,
            &format!("{chunks} chunks, {sets} sets in {groups} groups"),
        );
    }
}

async fn parts_of_a_picture_with_its_moments_are_normalised_as_in_the_picture(device: &Device) {
    const ROWS: [usize; 3] = [9, 1, 23];
    for (c, groups) in [(24, 3), (24, 12), (6, 6)] {
        let case = Case { shape: [2, 33, 7, c], groups, silu: true, half: false, far: 4.0 };
        let [x, weight, bias] = case.numbers();
        let x = Tensor::<4>::from_data(TensorData::new(x, case.shape), device);
        let [weight, bias] = [weight, bias].map(|each| Tensor::<1>::from_data(TensorData::new(each, [c]), device));
        let parts: Vec<Tensor<4>> = x.split_with_sizes(ROWS.to_vec(), 1);
        let moments = parts.iter().map(|part| group_moments(part, groups)).collect();
        let moments = combine_moments(&Tensor::cat(moments, 1), groups);
        assert_eq!(moments.dims(), [2, 1, groups, 4]);
        let options = GroupNormOptions { weight: &weight, bias: &bias, groups, eps: EPS, silu: true };
        let y = parts.into_iter().map(|part| group_norm_with_moments(part, &moments, &options)).collect();
        let got = read(Tensor::cat(y, 1)).await;
        assert_close(&got, &case.reference(), 2e-6, &format!("{c} channels in {groups} groups"));
    }
}

checks! {
    [
        every_shape_agrees_with_the_f64_reference,
        a_mean_far_from_zero_costs_only_the_rounding_of_the_input,
        a_norm_is_two_launches,
        sets_of_channels_are_merged_to_groups,
        parts_of_a_picture_with_its_moments_are_normalised_as_in_the_picture,
    ],
    shader_f16: [activations_in_half_precision_lose_no_more_than_their_rounding]
}
