//! Builds and runs the native companion, `pixart`.

use std::{
    env,
    ffi::OsString,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{run, workspace::Workspace};

/// The companion's binary, built if it is not up to date.
pub(crate) fn command(workspace: &Workspace) -> Result<Command> {
    run::run(workspace.native("build").args(["--quiet", "--bin", "pixart"]), run::minutes(90))?;
    Ok(workspace.command(workspace.native_target().join("release/pixart")))
}

/// Runs the companion with `arguments` in the current folder until it ends; a server ends when it is interrupted.
pub(crate) fn pixart(workspace: &Workspace, arguments: &[OsString]) -> Result<ExitCode> {
    in_users_folder(workspace, arguments, Duration::MAX)
}

/// Runs the companion with `arguments` in the current folder.
pub(crate) fn in_users_folder(workspace: &Workspace, arguments: &[OsString], limit: Duration) -> Result<ExitCode> {
    let folder = env::current_dir().context("the current folder no longer exists; change to another one")?;
    let ended = run::status(command(workspace)?.current_dir(folder).args(arguments), limit)?;
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
