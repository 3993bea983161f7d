//! `cargo xtask bench companion`: the full-size text encoder and transformer against PyTorch on this processor, and the
//! server under load. Each row is held to what it must keep.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Bench, pictures};
use crate::{golden, place::Place, python, run};

const CAPTION: &str = "a red circle on a blue table beside a window";
/// Blocks that are timed alone: PyTorch needs 19 GB for all in f32.
const LAYERS: &str = "2";
const GIB: f64 = (1_u64 << 30) as f64;
/// Resident memory at most, in GiB.
const BF16_GIB_MAX: f64 = 10.6;
const Q8_GIB_MAX: f64 = 6.0;
/// Of PyTorch's time.
const TEXT_MAX: f64 = 1.0;
const FORWARD_MAX: f64 = 1.15;
/// Of the time to read the files once and to encode.
const FIRST_MAX: f64 = 1.0;
/// Of the norm of PyTorch's embeddings in f32.
const DISTANCE_MAX: f64 = 1e-5;
/// A virtual disk that was read a lot is several times slower for a while.
const REST: Duration = Duration::from_secs(45);
/// What PyTorch needs for all of T5-XXL in f32.
const F32_GIB: f64 = 20.0;
const HEALTH_MS_MAX: f64 = 50.0;
/// Memory may end so much above what it was once settled.
const GROWTH_MAX: f64 = 1.05;

/// Prints one row per measurement with its verdict; exit code 1 where one misses what it must keep.
pub(super) fn bench(place: &Place, options: &Bench) -> Result<ExitCode> {
    let mut rows = text(place, options.quick)?;
    rows.push(forward(place, options)?);
    rows.extend(pictures::draw(place)?);
    rows.extend(server(place)?);
    super::judged(rows, misses, options.json.as_deref())
}

