//! The affine map of every network here. Precision belongs to this type and to no other.

use burn::tensor::Tensor;
use pixart_kernels::{Activation, Epilogue, Matrix, Precision, Row, interleaved, linear};

use crate::Error;
use crate::params::Params;

/// y = x · W + b, with W kept as `[inputs, outputs]`.
pub(crate) struct Linear {
    weight: Matrix,
    bias: Option<Tensor<1>>,
}

impl Linear {
    /// Reads `weight` `[outputs, inputs]` and `bias` `[outputs]` below `params`.
    pub(crate) fn load(params: &Params<'_>, inputs: usize, outputs: usize) -> Result<Self, Error> {
        Self::load_together(std::slice::from_ref(params), inputs, outputs)
    }

    /// Reads maps of the same inputs as one: their outputs lie side by side.
    pub(crate) fn load_together(maps: &[Params<'_>], inputs: usize, outputs: usize) -> Result<Self, Error> {
        let mut biases = Vec::with_capacity(maps.len() * outputs);
        for params in maps {
            biases.extend(params.floats("bias", &[outputs])?);
        }
        let bias = maps[0].upload(biases, [maps.len() * outputs]);
        Ok(Self { bias: Some(bias), ..Self::load_unbiased(maps, inputs, outputs)? })
    }

    /// Reads `weight` alone, of one map or of several side by side.
    pub(crate) fn load_unbiased(maps: &[Params<'_>], inputs: usize, outputs: usize) -> Result<Self, Error> {
        let mut weights = Vec::with_capacity(maps.len() * inputs * outputs);
        for params in maps {
            weights.extend(params.floats("weight", &[outputs, inputs])?);
        }
        let columns = maps.len() * outputs;
        Ok(Self { weight: matrix(&maps[0], transposed(&weights, columns, inputs), [inputs, columns]), bias: None })
    }

    /// Reads two maps without bias whose outputs are multiplied, see [`Activation::GatedGelu`].
    pub(crate) fn load_gated(maps: &[Params<'_>; 2], inputs: usize, outputs: usize) -> Result<Self, Error> {
        let read = |params: &Params<'_>| {
            Ok::<_, Error>(transposed(&params.floats("weight", &[outputs, inputs])?, outputs, inputs))
        };
        let weights = interleaved(&read(&maps[0])?, &read(&maps[1])?, outputs);
        Ok(Self { weight: matrix(&maps[0], weights, [inputs, 2 * outputs]), bias: None })
    }

    /// Reads a convolution whose window is its stride, `weight` `[outputs, ..window]`, as the map of one flat window.
    pub(crate) fn load_windowed(params: &Params<'_>, window: &[usize], outputs: usize) -> Result<Self, Error> {
        let inputs = window.iter().product();
        let weight = params.floats("weight", &[&[outputs], window].concat())?;
        let bias = Some(params.tensor("bias", [outputs])?);
        Ok(Self { weight: matrix(params, transposed(&weight, outputs, inputs), [inputs, outputs]), bias })
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
    pub(crate) fn added(&self, x: Tensor<3>, gate: Option<Row<'_>>, residual: Tensor<3>) -> Tensor<3> {
        self.finish(x, Epilogue { gate, residual: Some(residual), ..Epilogue::default() })
    }

    fn finish<'a>(&'a self, x: Tensor<3>, epilogue: Epilogue<'a>) -> Tensor<3> {
        linear(x, &self.weight, Epilogue { bias: self.bias.as_ref(), ..epilogue })
    }
}

fn matrix(params: &Params<'_>, values: Vec<f32>, shape: [usize; 2]) -> Matrix {
    let [inputs, outputs] = shape;
    let precision = if params.precision().fits(inputs, outputs) { params.precision() } else { Precision::F32 };
    Matrix::new(values, shape, precision, params.device())
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
