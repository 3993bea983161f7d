//! Requests that diffusers' `PixArtAlphaPipeline` rejects, each with the error of this project. Requests on which diffusers fails
//! without a message are accepted. `callback_steps` has no counterpart: every step is reported.

use futures_lite::future::block_on;
use pixart_companion::device::{self, DeviceSpec};
use pixart_model::{Error, Pipeline, read_prompt_embeds};
use pixart_protocol::{Fault, FaultCode, GenerateRequest};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

use crate::pipeline::scenes;

fn valid() -> GenerateRequest {
    GenerateRequest { num_inference_steps: 2, width: Some(64), height: Some(64), ..GenerateRequest::of("a red circle") }
}

#[test]
fn requests_that_diffusers_rejects_are_rejected_by_field_or_accepted() {
    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    let pipeline = block_on(Pipeline::load(&scenes(), &opened.device, opened.limits, None)).expect("it loads");
    let resolved = |request: &GenerateRequest| pipeline.prepare(request).map(|_| ()).map_err(Fault::from);
    for (diffusers, request, what) in [
        (
            "`height` and `width` have to be divisible by 8",
            GenerateRequest { height: Some(63), ..valid() },
            "height is 63",
        ),
        ("The size of tensor a (9) must match", GenerateRequest { height: Some(72), ..valid() }, "height is 72"),
        (
            "Provide either `prompt` or `prompt_embeds`",
            GenerateRequest { prompt: String::new(), ..valid() },
            "the prompt is empty",
        ),
        (
            "You have passed a list of generators of length 1",
            GenerateRequest { seeds: Some(vec![1]), num_images_per_prompt: 2, ..valid() },
            "1 seeds are given for 2 images",
        ),
        (
            "`set_timesteps` does not support custom sigma schedules",
            GenerateRequest { sigmas: Some(vec![2.0, 1.0]), scheduler: Some("ddim".into()), ..valid() },
            "sigmas",
        ),
    ] {
        let fault = resolved(&request).expect_err(diffusers);
        assert_eq!(fault.code, FaultCode::BadRequest, "{diffusers}");
        assert!(fault.what.contains(what) && !fault.remedy.is_empty(), "{diffusers}: {fault}");
    }
    // "tuple index out of range", "Invalid sample size", and a list of timesteps, which is taken there too.
    for accepted in [
        GenerateRequest { num_inference_steps: 1, ..valid() },
        GenerateRequest { width: None, height: None, use_resolution_binning: true, ..valid() },
        GenerateRequest { timesteps: Some(vec![900, 400]), ..valid() },
    ] {
        assert_eq!(resolved(&accepted), Ok(()), "{accepted:?}");
    }
    let prompt = r#"{"id": 0, "prompt": 1}"#;
    let error = serde_json::from_str::<GenerateRequest>(prompt).expect_err("`prompt` has to be of type `str`");
    assert!(error.to_string().contains("expected a string"), "{error}");
}

