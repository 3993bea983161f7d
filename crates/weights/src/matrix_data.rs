//! The storage of a weight matrix on its way from a file to a kernel.

use crate::WeightFormat;

/// The elements of a weight matrix `[inputs, outputs]`.
///
/// One enum serves every stage, with the storage of that stage: vectors on the host, tensors on a device, and slices in a
/// CPU kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MatrixData<Dense, Words, Mapped> {
    /// f32 values, row-major.
    Dense(Dense),
    /// The u32 words of [`quantize`](crate::quantize), in a format other than f32.
    Quantized(Words, WeightFormat),
    /// A matrix that stays in its memory-mapped file.
    Mapped(Mapped),
}
