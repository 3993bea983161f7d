//! The decoder half: latents to images.

use burn::tensor::{Device, Tensor};
use pixart_kernels::Resampling;
use pixart_weights::packer::VAE;
use pixart_weights::{Folder, Weights};

use super::layers::{Conv1x1, Conv3x3, GroupNorm, ResnetBlock};
use super::strips::Strips;
use super::{MidBlock, Tiling, channels_first, channels_last, resnets};
use crate::image::CHANNELS;
use crate::loading::config::VaeConfig;
use crate::loading::var_builder::VarBuilder;
use crate::{Error, Taps};

/// Decoding strategy of the VAE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeMode {
    /// The whole image at once.
    Whole,
    /// Strips of rows, each in buffers of at most `limit_bytes`. The result is that of `Whole`.
    Strips { limit_bytes: u64 },
    /// Independent tiles that are blended, in the least memory. The result differs from `Whole`, see [`Tiling`].
    Tiles(Tiling),
}

/// Decoder of the VAE with `post_quant_conv`: the half that text-to-image needs.
pub struct VaeDecoder {
    config: VaeConfig,
    post_quant_conv: Conv1x1,
    decoder: Decoder,
}

impl VaeDecoder {
    /// Loads the decoder half of `vae/`.
    ///
    /// # Errors
    /// A missing key or tensor, or one of another shape, by name.
    pub async fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        let weights = Weights::open(folder, VAE.0, VAE.1).await?;
        Self::from_vars(&VarBuilder::new(&weights, device), VaeConfig::read(folder)?).await
    }

    pub(crate) async fn from_vars(vb: &VarBuilder<'_>, config: VaeConfig) -> Result<Self, Error> {
        let z = config.latent_channels;
        let post_quant_conv = Conv1x1::load(&vb.pp("post_quant_conv"), z, z).await?;
        let loaded = Self { post_quant_conv, decoder: Decoder::load(&vb.pp("decoder"), &config).await?, config };
        vb.flush_uploads().await?;
        Ok(loaded)
    }

    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Decodes unscaled latents `[B, latent_channels, H, W]` to images in [-1, 1] `[B, 3, 8·H, 8·W]`. Strips give the result
    /// of whole decoding; tiles do not.
    #[must_use]
    pub fn decode(&self, latents: Tensor<4>, mode: DecodeMode) -> Tensor<4> {
        let within = |latents, limit_bytes| self.forward(latents, limit_bytes, &mut Taps::off());
        match mode {
            DecodeMode::Whole => within(latents, u64::MAX),
            DecodeMode::Strips { limit_bytes } => within(latents, limit_bytes),
            DecodeMode::Tiles(tiling) => tiling.decode(latents, |tile| within(tile, u64::MAX)),
        }
    }

    pub(super) fn forward(&self, latents: Tensor<4>, limit_bytes: u64, taps: &mut Taps) -> Tensor<4> {
        let x = self.post_quant_conv.forward(channels_last(latents));
        taps.record_with(format_args!("post_quant_conv"), || channels_first(x.clone()));
        self.decoder.forward(x, limit_bytes, taps)
    }
}

struct Decoder {
    conv_in: Conv3x3,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv3x3,
}

struct UpBlock {
    resnets: Vec<ResnetBlock>,
    upsampler: Option<Conv3x3>,
}

impl Decoder {
    async fn load(vb: &VarBuilder<'_>, config: &VaeConfig) -> Result<Self, Error> {
        let groups = config.norm_groups;
        let channels: Vec<usize> = config.block_channels.iter().rev().copied().collect();
        let [widest, narrowest] = [channels[0], channels[channels.len() - 1]];
        let mut up_blocks = Vec::with_capacity(channels.len());
        for index in 0..channels.len() {
            let block = vb.pp(format!("up_blocks.{index}"));
            let inputs = channels[index.saturating_sub(1)];
            // The decoder's blocks have one more ResNet block than the encoder's.
            let resnets = resnets(&block, config.layers_per_block + 1, inputs, channels[index], groups).await?;
            let last = index + 1 == channels.len();
            let upsampler = block.pp("upsamplers.0.conv");
            let width = channels[index];
            let load = Conv3x3::load(&upsampler, width, width, Resampling::Upsample2x);
            up_blocks.push(UpBlock { resnets, upsampler: if last { None } else { Some(load.await?) } });
        }
        Ok(Self {
            conv_in: Conv3x3::load(&vb.pp("conv_in"), config.latent_channels, widest, Resampling::None).await?,
            mid_block: MidBlock::load(&vb.pp("mid_block"), widest, groups).await?,
            up_blocks,
            conv_norm_out: GroupNorm::load(&vb.pp("conv_norm_out"), narrowest, groups).await?,
            conv_out: Conv3x3::load(&vb.pp("conv_out"), narrowest, CHANNELS, Resampling::None).await?,
        })
    }

    /// Decodes `[B, H, W, Z]` to `[B, 3, 8·H, 8·W]`.
    fn forward(&self, x: Tensor<4>, limit_bytes: u64, taps: &mut Taps) -> Tensor<4> {
        let x = self.conv_in.forward_strips(Strips::whole(x), None);
        taps.record_with(format_args!("dec.conv_in"), || channels_first(x.clone().concat()));
        let mut x = self.mid_block.forward_strips(x, "dec", taps).with_limit(limit_bytes);
        for (index, block) in self.up_blocks.iter().enumerate() {
            x = block.resnets.iter().fold(x, |x, resnet| resnet.forward_strips(x));
            if let Some(upsampler) = &block.upsampler {
                x = upsampler.forward_strips(x, None);
            }
            taps.record_with(format_args!("dec.block{index}"), || channels_first(x.clone().concat()));
        }
        taps.record_with(format_args!("dec.conv_norm_out"), || {
            channels_first(self.conv_norm_out.forward(x.clone().concat()))
        });
        let x = channels_first(self.conv_out.forward_strips(x, Some(&self.conv_norm_out)).concat());
        taps.record(format_args!("dec.conv_out"), &x);
        x
    }
}
