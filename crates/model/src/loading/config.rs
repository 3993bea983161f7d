//! The configuration files of a diffusers folder. A key that is absent has the default of the constructor in diffusers or
//! transformers. A value that the networks cannot have is an error that names the key, before any weight is read.

use pixart_kernels::WIDEST_CHANNELS;
use pixart_weights::Folder;
use serde_json::Value;

use super::json::Json;
use crate::Error;
use crate::image::{Preview, SD_SCALING};

/// `transformer/config.json`. Source: diffusers `PixArtTransformer2DModel.__init__`.
#[derive(Clone, Debug, PartialEq)]
pub struct DitConfig {
    pub heads: usize,
    pub head_channels: usize,
    pub layers: usize,
    pub latent_channels: usize,
    pub out_channels: usize,
    /// Channels of the prompt embeddings.
    pub caption_channels: usize,
    /// True if the network projects the prompt embeddings to its own width. Otherwise the cross-attention reads them.
    pub has_caption_projection: bool,
    /// Latent rows and columns that the checkpoint was trained at.
    pub sample_size: usize,
    pub interpolation_scale: f64,
    /// Whether the network embeds resolution and aspect ratio.
    pub micro_conditions: bool,
    /// ε of the norms of the blocks.
    pub norm_eps: f64,
}

/// Latent rows and columns of one token. Every PixArt checkpoint has 2.
pub(crate) const PATCH: usize = 2;
/// Sinusoid channels of a scalar condition (diffusers `PixArtAlphaCombinedTimestepSizeEmbeddings`).
pub(crate) const SINUSOID_CHANNELS: usize = 256;
/// The pipeline passes micro-conditions to checkpoints of this sample size only (diffusers `PixArtAlphaPipeline`).
pub(crate) const MICRO_CONDITION_SAMPLE_SIZE: usize = 128;
/// ε of the transformer's last norm (diffusers passes 1e-6).
pub(crate) const NORM_OUT_EPS: f64 = 1e-6;

/// Largest accepted sizes, so that arithmetic on shapes cannot overflow 32 bits. Published checkpoints stay far below.
const CHANNELS_MAX: usize = 16_384;
const HIDDEN_CHANNELS_MAX: usize = 65_536;
const HEADS_MAX: usize = 1_024;
const LAYERS_MAX: usize = 1_024;
const LATENT_CHANNELS_MAX: usize = 256;
const SAMPLE_SIZE_MAX: usize = 4_096;
const VOCABULARY_MAX: usize = 1 << 20;
const BUCKETS_MAX: usize = 4_096;
const DISTANCE_MAX: usize = 1 << 20;
const VAE_LEVELS_MAX: usize = 8;
const VAE_LAYERS_MAX: usize = 32;

