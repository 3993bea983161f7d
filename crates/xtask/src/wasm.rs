//! Builds `crates/browser` into `web/pkg`, the module that the page's worker imports.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::{place::Place, run, setup::Toolchain, tools};

const OPTIONS: [&str; 4] = ["--target", "web", "--remove-name-section", "--remove-producers-section"];

/// What a module is built for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Pages.
    Pages,
    /// Benchmarks: burn's own operations are in it too.
    Benchmarks,
}

/// Compiles the crate, and binds it anew if the compiled module changed.
pub(crate) fn build(place: &Place, toolchain: &Toolchain, whom: For) -> Result<()> {
    let bindgen = tools::wasm_bindgen(place)?;
    run::say("building crates/browser for wasm32");
    let mut cargo = toolchain.cargo(place)?;
    cargo.args(["build", "--release", "--target", "wasm32-unknown-unknown", "--package", "pixart-browser", "--lib"]);
    if whom == For::Benchmarks {
        cargo.args(["--features", "burn-reference"]);
    }
    run::run(&mut cargo, run::minutes(90))?;

    let module = place.wasm_target().join("wasm32-unknown-unknown/release/pixart_browser.wasm");
    let package = place.web().join("pkg");
    let stamp = package.join(".bound-from");
    let source = digest(&module)?;
    if fs::read_to_string(&stamp).is_ok_and(|bound| bound == source) {
        return Ok(());
    }
    run::say("binding web/pkg: the compiled module changed");
    let mut command = place.command(bindgen.join("wasm-bindgen"));
    run::run(command.args(OPTIONS).arg("--out-dir").arg(&package).arg(&module), run::minutes(10))?;
    fs::write(&stamp, source).with_context(|| format!("cannot write {}", stamp.display()))
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn digest(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(format!("{:x}", Sha256::digest(bytes)))
}
