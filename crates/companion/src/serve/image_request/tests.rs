use axum::Json;
use pixart_protocol::Preset;
use serde_json::json;

use super::super::fields::read_object;
use super::*;

const LIMITS: Limits = Limits { native_size: 128, size_min: 64, size_max: 256, size_multiple: 16, binned: false };

pub(in crate::serve) fn info() -> ModelInfo {
    ModelInfo {
        id: "m".into(),
        fingerprint: String::new(),
        device: "cpu".into(),
        generates_images: true,
        native_size: Some(128),
        limits: Some(LIMITS),
        preset: Some(Preset::named("alpha").expect("a preset")),
        loras: Vec::new(),
    }
}

fn read_with(info: &ModelInfo, fields: Value) -> Result<ImageRequest, Fault> {
    let fields = read_object(Ok(Json(fields)), "an image request", "").map_err(|error| error.fault)?;
    ImageRequest::read(fields, info, &["gpt-image-1".to_owned()]).map_err(|error| error.fault)
}

fn read(fields: Value) -> ImageRequest {
    read_with(&info(), fields.clone()).unwrap_or_else(|fault| panic!("{fields}: {fault}"))
}

fn refused(fields: Value) -> Fault {
    read_with(&info(), fields.clone()).err().unwrap_or_else(|| panic!("{fields} is accepted"))
}

#[test]
fn openai_fields_map_to_request_fields() {
    let parsed = read(json!({
        "prompt": "a star", "n": 2, "size": "256x128", "model": "m", "stream": true, "user": "me",
        "response_format": "b64_json", "seed": 7, "steps": 3, "guidance": 2.5,
    }));
    let expected = GenerateRequest {
        num_images_per_prompt: 2,
        width: Some(256),
        height: Some(128),
        seed: 7,
        num_inference_steps: 3,
        guidance_scale: 2.5,
        ..GenerateRequest::of("a star")
    };
    assert_eq!((parsed.stream, parsed.response_format, parsed.request), (true, ResponseFormat::Base64, expected));
    let over = read(json!({ "prompt": "p", "image": "AQI=", "mask_image": "data:image/png;base64,Aw==" })).request;
    assert_eq!((over.image, over.mask_image), (Some(vec![1, 2]), Some(vec![3])));
    assert_eq!(read(json!({ "prompt": "p", "response_format": "url" })).response_format, ResponseFormat::Url);
}

#[test]
fn fields_that_a_request_is_written_without_are_read() {
    let fields = json!({
        "prompt": "p", "prompt_weighting": true, "variation_seed": 3, "variation_strength": 0.5, "hires_scale": 1.5,
        "hires_strength": 0.5, "hires_steps": 4, "width": 64, "height": 64,
    });
    let expected = GenerateRequest {
        prompt_weighting: true,
        variation_seed: Some(3),
        variation_strength: Some(0.5),
        hires_scale: Some(1.5),
        hires_strength: Some(0.5),
        hires_steps: Some(4),
        width: Some(64),
        height: Some(64),
        ..GenerateRequest::of("p")
    };
    assert_eq!(read(fields).request, expected);
    assert!(refused(json!({ "prompt": "p", "hires_scale": "2x" })).what.contains("hires_scale"));
}

#[test]
fn fields_that_cannot_change_the_reply_are_ignored() {
    let plain = GenerateRequest::of("p");
    let ignored = [
        ("quality", vec!["standard", "hd", "low", "medium", "high", "auto", "xhigh", "max"]),
        ("style", vec!["vivid", "natural"]),
        ("background", vec!["auto", "opaque"]),
        ("moderation", vec!["auto", "low"]),
        ("output_format", vec!["png"]),
        ("user", vec!["", "me"]),
        ("safety_identifier", vec!["me"]),
        ("size", vec!["auto"]),
        ("model", vec!["", "m", "gpt-image-1"]),
    ];
    for (field, values) in ignored {
        for value in values {
            assert_eq!(read(json!({ "prompt": "p", field: value })).request, plain, "{field} {value}");
        }
    }
    let numbers = json!({ "prompt": "p", "output_compression": 80, "partial_images": 2, "n": 1.0, "eta": -0.0 });
    assert_eq!(read(numbers).request, plain);
}

