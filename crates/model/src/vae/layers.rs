//! The pieces the autoencoder is built of: convolution, group norm, residual block, single-head attention. Tensors are
//! `[B, C, H, W]` f32.

use burn::tensor::module::{conv2d, interpolate};
use burn::tensor::ops::{ConvOptions, InterpolateMode, InterpolateOptions};
use burn::tensor::{Tensor, activation::silu};
use pixart_kernels::{Heads, attention};

use crate::Error;
use crate::linear::Linear;
use crate::params::Params;

/// ε of every group norm here (diffusers passes 1e-6 to all of them).
const NORM_EPS: f64 = 1e-6;

/// A convolution that keeps the picture's size, or halves it.
pub(super) struct Conv {
    weight: Tensor<4>,
    bias: Tensor<1>,
    options: ConvOptions<2>,
}

impl Conv {
    /// A square window of `window` pixels, zero-padded so that the size stays.
    pub(super) fn load(params: &Params<'_>, inputs: usize, outputs: usize, window: usize) -> Result<Self, Error> {
        let padding = window / 2;
        Ok(Self {
            weight: params.tensor("weight", [outputs, inputs, window, window])?,
            bias: params.tensor("bias", [outputs])?,
            options: ConvOptions::new([1, 1], [padding, padding], [1, 1], 1),
        })
    }

    /// 3×3 with stride 2, zero-padded at the right and the bottom only (diffusers `Downsample2D` with padding 0).
    pub(super) fn load_halving(params: &Params<'_>, channels: usize) -> Result<Self, Error> {
        let options = ConvOptions::new_with_padding([2, 2], [(0, 1), (0, 1)], [1, 1], 1);
        Ok(Self { options, ..Self::load(params, channels, channels, 3)? })
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(x, self.weight.clone(), Some(self.bias.clone()), self.options.clone())
    }
}

/// Every pixel as a square of four.
pub(super) fn twice(x: Tensor<4>) -> Tensor<4> {
    let [_, _, h, w] = x.dims();
    let options = InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([2 * h, 2 * w]);
    interpolate(x, options)
}

/// w · (x - mean) / √(variance + ε) + b, with mean and variance over a group of channels and all pixels
/// (Wu and He 2018).
pub(super) struct GroupNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: usize,
}

impl GroupNorm {
    pub(super) fn load(params: &Params<'_>, channels: usize, groups: usize) -> Result<Self, Error> {
        let [weight, bias] = [params.tensor("weight", [channels])?, params.tensor("bias", [channels])?];
        assert_eq!(channels % groups, 0, "{channels} channels do not divide into {groups} groups");
        Ok(Self { weight, bias, groups })
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, c, h, w] = x.dims();
        let x = x.reshape([b, self.groups, c / self.groups * h, w]);
        // Row means first: one long f32 sum over all pixels loses digits.
        let mean = |x: Tensor<4>| x.mean_dim(3).mean_dim(2); // [B, groups, 1, 1]
        let centred = x.clone() - mean(x);
        let variance = mean(centred.clone() * centred.clone());
        let x = (centred / (variance + NORM_EPS).sqrt()).reshape([b, c, h, w]);
        let [weight, bias] = [&self.weight, &self.bias].map(|each| each.clone().reshape([1, c, 1, 1]));
        x * weight + bias
    }
}

/// x + conv(silu(norm(conv(silu(norm x))))); where the width changes, x goes through a 1×1 convolution.
pub(super) struct Resnet {
    norm1: GroupNorm,
    conv1: Conv,
    norm2: GroupNorm,
    conv2: Conv,
    shortcut: Option<Conv>,
}

impl Resnet {
    pub(super) fn load(params: &Params<'_>, inputs: usize, outputs: usize, groups: usize) -> Result<Self, Error> {
        let shortcut = params.at("conv_shortcut");
        Ok(Self {
            norm1: GroupNorm::load(&params.at("norm1"), inputs, groups)?,
            conv1: Conv::load(&params.at("conv1"), inputs, outputs, 3)?,
            norm2: GroupNorm::load(&params.at("norm2"), outputs, groups)?,
            conv2: Conv::load(&params.at("conv2"), outputs, outputs, 3)?,
            shortcut: (inputs != outputs).then(|| Conv::load(&shortcut, inputs, outputs, 1)).transpose()?,
        })
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let h = self.conv1.forward(silu(self.norm1.forward(x.clone())));
        let h = self.conv2.forward(silu(self.norm2.forward(h)));
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x) + h,
            None => x + h,
        }
    }
}

/// x + attention over all pixels, with one head of all channels.
pub(super) struct Attention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl Attention {
    pub(super) fn load(params: &Params<'_>, channels: usize, groups: usize) -> Result<Self, Error> {
        // Checkpoints saved before diffusers 0.18 name the maps differently.
        let old = params.has("query.weight");
        let names = if old { ["query", "key", "value", "proj_attn"] } else { ["to_q", "to_k", "to_v", "to_out.0"] };
        let [q, k, v, out] = names.map(|name| Linear::load(&params.at(name), channels, channels));
        Ok(Self { norm: GroupNorm::load(&params.at("group_norm"), channels, groups)?, q: q?, k: k?, v: v?, out: out? })
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, c, h, w] = x.dims();
        let tokens = self.norm.forward(x.clone()).reshape([b, c, h * w]).swap_dims(1, 2); // [B, H·W, C]
        let (q, k, v) = (self.q.forward(tokens.clone()), self.k.forward(tokens.clone()), self.v.forward(tokens));
        let scale = (c as f64).sqrt().recip() as f32;
        let options = pixart_kernels::Attention { heads: 1, head_channels: c, scale, bias: None };
        let heads = |tensor| Heads { tensor, first: 0 };
        let mixed = attention(heads(&q), heads(&k), heads(&v), &options);
        x + self.out.forward(mixed).swap_dims(1, 2).reshape([b, c, h, w])
    }
}
