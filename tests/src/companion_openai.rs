//! The HTTP API as OpenAI's clients use it: their fields, errors, models and URLs.

use std::fs;
use std::path::Path;

use pixart_companion::serve::{AccessPolicy, Token};
use pixart_model::image;
use pixart_protocol::Fault;
use serde_json::{Value, json};

use crate::companion::{agent, decoded, generate, get, post_to, send, send_to, server, start};

const AS_JSON: &str = "Host: localhost\r\nContent-Type: application/json\r\n";

/// A small request with `fields`.
fn small(fields: Value) -> Value {
    let mut request = json!({ "prompt": "a red circle", "size": "64x64", "seed": 7, "num_inference_steps": 2 });
    request.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    request
}

fn image_of(fields: Value) -> image::Rgb8 {
    let (status, reply) = generate(small(fields));
    assert_eq!(status, 200, "{reply}");
    image::decode_image(&decoded(&reply["data"][0])).expect("a PNG")
}

fn json_of(answer: &str) -> (String, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{answer}: {error}"));
    (head.split(' ').nth(1).expect("a status").to_owned(), body)
}

#[test]
fn fields_that_openai_clients_send_do_not_change_the_image() {
    let plain = image_of(json!({}));
    let openai = json!({
        "model": "gpt-image-1", "n": 1, "quality": "hd", "style": "vivid", "background": "auto", "moderation": "low",
        "output_format": "png", "output_compression": 100, "response_format": "b64_json", "user": "me",
        "partial_images": 0, "stream": false,
    });
    assert_eq!(image_of(openai), plain);
    let nulls = json!({
        "model": null, "n": null, "quality": null, "style": null, "background": null, "negative_prompt": null,
        "guidance_scale": null, "seeds": null, "response_format": null, "stream": null, "image": null, "strength": null,
        "scheduler": null, "steps": null, "timesteps": null, "eta": null, "clean_caption": null,
    });
    assert_eq!(image_of(nulls), plain);
    assert_eq!(image_of(json!({ "seed": 7.0, "n": 1.0 })), plain);
}

#[test]
fn a_random_seed_is_reported_and_gives_the_same_image_again() {
    let (status, reply) = generate(small(json!({ "seed": -1 })));
    assert_eq!(status, 200, "{reply}");
    let seed = &reply["data"][0]["report"]["seed"];
    assert!(seed.as_u64().is_some_and(|seed| seed <= u64::from(u32::MAX)), "{reply}");
    let first = image::decode_image(&decoded(&reply["data"][0])).expect("a PNG");
    assert_eq!(image_of(json!({ "seed": seed })), first);
}

#[test]
fn another_size_is_generated_at_the_nearest_with_a_note() {
    let (status, reply) = generate(small(json!({ "size": "1024x1024", "num_inference_steps": 1 })));
    assert_eq!((status, &reply["size"]), (200, &json!("256x256")), "{reply}");
    let note = "The model `scenes` cannot generate 1024x1024; the size is 256x256.";
    assert_eq!(reply["notes"], json!([note]));
    let pixels = image::decode_image(&decoded(&reply["data"][0])).expect("a PNG");
    assert_eq!((pixels.width, pixels.height), (256, 256));
    assert_eq!(generate(small(json!({}))).1["notes"], json!([]));
}

#[test]
fn an_image_by_url_is_the_image_in_base64() {
    let expected = image_of(json!({}));
    let (status, reply) = generate(small(json!({ "response_format": "url", "n": 2 })));
    assert_eq!(status, 200, "{reply}");
    let urls: Vec<&str> =
        reply["data"].as_array().expect("a list").iter().filter_map(|one| one["url"].as_str()).collect();
    assert!(urls.len() == 2 && urls[0] != urls[1] && reply["data"][0].get("b64_json").is_none(), "{reply}");
    assert!(urls[0].starts_with(&format!("http://{}/generated-images/", server())), "{}", urls[0]);
    let mut answer = agent().get(urls[0]).call().expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"image/png".parse().expect("text"))
    );
    let first = image::decode_image(&answer.body_mut().read_to_vec().expect("bytes")).expect("a PNG");
    assert_eq!(first, expected);
    let (status, body) = get("/generated-images/0123456789abcdef0123456789abcdef.png");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &body["what"]), (404, &json!("no image is stored under this address")));

    let streamed = small(json!({ "response_format": "url", "stream": true })).to_string();
    let answer = post_to("/v1/images/generations", AS_JSON, &streamed);
    assert!(
        answer.contains("\"url\":\"http://localhost/generated-images/") && !answer.contains("b64_json"),
        "{answer}"
    );
}

