//! The linear layer of all networks. It is the only layer whose weights may be quantised.

use burn::tensor::Tensor;
use pixart_kernels::{Activation, AdaLnChunk, Epilogue, Matrix, linear};
use pixart_weights::{ColumnOrder, transposed};

use crate::Error;
use crate::loading::var_builder::VarBuilder;

/// y = x·W + b, with W stored as `[inputs, outputs]` (transposed from PyTorch's `[outputs, inputs]`).
pub(crate) struct Linear {
    weight: Matrix,
    bias: Option<Tensor<1>>,
}

impl Linear {
    /// Loads `weight` `[outputs, inputs]` and `bias` `[outputs]`.
    pub(crate) async fn load(vb: &VarBuilder<'_>, inputs: usize, outputs: usize) -> Result<Self, Error> {
        Self::load_fused(std::slice::from_ref(vb), inputs, outputs).await
    }

    /// Loads layers with the same inputs as one layer, with their outputs concatenated.
    pub(crate) async fn load_fused(layers: &[VarBuilder<'_>], inputs: usize, outputs: usize) -> Result<Self, Error> {
        let mut biases = Vec::with_capacity(layers.len() * outputs);
        for layer in layers {
            biases.extend(layer.get_f32("bias", &[outputs]).await?);
        }
        let bias = layers[0].upload(biases, [layers.len() * outputs]);
        Ok(Self { bias: Some(bias), ..Self::load_unbiased(layers, inputs, outputs).await? })
    }

    /// Loads one or more layers without bias as one layer, with their outputs concatenated.
    pub(crate) async fn load_unbiased(layers: &[VarBuilder<'_>], inputs: usize, outputs: usize) -> Result<Self, Error> {
        Ok(Self {
            weight: VarBuilder::fused_matrix(layers, [outputs, inputs], ColumnOrder::Concatenated).await?,
            bias: None,
        })
    }

    /// Loads the two layers of a gated feed-forward without bias, with interleaved columns, see [`Activation::GatedGelu`].
    pub(crate) async fn load_gated(layers: &[VarBuilder<'_>; 2], inputs: usize, outputs: usize) -> Result<Self, Error> {
        Ok(Self {
            weight: VarBuilder::fused_matrix(layers, [outputs, inputs], ColumnOrder::Interleaved).await?,
            bias: None,
        })
    }

    /// Loads a convolution whose kernel size is its stride, `weight` `[outputs, ..kernel]`, as a linear layer on flattened
    /// patches.
    pub(crate) async fn load_patchify_conv(
        vb: &VarBuilder<'_>,
        kernel: &[usize],
        outputs: usize,
    ) -> Result<Self, Error> {
        let inputs = kernel.iter().product();
        let (shape, dims) = ([&[outputs], kernel].concat(), [inputs, outputs]);
        let weight = vb.get_matrix("weight", &shape, dims, |weight| transposed(weight, outputs, inputs)).await?;
        Ok(Self { weight, bias: Some(vb.get("bias", [outputs]).await?) })
    }

    /// Loads a 1×1 convolution, `weight` `[outputs, inputs, 1, 1]`, as a linear layer whose inputs and outputs are padded with
    /// zeros to multiples of `alignment`.
    pub(crate) async fn load_padded_conv(
        vb: &VarBuilder<'_>,
        [inputs, outputs]: [usize; 2],
        alignment: usize,
    ) -> Result<Self, Error> {
        let [rows, columns] = [inputs, outputs].map(|channels| channels.next_multiple_of(alignment));
        let arrange = |weight: &[f32]| {
            let mut padded = vec![0.0; rows * columns];
            for (output, weights) in weight.chunks_exact(inputs).enumerate() {
                weights.iter().enumerate().for_each(|(input, weight)| padded[input * columns + output] = *weight);
            }
            padded
        };
        let weight = vb.get_matrix("weight", &[outputs, inputs, 1, 1], [rows, columns], arrange).await?;
        let mut bias = vb.get_f32("bias", &[outputs]).await?;
        bias.resize(columns, 0.0);
        Ok(Self { weight, bias: Some(vb.upload(bias, [columns])) })
    }

    /// `[B, T, inputs]` → `[B, T, outputs]`.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.forward_epilogue(x, Epilogue::default())
    }

    /// Returns activation(x·W + b).
    pub(crate) fn forward_activation(&self, x: Tensor<3>, activation: Activation) -> Tensor<3> {
        self.forward_epilogue(x, Epilogue { activation, ..Epilogue::default() })
    }

    /// Returns residual + x·W + b.
    pub(crate) fn forward_residual(&self, x: Tensor<3>, residual: Tensor<3>) -> Tensor<3> {
        self.forward_epilogue(x, Epilogue { residual: Some(residual), ..Epilogue::default() })
    }

    /// Returns residual + gate·(x·W + b).
    pub(crate) fn forward_gated_residual(&self, x: Tensor<3>, gate: AdaLnChunk<'_>, residual: Tensor<3>) -> Tensor<3> {
        self.forward_epilogue(x, Epilogue { gate: Some(gate), residual: Some(residual), ..Epilogue::default() })
    }

    fn forward_epilogue<'a>(&'a self, x: Tensor<3>, epilogue: Epilogue<'a>) -> Tensor<3> {
        linear(x, &self.weight, Epilogue { bias: self.bias.as_ref(), ..epilogue })
    }
}
