//! The KL autoencoder: pictures to latents and back, at once or in tiles.
//!
//! Latents and pictures are `[B, C, H, W]` at its borders and `[B, H, W, C]` inside; taps are `[B, C, H, W]`.
//!
//! Source: Rombach et al. 2022; diffusers `AutoencoderKL` (`vae.py`, `resnet.py`, `unet_2d_blocks.py`).

use burn::tensor::{Device, Tensor};
use pixart_kernels::Sampling;
use pixart_weights::{Folder, Tensors};

use crate::config::VaeConfig;
use crate::params::Params;
use crate::plan::Decode;
use crate::{Error, Taps};

pub(crate) mod footprint;
mod layers;
mod strips;
mod tiling;

pub use tiling::Tiling;

use layers::{Attention, Conv, GroupNorm, Pointwise, Resnet};
use strips::Strips;

/// Channels of a picture.
const RGB: usize = 3;
/// Bounds of the posterior's log-variance (diffusers `DiagonalGaussianDistribution`).
const LOG_VARIANCE: [f64; 2] = [-30.0, 20.0];

/// The autoencoder's weights.
pub struct Vae {
    encoder: Encoder,
    quant: Pointwise,
    decoding: Decoding,
}

/// Latents to pictures: what drawing needs of an autoencoder.
pub struct Decoding {
    config: VaeConfig,
    post_quant: Pointwise,
    decoder: Decoder,
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
    pub fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        let config = VaeConfig::read(folder)?;
        let tensors = Tensors::open(folder, "vae", "diffusion_pytorch_model")?;
        let params = Params::new(&tensors, device);
        let z = config.latent_channels;
        Ok(Self {
            encoder: Encoder::load(&params.at("encoder"), &config)?,
            quant: Pointwise::load(&params.at("quant_conv"), 2 * z, 2 * z)?,
            decoding: Decoding::from_params(&params, config)?,
        })
    }

    pub fn config(&self) -> &VaeConfig {
        &self.decoding.config
    }

    /// Unscaled latent `[B, latent_channels, H, W]` → picture in -1..1 `[B, 3, 8·H, 8·W]`.
    #[must_use]
    pub fn decode(&self, latent: Tensor<4>, taps: &mut Taps) -> Tensor<4> {
        self.decoding.forward(latent, u64::MAX, taps)
    }

    /// [`Vae::decode`] in tiles.
    #[must_use]
    pub fn decode_tiled(&self, latent: Tensor<4>, tiling: Tiling) -> Tensor<4> {
        self.decoding.decode(latent, Decode::Tiles(tiling))
    }

    /// Picture in -1..1 `[B, 3, H, W]` → moments at an eighth of its sides.
    #[must_use]
    pub fn encode(&self, picture: Tensor<4>, taps: &mut Taps) -> Moments {
        let x = self.parameters(picture, taps);
        taps.see(format_args!("quant_conv"), &x);
        self.moments(x)
    }

    /// [`Vae::encode`] in tiles.
    #[must_use]
    pub fn encode_tiled(&self, picture: Tensor<4>, tiling: Tiling) -> Moments {
        self.moments(tiling.encode(picture, |tile| self.parameters(tile, &mut Taps::off())))
    }

    /// Picture → means and log-variances `[B, 2·Z, H/8, W/8]`.
    fn parameters(&self, picture: Tensor<4>, taps: &mut Taps) -> Tensor<4> {
        channels_first(self.quant.forward(self.encoder.forward(picture, taps)))
    }

    fn moments(&self, parameters: Tensor<4>) -> Moments {
        let [b, _, h, w] = parameters.dims();
        let z = self.config().latent_channels;
        let log_variance = parameters.clone().slice([0..b, z..2 * z, 0..h, 0..w]);
        Moments {
            mean: parameters.slice([0..b, 0..z, 0..h, 0..w]),
            log_variance: log_variance.clamp(LOG_VARIANCE[0], LOG_VARIANCE[1]),
        }
    }
}

