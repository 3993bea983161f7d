//! `cargo xtask check`: everything that can be checked without running the product, cheapest first.

mod circles;
mod debug_texts;
mod fault_texts;
mod links;
mod programs;
mod sources;
mod type_names;

use std::{
    fmt,
    process::{Command, ExitCode},
};

use anyhow::{Result, bail};

use self::sources::Sources;
use crate::{bench::plot, page, run, shaders, types, workspace::Workspace};

/// A rule that the sources and documents keep.
struct SourceRule {
    /// Name of a violation.
    name: &'static str,
    check: fn(&Sources) -> Result<Vec<Finding>>,
}

const RULES: [SourceRule; 5] = [
    SourceRule { name: "type names that are defined twice", check: type_names::check },
    SourceRule { name: "import circles", check: circles::check },
    SourceRule { name: "broken links between documents", check: links::check },
    SourceRule { name: "Debug formatting in texts", check: debug_texts::check },
    SourceRule { name: "faults and the error catalogue", check: fault_texts::check },
];

/// A violation of a rule.
#[derive(Debug)]
struct Finding {
    /// A file and line, or a name.
    place: String,
    what: String,
}

impl Finding {
    fn new(place: impl Into<String>, what: String) -> Self {
        Self { place: place.into(), what }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", self.place, self.what)
    }
}

/// Runs every check up to the first that fails.
pub(crate) fn check(workspace: &Workspace) -> Result<ExitCode> {
    cheap(workspace)?;
    programs::spelling(workspace)?;
    programs::dependencies(workspace)?;
    run::log("checking the page's types");
    page::packages(workspace)?;
    let mut tsc = workspace.command("node");
    run::run(tsc.current_dir(workspace.web()).args(["node_modules/typescript/bin/tsc", "--noEmit"]), run::minutes(5))?;
    run::log("formatting and linting the page's TypeScript");
    let mut biome = workspace.command(workspace.web().join("node_modules/.bin/biome"));
    run::run(biome.args(["ci", "--colors=off"]), run::minutes(5))?;
    run::log("linting every crate");
    lint(workspace.native("clippy"))?;
    let mut tasks = workspace.cargo();
    tasks.args(["clippy", "--release", "--package", "xtask"]);
    lint(tasks)?;
    programs::fuzz_targets(workspace)?;
    shaders::render(workspace, None)?;
    run::log("building the documentation");
    run::run(workspace.native("doc").arg("--no-deps").env("RUSTDOCFLAGS", "--deny warnings"), run::minutes(60))?;
    run::log("comparing the crates' dependencies with the layout");
    run::run(workspace.native("test").args(["--test", "all", "layout"]), run::minutes(90))?;
    println!(
        "checked: format, generated files, names, imports, links, texts, spelling, dependencies, page types, lints, \
         fuzz targets, shaders, documentation, layout"
    );
    Ok(ExitCode::SUCCESS)
}

/// Runs the checks that take seconds.
pub(crate) fn cheap(workspace: &Workspace) -> Result<()> {
    run::log("checking the format");
    run::run(workspace.cargo().args(["fmt", "--all", "--check"]), run::minutes(2))?;
    run::log("comparing generated files with their source");
    types::fresh(workspace)?;
    plot::fresh(workspace)?;
    sources(workspace)
}

/// Checks the sources and documents against every rule, and lists the violations.
pub(crate) fn sources(workspace: &Workspace) -> Result<()> {
    run::log("reading the sources and documents");
    let sources = Sources::read(workspace)?;
    let mut errors = 0;
    for rule in RULES {
        let findings = (rule.check)(&sources)?;
        errors += findings.len();
        if !findings.is_empty() {
            eprintln!("{}: {}", rule.name, findings.len());
        }
        for finding in &findings {
            eprintln!("  {finding}");
        }
    }
    if errors > 0 {
        bail!("{errors} violations of the rules for sources are listed above; CONTRIBUTING.md has the remedies");
    }
    Ok(())
}

fn lint(mut clippy: Command) -> Result<()> {
    run::run(clippy.args(["--all-targets", "--", "--deny", "warnings"]), run::minutes(90))
}
