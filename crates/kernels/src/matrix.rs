//! A matrix of weights on a device, in any [`WeightFormat`].

use burn::tensor::{Device, Int, Tensor, TensorData};
use pixart_weights::{MappedMatrix, MatrixData, QuantizedMatrix, WeightFormat, dequantize};

use crate::cpu::{self, IN_TAB};

/// Weights `[K, N]` on a device.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// [`MatrixData::Mapped`] on the CPU only.
    data: MatrixData<Tensor<2>, Tensor<1, Int>, MappedMatrix>,
    shape: [usize; 2],
}

impl Matrix {
    /// Quantizes `values`, row-major `[K, N]`, and uploads them.
    ///
    /// # Panics
    /// If the shape does not match the number of values, or the format does not fit the shape.
    #[must_use]
    pub fn new(values: Vec<f32>, shape: [usize; 2], format: WeightFormat, device: &Device) -> Self {
        match format {
            WeightFormat::F32 => Self::upload(MatrixData::Dense(values), shape, device),
            _ => Self::of(QuantizedMatrix::new(&values, shape, format), device),
        }
    }

    /// Uploads a matrix of the host.
    #[must_use]
    pub fn of(matrix: QuantizedMatrix, device: &Device) -> Self {
        let shape = matrix.shape;
        Self::upload(matrix.into_data(), shape, device)
    }

    /// Uses a matrix in its memory-mapped file. Returns `None` where the device is not the CPU, or the kernels cannot read the
    /// parts where they lie.
    #[must_use]
    pub fn mapped(matrix: MappedMatrix, device: &Device) -> Option<Self> {
        let shape = matrix.shape();
        let is_readable = !IN_TAB && *device == Device::flex() && cpu::reads_mapped(&matrix);
        is_readable.then_some(Self { data: MatrixData::Mapped(matrix), shape })
    }

    fn upload(data: MatrixData<Vec<f32>, Vec<u32>, MappedMatrix>, shape: [usize; 2], device: &Device) -> Self {
        let data = match data {
            MatrixData::Dense(values) => MatrixData::Dense(Tensor::from_data(TensorData::new(values, shape), device)),
            MatrixData::Quantized(words, format) => {
                let count = words.len();
                let words: Vec<i32> = words.into_iter().map(u32::cast_signed).collect();
                MatrixData::Quantized(Tensor::from_data(TensorData::new(words, [count]), device), format)
            }
            MatrixData::Mapped(matrix) => MatrixData::Mapped(matrix),
        };
        Self { data, shape }
    }

    /// Returns `[K, N]`.
    #[must_use]
    pub fn dims(&self) -> [usize; 2] {
        self.shape
    }
}

impl Matrix {
    pub(crate) fn data(&self) -> &MatrixData<Tensor<2>, Tensor<1, Int>, MappedMatrix> {
        &self.data
    }

    /// Returns the weights as f32. Quantized weights are dequantized for the call.
    pub(crate) fn values(&self) -> Tensor<2> {
        match &self.data {
            MatrixData::Dense(values) => values.clone(),
            MatrixData::Mapped(_) if IN_TAB => unreachable!("a tab maps no file"),
            MatrixData::Mapped(matrix) => {
                Tensor::from_data(TensorData::new(matrix.values(), self.shape), &Device::flex())
            }
            MatrixData::Quantized(words, format) => {
                let device = words.device();
                let words: Vec<i32> = words.clone().into_data().try_into_vec().expect("words are i32");
                let words: Vec<u32> = words.into_iter().map(i32::cast_unsigned).collect();
                Tensor::from_data(TensorData::new(dequantize(&words, self.shape, *format), self.shape), &device)
            }
        }
    }
}
