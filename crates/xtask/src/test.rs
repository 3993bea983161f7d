//! `cargo xtask test`: every test, cheapest first, up to the first stage that fails; then what ran, on which adapters,
//! and what did not run.

use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::Value;

use crate::{check, chrome, compare, engines, page, pixart, python, run, setup, tools, vulkan, workspace::Workspace};

/// The word by which tests name their device: it, a colon, and the name.
const ADAPTER: &str = "adapter";
/// Files of browser tests that run at once. Each waits for its browser, and computes on one thread where the GPU is not its subject.
const FILES_AT_ONCE: &str = "--test-concurrency=2";
/// Lists what failed once more at the end, where it is found.
const REPORTER: &str = "--test-reporter=spec";
/// Time limit of a wasm test. A browser compiles each kernel before its first use, which takes SwiftShader seconds.
const WASM_TEST_SECONDS: &str = "900";

/// A part of the tests.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TestStage {
    /// Every crate on the CPU, and the kernels on a Vulkan device
    Native,
    /// crates/browser in a headless browser
    Wasm,
    /// The page in a headless browser
    Page,
    /// The page in Firefox and in WebKitGTK
    Engines,
}

/// The result of a stage.
enum StageOutcome {
    Passed { adapters: Vec<String>, took: Duration },
    Failed { error: String, took: Duration },
    NotRun { why: &'static str },
}

/// Runs the stages, or one of them, and prints a summary; exit code 1 unless all requested stages passed.
pub(crate) fn test(workspace: &Workspace, only: Option<TestStage>) -> Result<ExitCode> {
    check::cheap(workspace)?;
    let mut outcomes = Vec::new();
    let mut failed = false;
    for &stage in TestStage::value_variants() {
        let outcome = if only.is_some_and(|only| only != stage) {
            StageOutcome::NotRun { why: "not requested" }
        } else if stage == TestStage::Engines && !cfg!(target_os = "linux") {
            StageOutcome::NotRun { why: "WebKitGTK needs Linux" }
        } else if failed {
            StageOutcome::NotRun { why: "an earlier stage failed" }
        } else {
            let begun = Instant::now();
            match run_task(workspace, stage) {
                Ok(adapters) => StageOutcome::Passed { adapters, took: begun.elapsed() },
                Err(error) => StageOutcome::Failed { error: format!("{error:#}"), took: begun.elapsed() },
            }
        };
        failed |= matches!(outcome, StageOutcome::Failed { .. });
        outcomes.push((stage, outcome));
    }
    for line in summary(&outcomes) {
        println!("{line}");
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn run_task(workspace: &Workspace, stage: TestStage) -> Result<Vec<String>> {
    match stage {
        TestStage::Native => native(workspace),
        TestStage::Wasm => wasm(workspace),
        TestStage::Page => page(workspace),
        TestStage::Engines => engines(workspace),
    }
}

fn native(workspace: &Workspace) -> Result<Vec<String>> {
    if !vulkan::is_disabled() {
        vulkan::require_driver()?;
    }
    run::log("type-checking the companion for CUDA; its tests need an NVIDIA GPU");
    let mut cuda = workspace.cargo();
    cuda.args(["check", "--release", "--package", "pixart-companion", "--features", "cuda"]);
    // Other features compile burn otherwise, and must not replace what the tests are built with.
    run::run(cuda.env("CARGO_TARGET_DIR", workspace.cuda_target()), run::minutes(60))?;
    run::log("testing every crate natively");
    // This program was built in the repository's own target folder, and what it is made of lies there.
    let mut own = workspace.cargo();
    own.args(["test", "--release", "--package", "xtask"]).env("CARGO_TARGET_DIR", workspace.root.join("target"));
    run_tests(&mut own, run::minutes(10))?;
    // `--show-output`: cargo hides what passing tests print, and with it the adapter they ran on.
    let named = run_tests(workspace.native("test").args(["--", "--show-output"]), run::minutes(90))?;
    let usable = devices(&run::read(pixart::command(workspace)?.args(["doctor", "--json"]))?)?;
    if usable.len() < 2 && !vulkan::is_disabled() {
        bail!("no GPU adapter is usable, so no kernel ran on one; install a Vulkan driver, or set NO_GPU=1");
    }
    Ok(if named.is_empty() { usable } else { named })
}

fn wasm(workspace: &Workspace) -> Result<Vec<String>> {
    let toolchain = setup::wasm_toolchain(workspace)?;
    let folders = [tools::wasm_bindgen(workspace)?, tools::wasm_pack(workspace)?];
    let driver = chrome::driver()?;
    chrome::browser()?;
    run::log("testing crates/browser in a headless browser");
    let mut command = workspace.command(folders[1].join("wasm-pack"));
    command.args(["test", "--headless", "--chrome", "--release", "--chromedriver"]).arg(driver);
    // All targets are all but documented examples: rustdoc on PATH may be of another version. Passing tests, too, are to
    // show the adapter that they name.
    command.args(["crates/browser", "--all-targets", "--", "--nocapture"]);
    toolchain.apply(&mut command, &folders)?;
    command.env("CARGO_TARGET_DIR", workspace.wasm_target()).env("WASM_BINDGEN_TEST_TIMEOUT", WASM_TEST_SECONDS);
    run_tests(&mut command, run::minutes(90))
}

fn page(workspace: &Workspace) -> Result<Vec<String>> {
    page::build(workspace)?;
    let chrome = chrome::browser()?;
    let companion = pixart::command(workspace)?;
    run::log("testing the page in a headless browser");
    let mut node = workspace.command("node");
    let shots = workspace.cache.join("screenshots");
    node.args(["--test", REPORTER, FILES_AT_ONCE, "tests/page/", "tests/bench/"])
        .env("CHROME", chrome)
        .env("PIXART", companion.get_program());
    let adapters = run_tests(node.env("SHOTS", &shots), run::minutes(30))?;
    run::log(&format!("screenshots of the page's states: {}", shots.display()));
    run::log("calling the companion with OpenAI's client, and with one of AUTOMATIC1111's web UI");
    http_clients(workspace, &companion)?;
    run::log("comparing the tab with this computer, step by step");
    if compare::compare(workspace, None)? != ExitCode::SUCCESS {
        bail!("the images of the tab and of the companion differ too much");
    }
    Ok(adapters)
}

fn engines(workspace: &Workspace) -> Result<Vec<String>> {
    page::build(workspace)?;
    // Its images are what those of the other engines are compared with.
    let chrome = chrome::browser()?;
    let companion = pixart::command(workspace)?;
    // Firefox's WebGPU runs on Vulkan.
    vulkan::require_driver()?;
    let mut node = engines::node(workspace)?;
    node.args(["--test", REPORTER, FILES_AT_ONCE, "tests/engines/"])
        .env("CHROME", chrome)
        .env("PIXART", companion.get_program());
    engines::set_programs(workspace, &mut node)?;
    run::log("testing the page in Firefox and in WebKitGTK");
    run_tests(&mut node, run::minutes(30))
}

/// Serves the embedded checkpoint and generates images with other projects' clients.
fn http_clients(workspace: &Workspace, companion: &Command) -> Result<()> {
    pixart::serving(workspace, companion, None, |url| {
        for script in ["tests/page/openai_client.py", "tests/page/webuiapi_client.py"] {
            let mut client = workspace.command(python::client(workspace)?);
            run::run(client.arg(script).arg(url), run::minutes(5))?;
        }
        Ok(())
    })
}

/// Runs tests with their output command_line, and returns the adapters it names; an error if they fail.
fn run_tests(command: &mut Command, limit: Duration) -> Result<Vec<String>> {
    let (ended, lines) = run::lines(command, limit, |line| println!("{line}"))?;
    if !ended.success() {
        bail!("the tests failed: {ended}");
    }
    Ok(adapters(&lines))
}

/// The devices in the report of `pixart doctor --json`: the CPU first, then every adapter.
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

fn summary(outcomes: &[(TestStage, StageOutcome)]) -> Vec<String> {
    let mut lines = vec![String::from("summary")];
    let (mut passed, mut failed) = (0, 0);
    for (stage, outcome) in outcomes {
        let stage = stage.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        lines.push(match outcome {
            StageOutcome::Passed { adapters, took } => {
                passed += 1;
                let adapters = if adapters.is_empty() { "none named".into() } else { adapters.join("; ") };
                format!("  {stage:<8} passed in {} s, adapters: {adapters}", took.as_secs())
            }
            StageOutcome::Failed { error, took } => {
                failed += 1;
                format!("  {stage:<8} FAILED after {} s: {error}", took.as_secs())
            }
            StageOutcome::NotRun { why } => format!("  {stage:<8} DID NOT RUN: {why}"),
        });
    }
    if vulkan::is_disabled() {
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
    fn the_cpu_and_every_adapter_of_a_report_are_listed() {
        let report = r#"{"cpu":{"cores":2},"wgpu":[{"name":"llvmpipe","backend":"Vulkan"}]}"#;
        assert_eq!(devices(report).expect("the report is well formed"), ["cpu (2 cores)", "llvmpipe (Vulkan)"]);
        assert!(devices("{}").is_err());
    }

    #[test]
    fn the_summary_names_what_failed_and_what_did_not_run() {
        let took = Duration::from_secs(3);
        let lines = summary(&[
            (TestStage::Native, StageOutcome::Passed { adapters: vec!["llvmpipe".into()], took }),
            (TestStage::Wasm, StageOutcome::Failed { error: "no driver".into(), took }),
            (TestStage::Page, StageOutcome::NotRun { why: "an earlier stage failed" }),
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
