//! The binary `pixart`: parses the command line, runs the subcommand and reports its error. Results go to stdout, logs to stderr.
//! An error is one line with its cause and a remedy, and exit status 1.

mod allocator;
mod cli;

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
    let command = Cli::parse().command;
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,pixart=info,tower_http=info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match &command {
        Command::Serve(args) if args.log_json => log.json().init(),
        _ => log.init(),
    }
    command.run().unwrap_or_else(|error| {
        match error.downcast::<Error>().map(Fault::from) {
            Ok(fault) => eprintln!("error: {} — {}", fault.what, fault.remedy),
            Err(error) => eprintln!("error: {error:#}"),
        }
        ExitCode::FAILURE
    })
}
