//! The command line: one module per subcommand, with its arguments and its `run`. The text of `--help` is the doc comments here.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use pixart_companion::Error;
use pixart_model::WeightFormat;
use serde::Serialize;

mod bench;
mod compare;
mod components;
mod decode;
mod doctor;
mod encode;
mod fetch;
mod generate;
mod golden;
mod loras;
mod models;
mod pack;
mod progress;
mod serve;
mod sheet;
mod synth;

/// PixArt text-to-image on this computer, and the companion of the page.
#[derive(Parser)]
#[command(name = "pixart", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Generate images of a prompt, or of a list of prompts; prints one JSON line per image.
    Generate(Box<generate::GenerateArgs>),
    /// Generate an image of one prompt with every scheduler, into one PNG file; prints one JSON line per image, row by row.
    Sheet(sheet::SheetArgs),
    /// Write the text embeddings of prompts to a safetensors file, one row per prompt; prints one JSON line.
    Encode(encode::EncodeArgs),
    /// Decode latents of `generate --output-type latent` to a PNG file; loads the VAE decoder alone.
    Decode(decode::DecodeArgs),
    /// Download a checkpoint and its components to the hub's cache; prints one JSON line with their places.
    Fetch(fetch::FetchArgs),
    /// Pack a checkpoint into hashed shards, which a browser tab downloads one by one; prints one JSON line.
    Pack(pack::PackArgs),
    /// List the published checkpoints and text encoders that have a name, with their download, memory and licence.
    Models(models::ModelsArgs),
    /// Write a checkpoint with random weights in a published size, for tests and benchmarks; prints one JSON line.
    Synth(synth::SynthArgs),
    /// Serve the page and an HTTP API that encodes prompts and generates images, until ctrl-c or SIGTERM.
    Serve(serve::ServeArgs),
    /// List the devices of this computer; with --device test one, operation by operation, against the CPU.
    Doctor(doctor::DoctorArgs),
    /// Run a request on two devices, or compare recordings: prompt embeddings, latents of every step and the image.
    Compare(compare::CompareArgs),
    /// Print a completion script for a shell.
    Completions { shell: Shell },
    /// Write the manual pages, one per subcommand, to a folder.
    Man { to: PathBuf },
    /// Compare the model with recorded tensors, tap by tap; exit status 1 if one is beyond the tolerance.
    Golden(golden::GoldenArgs),
    /// Time a part of the networks that `cargo xtask bench` exported; prints one JSON line.
    Bench(bench::BenchArgs),
}

impl Command {
    /// Runs the subcommand and returns the exit status of the process.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Generate(args) => args.run(),
            Self::Sheet(args) => args.run(),
            Self::Encode(args) => args.run(),
            Self::Decode(args) => args.run(),
            Self::Fetch(args) => args.run(),
            Self::Pack(args) => args.run(),
            Self::Models(args) => args.run(),
            Self::Synth(args) => args.run(),
            Self::Serve(args) => args.run(),
            Self::Doctor(args) => args.run(),
            Self::Compare(args) => args.run(),
            Self::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "pixart", &mut script);
                print_bytes(&script)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Man { to } => man(&to),
            Self::Golden(args) => args.run(),
            Self::Bench(args) => args.run(),
        }
    }
}

fn man(to: &Path) -> anyhow::Result<ExitCode> {
    create_dir(to)?;
    clap_mangen::generate_to(Cli::command(), to).map_err(|source| Error::Write { path: to.to_owned(), source })?;
    Ok(ExitCode::SUCCESS)
}

/// Weight formats of the transformer's blocks.
const WEIGHT_FORMATS: [(&str, WeightFormat); 6] = [
    ("f32", WeightFormat::F32),
    ("bf16", WeightFormat::Bf16),
    ("f16", WeightFormat::F16),
    ("q8", WeightFormat::Q8),
    ("q4_affine", WeightFormat::Q4Affine),
    ("q4", WeightFormat::Q4),
];
/// Weight formats of the text encoder. f16 is accepted here, to be rejected with the reason.
const TEXT_WEIGHT_FORMATS: [(&str, WeightFormat); 4] =
    [("f32", WeightFormat::F32), ("bf16", WeightFormat::Bf16), ("f16", WeightFormat::F16), ("q8", WeightFormat::Q8)];
/// Weight formats of a packed checkpoint.
const PACKED_WEIGHT_FORMATS: [(&str, WeightFormat); 5] = [
    ("f32", WeightFormat::F32),
    ("f16", WeightFormat::F16),
    ("q8", WeightFormat::Q8),
    ("q4_affine", WeightFormat::Q4Affine),
    ("q4", WeightFormat::Q4),
];

/// Parser of a value by its name in `table`.
fn value_by_name<T: Copy + Send + Sync + 'static, const N: usize>(
    table: [(&'static str, T); N],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(table.map(|(name, _)| name)).map(move |name| {
        let entry = table.iter().find(|(known, _)| *known == name);
        entry.expect("clap accepts the names of the table alone").1
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn create_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print_line(&serde_json::to_string(value)?)
}

/// Prints a line of results. All subcommands print to stdout through here.
fn print_line(line: &str) -> anyhow::Result<()> {
    print_bytes(format!("{line}\n").as_bytes())
}

fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(error.into()),
        Err(source) => Err(Error::Print { source }.into()),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
