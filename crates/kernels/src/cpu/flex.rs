//! Access to a tensor's numbers as a slice on burn's CPU device flex, and back. Nothing is copied unless a tensor is a view in
//! another order, or of another dtype.

use burn::backend::Flex;
use burn::tensor::{BackendPrimitive, DType, Float, Int, Tensor, TensorData};
use pixart_weights::MatrixData;

use super::panel::WeightSlice;
use crate::KernelVariant;
use crate::matrix::Matrix;

type Primitive = <Float as BackendPrimitive<Flex>>::Primitive;

/// A contiguous tensor on the CPU.
pub(super) struct Slice(Primitive);

impl Slice {
    /// Returns the tensor as f32; None on other devices, and for the variant [`KernelVariant::BurnReference`].
    pub(super) fn of<const RANK: usize>(tensor: &Tensor<RANK>) -> Option<Self> {
        if KernelVariant::current() == KernelVariant::BurnReference {
            return None;
        }
        let primitive = tensor.clone().try_into_primitive::<Flex>().ok()?;
        let full = match tensor.dtype() {
            DType::F32 => primitive,
            _ => {
                Tensor::<RANK>::from_primitive::<Flex>(primitive).cast(DType::F32).try_into_primitive::<Flex>().ok()?
            }
        };
        Some(Self(full.to_contiguous()))
    }

    /// Returns packed words; None on other devices.
    fn of_words(words: &Tensor<1, Int>) -> Option<Self> {
        Some(Self(words.clone().try_into_primitive::<Flex>().ok()?.to_contiguous()))
    }

    pub(super) fn values(&self) -> &[f32] {
        self.0.storage()
    }

    fn words(&self) -> &[i32] {
        self.0.storage()
    }
}

/// Returns an operation's output as a tensor on the device of its input, and of the same dtype.
pub(super) fn tensor<const RANK: usize>(values: Vec<f32>, shape: [usize; RANK], input: &Tensor<RANK>) -> Tensor<RANK> {
    Tensor::<RANK>::from_data(TensorData::new(values, shape), (&input.device(), DType::F32)).cast(input.dtype())
}

/// Returns the slice that [`weight_slice`] borrows; None on other devices, and for a mapped matrix, which needs none.
pub(super) fn weight_storage(matrix: &Matrix) -> Option<Slice> {
    match matrix.data() {
        MatrixData::Dense(values) => Slice::of(values),
        MatrixData::Quantized(words, _) => Slice::of_words(words),
        MatrixData::Mapped(_) => None,
    }
}

/// Returns the matrix as a slice; None on other devices.
pub(super) fn weight_slice<'a>(matrix: &'a Matrix, storage: &'a Option<Slice>) -> Option<WeightSlice<'a>> {
    Some(match matrix.data() {
        MatrixData::Dense(_) => MatrixData::Dense(storage.as_ref()?.values()),
        MatrixData::Quantized(_, format) => MatrixData::Quantized(storage.as_ref()?.words(), *format),
        MatrixData::Mapped(mapped) => MatrixData::Mapped(mapped),
    })
}
