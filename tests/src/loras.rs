//! LoRAs of the transformer and of the text encoder, through the generator, the encoder and the server's state.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use futures_lite::future::block_on;
use pixart_companion::{
    AppState, ImageGenerator, LoadOptions, LoraPath, PromptEmbedsSource, PromptEncoder, PromptEncoderOptions,
    checkpoint,
};
use pixart_model::{WeightFormat, image};
use pixart_protocol::{EncodeRequest, EncodeResponse, GenerateRequest};
use pixart_weights::{Dtype, Weights, serialize_tensors};

use crate::packed::{Scratch, packed};
use crate::pipeline::scenes as scenes_folder;

const PROMPT: &str = "a green robot in the meadow";
const TRANSFORMER_MODULES: [&str; 2] = ["transformer_blocks.0.attn1.to_q", "transformer_blocks.1.ff.net.2"];
const TEXT_MODULE: &str = "encoder.block.0.layer.0.SelfAttention.v";

fn scenes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes")
}

/// Writes a LoRA of rank 2 for modules of the embedded checkpoint, with names of kohya's trainers.
fn write_lora(path: &Path, modules: &[&str]) {
    let folder = scenes_folder();
    let mut tensors = Vec::new();
    for module in modules {
        let (dir, stem, prefix) = match module.starts_with("encoder.") {
            true => ("text_encoder", "model", "lora_te"),
            false => ("transformer", "diffusion_pytorch_model", "lora_transformer"),
        };
        let weights = block_on(Weights::open(&folder, dir, stem)).expect("the embedded checkpoint");
        let [outputs, inputs] = *weights.shape(&format!("{module}.weight")).expect("it is there") else {
            panic!("{module}")
        };
        let name = format!("{prefix}_{}", module.replace('.', "_"));
        for (part, shape) in [("lora_down", [2, inputs]), ("lora_up", [outputs, 2])] {
            let value = |at: usize| ((at * 37 % 101) as f32 / 101.0 - 0.5) * 0.8;
            let bytes = (0..shape[0] * shape[1]).flat_map(|at| value(at).to_le_bytes()).collect();
            tensors.push((format!("{name}.{part}.weight"), Dtype::F32, shape.to_vec(), bytes));
        }
    }
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a temporary folder");
    std::fs::write(path, serialize_tensors(tensors, HashMap::new())).expect("a temporary file");
}

fn at(path: &Path, scale: f64) -> Vec<LoraPath> {
    vec![LoraPath { path: path.to_owned(), scale }]
}

/// Generates one image and returns its pixels, its file and its notes.
fn generate(options: LoadOptions) -> (Vec<u8>, Vec<u8>, Vec<String>) {
    let generator = ImageGenerator::open(options).expect("it loads");
    let request = GenerateRequest { seed: 9, num_inference_steps: 3, ..GenerateRequest::of(PROMPT) };
    let mut images = generator.generate(&request, |_| ControlFlow::Continue(())).expect("a valid request");
    let image = images.remove(0);
    (image::decode_image(&image.file).expect("a PNG").bytes, image.file, image.report.notes)
}

fn with(checkpoint: &Path, loras: Vec<LoraPath>) -> LoadOptions {
    LoadOptions { checkpoint: checkpoint.to_owned(), loras, ..LoadOptions::default() }
}

fn encoded(loras: Vec<LoraPath>) -> EncodeResponse {
    encoded_within(loras, None)
}

/// Encodes with the text encoder's blocks in this much memory.
fn encoded_within(loras: Vec<LoraPath>, text_memory: Option<u64>) -> EncodeResponse {
    let options = PromptEncoderOptions { checkpoint: scenes(), loras, text_memory, ..PromptEncoderOptions::default() };
    let request = EncodeRequest::of(vec![String::new(), PROMPT.to_owned()]);
    PromptEncoder::open(&options).expect("it loads").encode(&request).expect("a valid request")
}

#[test]
fn a_lora_changes_images_by_its_scale_and_metadata_name_it() {
    let scratch = Scratch::new("lora");
    let path = scratch.path().join("style.safetensors");
    write_lora(&path, &TRANSFORMER_MODULES);
    let (plain, ..) = generate(with(&scenes(), Vec::new()));
    let (off, ..) = generate(with(&scenes(), at(&path, 0.0)));
    assert_eq!(plain, off, "a scale of zero changes nothing");
    let (whole, file, notes) = generate(with(&scenes(), at(&path, 1.0)));
    assert_ne!(plain, whole);
    assert!(notes.is_empty(), "{notes:?}");
    let text = String::from_utf8_lossy(&file);
    assert!(text.contains("style.safetensors"), "the PNG names the LoRA");
    let twice = [at(&path, 0.25), at(&path, 0.75)].concat();
    let (twice, ..) = generate(with(&scenes(), twice));
    let off = whole.iter().zip(&twice).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(off <= Some(1), "two scales are their sum, off by {off:?} of 255");
}

