//! Attention of several heads that lie side by side in the channels: y = softmax(scale · q·kᵀ + bias) · v of each
//! (Vaswani et al. 2017, eq. 1), by a running maximum and sum, so that no [T, L] scores are kept (Milakov and Gimelshein
//! 2018; Dao et al. 2022).
//!
//! q `[B, T, ·]`, k and v `[B, L, ·]`, of which the heads are columns, bias f32 → y `[B, T, N·D]`, stored as q is. Sums
//! are f32. A score is never less than [`MIN_SCORE`]: a bias may be as low as f32 goes, and a query of which every key is
//! masked takes the mean of the values. The shaders want D, the columns of the tensors and the first ones to be multiples
//! of 4, and D to be 512 at most. On the processor it is cpu/attention.rs; what neither takes is computed by burn, and
//! the scores are kept. Shaders: shaders/attention.wgsl for software adapters; for GPUs shaders/attention_workgroup.wgsl, and
//! shaders/attention_workgroup_wide.wgsl where a query's channels would not stay in registers.

use burn::tensor::{DType, Tensor, activation::softmax};

use crate::KernelVariant;
use crate::cpu::{self, Slice};
use crate::launch::{Launch, gpu_input, tensor, unused_binding};
use crate::variant::burn_reference;
use crate::wgsl::Shader;

const REGISTER_TILED: Shader =
    Shader { name: "attention_registers", source: include_str!("../../../shaders/attention_registers.wgsl") };
const WORKGROUP_TILED: Shader =
    Shader { name: "attention_workgroup", source: include_str!("../../../shaders/attention_workgroup.wgsl") };
const WORKGROUP_TILED_WIDE: Shader =
    Shader { name: "attention_workgroup_wide", source: include_str!("../../../shaders/attention_workgroup_wide.wgsl") };
/// The widest heads of the shaders.
const MAX_WORKGROUP_CHANNELS: usize = 112;
pub const WIDEST_CHANNELS: usize = 512;
/// No score is less, so that the difference of two is finite. Torch adds f32::MIN to the scores of a row that is masked
/// as a whole, which also leaves all of them equal.
pub(crate) const MIN_SCORE: f32 = -1e30;

/// Where the heads of q, k or v lie: columns `first..first + N·D` of `[B, T, COLUMNS]`.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    pub tensor: &'a Tensor<3>,
    pub first: usize,
}

/// How to attend.
#[derive(Clone, Copy)]
pub struct AttentionOptions<'a> {
    pub heads: usize,
    pub head_channels: usize,
    pub scale: f32,
    /// Added to the scores; broadcasts to `[B, N, T, L]`.
    pub bias: Option<&'a Tensor<4>>,
}

/// softmax(scale · q·kᵀ + bias) · v per head.
///
/// # Panics
/// Where the shapes do not fit.
#[must_use]
pub fn attention(q: Heads<'_>, k: Heads<'_>, v: Heads<'_>, options: &AttentionOptions<'_>) -> Tensor<3> {
    let ([b, t, _], [key_b, l, _], [value_b, value_l, _]) = (q.tensor.dims(), k.tensor.dims(), v.tensor.dims());
    assert_eq!([key_b, value_b], [b, b], "batches of keys and values");
    assert_eq!(l, value_l, "keys and values");
    assert!(l > 0, "no key to attend to");
    let width = options.heads * options.head_channels;
    for Heads { tensor, first } in [q, k, v] {
        let [.., columns] = tensor.dims();
        assert!(first + width <= columns, "{width} channels of heads from {first} on, in {columns} columns");
    }
    if let Some(bias) = options.bias {
        let fits = bias.dims().into_iter().zip([b, options.heads, t, l]).all(|(own, full)| own == 1 || own == full);
        assert!(fits, "a bias {:?} for scores {:?}", bias.dims(), [b, options.heads, t, l]);
        assert_eq!(bias.dtype(), DType::F32, "the dtype of a bias");
    }
    launch(q, k, v, options)
        .or_else(|| on_cpu(q, k, v, options))
        .unwrap_or_else(|| burn_reference(|| reference(q, k, v, options)))
}

