//! The folders a task works in: the repository, and a cache outside it that outlives every clone.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

/// The crates that are built for this machine, always as one selection: cargo unites the features of what is selected,
/// and another selection (with this task runner, say) would compile burn a second time.
const NATIVE: [&str; 7] = [
    "pixart-companion",
    "pixart-kernels",
    "pixart-model",
    "pixart-protocol",
    "pixart-tests",
    "pixart-verify",
    "pixart-weights",
];

/// The folders of the repository and of its cache.
pub(crate) struct Workspace {
    /// The repository's root.
    pub(crate) root: PathBuf,
    /// `pixart-web` in the user's cache folder: compiled crates, tools, Python packages.
    pub(crate) cache: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .context("crates/xtask does not lie two folders below the repository's root")?
            .to_path_buf();
        let cache = env::var_os("XDG_CACHE_HOME")
            .filter(|folder| Path::new(folder).is_absolute())
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .context("neither HOME nor XDG_CACHE_HOME is set; set one, so that compiled crates can be cached there")?
            .join("pixart-web");
        std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
        Ok(Self { root, cache })
    }

    /// The page's folder, where npm works.
    pub(crate) fn web(&self) -> PathBuf {
        self.root.join("web")
    }

    /// cargo for this machine. Native and wasm builds may use different compilers, so each has its own target folder.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = self.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.env("CARGO_TARGET_DIR", self.native_target());
        cargo
    }

    /// cargo's `task` on every crate that is built for this machine.
    pub(crate) fn native(&self, task: &str) -> Command {
        let mut cargo = self.cargo();
        cargo.args([task, "--release"]).args(NATIVE.iter().flat_map(|package| ["--package", package]));
        cargo
    }

    pub(crate) fn native_target(&self) -> PathBuf {
        self.cache.join("target")
    }

    pub(crate) fn cuda_target(&self) -> PathBuf {
        self.cache.join("target-cuda")
    }

    pub(crate) fn wasm_target(&self) -> PathBuf {
        self.cache.join("target-wasm")
    }

    /// A command that runs at the repository's root.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }
}

/// A folder for the files of one run, removed when dropped.
pub(crate) struct TempFolder(PathBuf);

impl TempFolder {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let folder = env::temp_dir().join(format!("pixart-web-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // A folder left behind among temporary files harms nobody.
        std::fs::remove_dir_all(&self.0).ok();
    }
}
