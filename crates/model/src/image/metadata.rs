//! Generation metadata in a PNG, so that an image can be reproduced: as `parameters` in the format of AUTOMATIC1111's web UI,
//! which other tools read, and as lossless JSON.

use pixart_kernels::WeightFormat;
use pixart_protocol::{GenerateRequest, LoraScale, TextEncoderSource};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Rgb8, encode_png};
use crate::Error;

/// iTXt keyword of the JSON metadata: `{"request": …, "generated_by": …}`, a [`GenerateRequest`] without its files and a [`GenerationMetadata`].
pub const METADATA_KEYWORD: &str = "pixart";

/// Software, device and model that generated an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerationMetadata {
    /// Version of pixart-web.
    pub version: String,
    pub device: String,
    /// Name of the checkpoint.
    pub model: String,
    /// [`pixart_weights::Manifest::hash`] of a packed checkpoint.
    pub model_hash: Option<String>,
    /// Weight format of the transformer's matrices.
    #[serde(alias = "precision")]
    pub weight_format: WeightFormat,
    pub scheduler: String,
    /// LoRAs merged into the transformer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<LoraScale>,
    /// The file or folder whose transformer replaced the checkpoint's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transformer: Option<String>,
    /// The file or folder of a VAE from another place than the checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vae: Option<String>,
    /// The file or folder of a text encoder from another place than the checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_encoder: Option<String>,
    /// Files that the image was generated from and that its metadata do not hold, by the names of the request's fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

impl GenerationMetadata {
    /// Encodes `image` as a PNG file with this metadata and `request`, which is that of this image alone
    /// ([`GenerateRequest::of_image`]).
    ///
    /// # Errors
    /// A size or a text that PNG cannot hold.
    pub fn encode_png(&self, image: &Rgb8, request: &GenerateRequest) -> Result<Vec<u8>, Error> {
        // Recording does not change the image.
        let plain = GenerateRequest { id: 0, record: false, ..request.without_files() };
        let mut plain = serde_json::to_value(plain).expect("a request is plain data");
        if let Value::Object(fields) = &mut plain {
            fields.retain(|_, value| !value.is_null());
        }
        let generated_by = Self { files: self.files_of(request), ..self.clone() };
        let json = json!({ "request": plain, "generated_by": generated_by }).to_string();
        let software = format!("pixart-web {}", self.version);
        let parameters = self.parameters(image, request);
        let texts = [
            ("parameters", parameters.as_str()),
            ("Software", &software),
            ("Description", &request.prompt),
            (METADATA_KEYWORD, &json),
        ];
        encode_png(image, &texts)
    }

    /// Returns the names of all files: those known before, and those of `request`.
    fn files_of(&self, request: &GenerateRequest) -> Vec<String> {
        let given = [
            ("image", request.image.is_some()),
            ("mask_image", request.mask_image.is_some()),
            ("latents", request.latents.is_some()),
            ("text_encoder", matches!(request.text_encoder, TextEncoderSource::File { .. })),
        ];
        let given = given.into_iter().filter(|(name, given)| *given && !self.files.iter().any(|known| known == name));
        self.files.iter().cloned().chain(given.map(|(name, _)| name.to_owned())).collect()
    }

    fn parameters(&self, Rgb8 { width, height, .. }: &Rgb8, request: &GenerateRequest) -> String {
        let GenerateRequest {
            prompt, negative_prompt, seed, num_inference_steps, guidance_scale, style, strength, ..
        } = request;
        let negative =
            if negative_prompt.is_empty() { String::new() } else { format!("Negative prompt: {negative_prompt}\n") };
        let Self { version, model, model_hash, scheduler, loras, vae, .. } = self;
        // The size of the first pass.
        let [width, height] = match request.hires_scale {
            Some(scale) => [(request.width, width), (request.height, height)]
                .map(|(given, side)| given.unwrap_or((*side as f64 / scale).round() as u32)),
            None => [width, height].map(|side| *side as u32),
        };
        let size = format!("{width}x{height}");
        let options = request.scheduler.as_deref().and_then(|scheduler| scheduler.split_once(':'));
        let loras: Vec<String> = loras.iter().map(|LoraScale { name, scale }| format!("{name}: {scale}")).collect();
        let mut fields = vec![
            ("Steps", num_inference_steps.to_string()),
            ("Sampler", scheduler.clone()),
            ("CFG scale", guidance_scale.to_string()),
            ("Seed", seed.to_string()),
            ("Size", size),
        ];
        fields.extend(model_hash.clone().map(|hash| ("Model hash", hash)));
        fields.push(("Model", model.clone()));
        fields.extend(vae.clone().map(|vae| ("VAE", vae)));
        if let Some((seed, strength)) = request.variation_of(request.image_index.unwrap_or(0) as usize) {
            fields.extend([("Variation seed", seed.to_string()), ("Variation seed strength", strength.to_string())]);
        }
        fields.extend(options.map(|(_, options)| ("Scheduler options", options.to_owned())));
        fields.extend(strength.map(|strength| ("Denoising strength", strength.to_string())));
        if let (Some(scale), Some(second)) = (request.hires_scale, request.second_pass()) {
            fields.extend(second.strength.map(|strength| ("Denoising strength", strength.to_string())));
            fields.push(("Hires upscale", scale.to_string()));
            fields.extend(request.hires_steps.map(|steps| ("Hires steps", steps.to_string())));
            fields.push(("Hires upscaler", "Lanczos".to_owned()));
        }
        fields.extend(style.clone().map(|style| ("Style", style)));
        if request.prompt_weighting {
            fields.push(("Prompt weighting", "true".to_owned()));
        }
        fields.push(("LoRA", loras.join(", ")));
        if let Some(index) = request.image_index {
            fields.push(("Batch size", request.num_images_per_prompt.to_string()));
            fields.push(("Batch pos", index.to_string()));
        }
        fields.push(("Version", format!("pixart-web {version}")));
        // AUTOMATIC1111's reader drops a field without a value.
        let fields = fields.iter().filter(|(_, value)| !value.is_empty());
        let fields: Vec<String> = fields.map(|(name, value)| format!("{name}: {}", quote(value))).collect();
        format!("{prompt}\n{negative}{}", fields.join(", "))
    }
}

/// Quotes a value of `parameters` as JSON where AUTOMATIC1111's reader would end it early, trim it or unquote it. Its own writer
/// (`quote` in `modules/infotext_utils.py`) quotes for commas, colons and newlines alone.
fn quote(value: &str) -> String {
    let is_special = |at: char| matches!(at, ',' | ':' | '"' | '\\') || at.is_control();
    let is_plain = !value.contains(is_special) && value.trim() == value;
    if is_plain { value.to_owned() } else { serde_json::to_string(value).expect("a string is JSON") }
}

#[cfg(test)]
mod tests;
