//! The text stage: prompts → tokens → T5 embeddings.

use burn::tensor::{Device, Tensor, TensorData};
use pixart_protocol::{EncodeResponse, Fault, FaultCode, TokenCount};
use pixart_weights::{Folder, WeightFormat};

use crate::{CaptionTokenizer, Error, T5, Taps, TokenizedCaption, normalize_caption};

/// Text embeddings of a batch of prompts: diffusers' `prompt_embeds` and `prompt_attention_mask`.
#[derive(Clone)]
pub struct PromptEmbeds {
    /// `[B, L, C]`.
    pub embeds: Tensor<3>,
    /// `[B, L]`: 1 for a token, 0 for padding.
    pub attention_mask: Tensor<2>,
}

impl PromptEmbeds {
    /// Copies embeddings that were computed elsewhere to `device`.
    ///
    /// # Errors
    /// Values that do not fill the shape, or are not finite.
    pub fn from_response(response: EncodeResponse, device: &Device) -> Result<Self, Error> {
        let EncodeResponse { shape, embeds, attention_mask: mask, .. } = response;
        let shape = shape.map(|length| length as usize);
        let [b, l, c] = shape;
        let remedy = "encode the prompt again with the text encoder of this checkpoint";
        let bad = |what: String| Err(Error::Request(Fault::new(FaultCode::BadRequest, what, remedy)));
        if embeds.len() != b * l * c || mask.len() != b * l || embeds.is_empty() {
            let (embeds, mask) = (embeds.len(), mask.len());
            return bad(format!("text embeddings of shape {shape:?} came with {embeds} values and a mask of {mask}"));
        }
        if let Some(index) = embeds.iter().chain(&mask).position(|value| !value.is_finite()) {
            return bad(format!("the text embeddings are not finite at element {index}"));
        }
        Ok(Self {
            embeds: Tensor::from_data(TensorData::new(embeds, [b, l, c]), device),
            attention_mask: Tensor::from_data(TensorData::new(mask, [b, l]), device),
        })
    }
}

/// A tokenizer and its T5 encoder.
pub struct TextEncoder {
    tokenizer: CaptionTokenizer,
    t5: T5,
    device: Device,
}

impl TextEncoder {
    /// Loads `tokenizer/` and `text_encoder/`. The matrices are held in `precision`, or as they are stored.
    ///
    /// # Errors
    /// See [`T5::load`] and [`CaptionTokenizer::load`].
    pub async fn load(folder: &Folder, precision: Option<WeightFormat>, device: &Device) -> Result<Self, Error> {
        let tokenizer = CaptionTokenizer::load(folder).await?;
        let t5 = T5::load(folder, precision, device).await?;
        Ok(Self { tokenizer, t5, device: device.clone() })
    }

    /// Tokenizes prompts, one row each: lower-cased, stripped, and padded or cut to `tokens` tokens.
    ///
    /// # Errors
    /// A prompt that cannot be tokenized.
    pub fn tokens(&self, prompts: &[impl AsRef<str>], tokens: usize) -> Result<Vec<TokenizedCaption>, Error> {
        prompts.iter().map(|prompt| self.tokenizer.encode(&normalize_caption(prompt.as_ref()), tokens)).collect()
    }

    /// Counts the tokens of each prompt, with the part that [`TextEncoder::encode`] truncates.
    ///
    /// # Errors
    /// A prompt that cannot be tokenized.
    pub fn token_counts(&self, prompts: &[impl AsRef<str>], tokens: usize) -> Result<Vec<TokenCount>, Error> {
        prompts.iter().map(|prompt| self.tokenizer.count(&normalize_caption(prompt.as_ref()), tokens)).collect()
    }

    /// Encodes prompts, one row each, padded or cut to `tokens` tokens.
    ///
    /// # Errors
    /// A prompt that cannot be tokenized.
    pub fn encode(&self, prompts: &[impl AsRef<str>], tokens: usize, taps: &mut Taps) -> Result<PromptEmbeds, Error> {
        let rows = self.tokens(prompts, tokens)?;
        let mask: Vec<f32> = rows.iter().flat_map(|row| row.attention_mask.iter().copied()).collect();
        let attention_mask = Tensor::from_data(TensorData::new(mask, [rows.len(), tokens]), &self.device);
        Ok(PromptEmbeds { embeds: self.t5.forward(&rows, taps), attention_mask })
    }
}
