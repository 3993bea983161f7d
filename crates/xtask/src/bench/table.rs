//! The rows as a table.

use serde_json::Value;

/// One line a row, with the CPU time relative to ours of the same workload and place on the same kind of device, GPU or CPU.
pub(super) fn text(rows: &[Value]) -> String {
    let mut lines = vec![format!(
        "{:<14} {:<8} {:<21} {:>10} {:>9} {:>10} {:>7} {:>10} {:>9} {:>9} {:>8} {:>8}",
        "workload",
        "place",
        "implementation",
        "median ms",
        "spread",
        "cpu ms",
        "ratio",
        "dispatches",
        "pipelines",
        "created ms",
        "MB bound",
        "MB peak",
    )];
    for row in rows {
        let word = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
        let number = |key: &str, scale: f64| {
            row.get(key)
                .and_then(Value::as_f64)
                .map_or_else(|| "-".to_owned(), |number| format!("{:.0}", number / scale))
        };
        if let Some(fault) = row.get("fault").and_then(Value::as_str) {
            lines.push(format!("{:<14} {:<21} FAILED: {fault}", word("workload"), word("implementation")));
            continue;
        }
        let ours = rows.iter().find(|other| {
            let same = |key: &str| other.get(key) == row.get(key);
            same("workload")
                && same("place")
                && other["implementation"] == ours_beside(&word("place"), &word("implementation"))
        });
        let ratio = ours.and_then(|ours| Some(row.get("cpu_ms")?.as_f64()? / ours.get("cpu_ms")?.as_f64()?));
        lines.push(format!(
            "{:<14} {:<8} {:<21} {:>10} {:>9} {:>10} {:>7} {:>10} {:>9} {:>9} {:>8} {:>8}",
            word("workload"),
            word("place"),
            word("implementation"),
            number("median_ms", 1.0),
            number("spread_ms", 1.0),
            number("cpu_ms", 1.0),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            number("dispatches", 1.0),
            number("pipelines", 1.0),
            number("pipeline_ms", 1.0),
            number("bytes", 1e6),
            number("peak_buffer_bytes", 1e6),
        ));
    }
    lines.join("\n")
}

/// The implementation of ours that another is compared with.
fn ours_beside(place: &str, implementation: &str) -> &'static str {
    let on_cpu = ["ours-cpu", "onnxruntime-web-wasm", "pytorch"].contains(&implementation);
    if on_cpu || (place == "native" && implementation != "ours") { "ours-cpu" } else { "ours" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ratios_are_to_ours_of_the_same_workload() {
        let row = |workload: &str, place: &str, name: &str, cpu_ms: f64| json!({ "workload": workload, "place": place, "implementation": name, "cpu_ms": cpu_ms, "median_ms": 1.0 });
        let rows = [
            row("a", "browser", "ours", 10.0),
            row("a", "browser", "burn-reference", 25.0),
            row("a", "browser", "ours-cpu", 2.0),
            row("a", "browser", "onnxruntime-web-wasm", 3.0),
            row("a", "native", "ours-cpu", 1.0),
            row("a", "native", "pytorch", 3.0),
        ];
        let table = text(&rows);
        let ratios: Vec<&str> = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(6)).collect();
        assert_eq!(ratios, ["1.00", "2.50", "1.00", "1.50", "1.00", "3.00"]);
    }

    #[test]
    fn a_failure_is_a_line_of_its_own() {
        let rows = [json!({ "workload": "a", "implementation": "peer", "fault": "too far" })];
        assert!(text(&rows).contains("FAILED: too far"));
    }
}
