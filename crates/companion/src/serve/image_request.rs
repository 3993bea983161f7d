//! Body of `POST /v1/images/generations`: OpenAI's fields beside those of our generate request. A field that is `null` counts as
//! left out. Fields that cannot change the reply are checked and ignored; a value that asks for another reply than the server
//! can give is refused by name.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use axum::http::StatusCode;
use pixart_protocol::{Fault, FaultCode, GenerateRequest, Limits, OutputType, Preset};
use serde_json::{Map, Value};

use super::ModelInfo;
use super::api_error::ApiError;
use super::base64_input;
use super::fields::{Field, take};

/// Values of OpenAI's `quality`. None changes the image.
const QUALITIES: &str = "auto, standard, hd, low, medium, high, xhigh, max";
/// Values of OpenAI's `style`. None changes the image; every other value names a style of ours.
const OPENAI_STYLES: [&str; 2] = ["vivid", "natural"];
/// Fields of a request that it is written without where they are off.
const OMITTED_FIELDS: [&str; 6] =
    ["prompt_weighting", "variation_seed", "variation_strength", "hires_scale", "hires_strength", "hires_steps"];
/// Fields that identify an end user to OpenAI.
const USER_FIELDS: [&str; 2] = ["user", "safety_identifier"];

/// How images are returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ResponseFormat {
    /// Their bytes in base64.
    #[default]
    Base64,
    /// An address that serves them for a while.
    Url,
}

/// The body of a request, read and resolved for the loaded model.
#[derive(Debug)]
pub(super) struct ImageRequest {
    pub(super) request: GenerateRequest,
    pub(super) stream: bool,
    pub(super) response_format: ResponseFormat,
    /// Differences between the request and the images, for the client.
    pub(super) notes: Vec<String>,
}

impl ImageRequest {
    /// Reads `fields`, none of them null, for the model `info`, which also answers to `aliases`.
    pub(super) fn read(mut fields: Map<String, Value>, info: &ModelInfo, aliases: &[String]) -> Result<Self, ApiError> {
        fields.values_mut().for_each(whole_numbers);
        check_model(&mut fields, info, aliases)?;
        take_ignored(&mut fields)?;
        let stream = match take(&mut fields, "stream") {
            None => false,
            Some(Field { value: Value::Bool(stream), .. }) => stream,
            Some(other) => return Err(other.invalid("send true or false")),
        };
        if let Some(count) = take(&mut fields, "partial_images") {
            let is_valid = count.value.as_u64().is_some_and(|count| count <= 3);
            is_valid.then_some(()).ok_or_else(|| count.invalid("send a whole number from 0 to 3"))?;
        }
        let response_format = match take(&mut fields, "response_format") {
            None => ResponseFormat::default(),
            Some(Field { value, .. }) if value == "b64_json" => ResponseFormat::Base64,
            Some(Field { value, .. }) if value == "url" => ResponseFormat::Url,
            Some(other) => return Err(other.invalid("send `b64_json` or `url`")),
        };
        let mut notes = Vec::new();
        if let Some(size) = take(&mut fields, "size").filter(|size| size.value != "auto") {
            if let Some(side) = ["width", "height"].into_iter().find(|side| fields.contains_key(*side)) {
                let what = format!("both `size` and `{side}` are given");
                let fault = Fault::new(FaultCode::BadRequest, what, format!("leave out `size` or `{side}`"));
                return Err(ApiError::from(fault).parameter(side, "invalid_value"));
            }
            let [width, height] = parse_size(&size)?;
            let [nearest_width, nearest_height] = match &info.limits {
                Some(limits) => nearest_size(limits, [width, height]),
                None => [width, height],
            };
            if [nearest_width, nearest_height] != [width, height] {
                notes.push(format!(
                    "The model `{}` cannot generate {width}x{height}; the size is {nearest_width}x{nearest_height}.",
                    info.id
                ));
            }
            fields.insert("width".to_owned(), nearest_width.into());
            fields.insert("height".to_owned(), nearest_height.into());
        }
        if fields.get("style").and_then(Value::as_str).is_some_and(|style| OPENAI_STYLES.contains(&style)) {
            fields.remove("style");
        }
        random_seeds(&mut fields);
        let image = take(&mut fields, "image").map(image_bytes).transpose()?;
        let mask_image = take(&mut fields, "mask_image").map(image_bytes).transpose()?;
        let request = overlay(fields, info.preset.as_ref())?;
        if request.record {
            let fault = Fault::new(
                FaultCode::BadRequest,
                "`record` is true",
                "leave `record` out; `pixart generate --record` writes recordings",
            );
            return Err(ApiError::from(fault).parameter("record", "invalid_value"));
        }
        let request = GenerateRequest { image, mask_image, ..request };
        // The device would refuse it too, but after its place in the queue, and in the middle of a stream.
        info.limits.as_ref().map(|limits| request.resolve(limits)).transpose()?;
        Ok(Self { request, stream, response_format, notes })
    }

