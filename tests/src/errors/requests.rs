//! Faults of requests: values that cannot be used with the embedded checkpoint.

use futures_lite::future::block_on;
use pixart_companion::device::{self, DeviceSpec};
use pixart_model::{DeviceLimits, EncodedPrompt, Error, Pipeline, PromptEmbeds, image, read_prompt_embeds};
use pixart_protocol::{EncodeRequest, EncodeResponse, Fault, GenerateRequest, Preset};
use pixart_verify::recording::Recording;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

use super::ProvokedFault;
use crate::pipeline::scenes;

const CHECK: &str = "crates/protocol/src/request/resolve.rs check";

fn of(prompt: &str) -> GenerateRequest {
    GenerateRequest { num_inference_steps: 2, width: Some(64), height: Some(64), ..GenerateRequest::of(prompt) }
}

/// A file with one f32 tensor of zeros.
fn file(name: &str, shape: &[usize]) -> Vec<u8> {
    let zeros = vec![0; 4 * shape.iter().product::<usize>()];
    let view = TensorView::new(Dtype::F32, shape.to_vec(), &zeros).expect("zeros that fill the shape");
    serialize([(name, view)], None).expect("one tensor can be laid out")
}

pub(super) fn faults() -> Vec<ProvokedFault> {
    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    let pipeline = block_on(Pipeline::load(&scenes(), &opened.device, opened.limits, None)).expect("it loads");
    let prepared = |request: &GenerateRequest| Fault::from(pipeline.prepare(request).expect_err("it is refused"));
    let mut faults = refused_values(&prepared);
    let no_text = pipeline.prepare(&of("a star")).and_then(|prepared| block_on(pipeline.encode(&prepared)).map(drop));
    faults.push(ProvokedFault::new(
        "crates/model/src/pipeline.rs text_encoder",
        no_text.expect_err("no text encoder is loaded"),
    ));

    let embeds = |rows: u32| EncodeResponse {
        shape: [rows, 1, 64],
        embeds: vec![0.0; 64 * rows as usize],
        attention_mask: vec![1.0; rows as usize],
        token_counts: Vec::new(),
    };
    let sampler = |request: &GenerateRequest, rows: u32| {
        let prompt_embeds = PromptEmbeds::from_response(embeds(rows), &opened.device)?;
        pipeline.sampler(&pipeline.prepare(request)?, prompt_embeds, 0).map(|_| ())
    };
    let mut refused = |site: &'static str, request: &GenerateRequest, rows: u32| {
        faults.push(ProvokedFault::new(site, sampler(request, rows).expect_err("it is refused")));
    };
    refused("crates/model/src/pipeline.rs check_prompt_embeds", &of("a star"), 3);
    let png = image::encode_png(&image::Rgb8 { width: 1, height: 1, bytes: vec![0; 3] }, &[]).expect("one pixel");
    let over_image = GenerateRequest { image: Some(png), ..of("a star") };
    refused("crates/model/src/pipeline/init_latents.rs init_latents", &over_image, 2);
    let second = GenerateRequest { hires_scale: Some(1.5), ..of("a star") };
    refused("crates/model/src/pipeline/init_latents.rs init_latents", &second, 2);
    let latents = GenerateRequest { latents: Some(file("latents", &[1, 4, 9, 8])), ..of("a star") };
    refused("crates/model/src/pipeline/init_latents.rs given_latents", &latents, 2);
    block_on(pipeline.load_vae_encoder(&scenes())).expect("it loads");
    let text = GenerateRequest { image: Some(b"a text file".to_vec()), ..of("a star") };
    let fault = sampler(&text, 2).expect_err("it is no image");
    faults.push(ProvokedFault::new("crates/model/src/pipeline/init_latents.rs init_latents", fault));

    let mismatch = PromptEmbeds::from_response(EncodeResponse { shape: [2, 1, 64], ..embeds(1) }, &opened.device);
    faults.push(ProvokedFault::new(
        "crates/model/src/pipeline/prompt_embeds.rs from_response",
        mismatch.err().expect("it is refused"),
    ));
    let infinite = EncodeResponse { embeds: vec![f32::NAN; 64], ..embeds(1) };
    faults.push(ProvokedFault::new(
        "crates/model/src/pipeline/prompt_embeds.rs not_finite",
        PromptEmbeds::from_response(infinite, &opened.device).err().expect("it is refused"),
    ));
    let zeros = [0; 3 * 64 * 4];
    let stored = TensorView::new(Dtype::F32, vec![3, 64], &zeros).expect("zeros that fill the shape");
    let count = r#"{"tokens": 3, "max_tokens": 3, "truncated": ""}"#.to_owned();
    let stored = serialize([("prompt_embeds", stored)], Some([("token_count".to_owned(), count)].into()));
    let stored = EncodedPrompt::read(&stored.expect("one tensor can be laid out")).expect("a stored prompt");
    faults.push(ProvokedFault::new(
        "crates/model/src/pipeline/prompt_embeds.rs from_prompts",
        PromptEmbeds::from_prompts(&[stored], 2, &opened.device).err().expect("it is refused"),
    ));
    let flat = read_prompt_embeds(file("prompt_embeds", &[6, 32])).expect_err("it has no mask");
    faults.push(ProvokedFault::new("crates/weights/src/error.rs Error::MissingTensor", flat));
    let shapes = [("prompt_embeds", vec![6, 32]), ("prompt_attention_mask", vec![6])];
    let zeros = vec![0; 4 * 6 * 32];
    let views = shapes.map(|(name, shape)| {
        let bytes = &zeros[..4 * shape.iter().product::<usize>()];
        (name, TensorView::new(Dtype::F32, shape, bytes).expect("zeros that fill the shape"))
    });
    let flat = read_prompt_embeds(serialize(views, None).expect("two tensors")).expect_err("it has two dimensions");
    faults.push(ProvokedFault::new("crates/model/src/text/prompt_embeds.rs bad_request", flat));

    let small = DeviceLimits { memory_bytes: Some(4 << 20), ..DeviceLimits::UNLIMITED };
    let tight = block_on(Pipeline::load(&scenes(), &opened.device, small, None));
    let refused = tight.and_then(|pipeline| pipeline.prepare(&of("a star")).map(drop)).expect_err("it does not fit");
    faults.push(ProvokedFault::new("crates/model/src/planning/memory_plan.rs out_of_memory", refused));
    let no_recording = Recording::read("embeds.safetensors", file("prompt_embeds", &[1]));
    faults.push(ProvokedFault::new(
        "crates/verify/src/recording.rs read",
        no_recording.map(drop).expect_err("it is refused"),
    ));
    faults
}

