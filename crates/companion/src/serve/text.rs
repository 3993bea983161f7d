//! `POST /v1/encode`: captions → text embeddings. The response is JSON, or the file that `pixart encode` writes where the
//! request accepts `application/safetensors`.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use pixart_protocol::{EncodeRequest, Fault, FaultCode};
use serde_json::Value;

use super::fields::read_object;
use super::{ApiError, Server};
use crate::embeds;

const SAFETENSORS: &str = "application/safetensors";

pub(super) async fn encode(
    State(server): State<Server>,
    headers: HeaderMap,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, ApiError> {
    let remedy = r#"send {"captions": ["...", "..."]} as application/json"#;
    let fields = read_object(body, "an encode request", remedy)?;
    let request: EncodeRequest = serde_json::from_value(Value::Object(fields)).map_err(|error| {
        let fault = Fault::new(FaultCode::BadRequest, format!("the body is not an encode request: {error}"), remedy);
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, fault)
    })?;
    request.validate()?;
    let captions = request.captions.clone();
    let reply = server.queue.encode(request).await.map_err(|fault| server.queue_error(fault))?;
    let accepts = headers.get(ACCEPT).and_then(|accepts| accepts.to_str().ok()).unwrap_or_default();
    let as_file = accepts.contains(SAFETENSORS);
    let kind = if as_file { SAFETENSORS } else { "application/json" };
    // Formatting a hundred thousand numbers takes milliseconds and would block the other connections.
    let written = tokio::task::spawn_blocking(move || match as_file {
        true => embeds::write(&reply, &captions),
        false => serde_json::to_vec(&reply).expect("numbers are always JSON"),
    });
    let body = written.await.expect("formatting numbers does not panic");
    Ok(([(CONTENT_TYPE, kind)], body).into_response())
}

impl Server {
    /// Error of the queue, with `Retry-After` where the queue is full.
    pub(super) fn queue_error(&self, fault: Fault) -> ApiError {
        let is_busy = fault.code == FaultCode::Busy;
        let error = ApiError::from(fault);
        if is_busy { error.retry_after(self.queue.estimated_wait_seconds()) } else { error }
    }
}
