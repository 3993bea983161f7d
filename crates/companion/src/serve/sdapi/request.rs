//! Bodies of `POST /sdapi/v1/txt2img` and `/img2img`: AUTOMATIC1111's fields, with its defaults, as fields of our request. What
//! nothing here corresponds to is ignored, and named in the log.

use axum::http::StatusCode;
use pixart_model::image::{self, Rgb8};
use pixart_protocol::{Fault, FaultCode, STYLES};
use serde_json::{Map, Value, json};

use super::samplers::our_scheduler;
use crate::serve::ModelInfo;
use crate::serve::api_error::ApiError;
use crate::serve::base64_input;
use crate::serve::fields::Field;
use crate::serve::image_request::{ImageRequest, random_seed};

/// The two routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImageTask {
    Txt2Img,
    Img2Img,
}

/// A body, read for the loaded model.
#[derive(Debug)]
pub(super) struct SdRequest {
    pub(super) image: ImageRequest,
    /// All fields of the body with their defaults, as the reply repeats them.
    pub(super) parameters: Map<String, Value>,
    pub(super) sampler_name: String,
    pub(super) seed: u32,
    pub(super) subseed: u32,
    pub(super) send_images: bool,
    /// Fields that changed nothing.
    pub(super) ignored: Vec<String>,
}

/// Fields that change the image or the reply; others are ignored.
const USED: [&str; 29] = [
    "prompt",
    "negative_prompt",
    "styles",
    "seed",
    "subseed",
    "subseed_strength",
    "batch_size",
    "n_iter",
    "steps",
    "cfg_scale",
    "width",
    "height",
    "eta",
    "sampler_name",
    "sampler_index",
    "scheduler",
    "send_images",
    "denoising_strength",
    "enable_hr",
    "hr_scale",
    "hr_resize_x",
    "hr_resize_y",
    "hr_second_pass_steps",
    "init_images",
    "mask",
    "inpainting_mask_invert",
    "inpainting_fill",
    "include_init_images",
    "override_settings",
];

/// Schedulers of ours that read `eta`.
const SCHEDULERS_WITH_ETA: [&str; 2] = ["ddim", "tcd"];
/// `inpainting_fill` that starts the masked area from noise alone.
const FILL_LATENT_NOISE: f64 = 2.0;
/// The other one that does not start from the image under the mask.
const FILL_LATENT_NOTHING: f64 = 3.0;

/// AUTOMATIC1111's fields and their defaults: those of both routes, and of each.
const DEFAULTS: &str = include_str!("request/defaults.json");

fn defaults(task: ImageTask) -> Map<String, Value> {
    let mut all: Map<String, Value> = serde_json::from_str(DEFAULTS).expect("a test reads it");
    let own = if task == ImageTask::Txt2Img { "txt2img" } else { "img2img" };
    let mut part = |name: &str| match all.remove(name) {
        Some(Value::Object(fields)) => fields,
        _ => unreachable!("a test reads it"),
    };
    let mut fields = part("both");
    fields.extend(part(own));
    fields
}

