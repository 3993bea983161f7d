//! Which requests are refused, and in which words.

use super::*;

const LIMITS: Limits = Limits { native_size: 128, size_min: 64, size_max: 256, size_multiple: 16, binned: false };
const BINNED: Limits = Limits { binned: true, ..LIMITS };

fn good() -> Generate {
    Generate::of("a red circle")
}

#[test]
fn a_good_request_passes_and_is_filled_in() {
    let resolved = good().resolve(&LIMITS).expect("good");
    assert_eq!((resolved.height, resolved.width), (128, 128));
    let turned = Generate { style: Some("ink".into()), ..Generate::of("a cat --ar 1:2") };
    let resolved = turned.resolve(&LIMITS).expect("good");
    assert_eq!((resolved.height, resolved.width), (96, 176));
    assert_eq!(resolved.prompt, "an ink drawing of a cat, black lines on white paper, hatching");
}

#[test]
fn a_message_may_leave_out_all_but_the_prompt() {
    let request: Generate = from_json(r#"{"id": 0, "prompt": "a red circle"}"#);
    assert_eq!(request, good());
}

#[test]
fn a_binned_picture_may_have_any_sides_in_the_range() {
    let odd = Generate { height: Some(99), ..good() };
    assert_eq!(odd.resolve(&BINNED).map(|_| ()), Ok(()));
    assert!(odd.resolve(&LIMITS).is_err());
    assert!(Generate { use_resolution_binning: false, ..odd }.resolve(&BINNED).is_err());
    let fault = Generate { height: Some(63), ..good() }.resolve(&BINNED).expect_err("too low");
    assert_eq!((fault.what.as_str(), fault.remedy.as_str()), ("height is 63", "choose a whole number from 64 to 256"));
}

#[test]
fn every_bad_field_is_named_with_its_value() {
    let cases = [
        (Generate { prompt: "  ".into(), ..good() }, "the prompt is empty"),
        (Generate { prompt: " --ar 1:1".into(), ..good() }, "the prompt is empty"),
        (Generate { prompt: "x".repeat(10_000), ..good() }, "the prompt has 10000 characters"),
        (Generate { negative_prompt: "x".repeat(2_001), ..good() }, "the negative prompt has 2001 characters"),
        (Generate { steps: 0, ..good() }, "steps is 0"),
        (Generate { guidance: f64::NAN, ..good() }, "guidance is NaN"),
        (Generate { guidance: -1.0, ..good() }, "guidance is -1"),
        (Generate { eta: 1.5, ..good() }, "eta is 1.5"),
        (Generate { num_images_per_prompt: 0, ..good() }, "num_images_per_prompt is 0"),
        (Generate { max_sequence_length: 301, ..good() }, "max_sequence_length is 301"),
        (Generate { seeds: Some(vec![1, 2]), ..good() }, "2 seeds are given for 1 pictures"),
        (Generate { timesteps: Some(vec![]), ..good() }, "timesteps is []"),
        (Generate { timesteps: Some(vec![400, 400]), ..good() }, "timesteps is [400, 400]"),
        (Generate { timesteps: Some(vec![1000]), ..good() }, "timesteps is [1000]"),
        (Generate { sigmas: Some(vec![1.0, f64::NAN]), ..good() }, "sigmas is [1.0, NaN]"),
        (
            Generate { latents: Some(vec![]), image: Some(vec![]), ..good() },
            "both latents and an image to draw over are given",
        ),
        (
            Generate { sigmas: Some(vec![1.0]), timesteps: Some(vec![1]), ..good() },
            "both timesteps and sigmas are given",
        ),
        (Generate { width: Some(0), ..good() }, "width is 0"),
        (Generate { height: Some(63), ..good() }, "height is 63"),
        (Generate { height: Some(72), ..good() }, "height is 72"),
        (Generate { width: Some(4096), ..good() }, "width is 4096"),
        (Generate { style: Some("cubism".into()), ..good() }, "there is no style `cubism`"),
        (Generate { prompt: "a --ar 1".into(), ..good() }, "the prompt ends in `--ar 1`"),
        (
            Generate { prompt: "a --ar 1:2".into(), width: Some(64), ..good() },
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
fn captions_are_counted_and_measured_and_may_be_empty() {
    let request = |captions: Vec<String>| EncodeRequest::of(captions);
    assert_eq!(request(vec![String::new(), "a red circle".into()]).validate(), Ok(()));
    let cases = [
        (request(Vec::new()), "0 captions were sent"),
        (request(vec![String::new(); CAPTIONS_MAX + 1]), "17 captions were sent"),
        (request(vec![String::new(), "x".repeat(10_000)]), "caption 1 has 10000 characters"),
    ];
    for (request, what) in cases {
        let fault = request.validate().expect_err(what);
        assert_eq!((fault.code, fault.what.as_str()), (FaultCode::BadRequest, what));
    }
}

fn from_json<T: serde::de::DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).expect("a message")
}
