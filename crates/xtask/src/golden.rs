//! `cargo xtask golden`: compares the pipeline with recorded tensors on a chosen device, or records them again.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::{
    chrome, engines,
    page::{self, PageServer},
    pixart, python, run, vulkan, wasm,
    workspace::Workspace,
};

/// The device that the pipeline runs on.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum GoldenDevice {
    /// On the CPU
    Cpu,
    /// On this machine's GPU, or on a software Vulkan driver
    Wgpu,
    /// In a headless browser, through WebGPU
    Tab,
    /// In a headless browser, on the CPU
    TabWasm,
    /// In Firefox, through WebGPU
    Firefox,
}

/// Prints one row per variant and tap; exit code 1 if any failed, or if none was compared.
pub(crate) fn check(workspace: &Workspace, folder: &Path, device: GoldenDevice) -> Result<ExitCode> {
    let folder = fs::canonicalize(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    match device {
        GoldenDevice::Cpu => native(workspace, &folder, "cpu"),
        GoldenDevice::Wgpu => {
            vulkan::require_driver()?;
            native(workspace, &folder, "wgpu")
        }
        GoldenDevice::Tab => tab(workspace, &folder, "webgpu", drive_chrome),
        GoldenDevice::TabWasm => tab(workspace, &folder, "wasm", drive_chrome),
        GoldenDevice::Firefox => {
            vulkan::require_driver()?;
            tab(workspace, &folder, "webgpu", drive_firefox)
        }
    }
}

/// Records tests/golden with the pinned Python packages.
pub(crate) fn make(workspace: &Workspace) -> Result<ExitCode> {
    let mut make = python::oracle(workspace, "make.py")?;
    run::run(&mut make, run::minutes(60))?;
    Ok(ExitCode::SUCCESS)
}

fn native(workspace: &Workspace, folder: &Path, device: &str) -> Result<ExitCode> {
    let arguments = ["golden".as_ref(), folder.as_os_str(), "--device".as_ref(), device.as_ref()];
    pixart::in_users_folder(workspace, &arguments.map(OsString::from), run::minutes(60))
}

fn drive_chrome(workspace: &Workspace, server: &PageServer) -> Result<Command> {
    Ok(page::drive(workspace, "check", server, &chrome::browser()?))
}

fn drive_firefox(workspace: &Workspace, server: &PageServer) -> Result<Command> {
    let mut node = workspace.command("node");
    node.args(["tests/page/drive.mjs", "check", "--firefox", "--url", &server.url]);
    engines::set_firefox(workspace, &mut node)?;
    Ok(node)
}

/// A program that checks a variant in a browser.
type Drive = fn(&Workspace, &PageServer) -> Result<Command>;

fn tab(workspace: &Workspace, folder: &Path, device: &str, drive: Drive) -> Result<ExitCode> {
    let variants = variants(folder)?;
    // The tiny recorded VAEs have two channels a group, which no shader supports: burn's operations stand in.
    page::build_for(workspace, wasm::ModuleKind::Benchmark)?;
    let server = PageServer::start(workspace, None)?;
    println!("{:<18} {:<34} {:>10} {:>10}  verdict", "variant", "tap", "max abs", "max rel");
    let mut count = VerdictCounts::default();
    for (name, path) in variants {
        let mut drive = drive(workspace, &server)?;
        drive.arg("--variant-dir").arg(path).args(["--name", &name, "--timeout-seconds", "900", "--device", device]);
        let (_, lines) = run::lines(&mut drive, run::minutes(16), |_| {})?;
        let answer: Value = serde_json::from_str(lines.last().context("the page's driver printed nothing")?)
            .context("the page's driver printed no JSON")?;
        let Some(rows) = answer.as_array() else { bail!("the page could not check {name}: {answer}") };
        for row in rows {
            println!("{}", line(row));
            count.add(row);
        }
    }
    println!("{} passed, {} failed, {} not built", count.passed, count.failed, count.not_built);
    Ok(if count.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The number of rows by verdict.
#[derive(Default)]
struct VerdictCounts {
    passed: u32,
    failed: u32,
    not_built: u32,
}

impl VerdictCounts {
    /// Counts a row; an unknown verdict counts as failed.
    fn add(&mut self, row: &Value) {
        match row["verdict"]["kind"].as_str() {
            Some("pass") => self.passed += 1,
            Some("not_built") => self.not_built += 1,
            _ => self.failed += 1,
        }
    }

    fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

/// One row of the table, as the companion prints it.
pub(crate) fn line(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or("?").to_owned();
    let why = row["verdict"]["why"].as_str().unwrap_or("no reason given");
    let verdict = match row["verdict"]["kind"].as_str() {
        Some("pass") => String::from("PASS"),
        Some("not_built") => format!("NOT BUILT: {why}"),
        _ => format!("FAIL: {why}"),
    };
    let number = |key: &str| row[key].as_f64().map_or_else(|| String::from("-"), |number| format!("{number:.3e}"));
    let (max_abs, max_relative) = (number("max_abs"), number("max_relative"));
    format!("{:<18} {:<34} {max_abs:>10} {max_relative:>10}  {verdict}", text("variant"), text("tap"))
}

/// The variants in `folder`, by name: its sub-folders with a meta.json.
fn variants(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut variants = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.path().join("meta.json").is_file() {
            variants.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    if variants.is_empty() {
        bail!("{} holds no variant: no folder in it has a meta.json", folder.display());
    }
    variants.sort();
    Ok(variants)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(verdict: &Value) -> Value {
        json!({"variant": "plain", "tap": "block.0", "max_abs": 1.5e-6, "max_relative": null, "verdict": verdict})
    }

    fn good(verdicts: &[Value]) -> bool {
        let mut count = VerdictCounts::default();
        verdicts.iter().for_each(|verdict| count.add(&row(verdict)));
        count.is_good()
    }

    #[test]
    fn a_failed_or_unknown_verdict_or_none_at_all_fails_the_check() {
        let (pass, fail) = (json!({"kind": "pass"}), json!({"kind": "fail", "why": "too far"}));
        let not_built = json!({"kind": "not_built", "why": "the LCM scheduler"});
        assert!(good(&[pass.clone(), not_built.clone()]));
        assert!(!good(&[pass.clone(), fail]));
        assert!(!good(&[pass, json!({"kind": "maybe"})]));
        assert!(!good(&[not_built]));
        assert!(!good(&[]));
    }

    #[test]
    fn a_row_shows_its_reason_and_a_dash_for_what_is_not_finite() {
        let line = line(&row(&json!({"kind": "fail", "why": "NaN at 3"})));
        assert!(line.ends_with("1.500e-6          -  FAIL: NaN at 3"), "{line}");
    }
}
