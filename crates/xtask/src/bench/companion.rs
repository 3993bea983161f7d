//! `cargo xtask bench companion`: the full-size text encoder and transformer against PyTorch on this CPU, and the
//! server under load. Each row is checked against its bounds.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{BenchOptions, images};
use crate::{pixart, python, run, workspace::Workspace};

const CAPTION: &str = "a red circle on a blue table beside a window";
/// Blocks that are timed alone: PyTorch needs 19 GB for all in f32.
const LAYERS: &str = "2";
const GIB: f64 = (1_u64 << 30) as f64;
/// Resident memory at most, in GiB.
const BF16_GIB_MAX: f64 = 10.6;
const Q8_GIB_MAX: f64 = 6.0;
/// Highest times, relative to PyTorch's.
const TEXT_MAX: f64 = 1.0;
const FORWARD_MAX: f64 = 1.15;
/// Highest time to the first answer, relative to reading the files once and encoding.
const FIRST_MAX: f64 = 1.0;
/// Highest distance, relative to the norm of PyTorch's embeddings in f32.
const DISTANCE_MAX: f64 = 1e-5;
/// A virtual disk that was read a lot is several times slower for a while.
const REST: Duration = Duration::from_secs(45);
/// Memory that PyTorch needs for all of T5-XXL in f32.
const F32_GIB: f64 = 20.0;
const HEALTH_MS_MAX: f64 = 50.0;
/// Memory may end so much above what it was once settled.
const GROWTH_MAX: f64 = 1.05;

/// Prints one row per measurement with its verdict; exit code 1 where one violations what it must keep.
pub(super) fn bench(workspace: &Workspace, options: &BenchOptions) -> Result<ExitCode> {
    let mut rows = text(workspace, options.quick)?;
    rows.push(forward(workspace, options)?);
    rows.extend(images::bench(workspace)?);
    rows.extend(server(workspace)?);
    super::report_rows(rows, violations, options.json.as_deref())
}

/// T5-XXL of random numbers as bf16, and packed as q8.
fn text(workspace: &Workspace, quick: bool) -> Result<Vec<Value>> {
    let (whole, packed) = checkpoints(workspace)?;
    let out = workspace.cache.join("bench/t5-embeds.safetensors");
    let encode = |checkpoint: &Path, more: &[&str]| -> Result<Value> {
        let mut pixart = pixart::command(workspace)?;
        pixart.args(["encode", "--prompt", CAPTION, "--checkpoint"]).arg(checkpoint).arg("--out").arg(&out).args(more);
        super::last_row(&mut pixart)
    };
    let torch = |more: &[&str]| -> Result<Value> {
        let mut torch = python::oracle(workspace, "bench_t5.py")?;
        torch.arg(&whole).args(["--caption", CAPTION]).args(more);
        super::last_row(&mut torch)
    };
    let mut rows = Vec::new();

    run::log("timing two layers of T5-XXL, here and in PyTorch");
    let compared = out.to_str().context("a cache folder in UTF-8")?;
    for dtype in ["f32", "bf16", "q8"] {
        let ours = encode(&whole, &["--layers", LAYERS, "--runs", "4", "--text-dtype", dtype])?;
        let theirs = torch(&["--layers", LAYERS, "--dtype", "float32", "--compare", compared])?;
        let mut row = against("text layers", dtype, &ours, &theirs);
        row["distance"] = theirs["distance"].clone();
        row["distance_max"] = if dtype == "f32" { json!(DISTANCE_MAX) } else { Value::Null };
        rows.push(row);
    }

    run::log("encoding with all of T5-XXL, from the disk");
    std::thread::sleep(REST);
    let is_cold = drop_caches();
    let read_s = read_once(&whole)?;
    std::thread::sleep(REST);
    drop_caches();
    let ours = encode(&whole, &["--runs", "3"])?;
    let compute_s = median_of_rest(&ours);
    let first_s = number(&ours, "load_s") + ours["encode_s"][0].as_f64().unwrap_or(f64::NAN);
    rows.push(json!({
        "what": "first answer", "seconds": first_s, "read_s": read_s, "compute_s": compute_s, "cold": is_cold,
        "ratio": first_s / (read_s + compute_s), "ratio_max": FIRST_MAX,
    }));
    rows.push(memory("bf16", &ours, BF16_GIB_MAX));
    let wholes: &[&str] = match quick {
        true => &[],
        false if available_gib()? < F32_GIB => {
            run::log(&format!(
                "all of T5-XXL in f32 needs {F32_GIB} GiB in PyTorch, more than there is: in bf16 alone"
            ));
            &["bfloat16"]
        }
        false => &["float32", "bfloat16"],
    };
    for dtype in wholes {
        run::log(&format!("encoding with all of T5-XXL in PyTorch in {dtype}"));
        let theirs = torch(&["--dtype", dtype, "--runs", "1"])?;
        let mut row = against("text whole", "bf16", &ours, &theirs);
        // Our accumulators are f32: PyTorch's bf16 time is reported without a bound.
        if *dtype == "bfloat16" {
            row["ratio_max"] = Value::Null;
        }
        rows.push(row);
    }
    let small = encode(&packed, &["--runs", "2"])?;
    rows.push(memory("q8", &small, Q8_GIB_MAX));
    Ok(rows)
}

