//! `cargo xtask score`: how often the shipped checkpoint draws what a held-out prompt says, drawn by this pipeline and
//! by diffusers from the same seeds.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{golden, place::Place, python, run};

/// The most that the two scores may differ, in points of a hundred.
const POINTS_MAX: f64 = 2.0;

/// Prints both scores; exit code 1 if they differ by more than [`POINTS_MAX`].
pub(crate) fn score(place: &Place, count: u32) -> Result<ExitCode> {
    let checkpoint = place.root.join("web/models/scenes");
    let folder = place.cache.join("score");
    let prompts = folder.join("prompts.json");
    let (ours, theirs) = (folder.join("pixart"), folder.join("diffusers"));
    // Pictures of an earlier run must not be scored as this one's.
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    for path in [&ours, &theirs] {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    }

    choose(place, count, &prompts)?;

    run::say(&format!("drawing {count} held-out prompts with this pipeline"));
    let mut pixart = golden::companion(place)?;
    pixart.args(["generate", "--checkpoint"]).arg(&checkpoint).arg("--prompts").arg(&prompts);
    run::run(pixart.arg("--out-dir").arg(&ours), run::minutes(120))?;

    run::say(&format!("drawing {count} held-out prompts with diffusers"));
    let mut diffusers = python::oracle(place, "evaluate.py")?;
    diffusers.arg("diffusers").arg("--checkpoint").arg(&checkpoint).arg("--prompts").arg(&prompts);
    run::run(diffusers.arg("--out").arg(&theirs), run::minutes(120))?;

    let ours = judged(place, &prompts, &ours)?;
    let theirs = judged(place, &prompts, &theirs)?;
    let points = (ours - theirs).abs() * 100.0;
    println!(
        "core score of {count} held-out prompts: pixart {ours:.3}, diffusers {theirs:.3}, {points:.1} points apart"
    );
    Ok(if within(ours, theirs) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn within(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() * 100.0 <= POINTS_MAX
}

/// The share of `pictures` on which everything that the prompt names is right.
fn judged(place: &Place, prompts: &Path, pictures: &Path) -> Result<f64> {
    Ok(report(place, prompts, pictures, None)?.0)
}

/// [`judged`], and the whole report, with the distance from the pictures in `reference`.
pub(crate) fn report(place: &Place, prompts: &Path, pictures: &Path, reference: Option<&Path>) -> Result<(f64, Value)> {
    let mut judge = python::oracle(place, "evaluate.py")?;
    judge.arg("score").arg("--prompts").arg(prompts).arg("--pictures").arg(pictures);
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
pub(crate) fn choose(place: &Place, count: u32, prompts: &Path) -> Result<()> {
    let mut choose = python::oracle(place, "evaluate.py")?;
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
