//! The programs that turn compiled wasm into a module the page can import, and that run tests in browsers. They are built
//! from source into the cache, once per version.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{run, workspace::Workspace};

const WASM_PACK: &str = "0.15.1";
const GECKODRIVER: &str = "0.37.1";

/// The folder with `wasm-bindgen` and `wasm-bindgen-test-runner` of the version that `Cargo.lock` has: the two ends of
/// its format must be of one version.
pub(crate) fn wasm_bindgen(workspace: &Workspace) -> Result<PathBuf> {
    let lock = fs::read_to_string(workspace.root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let version = locked_version(&lock, "wasm-bindgen").context("Cargo.lock has no wasm-bindgen")?;
    install(workspace, "wasm-bindgen-cli", "wasm-bindgen", version)
}

/// The folder with `wasm-pack`.
pub(crate) fn wasm_pack(workspace: &Workspace) -> Result<PathBuf> {
    install(workspace, "wasm-pack", "wasm-pack", WASM_PACK)
}

/// The folder with `geckodriver`, through which tests start Firefox.
pub(crate) fn geckodriver(workspace: &Workspace) -> Result<PathBuf> {
    install(workspace, "geckodriver", "geckodriver", GECKODRIVER)
}

fn install(workspace: &Workspace, package: &str, program: &str, version: &str) -> Result<PathBuf> {
    let tools = workspace.cache.join("tools");
    let bin = tools.join("bin");
    if is_version(&bin.join(program), version) {
        return Ok(bin);
    }
    run::log(&format!("building {package} {version} (some minutes, once): it is not in {}", bin.display()));
    let mut cargo = workspace.cargo();
    // Without --locked: the versions its lock file names need not all be served any more. Link-time optimisation would
    // double the build of a program that runs for seconds.
    cargo.args(["install", package, "--version", version, "--root"]).arg(&tools);
    cargo.env("CARGO_TARGET_DIR", workspace.cache.join("tools-target"));
    cargo.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    run::run(&mut cargo, run::minutes(40))?;
    Ok(bin)
}

/// Whether `program --version` ends in `version`.
fn is_version(program: &PathBuf, version: &str) -> bool {
    program.is_file()
        && run::read(Command::new(program).arg("--version"))
            .is_ok_and(|text| text.split_whitespace().any(|word| word == version))
}

/// The version of `package` in the text of a `Cargo.lock`.
fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str =
        "[[package]]\nname = \"a-b\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"a\"\nversion = \"2.1.0\"\n";

    #[test]
    fn a_locked_version_is_that_of_the_package_of_exactly_this_name() {
        assert_eq!(locked_version(LOCK, "a"), Some("2.1.0"));
        assert_eq!(locked_version(LOCK, "b"), None);
    }
}