#[test]
fn null_is_as_left_out_for_every_field() {
    let ours = serde_json::to_value(GenerateRequest::of("p")).expect("plain data");
    let openai = [
        "model",
        "n",
        "size",
        "quality",
        "style",
        "background",
        "moderation",
        "output_format",
        "output_compression",
        "response_format",
        "user",
        "safety_identifier",
        "stream",
        "partial_images",
        "complexity",
        "image",
        "mask_image",
        "steps",
        "guidance",
        "never_heard_of",
    ];
    let names = ours.as_object().expect("an object").keys().map(String::as_str).chain(openai);
    for name in names.filter(|name| *name != "prompt") {
        let read = read(json!({ "prompt": "p", name: null }));
        assert_eq!((read.request, read.stream), (GenerateRequest::of("p"), false), "{name}");
    }
    assert_eq!(refused(json!({ "prompt": null })).what, "the request has no `prompt`");
}

#[test]
fn a_seed_of_minus_one_is_random_and_a_whole_float_is_a_seed() {
    let seed = |value: Value| read(json!({ "prompt": "p", "seed": value })).request.seed;
    let drawn: Vec<u32> = (0..4).map(|_| seed(json!(-1))).collect();
    assert!(drawn.windows(2).any(|pair| pair[0] != pair[1]), "{drawn:?}");
    assert_eq!([seed(json!(7.0)), seed(json!(-0.0)), seed(json!(u32::MAX))], [7, 0, u32::MAX]);
    let seeds = read(json!({ "prompt": "p", "n": 3, "seeds": [-1, 5, -1.0] })).request.seeds.expect("given");
    assert!(seeds.len() == 3 && seeds[1] == 5, "{seeds:?}");
    for seed in [json!(-2), json!(1_u64 << 32), json!(1_u64 << 53), json!(0.5), json!("7"), json!(1e300)] {
        let fault = refused(json!({ "prompt": "p", "seed": seed }));
        assert!(fault.what.starts_with("`seed` is ") && fault.remedy.contains("from -1 to 4294967295"), "{fault}");
    }
}

#[test]
fn a_size_becomes_the_nearest_that_the_model_can_with_a_note() {
    for (size, nearest) in [
        ("1024x1024", [256, 256]),
        ("1792x1024", [256, 144]),
        ("1024x1792", [144, 256]),
        ("1536x1024", [256, 176]),
        ("63x64", [64, 64]),
        ("100x120", [96, 128]),
        ("1x1", [64, 64]),
        ("4096x64", [256, 64]),
        ("4294967295x1", [256, 64]),
    ] {
        let read = read(json!({ "prompt": "p", "size": size }));
        assert_eq!((read.request.width, read.request.height), (Some(nearest[0]), Some(nearest[1])), "{size}");
        let [width, height] = nearest;
        let note = format!("The model `m` cannot generate {size}; the size is {width}x{height}.");
        assert_eq!(read.notes, [note]);
    }
    assert_eq!(read(json!({ "prompt": "p", "size": "128x256" })).notes, [""; 0]);
    let binned = ModelInfo { limits: Some(Limits { binned: true, ..LIMITS }), ..info() };
    let read =
        read_with(&binned, json!({ "prompt": "p", "size": "100x300" })).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!((read.request.width, read.request.height), (Some(85), Some(256)), "a bin may have any sides");
}

#[test]
fn left_out_fields_are_those_of_the_preset() {
    let lcm = ModelInfo { preset: Some(Preset::named("alpha-dmd").expect("a preset")), ..info() };
    let request = |fields: Value| read_with(&lcm, fields).unwrap_or_else(|fault| panic!("{fault}")).request;
    assert_eq!(request(json!({ "prompt": "p" })), Preset::named("alpha-dmd").expect("a preset").request("p"));
    let steps = request(json!({ "prompt": "p", "steps": 4 }));
    assert_eq!((steps.timesteps, steps.num_inference_steps, steps.guidance_scale), (None, 4, 1.0));
}