#[test]
fn a_lora_changes_a_packed_checkpoint_in_its_own_format() {
    let scratch = Scratch::new("lora-packed");
    let path = scratch.path().join("style.safetensors");
    write_lora(&path, &TRANSFORMER_MODULES);
    let packed = packed(WeightFormat::Q8);
    let (plain, ..) = generate(with(packed.path(), Vec::new()));
    let (off, ..) = generate(with(packed.path(), at(&path, 0.0)));
    let (merged, ..) = generate(with(packed.path(), at(&path, 1.0)));
    let (unpacked, ..) = generate(with(&scenes(), at(&path, 1.0)));
    let peak = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or_default();
    // A block's scale is that of its largest integer again, but for its last bit.
    assert!(peak(&plain, &off) <= 1, "{}", peak(&plain, &off));
    let (rounding, change) = (peak(&merged, &unpacked), peak(&merged, &plain));
    assert!(change > 2 * rounding && change > 20, "the change is {change}, and q8's rounding {rounding}");
}

#[test]
fn a_lora_of_the_text_encoder_changes_embeddings_wherever_they_are_made() {
    let scratch = Scratch::new("lora-text");
    let path = scratch.path().join("folder/pytorch_lora_weights.safetensors");
    write_lora(&path, &[TEXT_MODULE, TRANSFORMER_MODULES[0]]);
    let folder = path.parent().expect("a folder");
    let (plain, adapted) = (encoded(Vec::new()), encoded(at(folder, 1.0)));
    assert_ne!(plain.embeds, adapted.embeds);
    assert_eq!(encoded(at(folder, 0.0)).embeds, plain.embeds);
    assert_eq!(encoded_within(at(folder, 1.0), Some(0)).embeds, adapted.embeds, "blocks are streamed");
    let (pixels, ..) = generate(with(&scenes(), at(folder, 1.0)));
    let stored = PromptEmbedsSource::Stored(adapted);
    let (from_stored, _, notes) = generate(LoadOptions { prompt_embeds: stored, ..with(&scenes(), at(folder, 1.0)) });
    assert_eq!(pixels, from_stored, "both stages use the LoRA");
    assert!(notes.iter().any(|note| note.contains("a LoRA changes the text encoder too")), "{notes:?}");
}

#[test]
fn a_server_with_loras_has_a_fingerprint_of_its_own() {
    let scratch = Scratch::new("lora-server");
    let path = scratch.path().join("style.safetensors");
    write_lora(&path, &[TEXT_MODULE, TRANSFORMER_MODULES[0]]);
    let fingerprint = |loras| {
        let options = PromptEncoderOptions { checkpoint: scenes(), loras, ..PromptEncoderOptions::default() };
        AppState::open(&options).expect("it loads").info().fingerprint.clone()
    };
    let plain = fingerprint(Vec::new());
    let [half, whole] = [0.5, 1.0].map(|scale| fingerprint(at(&path, scale)));
    assert!(plain != half && half != whole && plain != whole);
    assert_eq!(fingerprint(at(&path, 1.0)), whole);
}

#[test]
fn a_lora_that_does_not_fit_is_refused_before_weights_are_read() {
    let scratch = Scratch::new("lora-misfit");
    let path = scratch.path().join("style.safetensors");
    let shapes = [("lora_A", vec![2, 4096]), ("lora_B", vec![1152, 2])];
    let tensor = |(part, shape): (&str, Vec<usize>)| {
        let bytes = vec![0; shape.iter().product::<usize>() * 4];
        (format!("transformer.caption_projection.linear_1.{part}.weight"), Dtype::F32, shape, bytes)
    };
    std::fs::create_dir_all(scratch.path()).expect("a temporary folder");
    std::fs::write(&path, serialize_tensors(shapes.map(tensor).to_vec(), HashMap::new())).expect("a temporary file");
    let error = ImageGenerator::open(with(&scenes(), at(&path, 1.0))).map(drop).expect_err("another size").to_string();
    assert!(error.contains("`caption_projection.linear_1.weight` of shape [1152, 4096]"), "{error}");
    assert!(checkpoint::read(&scenes(), &[]).is_ok());
}
