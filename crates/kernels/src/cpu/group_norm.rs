//! Group norm of pictures `[B, H, W, C]`: y = (x - mean) / √(variance + ε) · weight + bias, and SiLU of that where asked
//! for; mean and variance over H, W and the C/G channels of a group (Wu and He 2018). Statistics are summed in f64.

use super::lanes::{Lanes, SimdTask, dispatch};
use super::math::activate;
use super::parallel::parallel_for;
use crate::Activation;
use crate::group_norm::MOMENT_VALUES;

/// Numbers of a task.
const TASK: usize = 1 << 16;
/// Channels whose sums are held in registers.
const STRIP: usize = 8;

#[derive(Clone, Copy)]
pub(crate) struct GroupNorm<'a> {
    /// `[C]`, as is the bias.
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) groups: usize,
    pub(crate) epsilon: f32,
    pub(crate) silu: bool,
}

/// Count, mean, squared distances and nothing, for every group of every picture of `c` channels.
pub(crate) fn group_moments(x: &[f32], batch: usize, c: usize, groups: usize) -> Vec<f32> {
    let picture = x.len() / batch;
    let mut moments = Vec::with_capacity(batch * groups * MOMENT_VALUES);
    for x in x.chunks_exact(picture) {
        let length = task(c);
        let mut sums = vec![[0.0; 2]; x.len().div_ceil(length) * c];
        parallel_for(x.chunks(length).zip(sums.chunks_mut(c)), |(): &mut (), (x, sums)| {
            dispatch(Statistics { x, sums })
        });
        let count = (picture / groups) as f64;
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

/// Pictures of as many channels as there are weights, with one or more rows of moments for each.
pub(crate) fn group_norm(x: &[f32], batch: usize, moments: &[f32], norm: GroupNorm<'_>) -> Vec<f32> {
    let c = norm.weight.len();
    assert!(c.is_multiple_of(norm.groups), "{} groups of {c} channels", norm.groups);
    assert!(x.len().is_multiple_of(batch * c), "{} values for {batch} pictures of {c} channels", x.len());
    let (length, picture) = (task(c), x.len() / batch);
    let mut y = vec![0.0; x.len()];
    let pictures = x.chunks_exact(picture).zip(y.chunks_exact_mut(picture));
    for ((x, y), moments) in pictures.zip(moments.chunks_exact(moments.len() / batch)) {
        let factors = norm.factors(moments);
        parallel_for(x.chunks(length).zip(y.chunks_mut(length)), |(): &mut (), (x, y)| {
            dispatch(Apply { x, y, silu: norm.silu, factors: &factors });
        });
    }
    y
}

/// Numbers of a task: whole pixels.
fn task(c: usize) -> usize {
    (TASK / c).max(1) * c
}

/// y = (x - mean) · scale + shift, for each channel.
struct Factors {
    means: Vec<f32>,
    scales: Vec<f32>,
    shifts: Vec<f32>,
}

impl GroupNorm<'_> {
    /// From rows of moments, each of all groups (Chan et al. 1979).
    fn factors(&self, moments: &[f32]) -> Factors {
        let c = self.weight.len();
        let [mut means, mut scales, mut shifts] = std::array::from_fn(|_| Vec::with_capacity(c));
        for group in 0..self.groups {
            let rows = moments.chunks_exact(self.groups * MOMENT_VALUES);
            let parts = rows.map(|row| [0, 1, 2].map(|number| f64::from(row[group * MOMENT_VALUES + number])));
            let [count, mean, squares] =
                parts.fold([0.0; 3], |[count, mean, squares], [more, its_mean, its_squares]| {
                    let (total, off) = (count + more, its_mean - mean);
                    [total, mean + off * more / total, squares + its_squares + off * off * count * more / total]
                });
            let factor = 1.0 / (squares / count + f64::from(self.epsilon)).sqrt();
            for channel in group * c / self.groups..(group + 1) * c / self.groups {
                let scale = factor * f64::from(self.weight[channel]);
                // What f32 loses of the mean is made good in the shift.
                let lost = mean - f64::from(mean as f32);
                means.push(mean as f32);
                scales.push(scale as f32);
                shifts.push((f64::from(self.bias[channel]) - lost * scale) as f32);
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
