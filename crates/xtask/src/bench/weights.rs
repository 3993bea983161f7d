//! `cargo xtask bench weights`: the effect of packing on the embedded checkpoint's images, and loading a full-size checkpoint
//! from a server into the store and onto the GPU of a headless browser. Each row is checked against its bounds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{chrome, page, pixart, run, score, workspace::Workspace};

/// Held-out prompts of the embedded checkpoint.
const PROMPTS: u32 = 96;
/// Precisions, with the least PSNR in dB and the most points that the scorer may take off.
const QUALITY: [(&str, f64, f64); 3] = [("f16", 45.0, 1.0), ("q8", 40.0, 1.0), ("q4", 28.0, 5.0)];
const HEAP_MIB_MAX: f64 = 96.0;
/// Lowest speed, relative to reading the same records without uploading them.
const OF_RAW_MIN: f64 = 0.8;
/// Bounds of the estimated time of an image over its measured time.
const ESTIMATE: [f64; 2] = [0.5, 2.0];
/// Lowest PSNR between one denoising step in the tab and natively.
const STEP_DB_MIN: f64 = 40.0;

/// Prints one row per measurement with its verdict; exit code 1 where one violations what it must keep.
pub(super) fn bench(workspace: &Workspace, quick: bool, json: Option<&Path>) -> Result<ExitCode> {
    let mut rows = quality(workspace)?;
    rows.extend(browser(workspace, quick)?);
    let code = super::report_rows(rows, violations, json)?;
    println!("A fallback adapter copies uploads on the CPU: these ratios do not carry over to a GPU.");
    Ok(code)
}

/// Generates held-out prompts with the embedded checkpoint as it is and packed.
fn quality(workspace: &Workspace) -> Result<Vec<Value>> {
    let (folder, scenes) = (workspace.cache.join("packed"), workspace.root.join("web/models/scenes"));
    // Images of an earlier run must not be measured as this one's.
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let prompts = folder.join("prompts.json");
    score::choose(workspace, PROMPTS, &prompts)?;
    let generate = |checkpoint: &Path, name: &str| -> Result<PathBuf> {
        run::log(&format!("generating {PROMPTS} held-out prompts: {name}"));
        let out = folder.join(format!("{name}-images"));
        let mut pixart = pixart::command(workspace)?;
        pixart.args(["generate", "--checkpoint"]).arg(checkpoint).arg("--prompts").arg(&prompts);
        // Its output is a line per image; only the whole set is measured here.
        run::run(pixart.arg("--out-dir").arg(&out).stdout(Stdio::null()), run::minutes(60))?;
        Ok(out)
    };
    let reference = generate(&scenes, "folder")?;
    let (full, _) = score::report(workspace, &prompts, &reference, None)?;
    let mut rows = Vec::new();
    for (precision, db_min, points_max) in QUALITY {
        let packed = folder.join(precision);
        let mut pack = pixart::command(workspace)?;
        pack.args(["pack", "--dtype", precision, "--from"]).arg(&scenes).arg("--to").arg(&packed);
        run::run(pack.stdout(Stdio::null()), run::minutes(5))?;
        let images = generate(&packed, precision)?;
        let (core, report) = score::report(workspace, &prompts, &images, Some(&reference))?;
        rows.push(json!({
            "what": "quality", "precision": precision, "psnr_db": report["psnr_db"],
            "psnr_db_worst": report["psnr_db_worst"], "psnr_db_min": db_min, "score": core, "score_f32": full,
            "points_lost": (full - core) * 100.0, "points_max": points_max, "images": PROMPTS,
        }));
    }
    Ok(rows)
}

