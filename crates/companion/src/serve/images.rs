//! `POST /v1/images/generations`: a prompt → images, in the format of OpenAI's image API. Every field of our generate request
//! is accepted beside OpenAI's. With `"stream": true` each step is sent as a server-sent event.

use std::convert::Infallible;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_lite::stream;
use pixart_protocol::{Fault, FaultCode, GenerateRequest};
use serde_json::{Map, Value, json};

use super::Server;
use super::api_error::{ApiError, error_body};
use super::queue::{PendingGeneration, thread_stopped};
use crate::generate::{GeneratedImage, GenerationProgress};

/// OpenAI's fields without a meaning here.
const IGNORED_FIELDS: [&str; 6] =
    ["user", "quality", "moderation", "background", "partial_images", "output_compression"];

pub(super) async fn generate(
    State(server): State<Server>,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Response, ApiError> {
    let remedy = r#"send {"prompt": "..."} as application/json"#;
    let Json(fields) = body.map_err(|rejection| ApiError::invalid_body("an image request", &rejection, remedy))?;
    let ImageRequest { request, stream, model } = ImageRequest::read(fields)?;
    if let (Some(model), Some(info)) = (model, server.model_info.get())
        && model != info.id
    {
        let fault = Fault::new(
            FaultCode::BadRequest,
            format!("no model `{model}` is loaded"),
            format!("leave `model` out, or send `{}`", info.id),
        );
        return Err(ApiError::new(StatusCode::NOT_FOUND, fault));
    }
    let pending = server.queue.generate(request).map_err(|fault| server.queue_error(fault))?;
    if stream {
        return Ok(Sse::new(events(pending)).keep_alive(KeepAlive::default()).into_response());
    }
    // A client that disconnects drops this future, and with it the receiver, which cancels the generation.
    let images = pending.result.await.unwrap_or_else(|_| Err(thread_stopped()))?;
    let data: Vec<Value> = images.iter().map(image_data).collect();
    Ok(Json(json!({ "created": now(), "output_format": "png", "data": data })).into_response())
}

/// The body of the request, read.
struct ImageRequest {
    request: GenerateRequest,
    stream: bool,
    model: Option<String>,
}

impl ImageRequest {
    fn read(mut fields: Map<String, Value>) -> Result<Self, Fault> {
        let bad = |field: &str, value: &Value, remedy: &str| {
            Fault::new(FaultCode::BadRequest, format!("`{field}` is {value}"), remedy)
        };
        IGNORED_FIELDS.iter().for_each(|field| drop(fields.remove(*field)));
        let model = match fields.remove("model") {
            None | Some(Value::Null) => None,
            Some(Value::String(model)) => Some(model),
            Some(other) => return Err(bad("model", &other, "send a model id of /v1/models")),
        };
        let stream = match fields.remove("stream") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(stream)) => stream,
            Some(other) => return Err(bad("stream", &other, "send true or false")),
        };
        for (field, only) in [("response_format", "b64_json"), ("output_format", "png")] {
            if let Some(value) = fields.remove(field).filter(|value| *value != only && !value.is_null()) {
                return Err(bad(field, &value, &format!("send `{only}`, the only supported value")));
            }
        }
        if let Some(n) = fields.remove("n").filter(|n| !n.is_null()) {
            fields.insert("num_images_per_prompt".to_owned(), n);
        }
        if let Some(size) = fields.remove("size").filter(|size| *size != "auto" && !size.is_null()) {
            let sides = size.as_str().and_then(|size| size.split_once('x'));
            let sides =
                sides.and_then(|(width, height)| Some((width.parse::<u32>().ok()?, height.parse::<u32>().ok()?)));
            let Some((width, height)) = sides else {
                return Err(bad("size", &size, "send it as `512x512`, or `auto`"));
            };
            fields.insert("width".to_owned(), width.into());
            fields.insert("height".to_owned(), height.into());
        }
        let [image, mask_image] = [image_field(&mut fields, "image")?, image_field(&mut fields, "mask_image")?];
        let ours = serde_json::to_value(GenerateRequest::of("")).expect("it is plain data");
        let known = ours.as_object().expect("a struct is an object");
        let is_former = |field: &str| GenerateRequest::FORMER_NAMES.iter().any(|(former, _)| *former == field);
        if let Some(field) = fields.keys().find(|field| !known.contains_key(*field) && !is_former(field)) {
            let remedy = "see /v1/openapi.json for the fields of a request";
            return Err(Fault::new(FaultCode::BadRequest, format!("there is no field `{field}`"), remedy));
        }
        fields.insert("id".to_owned(), 0.into());
        let request: GenerateRequest = serde_json::from_value(Value::Object(fields)).map_err(|error| {
            let remedy = "see /v1/openapi.json for what each field takes";
            Fault::new(FaultCode::BadRequest, format!("the request cannot be read: {error}"), remedy)
        })?;
        Ok(Self { request: GenerateRequest { image, mask_image, ..request }, stream, model })
    }
}

