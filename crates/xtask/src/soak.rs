//! `cargo xtask soak`: long runs of the page and of the server, in which nothing may be lost and memory may not grow. Writes
//! docs/benchmarks/soak.json and its table.

use std::{fs, process::ExitCode, thread};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{bench::plot, chrome, page, pixart, run, workspace::Workspace};

const RECORDING: &str = "docs/benchmarks/soak.json";
/// The length of a run that has all of its images, restarts and hours.
pub(crate) const FULL_MINUTES: u32 = 120;
/// How much longer than planned a run may take: a busy machine generates slowly.
const PATIENCE: u32 = 4;
/// Highest growth of memory. The page's own heap is small, so that what it holds of the gallery counts.
const GROWTH_MAX: f64 = 0.05;
const PAGE_HEAP_GROWTH_MAX: f64 = 0.25;
/// Highest number of bytes that a killed download fetches twice: shards that were under way, of 1 MiB each.
const TWICE_BYTES_MAX: f64 = 8e6;

/// Runs for about `minutes`; exit code 1 where something was lost, or memory grew.
pub(crate) fn soak(workspace: &Workspace, minutes: u32, seed: u32) -> Result<ExitCode> {
    page::build(workspace)?;
    let companion = pixart::command(workspace)?;
    run::log(&format!(
        "running for about {minutes} minutes: images and then killed downloads, beside a server under load"
    ));
    let mut node = workspace.command("node");
    node.arg("tests/soak/soak.mjs").arg("--chrome").arg(chrome::browser()?).arg("--pixart");
    node.arg(companion.get_program()).args(["--minutes", &minutes.to_string(), "--seed", &seed.to_string()]);
    let (ended, lines) = run::lines(&mut node, run::minutes(u64::from(PATIENCE * minutes.max(10))), |_| ())?;
    if !ended.success() {
        bail!("the soak did not end well: {ended}");
    }
    let parse = |line: &String| serde_json::from_str(line).with_context(|| format!("not a row: {line}"));
    let rows = lines.iter().map(parse).collect::<Result<Vec<Value>>>()?;
    let path = workspace.root.join(RECORDING);
    fs::write(&path, format!("{:#}\n", recording(&rows, &machine(minutes, seed)?)?))
        .with_context(|| format!("cannot write {}", path.display()))?;
    plot::write(workspace)?;
    let mut is_good = true;
    for row in &rows {
        println!("{}", shown(row));
        for violation in violations(row) {
            println!("  {violation}");
            is_good = false;
        }
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The row without its series of measurements.
fn shown(row: &Value) -> Value {
    let mut row = row.clone();
    if let Some(row) = row.as_object_mut() {
        row.retain(|_, value| !value.is_array());
    }
    row
}

fn machine(minutes: u32, seed: u32) -> Result<String> {
    let cores = thread::available_parallelism().context("the number of cores is not known")?;
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(": "));
    let model = model.map_or("an unnamed CPU", |(_, model)| model);
    Ok(format!("{cores} cores of {model}; WebGPU on SwiftShader; {minutes} minutes planned, seed {seed}"))
}

/// The recording of docs/benchmarks.
fn recording(rows: &[Value], machine: &str) -> Result<Value> {
    let of =
        |what: &str| rows.iter().find(|row| row["what"] == what).with_context(|| format!("there is no row {what}"));
    let (images, restarts, server) = (of("images")?, of("restarts")?, of("server")?);
    let percent = |row: &Value, key: &str| json!(row[key].as_f64().map(|growth| (growth * 1000.0).round() / 10.0));
    let minutes = |row: &Value| json!(row["load_seconds"].as_f64().map(|seconds| (seconds / 6.0).round() / 10.0));
    let row = |name: &str, value: Value| json!({"name": name, "values": [value]});
    let with_unit = |name: &str, value: Value, unit: &str| json!({"name": name, "values": [value], "unit": unit});
    let twice = restarts["most_bytes_twice"].as_f64().map(|bytes| (bytes / 1e5).round() / 10.0);
    Ok(json!({
        "command": "`cargo xtask soak`",
        "machine": machine,
        "label": "long runs",
        "columns": ["value"],
        "rows": [
            row("images in one page", images["images"].clone()),
            row("models opened, one after another", images["models_opened"].clone()),
            row("images missing in the gallery, or other than before", json!(lost_images(images))),
            with_unit("growth of the wasm heap", percent(images, "heap_growth"), "%"),
            with_unit("growth of GPU memory", percent(images, "device_growth"), "%"),
            with_unit("growth of the page's JavaScript heap", percent(images, "page_heap_growth"), "%"),
            row("browsers killed", restarts["restarts"].clone()),
            row("of which during the download", restarts["during_download"].clone()),
            row("checkpoints loaded afterwards", restarts["loaded"].clone()),
            with_unit("most that was downloaded twice", json!(twice), "MB"),
            with_unit("server under load", minutes(server), "minutes"),
            row("requests answered", server["answered"].clone()),
            row("requests that found it busy", server["busy"].clone()),
            row("clients killed", server["killed"].clone()),
            row("requests that failed otherwise", server["failed"].clone()),
            with_unit("growth of the server's memory", percent(server, "memory_growth"), "%"),
        ],
    }))
}

fn lost_images(row: &Value) -> Option<u64> {
    let number = |key: &str| row[key].as_u64();
    Some(number("images")?.abs_diff(number("images_in_gallery")?) + number("images_that_differ")?)
}

/// The bounds that a row violates. A missing number violates its bound.
fn violations(row: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    let mut at_most = |key: &str, most: f64| {
        if row[key].as_f64().is_none_or(|number| number > most) {
            violations.push(format!("{key} is above {most}"));
        }
    };
    match row["what"].as_str() {
        Some("images") => {
            at_most("heap_growth", GROWTH_MAX);
            at_most("device_growth", GROWTH_MAX);
            at_most("page_heap_growth", PAGE_HEAP_GROWTH_MAX);
            if lost_images(row) != Some(0) {
                violations.push("images were lost".to_owned());
            }
        }
        Some("restarts") => {
            at_most("most_bytes_twice", TWICE_BYTES_MAX);
            if row["loaded"] != row["restarts"] || row["during_download"].as_u64().is_none_or(|count| count == 0) {
                violations.push("a checkpoint was not loaded, or no download was killed".to_owned());
            }
        }
        Some("server") => {
            at_most("failed", 0.0);
            at_most("memory_growth", GROWTH_MAX);
            if row["alive"] != true || row["same_image"] != true {
                violations.push("the server ended, or gives another image than before".to_owned());
            }
        }
        _ => violations.push("the row is not known".to_owned()),
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> [Value; 3] {
        [
            json!({"what": "images", "images": 80, "images_in_gallery": 80, "images_that_differ": 0, "heap_growth": 0.0,
                   "device_growth": -0.01, "page_heap_growth": 0.1}),
            json!({"what": "restarts", "restarts": 3, "during_download": 2, "loaded": 3, "most_bytes_twice": 1e6}),
            json!({"what": "server", "failed": 0, "memory_growth": 0.01, "alive": true, "same_image": true, "load_seconds": 90}),
        ]
    }

    #[test]
    fn what_is_lost_grows_or_is_missing_is_a_violation() {
        for row in rows() {
            assert_eq!(violations(&row), Vec::<String>::new());
        }
        for (at, key, value) in [
            (0, "images_in_gallery", json!(79)),
            (0, "images_that_differ", json!(1)),
            (0, "device_growth", json!(0.2)),
            (0, "heap_growth", Value::Null),
            (1, "loaded", json!(2)),
            (1, "during_download", json!(0)),
            (1, "most_bytes_twice", json!(9e6)),
            (2, "failed", json!(1)),
            (2, "same_image", json!(false)),
        ] {
            let mut row = rows()[at].clone();
            row[key] = value;
            assert_eq!(violations(&row).len(), 1, "{row}");
        }
    }

    #[test]
    fn a_recording_has_a_value_in_every_row() {
        let recording = recording(&rows(), "a machine").expect("all rows are there");
        assert_eq!(recording["rows"][2]["values"], json!([0]));
        assert_eq!(recording["rows"][10]["values"], json!([1.5]));
        assert!(self::recording(&rows()[..2], "a machine").is_err());
    }
}
