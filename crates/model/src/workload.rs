//! Parts of the networks at their real size, for benchmarks against other implementations. `tests/oracle/export_onnx.py`
//! writes their folder: weights in `<kind>.safetensors`, and inputs with expected outputs in `<name>.io.safetensors`. They stand
//! here because they load the networks' private layers.

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

/// One part of a network with its inputs on a device.
pub struct Workload {
    part: WorkloadPart,
    expected: Vec<f32>,
}

#[expect(clippy::large_enum_variant, reason = "there is one value of it")]
enum WorkloadPart {
    /// One block of PixArt-XL/2, with the caption's keys and values. (A generation computes those once, peers in each step.)
    Block { block: DitBlock, hidden: Tensor<3>, table: Tensor<4>, modulation: Tensor<4>, caption: [Tensor<3>; 2] },
    /// One layer of T5 v1.1 XL.
    Layer { layer: t5::T5Block, hidden: Tensor<3>, bias: Tensor<4> },
    /// The decoder of Stable Diffusion's VAE.
    Vae { decoder: VaeDecoder, latent: Tensor<4> },
    /// All of PixArt-XL/2, with the caption's part that a generation computes once.
    Xl { dit: Dit, latent: Tensor<4>, timestep: f32, caption: [Tensor<3>; 2] },
}

impl Workload {
    /// Loads the part called `name`: `block_…`, `t5_…`, `vae_…` or `xl_…`.
    ///
    /// # Errors
    /// A file or tensor that is missing or of another shape, by name.
    pub async fn load(name: &str, folder: &Folder, device: &Device) -> Result<Self, Error> {
        let io = WorkloadIo { tensors: folder.tensors(&format!("{name}.io.safetensors"))?, name, device };
        let kind = Self::kind(name);
        let weights = Weights::file(folder, &format!("{kind}.safetensors")).await?;
        let vb = VarBuilder::new(&weights, device);
        let part = match kind {
            "block" => block(&io, &vb).await?,
            "t5" => layer(&io, &vb).await?,
            "xl" => xl(&io, &vb).await?,
            "vae" => {
                WorkloadPart::Vae { decoder: VaeDecoder::from_vars(&vb, sd_vae()).await?, latent: io.tensor("latent")? }
            }
            _ => {
                return Err(Error::Config {
                    file: name.into(),
                    key: "workload".into(),
                    why: "the part is unknown".into(),
                });
            }
        };
        vb.flush_uploads().await?;
        Ok(Self { part, expected: io.tensors.any_f32("output")?.1 })
    }

    /// Returns the kind of the part `name`; parts of a kind share a file of weights.
    #[must_use]
    pub fn kind(name: &str) -> &str {
        name.split_once('_').map_or(name, |(kind, _)| kind)
    }

    /// Runs the part once.
    #[must_use]
    pub fn run(&self) -> Tensor<1> {
        match &self.part {
            WorkloadPart::Block { block, hidden, table, modulation, caption: [tokens, bias] } => {
                let modulation = table.clone() + modulation.clone();
                let conditions =
                    Conditioning::for_block(vec![block.caption_kv(tokens.clone())], bias.clone().unsqueeze_dim(1));
                block.forward(hidden.clone(), &modulation, &conditions, 0, &mut Taps::off()).flatten(0, 2)
            }
            WorkloadPart::Layer { layer, hidden, bias } => {
                layer.forward(hidden.clone(), &T5_XL.attention(bias), 0, &mut Taps::off()).flatten(0, 2)
            }
            WorkloadPart::Xl { dit, latent, timestep, caption: [embeds, mask] } => {
                let [_, _, rows, columns] = latent.dims();
                let mask = mask.clone().squeeze_dim(1);
                let conditions =
                    dit.prepare_conditioning(embeds.clone(), mask, [rows, columns], None, &mut Taps::off());
                dit.forward(latent.clone(), *timestep, &conditions, &mut Taps::off()).flatten(0, 3)
            }
            WorkloadPart::Vae { decoder, latent } => decoder.decode(latent.clone(), DecodeMode::Whole).flatten(0, 3),
        }
    }

    /// Returns the output of PyTorch in f32.
    #[must_use]
    pub fn expected(&self) -> &[f32] {
        &self.expected
    }
}

async fn block(io: &WorkloadIo<'_>, vb: &VarBuilder<'_>) -> Result<WorkloadPart, Error> {
    let config: DitConfig = XL_2;
    let c = config.channels();
    let vb = vb.pp("transformer_blocks.0");
    let block = DitBlock::load(&vb, &config).await?;
    let hidden: Tensor<3> = io.tensor("hidden")?;
    let caption = [io.tensor("caption")?, io.tensor("caption_bias")?]; // [B, L, C], [B, 1, L]
    let [b, ..] = hidden.dims();
    let table = vb.get("scale_shift_table", [ADALN_CHUNKS, c]).await?.reshape([1, 1, ADALN_CHUNKS, c]);
    let modulation = io.tensor::<2>("modulation")?.reshape([1, b, ADALN_CHUNKS, c]);
    Ok(WorkloadPart::Block { block, hidden, table, modulation, caption })
}

async fn xl(io: &WorkloadIo<'_>, vb: &VarBuilder<'_>) -> Result<WorkloadPart, Error> {
    // The recorded bias is diffusers': 0 for a token, the score of padding elsewhere.
    let mask = io.tensor::<3>("caption_bias")? * -PADDING_SCORE.recip() + 1.0;
    let timestep = io.tensors.any_f32("timestep")?.1[0];
    let dit = Dit::read(vb, XL_2, WeightFormat::F32).await?;
    Ok(WorkloadPart::Xl { dit, latent: io.tensor("latent")?, timestep, caption: [io.tensor("caption")?, mask] })
}

async fn layer(io: &WorkloadIo<'_>, vb: &VarBuilder<'_>) -> Result<WorkloadPart, Error> {
    let config: T5Config = T5_XL;
    let bias = io.tensor::<4>("position_bias")? + io.tensor("mask")?;
    let layer = t5::T5Block::load(&vb.pp("encoder.block.0.layer"), &config).await?;
    Ok(WorkloadPart::Layer { layer, hidden: io.tensor("hidden")?, bias })
}

/// Recorded inputs of a part.
struct WorkloadIo<'a> {
    tensors: Tensors<'a>,
    name: &'a str,
    device: &'a Device,
}

impl WorkloadIo<'_> {
    fn tensor<const RANK: usize>(&self, name: &str) -> Result<Tensor<RANK>, Error> {
        tensor_from_file(&self.tensors, self.name, name, self.device)
    }
}
