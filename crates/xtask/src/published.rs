//! `cargo xtask golden --published NAME`: a published checkpoint is downloaded from the hub, one call of it is recorded in diffusers,
//! and the pipeline is compared with it, tap by tap. One line says how it went.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use pixart_protocol::{Catalogue, CatalogueComponents, CatalogueModel, Preset};
use serde_json::{Value, json};

use crate::{golden::GoldenDevice, pixart, python, run, workspace::Workspace};

const PROMPT: &str = "A small cactus with a happy face in the Sahara desert.";
/// Denoising steps where the preset does not fix them.
const STEPS: u32 = 2;
/// Downloads, records and compares the checkpoint `name`, and prints every tap and the verdict.
pub(crate) fn compare(workspace: &Workspace, name: &str, synthetic: bool, device: GoldenDevice) -> Result<ExitCode> {
    let device = match device {
        GoldenDevice::Cpu => "cpu",
        GoldenDevice::Wgpu => "wgpu",
        _ => bail!("--published runs natively: choose --device cpu or wgpu"),
    };
    let model = model(workspace, name)?;
    let out = workspace.cache.join("published").join(if synthetic { "synthetic" } else { "fetched" }).join(name);
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    }
    let variant = out.join("recorded").join(name);
    fs::create_dir_all(&variant).with_context(|| format!("cannot create {}", variant.display()))?;

    let hub = if synthetic { Some(SyntheticHub::start(workspace, name, &out.join("hub"))?) } else { None };
    run::log(&format!("downloading {name}"));
    let mut fetch = pixart::command(workspace)?;
    fetch.args(["fetch", "--checkpoint", name]);
    if let Some(hub) = &hub {
        fetch.env("HF_ENDPOINT", &hub.endpoint).env("HF_HOME", out.join("cache")).env_remove("HF_HUB_CACHE");
    }
    let places: Value = serde_json::from_str(&run::read(&mut fetch)?).context("pixart fetch printed no JSON")?;
    drop(hub);
    compose(&places, &variant.join("pipeline"))?;

    run::log("recording one call in diffusers");
    let preset = Preset::named(&model.preset).map_err(|fault| anyhow::anyhow!("{}", fault.what))?;
    let call = json!({
        "prompt": PROMPT, "size": model.size, "guidance_scale": preset.guidance_scale, "variant": places["variant"],
        "steps": preset.timesteps.as_ref().map_or(STEPS, |timesteps| timesteps.len() as u32),
        "max_sequence_length": preset.max_sequence_length, "timesteps": preset.timesteps,
    });
    let mut record = python::oracle(workspace, "published.py")?;
    let (recorded, lines) = run::lines(record.arg(&variant).arg(call.to_string()), run::minutes(240), |_| {})?;
    let versions = lines.last().filter(|_| recorded.success()).context("the call could not be recorded")?;

    let mut check = pixart::command(workspace)?;
    check.arg("golden").arg(out.join("recorded")).args(["--json", "--device", device]);
    let (_, lines) = run::lines(&mut check, run::minutes(240), |_| {})?;
    let rows: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for row in rows.iter().filter(|row| row["verdict"]["kind"] != "pass") {
        println!("{}", crate::golden::line(row));
    }
    let (verdict, is_good) = verdict(&rows);
    let kind = if synthetic { "random weights in its layout" } else { "the published weights" };
    println!("{name}, {} px, {kind}, on {device}: {verdict}; {versions}, pixart {}", model.size, commit(workspace)?);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the catalogue of published checkpoints.
pub(crate) fn catalogue(workspace: &Workspace) -> Result<Catalogue> {
    let path = workspace.root.join("crates/weights/catalogue.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{}", path.display()))
}

/// Returns the model called `name`.
pub(crate) fn model(workspace: &Workspace, name: &str) -> Result<CatalogueModel> {
    let catalogue = catalogue(workspace)?;
    let names: Vec<&str> = catalogue.models.iter().map(|model| model.name.as_str()).collect();
    catalogue
        .model(name)
        .cloned()
        .with_context(|| format!("no model is called {name}; choose one of {}", names.join(", ")))
}

