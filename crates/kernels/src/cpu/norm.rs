//! Norms over the channels of a token, one pass over memory each.
//!
//! Layer norm: y = (x - mean) / √(variance + ε) · (1 + scale) + shift (Ba et al. 2016; DiT's adaLN). RMS norm:
//! y = x / √(mean(x²) + ε) · weight (Zhang and Sennrich 2019). x and y are rows of C channels.

use super::gemm::BroadcastRow;
use super::lanes::{Lanes, SimdTask, dispatch};
use super::math::sum;
use super::parallel::parallel_for;

/// Numbers of a task, about: enough to be worth a thread.
const TASK: usize = 1 << 16;

/// What follows a layer norm: a row of scales and one of shifts for each picture.
#[derive(Clone, Copy)]
pub(crate) struct Modulation<'a> {
    pub(crate) scale: BroadcastRow<'a>,
    pub(crate) shift: BroadcastRow<'a>,
}

#[derive(Clone, Copy)]
enum Norm<'a> {
    Layer(Option<Modulation<'a>>),
    RootMeanSquare(&'a [f32]),
}

/// Rows of `c` channels, scaled and shifted where asked for.
pub(crate) fn layer_norm(x: &[f32], c: usize, epsilon: f32, modulation: Option<Modulation<'_>>) -> Vec<f32> {
    normalised(x, c, epsilon, Norm::Layer(modulation))
}

/// Rows of as many channels as `weight` has.
pub(crate) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    normalised(x, weight.len(), epsilon, Norm::RootMeanSquare(weight))
}

fn normalised(x: &[f32], c: usize, epsilon: f32, norm: Norm<'_>) -> Vec<f32> {
    assert!(x.len().is_multiple_of(c), "{} values in rows of {c}", x.len());
    let mut y = vec![0.0; x.len()];
    let rows = (TASK / c).max(1);
    parallel_for(x.chunks(rows * c).zip(y.chunks_mut(rows * c)).enumerate(), |(): &mut (), (task, (x, y))| {
        dispatch(RowChunk { x, y, first: task * rows, c, epsilon, norm });
    });
    y
}

struct RowChunk<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    /// The first row's place among all.
    first: usize,
    c: usize,
    epsilon: f32,
    norm: Norm<'a>,
}

impl SimdTask for RowChunk<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { x, y, first, c, epsilon, norm } = self;
        for (row, (x, y)) in (first..).zip(x.chunks_exact(c).zip(y.chunks_exact_mut(c))) {
            match norm {
                Norm::Layer(modulation) => {
                    let mean = sum(x, |x| x) / c as f32;
                    let variance = sum(x, |x| (x - mean) * (x - mean)) / c as f32;
                    let factor = 1.0 / (variance + epsilon).sqrt();
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - mean) * factor);
                    if let Some(Modulation { scale, shift }) = modulation {
                        let (scale, shift) = (scale.of(row, 0..c), shift.of(row, 0..c));
                        for ((y, scale), shift) in y.iter_mut().zip(scale).zip(shift) {
                            *y = *y * (1.0 + scale) + shift;
                        }
                    }
                }
                Norm::RootMeanSquare(weight) => {
                    let factor = 1.0 / (sum(x, |x| x * x) / c as f32 + epsilon).sqrt();
                    for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                        *y = x * factor * weight;
                    }
                }
            }
        }
    }
}
