use super::*;
use crate::serve::image_request::tests::info;

fn read(task: ImageTask, fields: Value) -> SdRequest {
    let Value::Object(fields) = fields else { panic!("it is an object") };
    SdRequest::read(task, fields, &info(), &["gpt-image-1".to_owned()]).expect("it is valid")
}

#[test]
fn extra_networks_are_taken_out_of_a_prompt() {
    for (prompt, text, names) in [
        ("a <lora:x:0.8> b", "a  b", &["x"][..]),
        ("<lora:x><lyco:y:1:2>a", "a", &["x", "y"]),
        ("a < b > c <i>", "a < b > c <i>", &[]),
        ("<lora:", "<lora:", &[]),
        ("<<lora:x:1>>", "<>", &["x"]),
        ("ü<lora:é>ü", "üü", &["é"]),
    ] {
        assert_eq!(without_extra_networks(prompt), (text.to_owned(), names.iter().map(ToString::to_string).collect()));
    }
}

#[test]
fn fields_map_to_those_of_our_request() {
    let read = read(
        ImageTask::Txt2Img,
        json!({
            "prompt": "a (star:1.2)", "negative_prompt": "n", "width": 128, "height": 256, "steps": 9, "cfg_scale": 3,
            "n_iter": 2, "batch_size": 2, "seed": u32::MAX, "sampler_name": "DDIM", "eta": 0.5, "styles": ["ink", "none"],
        }),
    );
    let request = &read.image.request;
    assert_eq!((request.width, request.height, request.num_inference_steps), (Some(128), Some(256), 9));
    assert_eq!((request.guidance_scale, request.eta, request.num_images_per_prompt), (3.0, 0.5, 4));
    assert_eq!(request.seeds, Some(vec![u32::MAX, 0, 1, 2]), "seeds wrap");
    assert_eq!((request.scheduler.as_deref(), request.style.as_deref()), (Some("ddim"), Some("ink")));
    assert!(request.prompt_weighting && read.ignored == ["styles"], "{:?}", read.ignored);
}

#[test]
fn what_changes_nothing_is_named() {
    let read = read(
        ImageTask::Txt2Img,
        json!({
            "prompt": "p<lora:x:1>", "steps": 2, "tiling": true, "restore_faces": false, "s_noise": 1, "eta": 1.0, "new_field": {},
            "scheduler": "Karras", "sampler_name": "Euler a", "save_images": false,
            "override_settings": { "sd_model_checkpoint": "m [0123456789]", "sd_vae": "v" },
        }),
    );
    let mut ignored = read.ignored;
    ignored.sort();
    assert_eq!(ignored, ["eta", "new_field", "override_settings.sd_vae", "s_noise", "scheduler", "tiling", "x"]);
}

#[test]
fn a_variation_turns_the_noise_of_one_seed() {
    let request = read(
        ImageTask::Txt2Img,
        json!({ "prompt": "p", "seed": 5, "subseed": 9, "subseed_strength": 0.25, "n_iter": 3 }),
    );
    let request = request.image.request;
    assert_eq!((request.seed, request.seeds), (5, None));
    assert_eq!((request.variation_seed, request.variation_strength), (Some(9), Some(0.25)));
}

#[test]
fn an_area_filled_with_noise_ignores_the_image_under_it() {
    let strength = |fill: u32| {
        let fields = json!({ "prompt": "p", "init_images": ["AQI="], "mask": "AQI=", "inpainting_fill": fill });
        read(ImageTask::Img2Img, fields).image.request.strength
    };
    assert_eq!([0, 1, 2, 3].map(strength), [Some(0.75), Some(0.75), Some(1.0), Some(1.0)]);
}
