//! A tensor's numbers as a slice where the device is the processor, and back. Nothing is copied unless a tensor is a view
//! in another order, or stored in another precision.

use burn::backend::Flex;
use burn::tensor::{BackendPrimitive, DType, Float, Int, Tensor, TensorData};

use crate::KernelVariant;

type Primitive = <Float as BackendPrimitive<Flex>>::Primitive;

/// A tensor that is known to be contiguous and on the processor.
pub(crate) struct Slice(Primitive);

impl Slice {
    /// The tensor as f32; None on any other device, and where burn's own operations are asked for.
    pub(crate) fn of<const RANK: usize>(tensor: &Tensor<RANK>) -> Option<Self> {
        if KernelVariant::current() == KernelVariant::BurnReference {
            return None;
        }
        let own = tensor.clone().try_into_primitive::<Flex>().ok()?;
        let full = match tensor.dtype() {
            DType::F32 => own,
            _ => Tensor::<RANK>::from_primitive::<Flex>(own).cast(DType::F32).try_into_primitive::<Flex>().ok()?,
        };
        Some(Self(full.to_contiguous()))
    }

    /// Packed words; None on any other device.
    pub(crate) fn of_words(words: &Tensor<1, Int>) -> Option<Self> {
        Some(Self(words.clone().try_into_primitive::<Flex>().ok()?.to_contiguous()))
    }

    pub(crate) fn values(&self) -> &[f32] {
        self.0.storage()
    }

    pub(crate) fn words(&self) -> &[i32] {
        self.0.storage()
    }
}

/// A tensor of what an operation returned, on the device of its input and stored as that is.
pub(crate) fn tensor<const RANK: usize>(values: Vec<f32>, shape: [usize; RANK], input: &Tensor<RANK>) -> Tensor<RANK> {
    Tensor::<RANK>::from_data(TensorData::new(values, shape), (&input.device(), DType::F32)).cast(input.dtype())
}
