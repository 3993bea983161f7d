//! The T5 v1.1 encoder: token ids to text embeddings. Every value is f32; there is no dropout and no cache.
//!
//! Source: Raffel et al. 2020; transformers `modeling_t5.py` (`T5Stack`, `T5Attention`, `T5DenseGatedActDense`).

use burn::tensor::{Device, Tensor, TensorData};
use pixart_kernels::{Activation, AttentionOptions, Heads, attention, rms_norm};
use pixart_weights::{Folder, WeightFormat, Weights};

use crate::config::T5Config;
use crate::linear::Linear;
use crate::params::Params;
use crate::{Error, Taps, TokenizedCaption};

/// Added to the score of a padding key: transformers uses the dtype's least finite value.
const PADDING_SCORE: f32 = f32::MIN;

/// The encoder's weights.
pub struct T5 {
    config: T5Config,
    /// `[vocabulary][channels]`, kept on the CPU: few of its rows are used at a time, and it is larger than some buffers may
    /// be.
    embedding: Vec<f32>,
    /// `[buckets][heads]`, kept on the CPU too: the bias is looked up there once per length.
    position_scores: Vec<f32>,
    blocks: Vec<Block>,
    norm: RmsNorm,
    device: Device,
}

pub(crate) struct Block {
    attention_norm: RmsNorm,
    /// Query, key and value, side by side.
    own: Linear,
    out: Linear,
    hidden_norm: RmsNorm,
    /// Gate and value, which are multiplied.
    hidden: Linear,
    hidden_out: Linear,
}

impl T5 {
    /// Reads `text_encoder/`: one `model.safetensors` or its shards. Its matrices are kept in `precision`, or in the one that
    /// loses nothing of what is stored.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub async fn load(folder: &Folder, precision: Option<WeightFormat>, device: &Device) -> Result<Self, Error> {
        let config = T5Config::read(folder)?;
        let weights = Weights::open(folder, "text_encoder", "model").await?;
        let stored = weights.lossless_format("encoder.block.0.layer.1.DenseReluDense.wo.weight")?;
        let params = Params::new(&weights, device).kept_as(precision.unwrap_or(stored));
        let encoder = params.at("encoder");
        let T5Config { vocabulary, channels, heads, position_buckets, .. } = config;

        let shared = if params.has("shared.weight") { "shared.weight" } else { "encoder.embed_tokens.weight" };
        let position = "layer.0.SelfAttention.relative_attention_bias.weight";
        let mut blocks = Vec::with_capacity(config.layers);
        for layer in 0..config.layers {
            blocks.push(Block::load(&encoder.at(format!("block.{layer}.layer")), &config).await?);
        }
        let t5 = Self {
            embedding: params.floats(shared, &[vocabulary, channels]).await?,
            position_scores: encoder.at("block.0").floats(position, &[position_buckets, heads]).await?,
            blocks,
            norm: RmsNorm::load(&encoder.at("final_layer_norm"), &config).await?,
            device: device.clone(),
            config,
        };
        params.settled().await?;
        Ok(t5)
    }

    /// Token rows of one length → embeddings `[B, L, C]`. Padded positions hold values that nothing may attend to.
    #[must_use]
    pub fn forward(&self, rows: &[TokenizedCaption], taps: &mut Taps) -> Tensor<3> {
        let (b, l) = (rows.len(), rows[0].ids.len());
        let T5Config { vocabulary, channels, .. } = self.config;
        let mut embedded = Vec::with_capacity(b * l * channels);
        for id in rows.iter().flat_map(|row| &row.ids) {
            let id = *id as usize;
            assert!(id < vocabulary, "token {id} of {vocabulary}");
            embedded.extend_from_slice(&self.embedding[id * channels..][..channels]);
        }
        assert_eq!(embedded.len(), b * l * channels, "token rows differ in length");
        let mut x = Tensor::<3>::from_data(TensorData::new(embedded, [b, l, channels]), &self.device);
        taps.see(format_args!("t5.embed"), &x);

        let bias = self.bias(rows, l, taps);
        let options = self.config.attention(&bias);
        for (layer, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, &options, layer, taps);
        }
        let x = self.norm.forward(x);
        taps.see(format_args!("t5.final"), &x);
        x
    }

    /// What is added to every block's scores: the position bias plus the padding mask, `[B, N, L, L]`.
    fn bias(&self, rows: &[TokenizedCaption], l: usize, taps: &mut Taps) -> Tensor<4> {
        let heads = self.config.heads;
        let mut position = vec![0.0; heads * l * l];
        for (head, scores) in position.chunks_mut(l * l).enumerate() {
            for (query, row) in scores.chunks_mut(l).enumerate() {
                for (key, score) in row.iter_mut().enumerate() {
                    *score = self.position_scores[self.bucket(query, key) * heads + head];
                }
            }
        }
        let position = Tensor::<4>::from_data(TensorData::new(position, [1, heads, l, l]), &self.device);
        taps.see(format_args!("position_bias"), &position);

        let mask: Vec<f32> =
            rows.iter().flat_map(|row| row.mask.iter().map(|keep| (1.0 - keep) * PADDING_SCORE)).collect();
        let mask = Tensor::<4>::from_data(TensorData::new(mask, [rows.len(), 1, 1, l]), &self.device);
        position + mask
    }

    /// The bucket of a key's distance from its query: half of the buckets for each side, the nearer half of those one
    /// per distance, the rest logarithmic up to the largest distance (transformers `_relative_position_bucket`).
    fn bucket(&self, query: usize, key: usize) -> usize {
        let side = self.config.position_buckets / 2;
        let exact = side / 2;
        let base = if key > query { side } else { 0 };
        let distance = key.abs_diff(query);
        if distance < exact {
            return base + distance;
        }
        let reach = (self.config.position_distance_max as f32 / exact as f32).ln();
        let far = (distance as f32 / exact as f32).ln() / reach * (side - exact) as f32;
        base + (exact + far as usize).min(side - 1)
    }
}

