//! `/sdapi/v1`: the API of AUTOMATIC1111's web UI, which image tools and chat front ends speak. A request becomes one of ours
//! ([`request`]) and goes through the same queue. Fields without a counterpart are ignored, and named in the log.
//!
//! One model is loaded: `options` and `refresh-checkpoints` change nothing. Progress, interrupt and skip concern the generations of
//! this API alone, not those of `/v1`.

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, OriginalUri, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, extract::Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pixart_model::image;
use pixart_protocol::Fault;
use serde_json::{Map, Value, json};

use self::request::{ImageTask, SdRequest};
use super::api_error::{ApiError, ErrorText};
use super::fields::read_object;
use super::queue::thread_stopped;
use super::{IMAGE_BODY_BYTES_MAX, Server, method_not_allowed, not_found};
use crate::generate::{GeneratedImage, StopGeneration};

mod lists;
mod png_info;
mod request;
mod samplers;

/// The routes below `/sdapi/v1`.
pub(super) fn routes() -> Router<Server> {
    let empty_list = || get(async || Json(json!([])));
    let nothing = || post(async || Json(Value::Null));
    let images = Router::new()
        .route("/txt2img", post(txt2img))
        .route("/img2img", post(img2img))
        .route("/png-info", post(png_info::png_info))
        .layer(DefaultBodyLimit::max(IMAGE_BODY_BYTES_MAX));
    Router::new()
        .merge(images)
        .route("/progress", get(progress))
        .route("/interrupt", post(interrupt))
        .route("/skip", post(skip))
        .route("/options", get(lists::options).post(lists::set_options))
        .route("/sd-models", get(lists::models))
        .route("/samplers", get(async || Json(samplers::samplers())))
        .route("/schedulers", get(async || Json(samplers::schedulers())))
        .route("/upscalers", get(async || Json(lists::upscalers())))
        .route("/latent-upscale-modes", empty_list())
        .route("/loras", get(lists::loras))
        .route("/prompt-styles", get(async || Json(lists::styles())))
        .route("/memory", get(async || Json(lists::memory())))
        .route("/cmd-flags", get(async || Json(json!({}))))
        .route("/embeddings", get(async || Json(json!({ "loaded": {}, "skipped": {} }))))
        .route("/scripts", get(async || Json(json!({ "txt2img": [], "img2img": [] }))))
        .route("/script-info", empty_list())
        .route("/extensions", empty_list())
        .route("/sd-vae", empty_list())
        .route("/sd-modules", empty_list())
        .route("/hypernetworks", empty_list())
        .route("/face-restorers", empty_list())
        .route("/realesrgan-models", empty_list())
        .route("/refresh-checkpoints", nothing())
        .route("/refresh-loras", nothing())
        .route("/refresh-vae", nothing())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(not_found)
}

type JsonBody = Result<Json<Value>, JsonRejection>;

