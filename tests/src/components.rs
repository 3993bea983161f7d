//! Components from several places, and text encoders in GGUF files: the embeddings and images are those of the same weights in a
//! diffusers folder.

use std::fs;
use std::path::{Path, PathBuf};

use futures_lite::future::block_on;
use half::f16;
use pixart_companion::pack::{self, PackOptions};
use pixart_companion::{ComponentPaths, ImageGenerator, LoadOptions, PromptEncoder, PromptEncoderOptions, checkpoint};
use pixart_protocol::{EncodeRequest, GenerateRequest};
use pixart_weights::{Dtype, GgmlType, Weights, llama_cpp_name, serialize_tensors};

use crate::packed::Scratch;

fn scenes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes")
}

/// A tensor with transformers' name.
struct NamedTensor {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Returns the text encoder of the embedded checkpoint.
fn text_encoder() -> Vec<NamedTensor> {
    let folder = checkpoint::read(&scenes(), &[]).expect("the embedded checkpoint");
    let weights = block_on(Weights::open(&folder, "text_encoder", "model")).expect("it has one");
    let read = |name: &str| {
        let shape = weights.shape(name).expect("it is there").to_vec();
        let values = block_on(weights.f32(name, &shape)).expect("it is read");
        NamedTensor { name: name.to_owned(), shape, values }
    };
    weights.names().filter(|name| *name != "encoder.embed_tokens.weight").map(read).collect()
}

/// Quantizes rows to Q8_0, as llama.cpp does; returns the blocks and their values.
fn q8_0(values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let (mut bytes, mut dequantized) = (Vec::new(), Vec::new());
    for block in values.chunks_exact(GgmlType::Q8_0.block_values()) {
        let peak = block.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
        let scale = f16::from_f32(peak / 127.0);
        bytes.extend(scale.to_le_bytes());
        for value in block {
            let integer = if peak == 0.0 { 0.0 } else { (value / (peak / 127.0)).round() };
            bytes.push(integer as i8 as u8);
            dequantized.push(scale.to_f32() * integer);
        }
    }
    (bytes, dequantized)
}

/// Writes a GGUF file of tensors: matrices in Q8_0 or F16, all others in F32. Returns the values that it holds.
fn write_gguf(path: &Path, tensors: &[NamedTensor], is_q8: bool) -> Vec<NamedTensor> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut header = [b"GGUF", &3_u32.to_le_bytes()[..], &(tensors.len() as u64).to_le_bytes()].concat();
    header.extend(
        [&1_u64.to_le_bytes()[..], &string("general.architecture"), &8_u32.to_le_bytes(), &string("t5encoder")]
            .concat(),
    );
    let (mut data, mut stored) = (Vec::new(), Vec::new());
    for NamedTensor { name, shape, values } in tensors {
        let is_matrix = shape.len() == 2 && !name.contains("relative_attention_bias");
        let (kind, bytes, values) = match (is_matrix, is_q8) {
            (true, true) => {
                let (bytes, values) = q8_0(values);
                (GgmlType::Q8_0.number(), bytes, values)
            }
            (true, false) => {
                let halves: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
                let bytes = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
                (1, bytes, halves.into_iter().map(f16::to_f32).collect())
            }
            _ => (0, values.iter().flat_map(|value| value.to_le_bytes()).collect(), values.clone()),
        };
        data.resize(usize::next_multiple_of(data.len(), 32), 0);
        header.extend(
            [
                string(&llama_cpp_name(name).expect("a text encoder's tensor")),
                (shape.len() as u32).to_le_bytes().to_vec(),
            ]
            .concat(),
        );
        shape.iter().rev().for_each(|side| header.extend((*side as u64).to_le_bytes()));
        header.extend([&kind.to_le_bytes()[..], &(data.len() as u64).to_le_bytes()].concat());
        data.extend(bytes);
        stored.push(NamedTensor { name: name.clone(), shape: shape.clone(), values });
    }
    header.resize(header.len().next_multiple_of(32), 0);
    fs::write(path, [header, data].concat()).expect("it is written");
    stored
}

fn encode(checkpoint: PathBuf, components: ComponentPaths) -> Vec<f32> {
    let encoder =
        PromptEncoder::open(&PromptEncoderOptions { checkpoint, components, ..PromptEncoderOptions::default() });
    let request = EncodeRequest::of(vec![String::new(), "a red circle on a blue background".to_owned()]);
    let encoder = encoder.unwrap_or_else(|error| panic!("{error}"));
    encoder.encode(&request).unwrap_or_else(|error| panic!("{error}")).embeds
}

