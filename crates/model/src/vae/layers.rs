//! The pieces the autoencoder is built of: convolution, group norm, residual block, single-head attention. Tensors are
//! `[B, H, W, C]` f32, so that a pixel's channels are neighbours: a 1×1 convolution is an affine map of `[B, H·W, C]`, and
//! attention's tokens are the pixels as they lie.

use burn::tensor::Tensor;
use pixart_kernels::{
    Heads, Matrix, Resampling, WeightFormat, attention, combine_moments, conv_with_moments, group_moments,
    group_norm_with_moments,
};

use super::strips::{Strip, Strips};
use crate::Error;
use crate::linear::Linear;
use crate::params::Params;

/// ε of every group norm here (diffusers passes 1e-6 to all of them).
const NORM_EPS: f64 = 1e-6;
/// Rows and columns of a convolution's window.
pub(super) const WINDOW: usize = 3;
/// Channels come in fours where shaders read them.
pub(super) const FOUR: usize = 4;

/// A 3×3 convolution. Where channels are no multiple of four, of a picture's three mostly, it is computed with zeros beside
/// them.
pub(super) struct Conv {
    weight: Matrix,
    bias: Tensor<1>,
    inputs: usize,
    outputs: usize,
    resampling: Resampling,
}

impl Conv {
    pub(super) async fn load(
        params: &Params<'_>,
        inputs: usize,
        outputs: usize,
        resampling: Resampling,
    ) -> Result<Self, Error> {
        let weight = params.floats("weight", &[outputs, inputs, WINDOW, WINDOW]).await?;
        let mut bias = params.floats("bias", &[outputs]).await?;
        let [rows, columns] = [inputs, outputs].map(|channels| channels.next_multiple_of(FOUR));
        bias.resize(columns, 0.0);
        let weight = windows(&weight, [inputs, outputs], [rows, columns]);
        let weight = Matrix::new(weight, [WINDOW * WINDOW * rows, columns], WeightFormat::F32, params.device());
        Ok(Self { weight, bias: params.upload(bias, [columns]), inputs, outputs, resampling })
    }

    /// The convolution of a picture in strips, of silu(norm x) where there is a norm.
    pub(super) fn over(&self, x: Strips, norm: Option<&GroupNorm>) -> Strips {
        let moments = norm.map(|norm| (norm, norm.moments(&x)));
        let scale = if self.resampling == Resampling::Upsample2x { 2 } else { 1 };
        let mut y = x.begun();
        x.walk(self.inputs.max(scale * scale * self.outputs), |x, part| {
            let x = match &moments {
                Some((norm, moments)) => norm.by(x, moments, true),
                None => x,
            };
            y.push(part.cut(self.forward(x, None), scale));
        });
        y
    }

    /// The convolution of x, and the residual where there is one.
    pub(super) fn forward(&self, x: Tensor<4>, residual: Option<Tensor<4>>) -> Strip {
        let options = pixart_kernels::ConvOptions {
            bias: &self.bias,
            resampling: self.resampling,
            residual: residual.map(filled),
        };
        let (rows, moments) = conv_with_moments(filled(x), &self.weight, options);
        let [b, h, w, columns] = rows.dims();
        if columns == self.outputs {
            return Strip { rows, moments };
        }
        rows.slice([0..b, 0..h, 0..w, 0..self.outputs]).into()
    }
}

/// `[B, H, W, C]` with zeros beside the channels, to a multiple of four.
fn filled(x: Tensor<4>) -> Tensor<4> {
    let [b, h, w, c] = x.dims();
    let missing = c.next_multiple_of(FOUR) - c;
    if missing == 0 {
        return x;
    }
    let zeros = Tensor::zeros([b, h, w, missing], &x.device());
    Tensor::cat(vec![x, zeros], 3)
}

/// `[outputs, inputs, 3, 3]` as `[3, 3, rows, columns]`, with zeros beside inputs and outputs.
fn windows(weight: &[f32], [inputs, outputs]: [usize; 2], [rows, columns]: [usize; 2]) -> Vec<f32> {
    const TAPS: usize = WINDOW * WINDOW;
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

/// A 1×1 convolution: every pixel by itself.
pub(super) struct Pointwise(Linear);

impl Pointwise {
    pub(super) async fn load(params: &Params<'_>, inputs: usize, outputs: usize) -> Result<Self, Error> {
        Ok(Self(Linear::load_windowed(params, &[inputs, 1, 1], outputs).await?))
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [b, h, w, c] = x.dims();
        let y = self.0.forward(x.reshape([b, h * w, c]));
        let [_, _, outputs] = y.dims();
        y.reshape([b, h, w, outputs])
    }
}

/// Normalisation over a group of channels and all pixels.
pub(super) struct GroupNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    groups: usize,
}

