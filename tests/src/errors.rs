//! The error catalogue, `tests/errors/catalogue.json`: every fault of the native crates is provoked, and its text is compared with the
//! catalogue, from which `cargo xtask errors` writes docs/errors.md. `RECORD_ERRORS=1` replaces the rows of this test. The rows
//! of the page are those of `tests/page/errors.test.mjs`.

use std::path::{Path, PathBuf};
use std::{env, fs};

use pixart_protocol::Fault;
use serde_json::{Value, json};

mod checkpoints;
mod companion;
mod requests;
mod server;

/// A fault and where it is made: the file, and the function or the variant of an enum.
struct ProvokedFault {
    site: &'static str,
    fault: Fault,
}

impl ProvokedFault {
    fn new(site: &'static str, fault: impl Into<Fault>) -> Self {
        Self { site, fault: fault.into() }
    }
}

/// A folder for the files of these tests. Its path is shown as `DIR` in the catalogue.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("errors");
    fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}

#[test]
fn the_texts_of_all_native_faults_are_those_of_the_catalogue() {
    let mut provoked = requests::faults();
    provoked.extend(checkpoints::faults());
    provoked.extend(companion::faults());
    provoked.extend(server::faults());
    let folder = folder().display().to_string();
    let neutral = |text: &str| text.replace(&folder, "DIR");
    let mut produced: Vec<Value> = provoked
        .iter()
        .map(|ProvokedFault { site, fault: Fault { code, what, remedy } }| {
            json!({ "site": site, "code": code, "what": neutral(what), "remedy": neutral(remedy) })
        })
        .collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("errors/catalogue.json");
    let text = fs::read_to_string(&path).expect("the catalogue is in the tree");
    let catalogue: Vec<Value> = serde_json::from_str(&text).expect("the catalogue is a list");
    let of_page = |row: &&Value| {
        let site = row["site"].as_str().expect("a site");
        site.starts_with("web/") || site.starts_with("crates/browser/")
    };
    let (page, native): (Vec<&Value>, Vec<&Value>) = catalogue.iter().partition(of_page);
    if env::var_os("RECORD_ERRORS").is_some_and(|value| value == "1") {
        produced.extend(page.into_iter().cloned());
        let rows: Vec<String> = produced.iter().map(|row| format!("  {row}")).collect();
        fs::write(&path, format!("[\n{}\n]\n", rows.join(",\n"))).expect("the catalogue can be written");
        return;
    }
    for (row, expected) in produced.iter().zip(&native) {
        assert_eq!(row, *expected, "record the texts with RECORD_ERRORS=1 and `cargo xtask errors`, and read them");
    }
    assert_eq!(produced.len(), native.len(), "rows of the catalogue that no test provokes, or the reverse");
}
