//! The affine map of every network here. Precision belongs to this type and to no other.

use burn::tensor::Tensor;

use crate::Error;
use crate::params::Params;

/// y = x · W + b, with W kept as `[inputs, outputs]` f32.
pub(crate) struct Linear {
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
}

impl Linear {
    /// Reads `weight` `[outputs, inputs]` and `bias` `[outputs]` below `params`.
    pub(crate) fn load(params: &Params<'_>, inputs: usize, outputs: usize) -> Result<Self, Error> {
        let bias = Some(params.tensor("bias", [outputs])?);
        Ok(Self { bias, ..Self::load_unbiased(params, inputs, outputs)? })
    }

    /// Reads `weight` alone.
    pub(crate) fn load_unbiased(params: &Params<'_>, inputs: usize, outputs: usize) -> Result<Self, Error> {
        let weight = params.floats("weight", &[outputs, inputs])?;
        Ok(Self { weight: params.upload(transposed(&weight, outputs, inputs), [inputs, outputs]), bias: None })
    }

    /// Reads a convolution whose window is its stride, `weight` `[outputs, ..window]`, as the map of one flat window.
    pub(crate) fn load_windowed(params: &Params<'_>, window: &[usize], outputs: usize) -> Result<Self, Error> {
        let inputs = window.iter().product();
        let weight = params.floats("weight", &[&[outputs], window].concat())?;
        let bias = Some(params.tensor("bias", [outputs])?);
        Ok(Self { weight: params.upload(transposed(&weight, outputs, inputs), [inputs, outputs]), bias })
    }

    /// `[B, T, inputs]` → `[B, T, outputs]`.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [b, t, inputs] = x.dims();
        let [expected, outputs] = self.weight.dims();
        assert_eq!(inputs, expected, "a linear map of {expected} inputs was given {inputs}");
        let x = x.reshape([1, b * t, inputs]);
        let y = pixart_kernels::gemm(x, self.weight.clone().unsqueeze(), self.bias.clone());
        y.reshape([b, t, outputs])
    }

    /// `[B, inputs]` → `[B, outputs]`.
    pub(crate) fn forward_rows(&self, x: Tensor<2>) -> Tensor<2> {
        self.forward(x.unsqueeze()).squeeze_dim(0)
    }
}

fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(values.len(), rows * columns);
    let mut out = Vec::with_capacity(values.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| values[row * columns + column]));
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn transposing_swaps_rows_and_columns() {
        assert_eq!(super::transposed(&[1., 2., 3., 4., 5., 6.], 2, 3), [1., 4., 2., 5., 3., 6.]);
    }
}
