//! `pixart pack`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use pixart_companion::pack::{self, PackOptions};
use pixart_model::WeightFormat;

use super::components::{self, ComponentArgs};
use super::progress::ProgressPrinter;
use super::{PACKED_WEIGHT_FORMATS, print_json, print_line, value_by_name};

#[derive(Args)]
#[command(group = ArgGroup::new("job").required(true))]
pub(crate) struct PackArgs {
    /// A diffusers folder, which may have a part of the networks, or a .pth or safetensors file of the transformer, in PixArt's
    /// original layout or diffusers', or owner/name[@revision] of the hub, or a name of `pixart models`.
    #[arg(long, group = "job", requires = "to")]
    from: Option<PathBuf>,
    /// The variant of the weight files to read, as fp16 for diffusion_pytorch_model.fp16.safetensors [default: the files without
    /// one, or the only one].
    #[arg(long, conflicts_with = "check")]
    variant: Option<String>,
    #[command(flatten)]
    components: ComponentArgs,
    /// The transformer's config.json, which a single file does not have.
    #[arg(long, conflicts_with = "check")]
    config: Option<PathBuf>,
    /// The folder to write; it is created.
    #[arg(long, conflicts_with = "check")]
    to: Option<PathBuf>,
    /// Weight format of the matrices in the networks' blocks. Other matrices are f16 then, vectors f32.
    #[arg(long, value_parser = value_by_name(PACKED_WEIGHT_FORMATS), default_value = "f16", conflicts_with = "check")]
    dtype: WeightFormat,
    /// Size of a shard in MiB. A browser tab holds one shard in memory at a time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1024))]
    shard_mib: u64,
    /// Licence to record [default: the model card's].
    #[arg(long)]
    license: Option<String>,
    /// Source of the checkpoint to record [default: its folder's name].
    #[arg(long)]
    source: Option<String>,
    /// Verify the packed checkpoint in this folder instead: lengths, hashes and offsets; exit status 1 if one is wrong.
    #[arg(long, group = "job")]
    check: Option<PathBuf>,
}

impl PackArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(dir) = &self.check {
            let faults = pack::check(dir)?;
            faults.iter().try_for_each(|fault| print_line(fault))?;
            return Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let from = self.from.context("clap requires --from without --check")?;
        let source = components::fetch(&from, &self.components.paths(), &[], self.variant.as_deref())?;
        let options = PackOptions {
            variant: source.variant,
            components: source.components,
            from: source.checkpoint,
            config: self.config,
            to: self.to.context("clap requires --to beside --from")?,
            weight_format: self.dtype,
            shard_bytes: self.shard_mib << 20,
            license: self.license,
            source: self.source,
        };
        let mut printer = ProgressPrinter::new("packed");
        let report = pack::pack(&options, |progress| printer.print(progress))?;
        print_json(&report)?;
        Ok(ExitCode::SUCCESS)
    }
}
