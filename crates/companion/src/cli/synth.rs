//! `pixart synth`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args};
use pixart_companion::synth::{self, SynthScale};
use pixart_protocol::CatalogueComponents;
use pixart_verify::Architecture;
use pixart_weights::StoredDtype;
use serde_json::json;

use super::{print_json, value_by_name};

const DTYPES: [(&str, StoredDtype); 3] =
    [("f32", StoredDtype::F32), ("f16", StoredDtype::F16), ("bf16", StoredDtype::Bf16)];

const SCALES: [(&str, SynthScale); 2] = [("full", SynthScale::Full), ("tiny", SynthScale::Tiny)];

#[derive(Args)]
#[command(group = ArgGroup::new("what").required(true))]
pub(crate) struct SynthArgs {
    /// The published network whose size and layout are taken.
    #[arg(long, group = "what", value_parser = value_by_name(Architecture::PUBLISHED))]
    arch: Option<Architecture>,
    /// A checkpoint or a text encoder of `pixart models`: its repositories are written below --to, each as owner/name, with the
    /// files, names and keys that the published ones have.
    #[arg(long, group = "what")]
    published: Option<String>,
    /// The components of the checkpoint that are written; all without it.
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(CatalogueComponents::NAMES), requires = "published")]
    components: Vec<String>,
    /// Size of the networks of --published.
    #[arg(long, value_parser = value_by_name(SCALES), default_value = "full", conflicts_with = "arch")]
    scale: SynthScale,
    /// Dtype of the tensors in the file.
    #[arg(long, value_parser = value_by_name(DTYPES), default_value = "f32", conflicts_with = "published")]
    dtype: StoredDtype,
    /// Seed of the random weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The folder to write; it is created.
    #[arg(long)]
    to: PathBuf,
}

impl SynthArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let bytes = match &self.published {
            Some(name) => synth::synth_published(name, &self.components, self.scale, self.seed, &self.to)?,
            None => {
                let arch = self.arch.context("clap requires --arch or --published")?;
                synth::synth(arch, self.dtype, self.seed, &self.to)?
            }
        };
        print_json(&json!({ "bytes": bytes }))?;
        Ok(ExitCode::SUCCESS)
    }
}