/// Refused requests, each with the place of its fault and the request after its remedy was followed.
fn remedied() -> Vec<(&'static str, GenerateRequest, GenerateRequest)> {
    let star = || of("a star");
    let sized = |prompt: &str| GenerateRequest { width: None, height: None, ..of(prompt) };
    let scheduler = |name: &str| GenerateRequest { scheduler: Some(name.into()), ..star() };
    let over = |strength: Option<f64>| GenerateRequest { image: Some(vec![0]), strength, ..star() };
    let hires = |hires_scale: Option<f64>, hires_steps: Option<u32>| GenerateRequest {
        hires_scale,
        hires_steps,
        height: Some(80),
        ..star()
    };
    let timesteps = |list: &[u32]| GenerateRequest { timesteps: Some(list.to_vec()), ..star() };
    let sigmas =
        |list: &[f64]| GenerateRequest { sigmas: Some(list.to_vec()), scheduler: Some("euler".into()), ..star() };
    vec![
        ("crates/protocol/src/prompt.rs parse", sized("a star --ar wide"), sized("a star --ar 9:16")),
        (
            "crates/protocol/src/prompt.rs style",
            GenerateRequest { style: Some("vivid".into()), ..star() },
            GenerateRequest { style: Some("photo".into()), ..star() },
        ),
        (
            "crates/protocol/src/prompt/weights.rs weighted_parts",
            GenerateRequest { prompt_weighting: true, ..of("a (star:1000)") },
            GenerateRequest { prompt_weighting: true, ..of("a (star:1.5)") },
        ),
        ("crates/protocol/src/request/resolve.rs resolve", of("a star --ar 1:2"), sized("a star --ar 1:2")),
        (CHECK, of(""), star()),
        (CHECK, of(&"a star ".repeat(20_000)), of(&"a star ".repeat(10_000))),
        (
            CHECK,
            GenerateRequest { num_inference_steps: 0, ..star() },
            GenerateRequest { num_inference_steps: 1, ..star() },
        ),
        (
            CHECK,
            GenerateRequest { num_images_per_prompt: 17, ..star() },
            GenerateRequest { num_images_per_prompt: 16, ..star() },
        ),
        (
            CHECK,
            GenerateRequest { max_sequence_length: 301, ..star() },
            GenerateRequest { max_sequence_length: 300, ..star() },
        ),
        (
            CHECK,
            GenerateRequest { guidance_scale: f64::NAN, ..star() },
            GenerateRequest { guidance_scale: 0.0, ..star() },
        ),
        (CHECK, GenerateRequest { pag_scale: -1.0, ..star() }, GenerateRequest { pag_scale: 100.0, ..star() }),
        (CHECK, GenerateRequest { eta: 1.5, ..star() }, GenerateRequest { eta: 1.0, ..scheduler("ddim") }),
        (
            CHECK,
            GenerateRequest { seeds: Some(vec![1, 2]), ..star() },
            GenerateRequest { seeds: Some(vec![1]), ..star() },
        ),
        (CHECK, GenerateRequest { width: Some(65), ..star() }, GenerateRequest { width: Some(256), ..star() }),
        (CHECK, GenerateRequest { image: None, ..over(Some(0.5)) }, over(Some(0.5))),
        (CHECK, GenerateRequest { latents: Some(vec![0]), ..over(None) }, over(None)),
        (CHECK, over(Some(2.0)), over(Some(1.0))),
        (CHECK, hires(Some(1.0), None), hires(Some(1.5), None)),
        (CHECK, hires(None, Some(2)), hires(Some(1.5), Some(2))),
        (CHECK, hires(Some(4.0), None), hires(Some(3.2), None)),
        (CHECK, GenerateRequest { record: true, ..hires(Some(1.5), None) }, hires(Some(1.5), None)),
        (CHECK, GenerateRequest { timesteps: Some(vec![1]), ..sigmas(&[2.0, 1.0]) }, sigmas(&[2.0, 1.0])),
        (CHECK, timesteps(&[100, 900]), timesteps(&[900, 100])),
        (CHECK, sigmas(&[1.0, 2.0]), sigmas(&[2.0, 1.0])),
        (
            "crates/model/src/pipeline/prepare.rs guidance",
            GenerateRequest { pag_applied_layers: Some(vec![99]), ..star() },
            GenerateRequest { pag_applied_layers: None, ..star() },
        ),
        ("crates/model/src/pipeline/prepare.rs scheduler_state", over(Some(0.01)), over(Some(0.5))),
        ("crates/model/src/schedulers.rs bad", scheduler("karras"), scheduler("euler")),
        (
            "crates/model/src/schedulers.rs bad",
            scheduler("euler:use_karras"),
            scheduler("euler:use_karras_sigmas=true"),
        ),
        ("crates/model/src/schedulers.rs bad", scheduler("euler:timestep_spacing=even"), scheduler("euler")),
    ]
}

