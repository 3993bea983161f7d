//! The affine map with its epilogue: y = residual + gate · activation(x · w + bias), each part optional.
//!
//! x `[B, T, K]`, w `[K, N]` in any [`WeightFormat`](crate::WeightFormat), bias `[N]`, gate one chunk of a modulation table, residual
//! `[B, T, N]` or `[1, T, N]` → y `[B, T, N]` of the dtype of x. Accumulation is f32. The shaders support a K and an N that are
//! multiples of 4; the CPU kernel supports all shapes.

use burn::tensor::{DType, Tensor, activation::silu};

use crate::matrix::Matrix;
use crate::options::{Activation, Epilogue};
use crate::variant::burn_reference;
use crate::{cpu, gpu};

/// tanh is 1 in f32 beyond this. WGSL's tanh may be built of exponentials, and then overflows to NaN at about 44.
const TANH_ONE: f64 = 10.0;

/// Returns x · w with its epilogue.
///
/// With [`Activation::GatedGelu`] the columns of w are those of two maps interleaved in fours, see
/// [`ColumnOrder::Interleaved`](crate::ColumnOrder::Interleaved), and y `[B, T, N/2]` is gelu(first) · second, without bias, gate
/// or residual.
///
/// # Panics
/// If the shapes do not fit.
#[must_use]
pub fn linear(x: Tensor<3>, w: &Matrix, epilogue: Epilogue<'_>) -> Tensor<3> {
    let ([b, t, k], [inputs, n]) = (x.dims(), w.dims());
    assert_eq!(k, inputs, "x of {k} channels for weights of {inputs} inputs");
    if let Some(bias) = epilogue.bias {
        assert_eq!(bias.dims(), [n], "bias");
    }
    if let Some(gate) = &epilogue.gate {
        gate.assert_fits([b, t, n]);
    }
    if let Some(residual) = &epilogue.residual {
        let [residual_b, ..] = residual.dims();
        assert!(residual_b == 1 || residual_b == b, "a residual of {residual_b} for a batch of {b}");
        assert_eq!(residual.dims(), [residual_b, t, n], "residual");
    }
    if epilogue.activation == Activation::GatedGelu {
        let plain = epilogue.bias.is_none() && epilogue.gate.is_none() && epilogue.residual.is_none();
        assert!(plain && n.is_multiple_of(8), "a gated map of {n} columns with a bias, gate or residual");
    }
    gpu::linear(&x, w, &epilogue)
        .or_else(|| cpu::linear(&x, w, &epilogue))
        .unwrap_or_else(|| burn_reference(|| reference(x, w, epilogue)))
}

/// Computes the map by burn's built-in operations. Quantized weights are dequantized for the call.
fn reference(x: Tensor<3>, w: &Matrix, epilogue: Epilogue<'_>) -> Tensor<3> {
    let ([b, t, k], [_, n]) = (x.dims(), w.dims());
    let stored = x.dtype();
    let mut y = x.cast(DType::F32).reshape([1, b * t, k]).matmul(w.values().unsqueeze()).reshape([b, t, n]);
    if let Some(bias) = epilogue.bias {
        y = y + bias.clone().unsqueeze();
    }
    y = activate(y, epilogue.activation);
    if let Some(gate) = epilogue.gate {
        y = y * gate.values();
    }
    match epilogue.residual {
        Some(residual) => y + residual.cast(DType::F32),
        None => y,
    }
    .cast(stored)
}

fn activate(x: Tensor<3>, activation: Activation) -> Tensor<3> {
    match activation {
        Activation::None => x,
        Activation::Gelu => gelu(x),
        Activation::Silu => silu(x),
        Activation::GatedGelu => {
            let [b, t, n] = x.dims();
            let turns = x.reshape([b, t, n / 8, 2, 4]);
            let half = |at: usize| turns.clone().slice([0..b, 0..t, 0..n / 8, at..at + 1, 0..4]).reshape([b, t, n / 2]);
            gelu(half(0)) * half(1)
        }
    }
}

fn gelu(x: Tensor<3>) -> Tensor<3> {
    let cube = x.clone() * x.clone() * x.clone();
    let inner = (x.clone() + cube * 0.044_715) * (2.0 / std::f64::consts::PI).sqrt();
    x * (inner.clamp(-TANH_ONE, TANH_ONE).tanh() + 1.0) * 0.5
}

#[cfg(any(test, feature = "checks"))]
pub(crate) mod tests;
