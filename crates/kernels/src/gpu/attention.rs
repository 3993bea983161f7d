//! Attention. Shaders: shaders/attention_registers.wgsl for fallback adapters; for GPUs shaders/attention_workgroup.wgsl, and
//! shaders/attention_workgroup_wide.wgsl for heads whose query does not fit the registers.

use burn::tensor::Tensor;

use super::launch::{ShaderLaunch, gpu_input, tensor, unused_binding};
use super::wgsl::{Shader, Spec, files};
use crate::KernelVariant;
use crate::options::{AttentionOptions, Heads, WIDEST_CHANNELS, broadcast_strides};

/// The widest head, in channels, of shaders/attention_workgroup.wgsl.
const MAX_WORKGROUP_CHANNELS: usize = 112;

/// Launches attention; None where no shader supports it.
pub(crate) fn attention(q: Heads<'_>, k: Heads<'_>, v: Heads<'_>, options: &AttentionOptions<'_>) -> Option<Tensor<3>> {
    let AttentionOptions { heads, head_channels: d, scale, bias } = *options;
    let ([b, t, _], [_, l, _]) = (q.tensor.dims(), k.tensor.dims());
    let aligned = [q, k, v].iter().all(|x| x.tensor.dims()[2].is_multiple_of(4) && x.first.is_multiple_of(4));
    if !aligned || !d.is_multiple_of(4) || d > WIDEST_CHANNELS {
        return None;
    }
    let [q_place, k_place, v_place] = [q, k, v].map(|x| [x.first as u32 / 4, x.tensor.dims()[2] as u32 / 4]);
    let [q, k, v] = [gpu_input(q.tensor)?, gpu_input(k.tensor)?, gpu_input(v.tensor)?];
    assert_eq!([k.dtype, v.dtype], [q.dtype; 2], "dtypes of keys and values");
    let [bias_b, bias_n, bias_t, bias_l] = bias.map_or([0; 4], |bias| broadcast_strides(bias.dims()));
    let has_bias = u32::from(bias.is_some());
    let bias = bias.and_then(gpu_input).unwrap_or_else(|| unused_binding(&q));
    let AttentionKernel { shader, constants, invocations, queries } =
        AttentionKernel::select(KernelVariant::current(), d);
    let y = ShaderLaunch {
        shader,
        constants: &constants,
        imports: &[],
        params: &[
            ("t", t as u32),
            ("l", l as u32),
            ("q_first4", q_place[0]),
            ("q_stride4", q_place[1]),
            ("k_first4", k_place[0]),
            ("k_stride4", k_place[1]),
            ("v_first4", v_place[0]),
            ("v_stride4", v_place[1]),
            ("y_stride4", (heads * d) as u32 / 4),
            ("scale", scale.to_bits()),
            ("has_bias", has_bias),
            ("bias_b", bias_b),
            ("bias_n", bias_n),
            ("bias_t", bias_t),
            ("bias_l", bias_l),
        ],
        workgroup: [invocations, 1, 1],
        count: [t.div_ceil(queries), heads, b],
    }
    .run(&[&q, &k, &v, &bias], [b, t, heads * d], q.dtype);
    Some(tensor(y))
}

/// The shader for heads of a width.
struct AttentionKernel {
    shader: Shader,
    constants: Vec<(&'static str, u32)>,
    /// Invocations of a workgroup, and queries that it computes.
    invocations: u32,
    queries: usize,
}

impl AttentionKernel {
    fn select(variant: KernelVariant, d: usize) -> Self {
        let d4 = d as u32 / 4;
        let [whole, half] = [("D4", d4), ("HALF4", d4.div_ceil(2))];
        let (shader, constants, invocations, queries) = match variant {
            KernelVariant::WorkgroupTiled if d > MAX_WORKGROUP_CHANNELS => {
                (files::ATTENTION_WORKGROUP_WIDE, vec![whole], 128, 16)
            }
            KernelVariant::WorkgroupTiled => (files::ATTENTION_WORKGROUP, vec![whole, half], 128, 128),
            _ => (files::ATTENTION_REGISTERS, vec![whole], 16, 16 * 8),
        };
        Self { shader, constants, invocations, queries }
    }
}

/// Returns every specialisation that a launch can have, for f32 activations.
pub(super) fn specialisations() -> Vec<(Shader, Spec)> {
    let widths = (4..=WIDEST_CHANNELS).step_by(4);
    let variants = [KernelVariant::RegisterTiled, KernelVariant::WorkgroupTiled];
    let kernels = widths.flat_map(|d| variants.map(|variant| AttentionKernel::select(variant, d)));
    kernels.map(|kernel| (kernel.shader, Spec { constants: kernel.constants, ..Spec::default() })).collect()
}
