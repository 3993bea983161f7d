//! The HTTP API as clients of AUTOMATIC1111's web UI use it.

use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pixart_companion::serve::{AccessPolicy, Token};
use pixart_model::image::{self, Rgb8};
use serde_json::{Value, json};

use crate::companion::{agent, decoded, generate, get, send_to, server, start};

fn post(path: &str, body: Value) -> (u16, Value) {
    let url = format!("http://{}/sdapi/v1/{path}", server());
    let mut reply = agent().post(&url).send_json(body).expect("an answer");
    (reply.status().as_u16(), reply.body_mut().read_json().expect("JSON"))
}

fn read(path: &str) -> Value {
    let (status, body) = get(&format!("/sdapi/v1/{path}"));
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// A small request with `fields`.
fn small(fields: Value) -> Value {
    let mut request =
        json!({ "prompt": "a red circle", "width": 64, "height": 64, "seed": 7, "steps": 2, "cfg_scale": 4.5 });
    request.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    request
}

fn file_of(base64: &Value) -> Vec<u8> {
    STANDARD.decode(base64.as_str().expect("a string")).expect("base64 without a prefix")
}

fn images_of((status, reply): &(u16, Value)) -> Vec<Rgb8> {
    assert_eq!(*status, 200, "{reply}");
    let images = reply["images"].as_array().expect("a list");
    images.iter().map(|image| image::decode_image(&file_of(image)).expect("a PNG")).collect()
}

fn info_of((_, reply): &(u16, Value)) -> Value {
    serde_json::from_str(reply["info"].as_str().expect("a string")).expect("JSON in a string")
}

fn white(side: usize) -> String {
    let image = Rgb8 { width: side, height: side, bytes: vec![255; side * side * 3] };
    STANDARD.encode(image::encode_png(&image, &[]).expect("a small image"))
}

#[test]
fn txt2img_generates_the_image_of_the_openai_route() {
    let ours = json!({
        "prompt": "a red circle", "size": "64x64", "seed": 7, "num_inference_steps": 2, "guidance_scale": 4.5,
        "scheduler": "euler", "prompt_weighting": true,
    });
    let (status, expected) = generate(ours);
    assert_eq!(status, 200, "{expected}");
    let reply = post("txt2img", small(json!({})));
    assert_eq!(images_of(&reply), [image::decode_image(&decoded(&expected["data"][0])).expect("a PNG")]);
    let automatic =
        post("txt2img", small(json!({ "sampler_name": "k_euler", "sampler_index": "DDIM", "scheduler": "Automatic" })));
    assert_eq!(images_of(&automatic), images_of(&reply), "`sampler_name` goes before `sampler_index`");
    let other = post("txt2img", small(json!({ "sampler_name": "DPM++ 2M Karras" })));
    assert_ne!(images_of(&other), images_of(&reply));
    assert_eq!(info_of(&other)["sampler_name"], "DPM++ 2M Karras");
}

#[test]
fn a_reply_has_the_fields_of_automatic1111() {
    let reply =
        post("txt2img", small(json!({ "n_iter": 2, "negative_prompt": "blur", "styles": ["photo"], "tiling": true })));
    let images = images_of(&reply);
    assert!(images.len() == 2 && images[0] != images[1], "two seeds, two images");
    let parameters = &reply.1["parameters"];
    let expected = json!({ "steps": 2, "n_iter": 2, "batch_size": 1, "sampler_index": "Euler", "sampler_name": null, "tiling": true });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&parameters[name], value, "{name}");
    }
    let info = info_of(&reply);
    for (name, value) in [
        ("prompt", json!("a red circle")),
        ("all_prompts", json!(["a red circle", "a red circle"])),
        ("negative_prompt", json!("blur")),
        ("seed", json!(7)),
        ("all_seeds", json!([7, 8])),
        ("width", json!(64)),
        ("steps", json!(2)),
        ("cfg_scale", json!(4.5)),
        ("sampler_name", json!("Euler")),
        ("sd_model_name", json!("scenes")),
        ("styles", json!(["photo"])),
    ] {
        assert_eq!(info[name], value, "{name}");
    }
    let second = post("txt2img", small(json!({ "seed": 8, "negative_prompt": "blur", "styles": ["photo"] })));
    assert_eq!(images_of(&second)[0], images[1], "each image can be generated alone by its seed");
    let (status, png) = post("png-info", json!({ "image": reply.1["images"][0] }));
    assert_eq!(status, 200, "{png}");
    assert_eq!((&png["info"], &png["parameters"]["Steps"]), (&info["infotexts"][0], &json!("2")));
    assert_eq!((&png["parameters"]["Seed"], &png["parameters"]["Size-1"]), (&json!("7"), &json!("64")));
    assert!(png["items"]["Software"].as_str().is_some_and(|text| text.starts_with("pixart-web")), "{png}");
}

