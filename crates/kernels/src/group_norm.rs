//! Group norm over the pixels and channels of a group, with an optional nonlinearity (Wu and He 2018):
//! y = f(weight · (x - mean) / √(variance + ε) + bias), f(z) = z or z / (1 + e⁻ᶻ).
//!
//! x and y `[B, H, W, C]`, weight and bias `[C]`; a group is C/groups neighbouring channels. Two launches: moments of chunks
//! of pixels, then the rest. Sums are f32, and no sum of squares is subtracted from another. The shaders want groups of a
//! multiple of 4 channels. On the processor it is cpu/group_norm.rs; what neither takes is computed by burn. The two halves
//! are also offered by themselves, for a picture that lies in several tensors and for one whose moments are known. Shaders:
//! shaders/group_norm_moments.wgsl, shaders/group_norm_combine.wgsl, shaders/group_norm_apply.wgsl.

use burn::tensor::{DType, Tensor, TensorData, activation::silu};

use crate::KernelVariant;
use crate::cpu::{self, Slice};
use crate::launch::{Launch, gpu_input, tensor};
use crate::variant::burn_reference;
use crate::wgsl::Shader;

const STATISTICS: Shader =
    Shader { name: "group_norm_moments", source: include_str!("../../../shaders/group_norm_moments.wgsl") };
const APPLY: Shader =
    Shader { name: "group_norm_apply", source: include_str!("../../../shaders/group_norm_apply.wgsl") };
const MERGE: Shader =
    Shader { name: "group_norm_combine", source: include_str!("../../../shaders/group_norm_combine.wgsl") };
const WORKGROUP: usize = 64;
const MERGE_WORKGROUP: usize = 256;
/// Numbers of a chunk's moments: count, mean, squared distances, nothing.
pub(crate) const MOMENT_VALUES: usize = 4;

/// What is done to a normalised number.
#[derive(Clone, Copy)]
pub struct GroupNormOptions<'a> {
    pub weight: &'a Tensor<1>,
    pub bias: &'a Tensor<1>,
    pub groups: usize,
    pub eps: f64,
    pub silu: bool,
}

/// Group norm.
///
/// # Panics
/// Where the shapes do not fit.
#[must_use]
pub fn group_norm(x: Tensor<4>, options: &GroupNormOptions<'_>) -> Tensor<4> {
    let moments = group_moments(&x, options.groups);
    group_norm_with_moments(x, &moments, options)
}

/// Count, mean and squared distances of the groups of x: `[B, CHUNKS, groups, 4]` f32, a row for every chunk of pixels and
/// the last number unused. Rows of several parts of one picture, side by side along axis 1, are the rows of the picture.
///
/// # Panics
/// Where the channels are no multiple of the groups.
#[must_use]
pub fn group_moments(x: &Tensor<4>, groups: usize) -> Tensor<4> {
    let [_, _, _, c] = x.dims();
    assert!(groups > 0 && c.is_multiple_of(groups), "{c} channels in {groups} groups");
    let moments = launch_moments(x, groups).or_else(|| moments_on_cpu(x, groups));
    moments.unwrap_or_else(|| burn_reference(|| reference_moments(x.clone(), groups)))
}

/// One row for all of `moments`' rows `[B, CHUNKS, SETS, 4]`, of groups that consist of as many neighbouring sets each:
/// `[B, 1, groups, 4]`.
///
/// # Panics
/// Where the sets are no multiple of the groups.
#[must_use]
pub fn combine_moments(moments: &Tensor<4>, groups: usize) -> Tensor<4> {
    let [_, _, sets, numbers] = moments.dims();
    assert!(groups > 0 && sets.is_multiple_of(groups), "{sets} sets in {groups} groups");
    assert_eq!(numbers, MOMENT_VALUES, "numbers of a set");
    launch_merge(moments, groups).unwrap_or_else(|| reference_merge(moments, groups))
}

