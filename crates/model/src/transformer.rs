//! PixArt's diffusion transformer: predicts the noise from noisy latents, a timestep and text embeddings. It keeps no state
//! between steps; [`Dit::prepare_conditioning`] computes what is constant over the steps once.
//!
//! Source: Chen et al. 2023 (PixArt-α), figure 4; diffusers `PixArtTransformer2DModel`, `BasicTransformerBlock` with
//! `ada_norm_single`.

use burn::tensor::{DType, Device, Tensor, activation::silu};
use pixart_kernels::{Activation, AdaLnChunk, Modulation, WeightFormat, layer_norm, patchify, unpatchify};
use pixart_weights::packer::TRANSFORMER;
use pixart_weights::{Folder, Weights};

use crate::loading::config::{DitConfig, NORM_OUT_EPS, PATCH, SINUSOID_CHANNELS};
use crate::loading::inventory::{declared, named_shapes};
use crate::loading::linear::Linear;
use crate::loading::var_builder::{DeclaredTensor, NamedShape, VarBuilder};
use crate::{Error, Taps};

mod block;
mod embeddings;

pub(crate) use block::DitBlock;

/// Bias of the attention score of a padding token (diffusers: `(1 - mask) * -10000`).
pub(crate) const PADDING_SCORE: f64 = -10_000.0;
/// AdaLN-single chunks of a block: shift, scale and gate of the self-attention (MSA), then of the feed-forward (MLP).
pub(crate) const ADALN_CHUNKS: usize = 6;
/// AdaLN-single chunks of the output layer: shift and scale.
const FINAL_ADALN_CHUNKS: usize = 2;

/// The transformer's weights.
pub struct Dit {
    config: DitConfig,
    pos_embed_proj: Linear,
    timestep_embedder: Mlp,
    size_embedders: Option<SizeEmbedders>,
    adaln_single: Linear,
    caption_projection: Option<Mlp>,
    /// `scale_shift_table` of every block, `[LAYERS, 1, 6, C]`.
    block_scale_shift_tables: Tensor<4>,
    blocks: Vec<DitBlock>,
    /// `scale_shift_table` of the output layer, `[1, 1, 2, C]`.
    scale_shift_table: Tensor<4>,
    proj_out: Linear,
    /// Storage dtype of activations between launches. Accumulation is always f32.
    activations: DType,
    device: Device,
}

/// Embedders of the image size, in the 1024 px α checkpoints (diffusers `PixArtAlphaCombinedTimestepSizeEmbeddings`).
struct SizeEmbedders {
    resolution: Mlp,
    aspect_ratio: Mlp,
}

/// Image size that a checkpoint with micro-conditions is conditioned on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MicroConditions {
    /// Pixels.
    pub height: f32,
    /// Pixels.
    pub width: f32,
    /// Height over width.
    pub aspect_ratio: f32,
}

/// Conditioning of the transformer, constant over all steps of an image.
pub struct Conditioning {
    /// Cross-attention keys and values of each block, concatenated: `[B, L, 2·C]`.
    caption_kv: Vec<Tensor<3>>,
    /// `[B, 1, 1, L]`: 0 for a token, [`PADDING_SCORE`] for padding.
    caption_bias: Tensor<4>,
    /// Position embeddings, `[1, h·w, C]`.
    pos_embed: Tensor<3>,
    /// Token rows and columns.
    grid: [usize; 2],
    micro: Option<MicroConditions>,
    /// Blocks with perturbed self-attention: an identity attention map (Ahn et al. 2024).
    perturbed_layers: Vec<usize>,
}

/// State of a forward pass between two blocks.
pub struct ForwardState {
    /// `[B, h·w, C]`.
    x: Tensor<3>,
    /// AdaLN-single chunks of every block, `[LAYERS, B, 6, C]`.
    modulation: Tensor<4>,
    /// Embedded timestep, `[1, B, C]`.
    embedded_timestep: Tensor<3>,
    /// Index of the next block.
    layer: usize,
}

impl ForwardState {
    /// Returns the hidden states after the last block that ran, flattened.
    pub(crate) fn hidden_states(&self) -> Tensor<1> {
        self.x.clone().flatten(0, 2)
    }
}

