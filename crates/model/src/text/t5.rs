//! The T5 v1.1 encoder: token ids to text embeddings. Activations are f32. There is no decoder and no KV cache.
//!
//! Source: Raffel et al. 2020; transformers `modeling_t5.py` (`T5Stack`, `T5Attention`, `T5DenseGatedActDense`).

use std::cell::RefCell;
use std::rc::Rc;

use burn::tensor::{Device, Tensor, TensorData};
use pixart_kernels::{Activation, AttentionOptions, Heads, attention, rms_norm};
use pixart_weights::packer::TEXT_ENCODER;
use pixart_weights::{Folder, WeightFormat, Weights};

use crate::loading::config::T5Config;
use crate::loading::inventory::{declared, named_shapes};
use crate::loading::linear::Linear;
use crate::loading::var_builder::{NamedShape, UPLOAD_FENCE_BYTES, VarBuilder};
use crate::{Error, Taps, TokenizedCaption};

mod forward;

pub use forward::T5Forward;

/// Bias of the attention score of a padding key: the least finite f32, as in transformers.
const PADDING_SCORE: f32 = f32::MIN;

async fn open_weights(folder: &Folder) -> Result<Weights<'_>, Error> {
    Ok(Weights::open(folder, TEXT_ENCODER.0, TEXT_ENCODER.1).await?)
}

/// Returns the bytes of all blocks on a device, whose matrices are requested in `format`.
fn block_bytes(weights: &Weights<'_>, config: &T5Config, format: WeightFormat) -> Result<u64, Error> {
    let mut bytes = 0;
    for mut tensor in declared(async |vb| declare_blocks(vb, config).await) {
        if let [outputs, inputs] = *tensor.shape {
            tensor.format = weights.matrix_format(&tensor.name, [outputs, inputs], format)?;
        }
        bytes += tensor.bytes();
    }
    Ok(bytes)
}

/// Checks or records the tensors of all blocks, with a builder that has no weights.
async fn declare_blocks(vb: &VarBuilder<'_>, config: &T5Config) -> Result<(), Error> {
    for layer in 0..config.layers {
        T5Block::load(&vb.pp(format!("encoder.block.{layer}.layer")), config).await?;
    }
    Ok(())
}

/// The encoder. Its blocks are on the device, or are read from the checkpoint one by one for each batch of prompts.
pub struct T5 {
    config: T5Config,
    /// Name of the token embeddings `[vocabulary, channels]` in the file. They stay in the checkpoint: few rows are used at a
    /// time, and the table exceeds the buffer limit of some devices.
    token_embeddings: &'static str,
    /// `[buckets, heads]`. It stays on the CPU: the bias is computed there, once per length.
    relative_attention_bias: Vec<f32>,
    final_layer_norm: RmsNorm,
    /// The blocks on the device: the first ones in order, all or none.
    blocks: RefCell<Vec<Rc<T5Block>>>,
    weight_format: WeightFormat,
    block_bytes: u64,
    folder: Folder,
    device: Device,
}

pub(crate) struct T5Block {
    attn_norm: RmsNorm,
    /// Q, K and V, concatenated.
    qkv: Linear,
    attn_out: Linear,
    ff_norm: RmsNorm,
    /// `wi_0` (gate) and `wi_1`, interleaved.
    ff_in: Linear,
    ff_out: Linear,
}

