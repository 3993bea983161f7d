//! `pixart golden`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pixart_companion::device::{self, DeviceSpec};
use pixart_companion::golden;
use pixart_verify::report;

use super::{print_json, print_line};

#[derive(Args)]
pub(crate) struct GoldenArgs {
    /// A folder with one sub-folder per variant, each with a meta.json.
    dir: PathBuf,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    device: DeviceSpec,
    /// Print one JSON line per tap.
    #[arg(long)]
    json: bool,
}

impl GoldenArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let variants = golden::variants(&self.dir)?;
        let opened = device::open(self.device)?;
        tracing::info!(device = opened.name, "comparing");
        let tolerance = golden::tolerance(self.device);
        if !self.json {
            print_line(&report::header())?;
        }
        let mut rows = Vec::new();
        for (name, path) in variants {
            for row in golden::check(&name, &path, &opened, tolerance)? {
                match self.json {
                    true => print_json(&row)?,
                    false => print_line(&report::line(&row))?,
                }
                rows.push(row);
            }
        }
        tracing::info!("{} on {}", report::summary(&rows), opened.name);
        Ok(if report::passed(&rows) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
