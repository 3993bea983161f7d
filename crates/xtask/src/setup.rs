//! Finds a compiler that can build for wasm32, and sets one up where there is none: by rustup, else from Debian's
//! packages, whose compiler comes with the sources of its standard library.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    apt, run,
    workspace::{TempFolder, Workspace},
};

const TARGET: &str = "wasm32-unknown-unknown";
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];
const DEBIAN_BIN: &str = "/usr/bin";
const DEBIAN_LLD: &str = "/usr/bin/lld-19";
/// The crates of the standard library that every wasm module links.
const STD_CRATES: &str = "-Zbuild-std=std,panic_abort,panic_unwind,test,proc_macro";

/// A compiler that can build for wasm32.
#[derive(Debug)]
pub(crate) enum Toolchain {
    /// The one that built this program.
    Own,
    /// Another one, in this folder.
    In(PathBuf),
}

impl Toolchain {
    /// cargo of this toolchain, with the target folder of wasm builds.
    pub(crate) fn cargo(&self, workspace: &Workspace) -> Result<Command> {
        let mut cargo = match self {
            Self::Own => workspace.cargo(),
            Self::In(folder) => workspace.command(folder.join("cargo")),
        };
        self.apply(&mut cargo, &[])?;
        cargo.env("CARGO_TARGET_DIR", workspace.wasm_target());
        Ok(cargo)
    }

    /// Makes `command` use this toolchain for the rustc and cargo that it calls by name, and find `tools`.
    pub(crate) fn apply(&self, command: &mut Command, tools: &[PathBuf]) -> Result<()> {
        let mut folders = tools.to_vec();
        if let Self::In(folder) = self {
            folders.push(folder.clone());
            command.env("RUSTC", folder.join("rustc"));
            // cargo and rustup hand these on to what they run, where they would name the other toolchain.
            for variable in ["CARGO", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH", "RUSTDOC"] {
                command.env_remove(variable);
            }
        }
        command.env("PATH", run::path_with(&folders)?);
        Ok(())
    }

    fn rustc(&self) -> Command {
        let mut rustc = match self {
            Self::Own => Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())),
            Self::In(folder) => Command::new(folder.join("rustc")),
        };
        if matches!(self, Self::In(_)) {
            rustc.env_remove("LD_LIBRARY_PATH");
        }
        rustc
    }
}

/// A toolchain that was seen to build for wasm32.
pub(crate) fn wasm_toolchain(workspace: &Workspace) -> Result<Toolchain> {
    if builds_wasm(&Toolchain::Own)? {
        return Ok(Toolchain::Own);
    }
    let debian = Toolchain::In(DEBIAN_BIN.into());
    if is_recent(&debian) && builds_wasm(&debian)? {
        return Ok(debian);
    }
    if run::find("rustup").is_some() {
        run::log("adding wasm32 to the Rust toolchain by rustup: its standard library is missing");
        let added = run::status(workspace.command("rustup").args(["target", "add", TARGET]), run::minutes(10))?;
        if added.success() && builds_wasm(&Toolchain::Own)? {
            return Ok(Toolchain::Own);
        }
        run::log("rustup could not add it; taking Debian's compiler for wasm32");
    }
    apt::install(&DEBIAN_PACKAGES, "no compiler for wasm32 was found")?;
    if !is_recent(&debian) {
        bail!("Debian's rustc-web is older than Rust {}, which this project needs", env!("CARGO_PKG_RUST_VERSION"));
    }
    if !builds_wasm(&debian)? {
        let sysroot = PathBuf::from(run::read(debian.rustc().args(["--print", "sysroot"]))?.trim());
        let host = host(&run::read(debian.rustc().arg("-vV"))?)?;
        let temp = TempFolder::new("wasm-std")?;
        let rlibs = build_std(workspace, &debian, temp.path())?;
        install_std(&rlibs, &sysroot, &host)?;
        if !builds_wasm(&debian)? {
            bail!(
                "the wasm32 library was built and installed under {}, and yet rustc cannot use it",
                sysroot.display()
            );
        }
    }
    Ok(debian)
}

/// Whether the toolchain can compile and link a module: an installed target may lack its linker.
fn builds_wasm(toolchain: &Toolchain) -> Result<bool> {
    let temp = TempFolder::new("wasm-probe")?;
    let source = temp.path().join("probe.rs");
    fs::write(&source, "#[unsafe(no_mangle)] pub extern \"C\" fn probe() -> usize { std::env::args().count() }\n")?;
    let mut rustc = toolchain.rustc();
    rustc.args(["--edition=2024", "--crate-type=cdylib", "--target", TARGET, "-o"]);
    rustc.arg(temp.path().join("probe.wasm")).arg(source);
    // Why a compiler cannot is of no interest: the next one is tried, or one is installed.
    Ok(run::read(&mut rustc).is_ok())
}