    /// Name of the files' format, which is also their extension.
    pub(super) fn output_format(&self) -> &'static str {
        if self.request.output_type == OutputType::Png { "png" } else { "safetensors" }
    }
}

/// Takes `model` and checks that the loaded model answers to it.
fn check_model(fields: &mut Map<String, Value>, info: &ModelInfo, aliases: &[String]) -> Result<(), ApiError> {
    let Some(model) = take(fields, "model") else { return Ok(()) };
    match model.value.as_str() {
        // Clients with an optional setting send an empty text.
        Some("") => Ok(()),
        Some(name) if name == info.id || aliases.iter().any(|alias| alias == name) => Ok(()),
        Some(name) => Err(unknown_model(name, info)),
        None => Err(model.invalid("send a model id of /v1/models")),
    }
}

/// Error of a model that is not loaded.
pub(super) fn unknown_model(name: &str, info: &ModelInfo) -> ApiError {
    let id = &info.id;
    let what = format!("no model `{name}` is loaded");
    let remedy = format!("leave `model` out, send `{id}`, or start the companion with --model-alias {name}={id}");
    ApiError::new(StatusCode::NOT_FOUND, Fault::new(FaultCode::BadRequest, what, remedy))
        .parameter("model", "model_not_found")
}

/// Takes the fields that change nothing in the reply, and refuses those of their values that would.
fn take_ignored(fields: &mut Map<String, Value>) -> Result<(), ApiError> {
    let one_of = |field: &Field, values: &str| {
        field.value.as_str().is_some_and(|value| values.split(", ").any(|known| known == value))
    };
    for (name, values) in [("quality", QUALITIES), ("moderation", "auto, low"), ("complexity", "low, medium, high")] {
        if let Some(field) = take(fields, name).filter(|field| !one_of(field, values)) {
            return Err(field.invalid(&format!("send one of {values}, or leave it out")));
        }
    }
    if let Some(field) = take(fields, "background").filter(|field| !one_of(field, "auto, opaque")) {
        return Err(field.invalid("send `auto` or `opaque`: the model generates opaque images"));
    }
    if let Some(field) = take(fields, "output_format").filter(|field| field.value != "png") {
        return Err(field.invalid("send `png`, the only format that the companion writes, or leave it out"));
    }
    if let Some(field) = take(fields, "output_compression") {
        let is_valid = field.value.as_f64().is_some_and(|percent| (0.0..=100.0).contains(&percent));
        is_valid.then_some(()).ok_or_else(|| field.invalid("send a number from 0 to 100"))?;
    }
    for name in USER_FIELDS {
        if let Some(field) = take(fields, name).filter(|field| !field.value.is_string()) {
            return Err(field.invalid("send a string, or leave it out"));
        }
    }
    Ok(())
}

/// Replaces numbers such as `3.0` and `-0` by whole numbers, which JavaScript and Python do not tell apart.
fn whole_numbers(value: &mut Value) {
    /// The largest range in which every whole number has an f64.
    const EXACT_MAX: f64 = (1_u64 << 53) as f64;
    match value {
        Value::Array(values) => values.iter_mut().for_each(whole_numbers),
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= EXACT_MAX);
            if let Some(whole) = whole {
                *value = (whole as i64).into();
            }
        }
        _ => {}
    }
}

