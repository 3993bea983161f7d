//! The encoding half: pictures to latents.

use burn::tensor::{Device, Tensor};
use pixart_kernels::Resampling;
use pixart_weights::{Folder, Weights};

use super::layers::{Conv, GroupNorm, Pointwise, Resnet};
use super::strips::Strips;
use super::{Mid, Moments, RGB, Tiling, channels_first, channels_last, resnets};
use crate::config::VaeConfig;
use crate::params::Params;
use crate::{Error, Taps};

/// Bounds of the posterior's log-variance (diffusers `DiagonalGaussianDistribution`).
const LOG_VARIANCE: [f64; 2] = [-30.0, 20.0];

/// Pictures to latents: what drawing over a picture needs of an autoencoder.
pub struct VaeEncoder {
    config: VaeConfig,
    encoder: Encoder,
    quant: Pointwise,
}

impl VaeEncoder {
    /// Reads the encoding half of `vae/`.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub async fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        let weights = Weights::open(folder, "vae", "diffusion_pytorch_model").await?;
        Self::from_params(&Params::new(&weights, device), VaeConfig::read(folder)?).await
    }

    pub(super) async fn from_params(params: &Params<'_>, config: VaeConfig) -> Result<Self, Error> {
        let z = config.latent_channels;
        let quant = Pointwise::load(&params.at("quant_conv"), 2 * z, 2 * z).await?;
        let loaded = Self { encoder: Encoder::load(&params.at("encoder"), &config).await?, quant, config };
        params.settled().await?;
        Ok(loaded)
    }

    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Picture in -1..1 `[B, 3, H, W]` → moments at an eighth of its sides.
    #[must_use]
    pub fn encode(&self, picture: Tensor<4>, taps: &mut Taps) -> Moments {
        let x = self.parameters(picture, taps);
        taps.see(format_args!("quant_conv"), &x);
        self.moments(x)
    }

    /// [`VaeEncoder::encode`] in tiles.
    #[must_use]
    pub fn encode_tiled(&self, picture: Tensor<4>, tiling: Tiling) -> Moments {
        self.moments(tiling.encode(picture, |tile| self.parameters(tile, &mut Taps::off())))
    }

    /// The largest tiles whose widest tensor is within `limit_bytes`; none where the whole `height` × `width` is.
    pub(crate) fn tiling(&self, [height, width]: [usize; 2], limit_bytes: u64) -> Option<Tiling> {
        let bytes = |pixels: usize| (pixels * self.config.block_channels[0] * size_of::<f32>()) as u64;
        if bytes(height * width) <= limit_bytes {
            return None;
        }
        let sides = [1024, 512, 256, 128];
        let side = sides.into_iter().find(|side| bytes(side * side) <= limit_bytes).unwrap_or(64);
        Some(Tiling::new(side, self.config.factor()))
    }

    /// Picture → means and log-variances `[B, 2·Z, H/8, W/8]`.
    fn parameters(&self, picture: Tensor<4>, taps: &mut Taps) -> Tensor<4> {
        channels_first(self.quant.forward(self.encoder.forward(picture, taps)))
    }

    fn moments(&self, parameters: Tensor<4>) -> Moments {
        let [b, _, h, w] = parameters.dims();
        let z = self.config.latent_channels;
        let log_variance = parameters.clone().slice([0..b, z..2 * z, 0..h, 0..w]);
        Moments {
            mean: parameters.slice([0..b, 0..z, 0..h, 0..w]),
            log_variance: log_variance.clamp(LOG_VARIANCE[0], LOG_VARIANCE[1]),
        }
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
    async fn load(params: &Params<'_>, config: &VaeConfig) -> Result<Self, Error> {
        let groups = config.norm_groups;
        let widths = &config.block_channels;
        let [narrowest, widest] = [widths[0], widths[widths.len() - 1]];
        let mut blocks = Vec::with_capacity(widths.len());
        for index in 0..widths.len() {
            let block = params.at(format!("down_blocks.{index}"));
            let inputs = widths[index.saturating_sub(1)];
            let resnets = resnets(&block, config.layers_per_block, inputs, widths[index], groups).await?;
            let last = index + 1 == widths.len();
            let downsampler = block.at("downsamplers.0.conv");
            let width = widths[index];
            let load = Conv::load(&downsampler, width, width, Resampling::Downsample2x);
            blocks.push(DownBlock { resnets, downsampler: if last { None } else { Some(load.await?) } });
        }
        Ok(Self {
            conv_in: Conv::load(&params.at("conv_in"), RGB, narrowest, Resampling::None).await?,
            blocks,
            mid: Mid::load(&params.at("mid_block"), widest, groups).await?,
            norm_out: GroupNorm::load(&params.at("conv_norm_out"), widest, groups).await?,
            conv_out: Conv::load(&params.at("conv_out"), widest, 2 * config.latent_channels, Resampling::None).await?,
        })
    }

    /// `[B, 3, H, W]` → `[B, H/8, W/8, 2·Z]`.
    fn forward(&self, picture: Tensor<4>, taps: &mut Taps) -> Tensor<4> {
        let mut x = self.conv_in.over(Strips::whole(channels_last(picture)), None);
        taps.show(format_args!("enc.conv_in"), || channels_first(x.clone().joined()));
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.resnets.iter().fold(x, |x, resnet| resnet.over(x));
            if let Some(downsampler) = &block.downsampler {
                x = Strips::whole(downsampler.forward(x.joined(), None));
            }
            taps.show(format_args!("enc.block{index}"), || channels_first(x.clone().joined()));
        }
        let x = self.mid.over(x, "enc", taps);
        taps.show(format_args!("enc.conv_norm_out"), || channels_first(self.norm_out.forward(x.clone().joined())));
        let x = self.conv_out.over(x, Some(&self.norm_out)).joined();
        taps.show(format_args!("enc.conv_out"), || channels_first(x.clone()));
        x
    }
}
