//! `cargo xtask compare`: the embedded checkpoint in a headless tab against this computer's processor, step by step.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Result, bail};

use crate::{
    chrome, golden,
    page::{self, Server},
    place::{Place, Scratch},
    run,
};

/// What the tab computes with, and what its text and latents may differ by of their largest magnitude.
const DEVICES: [(&str, &str); 2] = [("webgpu", "1e-4"), ("wasm", "1e-4")];
/// What a pixel may differ by: a value on a rounding edge falls to either side.
const PIXEL: &str = "1";
const REQUEST: &str =
    r#"{"prompt": "a red circle on a blue background", "seed": 7, "num_inference_steps": 10, "record": true}"#;

/// Compares each, and writes `<device>.json` and `<device>.png` to `out`, where there is one.
pub(crate) fn compare(place: &Place, out: Option<&Path>) -> Result<ExitCode> {
    page::build(place)?;
    let (chrome, server, scratch) = (chrome::browser()?, Server::start(place, None)?, Scratch::new("compare")?);
    let request = scratch.path().join("request.json");
    fs::write(&request, REQUEST)?;
    let mut all_good = true;
    for (device, relative) in DEVICES {
        let recording = scratch.path().join("recording.safetensors");
        let mut drive = page::drive(place, "generate", &server, &chrome);
        drive.arg("--request").arg(&request).arg("--out").arg(scratch.path().join("tab.png"));
        drive.arg("--recording").arg(&recording).args(["--timeout-seconds", "900", "--device", device]);
        let (ended, lines) = run::lines(&mut drive, run::minutes(16), |_| {})?;
        if !ended.success() {
            bail!("the page drew nothing to compare: {}", lines.join(" "));
        }
        let mut pixart = golden::companion(place)?;
        pixart.arg("compare").arg("--recording").arg(&recording).args([
            "--max-relative",
            relative,
            "--max-pixel",
            PIXEL,
        ]);
        pixart.arg("--checkpoint").arg(place.web().join("models/scenes"));
        if let Some(out) = out {
            fs::create_dir_all(out)?;
            pixart.arg("--json").arg(out.join(format!("{device}.json")));
            pixart.arg("--difference").arg(out.join(format!("{device}.png")));
        }
        all_good &= run::status(&mut pixart, run::minutes(10))?.success();
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