/// Whether the toolchain is there and new enough for this workspace.
fn is_recent(toolchain: &Toolchain) -> bool {
    let needed = version(env!("CARGO_PKG_RUST_VERSION")).expect("Cargo.toml names a version");
    run::read(toolchain.rustc().arg("--version"))
        .ok()
        .and_then(|text| version(text.split_whitespace().nth(1)?))
        .is_some_and(|found| found >= needed)
}

/// Major and minor of `1.95` or `1.96.0`.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// The `host:` line of `rustc -vV`.
fn host(verbose: &str) -> Result<String> {
    let host = verbose.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

/// Builds the standard library for wasm32 from the sources in the compiler's sysroot.
fn build_std(workspace: &Workspace, toolchain: &Toolchain, folder: &Path) -> Result<Vec<PathBuf>> {
    run::log("building the standard library for wasm32 (some minutes, once): Debian ships only its sources");
    fs::create_dir(folder.join("src"))?;
    fs::write(folder.join("src/lib.rs"), "")?;
    fs::write(folder.join("Cargo.toml"), "[package]\nname = \"empty\"\nedition = \"2024\"\n[workspace]\n")?;
    let mut cargo = toolchain.cargo(workspace)?;
    cargo.current_dir(folder).args(["build", "--release", "--target", TARGET, STD_CRATES]);
    // The standard library uses unstable features of its own compiler.
    cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", folder.join("target"));
    run::run(&mut cargo, run::minutes(30))?;
    let built = folder.join("target").join(TARGET).join("release/deps");
    let mut rlibs: Vec<PathBuf> = fs::read_dir(&built)
        .with_context(|| format!("cannot read {}", built.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    rlibs.retain(|path| is_rlib(path) && !name(path).starts_with("libempty-"));
    if rlibs.is_empty() {
        bail!("cargo built the standard library and left no .rlib in {}", built.display());
    }
    Ok(rlibs)
}

/// Puts a built standard library where the compiler of `sysroot` looks for it, in place of an older one, and Debian's
/// linker where it looks for rust-lld.
fn install_std(rlibs: &[PathBuf], sysroot: &Path, host: &str) -> Result<()> {
    let rustlib = sysroot.join("lib/rustlib");
    if sysroot.starts_with("/usr") && !apt::is_root() {
        bail!("only root may install the standard library for wasm32 under {}; run this as root", rustlib.display());
    }
    let target = rustlib.join(TARGET).join("lib");
    run::log(&format!("installing {} libraries in {}", rlibs.len(), target.display()));
    fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
    for entry in fs::read_dir(&target)? {
        let path = entry?.path();
        if is_rlib(&path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    for rlib in rlibs {
        fs::copy(rlib, target.join(name(rlib))).with_context(|| format!("cannot copy {}", rlib.display()))?;
    }
    let bin = rustlib.join(host).join("bin");
    let linker = bin.join("rust-lld");
    if !linker.exists() {
        fs::create_dir_all(&bin)?;
        symlink(DEBIAN_LLD, &linker).with_context(|| format!("cannot link {}", linker.display()))?;
    }
    Ok(())
}

fn is_rlib(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rlib")
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_and_not_by_letter() {
        assert!(version("1.100.0") > version("1.95"));
        assert!(version("1.85.0") < version("1.95"));
        assert_eq!(version("nightly"), None);
    }

    #[test]
    fn installing_a_library_replaces_the_older_one_and_links_the_linker() {
        let root = env::temp_dir().join(format!("pixart-sysroot-{}", std::process::id()));
        let (built, sysroot) = (root.join("built"), root.join("sysroot"));
        let target = sysroot.join("lib/rustlib").join(TARGET).join("lib");
        fs::create_dir_all(&built).expect("a temporary folder is writable");
        fs::create_dir_all(&target).expect("a temporary folder is writable");
        fs::write(target.join("libstd-old.rlib"), "old").expect("a temporary folder is writable");
        fs::write(built.join("libstd-new.rlib"), "new").expect("a temporary folder is writable");

        install_std(&[built.join("libstd-new.rlib")], &sysroot, "some-host").expect("all folders are writable");

        assert!(!target.join("libstd-old.rlib").exists());
        assert_eq!(fs::read(target.join("libstd-new.rlib")).expect("it was copied"), b"new");
        let linker = sysroot.join("lib/rustlib/some-host/bin/rust-lld");
        assert_eq!(fs::read_link(linker).expect("it was linked"), Path::new(DEBIAN_LLD));
        fs::remove_dir_all(root).expect("a temporary folder is writable");
    }
}