/// Width and height of `size`.
fn parse_size(size: &Field) -> Result<[u32; 2], ApiError> {
    let side = |text: &str| text.trim().parse::<u32>().ok().filter(|side| *side > 0);
    let sides = size.value.as_str().and_then(|text| text.split_once(['x', 'X', '×']));
    let sides = sides.and_then(|(width, height)| Some([side(width)?, side(height)?]));
    sides.ok_or_else(|| size.invalid("send it as `512x512`, width first, or `auto`"))
}

/// Returns the size nearest to `[width, height]` that the model can generate, in the same aspect ratio as far as it goes.
fn nearest_size(limits: &Limits, sides: [u32; 2]) -> [u32; 2] {
    let multiple = if limits.binned { 1 } else { limits.size_multiple };
    let (least, most) = (limits.size_min.next_multiple_of(multiple), limits.size_max / multiple * multiple);
    if sides.iter().all(|side| (least..=most).contains(side) && side % multiple == 0) {
        return sides;
    }
    let [longer, shorter] = [sides[0].max(sides[1]), sides[0].min(sides[1])].map(f64::from);
    let scale = (f64::from(least) / shorter).max(1.0).min(f64::from(most) / longer);
    sides.map(|side| {
        let units = (f64::from(side) * scale / f64::from(multiple)).round() as u32;
        units.saturating_mul(multiple).clamp(least, most)
    })
}

/// Replaces seeds of -1 by random ones, as A1111's web UI does.
fn random_seeds(fields: &mut Map<String, Value>) {
    let replace = |seed: &mut Value| {
        if *seed == -1 {
            *seed = random_seed().into();
        }
    };
    for name in ["seed", "variation_seed"] {
        fields.get_mut(name).map(replace);
    }
    if let Some(Value::Array(seeds)) = fields.get_mut("seeds") {
        seeds.iter_mut().for_each(replace);
    }
}

/// Returns a seed that no earlier call returned, most likely. The keys of a `RandomState` come from the operating system.
pub(super) fn random_seed() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

/// Decodes an image field: base64 as MIME and URLs write it, alone or in a data URL.
fn image_bytes(field: Field) -> Result<Vec<u8>, ApiError> {
    let decoded = field.value.as_str().and_then(base64_input::decode);
    decoded.ok_or_else(|| {
        let what = format!("`{}` is not base64", field.name);
        let fault = Fault::new(
            FaultCode::BadRequest,
            what,
            "send the bytes of a PNG, JPEG or WebP file in base64, or a data URL of them",
        );
        ApiError::from(fault).parameter(&field.name, "invalid_value")
    })
}

/// Returns the request of `preset` with `fields`.
fn overlay(fields: Map<String, Value>, preset: Option<&Preset>) -> Result<GenerateRequest, ApiError> {
    let mut base = preset.cloned().map_or_else(|| GenerateRequest::of(""), |preset| preset.request(""));
    // A schedule in the request replaces the preset's timesteps.
    let schedules = ["num_inference_steps", "steps", "sigmas", "timesteps"];
    if schedules.iter().any(|name| fields.contains_key(*name)) {
        base.timesteps = None;
    }
    let Value::Object(mut whole) = serde_json::to_value(base).expect("it is plain data") else {
        unreachable!("a struct is an object")
    };
    if !fields.contains_key("prompt") {
        let fault = Fault::new(FaultCode::BadRequest, "the request has no `prompt`", r#"send {"prompt": "..."}"#);
        return Err(ApiError::from(fault).parameter("prompt", "missing_required_parameter"));
    }
    for (name, value) in fields {
        let mut other_names = GenerateRequest::FORMER_NAMES.into_iter().chain([("n", "num_images_per_prompt")]);
        let current =
            other_names.find(|(other, _)| *other == name).map_or(name.clone(), |(_, current)| current.to_owned());
        let field = Field { name, value };
        // Files are not among the fields of a request without them.
        if current == "latents" || !(whole.contains_key(&current) || OMITTED_FIELDS.contains(&current.as_str())) {
            return Err(field.unknown());
        }
        whole.insert(current.clone(), field.value.clone());
        // Read one by one, an invalid value is known by its field.
        if serde_json::from_value::<GenerateRequest>(Value::Object(whole.clone())).is_err() {
            return Err(field.invalid_type(&current));
        }
    }
    Ok(serde_json::from_value(Value::Object(whole)).expect("every field was read above"))
}

#[cfg(test)]
pub(super) mod tests;