#[test]
fn an_image_by_url_needs_no_token() {
    let secret = "0123456789abcdef0123456789abcdef";
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("url-token");
    fs::write(&path, secret).expect("a temporary file");
    let token = Token::read(&path).expect("it is long enough");
    let listen = "127.0.0.1:0".parse().expect("an address");
    let policy = AccessPolicy::new(listen, Some(token), &[]).expect("a policy");
    let address = start(policy, std::future::pending());
    let body = small(json!({ "response_format": "url" })).to_string();
    let answer = send_to(
        address,
        &format!(
            "POST /v1/images/generations HTTP/1.1\r\nConnection: close\r\nHost: pixart.example\r\nX-Forwarded-Proto: https\r\n\
         Authorization: Bearer {secret}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    let (status, reply) = json_of(&answer);
    let url = reply["data"][0]["url"].as_str().unwrap_or_else(|| panic!("{status} {reply}"));
    let path = url.strip_prefix("https://pixart.example").expect("the address that the client knows");
    let image = send_to(address, &format!("GET {path} HTTP/1.1\r\nConnection: close\r\nHost: pixart.example\r\n\r\n"));
    assert!(image.starts_with("HTTP/1.1 200") && image.contains("content-type: image/png"));
}

#[test]
fn a_model_is_found_by_its_name_and_its_alias() {
    let models: Value = serde_json::from_str(&get("/v1/models").1).expect("JSON");
    let ids: Vec<&Value> = models["data"].as_array().expect("a list").iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, ["scenes", "gpt-image-1"]);
    for (name, model) in ["scenes", "gpt-image-1"].into_iter().zip(models["data"].as_array().expect("a list")) {
        let (status, body) = get(&format!("/v1/models/{name}"));
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((status, &body), (200, model));
        assert_eq!((&body["object"], &body["root"], &body["created"]), (&json!("model"), &json!("scenes"), &json!(0)));
        assert_eq!(body["limits"]["size_max"], 256);
    }
    let (status, body) = get("/v1/models/dall-e-3");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    let error = &body["error"];
    assert_eq!((status, &error["code"], &error["param"]), (404, &json!("model_not_found"), &json!("model")));
    assert_eq!(error["type"], "invalid_request_error");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("--model-alias dall-e-3=scenes")), "{error}");
}

#[test]
fn every_error_has_openais_error_object() {
    let get = |path: &str| send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    let images = "/v1/images/generations";
    let delete = "DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let foreign = "GET /v1/models HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n";
    let null = Value::Null;
    for (answer, status, kind, code, param) in [
        (get("/v1/chat/completions"), "404", "invalid_request_error", null.clone(), null.clone()),
        (get("/v1"), "404", "invalid_request_error", null.clone(), null.clone()),
        (get("/v1/"), "404", "invalid_request_error", null.clone(), null.clone()),
        (get(images), "405", "invalid_request_error", null.clone(), null.clone()),
        (send(delete), "405", "invalid_request_error", null.clone(), null.clone()),
        (send(foreign), "403", "permission_error", null.clone(), null.clone()),
        (post_to(images, AS_JSON, "{"), "400", "invalid_request_error", null.clone(), null.clone()),
        (post_to(images, AS_JSON, "[]"), "400", "invalid_request_error", null.clone(), null.clone()),
        (
            post_to(images, "Host: localhost\r\nContent-Type: text/plain\r\n", "{}"),
            "415",
            "invalid_request_error",
            null.clone(),
            null.clone(),
        ),
        (
            post_to("/v1/encode", AS_JSON, &" ".repeat(600 << 10)),
            "413",
            "invalid_request_error",
            null.clone(),
            null.clone(),
        ),
        (
            post_to(images, AS_JSON, "{}"),
            "400",
            "invalid_request_error",
            json!("missing_required_parameter"),
            json!("prompt"),
        ),
        (
            post_to(images, AS_JSON, r#"{"prompt":"p","quality":"best"}"#),
            "400",
            "invalid_request_error",
            json!("invalid_value"),
            json!("quality"),
        ),
        (
            post_to(images, AS_JSON, r#"{"prompt":"p","width":63,"stream":true}"#),
            "400",
            "invalid_request_error",
            null.clone(),
            null.clone(),
        ),
        (
            post_to(images, AS_JSON, r#"{"prompt":"p","colour":1}"#),
            "400",
            "invalid_request_error",
            json!("unknown_parameter"),
            json!("colour"),
        ),
    ] {
        let (got, body) = json_of(&answer);
        let error = &body["error"];
        assert_eq!(
            (got.as_str(), &error["type"], &error["code"], &error["param"]),
            (status, &json!(kind), &code, &param),
            "{answer}"
        );
        let fault: Fault = serde_json::from_value(body.clone()).expect("a fault too");
        assert_eq!(error["message"], format!("{}; {}", fault.what, fault.remedy));
        assert!(answer.contains("content-type: application/json"), "{answer}");
        assert_eq!(status == "405", answer.contains("\r\nallow: "), "{answer}");
    }
}

#[test]
fn a_body_that_is_not_read_is_explained() {
    let images = "/v1/images/generations";
    for (answer, what) in [
        (post_to(images, AS_JSON, "{"), "the body is not JSON: EOF while parsing an object at line 1 column 1"),
        (post_to(images, AS_JSON, "[1]"), "the body is [1], not an image request"),
        (
            post_to(images, "Host: localhost\r\n", "{}"),
            "the header `Content-Type` of the body is not `application/json`",
        ),
        (post_to("/v1/encode", AS_JSON, &" ".repeat(600 << 10)), "the body is too long"),
    ] {
        assert_eq!(json_of(&answer).1["what"], what);
    }
}
