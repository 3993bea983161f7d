//! The GPU backend: hand-written WGSL, launched where the device compiles WGSL; None elsewhere, and for shapes that no shader
//! supports. One file per operation; `launch` binds and counts, `wgsl` renders the shaders' text.

mod attention;
mod conv;
mod gemm;
mod group_norm;
mod launch;
mod norm;
mod patch;
#[cfg(test)]
mod reflection;
mod specialisations;
mod tiling;
mod unroll;
mod weights;
mod wgsl;

pub(crate) use attention::attention;
pub(crate) use conv::conv;
pub(crate) use gemm::linear;
pub(crate) use group_norm::{combine_moments, group_moments, group_norm};
pub use launch::{LaunchCounts, count_launches};
pub(crate) use norm::norm;
pub(crate) use patch::{patchify, unpatchify};
pub use specialisations::{Specialisation, specialisations};
pub use tiling::rows_of_each_tiling;