#[test]
fn left_out_fields_have_the_defaults_of_automatic1111() {
    let reply = post(
        "txt2img",
        json!({ "prompt": "a ring", "steps": 1, "width": null, "sampler_name": null, "send_images": false }),
    );
    assert_eq!((reply.0, &reply.1["images"]), (200, &json!([])));
    let info = info_of(&reply);
    let expected =
        [("cfg_scale", json!(7.0)), ("sampler_name", json!("Euler")), ("width", json!(256)), ("batch_size", json!(1))];
    for (name, value) in expected {
        assert_eq!(info[name], value, "{name}");
    }
    assert_eq!(reply.1["parameters"]["width"], 512);
    assert!(info["comments"].as_str().is_some_and(|text| text.contains("cannot generate 512x512")), "{info}");
    assert!(info["seed"].as_u64().is_some(), "{info}");
}

#[test]
fn img2img_starts_from_the_image_and_keeps_what_the_mask_keeps() {
    let black = Rgb8 { width: 64, height: 64, bytes: vec![0; 64 * 64 * 3] };
    let black = STANDARD.encode(image::encode_png(&black, &[]).expect("a small image"));
    let with = |fields: Value| {
        let mut body = small(json!({ "init_images": [white(64)], "denoising_strength": 1.0, "steps": 3 }));
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        post("img2img", body)
    };
    let kept = with(json!({ "mask": black }));
    let mean = |image: &Rgb8| image.bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>() / image.bytes.len() as u64;
    assert!(mean(&images_of(&kept)[0]) > 240, "nothing is repainted");
    let inverted = with(json!({ "mask": format!("data:image/png;base64,{}", white(64)), "inpainting_mask_invert": 1 }));
    assert_eq!(images_of(&inverted), images_of(&kept));
    let repainted = with(json!({ "mask": white(64) }));
    assert_ne!(images_of(&repainted), images_of(&kept));
    assert_eq!(kept.1["parameters"]["init_images"], Value::Null);
    let included = with(json!({ "include_init_images": true, "mask": "" }));
    assert_eq!(included.1["parameters"]["init_images"], json!([white(64)]));
}

#[test]
fn hires_fix_is_the_second_pass() {
    let reply = post("txt2img", small(json!({ "enable_hr": true, "hr_scale": 2, "denoising_strength": 0.5 })));
    let ours = json!({
        "prompt": "a red circle", "size": "64x64", "seed": 7, "num_inference_steps": 2, "guidance_scale": 4.5,
        "scheduler": "euler", "prompt_weighting": true, "hires_scale": 2.0, "hires_strength": 0.5,
    });
    let expected = generate(ours).1;
    assert_eq!(images_of(&reply), [image::decode_image(&decoded(&expected["data"][0])).expect("a PNG")]);
    assert_eq!(info_of(&reply)["width"], 128);
    let by_size = small(json!({ "enable_hr": true, "hr_resize_x": 128, "denoising_strength": 0.5 }));
    assert_eq!(images_of(&post("txt2img", by_size)), images_of(&reply));
}

