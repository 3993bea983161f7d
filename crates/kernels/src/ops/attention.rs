//! Multi-head attention: y = softmax(scale · q·kᵀ + bias) · v of each head (Vaswani et al. 2017, eq. 1), by an online softmax, so
//! that the `[T, L]` scores are never stored (Milakov and Gimelshein 2018; Dao et al. 2022).
//!
//! q `[B, T, ·]`, k and v `[B, L, ·]`, whose columns hold the heads; bias f32 → y `[B, T, N·D]` of the dtype of q. Accumulation is
//! f32. Scores are clamped to at least -1e30: a query whose keys are all masked returns the mean of the values. The shaders
//! support a D, a number of columns and a first column that are multiples of 4, and D up to 512; the CPU kernel
//! supports all shapes. The fallback to burn stores the scores.

use burn::tensor::{DType, Tensor, activation::softmax};

use crate::options::{AttentionOptions, Heads, MIN_SCORE};
use crate::variant::burn_reference;
use crate::{cpu, gpu};

/// Returns softmax(scale · q·kᵀ + bias) · v per head.
///
/// # Panics
/// If the shapes do not fit.
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
        let fits = bias.dims().into_iter().zip([b, options.heads, t, l]).all(|(axis, full)| axis == 1 || axis == full);
        assert!(fits, "a bias {:?} for scores {:?}", bias.dims(), [b, options.heads, t, l]);
        assert_eq!(bias.dtype(), DType::F32, "the dtype of a bias");
    }
    gpu::attention(q, k, v, options)
        .or_else(|| cpu::attention(q, k, v, options))
        .unwrap_or_else(|| burn_reference(|| reference(q, k, v, options)))
}

/// Computes attention by burn's built-in operations.
fn reference(q: Heads<'_>, k: Heads<'_>, v: Heads<'_>, options: &AttentionOptions<'_>) -> Tensor<3> {
    let AttentionOptions { heads, head_channels: d, scale, bias } = *options;
    let split = |x: Heads<'_>| {
        let [b, t, _] = x.tensor.dims();
        let columns = x.tensor.clone().slice([0..b, 0..t, x.first..x.first + heads * d]).cast(DType::F32);
        columns.reshape([b, t, heads, d]).swap_dims(1, 2) // [B, N, T, D]
    };
    let [b, t, _] = q.tensor.dims();
    let mut scores = split(q).matmul(split(k).swap_dims(2, 3)) * scale; // [B, N, T, L]
    if let Some(bias) = bias {
        scores = scores + bias.clone();
    }
    let y = softmax(scores.clamp_min(MIN_SCORE), 3).matmul(split(v)); // [B, N, T, D]
    y.swap_dims(1, 2).reshape([b, t, heads * d]).cast(q.tensor.dtype())
}

#[cfg(any(test, feature = "checks"))]
pub(crate) mod tests;