/// Decodes an image field: base64, plain or in a data URL.
fn image_field(fields: &mut Map<String, Value>, field: &str) -> Result<Option<Vec<u8>>, Fault> {
    let Some(value) = fields.remove(field).filter(|value| !value.is_null()) else { return Ok(None) };
    let bytes = value.as_str().map(|text| text.split_once("base64,").map_or(text, |(_, base64)| base64));
    bytes.and_then(|base64| STANDARD.decode(base64).ok()).map(Some).ok_or_else(|| {
        Fault::new(FaultCode::BadRequest, format!("`{field}` is not base64"), "send the bytes of a PNG in base64")
    })
}

/// An element of the response's `data`.
fn image_data(image: &GeneratedImage) -> Value {
    json!({ "b64_json": STANDARD.encode(&image.file), "report": image.report })
}

/// Unix time in seconds.
fn now() -> u64 {
    // A clock set before 1970 gives 0.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Server-sent events: one per step, then one per image or an error. A client that disconnects drops the stream, which cancels
/// the generation.
fn events(pending: PendingGeneration) -> impl futures_lite::Stream<Item = Result<Event, Infallible>> {
    enum StreamState {
        Steps(PendingGeneration),
        Images(std::vec::IntoIter<GeneratedImage>),
        Ended,
    }
    let event = |kind: &str, data: Value| Ok(Event::default().event(kind).data(data.to_string()));
    stream::unfold(StreamState::Steps(pending), move |state| async move {
        let mut images = match state {
            StreamState::Steps(mut pending) => {
                if let Some(GenerationProgress { image_index, step, total_steps }) = pending.progress.recv().await {
                    let kind = "image_generation.progress";
                    let data =
                        json!({ "type": kind, "image_index": image_index, "step": step, "total_steps": total_steps });
                    return Some((event(kind, data), StreamState::Steps(pending)));
                }
                match pending.result.await.unwrap_or_else(|_| Err(thread_stopped())) {
                    Ok(images) => images.into_iter(),
                    Err(fault) => {
                        let status = ApiError::from(fault.clone()).into_response().status();
                        return Some((event("error", error_body(status, &fault)), StreamState::Ended));
                    }
                }
            }
            StreamState::Images(images) => images,
            StreamState::Ended => return None,
        };
        let image = images.next()?;
        let kind = "image_generation.completed";
        let mut data = image_data(&image);
        data["type"] = kind.into();
        data["created_at"] = now().into();
        data["output_format"] = "png".into();
        data["size"] = format!("{}x{}", image.report.width, image.report.height).into();
        Some((event(kind, data), StreamState::Images(images)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: Value) -> Result<ImageRequest, Fault> {
        ImageRequest::read(fields.as_object().expect("an object").clone())
    }

    #[test]
    fn openai_fields_map_to_request_fields() {
        let parsed = read(json!({
            "prompt": "a star", "n": 2, "size": "256x128", "model": "m", "stream": true, "user": "me",
            "response_format": "b64_json", "seed": 7, "steps": 3, "guidance": 2.5,
        }));
        let ImageRequest { request, stream, model } = parsed.unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!((stream, model.as_deref()), (true, Some("m")));
        let expected = GenerateRequest {
            num_images_per_prompt: 2,
            width: Some(256),
            height: Some(128),
            seed: 7,
            num_inference_steps: 3,
            guidance_scale: 2.5,
            ..GenerateRequest::of("a star")
        };
        assert_eq!(request, expected);
        let over = read(json!({ "prompt": "p", "image": "AQI=", "mask_image": "data:image/png;base64,Aw==" }));
        let over = over.unwrap_or_else(|fault| panic!("{fault}")).request;
        assert_eq!((over.image, over.mask_image), (Some(vec![1, 2]), Some(vec![3])));
        let plain = read(json!({ "prompt": "p", "size": "auto", "n": null })).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(plain.request, GenerateRequest::of("p"));
    }

    #[test]
    fn an_invalid_field_is_rejected_by_name() {
        for (fields, name) in [
            (json!({ "prompt": "p", "size": "large" }), "`size` is \"large\""),
            (json!({ "prompt": "p", "response_format": "url" }), "`response_format`"),
            (json!({ "prompt": "p", "stream": 1 }), "`stream`"),
            (json!({ "prompt": "p", "colour": "red" }), "no field `colour`"),
            (json!({ "prompt": "p", "image": "%" }), "`image` is not base64"),
            (json!({ "prompt": "p", "image": "AAAA", "mask_image": 1 }), "`mask_image` is not base64"),
            (json!({ "prompt": 1 }), "the request cannot be read"),
            (json!({ "n": 1 }), "missing field `prompt`"),
        ] {
            let fault = read(fields).err().expect(name);
            assert!(fault.code == FaultCode::BadRequest && fault.what.contains(name), "{fault}");
        }
    }
}