impl Conditioning {
    /// Returns the conditioning that a block reads: the results of [`DitBlock::caption_kv`] and the padding bias.
    pub(crate) fn for_block(caption_kv: Vec<Tensor<3>>, caption_bias: Tensor<4>) -> Self {
        let pos_embed = Tensor::zeros([1, 1, 1], &caption_bias.device());
        Self { caption_kv, caption_bias, pos_embed, grid: [1, 1], micro: None, perturbed_layers: Vec::new() }
    }

    /// Splits the batch of classifier-free guidance into its unconditional and its conditional half.
    pub(crate) fn split_cfg(self) -> [Self; 2] {
        let half = self.caption_bias.dims()[0] / 2;
        [0, half].map(|first| self.rows(first, half))
    }

    /// Returns the conditioning of the last `rows` captions, with perturbed attention in `layers`.
    pub fn with_perturbed_attention(&self, rows: usize, layers: &[usize]) -> Self {
        Self { perturbed_layers: layers.to_vec(), ..self.rows(self.caption_bias.dims()[0] - rows, rows) }
    }

    fn rows(&self, first: usize, rows: usize) -> Self {
        Self {
            caption_kv: self.caption_kv.iter().map(|kv| kv.clone().narrow(0, first, rows)).collect(),
            caption_bias: self.caption_bias.clone().narrow(0, first, rows),
            pos_embed: self.pos_embed.clone(),
            perturbed_layers: self.perturbed_layers.clone(),
            ..*self
        }
    }
}

