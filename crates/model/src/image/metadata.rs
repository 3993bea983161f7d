//! Generation metadata in a PNG, so that an image can be reproduced: as `parameters` in the format of AUTOMATIC1111's web UI,
//! which other tools read, and as lossless JSON.

use pixart_kernels::WeightFormat;
use pixart_protocol::GenerateRequest;
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
}

impl GenerationMetadata {
    /// Encodes `image` as a PNG file with this metadata and `request`.
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
        let json = json!({ "request": plain, "generated_by": self }).to_string();
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

    fn parameters(&self, Rgb8 { width, height, .. }: &Rgb8, request: &GenerateRequest) -> String {
        let GenerateRequest {
            prompt, negative_prompt, seed, num_inference_steps, guidance_scale, style, strength, ..
        } = request;
        let negative =
            if negative_prompt.is_empty() { String::new() } else { format!("Negative prompt: {negative_prompt}\n") };
        let Self { version, model, model_hash, scheduler, .. } = self;
        let mut fields = vec![
            ("Steps", num_inference_steps.to_string()),
            ("Sampler", scheduler.clone()),
            ("CFG scale", guidance_scale.to_string()),
            ("Seed", seed.to_string()),
            ("Size", format!("{width}x{height}")),
        ];
        fields.extend(model_hash.clone().map(|hash| ("Model hash", hash)));
        fields.push(("Model", model.clone()));
        fields.extend(strength.map(|strength| ("Denoising strength", strength.to_string())));
        fields.extend(style.clone().map(|style| ("Style", style)));
        fields.push(("Version", format!("pixart-web {version}")));
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        format!("{prompt}\n{negative}{}", fields.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use pixart_protocol::TextEncoderSource;

    use super::*;

    #[test]
    fn a_png_holds_its_request_without_the_input_image() {
        let metadata = GenerationMetadata {
            version: "0.1.0".into(),
            device: "cpu".into(),
            model: "scenes".into(),
            model_hash: Some("0123456789".into()),
            weight_format: WeightFormat::Q8,
            scheduler: "euler".into(),
        };
        let image = Rgb8 { width: 2, height: 1, bytes: vec![7; 6] };
        let request = GenerateRequest {
            id: 9,
            negative_prompt: "blur".into(),
            seed: 7,
            scheduler: Some("euler:use_karras_sigmas=true".into()),
            image: Some(vec![1]),
            strength: Some(0.5),
            text_encoder: TextEncoderSource::Companion { url: "http://a".into(), token: Some("secret".into()) },
            ..GenerateRequest::of("ein Löwe, 日本")
        };
        let file = metadata.encode_png(&image, &request).expect("encodes");
        let reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().expect("decodes");
        let texts = &reader.info().utf8_text;
        let text =
            |name: &str| texts.iter().find(|text| text.keyword == name).map(|text| text.get_text().expect("UTF-8"));
        let parameters = "ein Löwe, 日本\nNegative prompt: blur\nSteps: 20, Sampler: euler, CFG scale: 4.5, Seed: 7, Size: 2x1, \
                          Model hash: 0123456789, Model: scenes, Denoising strength: 0.5, Version: pixart-web 0.1.0";
        assert_eq!(text("parameters").as_deref(), Some(parameters));
        let json: Value = serde_json::from_str(&text(METADATA_KEYWORD).expect("it is there")).expect("JSON");
        let again: GenerateRequest = serde_json::from_value(json["request"].clone()).expect("a request");
        assert_eq!(again, GenerateRequest { id: 0, image: None, text_encoder: TextEncoderSource::Tab, ..request });
        assert_eq!(
            serde_json::from_value::<GenerationMetadata>(json["generated_by"].clone()).expect("metadata"),
            metadata
        );
        assert!(!String::from_utf8_lossy(&file).contains("secret"));
    }
}
