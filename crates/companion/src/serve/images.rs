//! `POST /v1/images/generations`: a prompt → images, in the format of OpenAI's image API. The module `image_request` reads the
//! body. With `"stream": true` each step is sent as a server-sent event.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_lite::stream;
use serde_json::{Value, json};

use super::Server;
use super::api_error::ApiError;
use super::fields::read_object;
use super::image_request::{ImageRequest, ResponseFormat};
use super::image_store::{self, ImageStore};
use super::queue::{PendingGeneration, thread_stopped};
use crate::generate::{GeneratedImage, GenerationProgress};

pub(super) async fn generate(
    State(server): State<Server>,
    headers: HeaderMap,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, ApiError> {
    let remedy = r#"send {"prompt": "..."} as application/json"#;
    let fields = read_object(body, "an image request", remedy)?;
    let info = server.loaded_model().await?;
    let parsed = ImageRequest::read(fields, &info, &server.model_aliases)?;
    let writer = ReplyWriter {
        output_format: parsed.output_format(),
        notes: parsed.notes,
        urls: (parsed.response_format == ResponseFormat::Url)
            .then(|| (base_url(&headers), Arc::clone(&server.image_store))),
    };
    let pending = server.queue.generate(parsed.request).map_err(|fault| server.queue_error(fault))?;
    if parsed.stream {
        return Ok(Sse::new(events(pending, writer)).keep_alive(KeepAlive::default()).into_response());
    }
    // A client that disconnects drops this future, and with it the receiver, which cancels the generation.
    let images = pending.result.await.unwrap_or_else(|_| Err(thread_stopped()))?;
    Ok(Json(writer.reply(images)).into_response())
}

/// Address of this server as the client knows it.
fn base_url(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = if text("x-forwarded-proto") == Some("https") { "https" } else { "http" };
    format!("{scheme}://{}", text(HOST.as_str()).unwrap_or("127.0.0.1"))
}

/// Writes images as a request asks for them.
struct ReplyWriter {
    output_format: &'static str,
    notes: Vec<String>,
    /// The server's address and its store, where images are returned by URL.
    urls: Option<(String, Arc<ImageStore>)>,
}

impl ReplyWriter {
    /// The whole response. OpenAI's clients do not read `notes`.
    fn reply(&self, images: Vec<GeneratedImage>) -> Value {
        let mut reply = self.common(images.first());
        reply["created"] = now().into();
        reply["data"] = images.into_iter().map(|image| self.image(image)).collect();
        reply
    }

    /// The event of one finished image.
    fn completed(&self, image: GeneratedImage) -> Value {
        let mut event = self.common(Some(&image));
        event["type"] = COMPLETED.into();
        event["created_at"] = now().into();
        let Value::Object(fields) = self.image(image) else { unreachable!("it is an object") };
        event.as_object_mut().expect("it is an object").extend(fields);
        event
    }

    /// Fields of a response and of an event.
    fn common(&self, image: Option<&GeneratedImage>) -> Value {
        let size = image.map(|image| format!("{}x{}", image.report.width, image.report.height));
        let notes: Vec<&String> = self.notes.iter().chain(image.iter().flat_map(|image| &image.report.notes)).collect();
        json!({
            "background": "opaque",
            "quality": "auto",
            "output_format": self.output_format,
            "size": size,
            "notes": notes,
        })
    }

    /// An element of `data`.
    fn image(&self, GeneratedImage { file, report, .. }: GeneratedImage) -> Value {
        match &self.urls {
            None => json!({ "b64_json": STANDARD.encode(&file), "report": report }),
            Some((base, store)) => {
                let name = store.insert(file, self.output_format);
                json!({ "url": format!("{base}{}/{name}", image_store::PATH), "report": report })
            }
        }
    }
}

/// Type of the event of a finished image.
const COMPLETED: &str = "image_generation.completed";

/// Unix time in seconds.
fn now() -> u64 {
    // A clock set before 1970 gives 0.
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Server-sent events: one per step, then one per image or an error. A client that disconnects drops the stream, which cancels
/// the generation.
fn events(
    pending: PendingGeneration,
    writer: ReplyWriter,
) -> impl futures_lite::Stream<Item = Result<Event, Infallible>> {
    enum StreamState {
        Steps(PendingGeneration),
        Images(std::vec::IntoIter<GeneratedImage>),
        Ended,
    }
    let event = |kind: &str, data: Value| Ok(Event::default().event(kind).data(data.to_string()));
    stream::unfold((StreamState::Steps(pending), writer), move |(state, writer)| async move {
        let mut images = match state {
            StreamState::Steps(mut pending) => {
                if let Some(GenerationProgress { image_index, step, total_steps, pass, .. }) =
                    pending.progress.recv().await
                {
                    let kind = "image_generation.progress";
                    let data = json!({
                        "type": kind, "image_index": image_index, "step": step, "total_steps": total_steps, "pass": pass,
                    });
                    return Some((event(kind, data), (StreamState::Steps(pending), writer)));
                }
                match pending.result.await.unwrap_or_else(|_| Err(thread_stopped())) {
                    Ok(images) => images.into_iter(),
                    Err(fault) => {
                        let error = event("error", ApiError::from(fault).body());
                        return Some((error, (StreamState::Ended, writer)));
                    }
                }
            }
            StreamState::Images(images) => images,
            StreamState::Ended => return None,
        };
        let image = images.next()?;
        let completed = event(COMPLETED, writer.completed(image));
        Some((completed, (StreamState::Images(images), writer)))
    })
}
