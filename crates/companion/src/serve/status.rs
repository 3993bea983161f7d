//! Routes that describe the server: models, OpenAPI document, health and metrics.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::image_request::unknown_model;
use super::openapi::OPENAPI;
use super::{ModelInfo, Server};

/// The loaded model under its own name, then under each alias.
pub(super) async fn models(State(server): State<Server>) -> Json<Value> {
    let info = server.model_info();
    let names = info.iter().flat_map(|info| std::iter::once(&info.id).chain(&*server.model_aliases));
    let data: Vec<Value> = names.zip(info.iter().cycle()).map(|(name, info)| model_object(name, info)).collect();
    Json(json!({ "object": "list", "data": data }))
}

pub(super) async fn model(State(server): State<Server>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let info = server.loaded_model().await?;
    match name == info.id || server.model_aliases.contains(&name) {
        true => Ok(Json(model_object(&name, &info))),
        false => Err(unknown_model(&name, &info)),
    }
}

/// OpenAI's model object, with the fields of [`ModelInfo`]. `root` is the model that an alias stands for, as in vLLM.
fn model_object(name: &str, info: &ModelInfo) -> Value {
    let mut model = serde_json::to_value(info).expect("it is plain data");
    model["id"] = name.into();
    model["root"] = info.id.clone().into();
    model["object"] = "model".into();
    model["owned_by"] = "pixart".into();
    model["created"] = 0.into();
    model
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
    } else if server.model_info().is_none() {
        (StatusCode::SERVICE_UNAVAILABLE, "loading\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

pub(super) async fn metrics(State(server): State<Server>) -> impl IntoResponse {
    let text = server.metrics.to_text(server.queue.queued());
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
