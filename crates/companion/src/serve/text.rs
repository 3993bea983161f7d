//! `POST /v1/encode`: captions → text embeddings, as JSON or, where the caller accepts `application/safetensors`, as the
//! file that `pixart encode` writes.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use pixart_protocol::{EncodeRequest, Fault, FaultCode};

use super::{Refusal, Server};
use crate::embeds;

const SAFETENSORS: &str = "application/safetensors";

pub(super) async fn encode(
    State(server): State<Server>,
    headers: HeaderMap,
    body: Result<Json<EncodeRequest>, JsonRejection>,
) -> Result<Response, Refusal> {
    let remedy = r#"send {"captions": ["...", "..."]} as application/json"#;
    let Json(request) = body.map_err(|rejection| Refusal::unreadable("an encode request", &rejection, remedy))?;
    request.validate()?;
    let captions = request.captions.clone();
    let reply = server.queue.encode(request).await.map_err(|fault| server.refused(fault))?;
    let accepts = headers.get(ACCEPT).and_then(|accepts| accepts.to_str().ok()).unwrap_or_default();
    let as_file = accepts.contains(SAFETENSORS);
    let kind = if as_file { SAFETENSORS } else { "application/json" };
    // Text of a hundred thousand numbers takes milliseconds, in which nobody else would be answered.
    let written = tokio::task::spawn_blocking(move || match as_file {
        true => embeds::write(&reply, &captions),
        false => serde_json::to_vec(&reply).expect("numbers are always JSON"),
    });
    let body =
        written.await.map_err(|_| Fault::new(FaultCode::Internal, "the reply could not be written", "ask again"))?;
    Ok(([(CONTENT_TYPE, kind)], body).into_response())
}

impl Server {
    /// A fault of the queue, with the time after which to try again where it is full.
    pub(super) fn refused(&self, fault: Fault) -> Refusal {
        let is_busy = fault.code == FaultCode::Busy;
        let refusal = Refusal::from(fault);
        if is_busy { refusal.retry_after(self.queue.seconds_left()) } else { refusal }
    }
}
