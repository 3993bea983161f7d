//! The quantized types of ggml that are read.

use std::fmt;

use half::f16;

use crate::WeightFormat;

/// A quantized type of ggml: blocks of values that share scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "ggml's own names")]
pub enum GgmlType {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
}

/// Each type with its number in a file, and the values and bytes of a block (ggml's `ggml_type`, gguf-py's `GGML_QUANT_SIZES`).
const TYPES: [(GgmlType, u32, usize, usize); 12] = [
    (GgmlType::Q4_0, 2, 32, 18),
    (GgmlType::Q4_1, 3, 32, 20),
    (GgmlType::Q5_0, 6, 32, 22),
    (GgmlType::Q5_1, 7, 32, 24),
    (GgmlType::Q8_0, 8, 32, 34),
    (GgmlType::Q2_K, 10, 256, 84),
    (GgmlType::Q3_K, 11, 256, 110),
    (GgmlType::Q4_K, 12, 256, 144),
    (GgmlType::Q5_K, 13, 256, 176),
    (GgmlType::Q6_K, 14, 256, 210),
    (GgmlType::IQ4_NL, 20, 32, 18),
    (GgmlType::IQ4_XS, 23, 256, 136),
];

impl GgmlType {
    /// All types.
    pub const ALL: [Self; 12] = {
        let mut all = [Self::Q4_0; 12];
        let mut at = 0;
        while at < all.len() {
            all[at] = TYPES[at].0;
            at += 1;
        }
        all
    };

    /// Returns the quantized type of this number in a file.
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        TYPES.iter().find(|known| known.1 == number).map(|known| known.0)
    }

    /// Returns the number of this type in a file.
    #[must_use]
    pub fn number(self) -> u32 {
        TYPES[self as usize].1
    }

    /// Returns the number of values of a block.
    #[must_use]
    pub fn block_values(self) -> usize {
        TYPES[self as usize].2
    }

    /// Returns the bytes of a block.
    #[must_use]
    pub fn block_bytes(self) -> usize {
        TYPES[self as usize].3
    }

    /// Returns the bytes of this many values, which are whole blocks.
    pub(crate) fn bytes(self, values: usize) -> usize {
        values / self.block_values() * self.block_bytes()
    }

    /// Finds the first block with a scale or a minimum that is not finite: the index of its first value, and that number.
    ///
    /// # Panics
    /// For a type that no format has the numbers of.
    pub(crate) fn find_non_finite(self, blocks: &[u8]) -> Option<(usize, f32)> {
        let numbers = match self {
            Self::Q8_0 | Self::Q4_0 => 1,
            Self::Q4_1 | Self::Q4_K => 2,
            _ => panic!("the scales of {self} are not looked for"),
        };
        let bad = |block: &[u8]| {
            let mut halves = block.as_chunks().0[..numbers].iter().map(|bytes| f16::from_le_bytes(*bytes));
            halves.find(|half| !half.is_finite())
        };
        let mut blocks = blocks.chunks_exact(self.block_bytes()).enumerate();
        blocks.find_map(|(at, block)| Some((at * self.block_values(), bad(block)?.to_f32())))
    }

    /// Returns the format that holds the same numbers; none where the nearest format changes them.
    pub(crate) fn same_numbers(self) -> Option<WeightFormat> {
        match self {
            Self::Q8_0 => Some(WeightFormat::Q8),
            Self::Q4_0 => Some(WeightFormat::Q4),
            Self::Q4_1 | Self::Q4_K => Some(WeightFormat::Q4Affine),
            _ => None,
        }
    }
}

/// Writes ggml's name, such as `Q4_K`.
impl fmt::Display for GgmlType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}
