//! `cargo xtask bench --plot`: writes the tables of docs/BENCHMARKS.md and a bar chart beside each recording that asks for
//! one, from the recorded numbers in docs/benchmarks/*.json.

use std::{fmt::Write, fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{run, workspace::Workspace};

const DOCUMENT: &str = "docs/BENCHMARKS.md";
const RECORDINGS: &str = "docs/benchmarks";
/// Around a table in the document: `<!-- table: NAME -->` and `<!-- end -->`.
const TABLE: &str = "<!-- table: ";
const END: &str = "<!-- end -->";

/// Pixels of a chart.
const WIDTH: f64 = 760.0;
const NAMES_WIDTH: f64 = 290.0;
const VALUES_WIDTH: f64 = 70.0;
const BAR_HEIGHT: f64 = 18.0;
const ROW_HEIGHT: f64 = 24.0;
const HEADING_HEIGHT: f64 = 34.0;
const TITLE_HEIGHT: f64 = 44.0;
const OURS: &str = "#1f6feb";
const OTHERS: &str = "#9aa4af";

/// Writes every table and chart.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    for (path, text) in rendered(workspace)? {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        run::log(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// An error unless the files in the tree are what [`write`] would write.
pub(crate) fn fresh(workspace: &Workspace) -> Result<()> {
    for (path, text) in rendered(workspace)? {
        if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            bail!("{} does not match {RECORDINGS}; run `cargo xtask bench --plot`", path.display());
        }
    }
    Ok(())
}

/// Every generated file with its text.
fn rendered(workspace: &Workspace) -> Result<Vec<(PathBuf, String)>> {
    let folder = workspace.root.join(RECORDINGS);
    let read = |name: &str| -> Result<Value> {
        let path = folder.join(format!("{name}.json"));
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))
    };
    let document = workspace.root.join(DOCUMENT);
    let text = fs::read_to_string(&document).with_context(|| format!("cannot read {}", document.display()))?;
    let mut files = vec![(document, with_tables(&text, |name| read(name)?.table())?)];
    let mut names: Vec<String> = fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    for name in names.iter().filter_map(|name| name.strip_suffix(".json")) {
        if let Some(chart) = read(name)?.chart() {
            files.push((folder.join(format!("{name}.svg")), chart));
        }
    }
    Ok(files)
}

/// `text` with every table in it written anew by `table`.
fn with_tables(text: &str, table: impl Fn(&str) -> Result<String>) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(TABLE) {
        let (name, after) = after.split_once(" -->").context("a table's name does not end")?;
        let (_, after) = after.split_once(END).with_context(|| format!("the table {name} has no {END}"))?;
        write!(out, "{before}{TABLE}{name} -->\n{}{END}", table(name)?)?;
        rest = after;
    }
    Ok(out + rest)
}

/// A recording: `command`, `machine`, `label` of the rows, `columns`, and `rows` with a `name` and `values` each; a `unit`
/// of all or of a row; and a `plot` with the `title` and the names of our own rows, `ours`.
trait BenchRecording {
    fn table(&self) -> Result<String>;
    fn chart(&self) -> Option<String>;
}

