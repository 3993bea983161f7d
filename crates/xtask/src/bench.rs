//! `cargo xtask bench`: the same parts of the networks in this project and in its peers, with the same weights and inputs,
//! in one table. Every result is compared with PyTorch's before its time counts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{chrome, page, place::Place, python, run};

/// Timed in the browser, in this order. The first of them is what the others are compared with.
const WORKLOADS: [&str; 3] = ["block_b1n64", "block_b2n256", "t5_n120"];
/// Those that take seconds, not minutes, in every implementation.
const QUICK: [&str; 1] = ["block_b1n64"];
const IMPLEMENTATIONS: [&str; 5] = ["ours", "burn-stock", "onnxruntime-web", "ours-cpu", "onnxruntime-web-wasm"];
/// Runs after the first. The slow peers take minutes for each.
const RUNS: u32 = 3;

/// What to time.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// Time this workload alone
    #[arg(long, value_name = "WORKLOAD")]
    only: Option<String>,
    /// Leave out what takes minutes
    #[arg(long)]
    quick: bool,
    /// Runs of each after the first
    #[arg(long, default_value_t = RUNS)]
    runs: u32,
    /// Write the rows to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Prints the table; exit code 1 where an implementation failed or gave other numbers.
pub(crate) fn bench(place: &Place, options: &Bench) -> Result<ExitCode> {
    let names = if options.quick { &QUICK[..] } else { &WORKLOADS[..] };
    let workloads = options.only.as_deref().map_or_else(|| names.to_vec(), |only| vec![only]);
    let models = models(place, &workloads)?;
    page::build(place)?;
    let chrome = chrome::browser()?;

    let mut rows = Vec::new();
    for workload in &workloads {
        run::say(&format!("timing {workload} in a headless browser"));
        let mut drive = place.command("node");
        drive.args(["tests/bench/drive.mjs", "--workload", workload, "--runs", &options.runs.to_string(), "--models"]);
        drive.arg(&models).arg("--chrome").arg(&chrome);
        drive.args(IMPLEMENTATIONS.iter().flat_map(|name| ["--implementation", name]));
        rows.extend(printed(&mut drive)?);
        run::say(&format!("timing {workload} in PyTorch"));
        let mut torch = python::oracle(place, "bench_torch.py")?;
        torch.args(["--threads", "1", "--runs", &options.runs.to_string(), "--workload", workload]);
        rows.extend(printed(&mut torch)?);
    }
    println!("{}", table(&rows));
    println!(
        "Times are of a software adapter where the browser has no GPU: their ratios do not carry over to hardware."
    );
    if let Some(path) = &options.json {
        fs::write(path, format!("{:#}\n", json!({ "rows": rows })))
            .with_context(|| format!("cannot write {path:?}"))?;
    }
    let failed = rows.iter().any(|row| row.get("fault").is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The folder of exported workloads; those that are missing are written.
fn models(place: &Place, workloads: &[&str]) -> Result<PathBuf> {
    let folder = place.cache.join("bench");
    let missing: Vec<&&str> = workloads.iter().filter(|name| !is_exported(&folder, name)).collect();
    if !missing.is_empty() {
        run::say("exporting the workloads with their weights: some are not here yet");
        let mut export = python::oracle(place, "export_onnx.py")?;
        export.arg("--out").arg(&folder).args(missing.iter().flat_map(|name| ["--only", name]));
        run::run(&mut export, run::minutes(20))?;
    }
    Ok(folder)
}

fn is_exported(folder: &Path, name: &str) -> bool {
    ["onnx", "io.safetensors"].iter().all(|kind| folder.join(format!("{name}.{kind}")).is_file())
}

/// The JSON lines a program prints. It may exit with a status of its own: a failure is a row with a fault.
fn printed(command: &mut Command) -> Result<Vec<Value>> {
    let (_, lines) = run::lines(command, run::minutes(120), |_| ())?;
    lines.iter().map(|line| serde_json::from_str(line).with_context(|| format!("not a row: {line}"))).collect()
}

/// One line a row, with the processor time relative to the workload's `ours`.
fn table(rows: &[Value]) -> String {
    let mut lines = vec![format!(
        "{:<14} {:<21} {:>10} {:>9} {:>10} {:>7} {:>10} {:>9} {:>9} {:>8} {:>8}",
        "workload",
        "implementation",
        "median ms",
        "spread",
        "cpu ms",
        "ratio",
        "dispatches",
        "pipelines",
        "created ms",
        "MB bound",
        "MB peak",
    )];
    for row in rows {
        let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
        let number = |key: &str, scale: f64| {
            row.get(key)
                .and_then(Value::as_f64)
                .map_or_else(|| "-".to_owned(), |number| format!("{:.0}", number / scale))
        };
        if let Some(fault) = row.get("fault").and_then(Value::as_str) {
            lines.push(format!("{:<14} {:<21} FAILED: {fault}", text("workload"), text("implementation")));
            continue;
        }
        let ours = rows.iter().find(|other| other["workload"] == row["workload"] && other["implementation"] == "ours");
        let ratio = ours.and_then(|ours| Some(row.get("cpu_ms")?.as_f64()? / ours.get("cpu_ms")?.as_f64()?));
        lines.push(format!(
            "{:<14} {:<21} {:>10} {:>9} {:>10} {:>7} {:>10} {:>9} {:>9} {:>8} {:>8}",
            text("workload"),
            text("implementation"),
            number("median_ms", 1.0),
            number("spread_ms", 1.0),
            number("cpu_ms", 1.0),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            number("dispatches", 1.0),
            number("pipelines", 1.0),
            number("pipeline_ms", 1.0),
            number("bytes", 1e6),
            number("peak_buffer_bytes", 1e6),
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_ours_of_the_same_workload() {
        let row = |workload: &str, name: &str, cpu_ms: f64| json!({ "workload": workload, "implementation": name, "cpu_ms": cpu_ms, "median_ms": 1.0 });
        let rows = [row("a", "ours", 10.0), row("a", "peer", 25.0), row("b", "ours", 1.0), row("b", "peer", 3.0)];
        let table = table(&rows);
        let ratios: Vec<&str> = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(5)).collect();
        assert_eq!(ratios, ["1.00", "2.50", "1.00", "3.00"]);
    }

    #[test]
    fn a_failure_is_a_line_of_its_own() {
        let rows = [json!({ "workload": "a", "implementation": "peer", "fault": "too far" })];
        assert!(table(&rows).contains("FAILED: too far"));
    }
}