impl SdRequest {
    /// Reads `fields`, none of them null, for the model `info`, which also answers to `aliases`.
    pub(super) fn read(
        task: ImageTask,
        fields: Map<String, Value>,
        info: &ModelInfo,
        aliases: &[String],
    ) -> Result<Self, ApiError> {
        let known = defaults(task);
        let is_ignored = |name: &String, value: &Value| {
            let is_off = known.get(name) == Some(value) || *value == false;
            !known.contains_key(name) || !(USED.contains(&name.as_str()) || is_off)
        };
        let mut ignored: Vec<String> =
            fields.iter().filter(|(name, value)| is_ignored(name, value)).map(|(name, _)| name.clone()).collect();
        let mut parameters = known.clone();
        parameters.extend(fields.into_iter().filter(|(name, _)| known.contains_key(name)));
        let body = Body(&parameters);

        let mut ours = Map::new();
        let (prompt, loras) = without_extra_networks(body.text("prompt")?);
        ignored.extend(loras.into_iter().filter(|name| !info.loras.iter().any(|lora| lora.name == *name)));
        ours.insert("prompt".into(), prompt.into());
        ours.insert("negative_prompt".into(), without_extra_networks(body.text("negative_prompt")?).0.into());
        ours.insert("prompt_weighting".into(), true.into());
        let (width, height) = (body.whole("width")?, body.whole("height")?);
        ours.insert("size".into(), format!("{width}x{height}").into());
        ours.insert("num_inference_steps".into(), body.whole("steps")?.into());
        ours.insert("guidance_scale".into(), body.number("cfg_scale")?.into());
        let sampler_name = match parameters["sampler_name"] {
            Value::Null => body.text("sampler_index")?,
            _ => body.text("sampler_name")?,
        };
        let sampler_name = if sampler_name.is_empty() { "Euler" } else { sampler_name }.to_owned();
        let scheduler = if parameters["scheduler"].is_null() { None } else { Some(body.text("scheduler")?) };
        let (scheduler, is_unused) = our_scheduler(&sampler_name, scheduler)
            .map_err(|fault| ApiError::new(StatusCode::NOT_FOUND, fault).parameter("sampler_name", "invalid_value"))?;
        ignored.extend(is_unused.then(|| "scheduler".to_owned()));
        if !parameters["eta"].is_null() {
            let eta = body.number("eta")?;
            // Clients send it with every sampler.
            if SCHEDULERS_WITH_ETA.iter().any(|known| scheduler.split(':').next() == Some(known)) {
                ours.insert("eta".into(), eta.into());
            } else {
                ignored.push("eta".to_owned());
            }
        }
        ours.insert("scheduler".into(), scheduler.into());

        let (batch_size, n_iter) = (body.whole("batch_size")?, body.whole("n_iter")?);
        let images = batch_size.saturating_mul(n_iter);
        ours.insert("num_images_per_prompt".into(), images.into());
        let (seed, subseed) = (body.seed("seed")?, body.seed("subseed")?);
        let strength = body.number("subseed_strength")?;
        if strength == 0.0 {
            // The limit of `num_images_per_prompt` is checked later; more seeds than images are not needed to fail there.
            let seeds: Vec<u32> = (0..images.min(64) as u32).map(|index| seed.wrapping_add(index)).collect();
            ours.insert("seeds".into(), json!(seeds));
        } else {
            ours.insert("variation_seed".into(), subseed.into());
            ours.insert("variation_strength".into(), strength.into());
        }
        ours.insert("seed".into(), seed.into());

        let styles = body.list("styles")?;
        let known_style = |style: &&Value| STYLES.iter().any(|known| *style == known.name);
        let style = styles.iter().find(known_style);
        ignored.extend((styles.len() > usize::from(style.is_some())).then(|| "styles".to_owned()));
        ours.extend(style.map(|style| ("style".to_owned(), style.clone())));
        let Some(settings) = parameters["override_settings"].as_object() else {
            return Err(body.invalid("override_settings", "send an object"));
        };
        let names_model = |value: &Value| value.as_str().is_some_and(|name| is_model(name, info, aliases));
        ignored.extend(
            settings
                .iter()
                .filter(|(name, value)| *name != "sd_model_checkpoint" || !names_model(value))
                .map(|(name, _)| format!("override_settings.{name}")),
        );

        match task {
            ImageTask::Txt2Img => second_pass(&body, [width, height], &mut ours)?,
            ImageTask::Img2Img => input_image(&body, &mut ours, &mut ignored)?,
        }
        let image = ImageRequest::read(ours, info, aliases)?;
        let send_images = body.flag("send_images")?;
        if task == ImageTask::Img2Img && !body.flag("include_init_images")? {
            parameters.extend([("init_images".to_owned(), Value::Null), ("mask".to_owned(), Value::Null)]);
        }
        Ok(Self { image, parameters, sampler_name, seed, subseed, send_images, ignored })
    }
}

/// True where `name` is the loaded model: its id, an alias, or its title with the hash.
pub(super) fn is_model(name: &str, info: &ModelInfo, aliases: &[String]) -> bool {
    let name = name.split_once(" [").map_or(name, |(name, _)| name);
    name == info.id || aliases.iter().any(|alias| alias == name)
}

/// Hires fix.
fn second_pass(body: &Body<'_>, [width, height]: [u64; 2], ours: &mut Map<String, Value>) -> Result<(), ApiError> {
    if !body.flag("enable_hr")? {
        return Ok(());
    }
    let (x, y) = (body.whole("hr_resize_x")?, body.whole("hr_resize_y")?);
    let scale = match (x, y) {
        (0, 0) => body.number("hr_scale")?,
        (0, y) => y as f64 / height.max(1) as f64,
        (x, _) => x as f64 / width.max(1) as f64,
    };
    ours.insert("hires_scale".into(), scale.into());
    ours.insert("hires_strength".into(), body.number("denoising_strength")?.into());
    let steps = body.whole("hr_second_pass_steps")?;
    if steps > 0 {
        ours.insert("hires_steps".into(), steps.into());
    }
    Ok(())
}

