//! The numeric formats that a device holds weight matrices in.
//!
//! A matrix `[inputs, outputs]` is stored as u32 words. A word holds neighbouring columns of one input, the first column in
//! its lowest bits.
//!
//! | format | one word | per 32 inputs of a column |
//! |---|---|---|
//! | f32 | one column | |
//! | bf16, f16 | two columns | |
//! | q8 | four columns, i8 each | one f16 scale |
//! | q4_affine | eight columns, four bits each | one f32 scale and one f32 minimum |
//! | q4 | eight columns, four bits each, stored plus 8 | one f16 scale |
//!
//! The scales `[inputs/32, outputs]` follow the integers in the same buffer: f16 ones two to a word, f32 ones one to a word. The
//! minimums `[inputs/32, outputs]` follow the scales.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Inputs of a column that share one scale.
pub const BLOCK: usize = 32;

/// The numeric format of a weight matrix on a device, most precise first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightFormat {
    #[default]
    F32,
    Bf16,
    F16,
    Q8,
    /// Integers 0 to 15 of a scale and a minimum, as Q4_1 and Q4_K of GGUF have them. The scale of Q4_K is a product of an f16 and
    /// an integer, which only f32 holds.
    #[serde(rename = "q4_affine")]
    Q4Affine,
    Q4,
}

impl WeightFormat {
    /// All formats, most precise first.
    pub const ALL: [Self; 6] = [Self::F32, Self::Bf16, Self::F16, Self::Q8, Self::Q4Affine, Self::Q4];

    /// Returns whether a matrix of `inputs` × `outputs` can be stored in this format.
    #[must_use]
    pub fn fits(self, inputs: usize, outputs: usize) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 | Self::F16 => inputs.is_multiple_of(4) && outputs.is_multiple_of(4),
            Self::Q8 => inputs.is_multiple_of(BLOCK) && outputs.is_multiple_of(4),
            Self::Q4 | Self::Q4Affine => inputs.is_multiple_of(BLOCK) && outputs.is_multiple_of(8),
        }
    }

    /// Returns the bytes of a matrix, scales and minimums included.
    ///
    /// ```
    /// use pixart_weights::WeightFormat;
    ///
    /// assert_eq!(WeightFormat::Q4.bytes(1152, 4608), 1152 * 4608 / 2 + 1152 / 32 * 4608 * 2);
    /// ```
    #[must_use]
    pub fn bytes(self, inputs: usize, outputs: usize) -> usize {
        self.parts(inputs).into_iter().map(|(rows, bits)| rows * outputs * bits / 8).sum()
    }

    /// Returns the parts of a matrix in the order of its words, each of as many columns as the matrix: its rows, and the bits of an
    /// element. The first part holds the weights, the second one scales and, below them, minimums.
    pub(crate) fn parts(self, inputs: usize) -> [(usize, usize); 2] {
        let scales = match self {
            Self::F32 | Self::Bf16 | Self::F16 => (0, 16),
            Self::Q8 | Self::Q4 => (inputs / BLOCK, 16),
            Self::Q4Affine => (2 * (inputs / BLOCK), 32),
        };
        [(inputs, self.bits()), scales]
    }

    /// Returns the bits of one weight, without its scale.
    pub(crate) fn bits(self) -> usize {
        match self {
            Self::F32 => 32,
            Self::Bf16 | Self::F16 => 16,
            Self::Q8 => 8,
            Self::Q4 | Self::Q4Affine => 4,
        }
    }

    /// Returns whether weights are integers with a scale per block.
    pub(crate) fn has_scales(self) -> bool {
        matches!(self, Self::Q8 | Self::Q4Affine | Self::Q4)
    }
}

/// Writes the name that the command line and manifests use, such as `q8`.
impl fmt::Display for WeightFormat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Q8 => "q8",
            Self::Q4Affine => "q4_affine",
            Self::Q4 => "q4",
        })
    }
}
