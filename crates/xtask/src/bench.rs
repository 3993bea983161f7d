//! `cargo xtask bench`: the same parts of the networks in this project and in its peers, with the same weights and inputs,
//! in one table. Every result is compared with PyTorch's before its time counts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{chrome, page, pixart, python, run, wasm, workspace::Workspace};

mod companion;
mod images;
mod page_use;
pub(crate) mod plot;
mod real;
mod table;
mod weights;

/// Workloads that are timed in the browser, that are only counted there, and that are timed natively. Peers would take most of
/// an hour for each of the counted ones, the VAE's larger latents.
const BROWSER: [&str; 5] = ["block_b1n64", "block_b2n256", "block_b1n1024", "t5_n120", "vae_4"];
const COUNTED: [&str; 2] = ["vae_16", "vae_32"];
const NATIVE: [&str; 1] = ["xl_forward_256"];
/// Workloads that take seconds in every implementation.
const QUICK: [&str; 1] = ["block_b1n64"];
const IMPLEMENTATIONS: [&str; 5] = ["ours", "burn-reference", "onnxruntime-web", "ours-cpu", "onnxruntime-web-wasm"];
/// Runs after the first. The slow peers take minutes for each.
const RUNS: u32 = 3;

/// As tests/bench/drive.mjs has it.
const REL_L2_LIMIT: f64 = 1e-3;

/// The arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct BenchOptions {
    /// Area to measure instead of parts of the networks: `weights`, loading a full-size checkpoint in a browser; `companion`,
    /// the full-size text encoder and the server under load; `page`, input latency and memory while images are generated; `real`, a full-size PixArt with T5-XXL in a browser, and its
    /// text encoder natively in little memory
    area: Option<BenchArea>,
    /// Time this workload alone
    #[arg(long, value_name = "WORKLOAD")]
    only: Option<String>,
    /// Leave out what takes minutes
    #[arg(long)]
    quick: bool,
    /// Time our shaders on this machine's GPU, natively, and nothing else
    #[arg(long)]
    gpu: bool,
    /// Runs of each after the first
    #[arg(long, default_value_t = RUNS)]
    runs: u32,
    /// Write the tables and charts of docs/BENCHMARKS.md from the recordings in docs/benchmarks, and measure nothing
    #[arg(long)]
    plot: bool,
    /// Write the rows to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// An area other than parts of the networks.
#[derive(Clone, Copy, clap::ValueEnum)]
enum BenchArea {
    Weights,
    Companion,
    Page,
    Real,
}