impl DitConfig {
    pub(crate) fn read(folder: &Folder) -> Result<Self, Error> {
        let json = Json::read(folder, "transformer/config.json")?;
        json.require("patch_size", PATCH, PATCH)?;
        json.require("activation_fn", "gelu-approximate", "gelu-approximate")?;
        json.require("norm_type", "ada_norm_single", "ada_norm_single")?;
        json.require("attention_bias", true, true)?;
        json.require("norm_elementwise_affine", false, false)?;
        if json.optional("attention_type").is_some() {
            json.require("attention_type", "default", "default")?;
        }
        let heads = json.count("num_attention_heads", XL_2.heads, 1..=HEADS_MAX)?;
        let head_channels = json.channels("attention_head_dim", XL_2.head_channels, WIDEST_CHANNELS)?;
        let channels = heads * head_channels;
        if channels > CHANNELS_MAX {
            let why = format!("{heads} heads of {head_channels} channels are more than {CHANNELS_MAX} channels");
            return Err(json.error("num_attention_heads", why));
        }
        let latent_channels = json.count("in_channels", XL_2.latent_channels, 1..=LATENT_CHANNELS_MAX)?;
        let out_channels = match json.optional("out_channels") {
            // Without a number of its own the network returns as many channels as it reads.
            None if json.contains("out_channels") => latent_channels,
            _ => json.count("out_channels", XL_2.out_channels, 1..=2 * LATENT_CHANNELS_MAX)?,
        };
        if out_channels != latent_channels && out_channels != 2 * latent_channels {
            let why = format!("{out_channels} is neither the {latent_channels} of in_channels nor twice as many");
            return Err(json.error("out_channels", why));
        }
        let has_caption_projection = json.optional("caption_channels").is_some();
        let caption_key = if has_caption_projection { "caption_channels" } else { "cross_attention_dim" };
        let sample_size = json.count("sample_size", MICRO_CONDITION_SAMPLE_SIZE, 2..=SAMPLE_SIZE_MAX)?;
        if !sample_size.is_multiple_of(PATCH) {
            return Err(json.error("sample_size", format!("{sample_size} is not a multiple of {PATCH}")));
        }
        let native = (sample_size / 64).max(1) as f64;
        let interpolation_scale = match json.optional("interpolation_scale") {
            None => native,
            Some(_) => json.positive("interpolation_scale", native)?,
        };
        let micro_conditions = json.flag("use_additional_conditions")?;
        let micro_conditions = micro_conditions.unwrap_or(sample_size == MICRO_CONDITION_SAMPLE_SIZE);
        if micro_conditions && !channels.is_multiple_of(3) {
            let why = format!("height, width and aspect ratio need a third each of the {channels} channels");
            return Err(json.error("use_additional_conditions", why));
        }
        Ok(Self {
            heads,
            head_channels,
            layers: json.count("num_layers", XL_2.layers, 1..=LAYERS_MAX)?,
            latent_channels,
            out_channels,
            caption_channels: json.channels(caption_key, XL_2.channels(), CHANNELS_MAX)?,
            has_caption_projection,
            sample_size,
            interpolation_scale,
            micro_conditions,
            norm_eps: json.positive("norm_eps", XL_2.norm_eps)?,
        })
    }

    pub(crate) const fn channels(&self) -> usize {
        self.heads * self.head_channels
    }

    /// Returns the channels of a caption token in the cross-attention.
    pub(crate) fn cross_attention_channels(&self) -> usize {
        if self.has_caption_projection { self.channels() } else { self.caption_channels }
    }
}

/// PixArt-XL/2 at 256 px (Chen et al. 2023, section 3.1).
pub(crate) const XL_2: DitConfig = DitConfig {
    heads: 16,
    head_channels: 72,
    layers: 28,
    latent_channels: 4,
    out_channels: 8,
    caption_channels: 4096,
    has_caption_projection: true,
    sample_size: 32,
    interpolation_scale: 1.0,
    micro_conditions: false,
    norm_eps: 1e-6,
};

/// `text_encoder/config.json`. Source: transformers `T5Config`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct T5Config {
    pub vocabulary: usize,
    pub channels: usize,
    pub head_channels: usize,
    pub heads: usize,
    pub layers: usize,
    pub hidden_channels: usize,
    pub position_buckets: usize,
    pub position_distance_max: usize,
    pub norm_eps: f64,
}

impl T5Config {
    pub(crate) fn read(folder: &Folder) -> Result<Self, Error> {
        let json = Json::read(folder, "text_encoder/config.json")?;
        json.require("feed_forward_proj", "relu", "gated-gelu")?;
        let position_buckets = json.count("relative_attention_num_buckets", 32, 4..=BUCKETS_MAX)?;
        let distance = "relative_attention_max_distance";
        let position_distance_max = json.count(distance, 128, 1..=DISTANCE_MAX)?;
        // The nearer half of the buckets of a direction are one per distance.
        if position_distance_max <= position_buckets / 4 {
            let why = format!("{position_distance_max} is within the {} nearest buckets", position_buckets / 4);
            return Err(json.error(distance, why));
        }
        Ok(Self {
            vocabulary: json.count("vocab_size", 32_128, 1..=VOCABULARY_MAX)?,
            channels: json.channels("d_model", 512, CHANNELS_MAX)?,
            head_channels: json.channels("d_kv", 64, WIDEST_CHANNELS)?,
            heads: json.count("num_heads", 8, 1..=HEADS_MAX)?,
            layers: json.count("num_layers", 6, 1..=LAYERS_MAX)?,
            hidden_channels: json.channels("d_ff", 2048, HIDDEN_CHANNELS_MAX)?,
            position_buckets,
            position_distance_max,
            norm_eps: json.positive("layer_norm_epsilon", 1e-6)?,
        })
    }
}

