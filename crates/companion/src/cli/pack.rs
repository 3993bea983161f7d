//! `pixart pack`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use pixart_companion::pack::{self, PackOptions, PackProgress};
use pixart_model::WeightFormat;

use super::components::ComponentArgs;
use super::{PACKED_WEIGHT_FORMATS, print_json, print_line, value_by_name};

#[derive(Args)]
#[command(group = ArgGroup::new("job").required(true))]
pub(crate) struct PackArgs {
    /// A diffusers folder, which may have a part of the networks, or a .pth or safetensors file of the transformer, in PixArt's
    /// original layout or diffusers'.
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
        let options = PackOptions {
            variant: self.variant,
            components: self.components.paths(),
            from: self.from.context("clap requires --from without --check")?,
            config: self.config,
            to: self.to.context("clap requires --to beside --from")?,
            weight_format: self.dtype,
            shard_bytes: self.shard_mib << 20,
            license: self.license,
            source: self.source,
        };
        let mut printer = ProgressPrinter { is_terminal: std::io::stderr().is_terminal(), next: Duration::ZERO };
        let report = pack::pack(&options, |progress| printer.print(progress))?;
        print_json(&report)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Width of the bar in characters.
const BAR: u64 = 30;
/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Prints progress to stderr: a bar that is drawn over on a terminal, lines otherwise.
struct ProgressPrinter {
    is_terminal: bool,
    /// Time of the next line.
    next: Duration,
}

impl ProgressPrinter {
    #[expect(clippy::print_stderr, reason = "progress is no result, which go to stdout")]
    fn print(&mut self, progress: PackProgress) {
        let is_last = progress.bytes >= progress.total_bytes;
        if self.is_terminal {
            let filled = (BAR * progress.bytes / progress.total_bytes.max(1)).min(BAR) as usize;
            let (bar, end) = ("#".repeat(filled), if is_last { "\n" } else { "" });
            eprint!("\r[{bar:-<30}] {}  {end}", line(&progress));
        } else if is_last || progress.elapsed >= self.next {
            self.next = progress.elapsed + LINE_INTERVAL;
            eprintln!("packed {}", line(&progress));
        }
    }
}

/// Returns bytes, rate and time left, as `1.2 of 2.7 GB, 95 MB/s, 16 s left`.
fn line(progress: &PackProgress) -> String {
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let left = progress.remaining().map_or(String::new(), |left| format!(", {:.0} s left", left.as_secs_f64().ceil()));
    let rate = progress.bytes_per_second() / 1e6;
    format!("{:.2} of {:.2} GB, {rate:.0} MB/s{left}", gb(progress.bytes), gb(progress.total_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_bytes_rate_and_time_left() {
        let progress =
            PackProgress { bytes: 1_000_000_000, total_bytes: 3_000_000_000, elapsed: Duration::from_secs(10) };
        assert_eq!(line(&progress), "1.00 of 3.00 GB, 100 MB/s, 20 s left");
        assert_eq!(line(&PackProgress { bytes: 0, ..progress }), "0.00 of 3.00 GB, 0 MB/s");
    }
}
