//! `pixart synth`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pixart_companion::synth;
use pixart_verify::Architecture;
use pixart_weights::StoredDtype;
use serde_json::json;

use super::{print_json, value_by_name};

const ARCHITECTURES: [(&str, Architecture); 6] = [
    ("xl-256", Architecture::Xl256),
    ("xl-512", Architecture::Xl512),
    ("xl-1024-ms", Architecture::Xl1024Ms),
    ("sigma-1024", Architecture::Sigma1024),
    ("t5-xxl", Architecture::T5Xxl),
    ("sd-vae", Architecture::SdVae),
];
const DTYPES: [(&str, StoredDtype); 3] =
    [("f32", StoredDtype::F32), ("f16", StoredDtype::F16), ("bf16", StoredDtype::Bf16)];

#[derive(Args)]
pub(crate) struct SynthArgs {
    /// The published network whose size and layout are taken.
    #[arg(long, value_parser = value_by_name(ARCHITECTURES))]
    arch: Architecture,
    /// Dtype of the tensors in the file.
    #[arg(long, value_parser = value_by_name(DTYPES), default_value = "f32")]
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
        let bytes = synth::synth(self.arch, self.dtype, self.seed, &self.to)?;
        print_json(&json!({ "bytes": bytes }))?;
        Ok(ExitCode::SUCCESS)
    }
}
