//! `pixart bench`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pixart_companion::bench;
use pixart_companion::device::DeviceSpec;
use pixart_model::KernelVariant;

use super::print_json;

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// The folder that tests/oracle/export_onnx.py wrote.
    #[arg(long)]
    models: PathBuf,
    /// Name of a workload in it, such as block_b1n64.
    #[arg(long)]
    workload: String,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    device: DeviceSpec,
    /// Use burn's built-in operations instead of our kernels.
    #[arg(long, alias = "stock")]
    burn_reference: bool,
    /// Number of runs after the first.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

impl BenchArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let variant = self.burn_reference.then_some(KernelVariant::BurnReference);
        print_json(&bench::bench(&self.models, &self.workload, self.device, variant, self.runs)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
