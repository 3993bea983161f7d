//! Installs Debian packages. Refuses without root: this task runner asks nobody for a password.

use anyhow::{Result, bail};

use crate::run;

/// Installs `packages` in Debian's current version, from package lists fetched just before: an old list names old
/// versions.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    let list = packages.join(" ");
    let typed = format!("apt-get update && apt-get install -y --no-install-recommends {list}");
    if run::find("apt-get").is_none() {
        bail!("{why}, and this machine has no apt-get to install {list} with; install them by hand");
    }
    if !is_root() {
        bail!("{why}, and only root may install packages; run as root: {typed}");
    }
    run::log(&format!("installing {list}: {why}"));
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

/// Whether this process may write to the system's folders.
pub(crate) fn is_root() -> bool {
    run::read(std::process::Command::new("id").arg("-u")).is_ok_and(|user| user.trim() == "0")
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut apt = std::process::Command::new("apt-get");
    apt.args(["-qq", "-o", "DPkg::Lock::Timeout=300"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    // Its lists of unpacked files are of no use to the caller; its errors are on standard error.
    apt.stdout(std::process::Stdio::null());
    run::run(&mut apt, run::minutes(20))
}
