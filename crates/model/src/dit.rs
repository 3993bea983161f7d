//! PixArt's diffusion transformer: a noisy latent, a timestep and a caption to the predicted noise. It keeps no state
//! between steps; what does not change between them is computed once, by [`Dit::prepare`].
//!
//! Source: Chen et al. 2023 (PixArt-α), figure 4; diffusers `PixArtTransformer2DModel`, `BasicTransformerBlock` with
//! `ada_norm_single`.

use burn::tensor::{DType, Device, Tensor, activation::silu};
use pixart_kernels::{Activation, AdaLnChunk, Modulation, WeightFormat, layer_norm, patchify, unpatchify};
use pixart_weights::{Folder, Weights};

use crate::config::{DitConfig, PATCH, SINUSOID_CHANNELS};
use crate::linear::Linear;
use crate::params::Params;
use crate::{Error, Taps};

mod block;
mod embeddings;

pub(crate) use block::Block;

/// Added to the score of a padding caption token (diffusers: `(1 - mask) * -10000`).
pub(crate) const PADDING_SCORE: f64 = -10_000.0;
/// Rows of a block's table: shift, scale and gate of the attention, then of the hidden layer.
pub(crate) const MODULATIONS: usize = 6;
/// Rows of the final table: shift and scale.
const FINAL_MODULATIONS: usize = 2;

/// The transformer's weights.
pub struct Dit {
    config: DitConfig,
    patch: Linear,
    timestep: TwoLayers,
    micro: Option<Micro>,
    modulation: Linear,
    caption: TwoLayers,
    /// Every block's table, `[LAYERS, 1, 6, C]`.
    tables: Tensor<4>,
    blocks: Vec<Block>,
    /// `[1, 1, 2, C]`.
    final_table: Tensor<4>,
    out: Linear,
    /// What activations are stored as between launches; sums are f32.
    stored: DType,
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

/// What the transformer is told that is constant over all steps of a picture.
pub struct Conditioning {
    /// Each block's caption keys and values, side by side: `[B, L, 2·C]`.
    captions: Vec<Tensor<3>>,
    /// `[B, 1, 1, L]`: 0 for a token, [`PADDING_SCORE`] for padding.
    caption_bias: Tensor<4>,
    /// The place of every token, `[1, h·w, C]`.
    positions: Tensor<3>,
    /// Rows and columns of tokens.
    grid: [usize; 2],
    micro: Option<MicroConditions>,
    /// Blocks whose picture tokens look at themselves alone.
    perturbed: Vec<usize>,
}

/// A forward pass between two blocks.
pub struct ForwardState {
    /// `[B, h·w, C]`.
    x: Tensor<3>,
    /// `[LAYERS, B, 6, C]`.
    modulation: Tensor<4>,
    /// `[1, B, C]`.
    embedded: Tensor<3>,
    /// The next block.
    layer: usize,
}

impl ForwardState {
    /// What was computed last.
    pub(crate) fn latest(&self) -> Tensor<1> {
        self.x.clone().flatten(0, 2)
    }
}

impl Conditioning {
    /// What a block alone reads: captions as [`Block::caption`] gives them, one for each block, and their bias.
    pub(crate) fn of_caption(captions: Vec<Tensor<3>>, caption_bias: Tensor<4>) -> Self {
        let positions = Tensor::zeros([1, 1, 1], &caption_bias.device());
        Self { captions, caption_bias, positions, grid: [1, 1], micro: None, perturbed: Vec::new() }
    }

    /// The conditions of the first half of the captions, and of the second.
    pub(crate) fn halves(self) -> [Self; 2] {
        let half = self.caption_bias.dims()[0] / 2;
        [0, half].map(|first| self.rows(first, half))
    }

    /// The conditions of the last `rows` captions, with attention perturbed in `blocks`.
    pub(crate) fn perturbed(&self, rows: usize, blocks: &[usize]) -> Self {
        Self { perturbed: blocks.to_vec(), ..self.rows(self.caption_bias.dims()[0] - rows, rows) }
    }

    fn rows(&self, first: usize, rows: usize) -> Self {
        Self {
            captions: self.captions.iter().map(|caption| caption.clone().narrow(0, first, rows)).collect(),
            caption_bias: self.caption_bias.clone().narrow(0, first, rows),
            positions: self.positions.clone(),
            perturbed: self.perturbed.clone(),
            ..*self
        }
    }
}

impl Dit {
    /// Reads `transformer/`.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub async fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        Self::load_as(folder, WeightFormat::F32, device).await
    }

