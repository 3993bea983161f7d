//! `cargo xtask bench`: the same parts of the networks in this project and in its peers, with the same weights and inputs,
//! in one table. Every result is compared with PyTorch's before its time counts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{chrome, golden, page, place::Place, python, run, wasm};

mod companion;
mod feel;
mod pictures;
mod table;
mod weights;

/// What is timed in the browser, and natively. The autoencoder's larger latents are counted there, and not timed
/// against peers, which take the better part of an hour for each.
const BROWSER: [&str; 5] = ["block_b1n64", "block_b2n256", "block_b1n1024", "t5_n120", "vae_4"];
const COUNTED: [&str; 2] = ["vae_16", "vae_32"];
const NATIVE: [&str; 1] = ["xl_forward_256"];
/// What takes seconds, not minutes, in every implementation.
const QUICK: [&str; 1] = ["block_b1n64"];
const IMPLEMENTATIONS: [&str; 5] = ["ours", "burn-reference", "onnxruntime-web", "ours-cpu", "onnxruntime-web-wasm"];
/// Runs after the first. The slow peers take minutes for each.
const RUNS: u32 = 3;

/// As tests/bench/drive.mjs has it.
const REL_L2_LIMIT: f64 = 1e-3;

/// What to time.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// What to measure: parts of the networks; `weights`, a full-size checkpoint's way into a browser; `companion`, the
    /// full-size text encoder and the server under load; or `page`, how it feels while it draws and what it holds
    area: Option<Area>,
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
    /// Write the rows to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What else than parts of the networks is measured.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Area {
    Weights,
    Companion,
    Page,
}

/// Prints the table; exit code 1 where an implementation failed or gave other numbers.
pub(crate) fn bench(place: &Place, options: &Bench) -> Result<ExitCode> {
    match options.area {
        Some(Area::Weights) => return weights::bench(place, options.quick, options.json.as_deref()),
        Some(Area::Companion) => return companion::bench(place, options),
        Some(Area::Page) => return feel::bench(place, options.quick, options.json.as_deref()),
        None => {}
    }
    let all = [&BROWSER[..], &COUNTED, &NATIVE].concat();
    let workloads = match &options.only {
        Some(only) if all.contains(&only.as_str()) => vec![only.as_str()],
        Some(only) => bail!("there is no workload {only}; choose one of {}", all.join(", ")),
        None if options.quick => QUICK.to_vec(),
        None => all,
    };
    let models = models(place, &workloads)?;
    let companion = golden::companion(place)?;
    let in_browser = !options.gpu && workloads.iter().any(|workload| !NATIVE.contains(workload));
    let chrome = if in_browser {
        page::build_for(place, wasm::For::Benchmarks)?;
        Some(chrome::browser()?)
    } else {
        None
    };

    let mut rows = Vec::new();
    for workload in workloads {
        let timed = Timed { place, options, workload, models: &models };
        // What fails is a row, and takes no other along.
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

/// Prints rows with what each misses of what it must keep; exit code 1 where one misses something.
fn judged(mut rows: Vec<Value>, misses: fn(&Value) -> Vec<String>, json: Option<&Path>) -> Result<ExitCode> {
    let mut missed = 0;
    for row in &mut rows {
        let misses = misses(row);
        missed += misses.len();
        row["misses"] = json!(misses);
        println!("{row}");
    }
    write(&rows, json)?;
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes rows to the file that was asked for, if one was.
fn write(rows: &[Value], json: Option<&Path>) -> Result<()> {
    let Some(path) = json else { return Ok(()) };
    fs::write(path, format!("{:#}\n", json!({ "rows": rows }))).with_context(|| format!("cannot write {path:?}"))
}

/// One workload, to be timed.
struct Timed<'a> {
    place: &'a Place,
    options: &'a Bench,
    workload: &'a str,
    models: &'a Path,
}

impl Timed<'_> {
    fn in_browser(&self, chrome: &Path) -> Result<Vec<Value>> {
        run::say(&format!("timing {} in a headless browser", self.workload));
        let counted = COUNTED.contains(&self.workload);
        let (runs, implementations) =
            if counted { (1, &["ours", "ours-cpu"][..]) } else { (self.options.runs, &IMPLEMENTATIONS[..]) };
        let mut drive = self.place.command("node");
        drive.args(["tests/bench/drive.mjs", "--workload", self.workload, "--runs", &runs.to_string(), "--models"]);
        drive.arg(self.models).arg("--chrome").arg(chrome);
        drive.args(implementations.iter().flat_map(|name| ["--implementation", name]));
        printed(&mut drive)
    }

    fn natively(&self, companion: &Command, device: &str) -> Result<Vec<Value>> {
        run::say(&format!("timing {} natively on {device}", self.workload));
        let mut pixart = self.place.command(companion.get_program());
        pixart.args([
            "bench",
            "--device",
            device,
            "--workload",
            self.workload,
            "--runs",
            &self.options.runs.to_string(),
        ]);
        printed(pixart.arg("--models").arg(self.models))
    }

    fn in_pytorch(&self) -> Result<Vec<Value>> {
        run::say(&format!("timing {} in PyTorch", self.workload));
        let threads = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let mut torch = python::oracle(self.place, "bench_torch.py")?;
        torch.args(["--threads", &threads, "--runs", &self.options.runs.to_string(), "--workload", self.workload]);
        printed(&mut torch)
    }
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
    let kinds = if NATIVE.contains(&name) { &["io.safetensors"][..] } else { &["onnx", "io.safetensors"] };
    let weights = name.split_once('_').map_or(name, |(network, _)| network);
    let mut files = kinds.iter().map(|kind| format!("{name}.{kind}")).chain([format!("{weights}.safetensors")]);
    files.all(|file| folder.join(file).is_file())
}

/// The JSON lines a program prints. A program that failed must have told so in a row with a fault.
fn printed(command: &mut Command) -> Result<Vec<Value>> {
    let (ended, lines) = run::lines(command, run::minutes(120), |_| ())?;
    let parse = |line: &String| serde_json::from_str(line).with_context(|| format!("not a row: {line}"));
    let mut rows = lines.iter().map(parse).collect::<Result<Vec<Value>>>()?;
    for row in &mut rows {
        // What gave other numbers than PyTorch has no time.
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