fn of_text_encoder(file: &Path) -> ComponentPaths {
    ComponentPaths { text_encoder: Some(file.to_owned()), ..ComponentPaths::default() }
}

#[test]
fn a_gguf_text_encoder_gives_the_embeddings_of_its_values() {
    let scratch = Scratch::new("gguf");
    fs::create_dir_all(scratch.path()).expect("it is created");
    let file = scratch.path().join("t5.gguf");
    write_gguf(&file, &text_encoder(), false);
    let expected = encode(scenes(), ComponentPaths::default());
    assert!(encode(scenes(), of_text_encoder(&file)) == expected, "the checkpoint has the same numbers in f16");

    let stored = write_gguf(&file, &text_encoder(), true);
    let tensors = stored.into_iter().map(|NamedTensor { name, shape, values }| {
        (name, Dtype::F32, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    });
    let plain = scratch.path().join("t5.safetensors");
    fs::write(&plain, serialize_tensors(tensors.collect(), Default::default())).expect("it is written");
    let expected = encode(scenes(), of_text_encoder(&plain));
    let quantized = encode(scenes(), of_text_encoder(&file));
    let peak = expected.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
    let distance = expected.iter().zip(&quantized).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
    assert!(distance <= 1e-5 * peak, "{distance:e} of a peak of {peak}");

    let packing = PackOptions {
        from: scenes(),
        components: of_text_encoder(&file),
        variant: None,
        config: None,
        to: scratch.path().join("packed"),
        weight_format: pixart_model::WeightFormat::Q8,
        shard_bytes: 1 << 20,
        license: None,
        source: None,
    };
    pack::pack(&packing, |_| ()).expect("it is packed");
    let packed = encode(packing.to.clone(), ComponentPaths::default());
    // Token embeddings are stored in f16, which does not hold a scale times an integer.
    let distance = expected.iter().zip(&packed).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
    assert!(distance <= 1e-3 * peak, "{distance:e} of a peak of {peak}");
    let refused = encode_error(&of_text_encoder(&file), packing.to);
    assert!(refused.contains("the text_encoder of a packed checkpoint cannot be replaced"), "{refused}");
}

fn encode_error(components: &ComponentPaths, checkpoint: PathBuf) -> String {
    let options =
        PromptEncoderOptions { checkpoint, components: components.clone(), ..PromptEncoderOptions::default() };
    PromptEncoder::open(&options).map(drop).expect_err("it is refused").to_string()
}

#[test]
fn components_from_several_places_give_the_image_of_one_folder() {
    let scratch = Scratch::new("components");
    let base = scratch.path().join("base");
    fs::create_dir_all(base.join("transformer")).expect("it is created");
    fs::copy(scenes().join("model_index.json"), base.join("model_index.json")).expect("it is copied");
    for entry in fs::read_dir(scenes().join("transformer")).expect("it is listed") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, base.join("transformer").join(path.file_name().expect("a name"))).expect("it is copied");
    }
    let request = GenerateRequest { num_inference_steps: 2, seed: 3, ..GenerateRequest::of("a red circle") };
    let image = |checkpoint: PathBuf, components: ComponentPaths| {
        let generator = ImageGenerator::open(LoadOptions { checkpoint, components, ..LoadOptions::default() });
        let images =
            generator.and_then(|generator| generator.generate(&request, |_| std::ops::ControlFlow::Continue(())));
        images.map(|images| pixart_model::image::decode_image(&images[0].file).expect("a PNG").bytes)
    };
    let expected = image(scenes(), ComponentPaths::default()).expect("the embedded checkpoint");
    // A component's own folder, a checkpoint that has it, and single files.
    let components = ComponentPaths {
        transformer: None,
        vae: Some(scenes().join("vae")),
        text_encoder: Some(scenes()),
        tokenizer: Some(scenes().join("tokenizer/spiece.model")),
        scheduler: Some(scenes().join("scheduler/scheduler_config.json")),
        preset: None,
    };
    assert!(image(base.clone(), components.clone()).unwrap_or_else(|error| panic!("{error}")) == expected);
    let without = ComponentPaths { tokenizer: None, ..components.clone() };
    let error = image(base.clone(), without).expect_err("it has no tokenizer").to_string();
    assert!(error.contains("tokenizer/spiece.model"), "{error}");
    let wrong = ComponentPaths { vae: Some(base.join("nothing")), ..components.clone() };
    assert!(image(base.clone(), wrong).is_err(), "no such folder");
    let empty = scratch.path().join("empty");
    fs::create_dir_all(&empty).expect("it is created");
    let error =
        image(base, ComponentPaths { vae: Some(empty), ..components }).expect_err("an empty folder").to_string();
    assert!(error.contains("holds no file of a vae"), "{error}");
}