impl Dit {
    /// Loads `transformer/`.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub async fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        Self::load_as(folder, WeightFormat::F32, device).await
    }

    /// Loads `transformer/` with the matrices of the blocks in `format`, or in the smaller one they are stored in. Other
    /// matrices keep their stored format.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub async fn load_as(folder: &Folder, format: WeightFormat, device: &Device) -> Result<Self, Error> {
        let weights = Weights::open(folder, TRANSFORMER.0, TRANSFORMER.1).await?;
        Self::read(&VarBuilder::new(&weights, device), DitConfig::read(folder)?, format).await
    }

    pub(crate) async fn read(vb: &VarBuilder<'_>, config: DitConfig, format: WeightFormat) -> Result<Self, Error> {
        let c = config.channels();
        let embedders = vb.pp("adaln_single.emb");
        let size_embedders =
            if config.micro_conditions { Some(SizeEmbedders::load(&embedders, c).await?) } else { None };
        let kernel = [config.latent_channels, PATCH, PATCH];
        // In the order of a packed file, which is then read sequentially.
        let adaln_single = Linear::load(&vb.pp("adaln_single.linear"), c, ADALN_CHUNKS * c).await?;
        let timestep_embedder = Mlp::load(&embedders.pp("timestep_embedder"), SINUSOID_CHANNELS, c).await?;
        let caption_projection = match config.has_caption_projection {
            true => Some(Mlp::load(&vb.pp("caption_projection"), config.caption_channels, c).await?),
            false => None,
        };
        let pos_embed_proj = Linear::load_patchify_conv(&vb.pp("pos_embed.proj"), &kernel, c).await?;
        let proj_out = Linear::load(&vb.pp("proj_out"), c, PATCH * PATCH * config.out_channels).await?;
        let scale_shift_table = vb.get_f32("scale_shift_table", &[FINAL_ADALN_CHUNKS, c]).await?;
        let (mut tables, mut blocks) = (Vec::new(), Vec::with_capacity(config.layers));
        for layer in 0..config.layers {
            let vb = vb.pp(format!("transformer_blocks.{layer}")).with_weight_format(format);
            blocks.push(DitBlock::load(&vb, &config).await?);
            tables.extend(vb.get_f32("scale_shift_table", &[ADALN_CHUNKS, c]).await?);
        }
        let block_scale_shift_tables = vb.upload(tables, [config.layers, 1, ADALN_CHUNKS, c]);
        vb.flush_uploads().await?;
        Ok(Self {
            pos_embed_proj,
            timestep_embedder,
            size_embedders,
            adaln_single,
            caption_projection,
            block_scale_shift_tables,
            blocks,
            scale_shift_table: vb.upload(scale_shift_table, [1, 1, FINAL_ADALN_CHUNKS, c]),
            proj_out,
            activations: DType::F32,
            device: vb.device().clone(),
            config,
        })
    }

    /// Stores activations in f16. The device must support shader-f16.
    #[must_use]
    pub fn with_f16_activations(self) -> Self {
        Self { activations: DType::F16, ..self }
    }

    pub fn config(&self) -> &DitConfig {
        &self.config
    }

    /// Computes the conditioning of latents of `rows` × `columns` from text embeddings `[B, L, caption_channels]` and their
    /// attention mask `[B, L]` (1 token, 0 padding).
    #[must_use]
    pub fn prepare_conditioning(
        &self,
        embeds: Tensor<3>,
        mask: Tensor<2>,
        [rows, columns]: [usize; 2],
        micro: Option<MicroConditions>,
        taps: &mut Taps,
    ) -> Conditioning {
        let [b, l, _] = embeds.dims();
        assert_eq!([b, l], mask.dims(), "the attention mask does not have the shape of the text embeddings");
        let grid = [rows / PATCH, columns / PATCH];
        assert_eq!(grid.map(|side| side * PATCH), [rows, columns], "latent sides are not multiples of {PATCH}");
        let caption = match &self.caption_projection {
            Some(projection) => projection.forward(embeds, Activation::Gelu),
            None => embeds,
        };
        taps.record(format_args!("caption_projection"), &caption);
        let bias = (mask.neg() + 1.0) * PADDING_SCORE;
        let caption = self.to_activations(caption);
        Conditioning {
            caption_kv: self.blocks.iter().map(|block| block.caption_kv(caption.clone())).collect(),
            caption_bias: bias.reshape([b, 1, 1, l]),
            pos_embed: self.to_activations(self.pos_embed(grid)),
            grid,
            micro,
            perturbed_layers: Vec::new(),
        }
    }

    /// Predicts the noise at `timestep`: latents `[P, latent_channels, H, W]` → `[B, out_channels, H, W]`. B is the batch
    /// of the conditioning; the latents are repeated to fill it.
    #[must_use]
    pub fn forward(
        &self,
        latents: Tensor<4>,
        timestep: f32,
        conditioning: &Conditioning,
        taps: &mut Taps,
    ) -> Tensor<4> {
        let mut state = self.begin(latents, timestep, conditioning, taps);
        while self.advance(&mut state, conditioning, taps) {}
        self.finish(state, conditioning, taps)
    }

    /// Starts a forward pass: embeds patches, positions and timestep.
    #[must_use]
    pub fn begin(
        &self,
        latents: Tensor<4>,
        timestep: f32,
        conditioning: &Conditioning,
        taps: &mut Taps,
    ) -> ForwardState {
        let [_, _, rows, columns] = latents.dims();
        let [h, w] = conditioning.grid;
        assert_eq!([rows, columns], [h * PATCH, w * PATCH], "the conditioning is for another latent size");
        let ([b, ..], c) = (conditioning.caption_bias.dims(), self.config.channels());

        let patches = self.to_activations(patchify(latents, b)); // [B, h·w, latent_channels·2·2]
        let grid = |x: Tensor<3>| x.swap_dims(1, 2).reshape([b, c, h, w]); // [B, C, h, w]
        taps.record_with(format_args!("pos_embed.proj"), || grid(self.pos_embed_proj.forward(patches.clone())));
        let x = self.pos_embed_proj.forward_residual(patches, conditioning.pos_embed.clone()); // [B, h·w, C]
        taps.record(format_args!("pos_embed"), &x);

        let embedded_timestep = self.embed_timestep(b, timestep, conditioning.micro, taps); // [1, B, C]
        let modulation = self.adaln_single.forward(silu(embedded_timestep.clone())); // [1, B, 6·C]
        taps.record(format_args!("adaln_single.0"), &modulation);
        taps.record(format_args!("adaln_single.1"), &embedded_timestep);
        let modulation = self.block_scale_shift_tables.clone() + modulation.reshape([1, b, ADALN_CHUNKS, c]); // [LAYERS, B, 6, C]

        ForwardState { x, modulation, embedded_timestep, layer: 0 }
    }

    /// Runs the next block. Returns false when none is left.
    pub fn advance(&self, state: &mut ForwardState, conditioning: &Conditioning, taps: &mut Taps) -> bool {
        let Some(block) = self.blocks.get(state.layer) else { return false };
        state.x = block.forward(state.x.clone(), &state.modulation, conditioning, state.layer, taps);
        state.layer += 1;
        true
    }

    /// Applies the output layer after the last block: norm, projection and unpatchify.
    #[must_use]
    pub fn finish(&self, state: ForwardState, conditioning: &Conditioning, taps: &mut Taps) -> Tensor<4> {
        let ForwardState { x, embedded_timestep, layer, .. } = state;
        assert_eq!(layer, self.blocks.len(), "finish runs after the last block");
        let ([_, b, c], [h, w]) = (embedded_timestep.dims(), conditioning.grid);
        let table = self.scale_shift_table.clone() + embedded_timestep.reshape([1, b, 1, c]); // [1, B, 2, C]
        let row = |chunk| AdaLnChunk { table: &table, layer: 0, chunk };
        let eps = NORM_OUT_EPS;
        taps.record_with(format_args!("norm_out"), || layer_norm(x.clone(), None, eps));
        let x = self.proj_out.forward(layer_norm(x, Some(Modulation { shift: row(0), scale: row(1) }), eps));
        taps.record(format_args!("proj_out"), &x);
        let out = unpatchify(x, [h, w]).cast(DType::F32);
        taps.record(format_args!("out"), &out);
        out
    }
}

