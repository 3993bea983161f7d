//! `cargo xtask test`: every test, cheapest first, up to the first stage that fails; then what ran, on which adapters,
//! and what did not run.

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::{apt, check, chrome, compare, golden, page, place::Place, python, run, setup, tools};

/// Where Vulkan loaders look for drivers.
const VULKAN_DRIVERS: [&str; 3] = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
/// Tests name the device they ran on in lines with this word, a colon, and the name.
const ADAPTER: &str = "adapter";
/// In a browser every kernel compiles before its first use, on SwiftShader for seconds.
const WASM_TEST_SECONDS: &str = "900";

/// A part of the tests.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// Every crate on the processor, and the kernels on a Vulkan device
    Native,
    /// crates/browser in a headless browser
    Wasm,
    /// The page in a headless browser
    Page,
}

/// How a stage ended.
enum Outcome {
    Passed { adapters: Vec<String>, took: Duration },
    Failed { error: String, took: Duration },
    NotRun { why: &'static str },
}

/// Runs the stages, or one of them, and prints a summary; exit code 1 unless all that were asked for passed.
pub(crate) fn test(place: &Place, only: Option<Stage>) -> Result<ExitCode> {
    check::cheap(place)?;
    let mut outcomes = Vec::new();
    let mut failed = false;
    for &stage in Stage::value_variants() {
        let outcome = if only.is_some_and(|only| only != stage) {
            Outcome::NotRun { why: "not asked for" }
        } else if failed {
            Outcome::NotRun { why: "an earlier stage failed" }
        } else {
            let begun = Instant::now();
            match perform(place, stage) {
                Ok(adapters) => Outcome::Passed { adapters, took: begun.elapsed() },
                Err(error) => Outcome::Failed { error: format!("{error:#}"), took: begun.elapsed() },
            }
        };
        failed |= matches!(outcome, Outcome::Failed { .. });
        outcomes.push((stage, outcome));
    }
    for line in summary(&outcomes) {
        println!("{line}");
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn perform(place: &Place, stage: Stage) -> Result<Vec<String>> {
    match stage {
        Stage::Native => native(place),
        Stage::Wasm => wasm(place),
        Stage::Page => page(place),
    }
}

fn native(place: &Place) -> Result<Vec<String>> {
    if !without_gpu() {
        vulkan()?;
    }
    run::say("type-checking the companion for CUDA, which nothing here can run");
    let mut cuda = place.cargo();
    cuda.args(["check", "--release", "--package", "pixart-companion", "--features", "cuda"]);
    // Other features compile burn otherwise, and must not take the place of what the tests are built with.
    run::run(cuda.env("CARGO_TARGET_DIR", place.cuda_target()), run::minutes(60))?;
    run::say("testing every crate natively");
    // This program was built in the repository's own target folder, and what it is made of lies there.
    let mut own = place.cargo();
    own.args(["test", "--release", "--package", "xtask"]).env("CARGO_TARGET_DIR", place.root.join("target"));
    watched(&mut own, run::minutes(10))?;
    // Tests that pass keep what they print to themselves, and with it the adapter they ran on, unless asked.
    let named = watched(place.native("test").args(["--", "--show-output"]), run::minutes(90))?;
    let usable = devices(&run::read(golden::companion(place)?.args(["doctor", "--json"]))?)?;
    if usable.len() < 2 && !without_gpu() {
        bail!("no GPU adapter is usable, so no kernel ran on one; install a Vulkan driver, or set NO_GPU=1");
    }
    Ok(if named.is_empty() { usable } else { named })
}

fn wasm(place: &Place) -> Result<Vec<String>> {
    let toolchain = setup::wasm_toolchain(place)?;
    let folders = [tools::wasm_bindgen(place)?, tools::wasm_pack(place)?];
    let driver = chrome::driver()?;
    chrome::browser()?;
    run::say("testing crates/browser in a headless browser");
    let mut command = place.command(folders[1].join("wasm-pack"));
    command.args(["test", "--headless", "--chrome", "--release", "--chromedriver"]).arg(driver);
    // All targets are all but documented examples: rustdoc on PATH may be of another version. Passing tests, too, are to
    // show the adapter that they name.
    command.args(["crates/browser", "--all-targets", "--", "--nocapture"]);
    toolchain.apply(&mut command, &folders)?;
    command.env("CARGO_TARGET_DIR", place.wasm_target()).env("WASM_BINDGEN_TEST_TIMEOUT", WASM_TEST_SECONDS);
    watched(&mut command, run::minutes(90))
}

fn page(place: &Place) -> Result<Vec<String>> {
    page::build(place)?;
    let chrome = chrome::browser()?;
    let companion = golden::companion(place)?;
    run::say("testing the page in a headless browser");
    let mut node = place.command("node");
    let shots = place.cache.join("screenshots");
    node.args(["--test", "tests/page/", "tests/bench/"]).env("CHROME", chrome).env("PIXART", companion.get_program());
    let adapters = watched(node.env("SHOTS", &shots), run::minutes(30))?;
    run::say(&format!("the page's states, to be looked at: {}", shots.display()));
    run::say("talking to the companion with OpenAI's client");
    openai_client(place, &companion)?;
    run::say("comparing the tab with this computer, step by step");
    if compare::compare(place, None)? != ExitCode::SUCCESS {
        bail!("the tab and the companion draw too differently");
    }
    Ok(adapters)
}

/// Serves the embedded checkpoint and has a program of OpenAI's kind draw with it.
fn openai_client(place: &Place, companion: &Command) -> Result<()> {
    let mut pixart = place.command(companion.get_program());
    pixart.args(["serve", "--api-only", "--listen", "127.0.0.1:0", "--checkpoint"]);
    pixart.arg(place.web().join("models/scenes")).stdout(Stdio::piped());
    let mut serving = pixart.spawn().context("the companion cannot be started")?;
    let mut url = String::new();
    let stdout = serving.stdout.take().context("its output is piped")?;
    let talked = BufReader::new(stdout).read_line(&mut url).map_err(Into::into).and_then(|_| {
        let mut client = place.command(python::client(place)?);
        run::run(client.arg("tests/page/openai_client.py").arg(url.trim()), run::minutes(5))
    });
    // It is stopped however that went, and has nothing left to say.
    serving.kill().and_then(|()| serving.wait()).context("the companion cannot be stopped")?;
    talked
}

/// Runs tests with their output shown, and returns the adapters it names; an error if they fail.
fn watched(command: &mut Command, limit: Duration) -> Result<Vec<String>> {
    let (ended, lines) = run::lines(command, limit, |line| println!("{line}"))?;
    if !ended.success() {
        bail!("the tests failed: {ended}");
    }
    Ok(adapters(&lines))
}

/// Makes sure that there is a Vulkan driver: without one, kernels cannot run natively.
pub(crate) fn vulkan() -> Result<()> {
    let chosen = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().any(|variable| env::var_os(variable).is_some());
    if chosen || cfg!(target_os = "macos") || VULKAN_DRIVERS.iter().any(|folder| has_driver(Path::new(folder))) {
        return Ok(());
    }
    apt::install(
        &["mesa-vulkan-drivers", "libvulkan1"],
        "no Vulkan driver was found to run kernels on (NO_GPU=1 goes without)",
    )
}

fn has_driver(folder: &Path) -> bool {
    let Ok(entries) = folder.read_dir() else { return false };
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
}

/// Whether the user said that this machine has no GPU to run kernels on.
fn without_gpu() -> bool {
    env::var_os("NO_GPU").is_some_and(|value| value == "1")
}

/// The devices in the report of `pixart doctor --json`: the processor first, then every adapter.
fn devices(report: &str) -> Result<Vec<String>> {
    let report: Value = serde_json::from_str(report).context("`pixart doctor --json` printed no JSON")?;
    let mut devices = vec![format!("cpu ({} cores)", report["cpu"]["cores"])];
    for adapter in report["wgpu"].as_array().context("`pixart doctor --json` lists no adapters under `wgpu`")? {
        let text = |key: &str| adapter[key].as_str().unwrap_or("unnamed");
        devices.push(format!("{} ({})", text("name"), text("backend")));
    }
    Ok(devices)
}

/// The devices that `lines` name, each once.
fn adapters(lines: &[String]) -> Vec<String> {
    let mut adapters: Vec<String> = Vec::new();
    for line in lines {
        let name = line.split_once(ADAPTER).and_then(|(_, rest)| rest.split_once(": "));
        if let Some((_, name)) = name
            && !adapters.iter().any(|known| known == name.trim())
        {
            adapters.push(name.trim().to_owned());
        }
    }
    adapters
}

fn summary(outcomes: &[(Stage, Outcome)]) -> Vec<String> {
    let mut lines = vec![String::from("summary")];
    let (mut passed, mut failed) = (0, 0);
    for (stage, outcome) in outcomes {
        let stage = stage.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        lines.push(match outcome {
            Outcome::Passed { adapters, took } => {
                passed += 1;
                let adapters = if adapters.is_empty() { "none named".into() } else { adapters.join("; ") };
                format!("  {stage:<8} passed in {} s, adapters: {adapters}", took.as_secs())
            }
            Outcome::Failed { error, took } => {
                failed += 1;
                format!("  {stage:<8} FAILED after {} s: {error}", took.as_secs())
            }
            Outcome::NotRun { why } => format!("  {stage:<8} DID NOT RUN: {why}"),
        });
    }
    if without_gpu() {
        lines.push("  kernels  DID NOT RUN on a native GPU: NO_GPU is set".into());
    }
    lines.push(format!("stages: {passed} passed, {failed} failed"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_adapter_is_listed_once_whatever_stands_before_it() {
        let lines =
            ["adapter: llvmpipe", "test adapter ... ok", "  # adapter of it: llvmpipe ", "adapter: swiftshader"];
        assert_eq!(adapters(&lines.map(str::to_owned)), ["llvmpipe", "swiftshader"]);
    }

    #[test]
    fn the_processor_and_every_adapter_of_a_report_are_listed() {
        let report = r#"{"cpu":{"cores":2},"wgpu":[{"name":"llvmpipe","backend":"Vulkan"}]}"#;
        assert_eq!(devices(report).expect("the report is well formed"), ["cpu (2 cores)", "llvmpipe (Vulkan)"]);
        assert!(devices("{}").is_err());
    }

    #[test]
    fn the_summary_names_what_failed_and_what_did_not_run() {
        let took = Duration::from_secs(3);
        let lines = summary(&[
            (Stage::Native, Outcome::Passed { adapters: vec!["llvmpipe".into()], took }),
            (Stage::Wasm, Outcome::Failed { error: "no driver".into(), took }),
            (Stage::Page, Outcome::NotRun { why: "an earlier stage failed" }),
        ]);
        let text = lines.join("\n");
        for fact in
            ["native   passed in 3 s, adapters: llvmpipe", "FAILED after 3 s: no driver", "DID NOT RUN: an earlier"]
        {
            assert!(text.contains(fact), "{fact:?} is not in\n{text}");
        }
        assert!(text.ends_with("stages: 1 passed, 1 failed"), "{text}");
    }
}
