//! The KL autoencoder: pictures to latents and back. Untiled: one call holds the whole picture's activations.
//!
//! Source: Rombach et al. 2022; diffusers `AutoencoderKL` (`vae.py`, `resnet.py`, `unet_2d_blocks.py`).

use burn::tensor::{Device, Tensor, activation::silu};
use pixart_weights::{Folder, Tensors};

use crate::config::VaeConfig;
use crate::params::Params;
use crate::{Error, Taps};

mod layers;

use layers::{Attention, Conv, GroupNorm, Resnet};

/// Channels of a picture.
const RGB: usize = 3;
/// Bounds of the posterior's log-variance (diffusers `DiagonalGaussianDistribution`).
const LOG_VARIANCE: [f64; 2] = [-30.0, 20.0];

/// The autoencoder's weights.
pub struct Vae {
    config: VaeConfig,
    encoder: Encoder,
    quant: Conv,
    post_quant: Conv,
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
            quant: Conv::load(&params.at("quant_conv"), 2 * z, 2 * z, 1)?,
            post_quant: Conv::load(&params.at("post_quant_conv"), z, z, 1)?,
            decoder: Decoder::load(&params.at("decoder"), &config)?,
            config,
        })
    }

    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Unscaled latent `[B, latent_channels, H, W]` → picture in -1..1 `[B, 3, 8·H, 8·W]`.
    #[must_use]
    pub fn decode(&self, latent: Tensor<4>, taps: &mut Taps) -> Tensor<4> {
        let x = self.post_quant.forward(latent);
        taps.see(format_args!("post_quant_conv"), &x);
        self.decoder.forward(x, taps)
    }

    /// Picture in -1..1 `[B, 3, H, W]` → moments at an eighth of its sides.
    #[must_use]
    pub fn encode(&self, picture: Tensor<4>, taps: &mut Taps) -> Moments {
        let x = self.quant.forward(self.encoder.forward(picture, taps)); // [B, 2·Z, H/8, W/8]
        taps.see(format_args!("quant_conv"), &x);
        let [b, _, h, w] = x.dims();
        let z = self.config.latent_channels;
        Moments {
            mean: x.clone().slice([0..b, 0..z, 0..h, 0..w]),
            log_variance: x.slice([0..b, z..2 * z, 0..h, 0..w]).clamp(LOG_VARIANCE[0], LOG_VARIANCE[1]),
        }
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
            let upsampler = (!last).then(|| Conv::load(&upsampler, widths[index], widths[index], 3)).transpose()?;
            Ok(UpBlock { resnets, upsampler })
        };
        Ok(Self {
            conv_in: Conv::load(&params.at("conv_in"), config.latent_channels, widest, 3)?,
            mid: Mid::load(&params.at("mid_block"), widest, groups)?,
            blocks: (0..widths.len()).map(block).collect::<Result<_, Error>>()?,
            norm_out: GroupNorm::load(&params.at("conv_norm_out"), narrowest, groups)?,
            conv_out: Conv::load(&params.at("conv_out"), narrowest, RGB, 3)?,
        })
    }

    fn forward(&self, x: Tensor<4>, taps: &mut Taps) -> Tensor<4> {
        let x = self.conv_in.forward(x);
        taps.see(format_args!("dec.conv_in"), &x);
        let mut x = self.mid.forward(x, "dec", taps);
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.resnets.iter().fold(x, |x, resnet| resnet.forward(x));
            if let Some(upsampler) = &block.upsampler {
                x = upsampler.forward(layers::twice(x));
            }
            taps.see(format_args!("dec.block{index}"), &x);
        }
        let x = self.norm_out.forward(x);
        taps.see(format_args!("dec.conv_norm_out"), &x);
        let x = self.conv_out.forward(silu(x));
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
            let downsampler = (!last).then(|| Conv::load_halving(&downsampler, widths[index])).transpose()?;
            Ok(DownBlock { resnets, downsampler })
        };
        Ok(Self {
            conv_in: Conv::load(&params.at("conv_in"), RGB, narrowest, 3)?,
            blocks: (0..widths.len()).map(block).collect::<Result<_, Error>>()?,
            mid: Mid::load(&params.at("mid_block"), widest, groups)?,
            norm_out: GroupNorm::load(&params.at("conv_norm_out"), widest, groups)?,
            conv_out: Conv::load(&params.at("conv_out"), widest, 2 * config.latent_channels, 3)?,
        })
    }

    fn forward(&self, x: Tensor<4>, taps: &mut Taps) -> Tensor<4> {
        let mut x = self.conv_in.forward(x);
        taps.see(format_args!("enc.conv_in"), &x);
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.resnets.iter().fold(x, |x, resnet| resnet.forward(x));
            if let Some(downsampler) = &block.downsampler {
                x = downsampler.forward(x);
            }
            taps.see(format_args!("enc.block{index}"), &x);
        }
        let x = self.mid.forward(x, "enc", taps);
        let x = self.norm_out.forward(x);
        taps.see(format_args!("enc.conv_norm_out"), &x);
        let x = self.conv_out.forward(silu(x));
        taps.see(format_args!("enc.conv_out"), &x);
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
        taps.see(format_args!("{side}.mid_res0"), &x);
        let x = self.attention.forward(x);
        taps.see(format_args!("{side}.mid_attn"), &x);
        let x = self.second.forward(x);
        taps.see(format_args!("{side}.mid_block"), &x);
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
