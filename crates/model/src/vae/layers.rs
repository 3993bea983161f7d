//! Layers of the VAE: convolution, group norm, ResNet block, single-head attention. Tensors are `[B, H, W, C]` f32, so that a
//! 1×1 convolution is a linear layer on `[B, H·W, C]` and pixels are the tokens of attention, without a copy.

use burn::tensor::Tensor;
use pixart_kernels::{
    Heads, Matrix, Resampling, attention, combine_moments, conv_with_moments, group_moments, group_norm_with_moments,
};

use super::strips::{Strip, Strips};
use crate::Error;
use crate::loading::linear::Linear;
use crate::loading::var_builder::VarBuilder;

/// ε of every group norm (diffusers passes 1e-6 to all of them).
const NORM_EPS: f64 = 1e-6;
/// Kernel size of a convolution.
pub(crate) const KERNEL_SIZE: usize = 3;
/// Channel alignment of the shaders, which read `vec4`s.
pub(crate) const CHANNEL_ALIGNMENT: usize = 4;

/// A 3×3 convolution. Channels that are not a multiple of four, such as RGB, are padded with zeros.
pub(super) struct Conv3x3 {
    weight: Matrix,
    bias: Tensor<1>,
    inputs: usize,
    outputs: usize,
    resampling: Resampling,
}

impl Conv3x3 {
    pub(super) async fn load(
        vb: &VarBuilder<'_>,
        inputs: usize,
        outputs: usize,
        resampling: Resampling,
    ) -> Result<Self, Error> {
        let [rows, columns] = [inputs, outputs].map(|channels| channels.next_multiple_of(CHANNEL_ALIGNMENT));
        let (shape, dims) = ([outputs, inputs, KERNEL_SIZE, KERNEL_SIZE], [KERNEL_SIZE * KERNEL_SIZE * rows, columns]);
        let arrange = |weight: &[f32]| hwio_from_oihw(weight, [inputs, outputs], [rows, columns]);
        let weight = vb.get_matrix("weight", &shape, dims, arrange).await?;
        let mut bias = vb.get_f32("bias", &[outputs]).await?;
        bias.resize(columns, 0.0);
        Ok(Self { weight, bias: vb.upload(bias, [columns]), inputs, outputs, resampling })
    }

    /// Applies the convolution to x in strips, or to silu(norm x) if a norm is given.
    pub(super) fn forward_strips(&self, x: Strips, norm: Option<&GroupNorm>) -> Strips {
        let moments = norm.map(|norm| (norm, norm.moments(&x)));
        let scale = if self.resampling == Resampling::Upsample2x { 2 } else { 1 };
        let mut y = x.empty_like();
        x.for_each_range(self.inputs.max(scale * scale * self.outputs), |x, range| {
            let x = match &moments {
                Some((norm, moments)) => norm.normalize(x, moments, true),
                None => x,
            };
            y.push(range.crop_halo(self.forward(x, None), scale));
        });
        y
    }

    /// Applies the convolution to x and adds `residual`, if given.
    pub(super) fn forward(&self, x: Tensor<4>, residual: Option<Tensor<4>>) -> Strip {
        let options = pixart_kernels::ConvOptions {
            bias: &self.bias,
            resampling: self.resampling,
            residual: residual.map(pad_channels),
        };
        let (rows, moments) = conv_with_moments(pad_channels(x), &self.weight, options);
        let [b, h, w, columns] = rows.dims();
        if columns == self.outputs {
            return Strip { rows, moments };
        }
        rows.slice([0..b, 0..h, 0..w, 0..self.outputs]).into()
    }
}

/// Pads the channels of `[B, H, W, C]` with zeros to a multiple of four.
fn pad_channels(x: Tensor<4>) -> Tensor<4> {
    let [b, h, w, c] = x.dims();
    let missing = c.next_multiple_of(CHANNEL_ALIGNMENT) - c;
    if missing == 0 {
        return x;
    }
    let zeros = Tensor::zeros([b, h, w, missing], &x.device());
    Tensor::cat(vec![x, zeros], 3)
}

/// Rearranges `[outputs, inputs, 3, 3]` to `[3, 3, rows, columns]`, with inputs and outputs padded with zeros.
fn hwio_from_oihw(weight: &[f32], [inputs, outputs]: [usize; 2], [rows, columns]: [usize; 2]) -> Vec<f32> {
    const TAPS: usize = KERNEL_SIZE * KERNEL_SIZE;
    assert_eq!(weight.len(), outputs * inputs * TAPS);
    let mut out = vec![0.0; TAPS * rows * columns];
    for (output, weight) in weight.chunks_exact(inputs * TAPS).enumerate() {
        for (input, weight) in weight.chunks_exact(TAPS).enumerate() {
            for (tap, value) in weight.iter().enumerate() {
                out[(tap * rows + input) * columns + output] = *value;
            }
        }
    }
    out
}

/// A 1×1 convolution, as a linear layer. Channels that are not a multiple of four are padded with zeros.
pub(super) struct Conv1x1 {
    linear: Linear,
    outputs: usize,
}

impl Conv1x1 {
    pub(super) async fn load(vb: &VarBuilder<'_>, inputs: usize, outputs: usize) -> Result<Self, Error> {
        Ok(Self { linear: Linear::load_padded_conv(vb, [inputs, outputs], CHANNEL_ALIGNMENT).await?, outputs })
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = pad_channels(x);
        let [b, h, w, c] = x.dims();
        let y = self.linear.forward(x.reshape([b, h * w, c]));
        let [_, _, columns] = y.dims();
        let y = y.reshape([b, h, w, columns]);
        if columns == self.outputs { y } else { y.slice([0..b, 0..h, 0..w, 0..self.outputs]) }
    }
}

