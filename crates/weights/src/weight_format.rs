//! The numeric formats that a device holds weight matrices in.
//!
//! A matrix `[inputs, outputs]` is stored as u32 words. A word holds neighbouring columns of one input, the first column in
//! its lowest bits.
//!
//! | format | one word | scales |
//! |---|---|---|
//! | f32 | one column | |
//! | bf16, f16 | two columns | |
//! | q8 | four columns, i8 each | one f16 per 32 inputs of a column |
//! | q4 | eight columns, four bits each, stored plus 8 | one f16 per 32 inputs of a column |
//!
//! The scales `[inputs/32, outputs]` follow the integers in the same buffer, two to a word.

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
    Q4,
}

impl WeightFormat {
    /// Returns whether a matrix of `inputs` × `outputs` can be stored in this format.
    #[must_use]
    pub fn fits(self, inputs: usize, outputs: usize) -> bool {
        match self {
            Self::F32 => true,
            Self::Bf16 | Self::F16 => inputs.is_multiple_of(4) && outputs.is_multiple_of(4),
            Self::Q8 => inputs.is_multiple_of(BLOCK) && outputs.is_multiple_of(4),
            Self::Q4 => inputs.is_multiple_of(BLOCK) && outputs.is_multiple_of(8),
        }
    }

    /// Returns the bytes of a matrix, scales included.
    ///
    /// ```
    /// use pixart_weights::WeightFormat;
    ///
    /// assert_eq!(WeightFormat::Q4.bytes(1152, 4608), 1152 * 4608 / 2 + 1152 / 32 * 4608 * 2);
    /// ```
    #[must_use]
    pub fn bytes(self, inputs: usize, outputs: usize) -> usize {
        let scales = inputs / BLOCK * outputs * 2;
        match self {
            Self::F32 => inputs * outputs * 4,
            Self::Bf16 | Self::F16 => inputs * outputs * 2,
            Self::Q8 => inputs * outputs + scales,
            Self::Q4 => inputs * outputs / 2 + scales,
        }
    }

    /// Returns the bits of one weight, without its scale.
    pub(crate) fn bits(self) -> usize {
        match self {
            Self::F32 => 32,
            Self::Bf16 | Self::F16 => 16,
            Self::Q8 => 8,
            Self::Q4 => 4,
        }
    }

    /// Returns whether weights are integers with a scale per block.
    pub(crate) fn has_scales(self) -> bool {
        matches!(self, Self::Q8 | Self::Q4)
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
            Self::Q4 => "q4",
        })
    }
}
