//! PixArt's diffusion transformer: a noisy latent, a timestep and a caption to the predicted noise. It keeps no state
//! between steps; what does not change between them is computed once by [`Dit::caption`].
//!
//! Source: Chen et al. 2023 (PixArt-α), figure 4; diffusers `PixArtTransformer2DModel`, `BasicTransformerBlock` with
//! `ada_norm_single`.

use burn::tensor::{Device, Tensor, activation::silu};
use pixart_kernels::Activation;
use pixart_weights::{Folder, Tensors};

use crate::attention::attention;
use crate::config::{DitConfig, PATCH, SINUSOID_CHANNELS};
use crate::linear::Linear;
use crate::params::Params;
use crate::{Error, Taps};

mod embeddings;

/// Added to the score of a padding caption token (diffusers: `(1 - mask) * -10000`).
const PADDING_SCORE: f64 = -10_000.0;
/// Shift, scale and gate of the attention and of the hidden layer.
const MODULATIONS: usize = 6;

/// The transformer's weights.
pub struct Dit {
    config: DitConfig,
    patch: Linear,
    timestep: TwoLayers,
    micro: Option<Micro>,
    modulation: Linear,
    caption: TwoLayers,
    blocks: Vec<Block>,
    final_table: Tensor<2>,
    out: Linear,
    device: Device,
}

/// Embedders of the picture's size, in the 1024 px α checkpoints.
struct Micro {
    resolution: TwoLayers,
    aspect_ratio: TwoLayers,
}

/// The picture size a checkpoint with micro-conditions is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MicroConditions {
    /// Pixels.
    pub height: f32,
    /// Pixels.
    pub width: f32,
    /// Height over width.
    pub aspect_ratio: f32,
}

/// A caption as every block's cross-attention sees it. Constant over all steps of a picture.
pub struct CaptionKeys {
    /// Keys and values `[B, L, C]` of each block.
    blocks: Vec<(Tensor<3>, Tensor<3>)>,
    /// `[B, 1, 1, L]`: 0 for a token, [`PADDING_SCORE`] for padding.
    bias: Tensor<4>,
}

impl Dit {
    /// Reads `transformer/`.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        let config = DitConfig::read(folder)?;
        let tensors = Tensors::open(folder, "transformer", "diffusion_pytorch_model")?;
        let params = Params::new(&tensors, device);
        let c = config.channels();
        let embedders = params.at("adaln_single.emb");
        let micro = config.micro_conditions.then(|| Micro::load(&embedders, c)).transpose()?;
        let window = [config.latent_channels, PATCH, PATCH];
        Ok(Self {
            patch: Linear::load_windowed(&params.at("pos_embed.proj"), &window, c)?,
            timestep: TwoLayers::load(&embedders.at("timestep_embedder"), SINUSOID_CHANNELS, c)?,
            micro,
            modulation: Linear::load(&params.at("adaln_single.linear"), c, MODULATIONS * c)?,
            caption: TwoLayers::load(&params.at("caption_projection"), config.caption_channels, c)?,
            blocks: (0..config.layers)
                .map(|layer| Block::load(&params.at(format!("transformer_blocks.{layer}")), &config))
                .collect::<Result<_, _>>()?,
            final_table: params.tensor("scale_shift_table", [2, c])?,
            out: Linear::load(&params.at("proj_out"), c, PATCH * PATCH * config.out_channels)?,
            device: device.clone(),
            config,
        })
    }

    pub fn config(&self) -> &DitConfig {
        &self.config
    }

    /// Text embeddings `[B, L, caption_channels]` and mask `[B, L]` (1 keep, 0 padding) → every block's keys.
    #[must_use]
    pub fn caption(&self, embeds: Tensor<3>, mask: Tensor<2>, taps: &mut Taps) -> CaptionKeys {
        let [b, l, _] = embeds.dims();
        assert_eq!([b, l], mask.dims(), "mask does not fit the text embeddings");
        let tokens = self.caption.forward(embeds, Activation::Gelu);
        taps.see(format_args!("caption_projection"), &tokens);
        let bias = (mask.neg() + 1.0) * PADDING_SCORE;
        CaptionKeys {
            blocks: self.blocks.iter().map(|block| block.cross.keys(tokens.clone())).collect(),
            bias: bias.reshape([b, 1, 1, l]),
        }
    }

    /// Noise prediction at `timestep`.
    ///
    /// latent `[B, latent_channels, H, W]` → `[B, out_channels, H, W]`; H and W even.
    #[must_use]
    pub fn forward(
        &self,
        latent: Tensor<4>,
        timestep: f32,
        micro: Option<MicroConditions>,
        caption: &CaptionKeys,
        taps: &mut Taps,
    ) -> Tensor<4> {
        let [b, _, rows, columns] = latent.dims();
        let (h, w, c) = (rows / PATCH, columns / PATCH, self.config.channels());
        assert_eq!([h * PATCH, w * PATCH], [rows, columns], "latent sides are not multiples of {PATCH}");

        let mut x = self.patch.forward(patchify(latent)); // [B, h·w, C]
        if taps.is_on() {
            taps.see(format_args!("pos_embed.proj"), &x.clone().swap_dims(1, 2).reshape([b, c, h, w]));
        }
        x = x + self.positions(h, w);
        taps.see(format_args!("pos_embed"), &x);

        let embedded = self.condition(b, timestep, micro, taps); // [B, C]
        let modulation = self.modulation.forward(silu(embedded.clone()).unsqueeze()).squeeze_dim::<2>(0); // [B, 6·C]
        taps.see(format_args!("adaln_single.0"), &modulation);
        taps.see(format_args!("adaln_single.1"), &embedded);
        let modulation = modulation.reshape([b, MODULATIONS, c]);

        for (layer, block) in self.blocks.iter().enumerate() {
            let keys = &caption.blocks[layer];
            x = block.forward(x, modulation.clone(), keys, caption.bias.clone(), layer, taps);
        }

        let table = self.final_table.clone().unsqueeze::<3>() + embedded.reshape([b, 1, c]); // [B, 2, C]
        let [shift, scale] = rows_of(table);
        let n = layer_norm(x, self.config.norm_eps);
        taps.see(format_args!("norm_out"), &n);
        let x = self.out.forward(modulate(n, shift, scale));
        taps.see(format_args!("proj_out"), &x);
        let out = unpatchify(x, h, w, self.config.out_channels);
        taps.see(format_args!("out"), &out);
        out
    }
}

