//! The affine map with what follows it: y = residual + gate · activation(x · w + bias), each part where asked for.
//!
//! x `[B, T, K]`, w `[K, N]` in any [`WeightFormat`](crate::WeightFormat), bias `[N]`, gate one row of a modulation table, residual `[B, T, N]` or
//! `[1, T, N]` → y `[B, T, N]`. Sums are f32. The shaders want K and N to be multiples of 4. On the processor it is
//! cpu/gemm.rs; what neither takes is computed by burn. Shaders: shaders/gemm.wgsl, shaders/gemm_workgroup.wgsl.

use burn::tensor::{DType, Tensor};

use crate::cpu::{self, Slice};
use crate::launch::{Launch, gpu_input, tensor, unused_binding};
use crate::matrix::Matrix;
use crate::tiles::{RegisterRows, Tiling};
use crate::variant::burn_reference;
use crate::wgsl::Shader;
use crate::{Activation, AdaLnChunk};

const REGISTER_TILED: Shader =
    Shader { name: "gemm_registers", source: include_str!("../../../shaders/gemm_registers.wgsl") };
const WORKGROUP_TILED: Shader =
    Shader { name: "gemm_workgroup", source: include_str!("../../../shaders/gemm_workgroup.wgsl") };
/// Tiles of 32 rows would be a tenth faster, but there is a text for each precision, and each would compile twice as long.
pub(crate) const REGISTER_ROWS: RegisterRows = [8, 16];

/// What is done to a sum before it is stored.
#[derive(Clone, Default)]
pub struct Epilogue<'a> {
    pub bias: Option<&'a Tensor<1>>,
    pub activation: Activation,
    pub gate: Option<AdaLnChunk<'a>>,
    pub residual: Option<Tensor<3>>,
}

/// x · w with its epilogue.
///
/// With [`Activation::GatedGelu`] the columns of w are those of two maps in turns of four, see
/// [`QuantizedMatrix::interleave_columns`](crate::QuantizedMatrix::interleave_columns), and y `[B, T, N/2]` is gelu(first) · second, without bias, gate or residual.
///
/// # Panics
/// Where the shapes do not fit.
#[must_use]
pub fn linear(x: Tensor<3>, w: &Matrix, epilogue: Epilogue<'_>) -> Tensor<3> {
    let ([b, t, k], [inputs, n]) = (x.dims(), w.dims());
    assert_eq!(k, inputs, "a map of {inputs} inputs was given {k}");
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
        assert!(plain && n.is_multiple_of(8), "a gated map of {n} columns with an epilogue of its own");
    }
    launch(&x, w, &epilogue)
        .or_else(|| on_cpu(&x, w, &epilogue))
        .unwrap_or_else(|| burn_reference(|| reference(x, w, epilogue)))
}

fn launch(x: &Tensor<3>, w: &Matrix, epilogue: &Epilogue<'_>) -> Option<Tensor<3>> {
    let ([b, t, k], [_, n]) = (x.dims(), w.dims());
    if !k.is_multiple_of(4) || !n.is_multiple_of(4) {
        return None;
    }
    let x = gpu_input(x)?;
    let (weights, source) = w.bound()?;
    let absent = unused_binding(&x);
    let given = |tensor: Option<_>| tensor.unwrap_or_else(|| absent.clone());
    let bias = given(epilogue.bias.and_then(gpu_input));
    let residual = given(epilogue.residual.as_ref().and_then(gpu_input));
    let modulation = given(epilogue.gate.as_ref().and_then(|gate| gpu_input(gate.table)));
    let [gate_start, gate_stride] = epilogue.gate.as_ref().map_or([0, 0], AdaLnChunk::place);
    let residual_rows = epilogue.residual.as_ref().map_or(0, |residual| residual.dims()[0] * t);
    let gated_gelu = epilogue.activation == Activation::GatedGelu;
    let tiles = Tiling::select(b * t, n, REGISTER_ROWS);
    let y = Launch {
        shader: tiles.shader(REGISTER_TILED, WORKGROUP_TILED),
        constants: &tiles.constants(),
        imports: &[("weights", source)],
        params: &[
            ("m", (b * t) as u32),
            ("k4", k as u32 / 4),
            ("n4", n as u32 / 4),
            ("has_bias", u32::from(epilogue.bias.is_some())),
            ("activation", epilogue.activation as u32),
            ("has_gate", u32::from(epilogue.gate.is_some())),
            ("gate_start4", gate_start as u32 / 4),
            ("gate_stride4", gate_stride as u32 / 4),
            ("gate_rows", t as u32),
            ("residual_rows", residual_rows as u32),
        ],
        workgroup: tiles.workgroup(),
        count: tiles.count(b * t, n),
    }
    .run(&[&x, &weights, &bias, &residual, &modulation], [b, t, if gated_gelu { n / 2 } else { n }], x.dtype);
    Some(tensor(y))
}

/// The same where the device is the processor.
fn on_cpu(x: &Tensor<3>, w: &Matrix, epilogue: &Epilogue<'_>) -> Option<Tensor<3>> {
    let ([b, t, _], [k, n]) = (x.dims(), w.dims());
    let (values, words) = (Slice::of(x)?, w.slice());
    let bias = epilogue.bias.and_then(Slice::of);
    let table = epilogue.gate.as_ref().and_then(|gate| Slice::of(gate.table));
    let residual = epilogue.residual.as_ref().and_then(Slice::of);
    let finish = cpu::MatmulEpilogue {
        bias: bias.as_ref().map(Slice::values),
        activation: epilogue.activation,
        gate: epilogue.gate.zip(table.as_ref()).map(|(gate, table)| cpu::BroadcastRow::new(table.values(), gate, t)),
        residual: residual.as_ref().map(Slice::values),
    };
    let columns = if epilogue.activation == Activation::GatedGelu { n / 2 } else { n };
    let y = cpu::matmul(values.values(), w.weights(&words)?, [k, n], finish);
    Some(cpu::tensor(y, [b, t, columns], x))
}

/// The same in burn's operations. Packed weights are unpacked for the call.
fn reference(x: Tensor<3>, w: &Matrix, epilogue: Epilogue<'_>) -> Tensor<3> {
    let ([b, t, k], [_, n]) = (x.dims(), w.dims());
    let stored = x.dtype();
    let mut y = x.cast(DType::F32).reshape([1, b * t, k]).matmul(w.values().unsqueeze()).reshape([b, t, n]);
    if let Some(bias) = epilogue.bias {
        y = y + bias.clone().unsqueeze();
    }
    y = epilogue.activation.apply(y);
    if let Some(gate) = epilogue.gate {
        y = y * gate.values();
    }
    match epilogue.residual {
        Some(residual) => y + residual.cast(DType::F32),
        None => y,
    }
    .cast(stored)
}

#[cfg(any(test, feature = "checks"))]
pub(crate) mod tests;
