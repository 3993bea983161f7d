//! Image-to-image and inpainting against runs recorded from diffusers (`tests/oracle/over.py`).

use futures_lite::future::block_on;
use std::fs;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use pixart_kernels::KernelVariant;
use pixart_protocol::GenerateRequest;
use pixart_weights::{Folder, Tensors};
use serde_json::Value;

use super::{Pipeline, PromptEmbeds, TextEncoder};
use crate::compare;
use crate::image::{self, Rgb8, Size};
use crate::testing::gpu;
use crate::text::weighting::weighted_caption;
use crate::{DeviceLimits, EncodedPrompt, Taps, encoder_rows, normalize_caption};

/// Relative to a latent's largest magnitude.
const TOLERANCE: f64 = 1e-5;

fn golden() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden"))
}

fn recorded() -> (Folder, Value) {
    let mut folder = Folder::default();
    folder.insert("over", fs::read(golden().join("over.safetensors")).expect("recorded"));
    let text = fs::read_to_string(golden().join("over.json")).expect("recorded");
    (folder, serde_json::from_str(&text).expect("recorded as JSON"))
}

fn picture(tensors: &Tensors<'_>, name: &str) -> Rgb8 {
    let (shape, bytes) = tensors.u8(name).expect("recorded");
    Rgb8 { height: shape[0], width: shape[1], bytes: bytes.to_vec() }
}

fn values(tensor: Tensor<4>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("latents are f32")
}

#[test]
fn images_and_masks_are_read_as_in_diffusers() {
    let (folder, _) = recorded();
    let tensors = folder.tensors("over").expect("recorded");
    let size = Size { height: 64, width: 64 };
    let resized = |name: &str| {
        let file = image::encode_png(&picture(&tensors, name), &[]).expect("it is written");
        image::resize_lanczos(&image::decode_image(&file).expect("it is read"), size)
    };
    let want = tensors.any_f32("image").expect("recorded").1;
    // A byte more or less: Pillow's weights are whole numbers.
    let comparison = compare(&image::planes_from_rgb8(&resized("picture")), &want, 2.0 / 255.0 + 1e-6);
    assert_eq!(comparison.difference, None);
    let near = image::planes_from_rgb8(&resized("picture"))
        .iter()
        .zip(want.iter())
        .filter(|(a, b)| (*a - *b).abs() < 1e-6)
        .count();
    assert!(near * 100 > want.len() * 99, "{near} of {} numbers are equal", want.len());
    assert_eq!(image::latent_mask(&resized("mask"), 8), *tensors.any_f32("latent_mask").expect("recorded").1);
}

/// The checkpoint of the recordings.
fn checkpoint() -> Folder {
    let mut pipeline = Folder::default();
    let root = golden().join("alpha_plain/pipeline");
    for part in ["", "tokenizer", "text_encoder", "transformer", "scheduler", "vae"] {
        for file in fs::read_dir(root.join(part)).expect("the pipeline is there").flatten() {
            if file.path().is_file() {
                let name = Path::new(part).join(file.file_name()).to_string_lossy().into_owned();
                pipeline.insert(name, fs::read(file.path()).expect("it is read"));
            }
        }
    }
    pipeline
}

#[test]
fn padding_is_not_computed_and_changes_no_token() {
    const TOKENS: usize = 120;
    let encoder = block_on(TextEncoder::load(&checkpoint(), None, &Device::flex())).expect("it loads");
    let masked = |embeds: &PromptEmbeds| {
        let mask = embeds.attention_mask.clone().unsqueeze_dim(2);
        (embeds.embeds.clone() * mask).into_data().try_into_vec::<f32>().expect("f32")
    };
    let long = "a red circle on a blue background, ".repeat(20);
    for (prompts, length) in [
        (vec![""], 8),
        (vec!["a red circle", ""], 8),
        (vec!["", "a red circle on a blue background"], 16),
        (vec![&*long], 120),
    ] {
        let mut encoding = block_on(encoder.begin(&prompts, TOKENS, false, &mut Taps::off())).expect("it begins");
        assert_eq!(encoding.hidden_state().dims()[..2], [prompts.len(), length], "{prompts:?}");
        while block_on(encoding.step(&mut Taps::off())).expect("a block") {}
        let embeds = encoding.finish(&mut Taps::off());
        let padded = block_on(encoder.encode(&prompts, TOKENS, &mut Taps::on())).expect("they are encoded");
        assert_eq!(embeds.embeds.dims(), padded.embeds.dims());
        let values = masked(&embeds);
        let comparison = compare(&values, &masked(&padded), TOLERANCE);
        assert_eq!(comparison.difference, None, "{prompts:?}: {:.1e}", comparison.max_relative);
        let all = embeds.embeds.into_data().try_into_vec::<f32>().expect("f32");
        assert_eq!(all, values, "{prompts:?}: the embeddings of padding are 0");
    }
}