/// Loads PixArt-XL/2 at its full size, of random numbers.
fn browser(workspace: &Workspace, quick: bool) -> Result<Vec<Value>> {
    page::build(workspace)?;
    let chrome = chrome::browser()?;
    let companion = pixart::command(workspace)?;
    let folder = workspace.cache.join("bench/weights");
    let (source, packed) = (folder.join("xl-256"), folder.join("xl-256-q8"));
    let begun = |program: &[&str]| {
        let mut pixart = workspace.command(companion.get_program());
        pixart.args(program);
        pixart
    };
    if !packed.join("manifest.json").is_file() {
        run::log("writing a full-size checkpoint and packing it: 3.6 GB, once");
        for path in [&source, &packed] {
            if path.exists() {
                fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        for arch in ["xl-256", "sd-vae"] {
            let mut synth = begun(&["synth", "--arch", arch, "--dtype", "f32", "--to"]);
            run::run(synth.arg(&source).stdout(Stdio::null()), run::minutes(10))?;
        }
        let mut pack = begun(&["pack", "--dtype", "q8", "--from"]);
        pack.arg(&source).arg("--to").arg(&packed);
        run::run(pack.stdout(Stdio::null()), run::minutes(10))?;
    }
    run::log("loading it in a headless browser; one step takes minutes on a fallback adapter");
    let mut drive = workspace.command("node");
    drive.arg("tests/bench/weights.mjs").arg("--packed").arg(&packed).arg("--source").arg(&source);
    drive.arg("--pixart").arg(companion.get_program()).arg("--chrome").arg(chrome);
    if quick {
        drive.arg("--skip-step");
    }
    super::json_rows(&mut drive)
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
        Some("quality") => {
            // Equal images have no PSNR.
            let is_near = row["psnr_db"].is_null() || number("psnr_db") >= number("psnr_db_min");
            require(is_near, "psnr_db is below psnr_db_min");
            require(number("points_lost") <= number("points_max"), "points_lost is above points_max");
        }
        Some("packed") => require(number("heap_mib") <= HEAP_MIB_MAX, "heap_mib is above 96"),
        Some("again") => {
            require(number("heap_mib") <= HEAP_MIB_MAX, "heap_mib is above 96");
            require(number("requests") == 0.0, "requests were made");
            require(number("of_raw") >= OF_RAW_MIN, "of_raw is below 0.8");
        }
        Some("step") => {
            require(row["same_size"] == true && number("levels") > 16.0, "the image is flat or of another size");
            let is_near = row["psnr_db"].is_null() || number("psnr_db") >= STEP_DB_MIN;
            require(is_near, "psnr_db is below 40");
        }
        Some("estimate") => {
            let [least, most] = ESTIMATE;
            require(
                (least..=most).contains(&number("of_measured")),
                "the estimate is off by more than a factor of two",
            );
        }
        Some("convert") => {
            require(number("heap_mib") <= HEAP_MIB_MAX, "heap_mib is above 96");
            // Shards converted before the tab was closed are not fetched again, except the VAE's first ones.
            let most = number("source_bytes") + 0.2 * number("source_bytes");
            require(number("sent_bytes") <= most, "what had been converted was fetched again");
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
        let good = json!({ "what": "packed", "heap_mib": 90.0 });
        assert!(violations(&good).is_empty());
        for bad in [
            json!({ "what": "packed", "heap_mib": 97.0 }),
            json!({ "what": "packed" }),
            json!({ "what": "again", "heap_mib": 90.0, "requests": 1, "of_raw": 0.9 }),
            json!({ "what": "again", "heap_mib": 90.0, "requests": 0, "of_raw": 0.7 }),
            json!({ "what": "quality", "psnr_db": 39.0, "psnr_db_min": 40.0, "points_lost": 0.0, "points_max": 1.0 }),
            json!({ "what": "quality", "psnr_db": 50.0, "psnr_db_min": 40.0, "points_lost": 2.0, "points_max": 1.0 }),
            json!({ "what": "step", "same_size": true, "levels": 200, "psnr_db": 12.0 }),
            json!({ "what": "step", "same_size": false, "levels": 200, "psnr_db": 60.0 }),
            json!({ "what": "estimate", "of_measured": 2.1 }),
            json!({ "what": "convert", "heap_mib": 90.0, "source_bytes": 100.0, "sent_bytes": 150.0 }),
            json!({ "what": "other" }),
        ] {
            assert_eq!(violations(&bad).len(), 1, "{bad}");
        }
    }
}
