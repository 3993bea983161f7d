//! The Python packages that record goldens and score images, gigabytes of them, and OpenAI's client, each in an environment
//! of their own.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{run, wasm, workspace::Workspace};

/// A Python interpreter with the packages of `tests/oracle/requirements.txt`.
pub(crate) fn interpreter(workspace: &Workspace) -> Result<PathBuf> {
    environment(workspace, "venv", "tests/oracle/requirements.txt")
}

/// A Python interpreter with the clients of OpenAI's API and of AUTOMATIC1111's.
pub(crate) fn client(workspace: &Workspace) -> Result<PathBuf> {
    environment(workspace, "venv-client", "tests/page/requirements.txt")
}

/// A Python interpreter beside schemathesis.
pub(crate) fn fuzzer(workspace: &Workspace) -> Result<PathBuf> {
    environment(workspace, "venv-fuzz", "fuzz/http/requirements.txt")
}

/// A Python interpreter beside the programs that check the tree.
pub(crate) fn checkers(workspace: &Workspace) -> Result<PathBuf> {
    environment(workspace, "venv-checkers", "crates/xtask/requirements.txt")
}

/// A Python interpreter with the packages that the file `requirements` names.
fn environment(workspace: &Workspace, name: &str, requirements: &str) -> Result<PathBuf> {
    let named = requirements;
    let requirements = workspace.root.join(requirements);
    let venv = workspace.cache.join(name);
    let python = venv.join("bin/python");
    let stamp = venv.join(".installed-from");
    let wanted = wasm::digest(&requirements)?;
    if python.is_file() && fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if !python.is_file() {
        run::log(&format!("creating a Python environment for the packages that {named} names"));
        run::run(Command::new("python3").args(["-m", "venv"]).arg(&venv), run::minutes(5))
            .context("Python 3.10 or newer with its venv module is needed; install it")?;
    }
    run::log(&format!("installing the pinned Python packages: {named} names others than are here"));
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
    run::run(&mut pip, run::minutes(60))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

/// A script of `tests/oracle`.
pub(crate) fn oracle(workspace: &Workspace, script: &str) -> Result<Command> {
    let mut command = workspace.command(interpreter(workspace)?);
    command.arg(workspace.root.join("tests/oracle").join(script));
    Ok(command)
}