#[test]
fn weighted_prompts_are_embedded_as_in_comfyui() {
    const TOKENS: usize = 20;
    let device = Device::flex();
    let mut folder = Folder::default();
    folder.insert("weights", fs::read(golden().join("prompt_weights.safetensors")).expect("recorded"));
    let tensors = folder.tensors("weights").expect("recorded");
    let encoder = block_on(TextEncoder::load(&checkpoint(), None, &device)).expect("it loads");
    let prompts: Vec<&str> = tensors.names().collect();
    assert_eq!(prompts.len(), 4);
    let captions: Vec<String> =
        prompts.iter().map(|prompt| weighted_caption(prompt, normalize_caption).expect("in the range")).collect();
    let all = block_on(encoder.encode(&captions, TOKENS, &mut Taps::off())).expect("they are encoded");
    assert_eq!(all.embeds.dims(), [4, TOKENS, 32]);
    for (row, prompt) in prompts.iter().enumerate() {
        let (shape, expected) = tensors.any_f32(prompt).expect("recorded");
        let own = all.embeds.clone().narrow(0, row, 1).narrow(1, 0, shape[0]);
        let comparison = compare(&own.into_data().try_into_vec::<f32>().expect("f32"), &expected, TOLERANCE);
        assert_eq!(comparison.difference, None, "{prompt}: {:.1e}", comparison.max_relative);
        let mask = all.attention_mask.clone().narrow(0, row, 1).into_data().try_into_vec::<f32>().expect("f32");
        assert_eq!(mask.iter().sum::<f32>(), shape[0] as f32, "{prompt}: padding is not attended to");
    }

    // The rows of the captions, encoded and stored one by one.
    let rows = encoder_rows(&captions);
    assert_eq!(rows.len(), 7, "an empty prompt for each with weights");
    let stored = |row: &String| {
        let mut encoding = block_on(encoder.begin(&[row], TOKENS, false, &mut Taps::off())).expect("it begins");
        while block_on(encoding.step(&mut Taps::off())).expect("a block") {}
        let counts = encoder.token_counts(&[row], TOKENS).expect("it is counted");
        let prompt = block_on(encoding.into_prompts_read(counts)).expect("it is read").remove(0);
        EncodedPrompt::read(&prompt.to_bytes()).expect("it is read again")
    };
    let stored: Vec<EncodedPrompt> = rows.iter().map(stored).collect();
    let again = PromptEmbeds::from_rows(&captions, &stored, TOKENS, &device).expect("they fit");
    let kept = |embeds: &PromptEmbeds| {
        let masked = embeds.embeds.clone() * embeds.attention_mask.clone().unsqueeze_dim(2);
        masked.into_data().try_into_vec::<f32>().expect("f32")
    };
    let comparison = compare(&kept(&again), &kept(&all), TOLERANCE);
    assert_eq!(comparison.difference, None, "{:.1e}", comparison.max_relative);
    let counts = encoder.token_counts(&captions, TOKENS).expect("they are counted");
    assert_eq!(stored.into_iter().filter(|row| !row.is_empty_row()).map(|row| row.count).collect::<Vec<_>>(), counts);
}