/// Group norm: normalization over a group of channels and all pixels.
pub(super) struct GroupNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: usize,
}

impl GroupNorm {
    pub(super) async fn load(vb: &VarBuilder<'_>, channels: usize, groups: usize) -> Result<Self, Error> {
        let [weight, bias] = [vb.get("weight", [channels]).await?, vb.get("bias", [channels]).await?];
        Ok(Self { weight, bias, groups })
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let moments = group_moments(&x, self.groups);
        self.normalize(x, &moments, false)
    }

    /// Returns the moments of the whole feature map.
    fn moments(&self, x: &Strips) -> Tensor<4> {
        let of_strip = |Strip { rows, moments }: &Strip| match moments {
            Some(fours) if fours.dims()[2].is_multiple_of(self.groups) => combine_moments(fours, self.groups),
            _ => group_moments(rows, self.groups),
        };
        let mut moments: Vec<Tensor<4>> = x.iter().map(of_strip).collect();
        if moments.len() == 1 { moments.remove(0) } else { combine_moments(&Tensor::cat(moments, 1), self.groups) }
    }

    /// Normalizes x, rows of a feature map with these moments.
    fn normalize(&self, x: Tensor<4>, moments: &Tensor<4>, silu: bool) -> Tensor<4> {
        let Self { weight, bias, groups } = self;
        group_norm_with_moments(
            x,
            moments,
            &pixart_kernels::GroupNormOptions { weight, bias, groups: *groups, eps: NORM_EPS, silu },
        )
    }
}

/// ResNet block: x + conv2(silu(norm2(conv1(silu(norm1 x))))). A 1×1 convolution adapts x if the channels change (diffusers
/// `ResnetBlock2D`).
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv3x3,
    norm2: GroupNorm,
    conv2: Conv3x3,
    conv_shortcut: Option<Conv1x1>,
}

impl ResnetBlock {
    pub(super) async fn load(vb: &VarBuilder<'_>, inputs: usize, outputs: usize, groups: usize) -> Result<Self, Error> {
        let conv_shortcut = vb.pp("conv_shortcut");
        Ok(Self {
            norm1: GroupNorm::load(&vb.pp("norm1"), inputs, groups).await?,
            conv1: Conv3x3::load(&vb.pp("conv1"), inputs, outputs, Resampling::None).await?,
            norm2: GroupNorm::load(&vb.pp("norm2"), outputs, groups).await?,
            conv2: Conv3x3::load(&vb.pp("conv2"), outputs, outputs, Resampling::None).await?,
            conv_shortcut: if inputs == outputs {
                None
            } else {
                Some(Conv1x1::load(&conv_shortcut, inputs, outputs).await?)
            },
        })
    }

    /// Applies the block to x in strips. Only the larger of x and the output is ever whole.
    pub(super) fn forward_strips(&self, x: Strips) -> Strips {
        let Self { norm1, conv1, norm2, conv2, conv_shortcut } = self;
        let (mut h, mut residual) = (x.empty_like(), x.empty_like());
        match conv_shortcut {
            Some(shortcut) => {
                let moments = norm1.moments(&x);
                x.for_each_range(conv1.inputs.max(conv1.outputs), |x, range| {
                    h.push(range.crop_halo(conv1.forward(norm1.normalize(x.clone(), &moments, true), None), 1));
                    residual.push(shortcut.forward(range.crop_halo(x, 1).rows).into());
                });
            }
            None => {
                h = conv1.forward_strips(x.clone(), Some(norm1));
                residual = x;
            }
        }
        let moments = norm2.moments(&h);
        let mut y = h.empty_like();
        h.for_each_range(conv2.outputs, |h, range| {
            let residual = residual.take_rows(range);
            y.push(range.crop_halo(conv2.forward(norm2.normalize(h, &moments, true), Some(residual)), 1));
        });
        y
    }
}

/// Self-attention over all pixels with one head, plus residual.
pub(super) struct VaeAttention {
    norm: GroupNorm,
    /// Q, K and V, concatenated.
    qkv: Linear,
    to_out: Linear,
}

impl VaeAttention {
    pub(super) async fn load(vb: &VarBuilder<'_>, channels: usize, groups: usize) -> Result<Self, Error> {
        // Checkpoints saved before diffusers 0.18 use other names.
        let has_old_names = vb.first_of(&["to_q.weight", "query.weight"]) == "query.weight";
        let [q, k, v, out] =
            if has_old_names { ["query", "key", "value", "proj_attn"] } else { ["to_q", "to_k", "to_v", "to_out.0"] };
        Ok(Self {
            norm: GroupNorm::load(&vb.pp("group_norm"), channels, groups).await?,
            qkv: Linear::load_fused(&[q, k, v].map(|name| vb.pp(name)), channels, channels).await?,
            to_out: Linear::load(&vb.pp(out), channels, channels).await?,
        })
    }

    pub(super) fn forward_strips(&self, x: Strips) -> Strips {
        let moments = self.norm.moments(&x);
        let x = x.concat();
        let [b, h, w, c] = x.dims();
        let qkv = self.qkv.forward(self.norm.normalize(x.clone(), &moments, false).reshape([b, h * w, c])); // [B, H·W, 3·C]
        let columns = |at: usize| Heads { tensor: &qkv, first: at * c };
        let scale = (c as f64).sqrt().recip() as f32;
        let options = pixart_kernels::AttentionOptions { heads: 1, head_channels: c, scale, bias: None };
        let attn_output = attention(columns(0), columns(1), columns(2), &options);
        Strips::whole(self.to_out.forward_residual(attn_output, x.reshape([b, h * w, c])).reshape([b, h, w, c]))
    }
}
