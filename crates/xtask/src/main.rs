//! `cargo xtask`: the only task runner. Each command sets up what it needs, says in one line what it does and why, and
//! ends with exit code 0 only if everything it was asked for was done.

#![expect(clippy::print_stdout, reason = "a task runner's results belong on standard output")]

mod apt;
mod bench;
mod check;
mod chrome;
mod compare;
mod golden;
mod page;
mod place;
mod python;
mod run;
mod score;
mod setup;
mod start;
mod test;
mod tools;
mod types;
mod wasm;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{golden::Device, place::Place, start::Draw, test::Stage};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs and tests pixart-web; sets up what is missing")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the page and serve it on this machine; with --prompt, draw one picture in a headless browser instead
    Start {
        /// Port of 127.0.0.1 to serve on
        #[arg(long, default_value_t = 8080, conflicts_with = "prompt")]
        port: u16,
        #[command(flatten)]
        draw: Option<Draw>,
    },
    /// Build what is handed on: the page as static files in web/dist, the npm package in web/package
    Build,
    /// Run every test and print which adapters ran and what did not run
    Test {
        /// Run this stage alone
        #[arg(long)]
        only: Option<Stage>,
    },
    /// Check format, generated files, names, imports, links, spelling, dependencies, lints, types and documentation
    Check {
        /// Read the sources and documents alone, which takes a second
        #[arg(long)]
        sources: bool,
    },
    /// Compare the pipeline with recorded tensors, or record them anew
    Golden {
        /// Folder of variants to check
        #[arg(long, value_name = "DIR", required_unless_present = "make", conflicts_with = "make")]
        check: Option<PathBuf>,
        /// Where the pipeline runs
        #[arg(long, default_value = "cpu")]
        device: Device,
        /// Record tests/golden anew with the pinned Python packages
        #[arg(long)]
        make: bool,
    },
    /// Draw held-out prompts with this pipeline and with diffusers, and compare how often the pictures are right
    Score {
        /// Prompts to draw
        #[arg(long, default_value_t = 64)]
        count: u32,
    },
    /// Time parts of the networks against onnxruntime-web, burn's own operations and PyTorch
    Bench(bench::Bench),
    /// Draw in a headless tab and natively, and compare text, every step and the picture; exit code 1 beyond the bounds
    Compare {
        /// Folder to write the numbers and the difference pictures to
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Build the companion and run it with these arguments
    Pixart {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<OsString>,
    },
    /// Write the page's message types, web/src/engine/protocol.gen.ts
    Types,
}

fn main() -> ExitCode {
    match perform(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<ExitCode> {
    run::end_children_on_signals()?;
    let place = Place::find()?;
    match task {
        Task::Start { port, draw: None } => start::serve(&place, port),
        Task::Start { draw: Some(draw), .. } => start::draw(&place, &draw),
        Task::Build => page::build(&place).map(|()| ExitCode::SUCCESS),
        Task::Test { only } => test::test(&place, only),
        Task::Check { sources: true } => check::sources(&place).map(|()| ExitCode::SUCCESS),
        Task::Check { sources: false } => check::check(&place),
        Task::Golden { check: Some(folder), device, .. } => golden::check(&place, &folder, device),
        Task::Golden { check: None, .. } => golden::make(&place),
        Task::Score { count } => score::score(&place, count),
        Task::Bench(options) => bench::bench(&place, &options),
        Task::Compare { out } => compare::compare(&place, out.as_deref()),
        Task::Pixart { arguments } => golden::pixart(&place, &arguments),
        Task::Types => types::write(&place),
    }
}