/// Makes `to` a diffusers folder of links to the files of each component, as diffusers reads one.
fn compose(places: &Value, to: &Path) -> Result<()> {
    let checkpoint = PathBuf::from(places["checkpoint"].as_str().context("the checkpoint has no place")?);
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    link(&checkpoint.join("model_index.json"), &to.join("model_index.json"))?;
    for component in CatalogueComponents::NAMES {
        let folder = to.join(component);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let own = checkpoint.join(component);
        let place = places[component].as_str().map_or_else(|| own.clone(), PathBuf::from);
        if place.is_dir() {
            link_all(&place, &folder, |_| true)?;
        } else {
            // Weights in a folder of their component's name have its small files beside them.
            let beside = place.parent().filter(|parent| parent.ends_with(component)).unwrap_or(&own);
            link_all(beside, &folder, |name| name.ends_with(".json") && !name.contains(".index."))?;
            link(&place, &folder.join(place.file_name().context("a file has a name")?))?;
        }
    }
    Ok(())
}

fn link_all(from: &Path, to: &Path, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        if is_wanted(&entry.file_name().to_string_lossy()) {
            link(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn link(from: &Path, to: &Path) -> Result<()> {
    let whole = fs::canonicalize(from).with_context(|| format!("cannot find {}", from.display()))?;
    symlink(&whole, to).with_context(|| format!("cannot link {}", to.display()))
}

/// Returns the verdict's text, and whether all taps passed.
fn verdict(rows: &[Value]) -> (String, bool) {
    let passed = rows.iter().filter(|row| row["verdict"]["kind"] == "pass").count();
    let relative = |row: &Value| row["max_relative"].as_f64().unwrap_or(f64::NAN);
    // Pixels are whole numbers.
    let worst = rows.iter().filter(|row| row["tap"] != "image.u8").max_by(|a, b| relative(a).total_cmp(&relative(b)));
    let is_good = passed == rows.len() && passed > 0;
    let word = if is_good { "PASS" } else { "FAIL" };
    let worst = worst.map_or_else(String::new, |row| {
        format!(", largest relative difference {:.2e} at {}", relative(row), row["tap"].as_str().unwrap_or("?"))
    });
    (format!("{word}, {passed} of {} taps{worst}", rows.len()), is_good)
}

fn commit(workspace: &Workspace) -> Result<String> {
    Ok(run::read(workspace.command("git").args(["rev-parse", "--short", "HEAD"]))?.trim().to_owned())
}

/// A hub on this computer with random weights in the layout of a published checkpoint.
struct SyntheticHub {
    server: Child,
    endpoint: String,
}

impl SyntheticHub {
    fn start(workspace: &Workspace, name: &str, folder: &Path) -> Result<Self> {
        let mut synth = pixart::command(workspace)?;
        synth.args(["synth", "--published", name, "--scale", "tiny", "--to"]).arg(folder);
        run::run(synth.stdout(Stdio::null()), run::minutes(10))?;
        let mut node: Command = workspace.command("node");
        let mut server = node
            .arg(workspace.root.join("tests/page/hub.mjs"))
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .context("the hub cannot be started")?;
        let mut endpoint = String::new();
        let stdout = server.stdout.take().context("its output is piped")?;
        BufReader::new(stdout).read_line(&mut endpoint).context("the hub printed no address")?;
        Ok(Self { server, endpoint: endpoint.trim().to_owned() })
    }
}

impl Drop for SyntheticHub {
    fn drop(&mut self) {
        // One that has ended needs no end.
        self.server.kill().and_then(|()| self.server.wait().map(drop)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tap: &str, relative: f64, kind: &str) -> Value {
        json!({"tap": tap, "max_relative": relative, "verdict": {"kind": kind}})
    }

    #[test]
    fn the_verdict_names_the_worst_tap_and_fails_with_any_tap() {
        let rows = [row("a", 1e-7, "pass"), row("b", 3e-6, "pass"), row("image.u8", 0.5, "pass")];
        assert_eq!(verdict(&rows), ("PASS, 3 of 3 taps, largest relative difference 3.00e-6 at b".to_owned(), true));
        assert!(!verdict(&[row("a", 1e-7, "pass"), row("b", 1.0, "fail")]).1);
        assert!(!verdict(&[]).1);
    }
}
