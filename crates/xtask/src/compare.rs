//! `cargo xtask compare`: the embedded checkpoint in a headless tab against the native CPU path, step by step.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Result, bail};

use crate::{
    chrome,
    page::{self, PageServer},
    pixart, run,
    workspace::{TempFolder, Workspace},
};

/// Devices of the tab, each with the tolerance of text and latents relative to their largest magnitude.
const DEVICES: [(&str, &str); 2] = [("webgpu", "1e-4"), ("wasm", "1e-4")];
/// Tolerance of a pixel: a value at a rounding boundary may round either way.
const PIXEL: &str = "1";
const REQUEST: &str =
    r#"{"prompt": "a red circle on a blue background", "seed": 7, "num_inference_steps": 10, "record": true}"#;

/// Compares each, and writes `<device>.json` and `<device>.png` to `out`, where there is one.
pub(crate) fn compare(workspace: &Workspace, out: Option<&Path>) -> Result<ExitCode> {
    page::build(workspace)?;
    let (chrome, server, temp) = (chrome::browser()?, PageServer::start(workspace, None)?, TempFolder::new("compare")?);
    let request = temp.path().join("request.json");
    fs::write(&request, REQUEST)?;
    let mut all_good = true;
    for (device, relative) in DEVICES {
        let recording = temp.path().join("recording.safetensors");
        let mut drive = page::drive(workspace, "generate", &server, &chrome);
        drive.arg("--request").arg(&request).arg("--out").arg(temp.path().join("tab.png"));
        drive.arg("--recording").arg(&recording).args(["--timeout-seconds", "900", "--device", device]);
        let (ended, lines) = run::lines(&mut drive, run::minutes(16), |_| {})?;
        if !ended.success() {
            bail!("the page generated no image to compare: {}", lines.join(" "));
        }
        let mut pixart = pixart::command(workspace)?;
        pixart.arg("compare").arg("--recording").arg(&recording).args([
            "--max-relative",
            relative,
            "--max-pixel",
            PIXEL,
        ]);
        pixart.arg("--checkpoint").arg(workspace.web().join("models/scenes"));
        if let Some(out) = out {
            fs::create_dir_all(out)?;
            pixart.arg("--json").arg(out.join(format!("{device}.json")));
            pixart.arg("--difference").arg(out.join(format!("{device}.png")));
        }
        all_good &= run::status(&mut pixart, run::minutes(10))?.success();
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