impl Micro {
    fn load(embedders: &Params<'_>, c: usize) -> Result<Self, Error> {
        // Two numbers of resolution and one of aspect ratio share the C channels.
        let part = c / 3;
        Ok(Self {
            resolution: TwoLayers::load(&embedders.at("resolution_embedder"), SINUSOID_CHANNELS, part)?,
            aspect_ratio: TwoLayers::load(&embedders.at("aspect_ratio_embedder"), SINUSOID_CHANNELS, part)?,
        })
    }
}

struct Block {
    table: Tensor<2>,
    own: Attention,
    cross: Attention,
    hidden: TwoLayers,
    norm_eps: f64,
}

impl Block {
    fn load(params: &Params<'_>, config: &DitConfig) -> Result<Self, Error> {
        let c = config.channels();
        Ok(Self {
            table: params.tensor("scale_shift_table", [MODULATIONS, c])?,
            own: Attention::load(&params.at("attn1"), config)?,
            cross: Attention::load(&params.at("attn2"), config)?,
            hidden: TwoLayers::load_named(&params.at("ff.net"), ["0.proj", "2"], [c, 4 * c, c])?,
            norm_eps: config.norm_eps,
        })
    }

    /// x += g₁·self(mod(LN x)); x += cross(x); x += g₂·hidden(mod(LN x)).
    fn forward(
        &self,
        x: Tensor<3>,
        modulation: Tensor<3>,
        (k, v): &(Tensor<3>, Tensor<3>),
        bias: Tensor<4>,
        layer: usize,
        taps: &mut Taps,
    ) -> Tensor<3> {
        let table = self.table.clone().unsqueeze::<3>() + modulation; // [B, 6, C]
        let [shift_own, scale_own, gate_own, shift_hidden, scale_hidden, gate_hidden] = rows_of(table);

        let n = layer_norm(x.clone(), self.norm_eps);
        taps.see(format_args!("block.{layer}.norm1"), &n);
        let n = modulate(n, shift_own, scale_own);
        let (own_k, own_v) = self.own.keys(n.clone());
        let mixed = self.own.forward(n, own_k, own_v, None);
        taps.see(format_args!("block.{layer}.attn1"), &mixed);
        let x = x + gate_own * mixed;

        let mixed = self.cross.forward(x.clone(), k.clone(), v.clone(), Some(bias));
        taps.see(format_args!("block.{layer}.attn2"), &mixed);
        let x = x + mixed;

        let n = layer_norm(x.clone(), self.norm_eps);
        taps.see(format_args!("block.{layer}.norm2"), &n);
        let hidden = self.hidden.forward(modulate(n, shift_hidden, scale_hidden), Activation::Gelu);
        taps.see(format_args!("block.{layer}.ff"), &hidden);
        let x = x + gate_hidden * hidden;
        taps.see(format_args!("block.{layer}"), &x);
        x
    }
}

struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
    scale: f64,
}

impl Attention {
    fn load(params: &Params<'_>, config: &DitConfig) -> Result<Self, Error> {
        let c = config.channels();
        Ok(Self {
            q: Linear::load(&params.at("to_q"), c, c)?,
            k: Linear::load(&params.at("to_k"), c, c)?,
            v: Linear::load(&params.at("to_v"), c, c)?,
            out: Linear::load(&params.at("to_out.0"), c, c)?,
            heads: config.heads,
            scale: (config.head_channels as f64).sqrt().recip(),
        })
    }

    fn keys(&self, tokens: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        (self.k.forward(tokens.clone()), self.v.forward(tokens))
    }

    fn forward(&self, x: Tensor<3>, k: Tensor<3>, v: Tensor<3>, bias: Option<Tensor<4>>) -> Tensor<3> {
        self.out.forward(attention(self.q.forward(x), k, v, self.heads, Some(self.scale), bias))
    }
}

/// Two linear maps with a nonlinearity between them.
struct TwoLayers {
    first: Linear,
    second: Linear,
}

impl TwoLayers {
    fn load(params: &Params<'_>, inputs: usize, outputs: usize) -> Result<Self, Error> {
        Self::load_named(params, ["linear_1", "linear_2"], [inputs, outputs, outputs])
    }

    fn load_named(params: &Params<'_>, names: [&str; 2], widths: [usize; 3]) -> Result<Self, Error> {
        Ok(Self {
            first: Linear::load(&params.at(names[0]), widths[0], widths[1])?,
            second: Linear::load(&params.at(names[1]), widths[1], widths[2])?,
        })
    }

    fn forward(&self, x: Tensor<3>, activation: Activation) -> Tensor<3> {
        self.second.forward(self.first.activated(x, activation))
    }
}

/// (x - mean) / √(variance + ε) over the channels, without an affine map.
fn layer_norm(x: Tensor<3>, eps: f64) -> Tensor<3> {
    let centred = x.clone() - x.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2); // [B, T, 1]
    centred / (variance + eps).sqrt()
}

/// x·(1 + scale) + shift, with `[B, 1, C]` scale and shift.
fn modulate(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>) -> Tensor<3> {
    x * (scale + 1.0) + shift
}

/// `[B, ROWS, C]` → its rows, each `[B, 1, C]`.
fn rows_of<const ROWS: usize>(table: Tensor<3>) -> [Tensor<3>; ROWS] {
    let [b, rows, c] = table.dims();
    assert_eq!(rows, ROWS);
    std::array::from_fn(|row| table.clone().slice([0..b, row..row + 1, 0..c]))
}

/// `[B, C, H, W]` → one row of C·2·2 numbers per token, tokens row-major: `[B, h·w, C·4]`.
fn patchify(latent: Tensor<4>) -> Tensor<3> {
    let [b, c, rows, columns] = latent.dims();
    let (h, w) = (rows / PATCH, columns / PATCH);
    let split = latent.reshape([b, c, h, PATCH, w, PATCH]).permute([0, 2, 4, 1, 3, 5]); // [B, h, w, C, 2, 2]
    split.reshape([b, h * w, c * PATCH * PATCH])
}

/// `[B, h·w, 2·2·C]` with the channel fastest → `[B, C, H, W]`.
fn unpatchify(x: Tensor<3>, h: usize, w: usize, c: usize) -> Tensor<4> {
    let [b, _, _] = x.dims();
    let split = x.reshape([b, h, w, PATCH, PATCH, c]).permute([0, 5, 1, 3, 2, 4]); // [B, C, h, 2, w, 2]
    split.reshape([b, c, h * PATCH, w * PATCH])
}