impl BenchRecording for Value {
    fn table(&self) -> Result<String> {
        let label = self["label"].as_str().context("a recording has no label")?;
        let command = self["command"].as_str().context("a recording has no command")?;
        let machine = self["machine"].as_str().context("a recording has no machine")?;
        let unit = self["unit"].as_str().map(|unit| format!(" ({unit})")).unwrap_or_default();
        let columns: Vec<&str> = list(&self["columns"]).iter().filter_map(Value::as_str).collect();
        let mut table =
            format!("| {label}{unit} | {} |\n|---|{}\n", columns.join(" | "), "---:|".repeat(columns.len()));
        for row in list(&self["rows"]) {
            let name = row["name"].as_str().context("a row has no name")?;
            let values = list(&row["values"]);
            if values.len() != columns.len() {
                bail!("the row {name} has {} values for {} columns", values.len(), columns.len());
            }
            let unit = row["unit"].as_str().filter(|unit| !unit.is_empty()).map(|unit| format!(" {unit}"));
            let unit = unit.unwrap_or_default();
            let cells = values.iter().map(|value| if value.is_null() { String::new() } else { shown(value) + &unit });
            writeln!(table, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "))?;
        }
        writeln!(table, "\n{command}; {machine}.")?;
        Ok(table)
    }

    fn chart(&self) -> Option<String> {
        let title = self["plot"]["title"].as_str()?;
        let ours = list(&self["plot"]["ours"]);
        let mut body = String::new();
        let mut y = TITLE_HEIGHT;
        text(&mut body, 16.0, 28.0, "title", title);
        let columns: Vec<&str> = list(&self["columns"]).iter().filter_map(Value::as_str).collect();
        for (column, heading) in columns.iter().enumerate() {
            let bars: Vec<(&Value, f64)> =
                list(&self["rows"]).iter().filter_map(|row| Some((row, row["values"][column].as_f64()?))).collect();
            let most = bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
            if columns.len() > 1 {
                text(&mut body, 16.0, y + 22.0, "heading", heading);
                y += HEADING_HEIGHT;
            }
            for (row, value) in bars {
                let color = if ours.contains(&row["name"]) { OURS } else { OTHERS };
                let length = (value / most * (WIDTH - NAMES_WIDTH - VALUES_WIDTH)).max(1.0);
                text(&mut body, NAMES_WIDTH - 8.0, y + 13.5, "name", row["name"].as_str()?);
                body += &format!(
                    "<rect x=\"{NAMES_WIDTH}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR_HEIGHT}\" rx=\"2\" fill=\"{color}\"/>\n"
                );
                text(&mut body, NAMES_WIDTH + length + 6.0, y + 13.5, "value", &shown(&row["values"][column]));
                y += ROW_HEIGHT;
            }
        }
        let height = y + 12.0;
        Some(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
             <style>text {{ font: 13px system-ui, sans-serif; fill: #24292f }} .title {{ font-size: 15px; font-weight: 600 }} \
             .heading {{ font-weight: 600; fill: #57606a }} .name {{ text-anchor: end }}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
        ))
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A number as it was recorded, or a word.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text(body: &mut String, x: f64, y: f64, class: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    *body += &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>\n");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recording() -> Value {
        json!({
            "command": "`cargo xtask bench`", "machine": "2 cores", "unit": "ms", "label": "engine", "columns": ["a", "b"],
            "rows": [{"name": "ours", "values": [1.5, null]}, {"name": "peer", "values": [3, 2], "unit": "s"}],
            "plot": {"title": "x < y", "ours": ["ours"]},
        })
    }

    #[test]
    fn the_recorded_tables_and_charts_in_the_tree_are_fresh() {
        fresh(&Workspace::find().expect("this is a clone")).expect("`cargo xtask bench --plot` was run");
    }

    #[test]
    fn a_table_has_a_row_and_the_unit_of_each_recorded_one() {
        assert_eq!(
            recording().table().expect("it is complete"),
            "| engine (ms) | a | b |\n|---|---:|---:|\n| ours | 1.5 |  |\n| peer | 3 s | 2 s |\n\n`cargo xtask bench`; 2 cores.\n"
        );
        let mut short = recording();
        short["rows"][0]["values"] = json!([1]);
        assert!(short.table().is_err());
    }

    #[test]
    fn bars_are_as_long_as_their_values_within_a_column() {
        let chart = recording().chart().expect("it asks for one");
        assert!(chart.contains("width=\"200.0\" height=\"18\" rx=\"2\" fill=\"#1f6feb\""), "{chart}");
        assert_eq!(chart.matches("width=\"400.0\"").count(), 2, "{chart}");
        assert!(chart.contains("x &lt; y"));
        assert_eq!(json!({}).chart(), None);
    }

    #[test]
    fn tables_in_a_document_are_replaced_and_the_rest_stays() {
        let text = "# A\n<!-- table: x -->\nold\n<!-- end -->\nrest";
        let new = with_tables(text, |name| Ok(format!("new {name}\n"))).expect("it ends");
        assert_eq!(new, "# A\n<!-- table: x -->\nnew x\n<!-- end -->\nrest");
        assert!(with_tables("<!-- table: x -->", |_| Ok(String::new())).is_err());
    }
}
