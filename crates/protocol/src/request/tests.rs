//! Valid and invalid requests, and the texts of the faults.

use super::*;

const LIMITS: Limits = Limits { native_size: 128, size_min: 64, size_max: 256, size_multiple: 16, binned: false };
const BINNED: Limits = Limits { binned: true, ..LIMITS };

fn good() -> GenerateRequest {
    GenerateRequest::of("a red circle")
}

#[test]
fn a_valid_request_is_resolved_with_defaults() {
    let resolved = good().resolve(&LIMITS).expect("good");
    assert_eq!((resolved.height, resolved.width), (128, 128));
    let turned = GenerateRequest { style: Some("ink".into()), ..GenerateRequest::of("a cat --ar 1:2") };
    let resolved = turned.resolve(&LIMITS).expect("good");
    assert_eq!((resolved.height, resolved.width), (96, 176));
    assert_eq!(resolved.prompt, "an ink drawing of a cat, black lines on white paper, hatching");
}

#[test]
fn all_fields_but_the_prompt_are_optional() {
    let request: GenerateRequest = from_json(r#"{"id": 0, "prompt": "a red circle"}"#);
    assert_eq!(request, good());
}

#[test]
fn a_binned_image_may_have_any_sides_in_the_range() {
    let odd = GenerateRequest { height: Some(99), ..good() };
    assert_eq!(odd.resolve(&BINNED).map(|_| ()), Ok(()));
    assert!(odd.resolve(&LIMITS).is_err());
    assert!(GenerateRequest { use_resolution_binning: false, ..odd }.resolve(&BINNED).is_err());
    let fault = GenerateRequest { height: Some(63), ..good() }.resolve(&BINNED).expect_err("too low");
    assert_eq!((fault.what.as_str(), fault.remedy.as_str()), ("height is 63", "choose a whole number from 64 to 256"));
}

#[test]
fn every_bad_field_is_named_with_its_value() {
    let cases = [
        (GenerateRequest { prompt: "  ".into(), ..good() }, "the prompt is empty"),
        (GenerateRequest { prompt: " --ar 1:1".into(), ..good() }, "the prompt is empty"),
        (GenerateRequest { prompt: "x".repeat(100_001), ..good() }, "the prompt has 100001 characters"),
        (
            GenerateRequest { negative_prompt: "x".repeat(100_001), ..good() },
            "the negative prompt has 100001 characters",
        ),
        (GenerateRequest { num_inference_steps: 0, ..good() }, "num_inference_steps is 0"),
        (GenerateRequest { guidance_scale: f64::NAN, ..good() }, "guidance_scale is NaN"),
        (GenerateRequest { guidance_scale: -1.0, ..good() }, "guidance_scale is -1"),
        (GenerateRequest { eta: 1.5, ..good() }, "eta is 1.5"),
        (GenerateRequest { hires_scale: Some(1.0), ..good() }, "hires_scale is 1"),
        (GenerateRequest { hires_scale: Some(f64::NAN), ..good() }, "hires_scale is NaN"),
        (GenerateRequest { hires_strength: Some(0.5), ..good() }, "hires_strength is given without hires_scale"),
        (GenerateRequest { hires_steps: Some(5), ..good() }, "hires_steps is given without hires_scale"),
        (GenerateRequest { hires_scale: Some(2.0), hires_steps: Some(0), ..good() }, "hires_steps is 0"),
        (GenerateRequest { hires_scale: Some(2.0), hires_strength: Some(1.5), ..good() }, "hires_strength is 1.5"),
        (GenerateRequest { hires_scale: Some(2.0), record: true, ..good() }, "record is given with hires_scale"),
        (GenerateRequest { variation_strength: Some(1.5), ..good() }, "variation_strength is 1.5"),
        (GenerateRequest { variation_strength: Some(f64::NAN), ..good() }, "variation_strength is NaN"),
        (GenerateRequest { num_images_per_prompt: 0, ..good() }, "num_images_per_prompt is 0"),
        (GenerateRequest { max_sequence_length: 301, ..good() }, "max_sequence_length is 301"),
        (GenerateRequest { image_index: Some(1), ..good() }, "image_index is 1"),
        (GenerateRequest { image_index: Some(2), num_images_per_prompt: 2, ..good() }, "image_index is 2"),
        (GenerateRequest { seeds: Some(vec![1, 2]), ..good() }, "2 seeds are given for 1 images"),
        (GenerateRequest { timesteps: Some(vec![]), ..good() }, "timesteps is []"),
        (GenerateRequest { timesteps: Some(vec![400, 400]), ..good() }, "timesteps is [400, 400]"),
        (GenerateRequest { timesteps: Some(vec![1000]), ..good() }, "timesteps is [1000]"),
        (GenerateRequest { sigmas: Some(vec![1.0, f64::NAN]), ..good() }, "sigmas is [1, NaN]"),
        (
            GenerateRequest { latents: Some(vec![]), image: Some(vec![]), ..good() },
            "both latents and an image are given",
        ),
        (
            GenerateRequest { sigmas: Some(vec![1.0]), timesteps: Some(vec![1]), ..good() },
            "both timesteps and sigmas are given",
        ),
        (GenerateRequest { width: Some(0), ..good() }, "width is 0"),
        (GenerateRequest { height: Some(63), ..good() }, "height is 63"),
        (GenerateRequest { height: Some(72), ..good() }, "height is 72"),
        (GenerateRequest { width: Some(4096), ..good() }, "width is 4096"),
        (GenerateRequest { style: Some("cubism".into()), ..good() }, "there is no style `cubism`"),
        (GenerateRequest { prompt: "a --ar 1".into(), ..good() }, "the prompt ends in `--ar 1`"),
        (
            GenerateRequest { prompt: "a --ar 1:2".into(), width: Some(64), ..good() },
            "the prompt ends in `--hw 1:2`, and a height or a width is given too",
        ),
    ];
    for (request, what) in cases {
        let fault = request.resolve(&LIMITS).expect_err(what);
        assert_eq!((fault.code, fault.what.as_str()), (FaultCode::BadRequest, what));
        assert!(!fault.remedy.is_empty());
    }
}

#[test]
fn the_request_of_one_image_of_several_names_its_seed_or_its_index() {
    let shared = GenerateRequest { seed: 7, num_images_per_prompt: 2, ..good() };
    assert_eq!(shared.image_indices(), 0..2);
    let second = shared.of_image(1);
    assert_eq!(second, GenerateRequest { image_index: Some(1), ..shared.clone() });
    assert_eq!((second.image_indices(), second.of_image(1)), (1..2, second.clone()));
    assert_eq!(second.resolve(&LIMITS).map(|_| ()), Ok(()));
    let own = GenerateRequest { seeds: Some(vec![3, 4]), ..shared.clone() };
    assert_eq!(own.of_image(1), GenerateRequest { seed: 4, ..good() });
    let latents = GenerateRequest { latents: Some(vec![1]), ..own };
    assert_eq!(latents.of_image(1), GenerateRequest { seed: 4, image_index: Some(1), ..latents.clone() });
    let single = GenerateRequest { num_images_per_prompt: 1, ..shared };
    assert_eq!(single.of_image(0), single);
}

#[test]
fn captions_are_limited_in_number_and_length_and_may_be_empty() {
    let request = |captions: Vec<String>| EncodeRequest::of(captions);
    assert_eq!(request(vec![String::new(), "a red circle".into()]).validate(), Ok(()));
    let cases = [
        (request(Vec::new()), "0 captions were sent"),
        (request(vec![String::new(); CAPTIONS_MAX + 1]), "17 captions were sent"),
        (request(vec![String::new(), "x".repeat(100_001)]), "caption 1 has 100001 characters"),
    ];
    for (request, what) in cases {
        let fault = request.validate().expect_err(what);
        assert_eq!((fault.code, fault.what.as_str()), (FaultCode::BadRequest, what));
    }
}

#[test]
fn former_field_names_are_read_as_todays() {
    let former =
        r#"{"id": 0, "prompt": "a", "steps": 3, "guidance": 2.5, "text": {"kind": "companion", "url": "http://a"}}"#;
    let mut current = former.to_owned();
    for (name, today) in GenerateRequest::FORMER_NAMES {
        current = current.replace(&format!("\"{name}\""), &format!("\"{today}\""));
    }
    let request: GenerateRequest = from_json(former);
    assert_eq!((request.num_inference_steps, request.guidance_scale), (3, 2.5));
    assert_ne!(request.text_encoder, TextEncoderSource::Tab);
    assert_eq!(request, from_json(&current));
    let resume = format!(r#"{{"kind": "resume", "request": {former}, "said": [[1, 2]]}}"#);
    let EngineRequest::Resume { request: resumed, model_outputs, .. } = from_json(&resume) else {
        panic!("it resumes")
    };
    assert_eq!((*resumed, model_outputs), (request, vec![serde_bytes::ByteBuf::from([1, 2])]));
    let response: EncodeResponse = from_json(r#"{"shape": [1, 1, 1], "embeds": [2.0], "mask": [1.0]}"#);
    assert_eq!(response.attention_mask, [1.0]);
}

fn from_json<T: serde::de::DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).expect("a message")
}

#[test]
fn each_image_of_a_variation_has_the_next_variation_seed() {
    let all = GenerateRequest {
        seed: 3,
        num_images_per_prompt: 2,
        variation_seed: Some(u32::MAX),
        variation_strength: Some(0.25),
        ..good()
    };
    assert_eq!([0, 1].map(|index| all.variation_of(index)), [Some((u32::MAX, 0.25)), Some((0, 0.25))]);
    let second = GenerateRequest { num_images_per_prompt: 1, variation_seed: Some(0), ..all.clone() };
    assert_eq!(all.of_image(1), second, "it is generated alone");
    assert_eq!(second.of_image(0), second);
    let latents = GenerateRequest { latents: Some(vec![]), ..all.clone() };
    assert_eq!(latents.of_image(1), GenerateRequest { image_index: Some(1), ..latents.clone() }, "a row of the file");
    let off = GenerateRequest { variation_strength: Some(0.0), ..all };
    assert_eq!(off.variation_of(0), None);
    let expected = GenerateRequest { seed: 3, num_images_per_prompt: 2, image_index: Some(0), ..good() };
    assert_eq!(off.of_image(0), expected, "nothing of it is recorded");
    let json = serde_json::to_string(&good()).expect("plain data");
    assert!(!json.contains("variation"), "{json}");
}

#[test]
fn a_second_pass_is_image_to_image_at_its_scale() {
    let request = GenerateRequest {
        hires_scale: Some(1.3),
        hires_steps: Some(9),
        timesteps: Some(vec![400]),
        mask_image: Some(vec![1]),
        image: Some(vec![2]),
        seed: 4,
        ..good()
    };
    let expected =
        GenerateRequest { image: Some(vec![]), strength: Some(0.7), num_inference_steps: 9, seed: 4, ..good() };
    assert_eq!(request.second_pass(), Some(expected));
    assert!(request.reads_image() && !good().reads_image());
    assert_eq!(good().second_pass(), None);
    assert_eq!(request.second_size([128, 64], &LIMITS), Ok([160, 80]), "in whole patches");
    let fault = GenerateRequest { hires_scale: Some(4.0), ..good() }.second_size([128, 64], &LIMITS);
    let fault = fault.expect_err("it is too large");
    assert_eq!(fault.what, "hires_scale is 4, which gives an image of 256x512");
    assert_eq!(fault.remedy, "choose at most 2.00, or a smaller image");
}