#[test]
fn a_second_pass_is_as_in_diffusers() {
    let (_, runs) = recorded();
    let mut folder = Folder::default();
    folder.insert("hires", fs::read(golden().join("hires.safetensors")).expect("recorded"));
    let tensors = folder.tensors("hires").expect("recorded");
    let checkpoint = checkpoint();
    let loaded =
        block_on(Pipeline::load(&checkpoint, &Device::flex(), DeviceLimits::UNLIMITED, None)).expect("it loads");
    block_on(loaded.load_text_encoder(&checkpoint)).expect("it loads");
    block_on(loaded.load_vae_encoder(&checkpoint)).expect("it loads");
    let mut base = runs["request"].clone();
    base["id"] = 0.into();
    let request = GenerateRequest {
        num_inference_steps: 4,
        hires_scale: Some(1.5),
        hires_steps: Some(10),
        hires_strength: Some(0.45),
        clean_caption: false,
        ..serde_json::from_value(base).expect("it is a request")
    };
    let prepared = loaded.prepare(&request).expect("it is valid");
    assert_eq!(prepared.total_steps().expect("it is valid"), 4 + 4);
    let prompt_embeds = block_on(loaded.encode(&prepared)).expect("it is encoded");
    let first = loaded.generate(&prepared, prompt_embeds.clone(), 0).expect("it is generated");
    let first = block_on(image::rgb8_read(first, prepared.size)).expect("it is read");
    let want = picture(&tensors, "image");
    let differing = first.bytes.iter().zip(&want.bytes).map(|(ours, theirs)| ours.abs_diff(*theirs)).max();
    assert!(differing <= Some(1), "{differing:?}");
    let second = prepared.second_pass(&want).expect("it is an image");
    let mut sampler = loaded.sampler(&second, prompt_embeds, 0).expect("its image is encoded");
    // A byte more or less of the resized image, as for image-to-image.
    for (name, tolerance) in [("first", 1e-3), ("last", 1e-3)] {
        while name == "last" && sampler.step(&mut Taps::off()) {}
        let comparison = compare(&values(sampler.latents()), &tensors.any_f32(name).expect("recorded").1, tolerance);
        assert_eq!(comparison.difference, None, "{name}: {:.1e}", comparison.max_relative);
        println!("{name}: {:.1e} of the peak", comparison.max_relative);
    }
}

fn check(device: &Device) {
    let (folder, runs) = recorded();
    let tensors = folder.tensors("over").expect("recorded");
    let pipeline = checkpoint();
    let loaded = block_on(Pipeline::load(&pipeline, device, DeviceLimits::UNLIMITED, None)).expect("it loads");
    block_on(loaded.load_text_encoder(&pipeline)).expect("it loads");
    block_on(loaded.load_vae_encoder(&pipeline)).expect("it loads");
    let file = |name: &str| Some(image::encode_png(&picture(&tensors, name), &[]).expect("it is written"));
    let mut base = runs["request"].clone();
    base["id"] = 0.into();
    let base: GenerateRequest = serde_json::from_value(base).expect("it is a request");
    let mut worst: f64 = 0.0;
    for run in runs["runs"].as_array().expect("recorded") {
        let name = run["name"].as_str().expect("a run has a name");
        let request = GenerateRequest {
            num_inference_steps: run["steps"].as_u64().expect("a count") as u32,
            scheduler: run["scheduler"].as_str().map(|name| match name {
                "ddpm" => "ddpm:timestep_spacing=linspace".into(),
                name => name.into(),
            }),
            strength: run["strength"].as_f64(),
            image: file("picture"),
            mask_image: file("mask").filter(|_| run["masked"] == true),
            clean_caption: false,
            ..base.clone()
        };
        let prepared = loaded.prepare(&request).unwrap_or_else(|error| panic!("{name}: {error}"));
        let prompt_embeds = block_on(loaded.encode(&prepared)).expect("it is encoded");
        let mut sampler = loaded.sampler(&prepared, prompt_embeds, 0).expect("its image is encoded");
        for (what, end) in [("first", false), ("last", true)] {
            while end && sampler.step(&mut Taps::off()) {}
            let want = tensors.any_f32(&format!("{name}.{what}")).expect("recorded").1;
            let comparison = compare(&values(sampler.latents()), &want, TOLERANCE);
            assert_eq!(comparison.difference, None, "{name}, {what}: {:.1e}", comparison.max_relative);
            worst = worst.max(comparison.max_relative);
        }
    }
    println!("the furthest latent by {worst:.1e} of its peak");
}

#[test]
fn image_to_image_and_inpainting_are_as_in_diffusers_on_the_cpu() {
    check(&Device::flex());
}

#[test]
fn image_to_image_and_inpainting_are_as_in_diffusers_in_wgsl() {
    if let Some(device) = gpu(KernelVariant::RegisterTiled) {
        check(&device);
    }
}
