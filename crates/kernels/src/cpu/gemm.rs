//! The affine map.

use burn::tensor::Tensor;

use super::flex::{Slice, tensor, weight_slice, weight_storage};
use super::matmul::{BroadcastRow, MatmulEpilogue, matmul};
use crate::matrix::Matrix;
use crate::options::{Activation, Epilogue};

/// Computes x · w with its epilogue; None on other devices.
pub(crate) fn linear(x: &Tensor<3>, w: &Matrix, epilogue: &Epilogue<'_>) -> Option<Tensor<3>> {
    let ([b, t, _], [k, n]) = (x.dims(), w.dims());
    let (values, words) = (Slice::of(x)?, weight_storage(w));
    let bias = epilogue.bias.and_then(Slice::of);
    let table = epilogue.gate.as_ref().and_then(|gate| Slice::of(gate.table));
    let residual = epilogue.residual.as_ref().and_then(Slice::of);
    let slices = MatmulEpilogue {
        bias: bias.as_ref().map(Slice::values),
        activation: epilogue.activation,
        gate: epilogue.gate.zip(table.as_ref()).map(|(gate, table)| BroadcastRow::new(table.values(), gate, t)),
        residual: residual.as_ref().map(Slice::values),
    };
    let columns = if epilogue.activation == Activation::GatedGelu { n / 2 } else { n };
    let y = matmul(values.values(), weight_slice(w, &words)?, [k, n], slices);
    Some(tensor(y, [b, t, columns], x))
}
