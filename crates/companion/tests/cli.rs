//! The program `pixart` as a shell runs it: with a reader of its output that goes away, without an output, and on a full disk.

#![cfg(unix)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SIGPIPE: i32 = 13;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn scenes() -> String {
    root().join("web/models/scenes").display().to_string()
}

/// A folder for the files of the test `name`.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli").join(name);
    fs::remove_dir_all(&folder).ok(); // It need not be there.
    fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}

fn pixart(arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixart"));
    command.args(arguments).stdin(Stdio::null()).env("RUST_LOG", "error");
    command
}

/// The lines of a log that the program wrote itself. Graphics drivers write there too.
fn own_log(stderr: &[u8]) -> String {
    let log = String::from_utf8_lossy(stderr);
    let own = |line: &&str| line.contains(" — ") || line.contains("panicked");
    log.lines().filter(own).collect::<Vec<_>>().join("\n")
}

/// A command line of every subcommand that prints, with files in `folder`. `synth` writes gigabytes, and `bench` needs exported
/// networks; both print as `pack` does.
fn printing(folder: &Path) -> Vec<Vec<String>> {
    let (at, scenes) = (|name: &str| folder.join(name).display().to_string(), scenes());
    let prompts = at("prompts.json");
    fs::write(&prompts, r#"[{"prompt": "a red circle"}, {"prompt": "a ring, of two, commas"}]"#)
        .expect("a temporary file");
    let golden = root().join("tests/golden").display().to_string();
    let lines: Vec<Vec<&str>> = vec![
        vec!["--help"],
        vec!["generate", "--help"],
        vec!["--version"],
        vec!["completions", "bash"],
        vec!["doctor"],
        vec!["doctor", "--json"],
        vec!["golden", &golden],
        vec!["golden", &golden, "--json"],
    ];
    let mut lines: Vec<Vec<String>> =
        lines.into_iter().map(|line| line.into_iter().map(str::to_owned).collect()).collect();
    for line in [
        format!(
            "generate --checkpoint {scenes} --prompts {prompts} --out-dir {} --steps 1 --width 64 --height 64",
            at("out")
        ),
        format!("encode --checkpoint {scenes} --prompt star --out {}", at("e.safetensors")),
        format!("pack --from {scenes} --to {}", at("packed")),
        format!("compare --prompt star --checkpoint {scenes} --steps 1 --width 64 --height 64 --with cpu"),
        format!("sheet --checkpoint {scenes} --prompt star --steps 1 --scheduler euler --out {}", at("sheet.png")),
    ] {
        lines.push(line.split(' ').map(str::to_owned).collect());
    }
    lines
}

#[test]
fn a_reader_that_goes_away_ends_every_subcommand_quietly() {
    for lines_read in [0, 1] {
        for line in printing(&folder("pipe")) {
            let mut child =
                pixart(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
            let mut reader = BufReader::new(child.stdout.take().expect("it is piped"));
            for _ in 0..lines_read {
                let mut text = String::new();
                reader.read_line(&mut text).expect("text");
                assert!(!text.is_empty(), "{line:?} prints nothing");
            }
            drop(reader);
            let ended = child.wait_with_output().expect("it ends");
            let log = own_log(&ended.stderr);
            // What it had written before the reader left, or all of it, may have fitted into the pipe.
            let is_quiet = ended.status.success() || ended.status.signal() == Some(SIGPIPE);
            assert!(is_quiet && log.is_empty(), "{line:?} after {lines_read} lines: {} {log}", ended.status);
        }
    }
}

#[test]
fn every_subcommand_works_without_an_output() {
    for line in printing(&folder("closed")) {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"exec "$0" "$@" >&-"#, env!("CARGO_BIN_EXE_pixart")]).args(&line).env("RUST_LOG", "error");
        let ended = shell.stdin(Stdio::null()).output().expect("a shell");
        let log = own_log(&ended.stderr);
        assert!(ended.status.success() && log.is_empty(), "{line:?}: {} {log}", ended.status);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_with_a_remedy() {
    for line in [vec!["doctor"], vec!["doctor", "--json"], vec!["completions", "zsh"]] {
        let line: Vec<String> = line.into_iter().map(str::to_owned).collect();
        let full = File::create("/dev/full").expect("Linux has it");
        let ended = pixart(&line).stdout(full).stderr(Stdio::piped()).output().expect("it ends");
        let log = own_log(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{line:?}");
        assert!(
            log.starts_with("error: standard output cannot be written: ") && log.contains(" — free space"),
            "{log}"
        );
    }
}

#[test]
fn a_server_outlives_the_readers_of_its_output_and_its_clients() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address");
    let line = format!("serve --api-only --checkpoint {} --listen {free}", scenes());
    let line: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let mut child = pixart(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop((child.stdout.take(), child.stderr.take()));
    let connect = || {
        let began = Instant::now();
        loop {
            match TcpStream::connect(free) {
                Ok(stream) => return stream,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    for path in ["/v1/openapi.json", "/v1/none", "/v1/openapi.json"] {
        // A client that leaves before it has read the answer; the second one is logged.
        write!(connect(), "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is sent");
    }
    let mut stream = connect();
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    child.kill().and_then(|()| child.wait()).expect("it runs");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
