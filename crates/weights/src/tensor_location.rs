//! Where a tensor is in a file.

use std::ops::Range;

use crate::TensorLayout;

/// The place of one tensor in a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TensorLocation {
    pub(crate) file: String,
    pub(crate) layout: TensorLayout,
    pub(crate) shape: Vec<usize>,
    /// Byte range in the file. Values are little-endian, without alignment.
    pub(crate) range: Range<u64>,
}