impl T5 {
    /// Opens `text_encoder/`: one `model.safetensors` or its shards. Matrices are loaded in `format`, or in their stored
    /// format if it is none. The blocks stay in the checkpoint until [`T5::load_blocks`], or a batch of prompts needs them.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub async fn open(folder: &Folder, format: Option<WeightFormat>, device: &Device) -> Result<Self, Error> {
        let config = T5Config::read(folder)?;
        let weights = open_weights(folder).await?;
        let stored = weights.lossless_format("encoder.block.0.layer.1.DenseReluDense.wo.weight")?;
        let vb = VarBuilder::new(&weights, device).with_weight_format(format.unwrap_or(stored));
        if folder.is_headers_only() {
            declare_blocks(&vb, &config).await?;
        }
        let block_bytes = block_bytes(&weights, &config, vb.weight_format())?;
        let t5 = Self::from_vars(&vb, config, folder).await?;
        vb.flush_uploads().await?;
        Ok(Self { block_bytes, ..t5 })
    }

    /// Opens `text_encoder/` as [`T5::open`] does, and loads the blocks.
    ///
    /// # Errors
    /// As [`T5::open`].
    pub async fn load(folder: &Folder, format: Option<WeightFormat>, device: &Device) -> Result<Self, Error> {
        let t5 = Self::open(folder, format, device).await?;
        t5.load_blocks().await?;
        Ok(t5)
    }

    async fn from_vars(vb: &VarBuilder<'_>, config: T5Config, folder: &Folder) -> Result<Self, Error> {
        let encoder = vb.pp("encoder");
        let T5Config { vocabulary, channels, heads, position_buckets, .. } = config;
        let token_embeddings = vb.first_of(&["shared.weight", "encoder.embed_tokens.weight"]);
        vb.declare(token_embeddings, &[vocabulary, channels])?;
        let position = "layer.0.SelfAttention.relative_attention_bias.weight";
        Ok(Self {
            token_embeddings,
            relative_attention_bias: encoder.pp("block.0").get_f32(position, &[position_buckets, heads]).await?,
            final_layer_norm: RmsNorm::load(&encoder.pp("final_layer_norm"), &config).await?,
            blocks: RefCell::default(),
            weight_format: vb.weight_format(),
            block_bytes: 0,
            folder: folder.clone(),
            device: vb.device().clone(),
            config,
        })
    }

    /// Loads the blocks that are not on the device.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape or is not finite, by name.
    pub async fn load_blocks(&self) -> Result<(), Error> {
        if self.folder.is_headers_only() {
            return Ok(());
        }
        let weights = open_weights(&self.folder).await?;
        for layer in self.resident_layers()..self.config.layers {
            let block = self.load_block(&weights, layer, UPLOAD_FENCE_BYTES, true).await?;
            self.blocks.borrow_mut().push(Rc::new(block));
        }
        Ok(())
    }

    /// Drops the blocks on the device. The next batch of prompts reads them again.
    pub fn drop_blocks(&self) {
        self.blocks.take();
    }

    /// Returns whether all blocks are on the device.
    #[must_use]
    pub fn is_resident(&self) -> bool {
        self.resident_layers() == self.config.layers
    }

    fn resident_layers(&self) -> usize {
        self.blocks.borrow().len()
    }

    /// Returns the format of the blocks' matrices.
    #[must_use]
    pub fn weight_format(&self) -> WeightFormat {
        self.weight_format
    }

    /// Returns the bytes of all blocks on the device.
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    /// Loads a block, which is copied out of its file unless it `stays`.
    async fn load_block(
        &self,
        weights: &Weights<'_>,
        layer: usize,
        fence_bytes: usize,
        stays: bool,
    ) -> Result<T5Block, Error> {
        let vb = VarBuilder::new(weights, &self.device).with_weight_format(self.weight_format);
        let vb = vb.with_fence_bytes(fence_bytes);
        let vb = if stays { vb } else { vb.copying() };
        let block = T5Block::load(&vb.pp(format!("encoder.block.{layer}.layer")), &self.config).await;
        vb.flush_uploads().await?;
        block
    }

    /// Begins to encode token rows of one length. With `keeps_blocks` the blocks that are read stay on the device.
    ///
    /// # Errors
    /// Token embeddings that cannot be read, or are not finite.
    pub async fn begin(
        &self,
        rows: &[TokenizedCaption],
        keeps_blocks: bool,
        taps: &mut Taps,
    ) -> Result<T5Forward<'_>, Error> {
        let (b, l) = (rows.len(), rows[0].input_ids.len());
        let T5Config { vocabulary, channels, .. } = self.config;
        assert!(rows.iter().all(|row| row.input_ids.len() == l), "token rows differ in length");
        let ids: Vec<usize> = rows.iter().flat_map(|row| row.input_ids.iter().map(|id| *id as usize)).collect();
        assert!(ids.iter().all(|id| *id < vocabulary), "a token beyond the vocabulary of {vocabulary}");
        let weights = open_weights(&self.folder).await?;
        let embedded = weights.f32_rows(self.token_embeddings, &[vocabulary, channels], &ids).await?;
        let hidden_state = Tensor::<3>::from_data(TensorData::new(embedded, [b, l, channels]), &self.device);
        taps.record(format_args!("t5.embed"), &hidden_state);
        let bias = self.attention_bias(rows, l, taps);
        Ok(T5Forward { t5: self, weights, hidden_state, bias, layer: 0, next: None, keeps_blocks })
    }

    /// Returns the bias of the attention scores of every block: position bias plus padding mask, `[B, N, L, L]`.
    fn attention_bias(&self, rows: &[TokenizedCaption], l: usize, taps: &mut Taps) -> Tensor<4> {
        let heads = self.config.heads;
        let mut position = vec![0.0; heads * l * l];
        for (head, scores) in position.chunks_mut(l * l).enumerate() {
            for (query, row) in scores.chunks_mut(l).enumerate() {
                for (key, score) in row.iter_mut().enumerate() {
                    *score = self.relative_attention_bias[self.relative_position_bucket(query, key) * heads + head];
                }
            }
        }
        let position = Tensor::<4>::from_data(TensorData::new(position, [1, heads, l, l]), &self.device);
        taps.record(format_args!("position_bias"), &position);

        let mask: Vec<f32> =
            rows.iter().flat_map(|row| row.attention_mask.iter().map(|mask| (1.0 - mask) * PADDING_SCORE)).collect();
        let mask = Tensor::<4>::from_data(TensorData::new(mask, [rows.len(), 1, 1, l]), &self.device);
        position + mask
    }

    /// Returns the bucket of a key's distance from its query. Each direction has half of the buckets: the nearer half of
    /// them one per distance, the rest logarithmic up to the largest distance (transformers `_relative_position_bucket`).
    fn relative_position_bucket(&self, query: usize, key: usize) -> usize {
        let per_direction = self.config.position_buckets / 2;
        let exact = per_direction / 2;
        let base = if key > query { per_direction } else { 0 };
        let distance = key.abs_diff(query);
        if distance < exact {
            return base + distance;
        }
        let log_max = (self.config.position_distance_max as f32 / exact as f32).ln();
        let log_bucket = (distance as f32 / exact as f32).ln() / log_max * (per_direction - exact) as f32;
        base + (exact + log_bucket as usize).min(per_direction - 1)
    }
}

