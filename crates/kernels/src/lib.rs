//! Fused operations: hand-written WGSL where the device speaks it, burn's own operations elsewhere (CPU, CUDA, SPIR-V).
//! One operation per file, each with its formula, its launch, its portable body and its tests. No model knowledge here.
//!
//! Contract: an operation gives the same numbers on every device within f32 rounding, and asserts its shapes.

mod gemm;
#[cfg(test)]
mod testing;
mod wgsl;

pub use gemm::gemm;

use burn::backend::{Backend, backend_extension, tensor::FloatTensor};

/// The operations every backend answers, by WGSL or by its portable body.
#[backend_extension(Cube, Flex: cfg(not(target_family = "wasm")))]
pub(crate) trait Ops: Backend {
    fn gemm(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
    fn gemm_biased(a: FloatTensor<Self>, b: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;
}
