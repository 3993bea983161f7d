//! The binary `pixart`: parses the command line, runs the subcommand and reports its error. Results go to stdout, logs to stderr.
//! An error is one line with its cause and a remedy, and exit status 1. A reader of stdout that goes away ends it quietly.

mod allocator;
mod cli;

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use clap::Parser;
use pixart_companion::Error;
use pixart_protocol::Fault;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: allocator::HugePageAllocator = allocator::HugePageAllocator;

fn main() -> ExitCode {
    allocator::reuse_freed_memory();
    end_on_closed_pipe(true);
    let command = Cli::parse().command;
    if matches!(command, Command::Serve(_)) {
        // A client that disconnects must not end the server.
        end_on_closed_pipe(false);
    }
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,pixart=info,tower_http=info"));
    // A log that nobody reads any more is no reason to stop.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    match &command {
        Command::Serve(args) if args.log_json => log.json().init(),
        _ => log.init(),
    }
    command.run().unwrap_or_else(|error| {
        let line = match error.downcast::<Error>() {
            // Where a closed pipe sends no signal, it is an error, and as little of a failure.
            Err(error) if is_closed_pipe(&error) => return ExitCode::SUCCESS,
            Ok(error) => {
                let fault = Fault::from(error);
                format!("error: {} — {}", fault.what, fault.remedy)
            }
            Err(error) => format!("error: {error:#}"),
        };
        // Standard error may be closed too; the exit status remains.
        writeln!(std::io::stderr(), "{line}").ok();
        ExitCode::FAILURE
    })
}

/// Ends the process by SIGPIPE where it writes to a pipe whose reader is gone, as Unix tools end. Rust ignores the signal.
fn end_on_closed_pipe(end: bool) {
    #[cfg(unix)]
    // SAFETY: both dispositions are the system's own, and no handler is replaced.
    unsafe {
        libc::signal(libc::SIGPIPE, if end { libc::SIG_DFL } else { libc::SIG_IGN });
    }
    #[cfg(not(unix))]
    let _ = end;
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
