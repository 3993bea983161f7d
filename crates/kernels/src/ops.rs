//! The public operations, one file each: the formula, the assertions on shapes, and the dispatch to the backend of the device
//! (`gpu`, `cpu`), or to burn's built-in operations where neither supports the shape.

mod attention;
mod conv;
mod gemm;
mod group_norm;
mod norm;
mod patch;

pub use attention::attention;
pub use conv::{conv, conv_with_moments};
pub use gemm::linear;
pub use group_norm::{combine_moments, group_moments, group_norm, group_norm_with_moments};
pub use norm::{layer_norm, rms_norm};
pub use patch::{patchify, unpatchify};

#[cfg(any(test, feature = "checks"))]
pub(crate) mod tests {
    use crate::testing::Check;

    /// Every test of every operation, by the operation's name.
    pub(crate) const CHECKS: [(&str, &[Check]); 6] = [
        ("gemm", super::gemm::tests::CHECKS),
        ("attention", super::attention::tests::CHECKS),
        ("norm", super::norm::tests::CHECKS),
        ("conv", super::conv::tests::CHECKS),
        ("group_norm", super::group_norm::tests::CHECKS),
        ("patch", super::patch::tests::CHECKS),
    ];
}
