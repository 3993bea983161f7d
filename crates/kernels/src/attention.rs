//! Attention over heads that lie side by side in the channels (placeholder: portable body alone).

use burn::tensor::{Tensor, activation::softmax};

/// Where the heads of q, k or v lie: columns `first..first + heads·D` of `[B, T, COLUMNS]`.
#[derive(Clone, Copy)]
pub struct Heads<'a> {
    pub tensor: &'a Tensor<3>,
    pub first: usize,
}

/// How to attend.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    pub heads: usize,
    pub head_channels: usize,
    pub scale: f32,
    /// Added to the scores; broadcasts to `[B, N, T, L]`.
    pub bias: Option<&'a Tensor<4>>,
}

/// softmax(scale · q·kᵀ + bias) · v per head.
#[must_use]
pub fn attention(q: Heads<'_>, k: Heads<'_>, v: Heads<'_>, options: &Attention<'_>) -> Tensor<3> {
    let Attention { heads, head_channels: d, scale, bias } = *options;
    let split = |x: Heads<'_>| {
        let [b, t, _] = x.tensor.dims();
        let own = x.tensor.clone().slice([0..b, 0..t, x.first..x.first + heads * d]);
        own.reshape([b, t, heads, d]).swap_dims(1, 2)
    };
    let [b, t, _] = q.tensor.dims();
    let mut scores = split(q).matmul(split(k).swap_dims(2, 3)) * scale;
    if let Some(bias) = bias {
        scores = scores + bias.clone();
    }
    softmax(scores, 3).matmul(split(v)).swap_dims(1, 2).reshape([b, t, heads * d])
}
