//! Every operation on small, odd shapes: compares a device with another.

use burn::tensor::{Device, Tensor, TensorData};
use pixart_kernels::{
    Activation, AdaLnChunk, AttentionOptions, ConvOptions, Epilogue, GroupNormOptions, Heads, Matrix, Modulation,
    Resampling, WeightFormat, attention, conv, group_norm, layer_norm, linear, patchify, rms_norm, unpatchify,
};

use pixart_model::{Comparison, Error, compare, randn, values_read};

/// An operation on fixed inputs.
pub struct OperationCheck {
    pub name: &'static str,
    run: fn(&Device) -> Tensor<1>,
}

impl OperationCheck {
    /// Runs the operation on both devices and compares the outputs, relative to the largest magnitude on `reference`.
    ///
    /// # Errors
    /// An output that cannot be read back.
    pub async fn compare(&self, device: &Device, reference: &Device, tolerance: f64) -> Result<Comparison, Error> {
        let got = values_read(self.name, (self.run)(device)).await?;
        Ok(compare(&got, &values_read(self.name, (self.run)(reference)).await?, tolerance))
    }
}

/// All operations of a generation.
pub const OPERATIONS: [OperationCheck; 17] = [
    OperationCheck { name: "linear, f32", run: |device| product(device, WeightFormat::F32) },
    OperationCheck { name: "linear, bf16", run: |device| product(device, WeightFormat::Bf16) },
    OperationCheck { name: "linear, f16", run: |device| product(device, WeightFormat::F16) },
    OperationCheck { name: "linear, q8", run: |device| product(device, WeightFormat::Q8) },
    OperationCheck { name: "linear, q4_affine", run: |device| product(device, WeightFormat::Q4Affine) },
    OperationCheck { name: "linear, q4", run: |device| product(device, WeightFormat::Q4) },
    OperationCheck { name: "linear, gated", run: gated },
    OperationCheck { name: "linear, SiLU", run: |device| activated(device, Activation::Silu) },
    OperationCheck { name: "linear, GELU", run: |device| activated(device, Activation::Gelu) },
    OperationCheck { name: "attention", run: |device| attended(device, false) },
    OperationCheck { name: "attention, biased", run: |device| attended(device, true) },
    OperationCheck { name: "layer norm, modulated", run: normed },
    OperationCheck {
        name: "RMS norm",
        run: |device| rms_norm(tensor(1, [2, 5, 40], device), &tensor(2, [40], device), 1e-6).flatten(0, 2),
    },
    OperationCheck { name: "convolution", run: |device| convolved(device, Resampling::None) },
    OperationCheck { name: "convolution, doubled", run: |device| convolved(device, Resampling::Upsample2x) },
    OperationCheck {
        name: "group norm, SiLU",
        run: |device| {
            let (weight, bias) = (&tensor(2, [16], device), &tensor(3, [16], device));
            let options = GroupNormOptions { weight, bias, groups: 4, eps: 1e-6, silu: true };
            group_norm(tensor(1, [2, 5, 7, 16], device), &options).flatten(0, 3)
        },
    },
    OperationCheck {
        name: "patches",
        run: |device| {
            let tokens = patchify(tensor(1, [1, 4, 6, 10], device), 2);
            unpatchify(tokens, [3, 5]).flatten(0, 3)
        },
    },
];

fn tensor<const RANK: usize>(seed: u64, shape: [usize; RANK], device: &Device) -> Tensor<RANK> {
    Tensor::from_data(TensorData::new(randn(seed, shape.iter().product()), shape), device)
}

const K: usize = 96;
const N: usize = 72;

fn matrix(device: &Device, precision: WeightFormat) -> Matrix {
    Matrix::new(randn(2, K * N), [K, N], precision, device)
}

fn product(device: &Device, precision: WeightFormat) -> Tensor<1> {
    let bias = tensor(3, [N], device);
    let epilogue = Epilogue { bias: Some(&bias), residual: Some(tensor(4, [2, 13, N], device)), ..Epilogue::default() };
    linear(tensor(1, [2, 13, K], device), &matrix(device, precision), epilogue).flatten(0, 2)
}

fn activated(device: &Device, activation: Activation) -> Tensor<1> {
    let epilogue = Epilogue { activation, ..Epilogue::default() };
    linear(tensor(1, [1, 9, K], device), &matrix(device, WeightFormat::F32), epilogue).flatten(0, 2)
}

fn gated(device: &Device) -> Tensor<1> {
    let table = tensor(5, [1, 2, 3, N], device);
    let gate = Some(AdaLnChunk { table: &table, layer: 0, chunk: 1 });
    let epilogue = Epilogue { gate, residual: Some(tensor(4, [2, 13, N], device)), ..Epilogue::default() };
    linear(tensor(1, [2, 13, K], device), &matrix(device, WeightFormat::F32), epilogue).flatten(0, 2)
}

fn attended(device: &Device, biased: bool) -> Tensor<1> {
    let (q, kv) = (tensor(1, [2, 11, 48], device), tensor(2, [2, 7, 96], device));
    let bias = tensor(3, [2, 1, 1, 7], device);
    let options = AttentionOptions { heads: 2, head_channels: 24, scale: 0.2, bias: biased.then_some(&bias) };
    let at = |first| Heads { tensor: &kv, first };
    attention(Heads { tensor: &q, first: 0 }, at(0), at(48), &options).flatten(0, 2)
}

fn normed(device: &Device) -> Tensor<1> {
    let table = tensor(2, [1, 2, 6, 40], device);
    let row = |chunk| AdaLnChunk { table: &table, layer: 0, chunk };
    let modulation = Modulation { shift: row(0), scale: row(1) };
    layer_norm(tensor(1, [2, 5, 40], device), Some(modulation), 1e-6).flatten(0, 2)
}

fn convolved(device: &Device, resampling: Resampling) -> Tensor<1> {
    let bias = tensor(3, [12], device);
    let weight = Matrix::new(randn(2, 9 * 8 * 12), [9 * 8, 12], WeightFormat::F32, device);
    conv(tensor(1, [1, 5, 6, 8], device), &weight, ConvOptions { bias: &bias, resampling, residual: None })
        .flatten(0, 3)
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn a_device_agrees_with_itself_and_a_wrong_operation_is_found() {
        let device = Device::flex();
        for operation in &OPERATIONS {
            let comparison = block_on(operation.compare(&device, &device, 0.0)).expect("it can be read");
            assert_eq!((comparison.max_abs, comparison.difference), (0.0, None), "{}", operation.name);
        }
        let [one, other] = [&OPERATIONS[0], &OPERATIONS[3]]
            .map(|operation| block_on(values_read(operation.name, (operation.run)(&device))).expect("it can be read"));
        assert!(compare(&one, &other, 1e-4).difference.is_some(), "q8 is not f32");
    }
}
