//! Vulkan drivers, which native kernels need, or `NO_GPU=1`, which goes without.

use std::{env, path::Path};

use anyhow::Result;

use crate::apt;

/// Folders in which Vulkan loaders look for drivers.
const DRIVERS: [&str; 3] = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];

/// Installs Mesa's software driver if there is no Vulkan driver.
pub(crate) fn require_driver() -> Result<()> {
    let chosen = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().any(|variable| env::var_os(variable).is_some());
    if chosen || cfg!(target_os = "macos") || DRIVERS.iter().any(|folder| has_driver(Path::new(folder))) {
        return Ok(());
    }
    apt::install(
        &["mesa-vulkan-drivers", "libvulkan1"],
        "no Vulkan driver was found to run kernels on (NO_GPU=1 goes without)",
    )
}

fn has_driver(folder: &Path) -> bool {
    let Ok(entries) = folder.read_dir() else { return false };
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
}

/// Whether `NO_GPU=1` leaves out what needs a GPU adapter.
pub(crate) fn is_disabled() -> bool {
    env::var_os("NO_GPU").is_some_and(|value| value == "1")
}
