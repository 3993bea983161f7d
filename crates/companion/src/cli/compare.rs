//! `pixart compare`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use pixart_companion::Error;
use pixart_companion::compare::{self, Tolerances};
use pixart_companion::device::DeviceSpec;
use pixart_protocol::GenerateRequest;
use pixart_verify::recording::Recording;

use super::components::{self, ComponentArgs};
use super::{print_line, read, write};

#[derive(Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(false))]
pub(crate) struct CompareArgs {
    /// The prompt to generate on both devices.
    #[arg(long, group = "what", requires_all = ["checkpoint", "with"])]
    prompt: Option<String>,
    /// A recording of the page or of `generate --record`, whose request is generated again on --device. A second one is
    /// compared with the first instead.
    #[arg(long = "recording", group = "what")]
    recordings: Vec<PathBuf>,
    /// A diffusers folder or a packed one, or owner/name[@revision] of the hub, or a name of `pixart models`.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    components: ComponentArgs,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    device: DeviceSpec,
    /// The device that --device is compared with.
    #[arg(long)]
    with: Option<DeviceSpec>,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// Denoising steps.
    #[arg(long, alias = "num-inference-steps", default_value_t = 20)]
    steps: u32,
    /// Classifier-free guidance scale.
    #[arg(long, alias = "guidance", default_value_t = 4.5)]
    guidance_scale: f64,
    /// A scheduler as `generate` accepts it.
    #[arg(long)]
    scheduler: Option<String>,
    /// Width in pixels [default: the checkpoint's native size].
    #[arg(long)]
    width: Option<u32>,
    /// Height in pixels [default: the checkpoint's native size].
    #[arg(long)]
    height: Option<u32>,
    /// Tolerance of embeddings and latents, relative to their largest magnitude; exit status 1 beyond it.
    #[arg(long, default_value_t = 1e-3)]
    max_relative: f64,
    /// Tolerance of pixels, from 0 to 255; exit status 1 beyond it.
    #[arg(long, default_value_t = 2.0)]
    max_pixel: f64,
    /// A PNG file to write: both images, and their difference scaled to white.
    #[arg(long)]
    difference: Option<PathBuf>,
    /// A JSON file to write.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl CompareArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (first, second) = match &self.recordings[..] {
            [] => {
                let with = self.with.context("clap requires --with beside --prompt")?;
                let request = self.request();
                (self.record(self.device, &request)?, self.record(with, &request)?)
            }
            [one] => {
                let first = read_recording(one)?;
                let second = self.record(self.device, &first.request)?;
                (first, second)
            }
            [one, other] => (read_recording(one)?, read_recording(other)?),
            _ => anyhow::bail!("{} recordings are named; name one or two with --recording", self.recordings.len()),
        };
        let report = compare::compare(&first, &second)?;
        if let Some(path) = &self.difference {
            write(path, &compare::difference_image(&first, &second)?)?;
        }
        if let Some(path) = &self.json {
            write(path, &serde_json::to_vec_pretty(&report)?)?;
        }
        print_line(&report.table())?;
        let tolerances = Tolerances { max_relative: self.max_relative, max_pixel: self.max_pixel };
        let exceeding: Vec<&str> = report.exceeding(tolerances).map(|row| row.tensor.as_str()).collect();
        if !exceeding.is_empty() {
            tracing::error!("beyond the tolerance: {}", exceeding.join(", "));
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Generates `request` on `device` and records it.
    fn record(&self, device: DeviceSpec, request: &GenerateRequest) -> anyhow::Result<Recording> {
        let checkpoint = self.checkpoint.clone().context("name the checkpoint to generate with by --checkpoint")?;
        let source = components::fetch(&checkpoint, &self.components.paths(), &[], None)?;
        Ok(compare::record(source, device, request)?)
    }

    /// The request of --prompt.
    fn request(&self) -> GenerateRequest {
        GenerateRequest {
            seed: self.seed,
            num_inference_steps: self.steps,
            guidance_scale: self.guidance_scale,
            scheduler: self.scheduler.clone(),
            width: self.width,
            height: self.height,
            ..GenerateRequest::of(self.prompt.clone().unwrap_or_default())
        }
    }
}

fn read_recording(path: &Path) -> Result<Recording, Error> {
    Ok(Recording::read(&path.display().to_string(), read(path)?)?)
}
