use burn::tensor::{DType, Device, Tensor, TensorData};

use super::conv_with_moments;
use crate::testing::{assert_close, assert_moments_close, checks, moments, read, values};
use crate::{ConvOptions, Matrix, Resampling, WeightFormat, combine_moments, dequantize, quantize};

/// The inputs of a call, as plain numbers.
#[derive(Clone, Copy)]
struct Case {
    /// B, H, W, CI, CO.
    shape: [usize; 5],
    resampling: Resampling,
    format: WeightFormat,
    added: bool,
    half: bool,
}

const PLAIN: Case =
    Case { shape: [1; 5], resampling: Resampling::None, format: WeightFormat::F32, added: false, half: false };

impl Case {
    /// Input, weights, bias and residual.
    fn numbers(&self) -> [Vec<f32>; 4] {
        let [b, h, w, ci, co] = self.shape;
        let weights = values(2, 9 * ci * co);
        let weights = match self.format {
            WeightFormat::F32 => weights,
            // Outliers would make the blocks they are in useless; what is left still fills the range of the integers.
            format => {
                let tame: Vec<f32> = weights.iter().map(|value| value.clamp(-1.0, 1.0)).collect();
                dequantize(&quantize(&tame, [9 * ci, co], format), [9 * ci, co], format)
            }
        };
        let stored = |values: Vec<f32>| {
            let rounded = |value| half::f16::from_f32(value).to_f32();
            if self.half { values.into_iter().map(rounded).collect() } else { values }
        };
        let [oh, ow] = self.sides();
        [stored(values(1, b * h * w * ci)), weights, values(3, co), stored(values(4, b * oh * ow * co))]
    }

    fn sides(&self) -> [usize; 2] {
        let [_, h, w, ..] = self.shape;
        match self.resampling {
            Resampling::None => [h, w],
            Resampling::Upsample2x => [2 * h, 2 * w],
            Resampling::Downsample2x => [h / 2, w / 2],
        }
    }

    /// Computes the definition in f64, with an upsampled and padded image.
    fn reference(&self) -> Vec<f32> {
        let [_, h, w, ci, co] = self.shape;
        let ([oh, ow], [x, weights, bias, residual]) = (self.sides(), self.numbers());
        let pixel = |picture: usize, row: usize, column: usize, channel: usize| {
            let (stride, border) = if self.resampling == Resampling::Downsample2x { (2, 0) } else { (1, 1) };
            let times = if self.resampling == Resampling::Upsample2x { 2 } else { 1 };
            let mut sum = f64::from(bias[channel]);
            for tap in 0..9 {
                let (at_row, at_column) = (stride * row + tap / 3, stride * column + tap % 3);
                if at_row < border || at_column < border {
                    continue;
                }
                let [at_row, at_column] = [at_row, at_column].map(|at| (at - border) / times);
                if at_row >= h || at_column >= w {
                    continue;
                }
                let start = ((picture * h + at_row) * w + at_column) * ci;
                let terms =
                    (0..ci).map(|i| f64::from(x[start + i]) * f64::from(weights[(tap * ci + i) * co + channel]));
                sum += terms.sum::<f64>();
            }
            sum
        };
        let mut y = Vec::with_capacity(residual.len());
        for (at, residual) in residual.into_iter().enumerate() {
            let (channel, rest) = (at % co, at / co);
            let sum = pixel(rest / ow / oh, rest / ow % oh, rest % ow, channel);
            y.push((sum + if self.added { f64::from(residual) } else { 0.0 }) as f32);
        }
        y
    }

    /// y, and its moments where they are known.
    fn launched(&self, device: &Device) -> (Tensor<4>, Option<Tensor<4>>) {
        let [b, h, w, ci, co] = self.shape;
        let ([oh, ow], [x, weights, bias, residual]) = (self.sides(), self.numbers());
        let stored = if self.half { DType::F16 } else { DType::F32 };
        let picture =
            |values, shape: [usize; 4]| Tensor::<4>::from_data(TensorData::new(values, shape), (device, stored));
        let weights = Matrix::new(weights, [9 * ci, co], self.format, device);
        let bias = Tensor::<1>::from_data(TensorData::new(bias, [co]), device);
        let residual = self.added.then(|| picture(residual, [b, oh, ow, co]));
        let options = ConvOptions { bias: &bias, resampling: self.resampling, residual };
        let both = conv_with_moments(picture(x, [b, h, w, ci]), &weights, options);
        assert_eq!(both.0.dims(), [b, oh, ow, co]);
        both
    }