async fn txt2img(State(server): State<Server>, body: JsonBody) -> Result<Json<Value>, ApiError> {
    let fields = read_object(body, "a request for images", r#"send {"prompt": "..."} as application/json"#)?;
    generate(&server, ImageTask::Txt2Img, fields).await
}

async fn img2img(State(server): State<Server>, body: JsonBody) -> Result<Json<Value>, ApiError> {
    let remedy = r#"send {"prompt": "...", "init_images": ["..."]} as application/json"#;
    generate(&server, ImageTask::Img2Img, read_object(body, "a request for images", remedy)?).await
}

async fn generate(server: &Server, task: ImageTask, fields: Map<String, Value>) -> Result<Json<Value>, ApiError> {
    let info = server.loaded_model().await?;
    let aliases = server.model_aliases.clone();
    // Inverting a mask of 2048 px takes tens of milliseconds and would block the other connections.
    let reading = {
        let info = info.clone();
        tokio::task::spawn_blocking(move || SdRequest::read(task, fields, &info, &aliases))
    };
    let SdRequest { image, parameters, sampler_name, seed, subseed, send_images, ignored } =
        reading.await.expect("reading a request does not panic")?;
    if !ignored.is_empty() {
        tracing::info!(fields = ignored.join(", "), "ignored: they change nothing here");
    }
    let request = image.request;
    let steps = request.num_inference_steps;
    let pending = server.queue.generate_observed(request.clone()).map_err(|fault| server.queue_error(fault))?;
    let images = pending.result.await.unwrap_or_else(|_| Err(thread_stopped()))?;
    let seeds: Vec<u32> = images.iter().map(|image| image.report.seed).collect();
    let subseeds: Vec<u32> = (0..images.len() as u32).map(|index| subseed.wrapping_add(index)).collect();
    let [width, height] = images.first().map_or([0; 2], |image| [image.report.width, image.report.height]);
    let mut notes = image.notes;
    notes.extend(images.iter().flat_map(|image| image.report.notes.clone()));
    notes.dedup();
    let infotexts: Vec<String> = images.iter().map(|image| infotext(image)).collect();
    let repeated = |text: &str| vec![text.to_owned(); images.len()];
    let described = json!({
        "prompt": parameters["prompt"],
        "all_prompts": repeated(parameters["prompt"].as_str().unwrap_or_default()),
        "negative_prompt": parameters["negative_prompt"],
        "all_negative_prompts": repeated(parameters["negative_prompt"].as_str().unwrap_or_default()),
        "seed": seed,
        "all_seeds": seeds,
        "subseed": subseed,
        "all_subseeds": subseeds,
        "subseed_strength": parameters["subseed_strength"],
        "width": width,
        "height": height,
        "sampler_name": sampler_name,
        "cfg_scale": request.guidance_scale,
        "steps": steps,
        "batch_size": parameters["batch_size"],
        "restore_faces": false,
        "face_restoration_model": null,
        "sd_model_name": info.id,
        "sd_model_hash": lists::short_hash(&info),
        "sd_vae_name": null,
        "sd_vae_hash": null,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": request.strength.or(request.hires_strength),
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": infotexts,
        "styles": parameters["styles"],
        "job_timestamp": "",
        "clip_skip": 1,
        "is_using_inpainting_conditioning": false,
        "version": concat!("pixart-web ", env!("CARGO_PKG_VERSION")),
        "comments": notes.join("\n"),
    });
    let encoded: Vec<String> =
        if send_images { images.iter().map(|image| STANDARD.encode(&image.file)).collect() } else { Vec::new() };
    Ok(Json(json!({ "images": encoded, "parameters": parameters, "info": described.to_string() })))
}

/// The text `parameters` of a generated PNG.
fn infotext(image: &GeneratedImage) -> String {
    png_info::texts(&image.file).and_then(|mut texts| texts.remove("parameters")).unwrap_or_default()
}

async fn progress(State(server): State<Server>, OriginalUri(uri): OriginalUri) -> Json<Value> {
    let running = server.queue.running();
    let with_image = !uri.query().unwrap_or_default().split('&').any(|pair| {
        pair.strip_prefix("skip_current_image=")
            .is_some_and(|value| ["true", "1"].contains(&value.to_lowercase().as_str()))
    });
    let is = |stop| running.as_ref().is_some_and(|running| running.stop == Some(stop));
    let step = running.as_ref().and_then(|running| running.progress.as_ref());
    let (index, step, steps) = step.map_or((0, 0, 0), |step| (step.image_index, step.step, step.total_steps));
    let images = running.as_ref().map_or(0, |running| running.images);
    let part = match (images, steps) {
        (0, _) => 0.0,
        // AUTOMATIC1111's progress of a job that has done no step.
        (_, 0) => 0.01,
        _ => (0.01 + (f64::from(index) + f64::from(step) / f64::from(steps)) / f64::from(images)).min(1.0),
    };
    let elapsed = running.as_ref().map_or(0.0, |running| running.began.elapsed().as_secs_f64());
    let remaining = if part > 0.0 { elapsed / part - elapsed } else { 0.0 };
    let preview = running.as_ref().and_then(|running| running.preview.as_ref()).filter(|_| with_image);
    let current_image =
        preview.and_then(|preview| image::encode_png(preview, &[]).ok()).map(|png| STANDARD.encode(png));
    Json(json!({
        "progress": part,
        "eta_relative": remaining,
        "state": {
            "skipped": is(StopGeneration::Skip),
            "interrupted": is(StopGeneration::Interrupt),
            "stopping_generation": false,
            "job": if running.is_some() { "scripts_txt2img" } else { "" },
            "job_count": images,
            "job_timestamp": "0",
            "job_no": index,
            "sampling_step": step,
            "sampling_steps": steps,
        },
        "current_image": current_image,
        "textinfo": null,
    }))
}

async fn interrupt(State(server): State<Server>) -> Json<Value> {
    server.queue.stop_running(StopGeneration::Interrupt);
    Json(json!({}))
}

async fn skip(State(server): State<Server>) -> Json<Value> {
    server.queue.stop_running(StopGeneration::Skip);
    Json(Value::Null)
}

/// Middleware that writes errors as AUTOMATIC1111 does, with the fields of our faults beside its own.
pub(super) async fn rewrite_errors(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let Some(ErrorText { kind, fault }) = response.extensions_mut().remove() else { return response };
    let message = format!("{}; {}", fault.what, fault.remedy);
    let Fault { code, what, remedy } = fault;
    let body = json!({
        "error": kind, "detail": message, "body": "", "errors": message, "code": code, "what": what, "remedy": remedy,
    });
    let body = body.to_string();
    let headers: &mut HeaderMap = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    *response.body_mut() = Body::from(body);
    response.into_response()
}

/// The layer of [`rewrite_errors`].
pub(super) fn with_errors(router: Router<Server>) -> Router<Server> {
    router.layer(middleware::from_fn(rewrite_errors))
}
