//! Norms over the channels of a token, in one pass over memory. x and y are rows of C channels.

use burn::tensor::Tensor;

use super::flex::{Slice, tensor};
use super::math::reduce_sum;
use super::matmul::BroadcastRow;
use super::parallel::parallel_for;
use super::simd::{Lanes, SimdTask, dispatch};
use crate::options::{Modulation, TokenNorm};

/// The approximate number of values of a task: enough to pay for a thread.
const TASK: usize = 1 << 16;

/// Computes a norm of x; None on other devices.
pub(crate) fn norm(x: &Tensor<3>, norm: TokenNorm<'_>, eps: f64) -> Option<Tensor<3>> {
    let [_, t, c] = x.dims();
    let (values, eps) = (Slice::of(x)?, eps as f32);
    let y = match norm {
        TokenNorm::Layer(None) => normalize(values.values(), c, eps, RowNorm::Layer(None)),
        TokenNorm::Layer(Some(Modulation { shift, scale })) => {
            let table = Slice::of(shift.table)?;
            let [scale, shift] = [scale, shift].map(|chunk| BroadcastRow::new(table.values(), chunk, t));
            normalize(values.values(), c, eps, RowNorm::Layer(Some([scale, shift])))
        }
        TokenNorm::RootMeanSquare(weight) => {
            normalize(values.values(), c, eps, RowNorm::RootMeanSquare(Slice::of(weight)?.values()))
        }
    };
    Some(tensor(y, x.dims(), x))
}

/// [`TokenNorm`] as slices.
#[derive(Clone, Copy)]
enum RowNorm<'a> {
    /// Modulated by scale and shift, if given.
    Layer(Option<[BroadcastRow<'a>; 2]>),
    RootMeanSquare(&'a [f32]),
}

fn normalize(x: &[f32], c: usize, epsilon: f32, norm: RowNorm<'_>) -> Vec<f32> {
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
    /// The index of the first row.
    first: usize,
    c: usize,
    epsilon: f32,
    norm: RowNorm<'a>,
}

impl SimdTask for RowChunk<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { x, y, first, c, epsilon, norm } = self;
        for (row, (x, y)) in (first..).zip(x.chunks_exact(c).zip(y.chunks_exact_mut(c))) {
            match norm {
                RowNorm::Layer(scale_shift) => {
                    let mean = reduce_sum(x, |x| x) / c as f32;
                    let variance = reduce_sum(x, |x| (x - mean) * (x - mean)) / c as f32;
                    let factor = 1.0 / (variance + epsilon).sqrt();
                    y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - mean) * factor);
                    if let Some([scale, shift]) = scale_shift {
                        let (scale, shift) = (scale.of(row, 0..c), shift.of(row, 0..c));
                        for ((y, scale), shift) in y.iter_mut().zip(scale).zip(shift) {
                            *y = *y * (1.0 + scale) + shift;
                        }
                    }
                }
                RowNorm::RootMeanSquare(weight) => {
                    let factor = 1.0 / (reduce_sum(x, |x| x * x) / c as f32 + epsilon).sqrt();
                    for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                        *y = x * factor * weight;
                    }
                }
            }
        }
    }
}
