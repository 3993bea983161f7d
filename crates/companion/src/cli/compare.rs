//! `pixart compare`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use pixart_companion::compare::Bounds;
use pixart_protocol::GenerateRequest;

use super::Kind;

#[derive(Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(false))]
pub(crate) struct CompareArgs {
    /// What to draw on both devices.
    #[arg(long, group = "what", requires_all = ["checkpoint", "with"])]
    prompt: Option<String>,
    /// A recording, of the page's or of `generate --record`, whose request is drawn again on --device; a second one is compared
    /// with the first instead.
    #[arg(long = "recording", group = "what")]
    pub(crate) recordings: Vec<PathBuf>,
    /// A diffusers folder or a packed one.
    #[arg(long)]
    pub(crate) checkpoint: Option<PathBuf>,
    /// cpu, wgpu, vulkan, cuda or cuda:1.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Kind,
    /// The device that --device is compared with.
    #[arg(long)]
    pub(crate) with: Option<Kind>,
    #[arg(long, default_value_t = 0)]
    seed: u32,
    #[arg(long, default_value_t = 20)]
    steps: u32,
    #[arg(long, alias = "guidance", default_value_t = 4.5)]
    guidance_scale: f64,
    /// A scheduler as `generate` takes it.
    #[arg(long)]
    scheduler: Option<String>,
    #[arg(long)]
    width: Option<u32>,
    #[arg(long)]
    height: Option<u32>,
    /// What text and latents may differ by, of their largest magnitude; exit 1 beyond it.
    #[arg(long, default_value_t = 1e-3)]
    max_relative: f64,
    /// What a pixel may differ by, of 255; exit 1 beyond it.
    #[arg(long, default_value_t = 2.0)]
    max_pixel: f64,
    /// A PNG file to write: both pictures and their difference, stretched to white.
    #[arg(long)]
    pub(crate) difference: Option<PathBuf>,
    /// A JSON file to write.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

impl CompareArgs {
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds { relative: self.max_relative, pixels: self.max_pixel }
    }

    /// The request of --prompt.
    pub(crate) fn request(&self) -> GenerateRequest {
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
