//! The catalogue's data against the networks that it names, and the places that its names stand for.

use super::*;
use crate::synth::gguf::quantized_bytes;

/// Bytes that a safetensors header, and the metadata of a GGUF file with its vocabulary, have at most.
const HEADER_BYTES: u64 = 1_200_000;
/// Elements of `caption_projection.y_embedding`, which PixArt-α's first files have and no network reads.
const UNUSED_ELEMENTS: u64 = 120 * 4096;
/// Rounding of a length to three digits.
const ROUNDING: f64 = 0.005;

fn elements(inventory: &[(String, Vec<usize>)]) -> u64 {
    inventory.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum()
}

/// The range of bytes that a network's files have by its shapes and dtype.
fn expected_bytes(architecture: Architecture, dtype: &str, files: usize) -> std::ops::RangeInclusive<u64> {
    let inventory = architecture.inventory().expect("its configuration is supported");
    let count = elements(&inventory);
    let embeddings: u64 = inventory
        .iter()
        .filter(|(name, _)| name == "shared.weight")
        .map(|(_, shape)| shape.iter().product::<usize>() as u64)
        .sum();
    // ComfyUI's single files have the token embeddings under both of their names.
    let twice = if files == 1 { embeddings } else { 0 };
    let least = match dtype {
        "f32" => 4 * count,
        "f16" if architecture == Architecture::T5Xxl => 2 * (count + twice),
        "f16" => 2 * count,
        "f8_e4m3" => count + twice,
        "f8_e4m3_scaled" => count + twice + 2 * embeddings,
        quantization => quantized_bytes(&inventory, quantization).unwrap_or_else(|| panic!("unknown {quantization}")),
    };
    least..=least + HEADER_BYTES * files as u64 + if dtype == "f32" { 4 * UNUSED_ELEMENTS } else { 0 }
}

fn check(name: &str, component: &CatalogueComponent) {
    let Some(architecture) = &component.architecture else { return };
    let architecture = Architecture::named(architecture).unwrap_or_else(|| panic!("{name}: {architecture}"));
    let is_weights = |path: &str| [".safetensors", ".gguf", ".bin"].iter().any(|end| path.ends_with(end));
    let weights: Vec<_> = component.files.iter().filter(|file| is_weights(&file.path)).collect();
    let bytes: u64 = weights.iter().map(|file| file.bytes).sum();
    let dtype = component.dtype.as_deref().expect("weights have a dtype");
    let is_gguf = weights.iter().any(|file| file.path.ends_with(".gguf"));
    let expected =
        expected_bytes(architecture, if is_gguf && dtype == "f16" { "gguf_f16" } else { dtype }, weights.len());
    let slack =
        if weights.iter().all(|file| file.bytes.to_string().trim_end_matches('0').len() > 3) { 0.0 } else { ROUNDING };
    let (least, most) = (*expected.start() as f64 * (1.0 - slack), *expected.end() as f64 * (1.0 + slack));
    assert!(least <= bytes as f64 && bytes as f64 <= most, "{name}: {bytes} bytes, and its shapes have {expected:?}");
}

#[test]
fn lengths_are_those_of_the_shapes_of_the_named_networks() {
    for model in &catalogue().models {
        model
            .components
            .by_name()
            .iter()
            .for_each(|(part, component)| check(&format!("{} {part}", model.name), component));
        let size = model.components.transformer.architecture.as_deref().and_then(Architecture::named);
        let side = size.expect("it has one").config()["sample_size"].as_u64().expect("a number");
        assert_eq!(u64::from(model.size), 8 * side, "{}", model.name);
    }
    catalogue().text_encoders.iter().for_each(|encoder| check(&encoder.name, &encoder.component));
}

#[test]
fn every_model_is_planned_and_memory_grows_with_the_size() {
    let rows = models().expect("every configuration is supported");
    for row in &rows {
        let model = catalogue().model(row.name).expect("it is listed");
        assert_eq!((model.memory_bytes, model.macs), (row.memory_q8_bytes, row.macs), "{}", row.name);
        assert!(row.memory_q8_bytes < row.memory_bytes && row.text_encoder_bytes < row.download_bytes, "{}", row.name);
    }
    let memory = |name: &str| rows.iter().find(|row| row.name == name).expect("it is listed").memory_bytes;
    assert!(
        memory("pixart-sigma-256") < memory("pixart-sigma-512")
            && memory("pixart-sigma-512") < memory("pixart-sigma-2k")
    );
}

#[test]
fn a_name_stands_for_the_addresses_of_its_components() {
    let none = ComponentPaths::default();
    let sigma = resolve(Path::new("pixart-sigma-512"), &none);
    assert!(sigma.checkpoint.starts_with("PixArt-alpha"), "{}", sigma.checkpoint.display());
    let transformer = sigma.components.transformer.clone().expect("another repository's");
    assert!(
        transformer
            .to_str()
            .is_some_and(|text| text.contains("PixArt-Sigma-XL-2-512-MS@") && text.ends_with("/transformer"))
    );
    assert_eq!((sigma.components.vae, sigma.components.preset.as_deref()), (None, Some("sigma")));
    let whole = resolve(Path::new("pixart-alpha-1024"), &none).components;
    assert!(whole.clone().places_mut().iter().all(|(_, place)| place.is_none()));
    let dmd = resolve(Path::new("pixart-alpha-dmd-512-fp16"), &none);
    assert!(dmd.components.transformer.is_some_and(|path| path.ends_with("transformer/diffusion_pytorch_model.bin")));
    assert!(dmd.components.scheduler.is_some_and(|path| path.ends_with("scheduler")));
    assert_eq!(dmd.variant.as_deref(), Some("fp16"));
}

#[test]
fn given_components_stay_and_text_encoders_have_names_of_their_own() {
    let given = ComponentPaths {
        vae: Some("other/vae".into()),
        text_encoder: Some("t5-xxl-q4_k_m".into()),
        ..ComponentPaths::default()
    };
    let found = resolve(Path::new("pixart-alpha-256"), &given).components;
    assert_eq!(found.vae, given.vae);
    let text_encoder = found.text_encoder.expect("it is given");
    assert!(text_encoder.to_str().is_some_and(|text| text.starts_with("city96/") && text.ends_with("-Q4_K_M.gguf")));
    let local = resolve(Path::new("no-such-model"), &given);
    assert_eq!((local.checkpoint.as_path(), local.components.preset), (Path::new("no-such-model"), None));
}