/// One row of both times, ours over PyTorch's.
fn against(what: &str, dtype: &str, ours: &Value, theirs: &Value) -> Value {
    let (seconds, torch_s) = (median_of_rest(ours), number(theirs, "median_s"));
    json!({
        "what": what, "dtype": dtype, "layers": theirs["layers"], "seconds": seconds, "pytorch_s": torch_s,
        "pytorch_dtype": theirs["dtype"], "ratio": seconds / torch_s, "ratio_max": TEXT_MAX,
    })
}

fn memory(dtype: &str, ours: &Value, gib_max: f64) -> Value {
    let gib = number(ours, "peak_bytes") / GIB;
    let (load_s, encode_s) = (&ours["load_s"], median_of_rest(ours));
    json!({ "what": "memory", "dtype": dtype, "gib": gib, "gib_max": gib_max, "load_s": load_s, "encode_s": encode_s })
}

/// The folders of the text encoder, which are written where they are not there yet.
fn checkpoints(workspace: &Workspace) -> Result<(PathBuf, PathBuf)> {
    let folder = workspace.cache.join("bench");
    let (whole, packed) = (folder.join("t5-xxl"), folder.join("t5-xxl-q8"));
    let tokenizer = workspace.web().join("models/scenes/tokenizer");
    if !whole.join("text_encoder/model.safetensors.index.json").is_file() {
        run::log("writing T5-XXL of random numbers: 9.5 GB, once");
        let mut synth = pixart::command(workspace)?;
        synth.args(["synth", "--arch", "t5-xxl", "--dtype", "bf16", "--to"]).arg(&whole);
        run::run(synth.stdout(Stdio::null()), run::minutes(10))?;
    }
    fs::create_dir_all(whole.join("tokenizer"))?;
    for file in fs::read_dir(&tokenizer)? {
        let file = file?;
        fs::copy(file.path(), whole.join("tokenizer").join(file.file_name()))?;
    }
    if !packed.join("manifest.json").is_file() {
        run::log("packing it as q8: 5.2 GB, once");
        let mut pack = pixart::command(workspace)?;
        pack.args(["pack", "--dtype", "q8", "--from"]).arg(&whole).arg("--to").arg(&packed);
        run::run(pack.stdout(Stdio::null()), run::minutes(20))?;
    }
    Ok((whole, packed))
}

/// One forward pass of PixArt-XL/2 at 256 px.
fn forward(workspace: &Workspace, options: &BenchOptions) -> Result<Value> {
    const WORKLOAD: &str = "xl_forward_256";
    let models = super::models(workspace, &[WORKLOAD])?;
    let timed = super::TimedWorkload { workspace, options, workload: WORKLOAD, models: &models };
    let ours = timed.natively(&pixart::command(workspace)?, "cpu")?;
    let theirs = timed.in_pytorch()?;
    let median = |rows: &[Value]| rows.first().map_or(f64::NAN, |row| number(row, "median_ms") / 1e3);
    let (seconds, torch_s) = (median(&ours), median(&theirs));
    Ok(json!({
        "what": "forward", "workload": WORKLOAD, "seconds": seconds, "pytorch_s": torch_s, "ratio": seconds / torch_s,
        "ratio_max": FORWARD_MAX, "rel_l2": ours[0]["rel_l2"], "fault": ours[0]["fault"],
    }))
}

/// The server with the embedded checkpoint, under load and mistreated.
fn server(workspace: &Workspace) -> Result<Vec<Value>> {
    run::log("loading a companion beyond its capacity");
    let companion = pixart::command(workspace)?;
    let checkpoint = workspace.web().join("models/scenes");
    let mut load = workspace.command("node");
    load.arg("tests/bench/companion.mjs").arg("--pixart").arg(companion.get_program());
    load.arg("--checkpoint").arg(&checkpoint);
    let mut rows = super::json_rows(&mut load)?;
    for row in &mut rows {
        row["what"] = json!(format!("server: {}", row["measured"].as_str().unwrap_or_default()));
    }
    Ok(rows)
}

