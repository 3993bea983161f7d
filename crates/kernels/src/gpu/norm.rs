//! Layer norm and root-mean-square norm. Shaders: shaders/norm_registers.wgsl, shaders/norm_workgroup.wgsl.

use burn::tensor::Tensor;

use super::launch::{ShaderLaunch, gpu_input, tensor, unused_binding};
use super::wgsl::{Shader, Spec, files};
use crate::KernelVariant;
use crate::options::{Modulation, TokenNorm};

const WORKGROUP: u32 = 64;
/// Workgroups along one axis that every WebGPU device supports.
const MAX_COUNT: usize = 65_535;

/// Launches a norm; None where no shader supports it.
pub(crate) fn norm(x: &Tensor<3>, norm: TokenNorm<'_>, eps: f64) -> Option<Tensor<3>> {
    let [b, t, c] = x.dims();
    if !c.is_multiple_of(4) {
        return None;
    }
    let x = gpu_input(x)?;
    // A plain norm reads no table. A root-mean-square norm reads its weights as a table's only chunk.
    let (table, [shift_start, stride], [scale_start, _]) = match norm {
        TokenNorm::Layer(None) => (None, [0; 2], [0; 2]),
        TokenNorm::Layer(Some(Modulation { shift, scale })) => {
            (gpu_input(shift.table), shift.offset_and_stride(), scale.offset_and_stride())
        }
        TokenNorm::RootMeanSquare(weight) => (gpu_input(weight), [0; 2], [0; 2]),
    };
    let has_modulation = table.is_some();
    let table = table.unwrap_or_else(|| unused_binding(&x));
    let rows = b * t;
    let (shader, count) = match KernelVariant::current() {
        KernelVariant::WorkgroupTiled => (files::NORM_WORKGROUP, [rows.min(MAX_COUNT), rows.div_ceil(MAX_COUNT), 1]),
        _ => (files::NORM_REGISTERS, [rows.div_ceil(WORKGROUP as usize), 1, 1]),
    };
    let y = ShaderLaunch {
        shader,
        constants: &[],
        imports: &[],
        params: &[
            ("m", rows as u32),
            ("c4", c as u32 / 4),
            ("subtract_mean", u32::from(matches!(norm, TokenNorm::Layer(_)))),
            ("eps", (eps as f32).to_bits()),
            ("has_modulation", u32::from(has_modulation)),
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

/// Returns every specialisation that a launch can have, for f32 activations.
pub(super) fn specialisations() -> Vec<(Shader, Spec)> {
    [files::NORM_REGISTERS, files::NORM_WORKGROUP].map(|shader| (shader, Spec::default())).into()
}