#[test]
fn lists_have_the_shapes_that_clients_read() {
    let models = read("sd-models");
    let title = models[0]["title"].as_str().expect("a string");
    assert!(title.starts_with("scenes [") && models[0]["model_name"] == "scenes", "{models}");
    assert_eq!((models[0]["sha256"].as_str().map(str::len), models.as_array().map(Vec::len)), (Some(64), Some(1)));
    let options = read("options");
    assert_eq!((options["sd_model_checkpoint"].as_str(), &options["samples_format"]), (Some(title), &json!("png")));
    for name in [title, "scenes", "gpt-image-1"] {
        assert_eq!(
            post("options", json!({ "sd_model_checkpoint": name, "eta_noise_seed_delta": 3 })),
            (200, Value::Null)
        );
    }
    let (status, error) = post("options", json!({ "sd_model_checkpoint": "dreamshaper" }));
    assert!(status == 404 && error["detail"].as_str().is_some_and(|text| text.contains("scenes")), "{error}");
    for (path, keys) in [
        ("samplers", &["name", "aliases", "options"][..]),
        ("schedulers", &["name", "label", "aliases", "default_rho", "need_inner_model"]),
        ("prompt-styles", &["name", "prompt", "negative_prompt"]),
        ("upscalers", &["name", "model_name", "model_path", "model_url", "scale"]),
    ] {
        let list = read(path);
        let items = list.as_array().expect("a list");
        assert!(!items.is_empty(), "{path}");
        for item in items {
            assert!(keys.iter().all(|key| item.get(*key).is_some()), "{path}: {item}");
        }
    }
    for path in ["loras", "sd-vae", "hypernetworks", "face-restorers", "realesrgan-models", "extensions", "script-info"]
    {
        assert_eq!(read(path), json!([]), "{path}");
    }
    assert_eq!(read("scripts"), json!({ "txt2img": [], "img2img": [] }));
    assert_eq!(read("embeddings"), json!({ "loaded": {}, "skipped": {} }));
    let ram = &read("memory")["ram"];
    assert!(
        !cfg!(target_os = "linux")
            || ram["used"].as_u64().zip(ram["total"].as_u64()).is_some_and(|(used, total)| used < total),
        "{ram}"
    );
    assert_eq!(post("refresh-checkpoints", json!({})), (200, Value::Null));
}

/// A server of its own, so that no other test's generation is seen or stopped.
#[test]
fn progress_shows_a_preview_and_interrupt_finishes_the_image() {
    let address = start(AccessPolicy::default(), std::future::pending());
    let url = format!("http://{address}/sdapi/v1");
    let progress = |query: &str| -> Value {
        agent().get(format!("{url}/progress{query}")).call().expect("an answer").body_mut().read_json().expect("JSON")
    };
    let idle = progress("");
    assert_eq!(
        (&idle["progress"], &idle["current_image"], &idle["state"]["job_count"]),
        (&json!(0.0), &Value::Null, &json!(0))
    );
    let running = thread::spawn({
        let url = url.clone();
        move || -> Value {
            let body = small(json!({ "steps": 900, "n_iter": 3 }));
            let mut reply = agent().post(format!("{url}/txt2img")).send_json(body).expect("an answer");
            assert_eq!(reply.status().as_u16(), 200);
            reply.body_mut().read_json().expect("JSON")
        }
    });
    let wait = |what: &str, is_there: &dyn Fn(&Value) -> bool| -> Value {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let now = progress("");
            if is_there(&now) {
                return now;
            }
            assert!(Instant::now() < deadline, "{what}: {now}");
            thread::sleep(Duration::from_millis(5));
        }
    };
    let seen = wait("a step", &|now| now["current_image"].is_string());
    let preview = image::decode_image(&file_of(&seen["current_image"])).expect("a PNG");
    assert!(preview.width > 0 && seen["state"]["sampling_steps"] == 900 && seen["state"]["job_count"] == 3, "{seen}");
    assert!(seen["progress"].as_f64().is_some_and(|part| part > 0.0 && part <= 1.0), "{seen}");
    assert_eq!(progress("?skip_current_image=true")["current_image"], Value::Null);
    let send = |path: &str| -> Value {
        agent().post(format!("{url}/{path}")).send_empty().expect("an answer").body_mut().read_json().expect("JSON")
    };
    assert_eq!(send("skip"), Value::Null);
    wait("the second image", &|now| now["state"]["job_no"] == 1 && now["current_image"].is_string());
    assert_eq!(send("interrupt"), json!({}));
    let reply = running.join().expect("it is answered");
    assert_eq!(images_of(&(200, reply.clone())).len(), 2, "the second image is the last");
    assert!(info_of(&(200, reply))["comments"].as_str().is_some_and(|text| text.contains("stopped after step")));
    assert_eq!(send("interrupt"), json!({}), "nothing is generated");
    assert_eq!(progress("")["state"]["interrupted"], false);
}

