//! Command lines that are accepted, and those that are not.

use clap::CommandFactory;
use pixart_companion::LoraPath;

use super::*;

fn accepts(line: &str) -> bool {
    Cli::try_parse_from(line.split(' ')).is_ok()
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn generate_requires_one_source_of_text_and_the_matching_output() {
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
fn a_lora_path_that_exists_is_taken_whole() {
    let dir = std::env::temp_dir().join(format!("pixart-lora-{}", std::process::id()));
    for name in ["lr=1e-4", "a b, c:d=0.5", "plain", "lr"] {
        std::fs::create_dir_all(dir.join(name)).expect("a temporary folder");
    }
    let path = |name: &str| dir.join(name).to_str().expect("a UTF-8 path").to_owned();
    let loras = |text: String| {
        let line = ["pixart", "generate", "--checkpoint", "c", "--prompt", "p", "--out", "o.png", "--lora", &text];
        match Cli::try_parse_from(line).expect("it is a command line").command {
            Command::Generate(args) => args.loras.paths(),
            _ => panic!("another subcommand"),
        }
    };
    for (text, name, scale) in [
        (path("lr=1e-4"), "lr=1e-4", 1.0),
        (format!("{}=0.5", path("lr=1e-4")), "lr=1e-4", 0.5),
        (path("a b, c:d=0.5"), "a b, c:d=0.5", 1.0),
        (format!("{}=-2", path("a b, c:d=0.5")), "a b, c:d=0.5", -2.0),
        (path("plain"), "plain", 1.0),
        (format!("{}=1e-4", path("plain")), "plain", 1e-4),
        (format!("{}:0.5", path("a b, c:d=0.5")), "a b, c:d=0.5", 0.5),
        (format!("{}:-1", path("plain")), "plain", -1.0),
        (format!("{}:file", path("plain")), "plain:file", 1.0),
    ] {
        assert_eq!(loras(text.clone()), Ok(vec![LoraPath { path: dir.join(name), scale }]), "{text}");
    }
    for (text, place, scale) in [
        ("owner/name", "owner/name", 1.0),
        ("owner/name@v1/a.safetensors:0.8", "owner/name@v1/a.safetensors", 0.8),
        ("owner/name=0.8", "owner/name", 0.8),
        ("https://huggingface.co/owner/name", "https://huggingface.co/owner/name", 1.0),
        ("https://huggingface.co/owner/name:2", "https://huggingface.co/owner/name", 2.0),
    ] {
        assert_eq!(loras(text.to_owned()), Ok(vec![LoraPath { path: place.into(), scale }]), "{text}");
    }
    let fault = loras(format!("{}=much", path("plain"))).expect_err("no number");
    assert_eq!(fault.remedy, "write it as PLACE or PLACE:SCALE");
    std::fs::remove_dir_all(&dir).expect("it was created");
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
fn serve_accepts_addresses_and_names_that_clients_use() {
    for listen in ["127.0.0.1:7860", "localhost:7860", "7860", ":7860", "[::1]:0", "0.0.0.0:80"] {
        assert!(accepts(&format!("pixart serve --checkpoint c --listen {listen}")), "{listen}");
    }
    for listen in ["example.org:80", "127.0.0.1", "localhost", "70000"] {
        assert!(!accepts(&format!("pixart serve --checkpoint c --listen {listen}")), "{listen}");
    }
    assert!(accepts("pixart serve --checkpoint c --model-alias gpt-image-1 --model-alias dall-e-3=c --api-only"));
    assert!(accepts(
        "pixart serve --checkpoint c --allow-host host.docker.internal --allow-origin https://example.org/"
    ));
}

#[test]
fn compare_requires_two_devices_or_recordings() {
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

#[test]
fn earlier_spellings_of_flags_are_accepted() {
    for (current, earlier) in [
        ("generate --checkpoint c --prompt p --out o.png --guidance-scale 2", ("--guidance-scale", "--guidance")),
        (
            "generate --checkpoint c --prompt p --out o.png --num-images-per-prompt 2",
            ("--num-images-per-prompt", "--images"),
        ),
        (
            "generate --checkpoint c --prompt p --out o.png --no-resolution-binning",
            ("--no-resolution-binning", "--no-binning"),
        ),
        ("compare --prompt p --checkpoint c --with cpu --guidance-scale 2", ("--guidance-scale", "--guidance")),
        ("serve --checkpoint c --request-timeout 9", ("--request-timeout", "--within")),
        ("serve --checkpoint c --shutdown-timeout 9", ("--shutdown-timeout", "--grace")),
        ("bench --models m --workload w --burn-reference", ("--burn-reference", "--stock")),
    ] {
        assert!(accepts(&format!("pixart {current}")), "{current}");
        let line = current.replace(earlier.0, earlier.1);
        assert!(line != current && accepts(&format!("pixart {line}")), "{line}");
    }
}