fn launch_merge(moments: &Tensor<4>, groups: usize) -> Option<Tensor<4>> {
    let [b, chunks, sets, _] = moments.dims();
    let merged = Launch {
        shader: MERGE,
        constants: &[],
        imports: &[],
        params: &[("chunks", chunks as u32), ("sets", sets as u32), ("groups", groups as u32)],
        workgroup: [MERGE_WORKGROUP as u32, 1, 1],
        count: [groups, b, 1],
    }
    .run(&[&gpu_input(moments)?], [b, 1, groups, MOMENT_VALUES], DType::F32);
    Some(tensor(merged))
}

/// The same in burn's operations.
fn reference_merge(moments: &Tensor<4>, groups: usize) -> Tensor<4> {
    let [b, chunks, sets, _] = moments.dims();
    let own = sets / groups;
    let moments = moments.clone().reshape([b, chunks, groups, own * MOMENT_VALUES]).swap_dims(1, 2);
    let moments = moments.reshape([b, groups, chunks * own, MOMENT_VALUES]).swap_dims(1, 2); // [B, CHUNKS·OWN, groups, 4]
    let part = |at| moments.clone().narrow(3, at, 1); // [B, CHUNKS·OWN, groups, 1]
    let count = part(0).sum_dim(1);
    let share = part(0) / count.clone();
    let mean = (part(1) * share).sum_dim(1);
    let off = part(1) - mean.clone();
    let squares = (part(2) + part(0) * off.clone() * off).sum_dim(1);
    Tensor::cat(vec![count.clone(), mean, squares, count * 0.0], 3)
}

/// Group norm of x with the moments that [`group_moments`] gave, of x or of the picture that x is a part of.
///
/// # Panics
/// Where the shapes do not fit.
#[must_use]
pub fn group_norm_with_moments(x: Tensor<4>, moments: &Tensor<4>, options: &GroupNormOptions<'_>) -> Tensor<4> {
    let ([b, _, _, c], [pictures, _, sets, numbers]) = (x.dims(), moments.dims());
    let GroupNormOptions { weight, bias, groups, .. } = *options;
    assert!(groups > 0 && c.is_multiple_of(groups), "{c} channels in {groups} groups");
    assert_eq!([weight.dims(), bias.dims()], [[c]; 2], "weight and bias");
    assert_eq!([pictures, sets, numbers], [b, groups, MOMENT_VALUES], "moments of {b} pictures");
    let y = launch(&x, moments, options).or_else(|| on_cpu(&x, moments, options));
    y.unwrap_or_else(|| burn_reference(|| reference(x, moments, options)))
}

/// How pixels are shared out.
struct PixelChunks {
    /// Most chunks of a picture. Every invocation of the second launch merges them all.
    chunks: usize,
    /// Least pixels of a chunk, and pixels of a run.
    pixels: usize,
}

impl PixelChunks {
    /// A GPU wants thousands of invocations; on a software adapter each merge is work.
    fn select() -> Self {
        match KernelVariant::current() {
            KernelVariant::RegisterTiled => Self { chunks: 16, pixels: 256 },
            _ => Self { chunks: 128, pixels: 64 },
        }
    }
}

fn launch_moments(x: &Tensor<4>, groups: usize) -> Option<Tensor<4>> {
    let [b, h, w, c] = x.dims();
    if !(c / groups).is_multiple_of(4) {
        return None;
    }
    let x = gpu_input(x)?;
    let split = PixelChunks::select();
    let pixels = h * w;
    let chunk_pixels = pixels.div_ceil(split.chunks).max(split.pixels);
    let chunks = pixels.div_ceil(chunk_pixels);
    let partials = Launch {
        shader: STATISTICS,
        constants: &[],
        imports: &[],
        params: &[
            ("pixels", pixels as u32),
            ("c4", c as u32 / 4),
            ("groups", groups as u32),
            ("chunk_pixels", chunk_pixels as u32),
            ("chunks", chunks as u32),
        ],
        workgroup: [WORKGROUP as u32, 1, 1],
        count: [(chunks * groups).div_ceil(WORKGROUP), b, 1],
    }
    .run(&[&x], [b, chunks, groups, MOMENT_VALUES], DType::F32);
    Some(tensor(partials))
}

