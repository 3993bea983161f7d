//! One block of the transformer (diffusers `BasicTransformerBlock` with `ada_norm_single`), in ten launches: modulated norm,
//! QKV, self-attention, gated residual; Q, cross-attention, residual; modulated norm, feed-forward in with GELU,
//! feed-forward out with gated residual.

use burn::tensor::Tensor;
use pixart_kernels::{Activation, AdaLnChunk, AttentionOptions, Heads, Modulation, attention, layer_norm};

use super::Conditioning;
use crate::loading::config::DitConfig;
use crate::loading::linear::Linear;
use crate::loading::var_builder::VarBuilder;
use crate::{Error, Taps};

/// AdaLN-single chunks, in the order of `scale_shift_table`.
const SHIFT_MSA: usize = 0;
const SCALE_MSA: usize = 1;
const GATE_MSA: usize = 2;
const SHIFT_MLP: usize = 3;
const SCALE_MLP: usize = 4;
const GATE_MLP: usize = 5;

pub(crate) struct DitBlock {
    /// Q, K and V of the self-attention, concatenated.
    attn1_qkv: Linear,
    attn1_out: Linear,
    attn2_q: Linear,
    /// K and V of the cross-attention, concatenated.
    attn2_kv: Linear,
    attn2_out: Linear,
    ff_in: Linear,
    ff_out: Linear,
    heads: usize,
    head_channels: usize,
    norm_eps: f64,
}

impl DitBlock {
    pub(crate) async fn load(vb: &VarBuilder<'_>, config: &DitConfig) -> Result<Self, Error> {
        let (c, cross) = (config.channels(), config.cross_attention_channels());
        let (attn1, attn2, ff) = (vb.pp("attn1"), vb.pp("attn2"), vb.pp("ff.net"));
        Ok(Self {
            attn1_qkv: Linear::load_fused(&["to_q", "to_k", "to_v"].map(|name| attn1.pp(name)), c, c).await?,
            attn1_out: Linear::load(&attn1.pp("to_out.0"), c, c).await?,
            attn2_q: Linear::load(&attn2.pp("to_q"), c, c).await?,
            attn2_kv: Linear::load_fused(&["to_k", "to_v"].map(|name| attn2.pp(name)), cross, c).await?,
            attn2_out: Linear::load(&attn2.pp("to_out.0"), c, c).await?,
            ff_in: Linear::load(&ff.pp("0.proj"), c, 4 * c).await?,
            ff_out: Linear::load(&ff.pp("2"), 4 * c, c).await?,
            heads: config.heads,
            head_channels: config.head_channels,
            norm_eps: config.norm_eps,
        })
    }

    /// Projects caption tokens `[B, L, cross_attention_channels]` to cross-attention keys and values `[B, L, 2·C]`.
    pub(crate) fn caption_kv(&self, caption: Tensor<3>) -> Tensor<3> {
        self.attn2_kv.forward(caption)
    }

    /// Computes x += gate_msa·attn1(modulate(LN x)); x += attn2(x); x += gate_mlp·ff(modulate(LN x)), with x `[B, T, C]` and
    /// the chunks of `layer` in `modulation` `[LAYERS, B, 6, C]`.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        modulation: &Tensor<4>,
        conditioning: &Conditioning,
        layer: usize,
        taps: &mut Taps,
    ) -> Tensor<3> {
        let c = self.heads * self.head_channels;
        let row = |chunk| AdaLnChunk { table: modulation, layer, chunk };
        let modulated_norm = |x: Tensor<3>, shift, scale| {
            layer_norm(x, Some(Modulation { shift: row(shift), scale: row(scale) }), self.norm_eps)
        };
        let options = AttentionOptions {
            heads: self.heads,
            head_channels: self.head_channels,
            scale: (self.head_channels as f64).sqrt().recip() as f32,
            bias: None,
        };

        taps.record_with(format_args!("block.{layer}.norm1"), || layer_norm(x.clone(), None, self.norm_eps));
        let qkv = self.attn1_qkv.forward(modulated_norm(x.clone(), SHIFT_MSA, SCALE_MSA)); // [B, T, 3·C]
        let columns = |first| Heads { tensor: &qkv, first };
        let attn_output = if conditioning.perturbed_layers.contains(&layer) {
            qkv.narrow(2, 2 * c, c) // V: the attention map is the identity
        } else {
            attention(columns(0), columns(c), columns(2 * c), &options)
        };
        taps.record_with(format_args!("block.{layer}.attn1"), || self.attn1_out.forward(attn_output.clone()));
        let x = self.attn1_out.forward_gated_residual(attn_output, row(GATE_MSA), x);

        let q = self.attn2_q.forward(x.clone());
        let kv = &conditioning.caption_kv[layer];
        let columns = |first| Heads { tensor: kv, first };
        let options = AttentionOptions { bias: Some(&conditioning.caption_bias), ..options };
        let attn_output = attention(Heads { tensor: &q, first: 0 }, columns(0), columns(c), &options);
        taps.record_with(format_args!("block.{layer}.attn2"), || self.attn2_out.forward(attn_output.clone()));
        let x = self.attn2_out.forward_residual(attn_output, x);

        taps.record_with(format_args!("block.{layer}.norm2"), || layer_norm(x.clone(), None, self.norm_eps));
        let hidden = self.ff_in.forward_activation(modulated_norm(x.clone(), SHIFT_MLP, SCALE_MLP), Activation::Gelu);
        taps.record_with(format_args!("block.{layer}.ff"), || self.ff_out.forward(hidden.clone()));
        let x = self.ff_out.forward_gated_residual(hidden, row(GATE_MLP), x);
        taps.record(format_args!("block.{layer}"), &x);
        x
    }
}
