//! Routes that describe the server: models, OpenAPI document, health and metrics.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::Server;

/// OpenAPI description of the HTTP API.
const OPENAPI: &str = include_str!("openapi.json");

pub(super) async fn models(State(server): State<Server>) -> Json<Value> {
    let models: Vec<Value> = server
        .model_info
        .get()
        .into_iter()
        .map(|info| {
            let mut model = serde_json::to_value(info).expect("it is plain data");
            model["object"] = "model".into();
            model["owned_by"] = "pixart".into();
            model["created"] = 0.into();
            model
        })
        .collect();
    Json(json!({ "object": "list", "data": models }))
}

pub(super) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

pub(super) async fn health() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(server): State<Server>) -> (StatusCode, &'static str) {
    if server.stopping.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if server.model_info.get().is_none() {
        (StatusCode::SERVICE_UNAVAILABLE, "loading\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

pub(super) async fn metrics(State(server): State<Server>) -> impl IntoResponse {
    let text = server.metrics.to_text(server.queue.queued());
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
