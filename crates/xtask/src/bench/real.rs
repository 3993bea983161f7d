//! `cargo xtask bench real`: a published PixArt of full size with random weights, T5-XXL included, in a headless browser that gets it from a
//! local hub by its name and encodes the prompt itself, and the text encoder natively in little memory. Each row is checked against its
//! bounds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result, ensure};
use pixart_protocol::CatalogueModel;
use serde_json::{Value, json};

use crate::{chrome, page, pixart, published, run, workspace::Workspace};

const MIB: f64 = 1_048_576.0;
/// The checkpoint, and its components besides the text encoder.
const MODEL: &str = "pixart-alpha-512";
const COMPONENTS: &str = "transformer,vae,tokenizer,scheduler";
/// The text encoder of the browser, and of the native run in little memory.
const TEXT_ENCODER: &str = "t5-xxl-q4_k_m";
const NATIVE_TEXT_ENCODER: &str = "t5-xxl-q8_0";
/// Most memory of the wasm module, with WebGPU and on the CPU path.
const HEAP_MIB_MAX: f64 = 160.0;
const CPU_HEAP_MIB_MAX: f64 = 512.0;
/// Most memory on the device that encoding takes.
const TEXT_DEVICE_MB_MAX: f64 = 400.0;
/// Most resident memory of the native encoder.
const NATIVE_MIB_MAX: f64 = 1024.0;
/// Largest distance of the tab's embeddings to the native ones, of their largest magnitude.
const DISTANCE_MAX: f64 = 1e-3;
/// Most seconds of streaming, of those of reading alone or of computing alone.
const STREAMING_MAX: f64 = 1.25;
/// Least rate of the text encoder on the CPU path.
const GFLOPS_MIN: f64 = 15.0;

/// Prints one row per measurement with its verdict; exit code 1 where one violates what it must keep.
pub(super) fn bench(workspace: &Workspace, json: Option<&Path>) -> Result<ExitCode> {
    let hub = hub(workspace)?;
    let model = published::model(workspace, MODEL)?;
    let (native, embeds) = native(workspace, &hub, &model)?;
    let mut rows = vec![native];
    page::build(workspace)?;
    run::log("opening the model and generating in a headless browser; a layer takes seconds on a fallback adapter");
    let mut drive = workspace.command("node");
    drive.arg("tests/bench/real.mjs").arg("--hub").arg(&hub).args(["--model", &model.title]);
    drive.args(["--text-encoder", TEXT_ENCODER]).arg("--embeds").arg(embeds);
    drive.arg("--chrome").arg(chrome::browser()?);
    rows.extend(super::json_rows(&mut drive)?);
    let code = super::report_rows(rows, violations, json)?;
    println!("A fallback adapter computes on the CPU: these seconds do not carry over to a GPU.");
    Ok(code)
}

/// Writes the repositories of the checkpoint and of the text encoders with random weights, once.
fn hub(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.cache.join("bench/real/hub");
    let complete = folder.join("complete");
    if complete.is_file() {
        return Ok(folder);
    }
    run::log("writing a checkpoint of full size with two text encoders: 11 GB, once");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let companion = pixart::command(workspace)?;
    for (name, components) in
        [(MODEL, &["--components", COMPONENTS][..]), (TEXT_ENCODER, &[]), (NATIVE_TEXT_ENCODER, &[])]
    {
        let mut synth = workspace.command(companion.get_program());
        synth.args(["synth", "--published", name]).args(components).arg("--to").arg(&folder);
        run::run(synth.stdout(Stdio::null()), run::minutes(30))?;
    }
    fs::write(&complete, "").with_context(|| format!("cannot write {}", complete.display()))?;
    Ok(folder)
}

/// Encodes with the browser's text encoder, and with the other one in little memory and in as much as it takes; returns the row of the
/// latter and the file of the former's embeddings.
fn native(workspace: &Workspace, hub: &Path, model: &CatalogueModel) -> Result<(Value, PathBuf)> {
    let folder = workspace.cache.join("bench/real");
    let (base, _) = model.base.split_once('@').context("the base names no revision")?;
    let encode = |text_encoder: &str, out: &str, memory: &[&str]| -> Result<(Value, PathBuf)> {
        let mut pixart = pixart::command(workspace)?;
        pixart.args(["encode", "--prompt", "a red circle on a blue background", "--checkpoint"]).arg(hub.join(base));
        let out = folder.join(out);
        pixart.arg("--text-encoder").arg(gguf(workspace, hub, text_encoder)?).arg("--out").arg(&out).args(memory);
        let rows = super::json_rows(&mut pixart)?;
        Ok((rows.into_iter().next().context("`pixart encode` printed nothing")?, out))
    };
    let (_, embeds) = encode(TEXT_ENCODER, "embeds.safetensors", &[])?;
    let (resident, whole) = encode(NATIVE_TEXT_ENCODER, "resident.safetensors", &[])?;
    let (row, streamed) = encode(NATIVE_TEXT_ENCODER, "streamed.safetensors", &["--text-memory", "1GiB"])?;
    ensure!(fs::read(&whole)? == fs::read(&streamed)?, "streamed blocks give other embeddings");
    let mib = |row: &Value| row["peak_bytes"].as_f64().map(|bytes| bytes / MIB);
    let row = json!({
        "what": "native", "peak_mib": mib(&row), "encode_s": row["encode_s"], "resident_peak_mib": mib(&resident),
        "resident_load_s": resident["load_s"], "resident_encode_s": resident["encode_s"],
    });
    Ok((row, embeds))
}

