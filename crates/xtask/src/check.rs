//! `cargo xtask check`: what can be said about the tree without running the product, cheapest first.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{page, place::Place, run, types};

/// Everything, up to the first failure.
pub(crate) fn check(place: &Place) -> Result<ExitCode> {
    cheap(place)?;
    run::say("checking the page's types");
    page::packages(place)?;
    let mut tsc = place.command("node");
    run::run(tsc.current_dir(place.web()).args(["node_modules/typescript/bin/tsc", "--noEmit"]), run::minutes(5))?;
    run::say("linting every crate");
    lint(place.native("clippy"))?;
    let mut tasks = place.cargo();
    tasks.args(["clippy", "--release", "--package", "xtask"]);
    lint(tasks)?;
    run::say("building the documentation");
    run::run(place.native("doc").arg("--no-deps").env("RUSTDOCFLAGS", "--deny warnings"), run::minutes(60))?;
    run::say("comparing the crates' dependencies with the layout");
    run::run(place.native("test").args(["--test", "all", "layout"]), run::minutes(90))?;
    println!("checked: format, generated files, page types, lints, documentation, dependencies");
    Ok(ExitCode::SUCCESS)
}

/// What takes seconds.
pub(crate) fn cheap(place: &Place) -> Result<()> {
    run::say("checking the format");
    run::run(place.cargo().args(["fmt", "--all", "--check"]), run::minutes(2))?;
    run::say("comparing generated files with their source");
    types::fresh(place)
}

fn lint(mut clippy: Command) -> Result<()> {
    run::run(clippy.args(["--all-targets", "--", "--deny", "warnings"]), run::minutes(90))
}
