//! Fused operations: hand-written WGSL where the device speaks it, vector instructions where it is the processor (`cpu`),
//! burn's own operations elsewhere (CUDA, SPIR-V; in a tab there is no elsewhere).
//! One operation per file, each with its formula, its launch, its reference body and its tests. No model knowledge here.
//!
//! Contract: an operation gives the same numbers on every device within f32 rounding, and asserts its shapes.

mod activation;
mod attention;
mod conv;
mod cpu;
mod gemm;
mod group_norm;
mod launch;
mod matrix;
mod modulation;
mod norm;
mod patch;
#[cfg(test)]
mod reflection;
#[cfg(any(test, feature = "checks"))]
pub mod testing;
mod tiles;
mod variant;
mod wgsl;

pub use activation::Activation;
pub use attention::{AttentionOptions, Heads, WIDEST_CHANNELS, attention};
pub use conv::{ConvOptions, Resampling, conv, conv_with_moments};
pub use gemm::{Epilogue, linear};
pub use group_norm::{GroupNormOptions, combine_moments, group_moments, group_norm, group_norm_with_moments};
pub use launch::{LaunchCounts, count_launches};
pub use matrix::Matrix;
pub use modulation::AdaLnChunk;
pub use norm::{Modulation, layer_norm, rms_norm};
pub use patch::{patchify, unpatchify};
pub use pixart_weights::{BLOCK, QuantizedMatrix, WeightFormat, dequantize, quantize};
pub use tiles::rows_of_each_tiling;
pub use variant::KernelVariant;
