//! Images of PixArt-XL/2's published sizes with random weights, natively: one step each, in f32 and in bf16.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{pixart, run, workspace::Workspace};

/// Architectures of `pixart synth`, and the width of their images.
const SIZES: [(&str, u32); 3] = [("xl-256", 256), ("xl-512", 512), ("xl-1024-ms", 1024)];
const PRECISIONS: [&str; 2] = ["f32", "bf16"];
const TOKENS: usize = 120;
const CAPTION_CHANNELS: usize = 4096;

/// One row for each size and precision.
pub(super) fn bench(workspace: &Workspace) -> Result<Vec<Value>> {
    let folder = workspace.cache.join("bench/images");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let embeds = folder.join("embeds.safetensors");
    fs::write(&embeds, embeddings()).with_context(|| format!("cannot write {}", embeds.display()))?;
    // It is built once, and then called by its path.
    let program = pixart::command(workspace)?;
    let pixart = || workspace.command(program.get_program());
    let mut rows = Vec::new();
    for (arch, width) in SIZES {
        for precision in PRECISIONS {
            run::log(&format!("generating one step of {arch} in {precision}"));
            let checkpoint = checkpoint(pixart, &folder, arch, precision)?;
            let out = folder.join("image.png");
            let mut pixart = pixart();
            pixart.args(["generate", "--steps", "1", "--guidance-scale", "1", "--seed", "1", "--dtype", precision]);
            pixart.args(["--max-sequence-length", &TOKENS.to_string()]).arg("--checkpoint").arg(&checkpoint);
            let report = super::last_row(pixart.arg("--embeds").arg(&embeds).arg("--out").arg(&out))?;
            let png = fs::read(&out).with_context(|| format!("cannot read {}", out.display()))?;
            // An image of noise; a flat one compresses to nothing.
            rows.push(json!({
                "what": "image", "arch": arch, "precision": precision, "width": report["width"], "width_requested": width,
                "png_bytes": png.len(), "png_bytes_min": width * width, "memory_plan": report["memory_plan"], "millis": report["millis"],
            }));
            // Gigabytes each, which nothing else uses.
            fs::remove_dir_all(&checkpoint).with_context(|| format!("cannot remove {}", checkpoint.display()))?;
        }
    }
    Ok(rows)
}

/// The bounds that a row violates.
pub(super) fn violations(row: &Value) -> Vec<String> {
    let mut violations = Vec::new();
    if row["width"] != row["width_requested"] || row["width"].is_null() {
        violations.push("width".to_owned());
    }
    let number = |key: &str| row[key].as_f64().unwrap_or(f64::NAN);
    let is_varied = number("png_bytes") >= number("png_bytes_min");
    if !is_varied {
        violations.push("the image is flat".to_owned());
    }
    let plan = row["memory_plan"].as_str().unwrap_or_default();
    if !plan.starts_with(&format!("{} weights", row["precision"].as_str().unwrap_or_default())) {
        violations.push("precision".to_owned());
    }
    violations
}

fn checkpoint(pixart: impl Fn() -> Command, folder: &Path, arch: &str, precision: &str) -> Result<PathBuf> {
    let to = folder.join(format!("{arch}-{precision}"));
    for (arch, dtype) in [(arch, precision), ("sd-vae", "f32")] {
        let mut synth = pixart();
        synth.args(["synth", "--arch", arch, "--dtype", dtype, "--to"]).arg(&to);
        run::run(synth.stdout(Stdio::null()), run::minutes(10))?;
    }
    Ok(to)
}

/// A safetensors file of one caption, `prompt_embeds [1, L, C]` and `prompt_attention_mask [1, L]`.
fn embeddings() -> Vec<u8> {
    let count = TOKENS * CAPTION_CHANNELS;
    let header = json!({
        "prompt_embeds": { "dtype": "F32", "shape": [1, TOKENS, CAPTION_CHANNELS], "data_offsets": [0, 4 * count] },
        "prompt_attention_mask": {
            "dtype": "F32", "shape": [1, TOKENS], "data_offsets": [4 * count, 4 * (count + TOKENS)],
        },
    })
    .to_string();
    let numbers = (0..count).map(|at| (at as f32 * 12.9898).sin() * 0.3).chain((0..TOKENS).map(|_| 1.0));
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes()].concat().into_iter().chain(numbers.flat_map(f32::to_le_bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_another_size_or_precision_or_a_flat_one_violates_its_bounds() {
        let row = |width: u32, plan: &str, bytes: u32| {
            json!({
                "width": width, "width_requested": 256, "precision": "bf16", "memory_plan": plan, "png_bytes": bytes,
                "png_bytes_min": 65536,
            })
        };
        assert!(violations(&row(256, "bf16 weights, decoded whole", 150_000)).is_empty());
        assert_eq!(violations(&row(512, "bf16 weights", 150_000)), ["width"]);
        assert_eq!(violations(&row(256, "f32 weights", 150_000)), ["precision"]);
        assert_eq!(violations(&row(256, "bf16 weights", 300)), ["the image is flat"]);
        assert_eq!(violations(&json!({})).len(), 3);
    }
}
