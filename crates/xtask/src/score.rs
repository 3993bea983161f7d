//! `cargo xtask score`: the share of held-out prompts that the shipped checkpoint renders correctly, with this
//! pipeline and with diffusers from the same seeds.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{pixart, python, run, workspace::Workspace};

/// The most that the two scores may differ, in points of a hundred.
const POINTS_MAX: f64 = 2.0;

/// Prints both scores; exit code 1 if they differ by more than [`POINTS_MAX`].
pub(crate) fn score(workspace: &Workspace, count: u32) -> Result<ExitCode> {
    let checkpoint = workspace.root.join("web/models/scenes");
    let folder = workspace.cache.join("score");
    let prompts = folder.join("prompts.json");
    let (ours, theirs) = (folder.join("pixart"), folder.join("diffusers"));
    // Images of an earlier run must not be scored as this one's.
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    for path in [&ours, &theirs] {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    }

    choose(workspace, count, &prompts)?;

    run::log(&format!("generating {count} held-out prompts with this pipeline"));
    let mut pixart = pixart::command(workspace)?;
    pixart.args(["generate", "--checkpoint"]).arg(&checkpoint).arg("--prompts").arg(&prompts);
    run::run(pixart.arg("--out-dir").arg(&ours), run::minutes(120))?;

    run::log(&format!("generating {count} held-out prompts with diffusers"));
    let mut diffusers = python::oracle(workspace, "evaluate.py")?;
    diffusers.arg("diffusers").arg("--checkpoint").arg(&checkpoint).arg("--prompts").arg(&prompts);
    run::run(diffusers.arg("--out").arg(&theirs), run::minutes(120))?;

    let ours = core_score(workspace, &prompts, &ours)?;
    let theirs = core_score(workspace, &prompts, &theirs)?;
    let points = (ours - theirs).abs() * 100.0;
    println!(
        "core score of {count} held-out prompts: pixart {ours:.3}, diffusers {theirs:.3}, {points:.1} points apart"
    );
    Ok(if within(ours, theirs) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn within(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() * 100.0 <= POINTS_MAX
}

/// The share of `images` in which everything that the prompt names is correct.
fn core_score(workspace: &Workspace, prompts: &Path, images: &Path) -> Result<f64> {
    Ok(report(workspace, prompts, images, None)?.0)
}

/// [`core_score`], and the whole report, with the distance from the images in `reference`.
pub(crate) fn report(
    workspace: &Workspace,
    prompts: &Path,
    images: &Path,
    reference: Option<&Path>,
) -> Result<(f64, Value)> {
    let mut judge = python::oracle(workspace, "evaluate.py")?;
    judge.arg("score").arg("--prompts").arg(prompts).arg("--images").arg(images);
    if let Some(reference) = reference {
        judge.arg("--reference").arg(reference);
    }
    let text = run::read(&mut judge)?;
    let last = text.lines().rfind(|line| !line.trim().is_empty()).context("the scorer printed nothing")?;
    let report: Value = serde_json::from_str(last).with_context(|| format!("the scorer printed no JSON: {last}"))?;
    let Some(core) = report["core"].as_f64() else { bail!("the scorer's report has no number `core`: {last}") };
    Ok((core, report))
}

/// Writes `count` held-out prompts.
pub(crate) fn choose(workspace: &Workspace, count: u32, prompts: &Path) -> Result<()> {
    let mut choose = python::oracle(workspace, "evaluate.py")?;
    choose.args(["prompts", "--count", &count.to_string(), "--out"]).arg(prompts);
    run::run(&mut choose, run::minutes(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_further_apart_than_two_points_or_not_numbers_fail() {
        assert!(within(0.80, 0.79));
        assert!(!within(0.80, 0.77));
        assert!(!within(0.77, 0.80));
        assert!(!within(f64::NAN, 0.80));
    }
}
