//! The programs of `examples/`, run with the embedded checkpoint.

use std::path::{Path, PathBuf};

use pixart_model::image::{self, Rgb8};

#[expect(dead_code, reason = "`main` reads the command line; the test calls `run`")]
#[path = "../../examples/encode_then_generate.rs"]
mod encode_then_generate;
#[expect(dead_code, reason = "`main` reads the command line; the test calls `run`")]
#[path = "../../examples/generate.rs"]
mod generate;

fn temporary(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("examples-{name}"))
}

fn pixels(file: &Path) -> Rgb8 {
    image::decode_image(&std::fs::read(file).expect("the example wrote it")).expect("a PNG")
}

#[test]
fn both_examples_generate_the_same_image() {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes");
    let prompt = "a red circle on a blue background";
    let [one, other, embeds] = ["one.png", "other.png", "embeds.safetensors"].map(temporary);
    generate::run(&checkpoint, prompt, &one).expect("the example generates an image");
    encode_then_generate::run(&checkpoint, prompt, &embeds, &other).expect("the example generates an image");
    let image = pixels(&one);
    assert_eq!(image, pixels(&other));
    assert!(image.bytes.iter().any(|byte| byte.abs_diff(image.bytes[0]) > 50), "the image is flat");
}
