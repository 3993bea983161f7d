//! Finds Firefox, WebKitGTK, their drivers and a display, and installs Debian's where there are none.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{apt, chrome, run, tools, workspace::Workspace};

const FIREFOX: [&str; 2] = ["firefox-esr", "firefox"];
const WEBKIT_DRIVER: &str = "WebKitWebDriver";
const DISPLAY: &str = "xvfb-run";

/// Names the programs in `command`, which drives the engines.
pub(crate) fn set_programs(workspace: &Workspace, command: &mut Command) -> Result<()> {
    let webkit = program("WEBKIT_DRIVER", &[WEBKIT_DRIVER], &["webkit2gtk-driver"])?;
    set_firefox(workspace, command)?;
    command.env("WEBKIT_DRIVER", webkit);
    Ok(())
}

/// Names Firefox and its driver in `command`.
pub(crate) fn set_firefox(workspace: &Workspace, command: &mut Command) -> Result<()> {
    let firefox = program("FIREFOX", &FIREFOX, &["firefox-esr"])?;
    let driver = match chrome::from_env("GECKODRIVER")?.or_else(|| run::find("geckodriver")) {
        Some(driver) => driver,
        // Debian has none.
        None => tools::geckodriver(workspace)?.join("geckodriver"),
    };
    command.env("FIREFOX", firefox).env("GECKODRIVER", driver);
    Ok(())
}

/// `node` under a virtual display, unless there is a display: WebKitGTK opens windows only.
pub(crate) fn node(workspace: &Workspace) -> Result<Command> {
    if ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|variable| env::var_os(variable).is_some_and(|name| !name.is_empty()))
    {
        return Ok(workspace.command("node"));
    }
    // Debian's xvfb only recommends xauth, without which xvfb-run ends at once.
    if run::find(DISPLAY).is_none() || run::find("xauth").is_none() {
        apt::install(&["xvfb", "xauth"], "no display was found to open WebKitGTK on")?;
    }
    let mut command = workspace.command(DISPLAY);
    command.args(["--auto-servernum", "node"]);
    Ok(command)
}

/// The program that `variable` names, else the first of `names` on PATH, else Debian's.
fn program(variable: &str, names: &[&str], packages: &[&str]) -> Result<PathBuf> {
    let on_path = || names.iter().copied().find_map(run::find);
    if let Some(path) = chrome::from_env(variable)?.or_else(on_path) {
        return Ok(path);
    }
    apt::install(packages, &format!("none of {} was found to test the page with", names.join(", ")))?;
    on_path().with_context(|| format!("Debian's {} is installed, and yet none is on PATH", packages.join(", ")))
}