#[test]
fn hostile_requests_are_answered_with_a_detail() {
    let number = i64::MAX;
    for (path, body, status) in [
        ("txt2img", json!({ "prompt": 7 }), 400),
        ("txt2img", json!([]), 400),
        ("txt2img", small(json!({ "steps": 0 })), 400),
        ("txt2img", small(json!({ "steps": -1 })), 400),
        ("txt2img", small(json!({ "steps": number })), 400),
        ("txt2img", small(json!({ "batch_size": number, "n_iter": number })), 400),
        ("txt2img", small(json!({ "batch_size": 4_000_000_000_u32, "n_iter": 4_000_000_000_u32 })), 400),
        ("txt2img", small(json!({ "batch_size": 0 })), 400),
        ("txt2img", small(json!({ "width": 0 })), 400),
        ("txt2img", small(json!({ "seed": 1.5 })), 400),
        ("txt2img", small(json!({ "seed": 1_u64 << 40 })), 400),
        ("txt2img", small(json!({ "cfg_scale": "much" })), 400),
        ("txt2img", small(json!({ "sampler_name": "DPM adaptive" })), 404),
        ("txt2img", small(json!({ "sampler_name": "euler:no_such_setting=1" })), 400),
        ("txt2img", small(json!({ "styles": "photo" })), 400),
        ("txt2img", small(json!({ "override_settings": [] })), 400),
        ("txt2img", small(json!({ "enable_hr": true, "hr_scale": 1e300 })), 400),
        ("txt2img", small(json!({ "enable_hr": "yes" })), 400),
        ("txt2img", small(json!({ "subseed_strength": 2 })), 400),
        ("img2img", small(json!({})), 404),
        ("img2img", small(json!({ "init_images": [] })), 404),
        ("img2img", small(json!({ "init_images": [7] })), 400),
        ("img2img", small(json!({ "init_images": ["http://127.0.0.1/a.png"] })), 400),
        ("img2img", small(json!({ "init_images": ["AQI="] })), 400),
        ("img2img", small(json!({ "init_images": [white(64)], "denoising_strength": 0 })), 400),
        ("img2img", small(json!({ "init_images": [white(64)], "mask": "%" })), 400),
        ("img2img", small(json!({ "init_images": [white(64)], "mask": "AQI=", "inpainting_mask_invert": 1 })), 400),
        ("png-info", json!({ "image": "AQI=" }), 400),
        ("png-info", json!({}), 400),
        ("options", json!(7), 400),
        ("no-such-route", json!({}), 404),
        ("progress", json!({}), 405),
    ] {
        let (answered, reply) = post(path, body.clone());
        assert_eq!(answered, status, "{path} {body}: {reply}");
        assert!(reply["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{path} {body}: {reply}");
        assert!(reply["error"].is_string(), "{path} {body}: {reply}");
    }
    // Fields that nothing corresponds to are ignored, whatever they hold.
    let odd = json!({ "never_heard_of": { "a": [1] }, "alwayson_scripts": { "controlnet": { "args": [] } }, "script_args": [1], "clip_skip": "x" });
    assert_eq!(images_of(&post("txt2img", small(odd))), images_of(&post("txt2img", small(json!({})))));
    assert_eq!(
        images_of(&post(
            "txt2img",
            small(json!({ "prompt": "a red circle<lora:../../etc/passwd:1>", "steps": "2", "subseed": "-1" }))
        )),
        images_of(&post("txt2img", small(json!({}))))
    );
}

#[test]
fn the_token_may_be_the_password_of_a_basic_authorization() {
    let secret = "0123456789abcdef0123456789abcdef";
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdapi-token");
    std::fs::write(&path, secret).expect("a temporary file");
    let token = Token::read(&path).expect("it is long enough");
    let policy = AccessPolicy::new("127.0.0.1:0".parse().expect("an address"), Some(token), &[]).expect("a policy");
    let address = start(policy, std::future::pending());
    let answer = |credentials: &str| {
        let credentials = STANDARD.encode(credentials);
        send_to(
            address,
            &format!(
                "GET /sdapi/v1/samplers HTTP/1.1\r\nConnection: close\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n\r\n"
            ),
        )
    };
    assert!(answer(&format!("me:{secret}")).starts_with("HTTP/1.1 200"));
    for wrong in [format!("{secret}:me"), format!("me:{secret}0"), secret.to_owned(), ":".to_owned(), String::new()] {
        let answer = answer(&wrong);
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("\"detail\":\""), "{answer}");
    }
}
