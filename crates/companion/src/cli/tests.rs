//! Which command lines are accepted.

use clap::CommandFactory;

use super::*;

fn accepts(line: &str) -> bool {
    Cli::try_parse_from(line.split(' ')).is_ok()
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn generate_takes_exactly_one_source_of_text_and_the_output_that_fits_it() {
    assert!(accepts("pixart generate --checkpoint c --prompt p --out o.png"));
    assert!(accepts("pixart generate --checkpoint c --prompts p.json --out-dir o"));
    assert!(accepts("pixart generate --checkpoint c --embeds e.safetensors --out o.png"));
    assert!(accepts("pixart generate --checkpoint c --prompt p --out o.png --images 2 --seeds 1,2 --no-binning"));
    assert!(accepts("pixart generate --checkpoint c --prompt p --out o --clean-caption=false --output-type latent"));
    for line in [
        "pixart generate --checkpoint c --out o.png",
        "pixart generate --checkpoint c --prompt p",
        "pixart generate --checkpoint c --prompt p --embeds e --out o.png",
        "pixart generate --checkpoint c --prompts p.json --out o.png",
        "pixart generate --checkpoint c --prompt p --out o.png --out-dir o",
        "pixart generate --checkpoint c --prompt p --out o.png --seed -1",
    ] {
        assert!(!accepts(line), "{line}");
    }
}

#[test]
fn the_packaged_command_lines_are_accepted() {
    let container = include_str!("../../../../packaging/Containerfile");
    let arguments = container.lines().find_map(|line| line.strip_prefix("CMD ")).expect("it has one");
    let arguments: Vec<String> = serde_json::from_str(arguments).expect("a list");
    let unit = include_str!("../../../../packaging/pixart.service");
    let unit = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("it has one");
    assert!(accepts(&format!("pixart {}", arguments.join(" "))));
    assert!(accepts(unit));
    assert!(!accepts("pixart serve --checkpoint c --port 1"));
}

#[test]
fn a_comparison_has_two_sides() {
    assert!(accepts("pixart compare --prompt p --checkpoint c --device wgpu --with cpu"));
    assert!(accepts("pixart compare --recording a --checkpoint c"));
    assert!(accepts("pixart compare --recording a --recording b"));
    for line in [
        "pixart compare --prompt p --checkpoint c",
        "pixart compare --checkpoint c",
        "pixart compare --prompt p --recording a",
    ] {
        assert!(!accepts(line), "{line}");
    }
}
