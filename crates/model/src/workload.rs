//! Parts of the networks at their real size, to be timed against other implementations of the same parts. The folder is
//! one that `tests/oracle/export_onnx.py` writes: weights, `<kind>.safetensors`, and inputs with what they give,
//! `<name>.io.safetensors`.

use burn::tensor::{Device, Tensor};
use pixart_kernels::WeightFormat;
use pixart_weights::{Folder, Tensors, Weights};

use crate::loading::config::{DitConfig, T5_XL, T5Config, XL_2, sd_vae};
use crate::loading::var_builder::{VarBuilder, tensor_from_file};
use crate::text::t5;
use crate::transformer::{ADALN_CHUNKS, Conditioning, Dit, DitBlock, PADDING_SCORE};
use crate::vae::DecodeMode;
use crate::vae::VaeDecoder;
use crate::{Error, Taps};

/// One part with its inputs on a device.
pub struct Workload {
    part: Part,
    want: Vec<f32>,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum Part {
    /// One block of PixArt-XL/2, with the caption's keys and values, which a picture needs once but peers compute anew.
    Block { block: DitBlock, hidden: Tensor<3>, table: Tensor<4>, modulation: Tensor<4>, caption: [Tensor<3>; 2] },
    /// One layer of T5 v1.1 XL.
    Layer { layer: t5::T5Block, hidden: Tensor<3>, bias: Tensor<4> },
    /// The decoding half of Stable Diffusion's autoencoder.
    Vae { decoding: VaeDecoder, latent: Tensor<4> },
    /// All of PixArt-XL/2, with the caption's part that a picture needs once.
    Xl { dit: Dit, latent: Tensor<4>, timestep: f32, caption: [Tensor<3>; 2] },
}

impl Workload {
    /// The part called `name`: `block_…`, `t5_…`, `vae_…` or `xl_…`.
    ///
    /// # Errors
    /// A file or tensor that is missing or of another shape, by name.
    pub async fn load(name: &str, folder: &Folder, device: &Device) -> Result<Self, Error> {
        let io = Io { tensors: folder.tensors(&format!("{name}.io.safetensors"))?, name, device };
        let kind = Self::kind(name);
        let weights = Weights::file(folder, &format!("{kind}.safetensors")).await?;
        let params = VarBuilder::new(&weights, device);
        let part = match kind {
            "block" => block(&io, &params).await?,
            "t5" => layer(&io, &params).await?,
            "xl" => xl(&io, &params).await?,
            "vae" => {
                Part::Vae { decoding: VaeDecoder::from_vars(&params, sd_vae()).await?, latent: io.tensor("latent")? }
            }
            _ => {
                return Err(Error::Config { file: name.into(), key: "workload".into(), why: "it is not known".into() });
            }
        };
        params.flush_uploads().await?;
        Ok(Self { part, want: io.tensors.any_f32("output")?.1 })
    }

    /// What kind of part `name` is one of; those of a kind share a file of weights.
    #[must_use]
    pub fn kind(name: &str) -> &str {
        name.split_once('_').map_or(name, |(kind, _)| kind)
    }

    /// Computes the part once.
    #[must_use]
    pub fn run(&self) -> Tensor<1> {
        match &self.part {
            Part::Block { block, hidden, table, modulation, caption: [tokens, bias] } => {
                let modulation = table.clone() + modulation.clone();
                let conditions =
                    Conditioning::for_block(vec![block.caption_kv(tokens.clone())], bias.clone().unsqueeze_dim(1));
                block.forward(hidden.clone(), &modulation, &conditions, 0, &mut Taps::off()).flatten(0, 2)
            }
            Part::Layer { layer, hidden, bias } => {
                layer.forward(hidden.clone(), &T5_XL.attention(bias), 0, &mut Taps::off()).flatten(0, 2)
            }
            Part::Xl { dit, latent, timestep, caption: [embeds, mask] } => {
                let [_, _, rows, columns] = latent.dims();
                let mask = mask.clone().squeeze_dim(1);
                let conditions =
                    dit.prepare_conditioning(embeds.clone(), mask, [rows, columns], None, &mut Taps::off());
                dit.forward(latent.clone(), *timestep, &conditions, &mut Taps::off()).flatten(0, 3)
            }
            Part::Vae { decoding, latent } => decoding.decode(latent.clone(), DecodeMode::Whole).flatten(0, 3),
        }
    }

    /// What a run gives, by PyTorch in f32.
    #[must_use]
    pub fn want(&self) -> &[f32] {
        &self.want
    }
}

async fn block(io: &Io<'_>, params: &VarBuilder<'_>) -> Result<Part, Error> {
    let config: DitConfig = XL_2;
    let c = config.channels();
    let params = params.pp("transformer_blocks.0");
    let block = DitBlock::load(&params, &config).await?;
    let hidden: Tensor<3> = io.tensor("hidden")?;
    let caption = [io.tensor("caption")?, io.tensor("caption_bias")?]; // [B, L, C], [B, 1, L]
    let [b, ..] = hidden.dims();
    let table = params.get("scale_shift_table", [ADALN_CHUNKS, c]).await?.reshape([1, 1, ADALN_CHUNKS, c]);
    let modulation = io.tensor::<2>("modulation")?.reshape([1, b, ADALN_CHUNKS, c]);
    Ok(Part::Block { block, hidden, table, modulation, caption })
}

async fn xl(io: &Io<'_>, params: &VarBuilder<'_>) -> Result<Part, Error> {
    // A recorded bias is 0 or the score of padding, as diffusers makes it of a mask.
    let mask = io.tensor::<3>("caption_bias")? * -PADDING_SCORE.recip() + 1.0;
    let timestep = io.tensors.any_f32("timestep")?.1[0];
    let dit = Dit::read(params, XL_2, WeightFormat::F32).await?;
    Ok(Part::Xl { dit, latent: io.tensor("latent")?, timestep, caption: [io.tensor("caption")?, mask] })
}

async fn layer(io: &Io<'_>, params: &VarBuilder<'_>) -> Result<Part, Error> {
    let config: T5Config = T5_XL;
    let bias = io.tensor::<4>("position_bias")? + io.tensor("mask")?;
    let layer = t5::T5Block::load(&params.pp("encoder.block.0.layer"), &config).await?;
    Ok(Part::Layer { layer, hidden: io.tensor("hidden")?, bias })
}

/// A workload's recorded inputs.
struct Io<'a> {
    tensors: Tensors<'a>,
    name: &'a str,
    device: &'a Device,
}

impl Io<'_> {
    fn tensor<const RANK: usize>(&self, name: &str) -> Result<Tensor<RANK>, Error> {
        tensor_from_file(&self.tensors, self.name, name, self.device)
    }
}
