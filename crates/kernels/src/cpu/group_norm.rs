//! Group norm of pictures `[B, H, W, C]`: y = (x - mean) / √(variance + ε) · weight + bias, and SiLU of that where asked
//! for; mean and variance over H, W and the C/G channels of a group (Wu and He 2018). Statistics are summed in f64.

use super::lanes::{Lanes, Work, dispatch};
use super::math::activate;
use super::parallel::parallel;
use crate::Activation;

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

/// Pictures of as many channels as there are weights.
pub(crate) fn group_norm(x: &[f32], batch: usize, norm: GroupNorm<'_>) -> Vec<f32> {
    let c = norm.weight.len();
    assert!(c.is_multiple_of(norm.groups), "{} groups of {c} channels", norm.groups);
    assert!(x.len().is_multiple_of(batch * c), "{} values for {batch} pictures of {c} channels", x.len());
    let length = (TASK / c).max(1) * c;
    let picture = x.len() / batch;
    let mut y = vec![0.0; x.len()];
    for (x, y) in x.chunks_exact(picture).zip(y.chunks_exact_mut(picture)) {
        let mut sums = vec![[0.0; 2]; x.len().div_ceil(length) * c];
        parallel(x.chunks(length).zip(sums.chunks_mut(c)), |(): &mut (), (x, sums)| dispatch(Statistics { x, sums }));
        let factors = norm.factors(&sums, picture / norm.groups);
        parallel(x.chunks(length).zip(y.chunks_mut(length)), |(): &mut (), (x, y)| {
            dispatch(Apply { x, y, silu: norm.silu, factors: &factors });
        });
    }
    y
}

/// y = (x - mean) · scale + shift, for each channel.
struct Factors {
    means: Vec<f32>,
    scales: Vec<f32>,
    shifts: Vec<f32>,
}

impl GroupNorm<'_> {
    /// From the sums of each channel and of its squares, of several parts; `count` numbers are in a group.
    fn factors(&self, sums: &[[f64; 2]], count: usize) -> Factors {
        let c = self.weight.len();
        let [mut means, mut scales, mut shifts] = std::array::from_fn(|_| Vec::with_capacity(c));
        for group in 0..self.groups {
            let channels = group * c / self.groups..(group + 1) * c / self.groups;
            let in_group = sums.chunks_exact(c).flat_map(|sums| &sums[channels.clone()]);
            let [sum, squares] = in_group.fold([0.0; 2], |total, sums| [total[0] + sums[0], total[1] + sums[1]]);
            let mean = sum / count as f64;
            let variance = (squares / count as f64 - mean * mean).max(0.0);
            let factor = 1.0 / (variance + f64::from(self.epsilon)).sqrt();
            for channel in channels.clone() {
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

impl Work for Statistics<'_> {
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

impl Work for Apply<'_> {
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