impl Decoding {
    /// Reads the decoding half of `vae/`.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        let tensors = Tensors::open(folder, "vae", "diffusion_pytorch_model")?;
        Self::from_params(&Params::new(&tensors, device), VaeConfig::read(folder)?)
    }

    pub(crate) fn from_params(params: &Params<'_>, config: VaeConfig) -> Result<Self, Error> {
        let z = config.latent_channels;
        let post_quant = Pointwise::load(&params.at("post_quant_conv"), z, z)?;
        Ok(Self { post_quant, decoder: Decoder::load(&params.at("decoder"), &config)?, config })
    }

    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// [`Vae::decode`]. Strips give the numbers of the whole; tiles, each decoded as if it were a picture, do not.
    #[must_use]
    pub fn decode(&self, latent: Tensor<4>, how: Decode) -> Tensor<4> {
        let within = |latent, limit_bytes| self.forward(latent, limit_bytes, &mut Taps::off());
        match how {
            Decode::Whole => within(latent, u64::MAX),
            Decode::Strips { limit_bytes } => within(latent, limit_bytes),
            Decode::Tiles(tiling) => tiling.decode(latent, |tile| within(tile, u64::MAX)),
        }
    }

    fn forward(&self, latent: Tensor<4>, limit_bytes: u64, taps: &mut Taps) -> Tensor<4> {
        let x = self.post_quant.forward(channels_last(latent));
        taps.show(format_args!("post_quant_conv"), || channels_first(x.clone()));
        self.decoder.forward(x, limit_bytes, taps)
    }
}

struct Decoder {
    conv_in: Conv,
    mid: Mid,
    blocks: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv,
}

struct UpBlock {
    resnets: Vec<Resnet>,
    upsampler: Option<Conv>,
}

impl Decoder {
    fn load(params: &Params<'_>, config: &VaeConfig) -> Result<Self, Error> {
        let groups = config.norm_groups;
        let widths: Vec<usize> = config.block_channels.iter().rev().copied().collect();
        let [widest, narrowest] = [widths[0], widths[widths.len() - 1]];
        let block = |index: usize| {
            let block = params.at(format!("up_blocks.{index}"));
            let inputs = widths[index.saturating_sub(1)];
            // The decoder's blocks have one resnet more than the encoder's.
            let resnets = resnets(&block, config.layers_per_block + 1, inputs, widths[index], groups)?;
            let last = index + 1 == widths.len();
            let upsampler = block.at("upsamplers.0.conv");
            let width = widths[index];
            let upsampler = (!last).then(|| Conv::load(&upsampler, width, width, Sampling::Doubled)).transpose()?;
            Ok(UpBlock { resnets, upsampler })
        };
        Ok(Self {
            conv_in: Conv::load(&params.at("conv_in"), config.latent_channels, widest, Sampling::Same)?,
            mid: Mid::load(&params.at("mid_block"), widest, groups)?,
            blocks: (0..widths.len()).map(block).collect::<Result<_, Error>>()?,
            norm_out: GroupNorm::load(&params.at("conv_norm_out"), narrowest, groups)?,
            conv_out: Conv::load(&params.at("conv_out"), narrowest, RGB, Sampling::Same)?,
        })
    }

    /// `[B, H, W, Z]` → `[B, 3, 8·H, 8·W]`.
    fn forward(&self, x: Tensor<4>, limit_bytes: u64, taps: &mut Taps) -> Tensor<4> {
        let x = self.conv_in.forward(x);
        taps.show(format_args!("dec.conv_in"), || channels_first(x.clone()));
        let mut x = Strips::whole(self.mid.forward(x, "dec", taps), limit_bytes);
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.resnets.iter().fold(x, |x, resnet| resnet.over(x));
            if let Some(upsampler) = &block.upsampler {
                x = upsampler.over(x, None);
            }
            taps.show(format_args!("dec.block{index}"), || channels_first(x.clone().joined()));
        }
        taps.show(format_args!("dec.conv_norm_out"), || channels_first(self.norm_out.forward(x.clone().joined())));
        let x = channels_first(self.conv_out.over(x, Some(&self.norm_out)).joined());
        taps.see(format_args!("dec.conv_out"), &x);
        x
    }
}