/// T5 v1.1 XL (google/t5-v1_1-xl, `config.json`).
pub(crate) const T5_XL: T5Config = T5Config {
    vocabulary: 32_128,
    channels: 2048,
    head_channels: 64,
    heads: 32,
    layers: 24,
    hidden_channels: 5120,
    position_buckets: 32,
    position_distance_max: 128,
    norm_eps: 1e-6,
};

/// Key of `vae/config.json` with a linear map to RGB: a row of three numbers for each latent channel, then the bias. It is
/// not a key of diffusers; ComfyUI has the name.
const LATENT_RGB_FACTORS: &str = "latent_rgb_factors";

/// `vae/config.json`. Source: diffusers `AutoencoderKL.__init__`.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    pub block_channels: Vec<usize>,
    pub layers_per_block: usize,
    pub latent_channels: usize,
    pub norm_groups: usize,
    pub scaling_factor: f64,
    /// Linear map of its latents to RGB, if one is known.
    pub preview: Option<Preview>,
}

impl VaeConfig {
    pub(crate) fn read(folder: &Folder) -> Result<Self, Error> {
        let json = Json::read(folder, "vae/config.json")?;
        json.require("act_fn", "silu", "silu")?;
        json.require("in_channels", 3, 3)?;
        json.require("out_channels", 3, 3)?;
        json.require("mid_block_add_attention", true, true)?;
        json.require("use_quant_conv", true, true)?;
        json.require("use_post_quant_conv", true, true)?;
        let key = "block_out_channels";
        let block_channels = json.counts(key, &[64])?;
        let fits = |width: &usize| (4..=WIDEST_CHANNELS).contains(width) && width.is_multiple_of(4);
        if block_channels.is_empty() || block_channels.len() > VAE_LEVELS_MAX || !block_channels.iter().all(fits) {
            let list = Value::from(block_channels);
            let why =
                format!("{list} is not a list of 1 to {VAE_LEVELS_MAX} multiples of 4 from 4 to {WIDEST_CHANNELS}");
            return Err(json.error(key, why));
        }
        json.require_items("down_block_types", "DownEncoderBlock2D", block_channels.len())?;
        json.require_items("up_block_types", "UpDecoderBlock2D", block_channels.len())?;
        let norm_groups = json.count("norm_num_groups", 32, 1..=WIDEST_CHANNELS)?;
        if let Some(width) = block_channels.iter().find(|width| !width.is_multiple_of(norm_groups)) {
            let why = format!("the {width} channels of a block do not divide into {norm_groups} groups");
            return Err(json.error("norm_num_groups", why));
        }
        let layers_per_block = json.count("layers_per_block", 1, 1..=VAE_LAYERS_MAX)?;
        let latent_channels = json.count("latent_channels", 4, 1..=LATENT_CHANNELS_MAX)?;
        let scaling_factor = json.positive("scaling_factor", SD_SCALING)?;
        let preview = Preview::new(json.rows(LATENT_RGB_FACTORS)?, latent_channels, scaling_factor)
            .map_err(|why| json.error(LATENT_RGB_FACTORS, why))?;
        Ok(Self { block_channels, layers_per_block, latent_channels, norm_groups, scaling_factor, preview })
    }

    /// Returns the pixels per latent row or column.
    #[must_use]
    pub fn factor(&self) -> usize {
        1 << (self.block_channels.len() - 1)
    }
}

/// Stable Diffusion's VAE, which PixArt-α uses (stabilityai/sd-vae-ft-ema, `config.json`).
pub(crate) fn sd_vae() -> VaeConfig {
    VaeConfig {
        block_channels: vec![128, 256, 512, 512],
        layers_per_block: 2,
        latent_channels: 4,
        norm_groups: 32,
        scaling_factor: SD_SCALING,
        preview: Some(Preview::SD),
    }
}

#[cfg(test)]
mod tests;
