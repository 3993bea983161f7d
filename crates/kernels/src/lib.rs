//! Fused operations of the networks, on three backends: hand-written WGSL where the device compiles it (`gpu`), vector
//! instructions on the CPU (`cpu`), and burn's built-in operations elsewhere (CUDA, SPIR-V). A tab's module contains the first two.
//!
//! `ops` holds the public operations, each with its formula, its assertions and its tests; it dispatches to `gpu`, `cpu` or burn.
//! The backends depend on `options`, `matrix` and `variant` alone. No model knowledge here.
//!
//! Contract: an operation gives the same numbers on every device within f32 rounding, and asserts its shapes.

mod cpu;
mod gpu;
mod matrix;
mod ops;
mod options;
#[cfg(any(test, feature = "checks"))]
pub mod testing;
mod variant;

pub use gpu::{LaunchCounts, Specialisation, count_launches, rows_of_each_tiling, specialisations};
pub use matrix::Matrix;
pub use ops::{
    attention, combine_moments, conv, conv_with_moments, group_moments, group_norm, group_norm_with_moments,
    layer_norm, linear, patchify, rms_norm, unpatchify,
};
pub use options::{
    Activation, AdaLnChunk, AttentionOptions, ConvOptions, Epilogue, GroupNormOptions, Heads, Modulation, Resampling,
    WIDEST_CHANNELS,
};
pub use pixart_weights::{BLOCK, ColumnOrder, QuantizedMatrix, WeightFormat, dequantize, quantize};
pub use variant::KernelVariant;
