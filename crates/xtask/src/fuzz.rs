//! `cargo xtask fuzz`: requests that a program makes from a description of what is accepted, valid ones and invalid ones.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::{pixart, python, run, workspace::Workspace};

/// Checks of each response. That invalid data are refused is not among them: the API reads `3.0` as 3.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      unsupported_method,allow_header_conformance";

/// Part of the interface to send requests to.
#[derive(Subcommand)]
pub(crate) enum FuzzTarget {
    /// The companion's HTTP API, by its OpenAPI document
    Http {
        /// Most examples for each route
        #[arg(long, default_value_t = 100)]
        examples: u32,
        /// Seed of the examples
        #[arg(long, default_value_t = 0)]
        seed: u32,
    },
}

/// Runs a target; an error if it finds a fault.
pub(crate) fn fuzz(workspace: &Workspace, target: &FuzzTarget) -> Result<ExitCode> {
    match *target {
        FuzzTarget::Http { examples, seed } => http(workspace, examples, seed).map(|()| ExitCode::SUCCESS),
    }
}

/// Serves the embedded checkpoint and sends it requests.
fn http(workspace: &Workspace, examples: u32, seed: u32) -> Result<()> {
    let companion = pixart::command(workspace)?;
    let python = python::fuzzer(workspace)?;
    let log = workspace.cache.join("fuzz-http.log");
    run::log("sending generated requests to the companion");
    pixart::serving(workspace, &companion, Some(&log), |url| {
        let mut schemathesis = workspace.command(python.with_file_name("schemathesis"));
        schemathesis.arg("run").arg(format!("{}openapi.json", url)).args(["--checks", CHECKS, "--continue-on-failure"]);
        schemathesis.args([
            "--phases",
            "examples,coverage,fuzzing",
            "--wait-for-schema",
            "60",
            "--request-timeout",
            "120",
        ]);
        schemathesis.args(["--warnings", "off", "--max-examples", &examples.to_string(), "--seed", &seed.to_string()]);
        schemathesis.current_dir(workspace.root.join("fuzz/http")).env("SCHEMATHESIS_HOOKS", "hooks");
        run::run(&mut schemathesis, run::minutes(60))?;
        still_generates(workspace, url)
    })?;
    no_panic(&log)
}

/// Generates an image, as a client that follows all those requests.
fn still_generates(workspace: &Workspace, url: &str) -> Result<()> {
    let body = json!({ "prompt": "a red circle", "size": "64x64", "num_inference_steps": 1 }).to_string();
    let mut curl = workspace.command("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body", "--json", &body]);
    let reply = run::read(curl.arg(format!("{url}v1/images/generations")))?;
    let reply: Value = serde_json::from_str(&reply).context("the companion's answer is no JSON")?;
    if !reply["data"][0]["b64_json"].is_string() {
        bail!("the companion generates no image after those requests: {reply}");
    }
    Ok(())
}

fn no_panic(log: &Path) -> Result<()> {
    let text = fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    match text.lines().find(|line| line.contains("panicked")) {
        Some(line) => bail!("the companion panicked, see {}: {line}", log.display()),
        None => Ok(()),
    }
}
