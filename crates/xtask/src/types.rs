//! The page's message types, generated from `crates/protocol`.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail};
use pixart_protocol::typescript;

use crate::workspace::Workspace;

/// Writes the types.
pub(crate) fn write(workspace: &Workspace) -> Result<ExitCode> {
    let path = path(workspace);
    fs::write(&path, typescript::render()).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// An error unless the file in the tree is what `write` would write.
pub(crate) fn fresh(workspace: &Workspace) -> Result<()> {
    let path = path(workspace);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if text != typescript::render() {
        bail!("{} does not match crates/protocol; run `cargo xtask types`", path.display());
    }
    Ok(())
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.web().join("src/engine/protocol.gen.ts")
}