impl T5Config {
    /// T5 does not divide by √D: its initialisation does (Raffel et al. 2020, section 2.1).
    pub(crate) fn attention<'a>(&self, bias: &'a Tensor<4>) -> AttentionOptions<'a> {
        AttentionOptions { heads: self.heads, head_channels: self.head_channels, scale: 1.0, bias: Some(bias) }
    }
}

impl Block {
    pub(crate) async fn load(layers: &Params<'_>, config: &T5Config) -> Result<Self, Error> {
        let T5Config { channels, hidden_channels, heads, head_channels, .. } = *config;
        let inner = heads * head_channels;
        let attention = layers.at("0.SelfAttention");
        let hidden = layers.at("1.DenseReluDense");
        Ok(Self {
            attention_norm: RmsNorm::load(&layers.at("0.layer_norm"), config).await?,
            own: Linear::load_unbiased(&["q", "k", "v"].map(|name| attention.at(name)), channels, inner).await?,
            out: Linear::load_unbiased(&[attention.at("o")], inner, channels).await?,
            hidden_norm: RmsNorm::load(&layers.at("1.layer_norm"), config).await?,
            hidden: Linear::load_gated(&["wi_0", "wi_1"].map(|name| hidden.at(name)), channels, hidden_channels)
                .await?,
            hidden_out: Linear::load_unbiased(&[hidden.at("wo")], hidden_channels, channels).await?,
        })
    }

    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        options: &AttentionOptions<'_>,
        layer: usize,
        taps: &mut Taps,
    ) -> Tensor<3> {
        let n = self.attention_norm.forward(x.clone());
        taps.see(format_args!("t5.block.{layer}.ln0"), &n);
        let own = self.own.forward(n); // [B, L, 3·N·D]
        let columns = |at: usize| Heads { tensor: &own, first: at * options.heads * options.head_channels };
        let mixed = attention(columns(0), columns(1), columns(2), options);
        taps.show(format_args!("t5.block.{layer}.attn.0"), || self.out.forward(mixed.clone()));
        let x = self.out.added(mixed, None, x);

        let hidden = self.hidden.activated(self.hidden_norm.forward(x.clone()), Activation::GatedGelu);
        taps.show(format_args!("t5.block.{layer}.ff"), || self.hidden_out.forward(hidden.clone()));
        let x = self.hidden_out.added(hidden, None, x);
        taps.see(format_args!("t5.block.{layer}.0"), &x);
        x
    }
}

/// w · x / √(mean(x²) + ε) over the last axis.
struct RmsNorm {
    weight: Tensor<1>,
    eps: f64,
}

impl RmsNorm {
    async fn load(params: &Params<'_>, config: &T5Config) -> Result<Self, Error> {
        Ok(Self { weight: params.tensor("weight", [config.channels]).await?, eps: config.norm_eps })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        rms_norm(x, &self.weight, self.eps)
    }
}
