//! `cargo xtask bench real`: a PixArt of full size, with T5-XXL, in a headless browser that encodes the prompt itself, and the text encoder
//! natively in little memory. Each row is checked against its bounds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{chrome, page, pixart, run, workspace::Workspace};

const MIB: f64 = 1_048_576.0;
/// Most memory of the wasm module, with WebGPU.
const HEAP_MIB_MAX: f64 = 160.0;
/// Most resident memory of the native encoder.
const NATIVE_MIB_MAX: f64 = 1024.0;
/// Largest distance of the tab's embeddings to the native ones, of their largest magnitude.
const DISTANCE_MAX: f64 = 1e-3;

/// Prints one row per measurement with its verdict; exit code 1 where one violates what it must keep.
pub(super) fn bench(workspace: &Workspace, json: Option<&Path>) -> Result<ExitCode> {
    let packed = checkpoint(workspace)?;
    let (native, embeds) = native(workspace, &packed)?;
    let mut rows = vec![native];
    page::build(workspace)?;
    run::log("encoding and generating in a headless browser; a layer takes seconds on a fallback adapter");
    let mut drive = workspace.command("node");
    drive.arg("tests/bench/real.mjs").arg("--packed").arg(&packed).arg("--embeds").arg(embeds);
    drive.arg("--chrome").arg(chrome::browser()?);
    rows.extend(super::json_rows(&mut drive)?);
    let code = super::report_rows(rows, violations, json)?;
    println!("A fallback adapter computes on the CPU: these seconds do not carry over to a GPU.");
    Ok(code)
}

/// Writes a checkpoint of random numbers, XL/2 with its VAE and T5-XXL, and packs it as q8.
fn checkpoint(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.cache.join("bench/real");
    let (source, packed) = (folder.join("source"), folder.join("q8"));
    if packed.join("manifest.json").is_file() {
        return Ok(packed);
    }
    run::log("writing a full-size checkpoint and packing it: 16 GB meanwhile, 6 GB after, once");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let companion = pixart::command(workspace)?;
    let begun = |arguments: &[&str]| {
        let mut pixart = workspace.command(companion.get_program());
        pixart.args(arguments);
        pixart
    };
    for arch in ["xl-256", "sd-vae", "t5-xxl"] {
        let mut synth = begun(&["synth", "--arch", arch, "--dtype", "bf16", "--to"]);
        run::run(synth.arg(&source).stdout(Stdio::null()), run::minutes(20))?;
    }
    let scenes = workspace.root.join("web/models/scenes");
    for file in ["model_index.json", "scheduler/scheduler_config.json", "tokenizer/spiece.model"] {
        let to = source.join(file);
        fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        fs::copy(scenes.join(file), &to).with_context(|| format!("cannot write {}", to.display()))?;
    }
    let mut pack = begun(&["pack", "--dtype", "q8", "--from"]);
    run::run(pack.arg(&source).arg("--to").arg(&packed).stdout(Stdio::null()), run::minutes(30))?;
    fs::remove_dir_all(&source).with_context(|| format!("cannot remove {}", source.display()))?;
    Ok(packed)
}

/// Encodes with all blocks in memory and with one at a time; returns the row and the embeddings' file.
fn native(workspace: &Workspace, packed: &Path) -> Result<(Value, PathBuf)> {
    let folder = workspace.cache.join("bench/real");
    let encode = |out: &Path, memory: &[&str]| -> Result<Value> {
        let mut pixart = pixart::command(workspace)?;
        pixart.args(["encode", "--prompt", "a red circle on a blue background", "--checkpoint"]).arg(packed);
        pixart.arg("--out").arg(out).args(memory);
        let rows = super::json_rows(&mut pixart)?;
        rows.into_iter().next().context("`pixart encode` printed nothing")
    };
    let (whole, streamed) = (folder.join("resident.safetensors"), folder.join("streamed.safetensors"));
    let resident = encode(&whole, &[])?;
    let row = encode(&streamed, &["--text-memory", "1GiB"])?;
    ensure!(fs::read(&whole)? == fs::read(&streamed)?, "streamed blocks give other embeddings");
    let mib = |row: &Value| row["peak_bytes"].as_f64().map(|bytes| bytes / MIB);
    let row = json!({
        "what": "native", "peak_mib": mib(&row), "encode_s": row["encode_s"], "resident_peak_mib": mib(&resident),
        "resident_load_s": resident["load_s"], "resident_encode_s": resident["encode_s"],
    });
    Ok((row, streamed))
}

/// The bounds that a row violates. A missing number violates its bound.
fn violations(row: &Value) -> Vec<String> {
    let number = |key: &str| row[key].as_f64().unwrap_or(f64::NAN);
    let mut violations = Vec::new();
    let mut require = |holds: bool, what: &str| {
        if !holds {
            violations.push(what.to_owned());
        }
    };
    match row["what"].as_str() {
        Some("native") => require(number("peak_mib") <= NATIVE_MIB_MAX, "peak_mib is above 1024"),
        Some("first") => {
            require(number("heap_mib") <= HEAP_MIB_MAX, "heap_mib is above 160");
            require(number("layers") == 24.0, "not every layer was streamed");
            require(number("distance") <= DISTANCE_MAX, "distance is above 1e-3");
        }
        Some("seed") => require(number("layers") == 0.0, "a known prompt was encoded again"),
        Some("visit") => {
            require(number("requests") == 0.0, "requests were made");
            require(number("layers") == 0.0, "a known prompt was encoded again");
        }
        _ => require(false, "the row is not known"),
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_beyond_its_bound_or_missing_is_a_violation() {
        let good = json!({ "what": "first", "heap_mib": 150.0, "layers": 24, "distance": 1e-4 });
        assert!(violations(&good).is_empty());
        for bad in [
            json!({ "what": "native", "peak_mib": 1025.0 }),
            json!({ "what": "native" }),
            json!({ "what": "first", "heap_mib": 161.0, "layers": 24, "distance": 1e-4 }),
            json!({ "what": "first", "heap_mib": 150.0, "layers": 24 }),
            json!({ "what": "seed", "layers": 1 }),
            json!({ "what": "visit", "layers": 0, "requests": 1 }),
            json!({ "what": "other" }),
        ] {
            assert_eq!(violations(&bad).len(), 1, "{bad}");
        }
    }
}
