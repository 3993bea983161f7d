//! Operations on plain slices, for devices that are the processor itself: natively on every core, in a tab on the one
//! thread that the module runs on. No tensor is known here but in [`flex`], which lends a tensor's numbers as a slice.
//!
//! Contract: inputs are contiguous f32, sizes are asserted, sums are f32 in blocks of at most [`DEPTH`] products.

mod attention;
mod conv;
mod flex;
mod gemm;
mod group_norm;
mod lanes;
mod math;
mod norm;
mod panel;
mod parallel;
#[cfg(test)]
mod tests;

pub(crate) use attention::{Attention, Bias, Heads, attention};
pub(crate) use conv::{Conv, conv3x3};
pub(crate) use flex::{Slice, tensor};
pub(crate) use gemm::{BroadcastRow, MatmulEpilogue, matmul};
pub(crate) use group_norm::{GroupNorm, group_moments, group_norm};
pub(crate) use norm::{Modulation, layer_norm, rms_norm};
pub(crate) use panel::WeightSlice;

/// Products that are summed in a register before they join the sum in memory: the rounding of long sums stays small,
/// and a panel of weights stays in the nearest cache.
const DEPTH: usize = 256;