struct Encoder {
    conv_in: Conv,
    blocks: Vec<DownBlock>,
    mid: Mid,
    norm_out: GroupNorm,
    conv_out: Conv,
}

struct DownBlock {
    resnets: Vec<Resnet>,
    downsampler: Option<Conv>,
}

impl Encoder {
    fn load(params: &Params<'_>, config: &VaeConfig) -> Result<Self, Error> {
        let groups = config.norm_groups;
        let widths = &config.block_channels;
        let [narrowest, widest] = [widths[0], widths[widths.len() - 1]];
        let block = |index: usize| {
            let block = params.at(format!("down_blocks.{index}"));
            let inputs = widths[index.saturating_sub(1)];
            let resnets = resnets(&block, config.layers_per_block, inputs, widths[index], groups)?;
            let last = index + 1 == widths.len();
            let downsampler = block.at("downsamplers.0.conv");
            let width = widths[index];
            let downsampler = (!last).then(|| Conv::load(&downsampler, width, width, Sampling::Halved)).transpose()?;
            Ok(DownBlock { resnets, downsampler })
        };
        Ok(Self {
            conv_in: Conv::load(&params.at("conv_in"), RGB, narrowest, Sampling::Same)?,
            blocks: (0..widths.len()).map(block).collect::<Result<_, Error>>()?,
            mid: Mid::load(&params.at("mid_block"), widest, groups)?,
            norm_out: GroupNorm::load(&params.at("conv_norm_out"), widest, groups)?,
            conv_out: Conv::load(&params.at("conv_out"), widest, 2 * config.latent_channels, Sampling::Same)?,
        })
    }

    /// `[B, 3, H, W]` → `[B, H/8, W/8, 2·Z]`.
    fn forward(&self, picture: Tensor<4>, taps: &mut Taps) -> Tensor<4> {
        let mut x = self.conv_in.forward(channels_last(picture));
        taps.show(format_args!("enc.conv_in"), || channels_first(x.clone()));
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.resnets.iter().fold(x, |x, resnet| resnet.forward(x));
            if let Some(downsampler) = &block.downsampler {
                x = downsampler.forward(x);
            }
            taps.show(format_args!("enc.block{index}"), || channels_first(x.clone()));
        }
        let x = self.mid.forward(x, "enc", taps);
        taps.show(format_args!("enc.conv_norm_out"), || channels_first(self.norm_out.forward(x.clone())));
        let x = self.conv_out.forward(self.norm_out.activated(x));
        taps.show(format_args!("enc.conv_out"), || channels_first(x.clone()));
        x
    }
}

struct Mid {
    first: Resnet,
    attention: Attention,
    second: Resnet,
}

impl Mid {
    fn load(params: &Params<'_>, channels: usize, groups: usize) -> Result<Self, Error> {
        Ok(Self {
            first: Resnet::load(&params.at("resnets.0"), channels, channels, groups)?,
            attention: Attention::load(&params.at("attentions.0"), channels, groups)?,
            second: Resnet::load(&params.at("resnets.1"), channels, channels, groups)?,
        })
    }

    fn forward(&self, x: Tensor<4>, side: &str, taps: &mut Taps) -> Tensor<4> {
        let x = self.first.forward(x);
        taps.show(format_args!("{side}.mid_res0"), || channels_first(x.clone()));
        let x = self.attention.forward(x);
        taps.show(format_args!("{side}.mid_attn"), || channels_first(x.clone()));
        let x = self.second.forward(x);
        taps.show(format_args!("{side}.mid_block"), || channels_first(x.clone()));
        x
    }
}

/// `resnets.0..count` below `block`; the first one changes the width.
fn resnets(
    block: &Params<'_>,
    count: usize,
    inputs: usize,
    outputs: usize,
    groups: usize,
) -> Result<Vec<Resnet>, Error> {
    let widths = std::iter::once(inputs).chain(std::iter::repeat(outputs));
    (0..count)
        .zip(widths)
        .map(|(index, inputs)| Resnet::load(&block.at(format!("resnets.{index}")), inputs, outputs, groups))
        .collect()
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