    async fn check(&self, device: &Device) {
        let want = self.reference();
        assert!(want.iter().any(|value| value.abs() > 0.1), "nothing is asked for");
        let tolerance = if self.half { 1e-3 } else { 2e-6 };
        let Self { shape, resampling, format, half, .. } = self;
        assert_close(
            &read(self.launched(device).0).await,
            &want,
            tolerance,
            &format!("{shape:?} {resampling:?} {format:?} half {half}"),
        );
    }

    /// Compares y's moments, where they are known, in groups.
    async fn check_moments(&self, groups: usize, device: &Device) {
        let (_, known) = self.launched(device);
        assert_eq!(
            known.is_none(),
            *device == Device::flex() || crate::KernelVariant::current() == crate::KernelVariant::BurnReference
        );
        let Some(known) = known else { return };
        let [b, .., co] = self.shape;
        let (got, want) = (read(combine_moments(&known, groups)).await, moments(&self.reference(), [b, co, groups]));
        let tolerance = if self.half { 1e-3 } else { 1e-5 };
        assert_moments_close(&got, &want, tolerance, &format!("{:?} in {groups} groups", self.shape));
    }
}

/// One pixel, primes, one past the tile of pixels, of channels and of a stage, a narrow y, more channels than are summed at
/// once, as many tiles as a GPU's larger ones are for, and shapes that no shader takes.
const SHAPES: [[usize; 5]; 9] = [
    [1, 1, 1, 4, 4],
    [2, 5, 7, 12, 20],
    [1, 13, 5, 4, 68],
    [3, 8, 8, 20, 24],
    [1, 27, 31, 8, 4],
    [1, 3, 4, 300, 8],
    [1, 1, 2, 4, 16388],
    [1, 3, 5, 3, 8],
    [2, 2, 3, 8, 3],
];

async fn every_shape_and_sampling_agrees_with_the_f64_reference(device: &Device) {
    for shape in SHAPES {
        for resampling in [Resampling::None, Resampling::Upsample2x, Resampling::Downsample2x] {
            if resampling == Resampling::Downsample2x && shape[1] == 1 {
                continue;
            }
            for added in [false, true] {
                Case { shape, resampling, added, ..PLAIN }.check(device).await;
            }
        }
    }
}

async fn moments_are_those_of_y(device: &Device) {
    // One tile and many, that end at the edge and within; as many as a GPU's larger ones are for, in rows and in columns; columns
    // that no tile ends at; pictures that begin with a tile.
    let shapes = [
        [1, 1, 1, 4, 8],
        [1, 13, 5, 4, 24],
        [1, 33, 9, 8, 72],
        [1, 65, 1, 4, 8196],
        [2, 8, 8, 12, 20],
        [1, 1, 2, 4, 16388],
    ];
    for (shape, groups) in shapes.into_iter().zip([2, 3, 6, 3, 5, 17]) {
        Case { shape, added: true, ..PLAIN }.check_moments(groups, device).await;
    }
    for resampling in [Resampling::Upsample2x, Resampling::Downsample2x] {
        Case { shape: [1, 10, 6, 8, 24], resampling, ..PLAIN }.check_moments(3, device).await;
    }
    // Two pictures of 35 pixels: a tile would have pixels of both.
    assert!(Case { shape: [2, 5, 7, 4, 8], ..PLAIN }.launched(device).1.is_none());
}

async fn each_weight_format_agrees_with_the_f64_reference(device: &Device) {
    for format in [WeightFormat::Bf16, WeightFormat::F16, WeightFormat::Q8, WeightFormat::Q4Affine, WeightFormat::Q4] {
        for shape in [[1, 3, 5, 32, 8], [2, 9, 8, 64, 72]] {
            Case { shape, format, ..PLAIN }.check(device).await;
        }
    }
}

async fn activations_in_half_precision_lose_no_more_than_their_rounding(device: &Device) {
    let case = Case { shape: [2, 5, 7, 12, 20], added: true, half: true, ..PLAIN };
    case.check(device).await;
    Case { resampling: Resampling::Upsample2x, ..case }.check(device).await;
    Case { shape: [1, 9, 5, 8, 24], ..case }.check_moments(3, device).await;
}

checks! {
    [
        every_shape_and_sampling_agrees_with_the_f64_reference,
        moments_are_those_of_y,
        each_weight_format_agrees_with_the_f64_reference,
    ],
    shader_f16: [activations_in_half_precision_lose_no_more_than_their_rounding]
}