    /// [`Dit::load`] with the blocks' matrices in `precision`, or in the smaller one they are stored in. The few others stay as
    /// they are.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub async fn load_as(folder: &Folder, precision: WeightFormat, device: &Device) -> Result<Self, Error> {
        let weights = Weights::open(folder, "transformer", "diffusion_pytorch_model").await?;
        Self::read(&Params::new(&weights, device), DitConfig::read(folder)?, precision).await
    }

    pub(crate) async fn read(params: &Params<'_>, config: DitConfig, precision: WeightFormat) -> Result<Self, Error> {
        let c = config.channels();
        let embedders = params.at("adaln_single.emb");
        let micro = if config.micro_conditions { Some(Micro::load(&embedders, c).await?) } else { None };
        let window = [config.latent_channels, PATCH, PATCH];
        // In the order of a packed file, which is then read once from its beginning to its end.
        let modulation = Linear::load(&params.at("adaln_single.linear"), c, MODULATIONS * c).await?;
        let timestep = TwoLayers::load(&embedders.at("timestep_embedder"), SINUSOID_CHANNELS, c).await?;
        let caption = TwoLayers::load(&params.at("caption_projection"), config.caption_channels, c).await?;
        let patch = Linear::load_windowed(&params.at("pos_embed.proj"), &window, c).await?;
        let out = Linear::load(&params.at("proj_out"), c, PATCH * PATCH * config.out_channels).await?;
        let final_table = params.tensor("scale_shift_table", [FINAL_MODULATIONS, c]).await?;
        let (mut tables, mut blocks) = (Vec::new(), Vec::with_capacity(config.layers));
        for layer in 0..config.layers {
            let params = params.at(format!("transformer_blocks.{layer}")).kept_as(precision);
            blocks.push(Block::load(&params, &config).await?);
            tables.extend(params.floats("scale_shift_table", &[MODULATIONS, c]).await?);
        }
        let tables = params.upload(tables, [config.layers, 1, MODULATIONS, c]);
        params.settled().await?;
        Ok(Self {
            patch,
            timestep,
            micro,
            modulation,
            caption,
            tables,
            blocks,
            final_table: final_table.reshape([1, 1, FINAL_MODULATIONS, c]),
            out,
            stored: DType::F32,
            device: params.device().clone(),
            config,
        })
    }

    /// The same with activations stored in half precision, on a device whose shaders compute in it.
    #[must_use]
    pub fn with_f16_activations(self) -> Self {
        Self { stored: DType::F16, ..self }
    }

    pub fn config(&self) -> &DitConfig {
        &self.config
    }

    /// Text embeddings `[B, L, caption_channels]` and mask `[B, L]` (1 keep, 0 padding) for latents of `rows` × `columns`
    /// → what every step reads.
    #[must_use]
    pub fn prepare(
        &self,
        embeds: Tensor<3>,
        mask: Tensor<2>,
        [rows, columns]: [usize; 2],
        micro: Option<MicroConditions>,
        taps: &mut Taps,
    ) -> Conditioning {
        let [b, l, _] = embeds.dims();
        assert_eq!([b, l], mask.dims(), "mask does not fit the text embeddings");
        let grid = [rows / PATCH, columns / PATCH];
        assert_eq!(grid.map(|side| side * PATCH), [rows, columns], "latent sides are not multiples of {PATCH}");
        let tokens = self.caption.forward(embeds, Activation::Gelu);
        taps.see(format_args!("caption_projection"), &tokens);
        let bias = (mask.neg() + 1.0) * PADDING_SCORE;
        let tokens = self.stored(tokens);
        Conditioning {
            captions: self.blocks.iter().map(|block| block.caption(tokens.clone())).collect(),
            caption_bias: bias.reshape([b, 1, 1, l]),
            positions: self.stored(self.positions(grid)),
            grid,
            micro,
            perturbed: Vec::new(),
        }
    }

    /// Noise prediction at `timestep`.
    ///
    /// latent `[P, latent_channels, H, W]` → `[B, out_channels, H, W]`, B as in the conditions: latents repeat to fill it.
    #[must_use]
    pub fn forward(&self, latent: Tensor<4>, timestep: f32, conditions: &Conditioning, taps: &mut Taps) -> Tensor<4> {
        let mut pass = self.begin(latent, timestep, conditions, taps);
        while self.advance(&mut pass, conditions, taps) {}
        self.finish(pass, conditions, taps)
    }

    /// [`Dit::forward`] as far as the first block.
    #[must_use]
    pub fn begin(&self, latent: Tensor<4>, timestep: f32, conditions: &Conditioning, taps: &mut Taps) -> ForwardState {
        let [_, _, rows, columns] = latent.dims();
        let [h, w] = conditions.grid;
        assert_eq!([rows, columns], [h * PATCH, w * PATCH], "the conditions are of another size");
        let ([b, ..], c) = (conditions.caption_bias.dims(), self.config.channels());

        let patches = self.stored(patchify(latent, b)); // [B, h·w, latent_channels·2·2]
        let grid = |x: Tensor<3>| x.swap_dims(1, 2).reshape([b, c, h, w]);
        taps.show(format_args!("pos_embed.proj"), || grid(self.patch.forward(patches.clone())));
        let x = self.patch.added(patches, None, conditions.positions.clone()); // [B, h·w, C]
        taps.see(format_args!("pos_embed"), &x);

        let embedded = self.condition(b, timestep, conditions.micro, taps); // [1, B, C]
        let modulation = self.modulation.forward(silu(embedded.clone())); // [1, B, 6·C]
        taps.see(format_args!("adaln_single.0"), &modulation);
        taps.see(format_args!("adaln_single.1"), &embedded);
        let modulation = self.tables.clone() + modulation.reshape([1, b, MODULATIONS, c]); // [LAYERS, B, 6, C]

        ForwardState { x, modulation, embedded, layer: 0 }
    }

    /// One block more. False once there is none left.
    pub fn advance(&self, pass: &mut ForwardState, conditions: &Conditioning, taps: &mut Taps) -> bool {
        let Some(block) = self.blocks.get(pass.layer) else { return false };
        pass.x = block.forward(pass.x.clone(), &pass.modulation, conditions, pass.layer, taps);
        pass.layer += 1;
        true
    }

    /// What follows the last block.
    #[must_use]
    pub fn finish(&self, pass: ForwardState, conditions: &Conditioning, taps: &mut Taps) -> Tensor<4> {
        let ForwardState { x, embedded, layer, .. } = pass;
        assert_eq!(layer, self.blocks.len(), "a pass is finished after the last block");
        let ([_, b, c], [h, w]) = (embedded.dims(), conditions.grid);
        let table = self.final_table.clone() + embedded.reshape([1, b, 1, c]); // [1, B, 2, C]
        let row = |chunk| AdaLnChunk { table: &table, layer: 0, chunk };
        let eps = self.config.norm_eps;
        taps.show(format_args!("norm_out"), || layer_norm(x.clone(), None, eps));
        let x = self.out.forward(layer_norm(x, Some(Modulation { shift: row(0), scale: row(1) }), eps));
        taps.see(format_args!("proj_out"), &x);
        let out = unpatchify(x, [h, w]).cast(DType::F32);
        taps.see(format_args!("out"), &out);
        out
    }
}

