//! `pixart sheet`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use pixart_companion::device::DeviceSpec;
use pixart_companion::{Error, ImageGenerator, LoadOptions};
use pixart_model::image;
use pixart_protocol::GenerateRequest;
use serde_json::json;

use super::generate::print_progress;
use super::{print_json, write};

#[derive(Args)]
pub(crate) struct SheetArgs {
    /// A diffusers folder or a packed one.
    #[arg(long)]
    checkpoint: PathBuf,
    /// The prompt.
    #[arg(long)]
    prompt: String,
    /// Seed of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// Denoising steps of each image.
    #[arg(long, alias = "num-inference-steps", default_value_t = 20)]
    steps: u32,
    /// A scheduler as `generate` accepts it; repeat it for more [default: all].
    #[arg(long = "scheduler")]
    schedulers: Vec<String>,
    /// Images in a row of the sheet.
    #[arg(long, default_value = "6")]
    columns: NonZeroUsize,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    device: DeviceSpec,
    /// The PNG file to write.
    #[arg(long)]
    out: PathBuf,
}

impl SheetArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let options = LoadOptions { checkpoint: self.checkpoint, device: self.device, ..LoadOptions::default() };
        let generator = ImageGenerator::open(options)?;
        let names: Vec<String> = match self.schedulers.is_empty() {
            true => pixart_model::scheduler_names().map(str::to_owned).collect(),
            false => self.schedulers,
        };
        let request = |name: &String| GenerateRequest {
            seed: self.seed,
            num_inference_steps: self.steps,
            scheduler: Some(name.clone()),
            ..GenerateRequest::of(&self.prompt)
        };
        let prepared = names.iter().map(|name| generator.prepare(&request(name))).collect::<Result<Vec<_>, _>>()?;
        let mut images = Vec::new();
        for prepared in &prepared {
            for generated in generator.generate_prepared(prepared, print_progress)? {
                images.push(image::decode_image(&generated.file).map_err(Error::from)?);
                print_json(&json!({ "scheduler": prepared.request.scheduler, "image": generated.report }))?;
            }
        }
        write(&self.out, &image::encode_png(&image::image_grid(&images, self.columns), &[]).map_err(Error::from)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
