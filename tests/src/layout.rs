//! Dependencies between the crates of the workspace, and their mention in crates/ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Packages of the workspace, each with the packages of the workspace that it may use.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("pixart-protocol", &[]),
    ("pixart-kernels", &["pixart-weights"]),
    ("pixart-weights", &[]),
    ("pixart-model", &["pixart-kernels", "pixart-weights", "pixart-protocol"]),
    ("pixart-verify", &["pixart-model", "pixart-kernels", "pixart-weights", "pixart-protocol"]),
    ("pixart-browser", &["pixart-verify", "pixart-model", "pixart-kernels", "pixart-weights", "pixart-protocol"]),
    ("pixart-companion", &["pixart-verify", "pixart-model", "pixart-weights", "pixart-protocol"]),
    ("xtask", &["pixart-protocol"]),
    (
        "pixart-tests",
        &[
            "pixart-protocol",
            "pixart-kernels",
            "pixart-weights",
            "pixart-model",
            "pixart-verify",
            "pixart-browser",
            "pixart-companion",
        ],
    ),
];

/// Packages of the workspace, each with those it uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo built this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

fn uses(metadata: &Value) -> Uses {
    let names = |list: &Value| -> BTreeSet<String> {
        let list = list.as_array().expect("a list");
        list.iter().map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
    };
    let ours = names(&metadata["packages"]);
    let packages = metadata["packages"].as_array().expect("a list");
    packages
        .iter()
        .map(|package| {
            let used = names(&package["dependencies"]).intersection(&ours).cloned().collect();
            (package["name"].as_str().expect("a name").to_owned(), used)
        })
        .collect()
}

/// Describes the dependencies that the table does not allow.
fn violations(uses: &Uses) -> Vec<String> {
    let table = BTreeMap::from(MAY_USE);
    let mut violations = Vec::new();
    for (package, used) in uses {
        match table.get(package.as_str()) {
            None => violations.push(format!("{package} is not in the table")),
            Some(may) => violations.extend(
                used.iter().filter(|name| !may.contains(&name.as_str())).map(|name| format!("{package} uses {name}")),
            ),
        }
    }
    violations.extend(
        table.keys().filter(|package| !uses.contains_key(**package)).map(|package| format!("{package} is gone")),
    );
    violations
}

#[test]
fn crates_use_only_what_the_table_allows() {
    assert_eq!(violations(&uses(&metadata())), Vec::<String>::new());
}

#[test]
fn a_new_dependency_a_new_crate_and_a_missing_one_are_violations() {
    let mut uses = uses(&metadata());
    uses.entry("pixart-protocol".into()).or_default().insert("pixart-model".into());
    uses.insert("pixart-extra".into(), BTreeSet::new());
    uses.remove("xtask");
    let expected = ["pixart-extra is not in the table", "pixart-protocol uses pixart-model", "xtask is gone"];
    assert_eq!(violations(&uses), expected);
}

#[test]
fn the_architecture_names_every_crate() {
    let text = fs::read_to_string(root().join("crates/ARCHITECTURE.md")).expect("crates/ARCHITECTURE.md is there");
    for package in metadata()["packages"].as_array().expect("a list") {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        let folder = manifest.parent().and_then(Path::file_name).expect("a manifest lies in a folder");
        let heading = format!("{}/", folder.to_string_lossy());
        assert!(text.contains(&heading), "crates/ARCHITECTURE.md does not name {heading}");
    }
}
