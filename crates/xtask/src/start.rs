//! `cargo xtask start`: the page on this machine, or one picture drawn by it in a headless browser.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::{
    chrome,
    page::{self, Server},
    place::{Place, Scratch},
    run,
};

/// One picture to draw.
#[derive(Args)]
#[group(requires_all = ["prompt", "out"])]
pub(crate) struct Draw {
    /// Draw this in a headless browser instead of serving the page
    #[arg(long, required = false)]
    prompt: String,
    /// File to save the picture in, as PNG
    #[arg(long, required = false, value_name = "FILE")]
    out: PathBuf,
    /// What the picture is to be steered away from
    #[arg(long, default_value = "")]
    negative_prompt: String,
    /// Seed of the noise that the picture is made from
    #[arg(long, default_value_t = 0)]
    seed: u32,
    /// Denoising steps
    #[arg(long, default_value_t = 20)]
    steps: u32,
    /// Weight of the prompt against the negative prompt
    #[arg(long, alias = "guidance", default_value_t = 4.5, allow_negative_numbers = true)]
    guidance_scale: f64,
    /// Pixels; what the checkpoint was trained at unless given
    #[arg(long)]
    width: Option<u32>,
    /// Pixels; what the checkpoint was trained at unless given
    #[arg(long)]
    height: Option<u32>,
    /// What the page computes with
    #[arg(long, value_parser = ["auto", "webgpu", "wasm"], default_value = "auto")]
    device: String,
    /// How long the page may take, from its load to the picture
    #[arg(long, default_value_t = 900)]
    timeout_seconds: u32,
}

/// Serves the page until interrupted.
pub(crate) fn serve(place: &Place, port: u16) -> Result<ExitCode> {
    page::build(place)?;
    let server = Server::start(place, Some(port))?;
    println!("{}", server.url);
    run::say("serving the page; press Ctrl-C to stop");
    server.wait()?;
    Ok(ExitCode::SUCCESS)
}

/// Draws one picture in the page, and prints the one line that says how it went: a report, or a fault and exit code 1.
pub(crate) fn draw(place: &Place, draw: &Draw) -> Result<ExitCode> {
    page::build(place)?;
    let chrome = chrome::browser()?;
    let server = Server::start(place, None)?;
    let scratch = Scratch::new("draw")?;
    let request = scratch.path().join("request.json");
    fs::write(&request, draw.request().to_string()).with_context(|| format!("cannot write {}", request.display()))?;
    let out = std::path::absolute(&draw.out).with_context(|| format!("{} is no path", draw.out.display()))?;

    let mut drive = page::drive(place, "generate", &server, &chrome);
    drive.arg("--request").arg(&request).arg("--out").arg(&out);
    drive.args(["--timeout-seconds", &draw.timeout_seconds.to_string(), "--device", &draw.device]);
    // The page's own limit comes first, and says more.
    let limit = Duration::from_secs(u64::from(draw.timeout_seconds)) + run::minutes(1);
    let (ended, _) = run::lines(&mut drive, limit, |line| println!("{line}"))?;
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Draw {
    /// What the page is asked for, without what it is to choose itself.
    fn request(&self) -> serde_json::Value {
        let mut request = json!({
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
        });
        for (side, pixels) in [("width", self.width), ("height", self.height)] {
            if let Some(pixels) = pixels {
                request[side] = pixels.into();
            }
        }
        request
    }
}