#[test]
fn a_request_is_accepted_once_its_remedy_is_followed() {
    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    let pipeline = block_on(Pipeline::load(&scenes(), &opened.device, opened.limits, None)).expect("it loads");
    for (site, refused, followed) in remedied() {
        let fault = Fault::from(pipeline.prepare(&refused).map(drop).expect_err(site));
        let accepted = pipeline.prepare(&followed).map(drop).map_err(Fault::from);
        assert_eq!(accepted, Ok(()), "{site}: the remedy of `{fault}` does not help");
    }
}

/// Values that the validation refuses, field by field.
fn refused_values(prepared: &dyn Fn(&GenerateRequest) -> Fault) -> Vec<ProvokedFault> {
    let mut faults = Vec::new();
    for (site, request, _) in remedied() {
        faults.push(ProvokedFault::new(site, prepared(&request)));
    }
    let captions = |count: usize, text: &str| EncodeRequest::of(vec![text.to_owned(); count]);
    for request in [
        captions(0, ""),
        captions(1, &"a".repeat(100_001)),
        EncodeRequest { max_sequence_length: 0, ..captions(1, "a star") },
    ] {
        let fault = request.validate().expect_err("it is refused");
        faults.push(ProvokedFault::new("crates/protocol/src/request.rs validate", fault));
    }
    let preset = Preset::named("pixart").expect_err("there is none of that name");
    faults.push(ProvokedFault::new("crates/protocol/src/preset.rs named", preset));
    let not_finite = Error::NotFinite { what: "the image".to_owned(), index: 4 };
    faults.push(ProvokedFault::new("crates/model/src/error.rs Error::NotFinite", not_finite));
    let unread = Error::Read { what: "the latents".to_owned(), why: "the device was lost".to_owned() };
    faults.push(ProvokedFault::new("crates/model/src/error.rs Error::Read", unread));
    let image = image::decode_image(b"a text file").map(drop).expect_err("it is no image");
    faults.push(ProvokedFault::new("crates/model/src/error.rs Error::Image", image));
    let huge = image::Rgb8 { width: 0, height: 0, bytes: Vec::new() };
    let png = image::encode_png(&huge, &[]).expect_err("an image of no pixels");
    faults.push(ProvokedFault::new("crates/model/src/error.rs Error::Png", png));
    faults
}
