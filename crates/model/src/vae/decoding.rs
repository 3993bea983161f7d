//! The decoding half: latents to pictures.

use burn::tensor::{Device, Tensor};
use pixart_kernels::Resampling;
use pixart_weights::{Folder, Weights};

use super::layers::{Conv, GroupNorm, Pointwise, Resnet};
use super::strips::Strips;
use super::{Mid, RGB, channels_first, channels_last, resnets};
use crate::config::VaeConfig;
use crate::params::Params;
use crate::plan::DecodeMode;
use crate::{Error, Taps};

/// Latents to pictures: what drawing needs of an autoencoder.
pub struct VaeDecoder {
    config: VaeConfig,
    post_quant: Pointwise,
    decoder: Decoder,
}

impl VaeDecoder {
    /// Reads the decoding half of `vae/`.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub async fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        let weights = Weights::open(folder, "vae", "diffusion_pytorch_model").await?;
        Self::from_params(&Params::new(&weights, device), VaeConfig::read(folder)?).await
    }

    pub(crate) async fn from_params(params: &Params<'_>, config: VaeConfig) -> Result<Self, Error> {
        let z = config.latent_channels;
        let post_quant = Pointwise::load(&params.at("post_quant_conv"), z, z).await?;
        let loaded = Self { post_quant, decoder: Decoder::load(&params.at("decoder"), &config).await?, config };
        params.settled().await?;
        Ok(loaded)
    }

    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// [`super::Vae::decode`]. Strips give the numbers of the whole; tiles, each decoded as if it were a picture, do not.
    #[must_use]
    pub fn decode(&self, latent: Tensor<4>, how: DecodeMode) -> Tensor<4> {
        let within = |latent, limit_bytes| self.forward(latent, limit_bytes, &mut Taps::off());
        match how {
            DecodeMode::Whole => within(latent, u64::MAX),
            DecodeMode::Strips { limit_bytes } => within(latent, limit_bytes),
            DecodeMode::Tiles(tiling) => tiling.decode(latent, |tile| within(tile, u64::MAX)),
        }
    }

    pub(super) fn forward(&self, latent: Tensor<4>, limit_bytes: u64, taps: &mut Taps) -> Tensor<4> {
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
    async fn load(params: &Params<'_>, config: &VaeConfig) -> Result<Self, Error> {
        let groups = config.norm_groups;
        let widths: Vec<usize> = config.block_channels.iter().rev().copied().collect();
        let [widest, narrowest] = [widths[0], widths[widths.len() - 1]];
        let mut blocks = Vec::with_capacity(widths.len());
        for index in 0..widths.len() {
            let block = params.at(format!("up_blocks.{index}"));
            let inputs = widths[index.saturating_sub(1)];
            // The decoder's blocks have one resnet more than the encoder's.
            let resnets = resnets(&block, config.layers_per_block + 1, inputs, widths[index], groups).await?;
            let last = index + 1 == widths.len();
            let upsampler = block.at("upsamplers.0.conv");
            let width = widths[index];
            let load = Conv::load(&upsampler, width, width, Resampling::Upsample2x);
            blocks.push(UpBlock { resnets, upsampler: if last { None } else { Some(load.await?) } });
        }
        Ok(Self {
            conv_in: Conv::load(&params.at("conv_in"), config.latent_channels, widest, Resampling::None).await?,
            mid: Mid::load(&params.at("mid_block"), widest, groups).await?,
            blocks,
            norm_out: GroupNorm::load(&params.at("conv_norm_out"), narrowest, groups).await?,
            conv_out: Conv::load(&params.at("conv_out"), narrowest, RGB, Resampling::None).await?,
        })
    }

    /// `[B, H, W, Z]` → `[B, 3, 8·H, 8·W]`.
    fn forward(&self, x: Tensor<4>, limit_bytes: u64, taps: &mut Taps) -> Tensor<4> {
        let x = self.conv_in.over(Strips::whole(x), None);
        taps.show(format_args!("dec.conv_in"), || channels_first(x.clone().joined()));
        let mut x = self.mid.over(x, "dec", taps).within(limit_bytes);
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
