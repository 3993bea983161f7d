//! The dtypes and layouts of tensors in files.

use std::fmt;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::gguf::dequantize;
use crate::{GgmlType, WeightFormat};

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
    /// 4-bit integers with a scale and a minimum per block, as [`WeightFormat::Q4Affine`].
    #[serde(rename = "q4_affine")]
    Q4Affine,
    /// 4-bit integers with a scale per block, as [`WeightFormat::Q4`].
    Q4,
    /// Bytes of a file that is stored whole.
    U8,
    /// 8-bit floats, with 4 bits of exponent and 3 of mantissa, or 5 and 2. A file may hold a scale of each tensor.
    #[serde(skip)]
    F8E4M3,
    #[serde(skip)]
    F8E5M2,
    /// A quantized type of ggml.
    #[serde(skip)]
    Ggml(GgmlType),
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
            Self::U8 | Self::F8E4M3 | Self::F8E5M2 => Some(1),
            Self::Q8 | Self::Q4Affine | Self::Q4 | Self::Ggml(_) => None,
            Self::Other(dtype) => Some(dtype.bitsize() as u64 / 8),
        }
    }

    /// Returns whether row-major weights of this dtype can be read.
    pub(crate) fn is_weight(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16 | Self::F8E4M3 | Self::F8E5M2 | Self::Ggml(_))
    }

    /// Returns the dtype of the type number `number` of ggml; none for a type that is not read.
    pub(crate) fn from_ggml(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::F32),
            1 => Some(Self::F16),
            30 => Some(Self::Bf16),
            _ => GgmlType::from_number(number).map(Self::Ggml),
        }
    }

    /// Returns the format that holds the same numbers in other places; none where a format has to round them.
    #[must_use]
    pub fn same_numbers(self) -> Option<WeightFormat> {
        match self {
            Self::Ggml(ggml_type) => ggml_type.same_numbers(),
            other => other.try_into().ok(),
        }
    }

    /// Converts whole elements, or blocks, to f32, exactly; `None` for a dtype that no weight has.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<Vec<f32>> {
        Some(match self {
            Self::F32 => bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            Self::F16 => {
                let mut values = vec![0.0; bytes.len() / 2];
                f16s(bytes.as_chunks().0, &mut values);
                values
            }
            Self::Bf16 => bytes.as_chunks().0.iter().map(|half| bf16::from_le_bytes(*half).to_f32()).collect(),
            Self::F8E4M3 => bytes.iter().map(|byte| f8_e4m3(*byte)).collect(),
            // The high byte of an f16.
            Self::F8E5M2 => bytes.iter().map(|byte| f16::from_le_bytes([0, *byte]).to_f32()).collect(),
            Self::Ggml(ggml_type) => dequantize(ggml_type, bytes),
            Self::Q8 | Self::Q4Affine | Self::Q4 | Self::U8 | Self::Other(_) => return None,
        })
    }
}

/// Widens f16, little-endian, to as many f32, with the instructions of the processor where it has them.
pub(crate) fn f16s(halves: &[[u8; 2]], values: &mut [f32]) {
    const RUN: usize = 256;
    let mut run = [f16::ZERO; RUN];
    for (halves, values) in halves.chunks(RUN).zip(values.chunks_mut(RUN)) {
        let run = &mut run[..halves.len()];
        run.iter_mut().zip(halves).for_each(|(half, bytes)| *half = f16::from_le_bytes(*bytes));
        run.convert_to_f32_slice(values);
    }
}

/// Returns the value of an 8-bit float of torch's `float8_e4m3fn`: bias 7, no infinity, and NaN where all other bits are set.
fn f8_e4m3(bits: u8) -> f32 {
    let sign = if bits >> 7 == 1 { -1.0 } else { 1.0 };
    let (exponent, mantissa) = (bits >> 3 & 15, f32::from(bits & 7));
    match (exponent, bits & 7) {
        (15, 7) => f32::NAN.copysign(sign),
        (0, _) => sign * mantissa / 512.0,
        _ => sign * (1.0 + mantissa / 8.0) * f32::from_bits((u32::from(exponent) + 120) << 23),
    }
}

impl From<WeightFormat> for StoredDtype {
    fn from(format: WeightFormat) -> Self {
        match format {
            WeightFormat::F32 => Self::F32,
            WeightFormat::Bf16 => Self::Bf16,
            WeightFormat::F16 => Self::F16,
            WeightFormat::Q8 => Self::Q8,
            WeightFormat::Q4Affine => Self::Q4Affine,
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
            StoredDtype::Q4Affine => Ok(Self::Q4Affine),
            StoredDtype::Q4 => Ok(Self::Q4),
            _ => Err(dtype),
        }
    }
}

impl From<Dtype> for StoredDtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::BF16 => Self::Bf16,
            Dtype::F16 => Self::F16,
            Dtype::F8_E4M3 => Self::F8E4M3,
            Dtype::F8_E5M2 => Self::F8E5M2,
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
            Self::Q4Affine => out.write_str("Q4_AFFINE"),
            Self::Q4 => out.write_str("Q4"),
            Self::U8 => out.write_str("U8"),
            Self::F8E4M3 => out.write_str("F8_E4M3"),
            Self::F8E5M2 => out.write_str("F8_E5M2"),
            Self::Ggml(ggml_type) => write!(out, "{ggml_type}"),
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
            let StoredDtype::Ggml(ggml_type) = self.dtype else {
                return count.checked_mul(self.dtype.element_bytes()?);
            };
            let (values, bytes) = (ggml_type.block_values(), ggml_type.block_bytes());
            // Blocks are parts of a row.
            let is_whole = shape.last().is_some_and(|width| width.is_multiple_of(values));
            return if is_whole { (count / values as u64).checked_mul(bytes as u64) } else { None };
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