/// Returns the file of a text encoder of the catalogue.
fn gguf(workspace: &Workspace, hub: &Path, name: &str) -> Result<PathBuf> {
    let catalogue = published::catalogue(workspace)?;
    let encoder = catalogue.text_encoder(name).with_context(|| format!("the catalogue has no {name}"))?;
    let file = encoder.component.files.first().with_context(|| format!("{name} has no file"))?;
    Ok(hub.join(&encoder.component.repository).join(&file.path))
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
        Some("open") => require(number("heap_mib") <= HEAP_MIB_MAX, "heap_mib is above 160"),
        Some("image") => {
            require(number("heap_mib") <= HEAP_MIB_MAX, "heap_mib is above 160");
            if number("px") == 256.0 {
                require(number("layers") == 24.0, "not every layer was applied");
                let device_mb = number("text_device_mib") * MIB / 1e6;
                require(device_mb <= TEXT_DEVICE_MB_MAX, "encoding takes more than 400 MB of the device");
                require(number("distance") <= DISTANCE_MAX, "distance is above 1e-3");
            } else {
                require(number("layers") == 0.0, "a known prompt was encoded again");
            }
        }
        Some("seed") => require(number("layers") == 0.0, "a known prompt was encoded again"),
        Some("visit") => {
            require(number("requests") == 0.0, "requests were made");
            require(number("layers") == 0.0, "a known prompt was encoded again");
        }
        Some("streaming") => {
            require(row["is_resident"] == true, "computing alone read layers from the store");
            let alone = number("compute_s").max(number("read_s"));
            require(number("streamed_s") <= STREAMING_MAX * alone, "streaming takes more than 1.25 of the longer part");
        }
        Some("cpu") => {
            require(number("heap_mib") <= CPU_HEAP_MIB_MAX, "heap_mib is above 512");
            require(number("layers") == 24.0, "not every layer was applied");
            require(number("gflops") >= GFLOPS_MIN, "gflops is below 15");
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
        let first = json!({
            "what": "image", "px": 256, "heap_mib": 150.0, "layers": 24, "text_device_mib": 380.0, "distance": 1e-4
        });
        let streaming = json!({
            "what": "streaming", "streamed_s": 12.0, "compute_s": 10.0, "read_s": 2.0, "is_resident": true
        });
        let cpu = json!({ "what": "cpu", "heap_mib": 500.0, "layers": 24, "gflops": 16.0 });
        let other = json!({ "what": "image", "px": 512, "heap_mib": 150.0, "layers": 0 });
        for good in [&first, &streaming, &cpu, &other] {
            assert_eq!(violations(good), Vec::<String>::new(), "{good}");
        }
        let with = |row: &Value, key: &str, value: Value| {
            let mut row = row.clone();
            row[key] = value;
            row
        };
        for bad in [
            json!({ "what": "native", "peak_mib": 1025.0 }),
            json!({ "what": "native" }),
            json!({ "what": "open", "heap_mib": 161.0 }),
            with(&first, "heap_mib", json!(161.0)),
            with(&first, "text_device_mib", json!(382.0)),
            with(&first, "distance", Value::Null),
            with(&other, "layers", json!(1)),
            json!({ "what": "seed", "layers": 1 }),
            json!({ "what": "visit", "layers": 0, "requests": 1 }),
            with(&streaming, "streamed_s", json!(12.6)),
            with(&streaming, "compute_s", Value::Null),
            with(&streaming, "is_resident", json!(false)),
            with(&cpu, "gflops", json!(14.9)),
            with(&cpu, "heap_mib", json!(513.0)),
            json!({ "what": "other" }),
        ] {
            assert_eq!(violations(&bad).len(), 1, "{bad}");
        }
    }
}
