//! The dtypes and layouts of tensors in files.

use std::fmt;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::WeightFormat;

/// The most axes that a tensor of a checkpoint may have.
const RANK_MAX: usize = 8;

/// The dtype of a tensor's bytes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoredDtype {
    F32,
    Bf16,
    F16,
    /// 8-bit integers with a scale per block, as [`WeightFormat::Q8`].
    Q8,
    /// 4-bit integers with a scale per block, as [`WeightFormat::Q4`].
    Q4,
    /// Bytes of a file that is stored whole.
    U8,
    /// A dtype of safetensors or torch that no weight has.
    #[serde(skip)]
    Other(Dtype),
}

impl StoredDtype {
    /// Returns the bytes of one element; `None` for formats whose elements share bytes.
    #[must_use]
    pub fn element_bytes(self) -> Option<u64> {
        match self {
            Self::F32 => Some(4),
            Self::Bf16 | Self::F16 => Some(2),
            Self::U8 => Some(1),
            Self::Q8 | Self::Q4 => None,
            Self::Other(dtype) => Some(dtype.bitsize() as u64 / 8),
        }
    }

    /// Returns whether weights of this dtype can be read from a diffusers folder.
    pub(crate) fn is_weight_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }
}

impl From<WeightFormat> for StoredDtype {
    fn from(format: WeightFormat) -> Self {
        match format {
            WeightFormat::F32 => Self::F32,
            WeightFormat::Bf16 => Self::Bf16,
            WeightFormat::F16 => Self::F16,
            WeightFormat::Q8 => Self::Q8,
            WeightFormat::Q4 => Self::Q4,
        }
    }
}

/// Fails with the dtype itself where no weight format is stored as it.
impl TryFrom<StoredDtype> for WeightFormat {
    type Error = StoredDtype;

    fn try_from(dtype: StoredDtype) -> Result<Self, StoredDtype> {
        match dtype {
            StoredDtype::F32 => Ok(Self::F32),
            StoredDtype::Bf16 => Ok(Self::Bf16),
            StoredDtype::F16 => Ok(Self::F16),
            StoredDtype::Q8 => Ok(Self::Q8),
            StoredDtype::Q4 => Ok(Self::Q4),
            StoredDtype::U8 | StoredDtype::Other(_) => Err(dtype),
        }
    }
}

impl From<Dtype> for StoredDtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::BF16 => Self::Bf16,
            Dtype::F16 => Self::F16,
            Dtype::U8 => Self::U8,
            other => Self::Other(other),
        }
    }
}

/// Writes safetensors' name of the dtype, such as `BF16`.
impl fmt::Display for StoredDtype {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => out.write_str("F32"),
            Self::Bf16 => out.write_str("BF16"),
            Self::F16 => out.write_str("F16"),
            Self::Q8 => out.write_str("Q8"),
            Self::Q4 => out.write_str("Q4"),
            Self::U8 => out.write_str("U8"),
            Self::Other(dtype) => write!(out, "{dtype}"),
        }
    }
}

/// The dtype and the order of a tensor's elements in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorLayout {
    pub dtype: StoredDtype,
    /// Whether a matrix of shape `[outputs, inputs]` is stored as `[inputs, outputs]`, in the words of [`WeightFormat`].
    /// All other tensors are row-major in their shape.
    pub transposed: bool,
}

impl TensorLayout {
    /// Returns the layout of a tensor that is row-major in its shape.
    #[must_use]
    pub fn row_major(dtype: StoredDtype) -> Self {
        Self { dtype, transposed: false }
    }

    /// Returns the layout of a transposed matrix of shape `[outputs, inputs]`: in `format` where the shape permits, else
    /// in f32.
    ///
    /// ```
    /// use pixart_weights::{StoredDtype, TensorLayout, WeightFormat};
    ///
    /// assert_eq!(TensorLayout::matrix(WeightFormat::Q8, [16, 64]).dtype, StoredDtype::Q8);
    /// assert_eq!(TensorLayout::matrix(WeightFormat::Q8, [16, 30]).dtype, StoredDtype::F32, "30 is no multiple of 32");
    /// ```
    #[must_use]
    pub fn matrix(format: WeightFormat, [outputs, inputs]: [usize; 2]) -> Self {
        let format = if format.fits(inputs, outputs) { format } else { WeightFormat::F32 };
        Self { dtype: format.into(), transposed: true }
    }

    /// Returns the format of a transposed matrix; `None` for row-major tensors.
    #[must_use]
    pub fn weight_format(self) -> Option<WeightFormat> {
        if self.transposed { self.dtype.try_into().ok() } else { None }
    }

    /// Returns the bytes of a tensor of this shape; `None` where the shape cannot have this layout.
    #[must_use]
    pub fn bytes(self, shape: &[usize]) -> Option<u64> {
        if shape.len() > RANK_MAX {
            return None;
        }
        let count = shape.iter().try_fold(1_u64, |count, side| count.checked_mul(*side as u64))?;
        if !self.transposed {
            return count.checked_mul(self.dtype.element_bytes()?);
        }
        let (format, [outputs, inputs]) = (self.weight_format()?, <[usize; 2]>::try_from(shape).ok()?);
        // Four bytes per element bound the arithmetic of every format, so that none of it can overflow a usize.
        usize::try_from(count.checked_mul(4)?).ok()?;
        format.fits(inputs, outputs).then(|| format.bytes(inputs, outputs) as u64)
    }
}

/// Writes the layout as a person reads it, such as `Q8, transposed`.
impl fmt::Display for TensorLayout {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}{}", self.dtype, if self.transposed { ", transposed" } else { "" })
    }
}