impl T5Config {
    /// Returns the tensors that [`T5`] loads, by name and shape.
    pub(crate) fn inventory(&self) -> Vec<NamedShape> {
        named_shapes(declared(async |vb| {
            declare_blocks(vb, self).await?;
            T5::from_vars(vb, self.clone(), &Folder::default()).await
        }))
    }

    /// Returns the attention options. T5 does not scale scores by 1/√D: its initialisation does (Raffel et al. 2020, 2.1).
    pub(crate) fn attention<'a>(&self, bias: &'a Tensor<4>) -> AttentionOptions<'a> {
        AttentionOptions { heads: self.heads, head_channels: self.head_channels, scale: 1.0, bias: Some(bias) }
    }
}

impl T5Block {
    pub(crate) async fn load(layers: &VarBuilder<'_>, config: &T5Config) -> Result<Self, Error> {
        let T5Config { channels, hidden_channels, heads, head_channels, .. } = *config;
        let inner = heads * head_channels;
        let attention = layers.pp("0.SelfAttention");
        let ff = layers.pp("1.DenseReluDense");
        Ok(Self {
            attn_norm: RmsNorm::load(&layers.pp("0.layer_norm"), config).await?,
            qkv: Linear::load_unbiased(&["q", "k", "v"].map(|name| attention.pp(name)), channels, inner).await?,
            attn_out: Linear::load_unbiased(&[attention.pp("o")], inner, channels).await?,
            ff_norm: RmsNorm::load(&layers.pp("1.layer_norm"), config).await?,
            ff_in: Linear::load_gated(&["wi_0", "wi_1"].map(|name| ff.pp(name)), channels, hidden_channels).await?,
            ff_out: Linear::load_unbiased(&[ff.pp("wo")], hidden_channels, channels).await?,
        })
    }

    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        options: &AttentionOptions<'_>,
        layer: usize,
        taps: &mut Taps,
    ) -> Tensor<3> {
        let normed = self.attn_norm.forward(x.clone());
        taps.record(format_args!("t5.block.{layer}.ln0"), &normed);
        let qkv = self.qkv.forward(normed); // [B, L, 3·N·D]
        let columns = |at: usize| Heads { tensor: &qkv, first: at * options.heads * options.head_channels };
        let attn_output = attention(columns(0), columns(1), columns(2), options);
        taps.record_with(format_args!("t5.block.{layer}.attn.0"), || self.attn_out.forward(attn_output.clone()));
        let x = self.attn_out.forward_residual(attn_output, x);

        let hidden = self.ff_in.forward_activation(self.ff_norm.forward(x.clone()), Activation::GatedGelu);
        taps.record_with(format_args!("t5.block.{layer}.ff"), || self.ff_out.forward(hidden.clone()));
        let x = self.ff_out.forward_residual(hidden, x);
        taps.record(format_args!("t5.block.{layer}.0"), &x);
        x
    }
}

/// RMS norm: w·x / √(mean(x²) + ε) over the last axis.
struct RmsNorm {
    weight: Tensor<1>,
    eps: f64,
}

impl RmsNorm {
    async fn load(vb: &VarBuilder<'_>, config: &T5Config) -> Result<Self, Error> {
        Ok(Self { weight: vb.get("weight", [config.channels]).await?, eps: config.norm_eps })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        rms_norm(x, &self.weight, self.eps)
    }
}

#[cfg(test)]
mod tests;
