//! `cargo xtask bench page`: the time until the page shows and can generate, input latency while it generates, memory after fifty images,
//! and a gallery of 10,000 images.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use serde_json::Value;

use crate::{chrome, page, run, workspace::Workspace};

/// Highest 95th percentile of input latency while an image is generated.
const P95_MILLIS_MAX: f64 = 50.0;
/// Highest growth of memory from the second image to the last.
const GROWTH_MAX: f64 = 0.05;

/// Longest time until the first paint, and until an image can be requested, with the page and its model stored.
const FIRST_PAINT_MILLIS_MAX: f64 = 1000.0;
const INTERACTIVE_MILLIS_MAX: f64 = 2000.0;
/// Bounds of a gallery of 10,000 images.
const GALLERY_OPEN_MILLIS_MAX: f64 = 1000.0;
const GALLERY_FRAMES_MIN: f64 = 50.0;
const GALLERY_HEAP_MB_MAX: f64 = 150.0;

/// Prints a line a measurement; exit code 1 where one violates its goal.
pub(super) fn bench(workspace: &Workspace, quick: bool, json: Option<&Path>) -> Result<ExitCode> {
    page::build(workspace)?;
    run::log("typing while the page generates, then generating many images");
    let mut drive = workspace.command("node");
    drive.arg("tests/bench/page.mjs").arg("--chrome").arg(chrome::browser()?);
    drive.args(["--images", if quick { "10" } else { "50" }]);
    let mut rows = super::json_rows(&mut drive)?;
    run::log("opening and scrolling a gallery");
    let mut gallery = workspace.command("node");
    gallery.arg("tests/bench/gallery.mjs").arg("--chrome").arg(chrome::browser()?);
    rows.extend(super::json_rows(&mut gallery)?);
    super::report_rows(rows, violations, json)
}

/// The bounds that a row violates. A missing number violates its bound, except GPU memory where there is no GPU.
fn violations(row: &Value) -> Vec<String> {
    let is_within = |key: &str, most: f64| row[key].as_f64().is_some_and(|number| number.abs() <= most);
    let mut violations = Vec::new();
    match row["what"].as_str() {
        Some("latency") => {
            if row["generating"] != true || is_within("keys", 99.0) {
                violations.push("too few keys were pressed while an image was generated".to_owned());
            } else if !is_within("p95_ms", P95_MILLIS_MAX) {
                violations.push(format!("p95_ms is above {P95_MILLIS_MAX}"));
            }
        }
        Some("endurance") => {
            for key in ["heap_growth", "device_growth"] {
                let is_cpu = key == "device_growth" && row["device"] == "wasm" && row[key].is_null();
                if !is_cpu && !is_within(key, GROWTH_MAX) {
                    violations.push(format!("{key} is beyond {GROWTH_MAX}"));
                }
            }
        }
        Some("visit") => {
            for (key, most) in [("first_paint_ms", FIRST_PAINT_MILLIS_MAX), ("interactive_ms", INTERACTIVE_MILLIS_MAX)]
            {
                if !is_within(key, most) {
                    violations.push(format!("{key} is above {most}"));
                }
            }
        }
        Some("gallery") => {
            for (key, most) in [("open_ms", GALLERY_OPEN_MILLIS_MAX), ("heap_mb", GALLERY_HEAP_MB_MAX)] {
                if !is_within(key, most) {
                    violations.push(format!("{key} is above {most}"));
                }
            }
            if row["frames_per_second"].as_f64().is_none_or(|frames| frames < GALLERY_FRAMES_MIN) {
                violations.push(format!("frames_per_second is below {GALLERY_FRAMES_MIN}"));
            }
        }
        _ => violations.push("the row is not known".to_owned()),
    }
    violations
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_beyond_its_bound_or_missing_is_a_violation() {
        for good in [
            json!({ "what": "latency", "generating": true, "keys": 120, "p95_ms": 40 }),
            json!({ "what": "endurance", "device": "wasm", "heap_growth": 0.0, "device_growth": null }),
            json!({ "what": "endurance", "device": "webgpu", "heap_growth": 0.01, "device_growth": -0.02 }),
            json!({ "what": "visit", "first_paint_ms": 300, "interactive_ms": 1500 }),
            json!({ "what": "gallery", "open_ms": 400, "frames_per_second": 57, "heap_mb": 4.3 }),
        ] {
            assert!(violations(&good).is_empty(), "{good}");
        }
        for bad in [
            json!({ "what": "latency", "generating": true, "keys": 120, "p95_ms": 140 }),
            json!({ "what": "latency", "generating": false, "keys": 120, "p95_ms": 40 }),
            json!({ "what": "latency", "generating": true, "keys": 120 }),
            json!({ "what": "endurance", "device": "webgpu", "heap_growth": 0.0, "device_growth": null }),
            json!({ "what": "endurance", "device": "wasm", "heap_growth": 0.2, "device_growth": null }),
            json!({ "what": "visit", "first_paint_ms": 300, "interactive_ms": 2500 }),
            json!({ "what": "visit", "interactive_ms": 1500 }),
            json!({ "what": "gallery", "open_ms": 400, "frames_per_second": 40, "heap_mb": 4.3 }),
            json!({ "what": "gallery", "open_ms": 400, "frames_per_second": 57, "heap_mb": null }),
            json!({ "what": "other" }),
        ] {
            assert_eq!(violations(&bad).len(), 1, "{bad}");
        }
    }
}
