//! `POST /v1/images/generations`: a prompt → pictures, in the shape of OpenAI's interface of that name. Beside its fields
//! every field of ours is taken. With `"stream": true` each step is told as a server-sent event as soon as it is done.

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
use super::refusal::{Refusal, body as fault_body};
use crate::generate::{Picture, Progress};
use crate::queue::{Drawing, stopped};

/// OpenAI's fields that say nothing here.
const IDLE: [&str; 6] = ["user", "quality", "moderation", "background", "partial_images", "output_compression"];

pub(super) async fn generate(
    State(server): State<Server>,
    body: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Response, Refusal> {
    let remedy = r#"send {"prompt": "..."} as application/json"#;
    let Json(fields) = body.map_err(|rejection| Refusal::unreadable("an image request", &rejection, remedy))?;
    let Asked { request, streamed, model } = Asked::read(fields)?;
    if let (Some(model), Some(about)) = (model, server.about.get())
        && model != about.id
    {
        let fault = Fault::new(
            FaultCode::BadRequest,
            format!("there is no model `{model}`"),
            format!("leave `model` out, or send `{}`", about.id),
        );
        return Err(Refusal::of(StatusCode::NOT_FOUND, fault));
    }
    let drawing = server.queue.draw(request).map_err(|fault| server.refused(fault))?;
    if streamed {
        return Ok(Sse::new(events(drawing)).keep_alive(KeepAlive::default()).into_response());
    }
    // Whoever goes away takes the answer's end along, which cancels the picture.
    let pictures = drawing.answer.await.unwrap_or_else(|_| Err(stopped()))?;
    let data: Vec<Value> = pictures.iter().map(datum).collect();
    Ok(Json(json!({ "created": now(), "output_format": "png", "data": data })).into_response())
}

struct Asked {
    request: GenerateRequest,
    streamed: bool,
    model: Option<String>,
}

impl Asked {
    fn read(mut fields: Map<String, Value>) -> Result<Self, Fault> {
        let bad = |field: &str, value: &Value, remedy: &str| {
            Fault::new(FaultCode::BadRequest, format!("`{field}` is {value}"), remedy)
        };
        IDLE.iter().for_each(|field| drop(fields.remove(*field)));
        let model = match fields.remove("model") {
            None | Some(Value::Null) => None,
            Some(Value::String(model)) => Some(model),
            Some(other) => return Err(bad("model", &other, "send a name of /v1/models")),
        };
        let streamed = match fields.remove("stream") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(streamed)) => streamed,
            Some(other) => return Err(bad("stream", &other, "send true or false")),
        };
        for (field, only) in [("response_format", "b64_json"), ("output_format", "png")] {
            if let Some(value) = fields.remove(field).filter(|value| *value != only && !value.is_null()) {
                return Err(bad(field, &value, &format!("only `{only}` is made here: nothing is kept")));
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
        let [image, mask_image] = [picture(&mut fields, "image")?, picture(&mut fields, "mask_image")?];
        let ours = serde_json::to_value(GenerateRequest::of("")).expect("it is plain data");
        let known = ours.as_object().expect("a struct is an object");
        let is_former = |field: &str| GenerateRequest::FORMER_NAMES.iter().any(|(former, _)| *former == field);
        if let Some(field) = fields.keys().find(|field| !known.contains_key(*field) && !is_former(field)) {
            let remedy = "see /v1/openapi.json for the fields that there are";
            return Err(Fault::new(FaultCode::BadRequest, format!("there is no field `{field}`"), remedy));
        }
        fields.insert("id".to_owned(), 0.into());
        let request: GenerateRequest = serde_json::from_value(Value::Object(fields)).map_err(|error| {
            let remedy = "see /v1/openapi.json for what each field takes";
            Fault::new(FaultCode::BadRequest, format!("the request cannot be read: {error}"), remedy)
        })?;
        Ok(Self { request: GenerateRequest { image, mask_image, ..request }, streamed, model })
    }
}

/// The bytes of a picture, sent in base64 as it is or in a data URL.
fn picture(fields: &mut Map<String, Value>, field: &str) -> Result<Option<Vec<u8>>, Fault> {
    let Some(value) = fields.remove(field).filter(|value| !value.is_null()) else { return Ok(None) };
    let bytes = value.as_str().map(|text| text.split_once("base64,").map_or(text, |(_, base64)| base64));
    bytes.and_then(|base64| STANDARD.decode(base64).ok()).map(Some).ok_or_else(|| {
        Fault::new(FaultCode::BadRequest, format!("`{field}` is no base64"), "send the bytes of a PNG in base64")
    })
}

fn datum(picture: &Picture) -> Value {
    json!({ "b64_json": STANDARD.encode(&picture.file), "report": picture.report })
}

fn now() -> u64 {
    // A clock before 1970 is nobody's.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Steps as they come, then pictures or the fault. A client that goes away drops the stream, and with it the picture.
fn events(drawing: Drawing) -> impl futures_lite::Stream<Item = Result<Event, Infallible>> {
    enum Left {
        Steps(Drawing),
        Pictures(std::vec::IntoIter<Picture>),
        Nothing,
    }
    let event = |kind: &str, data: Value| Ok(Event::default().event(kind).data(data.to_string()));
    stream::unfold(Left::Steps(drawing), move |left| async move {
        let mut pictures = match left {
            Left::Steps(mut drawing) => {
                if let Some(Progress { image, step, total_steps }) = drawing.told.recv().await {
                    let kind = "image_generation.progress";
                    let data = json!({ "type": kind, "image": image, "step": step, "total_steps": total_steps });
                    return Some((event(kind, data), Left::Steps(drawing)));
                }
                match drawing.answer.await.unwrap_or_else(|_| Err(stopped())) {
                    Ok(pictures) => pictures.into_iter(),
                    Err(fault) => {
                        let status = Refusal::from(fault.clone()).into_response().status();
                        return Some((event("error", fault_body(status, &fault)), Left::Nothing));
                    }
                }
            }
            Left::Pictures(pictures) => pictures,
            Left::Nothing => return None,
        };
        let picture = pictures.next()?;
        let kind = "image_generation.completed";
        let mut data = datum(&picture);
        data["type"] = kind.into();
        data["created_at"] = now().into();
        data["output_format"] = "png".into();
        data["size"] = format!("{}x{}", picture.report.width, picture.report.height).into();
        Some((event(kind, data), Left::Pictures(pictures)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: Value) -> Result<Asked, Fault> {
        Asked::read(fields.as_object().expect("an object").clone())
    }

    #[test]
    fn openais_fields_become_ours() {
        let asked = read(json!({
            "prompt": "a star", "n": 2, "size": "256x128", "model": "m", "stream": true, "user": "me",
            "response_format": "b64_json", "seed": 7, "steps": 3, "guidance": 2.5,
        }));
        let Asked { request, streamed, model } = asked.unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!((streamed, model.as_deref()), (true, Some("m")));
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
    fn what_cannot_be_used_is_refused_by_name() {
        for (fields, name) in [
            (json!({ "prompt": "p", "size": "large" }), "`size` is \"large\""),
            (json!({ "prompt": "p", "response_format": "url" }), "`response_format`"),
            (json!({ "prompt": "p", "stream": 1 }), "`stream`"),
            (json!({ "prompt": "p", "colour": "red" }), "no field `colour`"),
            (json!({ "prompt": "p", "image": "%" }), "`image` is no base64"),
            (json!({ "prompt": "p", "image": "AAAA", "mask_image": 1 }), "`mask_image` is no base64"),
            (json!({ "prompt": 1 }), "the request cannot be read"),
            (json!({ "n": 1 }), "missing field `prompt`"),
        ] {
            let fault = read(fields).err().expect(name);
            assert!(fault.code == FaultCode::BadRequest && fault.what.contains(name), "{fault}");
        }
    }
}
