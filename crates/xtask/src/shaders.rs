//! `cargo xtask shaders`: renders and validates every shader text that an operation can launch. The kernels' example of this name
//! does it, since the task runner does not depend on burn.

use std::{env, fs, path::Path, process::ExitCode};

use anyhow::{Context, Result};

use crate::{run, workspace::Workspace};

/// Validates every specialisation, and writes them to `folder` if there is one.
pub(crate) fn render(workspace: &Workspace, folder: Option<&Path>) -> Result<ExitCode> {
    run::log("rendering the shaders");
    run::run(workspace.native("build").args(["--quiet", "--example", "shaders"]), run::minutes(90))?;
    let mut shaders = workspace.command(workspace.native_target().join("release/examples/shaders"));
    if let Some(folder) = folder {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let user_folder = env::current_dir().context("the current folder was removed; change to another one")?;
        shaders.current_dir(user_folder).arg(folder);
    }
    run::run(&mut shaders, run::minutes(5))?;
    Ok(ExitCode::SUCCESS)
}
