//! A matrix of weights on a device, in any [`Precision`].

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_wgpu::CubeTensor;
use pixart_weights::{Packed, Precision, Rows, unpack};

use crate::cpu::{Slice, WeightSlice};
use crate::launch::gpu_input;

/// Weights `[K, N]` on a device.
#[derive(Clone, Debug)]
pub struct Matrix {
    storage: Storage,
    shape: [usize; 2],
}

#[derive(Clone, Debug)]
enum Storage {
    Dense(Tensor<2>),
    Quantized(Tensor<1, Int>, Precision),
    /// In a file that is in the memory of the processor, which computes.
    Mapped(Rows, Device),
}

impl Matrix {
    /// Puts `values`, row-major `[inputs, outputs]`, on the device.
    ///
    /// # Panics
    /// Where the shape does not fit the values or the precision.
    #[must_use]
    pub fn new(values: Vec<f32>, shape: [usize; 2], precision: Precision, device: &Device) -> Self {
        match precision {
            Precision::F32 => {
                Self { storage: Storage::Dense(Tensor::from_data(TensorData::new(values, shape), device)), shape }
            }
            _ => Self::of(Packed::new(&values, shape, precision), device),
        }
    }

    /// Puts a packed matrix on the device.
    #[must_use]
    pub fn of(packed: Packed, device: &Device) -> Self {
        let Packed { words, shape, precision } = packed;
        let count = words.len();
        let storage = match precision {
            Precision::F32 => {
                let values: Vec<f32> = words.into_iter().map(f32::from_bits).collect();
                Storage::Dense(Tensor::from_data(TensorData::new(values, shape), device))
            }
            _ => {
                let words: Vec<i32> = words.into_iter().map(u32::cast_signed).collect();
                Storage::Quantized(Tensor::from_data(TensorData::new(words, [count]), device), precision)
            }
        };
        Self { storage, shape }
    }

    /// Leaves the matrix in the file it is in; None where the device is not the processor.
    #[must_use]
    pub fn mapped(rows: Rows, device: &Device) -> Option<Self> {
        let shape = rows.shape();
        (*device == Device::flex()).then(|| Self { storage: Storage::Mapped(rows, device.clone()), shape })
    }

    /// Inputs and outputs.
    #[must_use]
    pub fn dims(&self) -> [usize; 2] {
        self.shape
    }

    #[must_use]
    pub fn precision(&self) -> Precision {
        match &self.storage {
            Storage::Dense(_) => Precision::F32,
            Storage::Quantized(_, precision) => *precision,
            Storage::Mapped(rows, _) => rows.precision(),
        }
    }
}

impl Matrix {
    /// The words as a shader reads them, and the shared file that unpacks them; None where the device speaks no WGSL.
    pub(crate) fn bound(&self) -> Option<(CubeTensor, &'static str)> {
        Some(match &self.storage {
            Storage::Dense(values) => (gpu_input(values)?, shader(Precision::F32)),
            Storage::Quantized(words, precision) => (gpu_input(words)?, shader(*precision)),
            Storage::Mapped(..) => return None,
        })
    }

    /// The words where the device is the processor and they are in a tensor, for [`Self::weights`].
    pub(crate) fn slice(&self) -> Option<Slice> {
        match &self.storage {
            Storage::Dense(values) => Slice::of(values),
            Storage::Quantized(words, _) => Slice::of_words(words),
            Storage::Mapped(..) => None,
        }
    }

    /// The weights where the device is the processor.
    pub(crate) fn weights<'a>(&'a self, words: &'a Option<Slice>) -> Option<WeightSlice<'a>> {
        Some(match &self.storage {
            Storage::Dense(_) => WeightSlice::Dense(words.as_ref()?.values()),
            Storage::Quantized(_, precision) => WeightSlice::Quantized(words.as_ref()?.words(), *precision),
            Storage::Mapped(rows, _) => WeightSlice::Mapped(rows),
        })
    }

    /// The weights as numbers. Packed ones are unpacked for the call.
    pub(crate) fn values(&self) -> Tensor<2> {
        match &self.storage {
            Storage::Dense(values) => values.clone(),
            Storage::Mapped(rows, device) => Tensor::from_data(TensorData::new(rows.values(), self.shape), device),
            Storage::Quantized(words, precision) => {
                let device = words.device();
                let words: Vec<i32> = words.clone().into_data().try_into_vec().expect("words are i32");
                let words: Vec<u32> = words.into_iter().map(i32::cast_unsigned).collect();
                Tensor::from_data(TensorData::new(unpack(&words, self.shape, *precision), self.shape), &device)
            }
        }
    }
}

/// The shared file that unpacks matrices of this precision.
fn shader(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "weights_f32",
        Precision::Bf16 => "weights_bf16",
        Precision::F16 => "weights_f16",
        Precision::Q8 => "weights_q8",
        Precision::Q4 => "weights_q4",
    }
}
