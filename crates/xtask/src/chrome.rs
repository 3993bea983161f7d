//! Finds a Chrome or Chromium and its driver, and installs Debian's where there is none.

use std::{env, path::PathBuf};

use anyhow::{Context, Result, bail};

use crate::{apt, run};

const BROWSERS: [&str; 4] = ["google-chrome", "google-chrome-stable", "chromium", "chromium-browser"];
/// Where the installer for macOS puts it.
const MAC: &str = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome";

/// The browser: `CHROME` if set, else the first one on PATH, else Debian's.
pub(crate) fn browser() -> Result<PathBuf> {
    if let Some(path) = from_env("CHROME")? {
        return Ok(path);
    }
    if let Some(path) = installed_browser() {
        return Ok(path);
    }
    apt::install(&["chromium", "chromium-driver"], "no Chrome or Chromium was found to open the page with")?;
    installed_browser().context("Debian's chromium is installed, and yet no chromium is on PATH")
}

/// The driver through which tests start the browser: `CHROMEDRIVER` if set, else the one on PATH, else Debian's.
pub(crate) fn driver() -> Result<PathBuf> {
    if let Some(path) = from_env("CHROMEDRIVER")? {
        return Ok(path);
    }
    if let Some(path) = run::find("chromedriver") {
        return Ok(path);
    }
    apt::install(&["chromium", "chromium-driver"], "no chromedriver was found to run wasm tests with")?;
    run::find("chromedriver").context("Debian's chromium-driver is installed, and yet no chromedriver is on PATH")
}

fn installed_browser() -> Option<PathBuf> {
    BROWSERS.into_iter().find_map(run::find).or_else(|| Some(PathBuf::from(MAC)).filter(|path| path.is_file()))
}

/// The program that an environment variable names, if it is set.
pub(crate) fn from_env(variable: &str) -> Result<Option<PathBuf>> {
    let Some(path) = env::var_os(variable).map(PathBuf::from) else { return Ok(None) };
    if !path.is_file() {
        bail!("{variable} is {}, which is no file; set it to the program's path, or unset it", path.display());
    }
    Ok(Some(path))
}
