//! Builds the page, serves it on this machine, and drives it in a headless browser.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{run, setup, wasm, workspace::Workspace};

/// The oldest Node that vite runs on, as major and minor.
const NODE: (u32, u32) = (20, 19);
const VITE: &str = "node_modules/vite/bin/vite.js";
/// Ends the server with its standard input, which closes however this process ends: even a killed one leaves none behind.
const END_WITH_STDIN: &str = "data:text/javascript,process.stdin.on('end',()=>process.exit()).resume()";
/// How long the server may take to answer its first request.
const READY: Duration = Duration::from_secs(30);

/// Sets up what the page needs and builds it into `web/dist`, and the npm package into `web/package`.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    build_for(workspace, wasm::ModuleKind::Page)
}

/// [`build`], with a module for `kind`.
pub(crate) fn build_for(workspace: &Workspace, kind: wasm::ModuleKind) -> Result<()> {
    packages(workspace)?;
    let toolchain = setup::wasm_toolchain(workspace)?;
    wasm::build(workspace, &toolchain, kind)?;
    run::log("building the page");
    let mut vite = workspace.command("node");
    vite.current_dir(workspace.web()).args([VITE, "build", "--logLevel", "warn"]).stdout(Stdio::from(io::stderr()));
    run::run(&mut vite, run::minutes(5))?;
    let mut package = workspace.command("node");
    package.current_dir(workspace.web()).arg("package.mjs").stdout(Stdio::from(io::stderr()));
    run::run(&mut package, run::minutes(5))
}

/// Installs the npm packages that `web/package-lock.json` names, unless they are those that were installed last.
pub(crate) fn packages(workspace: &Workspace) -> Result<()> {
    let version = run::read(Command::new("node").arg("--version"))
        .context("Node builds the page; install Node 20.19 or newer, with npm")?;
    if setup::version(version.trim().trim_start_matches('v')).is_none_or(|found| found < NODE) {
        bail!("Node is {}, and vite needs {}.{} or newer; install one", version.trim(), NODE.0, NODE.1);
    }
    let lock = wasm::digest(&workspace.web().join("package-lock.json"))?;
    let stamp = workspace.web().join("node_modules/.installed-from");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    run::log("installing npm packages: web/package-lock.json changed since the last time, or there was none");
    let mut npm = workspace.command("npm");
    npm.current_dir(workspace.web()).args(["ci", "--loglevel=error"]).stdout(Stdio::from(io::stderr()));
    run::run(&mut npm, run::minutes(10))?;
    fs::write(&stamp, lock).with_context(|| format!("cannot write {}", stamp.display()))
}

/// A program of the page's tests, `tests/page/drive.mjs`, that opens the page in `chrome`.
pub(crate) fn drive(workspace: &Workspace, verb: &str, server: &PageServer, chrome: &Path) -> Command {
    let mut node = workspace.command("node");
    node.args(["tests/page/drive.mjs", verb, "--url", &server.url, "--chrome"]).arg(chrome);
    node
}

/// The built page, served until this is dropped.
pub(crate) struct PageServer {
    pub(crate) url: String,
    running: run::ChildProcess,
}

impl PageServer {
    /// Serves on `port` of the loopback interface, or on a free one.
    pub(crate) fn start(workspace: &Workspace, port: Option<u16>) -> Result<Self> {
        let port = match port {
            Some(port) => port,
            None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr())?.port(),
        };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
            bail!("port {port} of 127.0.0.1 cannot be listened on; choose a free one with --port");
        }
        let mut vite = workspace.command("node");
        vite.current_dir(workspace.web()).args(["--import", END_WITH_STDIN, VITE, "preview", "--logLevel", "warn"]);
        vite.args(["--host", "127.0.0.1", "--strictPort", "--port", &port.to_string()]);
        vite.stdin(Stdio::piped()).stdout(Stdio::from(io::stderr()));
        let mut server =
            Self { url: format!("http://127.0.0.1:{port}/"), running: run::ChildProcess::start(&mut vite)? };
        let begun = Instant::now();
        while !answers(port) {
            if let Some(ended) = server.running.ended()? {
                bail!("the page's server ended before it answered: {ended}");
            }
            if begun.elapsed() > READY {
                bail!("the page's server did not answer at {} within {} s", server.url, READY.as_secs());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Serves until the server ends, which it does only by a fault or from outside.
    pub(crate) fn wait(mut self) -> Result<()> {
        let ended = self.running.wait(Duration::MAX)?;
        bail!("the page's server ended: {ended}")
    }
}

/// Whether the page is served on `port`.
fn answers(port: u16) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(String::from_utf8_lossy(&status).into_owned())
    };
    ask().is_ok_and(|status| status.ends_with(" 200"))
}