impl GroupNorm {
    pub(super) async fn load(params: &Params<'_>, channels: usize, groups: usize) -> Result<Self, Error> {
        let [weight, bias] = [params.tensor("weight", [channels]).await?, params.tensor("bias", [channels]).await?];
        Ok(Self { weight, bias, groups })
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let moments = group_moments(&x, self.groups);
        self.by(x, &moments, false)
    }

    /// The moments of a whole picture.
    fn moments(&self, x: &Strips) -> Tensor<4> {
        let of_strip = |Strip { rows, moments }: &Strip| match moments {
            Some(fours) if fours.dims()[2].is_multiple_of(self.groups) => combine_moments(fours, self.groups),
            _ => group_moments(rows, self.groups),
        };
        let mut moments: Vec<Tensor<4>> = x.iter().map(of_strip).collect();
        if moments.len() == 1 { moments.remove(0) } else { combine_moments(&Tensor::cat(moments, 1), self.groups) }
    }

    /// norm x, with the moments of the picture that x is of.
    fn by(&self, x: Tensor<4>, moments: &Tensor<4>, silu: bool) -> Tensor<4> {
        let Self { weight, bias, groups } = self;
        group_norm_with_moments(
            x,
            moments,
            &pixart_kernels::GroupNormOptions { weight, bias, groups: *groups, eps: NORM_EPS, silu },
        )
    }
}

/// x + conv(silu(norm(conv(silu(norm x))))); where the width changes, x goes through a 1×1 convolution.
pub(super) struct Resnet {
    norm1: GroupNorm,
    conv1: Conv,
    norm2: GroupNorm,
    conv2: Conv,
    shortcut: Option<Pointwise>,
}

impl Resnet {
    pub(super) async fn load(params: &Params<'_>, inputs: usize, outputs: usize, groups: usize) -> Result<Self, Error> {
        let shortcut = params.at("conv_shortcut");
        Ok(Self {
            norm1: GroupNorm::load(&params.at("norm1"), inputs, groups).await?,
            conv1: Conv::load(&params.at("conv1"), inputs, outputs, Resampling::None).await?,
            norm2: GroupNorm::load(&params.at("norm2"), outputs, groups).await?,
            conv2: Conv::load(&params.at("conv2"), outputs, outputs, Resampling::None).await?,
            shortcut: if inputs == outputs { None } else { Some(Pointwise::load(&shortcut, inputs, outputs).await?) },
        })
    }

    /// The block of a picture in strips. Of x and what takes its place only the larger is ever whole.
    pub(super) fn over(&self, x: Strips) -> Strips {
        let Self { norm1, conv1, norm2, conv2, shortcut } = self;
        let (mut h, mut residual) = (x.begun(), x.begun());
        match shortcut {
            Some(shortcut) => {
                let moments = norm1.moments(&x);
                x.walk(conv1.inputs.max(conv1.outputs), |x, part| {
                    h.push(part.cut(conv1.forward(norm1.by(x.clone(), &moments, true), None), 1));
                    residual.push(shortcut.forward(part.cut(x, 1).rows).into());
                });
            }
            None => {
                h = conv1.over(x.clone(), Some(norm1));
                residual = x;
            }
        }
        let moments = norm2.moments(&h);
        let mut y = h.begun();
        h.walk(conv2.outputs, |h, part| {
            let residual = residual.take(part);
            y.push(part.cut(conv2.forward(norm2.by(h, &moments, true), Some(residual)), 1));
        });
        y
    }
}

/// x + attention over all pixels, with one head of all channels.
pub(super) struct Attention {
    norm: GroupNorm,
    /// Query, key and value, side by side.
    own: Linear,
    out: Linear,
}

impl Attention {
    pub(super) async fn load(params: &Params<'_>, channels: usize, groups: usize) -> Result<Self, Error> {
        // Checkpoints saved before diffusers 0.18 name the maps differently.
        let old = params.has("query.weight");
        let [q, k, v, out] =
            if old { ["query", "key", "value", "proj_attn"] } else { ["to_q", "to_k", "to_v", "to_out.0"] };
        Ok(Self {
            norm: GroupNorm::load(&params.at("group_norm"), channels, groups).await?,
            own: Linear::load_together(&[q, k, v].map(|name| params.at(name)), channels, channels).await?,
            out: Linear::load(&params.at(out), channels, channels).await?,
        })
    }

    pub(super) fn over(&self, x: Strips) -> Strips {
        let moments = self.norm.moments(&x);
        let x = x.joined();
        let [b, h, w, c] = x.dims();
        let own = self.own.forward(self.norm.by(x.clone(), &moments, false).reshape([b, h * w, c])); // [B, H·W, 3·C]
        let columns = |at: usize| Heads { tensor: &own, first: at * c };
        let scale = (c as f64).sqrt().recip() as f32;
        let options = pixart_kernels::AttentionOptions { heads: 1, head_channels: c, scale, bias: None };
        let mixed = attention(columns(0), columns(1), columns(2), &options);
        Strips::whole(self.out.added(mixed, None, x.reshape([b, h * w, c])).reshape([b, h, w, c]))
    }
}
