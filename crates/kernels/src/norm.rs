//! Norms over the channels of a token, with what follows them in the same pass.
//!
//! - layer norm without an affine map of its own, modulated: (x - mean) / √(variance + ε) · (1 + scale) + shift
//!   (Ba et al. 2016; Peebles and Xie 2022, adaLN);
//! - root-mean-square norm: x / √(mean(x²) + ε) · weight (Zhang and Sennrich 2019).
//!
//! x `[B, T, C]` → `[B, T, C]`; scale and shift are rows of a modulation table, weight `[C]`. Sums are f32. The shaders
//! want C to be a multiple of 4. On the processor it is cpu/norm.rs; what neither takes is computed by burn. Shaders:
//! shaders/norm.wgsl, shaders/norm_workgroup.wgsl.

use burn::tensor::{DType, Tensor};

use crate::cpu::{self, Slice};
use crate::launch::{Launch, gpu_input, tensor, unused_binding};
use crate::variant::burn_reference;
use crate::wgsl::Shader;
use crate::{AdaLnChunk, KernelVariant};

const REGISTER_TILED: Shader =
    Shader { name: "norm_registers", source: include_str!("../../../shaders/norm_registers.wgsl") };
const WORKGROUP_TILED: Shader =
    Shader { name: "norm_workgroup", source: include_str!("../../../shaders/norm_workgroup.wgsl") };
const WORKGROUP: u32 = 64;
/// Workgroups along one axis that every WebGPU device allows.
const COUNT_MAX: usize = 65_535;

/// What becomes of a normalised number.
#[derive(Clone, Copy)]
pub struct Modulation<'a> {
    pub shift: AdaLnChunk<'a>,
    pub scale: AdaLnChunk<'a>,
}

/// Layer norm, modulated where `modulation` is given.
///
/// # Panics
/// Where the shapes do not fit.
#[must_use]
pub fn layer_norm(x: Tensor<3>, modulation: Option<Modulation<'_>>, eps: f64) -> Tensor<3> {
    if let Some(Modulation { shift, scale }) = &modulation {
        shift.assert_fits(x.dims());
        scale.assert_fits(x.dims());
        assert!(std::ptr::eq(shift.table, scale.table), "shift and scale are rows of one table");
    }
    let norm = Norm::Layer(modulation);
    launch(&x, norm, eps)
        .or_else(|| on_cpu(&x, norm, eps))
        .unwrap_or_else(|| burn_reference(|| reference_layer_norm(x, modulation, eps)))
}

/// Root-mean-square norm.
///
/// # Panics
/// Where the shapes do not fit.
#[must_use]
pub fn rms_norm(x: Tensor<3>, weight: &Tensor<1>, eps: f64) -> Tensor<3> {
    let [_, _, c] = x.dims();
    assert_eq!(weight.dims(), [c], "weight");
    let norm = Norm::RootMeanSquare(weight);
    launch(&x, norm, eps)
        .or_else(|| on_cpu(&x, norm, eps))
        .unwrap_or_else(|| burn_reference(|| reference_rms_norm(x, weight, eps)))
}

#[derive(Clone, Copy)]
enum Norm<'a> {
    Layer(Option<Modulation<'a>>),
    RootMeanSquare(&'a Tensor<1>),
}

fn launch(x: &Tensor<3>, norm: Norm<'_>, eps: f64) -> Option<Tensor<3>> {
    let [b, t, c] = x.dims();
    if !c.is_multiple_of(4) {
        return None;
    }
    let x = gpu_input(x)?;
    // A plain norm reads no table; a root-mean-square one reads its weights as the only row of one.
    let (table, [shift_start, stride], [scale_start, _]) = match norm {
        Norm::Layer(None) => (None, [0; 2], [0; 2]),
        Norm::Layer(Some(Modulation { shift, scale })) => (gpu_input(shift.table), shift.place(), scale.place()),
        Norm::RootMeanSquare(weight) => (gpu_input(weight), [0; 2], [0; 2]),
    };
    let modulated = table.is_some();
    let table = table.unwrap_or_else(|| unused_binding(&x));
    let workgroup_tiled = KernelVariant::current() == KernelVariant::WorkgroupTiled;
    let rows = b * t;
    let count = match workgroup_tiled {
        true => [rows.min(COUNT_MAX), rows.div_ceil(COUNT_MAX), 1],
        false => [rows.div_ceil(WORKGROUP as usize), 1, 1],
    };
    let y = Launch {
        shader: if workgroup_tiled { WORKGROUP_TILED } else { REGISTER_TILED },
        constants: &[],
        imports: &[],
        params: &[
            ("m", rows as u32),
            ("c4", c as u32 / 4),
            ("subtract_mean", u32::from(matches!(norm, Norm::Layer(_)))),
            ("eps", (eps as f32).to_bits()),
            ("has_modulation", u32::from(modulated)),
            ("shift_start4", shift_start as u32 / 4),
            ("scale_start4", scale_start as u32 / 4),
            ("stride4", stride as u32 / 4),
            ("rows", t as u32),
        ],
        workgroup: [WORKGROUP, 1, 1],
        count,
    }
    .run(&[&x, &table], [b, t, c], x.dtype);
    Some(tensor(y))
}

/// The same where the device is the processor.
fn on_cpu(x: &Tensor<3>, norm: Norm<'_>, eps: f64) -> Option<Tensor<3>> {
    let [_, t, c] = x.dims();
    let (values, eps) = (Slice::of(x)?, eps as f32);
    let y = match norm {
        Norm::Layer(None) => cpu::layer_norm(values.values(), c, eps, None),
        Norm::Layer(Some(Modulation { shift, scale })) => {
            let table = Slice::of(shift.table)?;
            let [scale, shift] = [scale, shift].map(|row| cpu::BroadcastRow::new(table.values(), row, t));
            cpu::layer_norm(values.values(), c, eps, Some(cpu::Modulation { scale, shift }))
        }
        Norm::RootMeanSquare(weight) => cpu::rms_norm(values.values(), Slice::of(weight)?.values(), eps),
    };
    Some(cpu::tensor(y, x.dims(), x))
}

fn reference_layer_norm(x: Tensor<3>, modulation: Option<Modulation<'_>>, eps: f64) -> Tensor<3> {
    let stored = x.dtype();
    let x = x.cast(DType::F32);
    let centred = x.clone() - x.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2); // [B, T, 1]
    let y = centred / (variance + eps).sqrt();
    match modulation {
        Some(Modulation { shift, scale }) => y * (scale.values() + 1.0) + shift.values(),
        None => y,
    }
    .cast(stored)
}

fn reference_rms_norm(x: Tensor<3>, weight: &Tensor<1>, eps: f64) -> Tensor<3> {
    let stored = x.dtype();
    let x = x.cast(DType::F32);
    let mean_square = (x.clone() * x.clone()).mean_dim(2); // [B, T, 1]
    (x / (mean_square + eps).sqrt() * weight.clone().unsqueeze()).cast(stored)
}

#[cfg(any(test, feature = "checks"))]
pub(crate) mod tests;
