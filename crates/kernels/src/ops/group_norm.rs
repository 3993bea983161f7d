//! Group norm over the pixels and channels of a group, optionally with SiLU (Wu and He 2018):
//! y = f(weight · (x - mean) / √(variance + ε) + bias), f(z) = z or z / (1 + e⁻ᶻ).
//!
//! x and y `[B, H, W, C]`, weight and bias `[C]`; a group is C/groups neighbouring channels. On a GPU it takes two launches: the
//! moments of chunks of pixels, then the rest. Both steps are public, for an image that lies in several tensors and for one whose
//! moments are known. Accumulation is f32, and no sum of squares is subtracted from another. The shaders support a C that
//! is a multiple of 4; the CPU kernel supports all shapes.
//!
//! Moments are `[B, CHUNKS, SETS, 4]` f32: count, mean, sum of squared distances from the mean, and one unused value, for each
//! chunk of pixels and set of channels.

use burn::tensor::{DType, Tensor, activation::silu};

use crate::options::{GroupNormOptions, MOMENT_VALUES};
use crate::variant::burn_reference;
use crate::{cpu, gpu};

/// Returns the group norm of x.
///
/// # Panics
/// If the shapes do not fit.
#[must_use]
pub fn group_norm(x: Tensor<4>, options: &GroupNormOptions<'_>) -> Tensor<4> {
    let moments = group_moments(&x, options.groups);
    group_norm_with_moments(x, &moments, options)
}

/// Returns the moments of the groups of x: `[B, CHUNKS, groups, 4]`, one row per chunk of pixels. The rows of several parts of an
/// image, concatenated along axis 1, are the rows of the image.
///
/// # Panics
/// If the number of channels is no multiple of `groups`.
#[must_use]
pub fn group_moments(x: &Tensor<4>, groups: usize) -> Tensor<4> {
    let [_, _, _, c] = x.dims();
    assert!(groups > 0 && c.is_multiple_of(groups), "{c} channels in {groups} groups");
    let moments = gpu::group_moments(x, groups).or_else(|| cpu::group_moments(x, groups));
    moments.unwrap_or_else(|| burn_reference(|| reference_moments(x.clone(), groups)))
}

/// Combines all rows of `moments` `[B, CHUNKS, SETS, 4]`, and the neighbouring sets that make up a group, into one row:
/// `[B, 1, groups, 4]` (Chan et al. 1983).
///
/// # Panics
/// If the number of sets is no multiple of `groups`.
#[must_use]
pub fn combine_moments(moments: &Tensor<4>, groups: usize) -> Tensor<4> {
    let [_, _, sets, values] = moments.dims();
    assert!(groups > 0 && sets.is_multiple_of(groups), "{sets} sets in {groups} groups");
    assert_eq!(values, MOMENT_VALUES, "values of a set");
    // A few numbers: burn's operations serve on the CPU.
    gpu::combine_moments(moments, groups).unwrap_or_else(|| reference_combine(moments, groups))
}

/// Returns the group norm of x by moments that [`group_moments`] returned, of x or of the image that x is a part of.
///
/// # Panics
/// If the shapes do not fit.
#[must_use]
pub fn group_norm_with_moments(x: Tensor<4>, moments: &Tensor<4>, options: &GroupNormOptions<'_>) -> Tensor<4> {
    let ([b, _, _, c], [images, _, sets, values]) = (x.dims(), moments.dims());
    let GroupNormOptions { weight, bias, groups, .. } = *options;
    assert!(groups > 0 && c.is_multiple_of(groups), "{c} channels in {groups} groups");
    assert_eq!([weight.dims(), bias.dims()], [[c]; 2], "weight and bias");
    assert_eq!([images, sets, values], [b, groups, MOMENT_VALUES], "moments of {b} images");
    let y = gpu::group_norm(&x, moments, options).or_else(|| cpu::group_norm(&x, moments, options));
    y.unwrap_or_else(|| burn_reference(|| reference(x, moments, options)))
}

/// Computes [`group_moments`] by burn's built-in operations.
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

/// Computes [`combine_moments`] by burn's built-in operations.
fn reference_combine(moments: &Tensor<4>, groups: usize) -> Tensor<4> {
    let [b, chunks, sets, _] = moments.dims();
    let per_group = sets / groups;
    let moments = moments.clone().reshape([b, chunks, groups, per_group * MOMENT_VALUES]).swap_dims(1, 2);
    let moments = moments.reshape([b, groups, chunks * per_group, MOMENT_VALUES]).swap_dims(1, 2); // [B, rows, groups, 4]
    let part = |at| moments.clone().narrow(3, at, 1); // [B, rows, groups, 1]
    let count = part(0).sum_dim(1);
    let share = part(0) / count.clone();
    let mean = (part(1) * share).sum_dim(1);
    let difference = part(1) - mean.clone();
    let squares = (part(2) + part(0) * difference.clone() * difference).sum_dim(1);
    Tensor::cat(vec![count.clone(), mean, squares, count * 0.0], 3)
}

/// Computes [`group_norm_with_moments`] by burn's built-in operations.
fn reference(x: Tensor<4>, moments: &Tensor<4>, options: &GroupNormOptions<'_>) -> Tensor<4> {
    let [b, h, w, c] = x.dims();
    let GroupNormOptions { weight, bias, groups, eps, silu: activated } = *options;
    let moments = reference_combine(moments, groups);
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
