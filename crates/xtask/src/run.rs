//! Starts other programs. Every one gets a process group of its own, a time limit or an owner, and no standard input;
//! none outlives this process, whether it returns, fails, or is interrupted.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

/// Process groups that are still to be ended.
static GROUPS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// How long a group may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// Logs a step and its reason to standard error.
pub(crate) fn log(what: &str) {
    eprintln!("[xtask] {what}");
}

/// Minutes as a time limit.
pub(crate) const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// Ends all children when this process is interrupted or terminated.
pub(crate) fn end_children_on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for interrupts")?;
    thread::spawn(move || {
        if let Some(number) = signals.forever().next() {
            for group in groups().iter() {
                signal(*group, "TERM");
            }
            // The exit code that shells use for a program that a signal ended.
            std::process::exit(128 + number);
        }
    });
    Ok(())
}

/// Runs `command` with its output command_line, and returns how it ended.
pub(crate) fn status(command: &mut Command, limit: Duration) -> Result<ExitStatus> {
    ChildProcess::start(command.stdin(Stdio::null()))?.wait(limit)
}

/// Runs `command` with its output command_line; an error unless it succeeds.
pub(crate) fn run(command: &mut Command, limit: Duration) -> Result<()> {
    let ended = status(command, limit)?;
    if !ended.success() {
        bail!("`{}` failed: {ended}", command_line(command));
    }
    Ok(())
}

/// Runs `command` and returns how it ended with the lines of its standard output, each of which goes to `each` as it
/// comes.
pub(crate) fn lines(command: &mut Command, limit: Duration, each: fn(&str)) -> Result<(ExitStatus, Vec<String>)> {
    let mut running = ChildProcess::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let stdout = running.child.stdout.take().context("standard output was not piped")?;
    let reader = thread::spawn(move || {
        let mut lines = Vec::new();
        for line in BufReader::new(stdout).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).into_owned();
            each(&line);
            lines.push(line);
        }
        lines
    });
    let ended = running.wait(limit)?;
    let lines = reader.join().ok().context("the thread that reads a program's output panicked")?;
    Ok((ended, lines))
}

/// Runs `command` in silence and returns its standard output; an error with its standard error unless it succeeds.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{}`", command_line(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` failed: {}\n{}",
            command_line(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The path of `program`, searched on PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// PATH with `folders` first.
pub(crate) fn path_with(folders: &[PathBuf]) -> Result<std::ffi::OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(folders.iter().cloned().chain(env::split_paths(&path)))
        .context("a folder for PATH has a colon in its name")
}

/// A running program, ended when dropped.
pub(crate) struct ChildProcess {
    child: Child,
    command_line: String,
}

impl ChildProcess {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let command_line = command_line(command);
        // Held while the child starts: an interrupt in between would miss its group.
        let mut groups = groups();
        let child = command.process_group(0).spawn().with_context(|| format!("cannot run `{command_line}`"))?;
        groups.insert(child.id());
        Ok(Self { child, command_line })
    }

    /// How the program ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for `{}`", self.command_line))
    }

    /// Waits for the program; past `limit` it is ended, and that is an error.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(ended) = self.ended()? {
                // A process left in its group would keep its output open.
                signal(self.child.id(), "TERM");
                return Ok(ended);
            }
            if begun.elapsed() > limit {
                self.end();
                bail!("`{}` was ended: it had not finished after {} s", self.command_line, limit.as_secs());
            }
            thread::sleep(POLL);
        }
    }

    fn end(&mut self) {
        let group = self.child.id();
        signal(group, "TERM");
        let begun = Instant::now();
        while begun.elapsed() < GRACE && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(POLL);
        }
        signal(group, "KILL");
        // Collects the exit status, so that no zombie is left; a failure of that has no consequence.
        self.child.wait().ok();
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
        groups().remove(&self.child.id());
    }
}

fn groups() -> MutexGuard<'static, BTreeSet<u32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Signals a whole process group; false where it has already ended. The shell's own `kill` is on every machine.
fn signal(group: u32, name: &str) -> bool {
    let mut shell = Command::new("sh");
    shell.args(["-c", "kill -s \"$0\" -- \"-$1\"", name, &group.to_string()]).stderr(Stdio::null());
    shell.status().is_ok_and(|ended| ended.success())
}

/// The command as one would type it.
fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failing_program_is_an_error_that_names_it() {
        let error = run(&mut shell("exit 3"), minutes(1)).expect_err("exit code 3 is a failure");
        assert!(error.to_string().contains("sh -c exit 3"), "{error}");
    }

    #[test]
    fn a_program_past_its_limit_is_ended_with_its_children() {
        let begun = Instant::now();
        let error = lines(&mut shell("sleep 60 | sleep 60"), Duration::from_millis(200), |_| {})
            .expect_err("the limit is shorter than the sleep");
        assert!(error.to_string().contains("had not finished"), "{error}");
        assert!(begun.elapsed() < GRACE, "the children held the output open");
    }

    #[test]
    fn lines_come_back_in_order_with_the_exit_status() {
        let (ended, lines) = lines(&mut shell("echo one; echo two; exit 4"), minutes(1), |_| {}).expect("sh runs");
        assert_eq!((ended.code(), lines), (Some(4), vec!["one".into(), "two".into()]));
    }

    #[test]
    fn a_dropped_program_is_gone() {
        let running = ChildProcess::start(&mut shell("sleep 60")).expect("sh runs");
        let group = running.child.id();
        drop(running);
        let begun = Instant::now();
        // Its children go on for as long as the system takes to collect them.
        while signal(group, "TERM") {
            assert!(begun.elapsed() < GRACE, "the group is still there");
            thread::sleep(POLL);
        }
    }
}
