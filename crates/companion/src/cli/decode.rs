//! `pixart decode`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pixart_companion::decode;
use pixart_companion::device::DeviceSpec;

use super::{read, write};

#[derive(Args)]
pub(crate) struct DecodeArgs {
    /// A diffusers folder or a packed one, with vae/.
    #[arg(long)]
    checkpoint: PathBuf,
    /// The safetensors file with `latents`.
    #[arg(long)]
    latents: PathBuf,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    device: DeviceSpec,
    /// The PNG file to write.
    #[arg(long)]
    out: PathBuf,
}

impl DecodeArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let file = decode::decode(&self.checkpoint, self.device, &self.latents, read(&self.latents)?)?;
        write(&self.out, &file)?;
        Ok(ExitCode::SUCCESS)
    }
}
