//! The KL autoencoder: pictures to latents and back, at once or in tiles.
//!
//! Latents and pictures are `[B, C, H, W]` at its borders and `[B, H, W, C]` inside; taps are `[B, C, H, W]`.
//!
//! Source: Rombach et al. 2022; diffusers `AutoencoderKL` (`vae.py`, `resnet.py`, `unet_2d_blocks.py`).

use burn::tensor::{Device, Tensor};
use pixart_weights::{Folder, Weights};

use crate::config::VaeConfig;
use crate::params::Params;
use crate::plan::DecodeMode;
use crate::{Error, Taps};

mod decoding;
mod encoding;
pub(crate) mod footprint;
mod layers;
mod strips;
mod tiling;

pub use decoding::VaeDecoder;
pub use encoding::VaeEncoder;
pub use tiling::Tiling;

use layers::{Attention, Resnet};
use strips::Strips;

/// Channels of a picture.
pub(crate) const RGB: usize = 3;
/// The autoencoder's weights.
pub struct Vae {
    encoding: VaeEncoder,
    decoding: VaeDecoder,
}

/// What the encoder says of a picture: a normal distribution per latent number, each `[B, latent_channels, H, W]`.
pub struct Moments {
    pub mean: Tensor<4>,
    pub log_variance: Tensor<4>,
}

impl Moments {
    #[must_use]
    pub fn standard_deviation(&self) -> Tensor<4> {
        (self.log_variance.clone() * 0.5).exp()
    }

    /// mean + deviation · noise.
    #[must_use]
    pub fn sample(&self, noise: Tensor<4>) -> Tensor<4> {
        self.mean.clone() + self.standard_deviation() * noise
    }
}

impl Vae {
    /// Reads `vae/`.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub async fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        let config = VaeConfig::read(folder)?;
        let weights = Weights::open(folder, "vae", "diffusion_pytorch_model").await?;
        let params = Params::new(&weights, device);
        Ok(Self {
            encoding: VaeEncoder::from_params(&params, config.clone()).await?,
            decoding: VaeDecoder::from_params(&params, config).await?,
        })
    }

    pub fn config(&self) -> &VaeConfig {
        self.decoding.config()
    }

    /// Unscaled latent `[B, latent_channels, H, W]` → picture in -1..1 `[B, 3, 8·H, 8·W]`.
    #[must_use]
    pub fn decode(&self, latent: Tensor<4>, taps: &mut Taps) -> Tensor<4> {
        self.decoding.forward(latent, u64::MAX, taps)
    }

    /// [`Vae::decode`] in tiles.
    #[must_use]
    pub fn decode_tiled(&self, latent: Tensor<4>, tiling: Tiling) -> Tensor<4> {
        self.decoding.decode(latent, DecodeMode::Tiles(tiling))
    }

    /// See [`VaeEncoder::encode`].
    #[must_use]
    pub fn encode(&self, picture: Tensor<4>, taps: &mut Taps) -> Moments {
        self.encoding.encode(picture, taps)
    }

    /// See [`VaeEncoder::encode_tiled`].
    #[must_use]
    pub fn encode_tiled(&self, picture: Tensor<4>, tiling: Tiling) -> Moments {
        self.encoding.encode_tiled(picture, tiling)
    }
}

struct Mid {
    first: Resnet,
    attention: Attention,
    second: Resnet,
}

impl Mid {
    async fn load(params: &Params<'_>, channels: usize, groups: usize) -> Result<Self, Error> {
        Ok(Self {
            first: Resnet::load(&params.at("resnets.0"), channels, channels, groups).await?,
            attention: Attention::load(&params.at("attentions.0"), channels, groups).await?,
            second: Resnet::load(&params.at("resnets.1"), channels, channels, groups).await?,
        })
    }

    fn over(&self, x: Strips, side: &str, taps: &mut Taps) -> Strips {
        let x = self.first.over(x);
        taps.show(format_args!("{side}.mid_res0"), || channels_first(x.clone().joined()));
        let x = self.attention.over(x);
        taps.show(format_args!("{side}.mid_attn"), || channels_first(x.clone().joined()));
        let x = self.second.over(x);
        taps.show(format_args!("{side}.mid_block"), || channels_first(x.clone().joined()));
        x
    }
}

/// `resnets.0..count` below `block`; the first one changes the width.
async fn resnets(
    block: &Params<'_>,
    count: usize,
    inputs: usize,
    outputs: usize,
    groups: usize,
) -> Result<Vec<Resnet>, Error> {
    let mut resnets = Vec::with_capacity(count);
    for index in 0..count {
        let inputs = if index == 0 { inputs } else { outputs };
        resnets.push(Resnet::load(&block.at(format!("resnets.{index}")), inputs, outputs, groups).await?);
    }
    Ok(resnets)
}

/// `[B, C, H, W]` → `[B, H, W, C]`, a view.
fn channels_last(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 2, 3, 1])
}

/// `[B, H, W, C]` → `[B, C, H, W]`, a view.
fn channels_first(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 3, 1, 2])
}

#[cfg(test)]
mod tests;
