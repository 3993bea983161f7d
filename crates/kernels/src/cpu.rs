//! The CPU backend, for burn's device flex: natively on every core, in a tab on the module's one thread. None on other devices.
//! One file per operation: a function of tensors, and below it functions of plain slices. `flex` turns a tensor into a slice.
//!
//! Contract: inputs are contiguous f32, sizes are asserted, accumulation is f32 in blocks of at most [`DEPTH`] products.

mod attention;
mod conv;
mod flex;
mod gemm;
mod group_norm;
mod math;
mod matmul;
mod norm;
mod panel;
mod parallel;
mod simd;
#[cfg(test)]
mod tests;

pub(crate) use attention::attention;
pub(crate) use conv::conv;
pub(crate) use gemm::linear;
pub(crate) use group_norm::{group_moments, group_norm};
pub(crate) use norm::norm;
pub(crate) use panel::{IN_TAB, reads_mapped};

/// Products that are accumulated in a register before they are added to the accumulator in memory: the rounding of long sums
/// stays small, and a panel of weights stays in the L1 cache.
const DEPTH: usize = 256;