/// The input image and its mask.
fn input_image(body: &Body<'_>, ours: &mut Map<String, Value>, ignored: &mut Vec<String>) -> Result<(), ApiError> {
    let images = match &body.0["init_images"] {
        Value::Null => Vec::new(),
        _ => body.list("init_images")?,
    };
    let Some(image) = images.first() else {
        let fault = Fault::new(
            FaultCode::BadRequest,
            "the request has no image in `init_images`",
            "send a list with a PNG, JPEG or WebP file in base64",
        );
        return Err(ApiError::new(StatusCode::NOT_FOUND, fault).parameter("init_images", "missing_required_parameter"));
    };
    ignored.extend((images.len() > 1).then(|| "init_images after the first".to_owned()));
    ours.insert("image".into(), image.clone());
    ours.insert("strength".into(), body.number("denoising_strength")?.into());
    if body.0["mask"].is_null() || body.0["mask"] == "" {
        return Ok(());
    }
    let mask = body.text("mask")?;
    let is_inverted = body.number("inpainting_mask_invert")? != 0.0;
    ours.insert("mask_image".into(), if is_inverted { inverted(mask)? } else { mask.to_owned() }.into());
    let fill = body.number("inpainting_fill")?;
    if fill == FILL_LATENT_NOISE || fill == FILL_LATENT_NOTHING {
        ours.insert("strength".into(), 1.into());
    }
    Ok(())
}

/// Returns a mask with black and white exchanged, in base64.
fn inverted(mask: &str) -> Result<String, ApiError> {
    use base64::Engine as _;
    let invalid = |why: String| {
        let fault = Fault::new(
            FaultCode::BadRequest,
            format!("`mask` cannot be read: {why}"),
            "send a PNG, JPEG or WebP file in base64",
        );
        ApiError::from(fault).parameter("mask", "invalid_value")
    };
    let file = base64_input::decode(mask).ok_or_else(|| invalid("it is not base64".to_owned()))?;
    let Rgb8 { width, height, bytes } = image::decode_image(&file).map_err(|error| invalid(error.to_string()))?;
    let bytes = bytes.into_iter().map(|byte| 255 - byte).collect();
    let file = image::encode_png(&Rgb8 { width, height, bytes }, &[]).map_err(|error| invalid(error.to_string()))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(file))
}

/// Takes `<lora:name:0.8>` and other extra networks out of a prompt, and returns their names.
fn without_extra_networks(prompt: &str) -> (String, Vec<String>) {
    let (mut text, mut names, mut rest) = (String::new(), Vec::new(), prompt);
    while let Some((before, after)) = rest.split_once('<') {
        let network = after.split_once('>').and_then(|(inside, after)| {
            let (kind, arguments) = inside.split_once(':')?;
            let is_network = ["lora", "lyco", "hypernet"].contains(&kind);
            is_network.then(|| (arguments.split(':').next().unwrap_or_default().to_owned(), after))
        });
        text.push_str(before);
        match network {
            Some((name, after)) => {
                names.push(name);
                rest = after;
            }
            None => {
                text.push('<');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    (text, names)
}

/// The fields of a body with their defaults.
struct Body<'a>(&'a Map<String, Value>);

impl Body<'_> {
    fn invalid(&self, name: &str, remedy: &str) -> ApiError {
        Field { name: name.to_owned(), value: self.0[name].clone() }.invalid(remedy)
    }

    fn text(&self, name: &str) -> Result<&str, ApiError> {
        self.0[name].as_str().ok_or_else(|| self.invalid(name, "send a string"))
    }

    /// A number, or a string of one.
    fn number(&self, name: &str) -> Result<f64, ApiError> {
        let value = &self.0[name];
        let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        number.filter(|number| number.is_finite()).ok_or_else(|| self.invalid(name, "send a number"))
    }

    fn whole(&self, name: &str) -> Result<u64, ApiError> {
        let number = self.number(name)?;
        let is_whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
        is_whole.then_some(number as u64).ok_or_else(|| self.invalid(name, "send a whole number"))
    }

    /// A seed; in place of a negative one, a random one.
    fn seed(&self, name: &str) -> Result<u32, ApiError> {
        if self.number(name)? < 0.0 {
            return Ok(random_seed());
        }
        self.whole(name).map(|seed| seed as u32)
    }

    fn flag(&self, name: &str) -> Result<bool, ApiError> {
        self.0[name].as_bool().ok_or_else(|| self.invalid(name, "send true or false"))
    }

    fn list(&self, name: &str) -> Result<Vec<Value>, ApiError> {
        self.0[name].as_array().cloned().ok_or_else(|| self.invalid(name, "send a list"))
    }
}

#[cfg(test)]
mod tests;
