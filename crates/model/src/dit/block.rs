//! One block of the transformer, in ten launches: norm and modulation, query-key-value, attention, gated sum; query,
//! cross-attention, sum; norm and modulation, hidden layer with GELU, gated sum.

use burn::tensor::Tensor;
use pixart_kernels::{Activation, AdaLnChunk, AttentionOptions, Heads, Modulation, attention, layer_norm};

use super::Conditioning;
use crate::config::DitConfig;
use crate::linear::Linear;
use crate::params::Params;
use crate::{Error, Taps};

/// Rows of a block's table.
const SHIFT_OWN: usize = 0;
const SCALE_OWN: usize = 1;
const GATE_OWN: usize = 2;
const SHIFT_HIDDEN: usize = 3;
const SCALE_HIDDEN: usize = 4;
const GATE_HIDDEN: usize = 5;

pub(crate) struct Block {
    /// Query, key and value of the picture's own tokens, side by side.
    own: Linear,
    own_out: Linear,
    query: Linear,
    /// Key and value of the caption, side by side.
    caption: Linear,
    cross_out: Linear,
    hidden: Linear,
    hidden_out: Linear,
    heads: usize,
    head_channels: usize,
    norm_eps: f64,
}

impl Block {
    pub(crate) async fn load(params: &Params<'_>, config: &DitConfig) -> Result<Self, Error> {
        let c = config.channels();
        let (own, cross) = (params.at("attn1"), params.at("attn2"));
        let hidden = params.at("ff.net");
        Ok(Self {
            own: Linear::load_together(&["to_q", "to_k", "to_v"].map(|name| own.at(name)), c, c).await?,
            own_out: Linear::load(&own.at("to_out.0"), c, c).await?,
            query: Linear::load(&cross.at("to_q"), c, c).await?,
            caption: Linear::load_together(&["to_k", "to_v"].map(|name| cross.at(name)), c, c).await?,
            cross_out: Linear::load(&cross.at("to_out.0"), c, c).await?,
            hidden: Linear::load(&hidden.at("0.proj"), c, 4 * c).await?,
            hidden_out: Linear::load(&hidden.at("2"), 4 * c, c).await?,
            heads: config.heads,
            head_channels: config.head_channels,
            norm_eps: config.norm_eps,
        })
    }

    /// Caption tokens `[B, L, C]` → keys and values `[B, L, 2·C]`.
    pub(crate) fn caption(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.caption.forward(tokens)
    }

    /// x += g₁·self(mod(LN x)); x += cross(x); x += g₂·hidden(mod(LN x)), x `[B, T, C]`, with the shifts, scales and gates
    /// of `layer` in `modulation` `[LAYERS, B, 6, C]`.
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        modulation: &Tensor<4>,
        conditions: &Conditioning,
        layer: usize,
        taps: &mut Taps,
    ) -> Tensor<3> {
        let c = self.heads * self.head_channels;
        let row = |chunk| AdaLnChunk { table: modulation, layer, chunk };
        let modulated = |x: Tensor<3>, shift, scale| {
            layer_norm(x, Some(Modulation { shift: row(shift), scale: row(scale) }), self.norm_eps)
        };
        let options = AttentionOptions {
            heads: self.heads,
            head_channels: self.head_channels,
            scale: (self.head_channels as f64).sqrt().recip() as f32,
            bias: None,
        };

        taps.show(format_args!("block.{layer}.norm1"), || layer_norm(x.clone(), None, self.norm_eps));
        let own = self.own.forward(modulated(x.clone(), SHIFT_OWN, SCALE_OWN)); // [B, T, 3·C]
        let columns = |first| Heads { tensor: &own, first };
        let mixed = if conditions.perturbed.contains(&layer) {
            own.narrow(2, 2 * c, c) // every token is all that it looks at
        } else {
            attention(columns(0), columns(c), columns(2 * c), &options)
        };
        taps.show(format_args!("block.{layer}.attn1"), || self.own_out.forward(mixed.clone()));
        let x = self.own_out.added(mixed, Some(row(GATE_OWN)), x);

        let query = self.query.forward(x.clone());
        let caption = &conditions.captions[layer];
        let columns = |first| Heads { tensor: caption, first };
        let options = AttentionOptions { bias: Some(&conditions.caption_bias), ..options };
        let mixed = attention(Heads { tensor: &query, first: 0 }, columns(0), columns(c), &options);
        taps.show(format_args!("block.{layer}.attn2"), || self.cross_out.forward(mixed.clone()));
        let x = self.cross_out.added(mixed, None, x);

        taps.show(format_args!("block.{layer}.norm2"), || layer_norm(x.clone(), None, self.norm_eps));
        let hidden = self.hidden.activated(modulated(x.clone(), SHIFT_HIDDEN, SCALE_HIDDEN), Activation::Gelu);
        taps.show(format_args!("block.{layer}.ff"), || self.hidden_out.forward(hidden.clone()));
        let x = self.hidden_out.added(hidden, Some(row(GATE_HIDDEN)), x);
        taps.see(format_args!("block.{layer}"), &x);
        x
    }
}
