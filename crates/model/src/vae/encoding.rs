//! The encoder half: images to latents.

use burn::tensor::{Device, Tensor};
use pixart_kernels::Resampling;
use pixart_weights::packer::VAE;
use pixart_weights::{Folder, Weights};

use super::layers::{Conv1x1, Conv3x3, GroupNorm, ResnetBlock};
use super::strips::Strips;
use super::{DiagonalGaussian, MidBlock, Tiling, channels_first, channels_last, resnets};
use crate::image::CHANNELS;
use crate::loading::config::VaeConfig;
use crate::loading::var_builder::VarBuilder;
use crate::{Error, Taps};

/// Bounds of the posterior's log-variance (diffusers `DiagonalGaussianDistribution`).
const LOG_VARIANCE_RANGE: [f64; 2] = [-30.0, 20.0];

/// Encoder of the VAE with `quant_conv`: the half that img2img and inpainting need.
pub struct VaeEncoder {
    config: VaeConfig,
    encoder: Encoder,
    quant_conv: Conv1x1,
}

impl VaeEncoder {
    /// Loads the encoder half of `vae/`.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub async fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        let weights = Weights::open(folder, VAE.0, VAE.1).await?;
        Self::from_vars(&VarBuilder::new(&weights, device), VaeConfig::read(folder)?).await
    }

    pub(super) async fn from_vars(vb: &VarBuilder<'_>, config: VaeConfig) -> Result<Self, Error> {
        let z = config.latent_channels;
        let quant_conv = Conv1x1::load(&vb.pp("quant_conv"), 2 * z, 2 * z).await?;
        let loaded = Self { encoder: Encoder::load(&vb.pp("encoder"), &config).await?, quant_conv, config };
        vb.flush_uploads().await?;
        Ok(loaded)
    }

    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Encodes an image in [-1, 1] `[B, 3, H, W]` to the posterior `[B, latent_channels, H/8, W/8]`.
    #[must_use]
    pub fn encode(&self, image: Tensor<4>, taps: &mut Taps) -> DiagonalGaussian {
        let x = self.parameters(image, taps);
        taps.record(format_args!("quant_conv"), &x);
        self.posterior(x)
    }

    /// Encodes in tiles, see [`Tiling`].
    #[must_use]
    pub fn encode_tiled(&self, image: Tensor<4>, tiling: Tiling) -> DiagonalGaussian {
        self.posterior(tiling.encode(image, |tile| self.parameters(tile, &mut Taps::off())))
    }

    /// Returns the largest tiles whose widest tensor is within `limit_bytes`, or none if that of the whole `height` × `width`
    /// is.
    pub(crate) fn tiling(&self, [height, width]: [usize; 2], limit_bytes: u64) -> Option<Tiling> {
        let bytes = |pixels: usize| (pixels * self.config.block_channels[0] * size_of::<f32>()) as u64;
        if bytes(height * width) <= limit_bytes {
            return None;
        }
        let sides = [1024, 512, 256, 128];
        let side = sides.into_iter().find(|side| bytes(side * side) <= limit_bytes).unwrap_or(64);
        Some(Tiling::new(side, self.config.factor()))
    }

    /// Returns means and log-variances `[B, 2·Z, H/8, W/8]`.
    fn parameters(&self, image: Tensor<4>, taps: &mut Taps) -> Tensor<4> {
        channels_first(self.quant_conv.forward(self.encoder.forward(image, taps)))
    }

    fn posterior(&self, parameters: Tensor<4>) -> DiagonalGaussian {
        let [b, _, h, w] = parameters.dims();
        let z = self.config.latent_channels;
        let log_variance = parameters.clone().slice([0..b, z..2 * z, 0..h, 0..w]);
        DiagonalGaussian {
            mean: parameters.slice([0..b, 0..z, 0..h, 0..w]),
            log_variance: log_variance.clamp(LOG_VARIANCE_RANGE[0], LOG_VARIANCE_RANGE[1]),
        }
    }
}

struct Encoder {
    conv_in: Conv3x3,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv3x3,
}

struct DownBlock {
    resnets: Vec<ResnetBlock>,
    downsampler: Option<Conv3x3>,
}

impl Encoder {
    async fn load(vb: &VarBuilder<'_>, config: &VaeConfig) -> Result<Self, Error> {
        let groups = config.norm_groups;
        let channels = &config.block_channels;
        let [narrowest, widest] = [channels[0], channels[channels.len() - 1]];
        let mut down_blocks = Vec::with_capacity(channels.len());
        for index in 0..channels.len() {
            let block = vb.pp(format!("down_blocks.{index}"));
            let inputs = channels[index.saturating_sub(1)];
            let resnets = resnets(&block, config.layers_per_block, inputs, channels[index], groups).await?;
            let last = index + 1 == channels.len();
            let downsampler = block.pp("downsamplers.0.conv");
            let width = channels[index];
            let load = Conv3x3::load(&downsampler, width, width, Resampling::Downsample2x);
            down_blocks.push(DownBlock { resnets, downsampler: if last { None } else { Some(load.await?) } });
        }
        Ok(Self {
            conv_in: Conv3x3::load(&vb.pp("conv_in"), CHANNELS, narrowest, Resampling::None).await?,
            down_blocks,
            mid_block: MidBlock::load(&vb.pp("mid_block"), widest, groups).await?,
            conv_norm_out: GroupNorm::load(&vb.pp("conv_norm_out"), widest, groups).await?,
            conv_out: Conv3x3::load(&vb.pp("conv_out"), widest, 2 * config.latent_channels, Resampling::None).await?,
        })
    }

    /// Encodes `[B, 3, H, W]` to `[B, H/8, W/8, 2·Z]`.
    fn forward(&self, image: Tensor<4>, taps: &mut Taps) -> Tensor<4> {
        let mut x = self.conv_in.forward_strips(Strips::whole(channels_last(image)), None);
        taps.record_with(format_args!("enc.conv_in"), || channels_first(x.clone().concat()));
        for (index, block) in self.down_blocks.iter().enumerate() {
            x = block.resnets.iter().fold(x, |x, resnet| resnet.forward_strips(x));
            if let Some(downsampler) = &block.downsampler {
                x = Strips::whole(downsampler.forward(x.concat(), None));
            }
            taps.record_with(format_args!("enc.block{index}"), || channels_first(x.clone().concat()));
        }
        let x = self.mid_block.forward_strips(x, "enc", taps);
        taps.record_with(format_args!("enc.conv_norm_out"), || {
            channels_first(self.conv_norm_out.forward(x.clone().concat()))
        });
        let x = self.conv_out.forward_strips(x, Some(&self.conv_norm_out)).concat();
        taps.record_with(format_args!("enc.conv_out"), || channels_first(x.clone()));
        x
    }
}