/// Prints the table; exit code 1 where an implementation failed or gave other numbers.
pub(crate) fn bench(workspace: &Workspace, options: &BenchOptions) -> Result<ExitCode> {
    if options.plot {
        plot::write(workspace)?;
        return Ok(ExitCode::SUCCESS);
    }
    match options.area {
        Some(BenchArea::Weights) => return weights::bench(workspace, options.quick, options.json.as_deref()),
        Some(BenchArea::Companion) => return companion::bench(workspace, options),
        Some(BenchArea::Real) => return real::bench(workspace, options.json.as_deref()),
        Some(BenchArea::Page) => return page_use::bench(workspace, options.quick, options.json.as_deref()),
        None => {}
    }
    let all = [&BROWSER[..], &COUNTED, &NATIVE].concat();
    let workloads = match &options.only {
        Some(only) if all.contains(&only.as_str()) => vec![only.as_str()],
        Some(only) => bail!("there is no workload {only}; choose one of {}", all.join(", ")),
        None if options.quick => QUICK.to_vec(),
        None => all,
    };
    let models = models(workspace, &workloads)?;
    let companion = pixart::command(workspace)?;
    let in_browser = !options.gpu && workloads.iter().any(|workload| !NATIVE.contains(workload));
    let chrome = if in_browser {
        page::build_for(workspace, wasm::ModuleKind::Benchmark)?;
        Some(chrome::browser()?)
    } else {
        None
    };

    let mut rows = Vec::new();
    for workload in workloads {
        let timed = TimedWorkload { workspace, options, workload, models: &models };
        // A failure is a row; the other rows are still measured.
        let mut add = |name: &str, timed: Result<Vec<Value>>| {
            let failed =
                |error| vec![json!({ "workload": workload, "implementation": name, "fault": format!("{error:#}") })];
            rows.extend(timed.unwrap_or_else(failed));
        };
        if options.gpu {
            add("ours", timed.natively(&companion, "wgpu"));
            continue;
        }
        if let Some(chrome) = &chrome
            && !NATIVE.contains(&workload)
        {
            add("browser", timed.in_browser(chrome));
        }
        add("ours-cpu", timed.natively(&companion, "cpu"));
        add("pytorch", timed.in_pytorch());
        if NATIVE.contains(&workload) {
            add("ours", timed.natively(&companion, "wgpu"));
        }
    }
    println!("{}", table::text(&rows));
    println!("A browser without a GPU has a software adapter: such ratios do not carry over to hardware.");
    write(&rows, options.json.as_deref())?;
    let failed = rows.iter().any(|row| row.get("fault").is_some());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints rows with what each violations of what it must keep; exit code 1 where one violations something.
fn report_rows(mut rows: Vec<Value>, violations: fn(&Value) -> Vec<String>, json: Option<&Path>) -> Result<ExitCode> {
    let mut violated = 0;
    for row in &mut rows {
        let violations = violations(row);
        violated += violations.len();
        row["violations"] = json!(violations);
        println!("{row}");
    }
    write(&rows, json)?;
    Ok(if violated == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes the rows to the file of `--json`, if given.
fn write(rows: &[Value], json: Option<&Path>) -> Result<()> {
    let Some(path) = json else { return Ok(()) };
    fs::write(path, format!("{:#}\n", json!({ "rows": rows })))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// One workload, to be timed.
struct TimedWorkload<'a> {
    workspace: &'a Workspace,
    options: &'a BenchOptions,
    workload: &'a str,
    models: &'a Path,
}

impl TimedWorkload<'_> {
    fn in_browser(&self, chrome: &Path) -> Result<Vec<Value>> {
        run::log(&format!("timing {} in a headless browser", self.workload));
        let counted = COUNTED.contains(&self.workload);
        let (runs, implementations) =
            if counted { (1, &["ours", "ours-cpu"][..]) } else { (self.options.runs, &IMPLEMENTATIONS[..]) };
        let mut drive = self.workspace.command("node");
        drive.args(["tests/bench/drive.mjs", "--workload", self.workload, "--runs", &runs.to_string(), "--models"]);
        drive.arg(self.models).arg("--chrome").arg(chrome);
        drive.args(implementations.iter().flat_map(|name| ["--implementation", name]));
        json_rows(&mut drive)
    }

    fn natively(&self, companion: &Command, device: &str) -> Result<Vec<Value>> {
        run::log(&format!("timing {} natively on {device}", self.workload));
        let mut pixart = self.workspace.command(companion.get_program());
        pixart.args([
            "bench",
            "--device",
            device,
            "--workload",
            self.workload,
            "--runs",
            &self.options.runs.to_string(),
        ]);
        json_rows(pixart.arg("--models").arg(self.models))
    }

    fn in_pytorch(&self) -> Result<Vec<Value>> {
        run::log(&format!("timing {} in PyTorch", self.workload));
        let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let mut torch = python::oracle(self.workspace, "bench_torch.py")?;
        torch.args(["--threads", &threads, "--runs", &self.options.runs.to_string(), "--workload", self.workload]);
        json_rows(&mut torch)
    }
}

/// The folder of exported workloads; those that are missing are written.
fn models(workspace: &Workspace, workloads: &[&str]) -> Result<PathBuf> {
    let folder = workspace.cache.join("bench");
    let missing: Vec<&&str> = workloads.iter().filter(|name| !is_exported(&folder, name)).collect();
    if !missing.is_empty() {
        run::log("exporting the workloads with their weights: some are not here yet");
        let mut export = python::oracle(workspace, "export_onnx.py")?;
        export.arg("--out").arg(&folder).args(missing.iter().flat_map(|name| ["--only", name]));
        run::run(&mut export, run::minutes(20))?;
    }
    Ok(folder)
}

fn is_exported(folder: &Path, name: &str) -> bool {
    let kinds = if NATIVE.contains(&name) { &["io.safetensors"][..] } else { &["onnx", "io.safetensors"] };
    let weights = name.split_once('_').map_or(name, |(network, _)| network);
    let mut files = kinds.iter().map(|kind| format!("{name}.{kind}")).chain([format!("{weights}.safetensors")]);
    files.all(|file| folder.join(file).is_file())
}

/// The JSON lines that a program prints. A program that fails must print a row with a fault.
fn json_rows(command: &mut Command) -> Result<Vec<Value>> {
    let (ended, lines) = run::lines(command, run::minutes(120), |_| ())?;
    let parse = |line: &String| serde_json::from_str(line).with_context(|| format!("not a row: {line}"));
    let mut rows = lines.iter().map(parse).collect::<Result<Vec<Value>>>()?;
    for row in &mut rows {
        // A result that differs from PyTorch's has no valid time.
        if let Some(distance) =
            row.get("rel_l2").filter(|distance| distance.as_f64().is_none_or(|it| it > REL_L2_LIMIT))
        {
            row["fault"] = format!("{distance} of PyTorch's output away, more than {REL_L2_LIMIT}").into();
        }
    }
    if !ended.success() && !rows.iter().any(|row| row.get("fault").is_some()) {
        bail!("{} ended with {ended}", command.get_program().display());
    }
    Ok(rows)
}

/// The last row that a program prints.
fn last_row(command: &mut Command) -> Result<Value> {
    json_rows(command)?.into_iter().next_back().context("it printed no row")
}
