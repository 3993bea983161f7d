//! `cargo xtask bench page`: input latency while the page generates, and memory after fifty images.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use serde_json::Value;

use crate::{chrome, page, run, workspace::Workspace};

/// Highest 95th percentile of input latency while an image is generated.
const P95_MILLIS_MAX: f64 = 100.0;
/// Highest growth of memory from the second image to the last.
const GROWTH_MAX: f64 = 0.05;

/// Prints a line a measurement; exit code 1 where one violations its goal.
pub(super) fn bench(workspace: &Workspace, quick: bool, json: Option<&Path>) -> Result<ExitCode> {
    page::build(workspace)?;
    run::log("typing while the page generates, then generating many images");
    let mut drive = workspace.command("node");
    drive.arg("tests/bench/page.mjs").arg("--chrome").arg(chrome::browser()?);
    drive.args(["--images", if quick { "10" } else { "50" }]);
    super::report_rows(super::json_rows(&mut drive)?, violations, json)
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
        ] {
            assert!(violations(&good).is_empty(), "{good}");
        }
        for bad in [
            json!({ "what": "latency", "generating": true, "keys": 120, "p95_ms": 140 }),
            json!({ "what": "latency", "generating": false, "keys": 120, "p95_ms": 40 }),
            json!({ "what": "latency", "generating": true, "keys": 120 }),
            json!({ "what": "endurance", "device": "webgpu", "heap_growth": 0.0, "device_growth": null }),
            json!({ "what": "endurance", "device": "wasm", "heap_growth": 0.2, "device_growth": null }),
            json!({ "what": "other" }),
        ] {
            assert_eq!(violations(&bad).len(), 1, "{bad}");
        }
    }
}
