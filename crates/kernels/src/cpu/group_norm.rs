//! Group norm, and the moments of groups. Moments are accumulated in f64.

use burn::tensor::{Tensor, TensorData};

use super::flex::{Slice, tensor};
use super::math::activate;
use super::parallel::parallel_for;
use super::simd::{Lanes, SimdTask, dispatch};
use crate::options::{Activation, GroupNormOptions, MOMENT_VALUES};

/// The approximate number of values of a task.
const TASK: usize = 1 << 16;
/// Channels whose sums are in registers at a time.
const STRIP: usize = 8;

/// Computes the moments of the groups of x, `[B, 1, groups, 4]`; None on other devices.
pub(crate) fn group_moments(x: &Tensor<4>, groups: usize) -> Option<Tensor<4>> {
    let [b, _, _, c] = x.dims();
    let moments = moments_of(Slice::of(x)?.values(), b, c, groups);
    Some(Tensor::from_data(TensorData::new(moments, [b, 1, groups, MOMENT_VALUES]), &x.device()))
}

/// Computes the group norm of x by its moments; None on other devices.
pub(crate) fn group_norm(x: &Tensor<4>, moments: &Tensor<4>, options: &GroupNormOptions<'_>) -> Option<Tensor<4>> {
    let [b, ..] = x.dims();
    let GroupNormOptions { groups, eps, silu, .. } = *options;
    let [weight, bias] = [Slice::of(options.weight)?, Slice::of(options.bias)?];
    let affine = GroupAffine { weight: weight.values(), bias: bias.values(), groups, epsilon: eps as f32 };
    let (values, moments) = (Slice::of(x)?, Slice::of(moments)?);
    Some(tensor(normalize(values.values(), b, moments.values(), affine, silu), x.dims(), x))
}

/// The affine parameters of a group norm, as slices.
#[derive(Clone, Copy)]
struct GroupAffine<'a> {
    weight: &'a [f32],
    bias: &'a [f32],
    groups: usize,
    epsilon: f32,
}

/// Returns the moments of every group of every image of `c` channels.
fn moments_of(x: &[f32], batch: usize, c: usize, groups: usize) -> Vec<f32> {
    let image = x.len() / batch;
    let mut moments = Vec::with_capacity(batch * groups * MOMENT_VALUES);
    for x in x.chunks_exact(image) {
        let length = task(c);
        let mut sums = vec![[0.0; 2]; x.len().div_ceil(length) * c];
        parallel_for(x.chunks(length).zip(sums.chunks_mut(c)), |(): &mut (), (x, sums)| {
            dispatch(Statistics { x, sums })
        });
        let count = (image / groups) as f64;
        for group in 0..groups {
            let channels = group * c / groups..(group + 1) * c / groups;
            let in_group = sums.chunks_exact(c).flat_map(|sums| &sums[channels.clone()]);
            let [sum, squares] = in_group.fold([0.0; 2], |total, sums| [total[0] + sums[0], total[1] + sums[1]]);
            let mean = sum / count;
            moments.extend([count, mean, (squares - count * mean * mean).max(0.0), 0.0].map(|number| number as f32));
        }
    }
    moments
}

/// Normalizes images of as many channels as there are weights, with one or more rows of moments for each.
fn normalize(x: &[f32], batch: usize, moments: &[f32], norm: GroupAffine<'_>, silu: bool) -> Vec<f32> {
    let c = norm.weight.len();
    assert!(c.is_multiple_of(norm.groups), "{} groups of {c} channels", norm.groups);
    assert!(x.len().is_multiple_of(batch * c), "{} values for {batch} images of {c} channels", x.len());
    let (length, image) = (task(c), x.len() / batch);
    let mut y = vec![0.0; x.len()];
    let images = x.chunks_exact(image).zip(y.chunks_exact_mut(image));
    for ((x, y), moments) in images.zip(moments.chunks_exact(moments.len() / batch)) {
        let factors = norm.factors(moments);
        parallel_for(x.chunks(length).zip(y.chunks_mut(length)), |(): &mut (), (x, y)| {
            dispatch(Apply { x, y, silu, factors: &factors });
        });
    }
    y
}

/// Returns the numbers of a task, which are whole pixels.
fn task(c: usize) -> usize {
    (TASK / c).max(1) * c
}

/// y = (x - mean) · scale + shift, for each channel.
struct Factors {
    means: Vec<f32>,
    scales: Vec<f32>,
    shifts: Vec<f32>,
}

impl GroupAffine<'_> {
    /// Returns the factors for rows of moments, each of all groups (Chan et al. 1983).
    fn factors(&self, moments: &[f32]) -> Factors {
        let c = self.weight.len();
        let [mut means, mut scales, mut shifts] = std::array::from_fn(|_| Vec::with_capacity(c));
        for group in 0..self.groups {
            let rows = moments.chunks_exact(self.groups * MOMENT_VALUES);
            let parts = rows.map(|row| [0, 1, 2].map(|number| f64::from(row[group * MOMENT_VALUES + number])));
            let [count, mean, squares] =
                parts.fold([0.0; 3], |[count, mean, squares], [more, its_mean, its_squares]| {
                    let (total, difference) = (count + more, its_mean - mean);
                    [
                        total,
                        mean + difference * more / total,
                        squares + its_squares + difference * difference * count * more / total,
                    ]
                });
            let factor = 1.0 / (squares / count + f64::from(self.epsilon)).sqrt();
            for channel in group * c / self.groups..(group + 1) * c / self.groups {
                let scale = factor * f64::from(self.weight[channel]);
                // The shift compensates the rounding of the mean to f32.
                let rounding = mean - f64::from(mean as f32);
                means.push(mean as f32);
                scales.push(scale as f32);
                shifts.push((f64::from(self.bias[channel]) - rounding * scale) as f32);
            }
        }
        Factors { means, scales, shifts }
    }
}

/// The sum of each channel and of its squares.
struct Statistics<'a> {
    x: &'a [f32],
    sums: &'a mut [[f64; 2]],
}

impl SimdTask for Statistics<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let c = self.sums.len();
        let strips = c / STRIP * STRIP;
        for first in (0..strips).step_by(STRIP) {
            let (mut sums, mut squares) = ([0.0_f64; STRIP], [0.0_f64; STRIP]);
            for pixel in self.x.chunks_exact(c) {
                let strip: &[f32; STRIP] = pixel[first..].first_chunk().expect("a strip lies in the channels");
                for i in 0..STRIP {
                    let x = f64::from(strip[i]);
                    sums[i] += x;
                    squares[i] += x * x;
                }
            }
            for i in 0..STRIP {
                self.sums[first + i] = [sums[i], squares[i]];
            }
        }
        for pixel in self.x.chunks_exact(c) {
            for (x, sums) in pixel.iter().zip(&mut *self.sums).skip(strips) {
                let x = f64::from(*x);
                *sums = [sums[0] + x, sums[1] + x * x];
            }
        }
    }
}

struct Apply<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    silu: bool,
    factors: &'a Factors,
}

impl SimdTask for Apply<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Factors { means, scales, shifts } = self.factors;
        let c = means.len();
        for (x, y) in self.x.chunks_exact(c).zip(self.y.chunks_exact_mut(c)) {
            for ((((y, x), mean), scale), shift) in y.iter_mut().zip(x).zip(means).zip(scales).zip(shifts) {
                *y = (x - mean) * scale + shift;
            }
            activate(y, if self.silu { Activation::Silu } else { Activation::None });
        }
    }
}