impl Dit {
    /// Casts x to the storage dtype of activations.
    fn to_activations<const RANK: usize>(&self, x: Tensor<RANK>) -> Tensor<RANK> {
        if x.dtype() == self.activations { x } else { x.cast(self.activations) }
    }
}

impl DitConfig {
    /// Returns the tensors that [`Dit`] loads, by name and shape.
    pub(crate) fn inventory(&self) -> Vec<NamedShape> {
        named_shapes(self.declared(WeightFormat::F32))
    }

    /// Returns the bytes of the tensors that [`Dit`] loads, with the matrices of the blocks in `format`.
    pub(crate) fn bytes(&self, format: WeightFormat) -> u64 {
        self.declared(format).iter().map(DeclaredTensor::bytes).sum()
    }

    pub(crate) fn declared(&self, format: WeightFormat) -> Vec<DeclaredTensor> {
        declared(async |vb| Dit::read(vb, self.clone(), format).await)
    }
}

impl SizeEmbedders {
    async fn load(embedders: &VarBuilder<'_>, c: usize) -> Result<Self, Error> {
        // Height, width and aspect ratio get a third of the C channels each.
        let part = c / 3;
        Ok(Self {
            resolution: Mlp::load(&embedders.pp("resolution_embedder"), SINUSOID_CHANNELS, part).await?,
            aspect_ratio: Mlp::load(&embedders.pp("aspect_ratio_embedder"), SINUSOID_CHANNELS, part).await?,
        })
    }
}

/// Two linear layers with an activation between them (diffusers `TimestepEmbedding`, `PixArtAlphaTextProjection`).
struct Mlp {
    linear_1: Linear,
    linear_2: Linear,
}

impl Mlp {
    async fn load(vb: &VarBuilder<'_>, inputs: usize, outputs: usize) -> Result<Self, Error> {
        Ok(Self {
            linear_1: Linear::load(&vb.pp("linear_1"), inputs, outputs).await?,
            linear_2: Linear::load(&vb.pp("linear_2"), outputs, outputs).await?,
        })
    }

    fn forward(&self, x: Tensor<3>, activation: Activation) -> Tensor<3> {
        self.linear_2.forward(self.linear_1.forward_activation(x, activation))
    }
}

#[cfg(test)]
mod tests;