fn launch(q: Heads<'_>, k: Heads<'_>, v: Heads<'_>, options: &AttentionOptions<'_>) -> Option<Tensor<3>> {
    let AttentionOptions { heads, head_channels: d, scale, bias } = *options;
    let ([b, t, _], [_, l, _]) = (q.tensor.dims(), k.tensor.dims());
    let fours = [q, k, v].iter().all(|x| x.tensor.dims()[2].is_multiple_of(4) && x.first.is_multiple_of(4));
    if !fours || !d.is_multiple_of(4) || d > WIDEST_CHANNELS {
        return None;
    }
    let [q_place, k_place, v_place] = [q, k, v].map(|x| [x.first as u32 / 4, x.tensor.dims()[2] as u32 / 4]);
    let [q, k, v] = [gpu_input(q.tensor)?, gpu_input(k.tensor)?, gpu_input(v.tensor)?];
    assert_eq!([k.dtype, v.dtype], [q.dtype; 2], "dtypes of keys and values");
    let [bias_b, bias_n, bias_t, bias_l] = bias.map_or([0; 4], |bias| strides(bias.dims()));
    let biased = u32::from(bias.is_some());
    let bias = bias.and_then(gpu_input).unwrap_or_else(|| unused_binding(&q));
    let d4 = d as u32 / 4;
    let [whole, half] = [("D4", d4), ("HALF4", d4.div_ceil(2))];
    let (shader, invocations, queries, constants): (_, _, _, &[_]) = match KernelVariant::current() {
        KernelVariant::WorkgroupTiled if d > MAX_WORKGROUP_CHANNELS => (WORKGROUP_TILED_WIDE, 128, 16, &[whole]),
        KernelVariant::WorkgroupTiled => (WORKGROUP_TILED, 128, 128, &[whole, half]),
        _ => (REGISTER_TILED, 16, 16 * 8, &[whole]),
    };
    let y = Launch {
        shader,
        constants,
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
            ("has_bias", biased),
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

/// How far the next element of each axis is; 0 where the one there is serves the whole axis.
fn strides(dims: [usize; 4]) -> [u32; 4] {
    let mut next = 1;
    let mut strides = [0; 4];
    for (stride, count) in strides.iter_mut().zip(dims).rev() {
        *stride = if count == 1 { 0 } else { next };
        next *= count as u32;
    }
    strides
}

/// The same where the device is the processor.
fn on_cpu(q: Heads<'_>, k: Heads<'_>, v: Heads<'_>, options: &AttentionOptions<'_>) -> Option<Tensor<3>> {
    let AttentionOptions { heads, head_channels, scale, bias } = *options;
    let [batch, t, _] = q.tensor.dims();
    let slices = [Slice::of(q.tensor)?, Slice::of(k.tensor)?, Slice::of(v.tensor)?];
    let place = |heads: Heads<'_>, slice| cpu::Heads::new(slice, heads.tensor.dims(), heads.first);
    let [q_heads, k_heads, v_heads] = [place(q, &slices[0]), place(k, &slices[1]), place(v, &slices[2])];
    let added = bias.and_then(Slice::of);
    let bias = bias.zip(added.as_ref()).map(|(bias, slice)| {
        let strides = strides(bias.dims()).map(|stride| stride as usize);
        cpu::Bias { values: slice.values(), strides }
    });
    let y = cpu::attention(q_heads, k_heads, v_heads, cpu::Attention { batch, heads, head_channels, scale, bias });
    Some(cpu::tensor(y, [batch, t, heads * head_channels], q.tensor))
}

/// The same in burn's operations.
fn reference(q: Heads<'_>, k: Heads<'_>, v: Heads<'_>, options: &AttentionOptions<'_>) -> Tensor<3> {
    let AttentionOptions { heads, head_channels: d, scale, bias } = *options;
    let split = |x: Heads<'_>| {
        let [b, t, _] = x.tensor.dims();
        let own = x.tensor.clone().slice([0..b, 0..t, x.first..x.first + heads * d]).cast(DType::F32);
        own.reshape([b, t, heads, d]).swap_dims(1, 2) // [B, N, T, D]
    };
    let [b, t, _] = q.tensor.dims();
    let mut scores = split(q).matmul(split(k).swap_dims(2, 3)) * scale; // [B, N, T, L]
    if let Some(bias) = bias {
        scores = scores + bias.clone();
    }
    let mixed = softmax(scores.clamp_min(MIN_SCORE), 3).matmul(split(v)); // [B, N, T, D]
    mixed.swap_dims(1, 2).reshape([b, t, heads * d]).cast(q.tensor.dtype())
}

#[cfg(any(test, feature = "checks"))]
pub(crate) mod tests;
