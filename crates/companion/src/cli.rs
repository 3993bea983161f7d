//! The command line, as types. The text that `--help` prints is the comments here.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use pixart_companion::device::Kind;
use pixart_model::{Architecture, WeightFormat};
use pixart_weights::StoredDtype;

mod compare;
mod generate;
mod serve;

pub(crate) use compare::CompareArgs;
pub(crate) use generate::GenerateArgs;
pub(crate) use serve::ServeArgs;

/// PixArt text-to-image on this computer, and the page's companion.
#[derive(Parser)]
#[command(name = "pixart", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Draw a prompt, or a list of prompts, into PNG files; prints one JSON line per picture.
    Generate(Box<GenerateArgs>),
    /// Draw one prompt with every scheduler into one PNG file; prints one JSON line per picture, row by row.
    Sheet(SheetArgs),
    /// Write the text embeddings of prompts to a safetensors file, one row per prompt; prints one JSON line.
    Encode(EncodeArgs),
    /// Turn latents that `generate --output-type latent` wrote into a PNG file; loads nothing but the decoder.
    Decode(DecodeArgs),
    /// Pack a checkpoint into verified shards that a tab can load piece by piece; prints one JSON line.
    Pack(PackArgs),
    /// Write a random checkpoint of a published size, for tests and benchmarks; prints one JSON line.
    Synth(SynthArgs),
    /// Serve the built page, and encode prompts and draw for it and for others, until ctrl-c or SIGTERM.
    Serve(ServeArgs),
    /// List the devices that can be used here; with --device prove one, operation by operation, against the processor.
    Doctor {
        /// Compare this device with the processor instead: PASS or FAIL per operation, exit 1 if any fails.
        #[arg(long)]
        device: Option<Kind>,
        /// Print JSON: one object, or one per operation.
        #[arg(long)]
        json: bool,
    },
    /// Draw a request twice, on two devices or on one and in a recording, and compare text, every step and the picture.
    Compare(CompareArgs),
    /// Print completions for a shell, to be put where it looks for them.
    Completions { shell: Shell },
    /// Write the manual pages, one for each command, to a folder.
    Man { to: PathBuf },
    /// Compare the model with recorded tensors, tap by tap; exit 1 if any is too far off.
    Golden(GoldenArgs),
    /// Time a part of the networks, as `cargo xtask bench` exported it; prints one JSON line.
    Bench(BenchArgs),
}