impl Dit {
    /// x as activations are stored.
    fn stored<const RANK: usize>(&self, x: Tensor<RANK>) -> Tensor<RANK> {
        if x.dtype() == self.stored { x } else { x.cast(self.stored) }
    }
}

impl Micro {
    async fn load(embedders: &Params<'_>, c: usize) -> Result<Self, Error> {
        // Two numbers of resolution and one of aspect ratio share the C channels.
        let part = c / 3;
        Ok(Self {
            resolution: TwoLayers::load(&embedders.at("resolution_embedder"), SINUSOID_CHANNELS, part).await?,
            aspect_ratio: TwoLayers::load(&embedders.at("aspect_ratio_embedder"), SINUSOID_CHANNELS, part).await?,
        })
    }
}

/// Two linear maps with a nonlinearity between them.
struct TwoLayers {
    first: Linear,
    second: Linear,
}

impl TwoLayers {
    async fn load(params: &Params<'_>, inputs: usize, outputs: usize) -> Result<Self, Error> {
        Ok(Self {
            first: Linear::load(&params.at("linear_1"), inputs, outputs).await?,
            second: Linear::load(&params.at("linear_2"), outputs, outputs).await?,
        })
    }

    fn forward(&self, x: Tensor<3>, activation: Activation) -> Tensor<3> {
        self.second.forward(self.first.activated(x, activation))
    }
}

#[cfg(test)]
mod tests;