/// T5-XXL of random numbers as bf16, and packed as q8.
fn text(place: &Place, quick: bool) -> Result<Vec<Value>> {
    let (whole, packed) = checkpoints(place)?;
    let out = place.cache.join("bench/t5-embeds.safetensors");
    let encode = |checkpoint: &Path, more: &[&str]| -> Result<Value> {
        let mut pixart = golden::companion(place)?;
        pixart.args(["encode", "--prompt", CAPTION, "--checkpoint"]).arg(checkpoint).arg("--out").arg(&out).args(more);
        last(&mut pixart)
    };
    let torch = |more: &[&str]| -> Result<Value> {
        let mut torch = python::oracle(place, "bench_t5.py")?;
        torch.arg(&whole).args(["--caption", CAPTION]).args(more);
        last(&mut torch)
    };
    let mut rows = Vec::new();

    run::say("timing two layers of T5-XXL, here and in PyTorch");
    let compared = out.to_str().context("a cache folder in UTF-8")?;
    for dtype in ["f32", "bf16", "q8"] {
        let ours = encode(&whole, &["--layers", LAYERS, "--runs", "4", "--text-dtype", dtype])?;
        let theirs = torch(&["--layers", LAYERS, "--dtype", "float32", "--compare", compared])?;
        let mut row = against("text layers", dtype, &ours, &theirs);
        row["distance"] = theirs["distance"].clone();
        row["distance_max"] = if dtype == "f32" { json!(DISTANCE_MAX) } else { Value::Null };
        rows.push(row);
    }

    run::say("encoding with all of T5-XXL, from the disk");
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
            run::say(&format!(
                "all of T5-XXL in f32 needs {F32_GIB} GiB in PyTorch, more than there is: in bf16 alone"
            ));
            &["bfloat16"]
        }
        false => &["float32", "bfloat16"],
    };
    for dtype in wholes {
        run::say(&format!("encoding with all of T5-XXL in PyTorch in {dtype}"));
        let theirs = torch(&["--dtype", dtype, "--runs", "1"])?;
        let mut row = against("text whole", "bf16", &ours, &theirs);
        // Sums of ours are f32: what rounds them too is told, and no bound.
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
fn checkpoints(place: &Place) -> Result<(PathBuf, PathBuf)> {
    let folder = place.cache.join("bench");
    let (whole, packed) = (folder.join("t5-xxl"), folder.join("t5-xxl-q8"));
    let tokenizer = place.web().join("models/scenes/tokenizer");
    if !whole.join("text_encoder/model.safetensors.index.json").is_file() {
        run::say("writing T5-XXL of random numbers: 9.5 GB, once");
        let mut synth = golden::companion(place)?;
        synth.args(["synth", "--arch", "t5-xxl", "--dtype", "bf16", "--to"]).arg(&whole);
        run::run(synth.stdout(Stdio::null()), run::minutes(10))?;
    }
    fs::create_dir_all(whole.join("tokenizer"))?;
    for file in fs::read_dir(&tokenizer)? {
        let file = file?;
        fs::copy(file.path(), whole.join("tokenizer").join(file.file_name()))?;
    }
    if !packed.join("manifest.json").is_file() {
        run::say("packing it as q8: 5.2 GB, once");
        let mut pack = golden::companion(place)?;
        pack.args(["pack", "--dtype", "q8", "--from"]).arg(&whole).arg("--to").arg(&packed);
        run::run(pack.stdout(Stdio::null()), run::minutes(20))?;
    }
    Ok((whole, packed))
}

/// One forward pass of PixArt-XL/2 at 256 px.
fn forward(place: &Place, options: &Bench) -> Result<Value> {
    const WORKLOAD: &str = "xl_forward_256";
    let models = super::models(place, &[WORKLOAD])?;
    let timed = super::Timed { place, options, workload: WORKLOAD, models: &models };
    let ours = timed.natively(&golden::companion(place)?, "cpu")?;
    let theirs = timed.in_pytorch()?;
    let median = |rows: &[Value]| rows.first().map_or(f64::NAN, |row| number(row, "median_ms") / 1e3);
    let (seconds, torch_s) = (median(&ours), median(&theirs));
    Ok(json!({
        "what": "forward", "workload": WORKLOAD, "seconds": seconds, "pytorch_s": torch_s, "ratio": seconds / torch_s,
        "ratio_max": FORWARD_MAX, "rel_l2": ours[0]["rel_l2"], "fault": ours[0]["fault"],
    }))
}

/// The server with the embedded checkpoint, under load and mistreated.
fn server(place: &Place) -> Result<Vec<Value>> {
    run::say("asking a companion more than it can do");
    let companion = golden::companion(place)?;
    let checkpoint = place.web().join("models/scenes");
    let mut load = place.command("node");
    load.arg("tests/bench/companion.mjs").arg("--pixart").arg(companion.get_program());
    load.arg("--checkpoint").arg(&checkpoint);
    let mut rows = super::printed(&mut load)?;
    for row in &mut rows {
        row["what"] = json!(format!("server: {}", row["measured"].as_str().unwrap_or_default()));
    }
    Ok(rows)
}

/// Empties the system's cache of files; false where that is not allowed, and what is measured then is warm.
fn drop_caches() -> bool {
    Command::new("sync").status().is_ok() && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Memory that programs could have now, as Linux tells.
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

/// The last row that a program prints.
pub(super) fn last(command: &mut Command) -> Result<Value> {
    let rows = super::printed(command)?;
    rows.into_iter().next_back().context("it printed no row")
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or(f64::NAN)
}

/// Of the seconds of all runs but the first.
fn median_of_rest(row: &Value) -> f64 {
    let mut rest: Vec<f64> =
        row["encode_s"].as_array().into_iter().flatten().skip(1).filter_map(Value::as_f64).collect();
    rest.sort_by(f64::total_cmp);
    rest.get(rest.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What a row must keep and does not. A number that is not there is missed.
fn misses(row: &Value) -> Vec<String> {
    let number = |key: &str| number(row, key);
    let mut misses = Vec::new();
    let mut hold = |kept: bool, what: &str| {
        if !kept {
            misses.push(what.to_owned());
        }
    };
    let what = row["what"].as_str().unwrap_or_default();
    match what {
        "text layers" | "text whole" | "first answer" | "forward" => {
            let told = row.get("ratio_max").is_some_and(Value::is_null);
            hold(told || number("ratio") <= number("ratio_max"), "ratio");
            let free = row.get("distance_max").is_none_or(Value::is_null);
            hold(free || number("distance") <= number("distance_max"), "distance");
            hold(row.get("fault").is_none_or(Value::is_null), "numbers");
        }
        "picture" => return pictures::misses(row),
        "memory" => hold(number("gib") <= number("gib_max"), "memory"),
        "server: load" => {
            let only = row["statuses"]
                .as_object()
                .is_some_and(|all| all.keys().all(|status| status == "200" || status == "429"));
            hold(only && number("errors") == 0.0, "errors");
            hold(number("encoded_per_second") > 0.0, "answers");
            hold(number("healthz_p99_ms") <= HEALTH_MS_MAX, "health");
            hold(number("memory_most_mib") <= number("memory_settled_mib") * GROWTH_MAX, "growth");
        }
        "server: slowHeaders" => {
            hold(number("served") == 200.0 && number("held") == number("connections"), "service");
            hold(number("left_open") == 0.0, "closed");
        }
        "server: badBodies" => {
            for body in ["oversized", "malformed", "stalled", "truncated"] {
                hold((400.0..500.0).contains(&number(body)), body);
            }
            hold(number("still_serves") == 200.0, "service");
        }
        "server: terminated" => hold(number("lost") == 0.0 && number("answered") > 0.0 && row["exit"] == 0, "lost"),
        _ => hold(false, "known"),
    }
    misses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_held_to_its_bounds_and_a_missing_number_is_missed() {
        let good =
            json!({ "what": "text layers", "ratio": 0.9, "ratio_max": 1.0, "distance": 0.5, "distance_max": null });
        assert!(misses(&good).is_empty());
        assert_eq!(misses(&json!({ "what": "text whole", "ratio": 1.1, "ratio_max": 1.0 })), ["ratio"]);
        assert_eq!(misses(&json!({ "what": "text whole", "ratio": 1.1 })), ["ratio"]);
        assert!(misses(&json!({ "what": "text whole", "ratio": 2.1, "ratio_max": null })).is_empty());
        assert_eq!(
            misses(
                &json!({ "what": "text layers", "ratio": 0.5, "ratio_max": 1.0, "distance": 1.0, "distance_max": 1e-5 })
            ),
            ["distance"]
        );
        assert_eq!(misses(&json!({ "what": "memory", "gib_max": 6.0 })), ["memory"]);
        let load = json!({
            "what": "server: load", "statuses": { "200": 5, "500": 1 }, "errors": 0, "encoded_per_second": 5,
            "healthz_p99_ms": 51.0, "memory_settled_mib": 100.0, "memory_most_mib": 106.0,
        });
        assert_eq!(misses(&load), ["errors", "health", "growth"]);
        assert_eq!(misses(&json!({ "what": "server: terminated", "lost": 1, "answered": 2, "exit": 0 })), ["lost"]);
        assert_eq!(misses(&json!({ "what": "other" })), ["known"]);
    }

    #[test]
    fn the_first_run_is_not_counted() {
        assert_eq!(median_of_rest(&json!({ "encode_s": [9.0, 3.0, 1.0, 2.0] })), 2.0);
        assert!(median_of_rest(&json!({ "encode_s": [9.0] })).is_nan());
    }
}
