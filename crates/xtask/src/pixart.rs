//! Builds and runs the native companion, `pixart`.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
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

/// Serves the embedded checkpoint with `companion` while `client` runs, which is given the server's address. The server's log goes
/// to the file `log`.
pub(crate) fn serving(
    workspace: &Workspace,
    companion: &Command,
    log: Option<&Path>,
    client: impl FnOnce(&str) -> Result<()>,
) -> Result<()> {
    let mut pixart = workspace.command(companion.get_program());
    pixart.args(["serve", "--api-only", "--listen", "127.0.0.1:0", "--model-alias", "gpt-image-1", "--checkpoint"]);
    pixart.arg(workspace.web().join("models/scenes")).stdout(Stdio::piped());
    if let Some(log) = log {
        pixart.stderr(File::create(log).with_context(|| format!("cannot write {}", log.display()))?);
    }
    let mut serving = pixart.spawn().context("the companion cannot be started")?;
    let mut url = String::new();
    let stdout = serving.stdout.take().context("its output is piped")?;
    let talked = BufReader::new(stdout).read_line(&mut url).map_err(Into::into).and_then(|_| client(url.trim()));
    // It is stopped whether that succeeded or not.
    serving.kill().and_then(|()| serving.wait()).context("the companion cannot be stopped")?;
    talked
}