fn launch(x: &Tensor<4>, moments: &Tensor<4>, options: &GroupNormOptions<'_>) -> Option<Tensor<4>> {
    let ([b, h, w, c], [_, chunks, ..]) = (x.dims(), moments.dims());
    let GroupNormOptions { weight, bias, groups, eps, silu } = *options;
    if !(c / groups).is_multiple_of(4) {
        return None;
    }
    let (x, moments, weight, bias) = (gpu_input(x)?, gpu_input(moments)?, gpu_input(weight)?, gpu_input(bias)?);
    let (split, pixels) = (PixelChunks::select(), h * w);
    let y = Launch {
        shader: APPLY,
        constants: &[],
        imports: &[],
        params: &[
            ("pixels", pixels as u32),
            ("c4", c as u32 / 4),
            ("groups", groups as u32),
            ("chunks", chunks as u32),
            ("run_pixels", split.pixels as u32),
            ("eps", (eps as f32).to_bits()),
            ("silu", u32::from(silu)),
        ],
        workgroup: [WORKGROUP as u32, 1, 1],
        count: [(c / 4 * pixels.div_ceil(split.pixels)).div_ceil(WORKGROUP), b, 1],
    }
    .run(&[&x, &moments, &weight, &bias], [b, h, w, c], x.dtype);
    Some(tensor(y))
}

/// The same where the device is the processor.
fn moments_on_cpu(x: &Tensor<4>, groups: usize) -> Option<Tensor<4>> {
    let [b, _, _, c] = x.dims();
    let moments = cpu::group_moments(Slice::of(x)?.values(), b, c, groups);
    Some(Tensor::from_data(TensorData::new(moments, [b, 1, groups, MOMENT_VALUES]), &x.device()))
}

/// The same where the device is the processor.
fn on_cpu(x: &Tensor<4>, moments: &Tensor<4>, options: &GroupNormOptions<'_>) -> Option<Tensor<4>> {
    let [b, ..] = x.dims();
    let GroupNormOptions { groups, eps, silu, .. } = *options;
    let [weight, bias] = [Slice::of(options.weight)?, Slice::of(options.bias)?];
    let norm = cpu::GroupNorm { weight: weight.values(), bias: bias.values(), groups, epsilon: eps as f32, silu };
    let (values, moments) = (Slice::of(x)?, Slice::of(moments)?);
    Some(cpu::tensor(cpu::group_norm(values.values(), b, moments.values(), norm), x.dims(), x))
}

/// The same in burn's operations.
fn reference_moments(x: Tensor<4>, groups: usize) -> Tensor<4> {
    let [b, h, w, c] = x.dims();
    let x = x.cast(DType::F32).reshape([b, h, w, groups, c / groups]);
    // Row means first: one long f32 sum over all pixels loses digits.
    let mean_of = |x: Tensor<5>| x.mean_dim(4).mean_dim(2).mean_dim(1); // [B, 1, 1, groups, 1]
    let mean = mean_of(x.clone());
    let centred = x - mean.clone();
    let count = (h * w * c / groups) as f64;
    let squares = mean_of(centred.clone() * centred) * count;
    let row = |x: Tensor<5>| x.reshape([b, 1, groups, 1]);
    let [mean, squares] = [row(mean), row(squares)];
    let zero = mean.clone() * 0.0;
    Tensor::cat(vec![zero.clone() + count, mean, squares, zero], 3)
}

/// The same in burn's operations.
fn reference(x: Tensor<4>, moments: &Tensor<4>, options: &GroupNormOptions<'_>) -> Tensor<4> {
    let [b, h, w, c] = x.dims();
    let GroupNormOptions { weight, bias, groups, eps, silu: activated } = *options;
    let moments = reference_merge(moments, groups);
    let part = |at| moments.clone().narrow(3, at, 1).reshape([b, 1, 1, groups, 1]);
    let variance = part(2) / part(0);
    let stored = x.dtype();
    let x = x.cast(DType::F32).reshape([b, h, w, groups, c / groups]);
    let x = ((x - part(1)) / (variance + eps).sqrt()).reshape([b, h, w, c]);
    let y = x * weight.clone().unsqueeze() + bias.clone().unsqueeze();
    if activated { silu(y) } else { y }.cast(stored)
}

#[cfg(any(test, feature = "checks"))]
pub(crate) mod tests;
