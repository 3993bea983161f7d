//! Builds `crates/browser` into `web/pkg`, the module that the page's worker imports.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::{run, setup::Toolchain, tools, workspace::Workspace};

const OPTIONS: [&str; 4] = ["--target", "web", "--remove-name-section", "--remove-producers-section"];

/// The use of a module.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModuleKind {
    /// The page.
    Page,
    /// Benchmarks, which also run burn's built-in operations.
    Benchmark,
}

/// Compiles the crate, and generates its bindings again if the compiled module changed.
pub(crate) fn build(workspace: &Workspace, toolchain: &Toolchain, kind: ModuleKind) -> Result<()> {
    let bindgen = tools::wasm_bindgen(workspace)?;
    run::log("building crates/browser for wasm32");
    let mut cargo = toolchain.cargo(workspace)?;
    cargo.args(["build", "--release", "--target", "wasm32-unknown-unknown", "--package", "pixart-browser", "--lib"]);
    if kind == ModuleKind::Benchmark {
        cargo.args(["--features", "burn-reference"]);
    }
    run::run(&mut cargo, run::minutes(90))?;

    let module = workspace.wasm_target().join("wasm32-unknown-unknown/release/pixart_browser.wasm");
    let package = workspace.web().join("pkg");
    let stamp = package.join(".bound-from");
    let source = digest(&module)?;
    if fs::read_to_string(&stamp).is_ok_and(|bound| bound == source) {
        return Ok(());
    }
    run::log("generating web/pkg: the compiled module changed");
    let mut command = workspace.command(bindgen.join("wasm-bindgen"));
    run::run(command.args(OPTIONS).arg("--out-dir").arg(&package).arg(&module), run::minutes(10))?;
    fs::write(&stamp, source).with_context(|| format!("cannot write {}", stamp.display()))
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn digest(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(format!("{:x}", Sha256::digest(bytes)))
}
