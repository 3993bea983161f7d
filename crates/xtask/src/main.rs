//! `cargo xtask`: the only task runner. Each command sets up what it needs, says in one line what it does and why, and
//! ends with exit code 0 only if all of its work was done.

#![expect(clippy::print_stdout, reason = "a task runner's results belong on standard output")]

mod apt;
mod bench;
mod check;
mod chrome;
mod compare;
mod engines;
mod errors;
mod fuzz;
mod golden;
mod page;
mod pixart;
mod published;
mod python;
mod run;
mod score;
mod setup;
mod shaders;
mod soak;
mod start;
mod test;
mod tools;
mod types;
mod vulkan;
mod wasm;
mod workspace;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{fuzz::FuzzTarget, golden::GoldenDevice, start::PageImageArgs, test::TestStage, workspace::Workspace};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, runs and tests pixart-web; sets up what is missing")]
struct TaskRunner {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the page and serve it on this machine; with --prompt, generate one image in a headless browser instead
    Start {
        /// Port of 127.0.0.1 to serve on
        #[arg(long, default_value_t = 8080, conflicts_with = "prompt")]
        port: u16,
        #[command(flatten)]
        generate: Option<PageImageArgs>,
    },
    /// Build what is handed on: the page as static files in web/dist, the npm package in web/package
    Build,
    /// Run every test and print which adapters ran and what did not run
    Test {
        /// Run this stage alone
        #[arg(long)]
        only: Option<TestStage>,
    },
    /// Check format, generated files, names, imports, links, spelling, dependencies, lints, types and documentation
    Check {
        /// Read the sources and documents alone, which takes a second
        #[arg(long)]
        sources: bool,
    },
    /// Compare the pipeline with recorded tensors, or record them again
    Golden {
        /// Folder of variants to check
        #[arg(long, value_name = "DIR", required_unless_present_any = ["make", "published"], conflicts_with = "make")]
        check: Option<PathBuf>,
        /// A checkpoint of `pixart models`: download it, record one call of it in diffusers, and compare tap by tap
        #[arg(long, value_name = "NAME", conflicts_with_all = ["make", "check"])]
        published: Option<String>,
        /// With --published: small random networks in its layout, from a hub on this computer
        #[arg(long, requires = "published")]
        synthetic: bool,
        /// Where the pipeline runs
        #[arg(long, default_value = "cpu")]
        device: GoldenDevice,
        /// Record tests/golden again with the pinned Python packages
        #[arg(long)]
        make: bool,
    },
    /// Send generated requests or files to a part that reads what strangers send
    Fuzz {
        #[command(subcommand)]
        target: FuzzTarget,
    },
    /// Generate images of held-out prompts with this pipeline and with diffusers, and compare their scores
    Score {
        /// Number of prompts
        #[arg(long, default_value_t = 64)]
        count: u32,
    },
    /// Time parts of the networks against onnxruntime-web, burn's own operations and PyTorch
    Bench(bench::BenchOptions),
    /// Generate in a headless tab and natively, and compare prompt embeddings, every step and the image
    Compare {
        /// Folder to write the numbers and difference images to
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Run the page and the server for long, with changing models, killed browsers and killed clients, and record the numbers
    Soak {
        /// About how long to run; the numbers of images, restarts and seconds are in proportion
        #[arg(long, default_value_t = soak::FULL_MINUTES)]
        minutes: u32,
        /// Seed of the random moments
        #[arg(long, default_value_t = 7)]
        seed: u32,
    },
    /// Build the companion and run it with these arguments
    Pixart {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<OsString>,
    },
    /// Validate every shader text that an operation can launch, and write each to a file
    Shaders {
        /// Folder to write them to; without it they are only validated
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Write docs/errors.md from the texts of faults that the tests produce
    Errors,
    /// Write the page's message types, web/src/engine/protocol.gen.ts
    Types,
}

fn main() -> ExitCode {
    match run_task(TaskRunner::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_task(task: Task) -> Result<ExitCode> {
    run::end_children_on_signals()?;
    let workspace = Workspace::find()?;
    match task {
        Task::Start { port, generate: None } => start::serve(&workspace, port),
        Task::Start { generate: Some(arguments), .. } => start::generate(&workspace, &arguments),
        Task::Build => page::build(&workspace).map(|()| ExitCode::SUCCESS),
        Task::Test { only } => test::test(&workspace, only),
        Task::Check { sources: true } => check::sources(&workspace).map(|()| ExitCode::SUCCESS),
        Task::Check { sources: false } => check::check(&workspace),
        Task::Golden { published: Some(name), synthetic, device, .. } => {
            published::compare(&workspace, &name, synthetic, device)
        }
        Task::Golden { check: Some(folder), device, .. } => golden::check(&workspace, &folder, device),
        Task::Golden { check: None, .. } => golden::make(&workspace),
        Task::Fuzz { target } => fuzz::fuzz(&workspace, &target),
        Task::Score { count } => score::score(&workspace, count),
        Task::Bench(options) => bench::bench(&workspace, &options),
        Task::Compare { out } => compare::compare(&workspace, out.as_deref()),
        Task::Soak { minutes, seed } => soak::soak(&workspace, minutes, seed),
        Task::Pixart { arguments } => pixart::pixart(&workspace, &arguments),
        Task::Shaders { out } => shaders::render(&workspace, out.as_deref()),
        Task::Errors => errors::write(&workspace),
        Task::Types => types::write(&workspace),
    }
}
