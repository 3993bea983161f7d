//! Attention over heads that lie side by side in the channels.

use burn::tensor::{Tensor, activation::softmax};

/// softmax(scale · q·kᵀ + bias) · v per head, heads merged again (Vaswani et al. 2017, eq. 1).
///
/// q `[B, T, N·D]`, k and v `[B, L, N·D]`; `bias` broadcasts to `[B, N, T, L]`. Result `[B, T, N·D]`; f32 throughout,
/// the softmax after subtracting each row's maximum.
pub(crate) fn attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    heads: usize,
    scale: Option<f64>,
    bias: Option<Tensor<4>>,
) -> Tensor<3> {
    let [b, t, c] = q.dims();
    let [_, l, _] = k.dims();
    assert_eq!([b, l, c], k.dims(), "keys do not fit queries {:?}", q.dims());
    assert_eq!(k.dims(), v.dims(), "keys and values differ in shape");
    let d = c / heads;

    let q = split(q, heads).reshape([b * heads, t, d]);
    let k = split(k, heads).swap_dims(2, 3).reshape([b * heads, d, l]);
    let v = split(v, heads).reshape([b * heads, l, d]);

    let mut scores = q.matmul(k).reshape([b, heads, t, l]);
    if let Some(scale) = scale {
        scores = scores * scale;
    }
    if let Some(bias) = bias {
        scores = scores + bias;
    }
    let weights = softmax(scores, 3).reshape([b * heads, t, l]);
    let mixed = weights.matmul(v).reshape([b, heads, t, d]);
    mixed.swap_dims(1, 2).reshape([b, t, c])
}

/// `[B, T, N·D]` → `[B, N, T, D]`.
fn split(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [b, t, c] = x.dims();
    assert_eq!(c % heads, 0, "{c} channels do not divide into {heads} heads");
    x.reshape([b, t, heads, c / heads]).swap_dims(1, 2)
}
