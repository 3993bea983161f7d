//! The configuration files of a diffusers folder, read key by key. A missing or unsupported value is an error that names the
//! key. Unknown keys are ignored, as by diffusers.

use pixart_kernels::WIDEST_CHANNELS;
use pixart_weights::Folder;
use serde_json::{Map, Value};

use crate::Error;
use crate::image::{Preview, SD_SCALING};

/// A JSON configuration file.
pub(crate) struct Json {
    file: String,
    value: Value,
}

impl Json {
    pub(crate) fn read(folder: &Folder, file: &str) -> Result<Self, Error> {
        let bad = |why: String| Error::Config { file: file.into(), key: "(whole file)".into(), why };
        let text = std::str::from_utf8(folder.bytes(file)?).map_err(|error| bad(error.to_string()))?;
        // Python writes bare infinities, which JSON does not allow. An infinite bound is no bound.
        let text = text.replace(": -Infinity", ": null").replace(": Infinity", ": null");
        let value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        Ok(Self { file: file.into(), value })
    }

    pub(crate) fn error(&self, key: &str, why: impl Into<String>) -> Error {
        Error::Config { file: self.file.clone(), key: key.into(), why: why.into() }
    }

    /// Returns all keys and values.
    pub(crate) fn object(&self) -> Result<Map<String, Value>, Error> {
        let object = self.value.as_object().cloned();
        object.ok_or_else(|| self.error("(whole file)", "it is not a JSON object"))
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    fn required(&self, key: &str) -> Result<&Value, Error> {
        self.get(key).ok_or_else(|| self.error(key, "the key is missing"))
    }

    pub(crate) fn count(&self, key: &str) -> Result<usize, Error> {
        let value = self.required(key)?;
        let count = value.as_u64().filter(|count| *count > 0);
        count.map(|count| count as usize).ok_or_else(|| self.error(key, format!("{value} is not a positive integer")))
    }

    /// Returns a channel count, which must be a multiple of 4: kernels read `vec4`s.
    pub(crate) fn channels(&self, key: &str) -> Result<usize, Error> {
        let count = self.count(key)?;
        if count.is_multiple_of(4) {
            Ok(count)
        } else {
            Err(self.error(key, format!("{count} is not a multiple of 4")))
        }
    }

    pub(crate) fn counts(&self, key: &str) -> Result<Vec<usize>, Error> {
        let value = self.required(key)?;
        let list = value.as_array().map(|list| list.iter().map(|item| item.as_u64().map(|n| n as usize)).collect());
        list.flatten().ok_or_else(|| self.error(key, format!("{value} is not a list of integers")))
    }

    pub(crate) fn number(&self, key: &str) -> Result<f64, Error> {
        let value = self.required(key)?;
        value.as_f64().ok_or_else(|| self.error(key, format!("{value} is not a number")))
    }

    /// Returns a list of lists of numbers, or none if the key is missing.
    pub(crate) fn rows(&self, key: &str) -> Result<Option<Vec<Vec<f32>>>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let rows = serde_json::from_value(value.clone());
        rows.map(Some).map_err(|error| self.error(key, format!("it is not a list of lists of numbers: {error}")))
    }

    pub(crate) fn number_or(&self, key: &str, default: f64) -> Result<f64, Error> {
        if self.get(key).is_some() { self.number(key) } else { Ok(default) }
    }

    pub(crate) fn flag_or(&self, key: &str, default: bool) -> Result<bool, Error> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.error(key, format!("{value} is not true or false")))
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, Error> {
        let value = self.required(key)?;
        value.as_str().ok_or_else(|| self.error(key, format!("{value} is not a string")))
    }

    /// Returns an error unless the value of `key` is `supported`. A missing key means `supported`.
    pub(crate) fn require_value(&self, key: &str, supported: impl Into<Value>) -> Result<(), Error> {
        let supported = supported.into();
        match self.get(key) {
            Some(value) if *value != supported => {
                Err(self.error(key, format!("{value} is not supported, only {supported}")))
            }
            _ => Ok(()),
        }
    }
}

/// `transformer/config.json`. Source: diffusers `PixArtTransformer2DModel.__init__`.
#[derive(Clone, Debug, PartialEq)]
pub struct DitConfig {
    pub heads: usize,
    pub head_channels: usize,
    pub layers: usize,
    pub latent_channels: usize,
    pub out_channels: usize,
    pub caption_channels: usize,
    /// Latent rows and columns that the checkpoint was trained at.
    pub sample_size: usize,
    pub interpolation_scale: f64,
    /// Whether the network embeds resolution and aspect ratio.
    pub micro_conditions: bool,
    pub norm_eps: f64,
}

/// Latent rows and columns of one token. Every PixArt checkpoint has 2.
pub(crate) const PATCH: usize = 2;
/// Sinusoid channels of a scalar condition (diffusers `PixArtAlphaCombinedTimestepSizeEmbeddings`).
pub(crate) const SINUSOID_CHANNELS: usize = 256;
/// The pipeline passes micro-conditions to checkpoints of this sample size only (diffusers `PixArtAlphaPipeline`).
pub(crate) const MICRO_CONDITION_SAMPLE_SIZE: usize = 128;

