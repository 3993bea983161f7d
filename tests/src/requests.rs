//! Twenty fixed requests whose pixels on the CPU stay as they are recorded in `tests/requests/requests.json`: schedulers,
//! image-to-image, inpainting, perturbed-attention guidance, resolution bins and packed checkpoints.
//!
//! Sums are rounded in another order by another instruction set, so there is a SHA-256 for each that was recorded. After a
//! change that is meant to change pixels, `RECORD_REQUESTS=1 cargo xtask test --only native` writes the file anew.

use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use pixart_companion::{ImageGenerator, LoadOptions};
use pixart_model::{WeightFormat, image};
use pixart_protocol::GenerateRequest;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::packed::packed;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The instruction set that the kernels of the CPU choose.
fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return if is_x86_feature_detected!("avx512f") { "avx512" } else { "avx2" };
    }
    std::env::consts::ARCH
}

/// SHA-256 over width, height and RGB bytes of every image, in hexadecimal.
fn digest(images: &[image::Rgb8]) -> String {
    let mut sha256 = Sha256::new();
    for image::Rgb8 { width, height, bytes } in images {
        sha256.update(format!("{width}x{height}:"));
        sha256.update(bytes);
    }
    sha256.finalize().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

/// A PNG, white in its left half.
fn left_half(size: usize) -> Vec<u8> {
    let bytes = (0..size * size).flat_map(|pixel| [if pixel % size < size / 2 { 255 } else { 0 }; 3]).collect();
    image::encode_png(&image::Rgb8 { width: size, height: size, bytes }, &[]).expect("a small PNG")
}

fn pixels(case: &Map<String, Value>, checkpoint: PathBuf) -> Vec<image::Rgb8> {
    let mut request = json!({ "id": 0 });
    request.as_object_mut().expect("an object").extend(case["request"].as_object().expect("an object").clone());
    let mut request: GenerateRequest = serde_json::from_value(request).expect("fields of a request");
    let file = |name: &str| std::fs::read(root().join(name)).expect("a file of the tree");
    request.image = case.get("image").and_then(Value::as_str).map(file);
    request.mask_image = case.get("mask_image").map(|_| left_half(128));
    let options = LoadOptions { checkpoint, vae_encoder: request.image.is_some(), ..LoadOptions::default() };
    let generator = ImageGenerator::open(options).expect("the checkpoint loads");
    let images = generator.generate(&request, |_| ControlFlow::Continue(())).expect("the request is valid");
    images.iter().map(|image| image::decode_image(&image.file).expect("a PNG")).collect()
}

#[test]
fn twenty_fixed_requests_give_the_recorded_pixels() {
    let path = root().join("tests/requests/requests.json");
    let text = std::fs::read_to_string(&path).expect("the list is there");
    let mut cases: Vec<Value> = serde_json::from_str(&text).expect("a JSON list");
    assert_eq!(cases.len(), 20);
    let (set, record) = (instruction_set(), std::env::var_os("RECORD_REQUESTS").is_some());
    let [q8, q4] = [WeightFormat::Q8, WeightFormat::Q4].map(packed);
    let (mut equal, mut different, mut missing) = (0, Vec::new(), 0);
    for case in &mut cases {
        let case = case.as_object_mut().expect("an object");
        let checkpoint = match case.get("weights").and_then(Value::as_str) {
            Some("q8") => q8.path().to_owned(),
            Some("q4") => q4.path().to_owned(),
            _ => root().join(case["checkpoint"].as_str().expect("a folder")),
        };
        let got = digest(&pixels(case, checkpoint));
        if record {
            case.entry("sha256").or_insert_with(|| json!({}))[set] = json!(got);
        }
        match case.get("sha256").and_then(|hashes| hashes.get(set)).and_then(Value::as_str) {
            Some(want) if want == got => equal += 1,
            Some(_) => different.push(case["name"].to_string()),
            None => missing += 1,
        }
    }
    if record {
        let text = serde_json::to_string_pretty(&cases).expect("JSON");
        std::fs::write(&path, text + "\n").expect("the list can be written");
    }
    println!("{equal} of 20 requests have the recorded pixels ({set})");
    if missing > 0 {
        println!("NOT COMPARED: {missing} requests, no pixels are recorded for {set}");
    }
    assert!(different.is_empty(), "other pixels than recorded for {set}: {}", different.join(", "));
}

#[test]
fn a_single_other_pixel_changes_the_digest() {
    let image = |last: u8| image::Rgb8 { width: 1, height: 2, bytes: vec![0, 0, 0, 0, 0, last] };
    assert_ne!(digest(&[image(0)]), digest(&[image(1)]));
    let turned = image::Rgb8 { width: 2, height: 1, ..image(0) };
    assert_ne!(digest(&[image(0)]), digest(&[turned]));
}