/// Empties the system's cache of files; false where that is not allowed, and what is measured then is warm.
fn drop_caches() -> bool {
    Command::new("sync").status().is_ok() && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Memory available to programs, as Linux reports it.
fn available_gib() -> Result<f64> {
    let meminfo = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: f64 = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0.0);
    Ok(kib * 1024.0 / GIB)
}

/// Seconds to read every file below `dir` once.
fn read_once(dir: &Path) -> Result<f64> {
    let (began, mut piece) = (Instant::now(), vec![0; 8 << 20]);
    for file in fs::read_dir(dir.join("text_encoder"))? {
        let mut file = File::open(file?.path())?;
        while file.read(&mut piece)? > 0 {}
    }
    Ok(began.elapsed().as_secs_f64())
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or(f64::NAN)
}

/// Median seconds of all runs but the first.
fn median_of_rest(row: &Value) -> f64 {
    let mut rest: Vec<f64> =
        row["encode_s"].as_array().into_iter().flatten().skip(1).filter_map(Value::as_f64).collect();
    rest.sort_by(f64::total_cmp);
    rest.get(rest.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The bounds that a row violates. A missing number violates its bound.
fn violations(row: &Value) -> Vec<String> {
    let number = |key: &str| number(row, key);
    let mut violations = Vec::new();
    let mut require = |holds: bool, what: &str| {
        if !holds {
            violations.push(what.to_owned());
        }
    };
    let what = row["what"].as_str().unwrap_or_default();
    match what {
        "text layers" | "text whole" | "first answer" | "forward" => {
            let is_unbounded = row.get("ratio_max").is_some_and(Value::is_null);
            require(is_unbounded || number("ratio") <= number("ratio_max"), "ratio");
            let free = row.get("distance_max").is_none_or(Value::is_null);
            require(free || number("distance") <= number("distance_max"), "distance");
            require(row.get("fault").is_none_or(Value::is_null), "numbers");
        }
        "image" => return images::violations(row),
        "memory" => require(number("gib") <= number("gib_max"), "memory"),
        "server: load" => {
            let only = row["statuses"]
                .as_object()
                .is_some_and(|all| all.keys().all(|status| status == "200" || status == "429"));
            require(only && number("errors") == 0.0, "errors");
            require(number("encoded_per_second") > 0.0, "answers");
            require(number("healthz_p99_ms") <= HEALTH_MS_MAX, "health");
            require(number("memory_most_mib") <= number("memory_settled_mib") * GROWTH_MAX, "growth");
        }
        "server: slowHeaders" => {
            require(number("served") == 200.0 && number("established") == number("connections"), "service");
            require(number("left_open") == 0.0, "closed");
        }
        "server: badBodies" => {
            for body in ["oversized", "malformed", "stalled", "truncated"] {
                require((400.0..500.0).contains(&number(body)), body);
            }
            require(number("still_serves") == 200.0, "service");
        }
        "server: terminated" => require(number("lost") == 0.0 && number("answered") > 0.0 && row["exit"] == 0, "lost"),
        _ => require(false, "known"),
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_held_to_its_bounds_and_a_missing_number_is_missed() {
        let good =
            json!({ "what": "text layers", "ratio": 0.9, "ratio_max": 1.0, "distance": 0.5, "distance_max": null });
        assert!(violations(&good).is_empty());
        assert_eq!(violations(&json!({ "what": "text whole", "ratio": 1.1, "ratio_max": 1.0 })), ["ratio"]);
        assert_eq!(violations(&json!({ "what": "text whole", "ratio": 1.1 })), ["ratio"]);
        assert!(violations(&json!({ "what": "text whole", "ratio": 2.1, "ratio_max": null })).is_empty());
        assert_eq!(
            violations(
                &json!({ "what": "text layers", "ratio": 0.5, "ratio_max": 1.0, "distance": 1.0, "distance_max": 1e-5 })
            ),
            ["distance"]
        );
        assert_eq!(violations(&json!({ "what": "memory", "gib_max": 6.0 })), ["memory"]);
        let load = json!({
            "what": "server: load", "statuses": { "200": 5, "500": 1 }, "errors": 0, "encoded_per_second": 5,
            "healthz_p99_ms": 51.0, "memory_settled_mib": 100.0, "memory_most_mib": 106.0,
        });
        assert_eq!(violations(&load), ["errors", "health", "growth"]);
        assert_eq!(violations(&json!({ "what": "server: terminated", "lost": 1, "answered": 2, "exit": 0 })), ["lost"]);
        assert_eq!(violations(&json!({ "what": "other" })), ["known"]);
    }

    #[test]
    fn the_first_run_is_not_counted() {
        assert_eq!(median_of_rest(&json!({ "encode_s": [9.0, 3.0, 1.0, 2.0] })), 2.0);
        assert!(median_of_rest(&json!({ "encode_s": [9.0] })).is_nan());
    }
}
