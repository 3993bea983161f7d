//! `cargo xtask bench page`: how the page feels while it draws, and what it holds after fifty pictures.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use serde_json::Value;

use crate::{chrome, page, place::Place, run};

/// Of the latency of input while a picture is drawn.
const P95_MILLIS_MAX: f64 = 100.0;
/// Of what is held after the last picture over what is after the second.
const GROWTH_MAX: f64 = 0.05;

/// Prints a line a measurement; exit code 1 where one misses its goal.
pub(super) fn bench(place: &Place, quick: bool, json: Option<&Path>) -> Result<ExitCode> {
    page::build(place)?;
    run::say("typing while the page draws, then drawing many pictures");
    let mut drive = place.command("node");
    drive.arg("tests/bench/page.mjs").arg("--chrome").arg(chrome::browser()?);
    drive.args(["--pictures", if quick { "10" } else { "50" }]);
    super::judged(super::printed(&mut drive)?, misses, json)
}

/// What a row must keep and does not. A number that is not there is missed, but for the memory of a GPU that there is none of.
fn misses(row: &Value) -> Vec<String> {
    let is_within = |key: &str, most: f64| row[key].as_f64().is_some_and(|number| number.abs() <= most);
    let mut misses = Vec::new();
    match row["what"].as_str() {
        Some("latency") => {
            if row["drawing"] != true || is_within("keys", 99.0) {
                misses.push("too little was typed while a picture was drawn".to_owned());
            } else if !is_within("p95_ms", P95_MILLIS_MAX) {
                misses.push(format!("p95_ms is above {P95_MILLIS_MAX}"));
            }
        }
        Some("endurance") => {
            for key in ["heap_growth", "device_growth"] {
                let is_processor = key == "device_growth" && row["device"] == "wasm" && row[key].is_null();
                if !is_processor && !is_within(key, GROWTH_MAX) {
                    misses.push(format!("{key} is beyond {GROWTH_MAX}"));
                }
            }
        }
        _ => misses.push("the row is not known".to_owned()),
    }
    misses
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_misses_its_bound_or_is_not_there_is_told() {
        for good in [
            json!({ "what": "latency", "drawing": true, "keys": 120, "p95_ms": 40 }),
            json!({ "what": "endurance", "device": "wasm", "heap_growth": 0.0, "device_growth": null }),
            json!({ "what": "endurance", "device": "webgpu", "heap_growth": 0.01, "device_growth": -0.02 }),
        ] {
            assert!(misses(&good).is_empty(), "{good}");
        }
        for bad in [
            json!({ "what": "latency", "drawing": true, "keys": 120, "p95_ms": 140 }),
            json!({ "what": "latency", "drawing": false, "keys": 120, "p95_ms": 40 }),
            json!({ "what": "latency", "drawing": true, "keys": 120 }),
            json!({ "what": "endurance", "device": "webgpu", "heap_growth": 0.0, "device_growth": null }),
            json!({ "what": "endurance", "device": "wasm", "heap_growth": 0.2, "device_growth": null }),
            json!({ "what": "other" }),
        ] {
            assert_eq!(misses(&bad).len(), 1, "{bad}");
        }
    }
}