impl DitConfig {
    pub(crate) fn read(folder: &Folder) -> Result<Self, Error> {
        let json = Json::read(folder, "transformer/config.json")?;
        json.require_value("patch_size", PATCH)?;
        json.require_value("activation_fn", "gelu-approximate")?;
        json.require_value("norm_type", "ada_norm_single")?;
        json.require_value("attention_bias", true)?;
        json.require_value("norm_elementwise_affine", false)?;
        let sample_size = json.count("sample_size")?;
        Ok(Self {
            heads: json.count("num_attention_heads")?,
            head_channels: json.channels("attention_head_dim")?,
            layers: json.count("num_layers")?,
            latent_channels: json.count("in_channels")?,
            out_channels: json.count("out_channels")?,
            caption_channels: json.channels("caption_channels")?,
            sample_size,
            interpolation_scale: json.number_or("interpolation_scale", (sample_size / 64).max(1) as f64)?,
            micro_conditions: json.flag_or("use_additional_conditions", sample_size == MICRO_CONDITION_SAMPLE_SIZE)?,
            norm_eps: json.number_or("norm_eps", 1e-6)?,
        })
    }

    pub(crate) fn channels(&self) -> usize {
        self.heads * self.head_channels
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
        json.require_value("feed_forward_proj", "gated-gelu")?;
        Ok(Self {
            vocabulary: json.count("vocab_size")?,
            channels: json.channels("d_model")?,
            head_channels: json.channels("d_kv")?,
            heads: json.count("num_heads")?,
            layers: json.count("num_layers")?,
            hidden_channels: json.channels("d_ff")?,
            position_buckets: json.count("relative_attention_num_buckets")?,
            position_distance_max: json.number_or("relative_attention_max_distance", 128.0)? as usize,
            norm_eps: json.number_or("layer_norm_epsilon", 1e-6)?,
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
        json.require_value("act_fn", "silu")?;
        json.require_value("in_channels", 3)?;
        json.require_value("out_channels", 3)?;
        json.require_value("mid_block_add_attention", true)?;
        json.require_value("use_quant_conv", true)?;
        json.require_value("use_post_quant_conv", true)?;
        let block_channels = json.counts("block_out_channels")?;
        let widest = block_channels.iter().copied().max().unwrap_or_default();
        if !(1..=WIDEST_CHANNELS).contains(&widest) || block_channels.iter().any(|width| !width.is_multiple_of(4)) {
            let why = format!("{block_channels:?} are not multiples of 4 up to {WIDEST_CHANNELS}");
            return Err(json.error("block_out_channels", why));
        }
        let layers_per_block = json.count("layers_per_block")?;
        let (latent_channels, scaling_factor) = (json.count("latent_channels")?, json.number("scaling_factor")?);
        let preview = Preview::new(json.rows(LATENT_RGB_FACTORS)?, latent_channels, scaling_factor)
            .map_err(|why| json.error(LATENT_RGB_FACTORS, why))?;
        Ok(Self {
            block_channels,
            layers_per_block,
            latent_channels,
            norm_groups: json.count("norm_num_groups")?,
            scaling_factor,
            preview,
        })
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
mod tests {
    use super::*;

    fn folder(file: &str, text: &str) -> Folder {
        let mut folder = Folder::default();
        folder.insert(file, text.as_bytes().to_vec());
        folder
    }

    #[test]
    fn a_missing_key_is_named_with_its_file() {
        let folder = folder("vae/config.json", r#"{"block_out_channels": [8], "latent_channels": 4}"#);
        let error = VaeConfig::read(&folder).expect_err("layers_per_block is missing");
        assert_eq!(error.to_string(), "vae/config.json: `layers_per_block`: the key is missing");
    }

    #[test]
    fn a_vae_reads_its_map_to_rgb_or_names_the_key() {
        let read = |factors: &str| {
            let vae = r#"{"block_out_channels": [8], "layers_per_block": 1, "latent_channels": 4, "norm_num_groups": 4,
                "scaling_factor": 1.0, "latent_rgb_factors": FACTORS}"#;
            VaeConfig::read(&folder("vae/config.json", &vae.replace("FACTORS", factors)))
        };
        assert!(read("[[1,0,0],[0,1,0],[0,0,1],[0,0,0],[0,0,0.5]]").expect("five rows of three").preview.is_some());
        for bad in ["[[1,0,0]]", "[[1],[1],[1],[1],[1]]", "7"] {
            let error = read(bad).expect_err("not five rows of three numbers");
            assert!(error.to_string().contains(LATENT_RGB_FACTORS), "{error}");
        }
    }

    #[test]
    fn an_unsupported_value_is_named() {
        let folder = folder("text_encoder/config.json", r#"{"feed_forward_proj": "relu"}"#);
        let error = T5Config::read(&folder).expect_err("relu is not supported");
        assert!(error.to_string().contains(r#""relu" is not supported, only "gated-gelu""#), "{error}");
    }

    #[test]
    fn bare_infinities_are_read_as_null() {
        let folder = folder("a.json", "{\"lambda_min_clipped\": -Infinity, \"n\": 3}");
        assert_eq!(Json::read(&folder, "a.json").and_then(|json| json.count("n")).expect("n is there"), 3);
    }
}