#[derive(Args)]
pub(crate) struct SheetArgs {
    /// A diffusers folder.
    #[arg(long)]
    pub(crate) checkpoint: PathBuf,
    /// What to draw.
    #[arg(long)]
    pub(crate) prompt: String,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u32,
    /// Denoising steps of each picture.
    #[arg(long, default_value_t = 20)]
    pub(crate) steps: u32,
    /// A scheduler as `generate` takes it; repeat it for more [default: all].
    #[arg(long = "scheduler")]
    pub(crate) schedulers: Vec<String>,
    /// Pictures in a row.
    #[arg(long, default_value = "6")]
    pub(crate) columns: std::num::NonZeroUsize,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Kind,
    /// The PNG file to write.
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct EncodeArgs {
    /// A diffusers folder with tokenizer/ and text_encoder/.
    #[arg(long)]
    pub(crate) checkpoint: PathBuf,
    /// A caption; repeat it for more rows. For `generate --embeds`: the negative prompt, then the prompt.
    #[arg(long = "prompt", required = true)]
    pub(crate) prompts: Vec<String>,
    /// Tokens a caption is padded or cut to: 300 for PixArt-Σ.
    #[arg(long, default_value_t = 120)]
    pub(crate) max_sequence_length: u32,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Kind,
    /// How the text encoder's matrices are kept [default: as they are stored; f16 as f32].
    #[arg(long, value_parser = precision(TEXT_DTYPES))]
    pub(crate) text_dtype: Option<WeightFormat>,
    /// Encode so many times; the JSON line has the seconds of each.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Use the first blocks alone, to measure them [default: all].
    #[arg(long)]
    pub(crate) layers: Option<usize>,
    /// The safetensors file to write.
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
pub(crate) struct DecodeArgs {
    /// A diffusers folder with vae/.
    #[arg(long)]
    pub(crate) checkpoint: PathBuf,
    /// The safetensors file.
    #[arg(long)]
    pub(crate) latents: PathBuf,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Kind,
    /// The PNG file to write.
    #[arg(long)]
    pub(crate) out: PathBuf,
}

#[derive(Args)]
#[command(group = ArgGroup::new("job").required(true))]
pub(crate) struct PackArgs {
    /// A diffusers folder, which need not have all networks, or a .pth file of PixArt's own.
    #[arg(long, group = "job", requires = "to")]
    pub(crate) from: Option<PathBuf>,
    /// The transformer's config.json, which a .pth file does not have.
    #[arg(long, conflicts_with = "check")]
    pub(crate) config: Option<PathBuf>,
    /// The folder to write; it is created.
    #[arg(long, conflicts_with = "check")]
    pub(crate) to: Option<PathBuf>,
    /// How the matrices of the networks' blocks are kept. The others are f16 then, vectors f32.
    #[arg(long, value_parser = precision(["f32", "f16", "q8", "q4"]), default_value = "f16", conflicts_with = "check")]
    pub(crate) dtype: WeightFormat,
    /// The size of a shard, of which a tab holds one at a time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(crate) shard_mib: u64,
    /// The licence to name [default: the model card's].
    #[arg(long)]
    pub(crate) license: Option<String>,
    /// Where the checkpoint is from, in words [default: its folder's name].
    #[arg(long)]
    pub(crate) source: Option<String>,
    /// Verify the packed checkpoint in this folder instead: lengths, hashes, places; exit 1 if any is wrong.
    #[arg(long, group = "job")]
    pub(crate) check: Option<PathBuf>,
}

/// The words for precisions.
const PRECISIONS: [(&str, WeightFormat); 5] = [
    ("f32", WeightFormat::F32),
    ("bf16", WeightFormat::Bf16),
    ("f16", WeightFormat::F16),
    ("q8", WeightFormat::Q8),
    ("q4", WeightFormat::Q4),
];

/// Those of a text encoder. f16 is one only to be refused with the reason.
const TEXT_DTYPES: [&str; 4] = ["f32", "bf16", "f16", "q8"];

/// A precision by one of these words.
fn precision<const COUNT: usize>(words: [&'static str; COUNT]) -> impl TypedValueParser<Value = WeightFormat> {
    PossibleValuesParser::new(words).map(|word| {
        let known = PRECISIONS.iter().find(|(name, _)| *name == word);
        known.expect("all words are in the table").1
    })
}

#[derive(Args)]
pub(crate) struct SynthArgs {
    #[arg(long, value_enum)]
    pub(crate) arch: Arch,
    #[arg(long, value_parser = stored_dtype(), default_value = "f32")]
    pub(crate) dtype: StoredDtype,
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// The folder to write; it is created.
    #[arg(long)]
    pub(crate) to: PathBuf,
}

/// An architecture as a word of the command line.
#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "kebab-case")]
pub(crate) enum Arch {
    #[value(name = "xl-256")]
    Xl256,
    #[value(name = "xl-512")]
    Xl512,
    #[value(name = "xl-1024-ms")]
    Xl1024Ms,
    #[value(name = "sigma-1024")]
    Sigma1024,
    T5Xxl,
    SdVae,
}

impl From<Arch> for Architecture {
    fn from(arch: Arch) -> Self {
        match arch {
            Arch::Xl256 => Self::Xl256,
            Arch::Xl512 => Self::Xl512,
            Arch::Xl1024Ms => Self::Xl1024Ms,
            Arch::Sigma1024 => Self::Sigma1024,
            Arch::T5Xxl => Self::T5Xxl,
            Arch::SdVae => Self::SdVae,
        }
    }
}

/// Parses the dtypes that random checkpoints are written in.
fn stored_dtype() -> impl TypedValueParser<Value = StoredDtype> {
    precision(["f32", "f16", "bf16"]).map(StoredDtype::from)
}

#[derive(Args)]
pub(crate) struct GoldenArgs {
    /// A folder with one sub-folder per variant, each with a meta.json.
    pub(crate) dir: PathBuf,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Kind,
    /// Print one JSON line per tap.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// The folder that tests/oracle/export_onnx.py wrote.
    #[arg(long)]
    pub(crate) models: PathBuf,
    /// A workload of it, such as block_b1n64.
    #[arg(long)]
    pub(crate) workload: String,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Kind,
    /// Compute with burn's built-in operations instead of the project's kernels.
    #[arg(long, alias = "stock")]
    pub(crate) burn_reference: bool,
    /// Runs after the first.
    #[arg(long, default_value_t = 5)]
    pub(crate) runs: usize,
}

#[cfg(test)]
mod tests;
