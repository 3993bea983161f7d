//! The affine map of every network here. Precision belongs to this type and to no other.

use burn::tensor::Tensor;
use pixart_kernels::{Activation, AdaLnChunk, Epilogue, Matrix, QuantizedMatrix, WeightFormat, linear};
use pixart_weights::{ColumnOrder, transposed};

use crate::Error;
use crate::params::Params;

/// y = x · W + b, with W kept as `[inputs, outputs]`.
pub(crate) struct Linear {
    weight: Matrix,
    bias: Option<Tensor<1>>,
}

impl Linear {
    /// Reads `weight` `[outputs, inputs]` and `bias` `[outputs]` below `params`.
    pub(crate) async fn load(params: &Params<'_>, inputs: usize, outputs: usize) -> Result<Self, Error> {
        Self::load_together(std::slice::from_ref(params), inputs, outputs).await
    }

    /// Reads maps of the same inputs as one: their outputs lie side by side.
    pub(crate) async fn load_together(maps: &[Params<'_>], inputs: usize, outputs: usize) -> Result<Self, Error> {
        let mut biases = Vec::with_capacity(maps.len() * outputs);
        for params in maps {
            biases.extend(params.floats("bias", &[outputs]).await?);
        }
        let bias = maps[0].upload(biases, [maps.len() * outputs]);
        Ok(Self { bias: Some(bias), ..Self::load_unbiased(maps, inputs, outputs).await? })
    }

    /// Reads `weight` alone, of one map or of several side by side.
    pub(crate) async fn load_unbiased(maps: &[Params<'_>], inputs: usize, outputs: usize) -> Result<Self, Error> {
        Ok(Self { weight: Params::merged(maps, [outputs, inputs], ColumnOrder::Concatenated).await?, bias: None })
    }

    /// Reads two maps without bias whose outputs are multiplied, see [`Activation::GatedGelu`].
    pub(crate) async fn load_gated(maps: &[Params<'_>; 2], inputs: usize, outputs: usize) -> Result<Self, Error> {
        Ok(Self { weight: Params::merged(maps, [outputs, inputs], ColumnOrder::Interleaved).await?, bias: None })
    }

    /// Reads a convolution whose window is its stride, `weight` `[outputs, ..window]`, as the map of one flat window.
    pub(crate) async fn load_windowed(params: &Params<'_>, window: &[usize], outputs: usize) -> Result<Self, Error> {
        let inputs = window.iter().product();
        let weight = params.floats("weight", &[&[outputs], window].concat()).await?;
        let bias = Some(params.tensor("bias", [outputs]).await?);
        let packed = QuantizedMatrix::new(&transposed(&weight, outputs, inputs), [inputs, outputs], WeightFormat::F32);
        Ok(Self { weight: params.matrix(packed), bias })
    }

    /// `[B, T, inputs]` → `[B, T, outputs]`.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.finish(x, Epilogue::default())
    }

    /// activation(x · W + b).
    pub(crate) fn activated(&self, x: Tensor<3>, activation: Activation) -> Tensor<3> {
        self.finish(x, Epilogue { activation, ..Epilogue::default() })
    }

    /// residual + x · W + b, with the sum scaled by `gate` where there is one.
    pub(crate) fn added(&self, x: Tensor<3>, gate: Option<AdaLnChunk<'_>>, residual: Tensor<3>) -> Tensor<3> {
        self.finish(x, Epilogue { gate, residual: Some(residual), ..Epilogue::default() })
    }

    fn finish<'a>(&'a self, x: Tensor<3>, epilogue: Epilogue<'a>) -> Tensor<3> {
        linear(x, &self.weight, Epilogue { bias: self.bias.as_ref(), ..epilogue })
    }
}
