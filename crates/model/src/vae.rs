//! The KL autoencoder (VAE): images to latents and back, whole, in strips or in tiles.
//!
//! Public tensors and taps are `[B, C, H, W]`; inside, tensors are `[B, H, W, C]`.
//!
//! Source: Rombach et al. 2022; diffusers `AutoencoderKL` (`vae.py`, `resnet.py`, `unet_2d_blocks.py`).

use burn::tensor::{Device, Tensor};
use pixart_weights::packer::VAE;
use pixart_weights::{Folder, Weights};

use crate::loading::config::VaeConfig;
use crate::loading::inventory::{declared, named_shapes};
use crate::loading::quantization_policy::is_of_decoder;
use crate::loading::var_builder::{DeclaredTensor, NamedShape, VarBuilder};
use crate::{Error, Taps};

mod decoding;
mod encoding;
mod layers;
mod strips;
mod tiling;

pub use decoding::{DecodeMode, VaeDecoder};
pub use encoding::VaeEncoder;
pub use tiling::Tiling;

use layers::{ResnetBlock, VaeAttention};
use strips::Strips;

pub(crate) use layers::{CHANNEL_ALIGNMENT, KERNEL_SIZE};
pub(crate) use strips::row_ranges;

/// Both halves of the autoencoder.
pub struct Vae {
    encoder: VaeEncoder,
    decoder: VaeDecoder,
}

/// Posterior of the encoder: a normal distribution per latent number, each `[B, latent_channels, H, W]` (diffusers
/// `DiagonalGaussianDistribution`).
pub struct DiagonalGaussian {
    pub mean: Tensor<4>,
    pub log_variance: Tensor<4>,
}

impl DiagonalGaussian {
    /// Returns exp(log_variance / 2).
    #[must_use]
    pub fn std(&self) -> Tensor<4> {
        (self.log_variance.clone() * 0.5).exp()
    }

    /// Returns mean + std·noise.
    #[must_use]
    pub fn sample(&self, noise: Tensor<4>) -> Tensor<4> {
        self.mean.clone() + self.std() * noise
    }
}

impl Vae {
    /// Loads `vae/`.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub async fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        let weights = Weights::open(folder, VAE.0, VAE.1).await?;
        Self::from_vars(&VarBuilder::new(&weights, device), VaeConfig::read(folder)?).await
    }

    async fn from_vars(vb: &VarBuilder<'_>, config: VaeConfig) -> Result<Self, Error> {
        Ok(Self {
            encoder: VaeEncoder::from_vars(vb, config.clone()).await?,
            decoder: VaeDecoder::from_vars(vb, config).await?,
        })
    }

    pub fn config(&self) -> &VaeConfig {
        self.decoder.config()
    }

    /// Decodes unscaled latents `[B, latent_channels, H, W]` to images in [-1, 1] `[B, 3, 8·H, 8·W]`.
    #[must_use]
    pub fn decode(&self, latents: Tensor<4>, taps: &mut Taps) -> Tensor<4> {
        self.decoder.forward(latents, u64::MAX, taps)
    }

    /// See [`VaeDecoder::decode`].
    #[must_use]
    pub fn decode_as(&self, latents: Tensor<4>, mode: DecodeMode) -> Tensor<4> {
        self.decoder.decode(latents, mode)
    }

    /// See [`VaeEncoder::encode`].
    #[must_use]
    pub fn encode(&self, image: Tensor<4>, taps: &mut Taps) -> DiagonalGaussian {
        self.encoder.encode(image, taps)
    }

    /// See [`VaeEncoder::encode_tiled`].
    #[must_use]
    pub fn encode_tiled(&self, image: Tensor<4>, tiling: Tiling) -> DiagonalGaussian {
        self.encoder.encode_tiled(image, tiling)
    }
}

impl VaeConfig {
    /// Returns the tensors that [`Vae`] loads, by name and shape.
    pub(crate) fn inventory(&self) -> Vec<NamedShape> {
        named_shapes(self.declared())
    }

    /// Returns the bytes of the tensors of the decoder.
    pub(crate) fn decoder_bytes(&self) -> u64 {
        let is_decoders = |tensor: &&DeclaredTensor| is_of_decoder(&tensor.name);
        self.declared().iter().filter(is_decoders).map(DeclaredTensor::bytes).sum()
    }

    fn declared(&self) -> Vec<DeclaredTensor> {
        declared(async |vb| Vae::from_vars(vb, self.clone()).await)
    }
}

/// Middle block of either half (diffusers `UNetMidBlock2D`).
struct MidBlock {
    resnet_0: ResnetBlock,
    attention: VaeAttention,
    resnet_1: ResnetBlock,
}

impl MidBlock {
    async fn load(vb: &VarBuilder<'_>, channels: usize, groups: usize) -> Result<Self, Error> {
        Ok(Self {
            resnet_0: ResnetBlock::load(&vb.pp("resnets.0"), channels, channels, groups).await?,
            attention: VaeAttention::load(&vb.pp("attentions.0"), channels, groups).await?,
            resnet_1: ResnetBlock::load(&vb.pp("resnets.1"), channels, channels, groups).await?,
        })
    }

    fn forward_strips(&self, x: Strips, side: &str, taps: &mut Taps) -> Strips {
        let x = self.resnet_0.forward_strips(x);
        taps.record_with(format_args!("{side}.mid_res0"), || channels_first(x.clone().concat()));
        let x = self.attention.forward_strips(x);
        taps.record_with(format_args!("{side}.mid_attn"), || channels_first(x.clone().concat()));
        let x = self.resnet_1.forward_strips(x);
        taps.record_with(format_args!("{side}.mid_block"), || channels_first(x.clone().concat()));
        x
    }
}

/// Loads `resnets.0..count` of `block`. The first one changes the channels from `inputs` to `outputs`.
async fn resnets(
    block: &VarBuilder<'_>,
    count: usize,
    inputs: usize,
    outputs: usize,
    groups: usize,
) -> Result<Vec<ResnetBlock>, Error> {
    let mut resnets = Vec::with_capacity(count);
    for index in 0..count {
        let inputs = if index == 0 { inputs } else { outputs };
        resnets.push(ResnetBlock::load(&block.pp(format!("resnets.{index}")), inputs, outputs, groups).await?);
    }
    Ok(resnets)
}

/// Permutes `[B, C, H, W]` to `[B, H, W, C]`, without a copy.
fn channels_last(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 2, 3, 1])
}

/// Permutes `[B, H, W, C]` to `[B, C, H, W]`, without a copy.
fn channels_first(x: Tensor<4>) -> Tensor<4> {
    x.permute([0, 3, 1, 2])
}