#[test]
fn an_image_that_is_generated_at_a_larger_size_says_so() {
    const CONFIG: &str = "transformer/config.json";
    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    let mut folder = scenes();
    let config = String::from_utf8(folder.bytes(CONFIG).expect("it is there").to_vec()).expect("it is text");
    // Trained at 256 px, for which there are resolution bins.
    folder.insert(CONFIG, config.replace(r#""sample_size": 16"#, r#""sample_size": 32"#).into_bytes());
    let pipeline = block_on(Pipeline::load(&folder, &opened.device, opened.limits, None)).expect("it loads");
    let small = GenerateRequest { width: Some(144), height: Some(128), use_resolution_binning: true, ..valid() };
    let near = GenerateRequest { width: Some(256), height: Some(192), ..small.clone() };
    let notes = |request: &GenerateRequest| pipeline.prepare(request).expect("it is valid").notes(&[]);
    let note = "the image is generated at 272 × 240 px, the nearest size that the checkpoint was trained at, and resized to \
                144 × 128 px: a smaller size is not faster unless use_resolution_binning is false";
    assert_eq!(notes(&small), [note]);
    let none: [String; 0] = [];
    assert_eq!(notes(&near), none);
    assert_eq!(notes(&GenerateRequest { use_resolution_binning: false, ..small }), none);
}

/// A file of these f32 tensors, of zeros.
fn file(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let zeros: Vec<Vec<u8>> = tensors.iter().map(|(_, shape)| vec![0; 4 * shape.iter().product::<usize>()]).collect();
    let views = tensors.iter().zip(&zeros).map(|((name, shape), zeros)| {
        (*name, TensorView::new(Dtype::F32, shape.to_vec(), zeros).expect("zeros that fill the shape"))
    });
    serialize(views, None).expect("named tensors can be laid out")
}

#[test]
fn embeddings_are_rejected_as_in_diffusers() {
    const PROMPT: [(&str, &[usize]); 2] = [("prompt_embeds", &[1, 6, 32]), ("prompt_attention_mask", &[1, 6])];
    let with = |more: &[(&str, &[usize])]| read_prompt_embeds(file(&[&PROMPT[..], more].concat()));
    let read = with(&[("negative_prompt_embeds", &[1, 6, 32]), ("negative_prompt_attention_mask", &[1, 6])]);
    assert_eq!(read.expect("all four").shape, [2, 6, 32]);
    for (diffusers, refused, what) in [
        ("Must provide `prompt_attention_mask`", read_prompt_embeds(file(&PROMPT[..1])), "prompt_attention_mask"),
        (
            "Must provide `negative_prompt_attention_mask`",
            with(&[("negative_prompt_embeds", &[1, 6, 32])]),
            "negative_prompt_attention_mask",
        ),
        ("Cannot forward `negative_prompt_embeds` alone", read_prompt_embeds(file(&[])), "prompt_embeds"),
        (
            "`prompt_embeds` and `negative_prompt_embeds` must have the same shape",
            with(&[("negative_prompt_embeds", &[1, 5, 32]), ("negative_prompt_attention_mask", &[1, 5])]),
            "`negative_prompt_embeds` [1, 5, 32]",
        ),
        (
            "`prompt_attention_mask` and `negative_prompt_attention_mask` must have the same shape",
            with(&[("negative_prompt_embeds", &[1, 6, 32]), ("negative_prompt_attention_mask", &[1, 5])]),
            "`negative_prompt_attention_mask` [1, 5]",
        ),
    ] {
        let error = refused.expect_err(diffusers);
        assert!(error.to_string().contains(what), "{diffusers}: {error}");
    }
}

#[test]
fn latents_replace_the_noise_of_the_seed() {
    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    let pipeline = block_on(Pipeline::load(&scenes(), &opened.device, opened.limits, None)).expect("it loads");
    block_on(pipeline.load_text_encoder(&scenes())).expect("it loads");
    let latents = |seed: u64, shape: [usize; 4]| {
        let values = pixart_model::randn(seed, shape.iter().product());
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).expect("it fills the shape");
        Some(serialize([("latents", view)], None).expect("one tensor can be laid out"))
    };
    let latents_of = |request: &GenerateRequest| -> Result<Vec<f32>, Error> {
        let prepared = pipeline.prepare(request)?;
        let mut sampler = pipeline.sampler(&prepared, block_on(pipeline.encode(&prepared))?, 0)?;
        while sampler.step(&mut pixart_model::Taps::off()) {}
        block_on(pixart_model::values_read("the latent", sampler.into_latents().flatten(0, 3)))
    };
    // Euler scales the initial latents, also given ones.
    for scheduler in ["dpm++2m", "euler"] {
        let by_seed = GenerateRequest { seed: 7, scheduler: Some(scheduler.into()), ..valid() };
        let given = GenerateRequest { seed: 8, latents: latents(7, [1, 4, 8, 8]), ..by_seed.clone() };
        assert!(
            latents_of(&given).expect("the request is valid") == latents_of(&by_seed).expect("the request is valid"),
            "{scheduler}"
        );
        let other = GenerateRequest { latents: latents(9, [1, 4, 8, 8]), ..given };
        assert!(
            latents_of(&other).expect("the request is valid") != latents_of(&by_seed).expect("the request is valid"),
            "{scheduler}"
        );
    }
    let error = latents_of(&GenerateRequest { latents: latents(7, [2, 4, 8, 8]), ..valid() })
        .expect_err("two rows for one image");
    assert!(error.to_string().contains("[2, 4, 8, 8]"), "{error}");
}