#[test]
fn an_invalid_field_is_refused_by_name() {
    for (fields, what, remedy) in [
        (json!({ "size": "large" }), "`size` is \"large\"", "`512x512`"),
        (json!({ "size": "0x64" }), "`size` is \"0x64\"", "`512x512`"),
        (json!({ "size": "64x64", "width": 64 }), "both `size` and `width` are given", "leave out `size` or `width`"),
        (json!({ "size": 512 }), "`size` is 512", "`512x512`"),
        (json!({ "response_format": "binary" }), "`response_format` is \"binary\"", "`url`"),
        (json!({ "output_format": "jpeg" }), "`output_format` is \"jpeg\"", "`png`"),
        (json!({ "output_format": "webp" }), "`output_format` is \"webp\"", "`png`"),
        (json!({ "output_compression": 101 }), "`output_compression` is 101", "0 to 100"),
        (json!({ "background": "transparent" }), "`background` is \"transparent\"", "`opaque`"),
        (json!({ "quality": "best" }), "`quality` is \"best\"", "hd"),
        (json!({ "moderation": "off" }), "`moderation` is \"off\"", "low"),
        (json!({ "partial_images": 4 }), "`partial_images` is 4", "0 to 3"),
        (json!({ "user": 1 }), "`user` is 1", "a string"),
        (json!({ "stream": 1 }), "`stream` is 1", "true or false"),
        (json!({ "colour": "red" }), "there is no field `colour`", "openapi.json"),
        (json!({ "latents": "AAAA" }), "there is no field `latents`", "openapi.json"),
        (json!({ "image": "%" }), "`image` is not base64", "PNG"),
        (json!({ "image": "AAAA", "mask_image": 1 }), "`mask_image` is not base64", "PNG"),
        (json!({ "prompt": 1 }), "`prompt` is 1", "send a string"),
        (json!({ "n": "2" }), "`n` is \"2\"", "whole number from 1 to 16"),
        (json!({ "steps": 2.5 }), "`steps` is 2.5", "whole number from 1 to 1000"),
        (json!({ "guidance_scale": "high" }), "`guidance_scale` is \"high\"", "a number from 0 to 100"),
        (json!({ "timesteps": [1, "a"] }), "`timesteps` is [1,\"a\"]", "a list, each entry a whole number"),
        (json!({ "clean_caption": "yes" }), "`clean_caption` is \"yes\"", "true or false"),
        (json!({ "output_type": "jpg" }), "`output_type` is \"jpg\"", "one of png, np, pt, latent"),
        (json!({ "record": true }), "`record` is true", "--record"),
        (json!({ "model": 1 }), "`model` is 1", "/v1/models"),
        (json!({ "model": "dall-e-3" }), "no model `dall-e-3` is loaded", "--model-alias dall-e-3=m"),
    ] {
        let mut whole = json!({ "prompt": "p" });
        whole.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let fault = refused(whole);
        assert_eq!((fault.code, fault.what.as_str()), (FaultCode::BadRequest, what));
        assert!(fault.remedy.contains(remedy), "{fault}");
    }
    let long = refused(json!({ "prompt": "p", "size": "9".repeat(10_000) }));
    assert!(long.what.len() < 100, "{long}");
}

#[test]
fn every_field_of_a_request_is_documented() {
    let document: Value = serde_json::from_str(super::super::openapi::OPENAPI).expect("JSON");
    let documented = document["components"]["schemas"]["ImageRequest"]["properties"].as_object().expect("an object");
    let ours = serde_json::to_value(GenerateRequest::of("p")).expect("plain data");
    for name in ours.as_object().expect("an object").keys() {
        assert!(documented.contains_key(name), "{name}");
    }
}
