//! The lists of `/sdapi/v1`: models, LoRAs, styles, upscalers, options; and the memory.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use pixart_protocol::{Fault, FaultCode, STYLES};
use serde_json::{Value, json};

use super::request::is_model;
use crate::serve::api_error::ApiError;
use crate::serve::fields::read_object;
use crate::serve::{ModelInfo, Server};

/// Characters of a short hash.
const SHORT_HASH_CHARS: usize = 10;

pub(super) fn short_hash(info: &ModelInfo) -> &str {
    info.fingerprint.get(..SHORT_HASH_CHARS).unwrap_or(&info.fingerprint)
}

/// The loaded model's name with its hash, as AUTOMATIC1111 shows it.
fn title(info: &ModelInfo) -> String {
    format!("{} [{}]", info.id, short_hash(info))
}

pub(super) async fn models(State(server): State<Server>) -> Json<Value> {
    let item = |info: &ModelInfo| {
        json!({
            "title": title(info), "model_name": info.id, "hash": short_hash(info), "sha256": info.fingerprint,
            "filename": info.id, "config": null,
        })
    };
    Json(server.model_info().iter().map(item).collect())
}

/// The options that clients read. None can be set.
pub(super) async fn options(State(server): State<Server>) -> Json<Value> {
    let info = server.model_info();
    Json(json!({
        "sd_model_checkpoint": info.as_ref().map(title),
        "sd_checkpoint_hash": info.as_ref().map(|info| &info.fingerprint),
        "sd_vae": "Automatic",
        "samples_format": "png",
        "CLIP_stop_at_last_layers": 1,
        "eta_noise_seed_delta": 0,
        "enable_pnginfo": true,
        "live_previews_enable": true,
        "show_progress_every_n_steps": 1,
        "img2img_fix_steps": false,
    }))
}

/// Refuses another model; every other option is ignored, and named in the log.
pub(super) async fn set_options(
    State(server): State<Server>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let mut fields =
        read_object(body, "an object of options", r#"send {"sd_model_checkpoint": "..."} as application/json"#)?;
    if let Some(model) = fields.remove("sd_model_checkpoint") {
        let info = server.loaded_model().await?;
        if !model.as_str().is_some_and(|name| is_model(name, &info, &server.model_aliases)) {
            let what = format!("the option `sd_model_checkpoint` names another model than `{}`", info.id);
            let remedy = format!("send `{}`, or start a companion with the other model", info.id);
            let fault = Fault::new(FaultCode::BadRequest, what, remedy);
            return Err(ApiError::new(StatusCode::NOT_FOUND, fault).parameter("sd_model_checkpoint", "model_not_found"));
        }
    }
    if !fields.is_empty() {
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        tracing::info!(options = names.join(", "), "ignored: they change nothing here");
    }
    Ok(Json(Value::Null))
}

pub(super) async fn loras(State(server): State<Server>) -> Json<Value> {
    let info = server.model_info();
    let loras = info.iter().flat_map(|info| &info.loras);
    let item = |name: &String| json!({ "name": name, "alias": name, "path": name, "metadata": {} });
    Json(loras.map(|lora| item(&lora.name)).collect())
}

pub(super) fn styles() -> Value {
    let item = |style: &pixart_protocol::Style| json!({ "name": style.name, "prompt": style.prompt, "negative_prompt": style.negative_prompt });
    STYLES.iter().map(item).collect()
}

pub(super) fn upscalers() -> Value {
    let item =
        |name: &str| json!({ "name": name, "model_name": null, "model_path": null, "model_url": null, "scale": 4 });
    ["None", "Lanczos"].map(item).into_iter().collect()
}

/// The memory of the computer and of this process in bytes, on Linux.
pub(super) fn memory() -> Value {
    let unknown = || json!({ "error": "not known on this system" });
    let ram = ram().map(|(used, total)| json!({ "free": total.saturating_sub(used), "used": used, "total": total }));
    json!({ "ram": ram.unwrap_or_else(unknown), "cuda": unknown() })
}

/// The memory that this process uses, and that of the computer.
fn ram() -> Option<(u64, u64)> {
    let bytes = |path: &str, field: &str| -> Option<u64> {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(field))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    };
    Some((bytes("/proc/self/status", "VmRSS:")?, bytes("/proc/meminfo", "MemTotal:")?))
}
