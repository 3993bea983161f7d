//! `pixart encode`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use bytesize::ByteSize;
use clap::Args;
use pixart_companion::device::DeviceSpec;
use pixart_companion::{Error, PromptEncoder, PromptEncoderOptions, bench, embeds};
use pixart_model::{WeightFormat, normalize_caption, weighted_caption};
use pixart_protocol::EncodeRequest;
use serde_json::json;

use super::components::{self, TextComponentArgs};
use super::loras::LoraArgs;
use super::{TEXT_WEIGHT_FORMATS, print_json, value_by_name, write};

#[derive(Args)]
pub(crate) struct EncodeArgs {
    /// A diffusers folder or a packed one, with tokenizer/ and text_encoder/, or owner/name[@revision] of the hub, or a name
    /// of `pixart models`.
    #[arg(long)]
    checkpoint: PathBuf,
    #[command(flatten)]
    components: TextComponentArgs,
    #[command(flatten)]
    loras: LoraArgs,
    /// A prompt; repeat it for more rows. For `generate --embeds`: the negative prompt, then the prompt.
    #[arg(long = "prompt", required = true)]
    prompts: Vec<String>,
    /// Read (word:1.3), (word) and [word] in the prompts as weights; \( is a parenthesis. Without it brackets are text.
    #[arg(long)]
    prompt_weighting: bool,
    /// Tokens that a prompt is padded or truncated to: 300 for PixArt-Σ.
    #[arg(long, default_value_t = 120)]
    max_sequence_length: u32,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    device: DeviceSpec,
    /// Weight format of the text encoder's matrices [default: as stored; f16 as f32].
    #[arg(long, value_parser = value_by_name(TEXT_WEIGHT_FORMATS))]
    text_dtype: Option<WeightFormat>,
    /// Memory for the text encoder's blocks, as 1GiB; a larger encoder is streamed from the disk block by block [default: all blocks].
    #[arg(long)]
    text_memory: Option<ByteSize>,
    /// Number of runs; the JSON line has the seconds of each.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Number of the text encoder's blocks to use, for measurements [default: all].
    #[arg(long)]
    layers: Option<usize>,
    /// The variant of the weight files to read, as fp16 for model.fp16.safetensors [default: the files without one, or the only one].
    #[arg(long)]
    variant: Option<String>,
    /// The safetensors file to write.
    #[arg(long)]
    out: PathBuf,
}

impl EncodeArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let weighted = |prompt: &String| weighted_caption(prompt, normalize_caption);
        let captions = match self.prompt_weighting {
            true => self.prompts.iter().map(weighted).collect::<Result<_, _>>().map_err(Error::Request)?,
            false => self.prompts.clone(),
        };
        let request = EncodeRequest { captions, max_sequence_length: self.max_sequence_length };
        request.validate().map_err(Error::Request)?;
        let loras = self.loras.fetch()?;
        let unused = ["transformer", "vae", "scheduler"];
        let source = components::fetch(&self.checkpoint, &self.components.paths(), &unused, self.variant.as_deref())?;
        let began = Instant::now();
        let encoder = PromptEncoder::open(&PromptEncoderOptions {
            checkpoint: source.checkpoint,
            components: source.components,
            device: self.device,
            weight_format: self.text_dtype,
            layers: self.layers,
            text_memory: self.text_memory.map(|size| size.0),
            variant: source.variant,
            loras,
        })?;
        let load_s = began.elapsed().as_secs_f64();
        let mut encode_s = Vec::new();
        for _ in 0..self.runs {
            let began = Instant::now();
            let embedded = encoder.encode(&request)?;
            encode_s.push(began.elapsed().as_secs_f64());
            if encode_s.len() == 1 {
                let notes = embedded.token_counts.iter().filter_map(|count| count.note("prompt"));
                notes.for_each(|note| tracing::warn!("{note}"));
                write(&self.out, &embeds::write(&embedded, &self.prompts))?;
            }
        }
        print_json(&json!({
            "device": encoder.device_name(), "load_s": load_s, "encode_s": encode_s, "peak_bytes": bench::peak_bytes(),
        }))?;
        Ok(ExitCode::SUCCESS)
    }
}
