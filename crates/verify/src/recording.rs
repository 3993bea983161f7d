//! Recording of one generation: the prompt embeddings, the latents after each step and the pixels, as one safetensors file.
//! Recordings of the same request on different devices can be compared value by value.
//!
//! | tensor | what |
//! |---|---|
//! | `prompt_embeds` | f32 `[B, L, C]`, the negative prompt first |
//! | `prompt_attention_mask` | f32 `[B, L]` |
//! | `latents.<n>` | f32 `[1, 4, H/8, W/8]` after step n, from 1 |
//! | `picture` | u8 `[H, W, 3]` |
//!
//! The metadata has `request`, as JSON, and `device`. A recording is a file of prompt embeddings, too.

use std::collections::HashMap;

use burn::tensor::Tensor;
use pixart_model::image::Rgb8;
use pixart_model::{Error, PromptEmbeds, values_read};
use pixart_protocol::{Fault, FaultCode, GenerateRequest};
use pixart_weights::{Dtype, Folder, serialize_tensors};

const EMBEDS: &str = "prompt_embeds";
const MASK: &str = "prompt_attention_mask";
const PICTURE: &str = "picture";
const REQUEST: &str = "request";
const DEVICE: &str = "device";

/// Shape and values of a tensor.
type ShapedValues = (Vec<usize>, Vec<f32>);

/// The recording of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    pub request: GenerateRequest,
    pub device: String,
    pub embeds: ShapedValues,
    pub mask: ShapedValues,
    /// Latents after each step.
    pub latents: Vec<ShapedValues>,
    pub picture: Rgb8,
}

impl Recording {
    /// Begins a recording with the prompt embeddings.
    ///
    /// # Errors
    /// A readback that fails.
    pub async fn begin(request: &GenerateRequest, device: &str, prompt_embeds: &PromptEmbeds) -> Result<Self, Error> {
        let (request, device) = (request.without_files(), device.to_owned());
        let picture = Rgb8 { width: 0, height: 0, bytes: Vec::new() };
        Ok(Self {
            request,
            device,
            embeds: read("the text embeddings", prompt_embeds.embeds.clone()).await?,
            mask: read("the attention mask", prompt_embeds.attention_mask.clone()).await?,
            latents: Vec::new(),
            picture,
        })
    }

    /// Adds the latents after a step.
    ///
    /// # Errors
    /// A readback that fails.
    pub async fn step(&mut self, latent: Tensor<4>) -> Result<(), Error> {
        self.latents.push(read("the latent", latent).await?);
        Ok(())
    }

    /// Serializes the recording as a safetensors file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = |numbers: &[f32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
        let Rgb8 { width, height, bytes: pixels } = &self.picture;
        let mut tensors = vec![
            (EMBEDS.to_owned(), Dtype::F32, self.embeds.0.clone(), bytes(&self.embeds.1)),
            (MASK.to_owned(), Dtype::F32, self.mask.0.clone(), bytes(&self.mask.1)),
            (PICTURE.to_owned(), Dtype::U8, vec![*height, *width, 3], pixels.clone()),
        ];
        for (step, (shape, latent)) in (1..).zip(&self.latents) {
            tensors.push((format!("latents.{step}"), Dtype::F32, shape.clone(), bytes(latent)));
        }
        let request = serde_json::to_string(&self.request).expect("a request is plain data");
        let notes = [(REQUEST, request), (DEVICE, self.device.clone())];
        serialize_tensors(tensors, HashMap::from(notes.map(|(key, text)| (key.to_owned(), text))))
    }

    /// Parses the file that [`Recording::to_bytes`] wrote. `name` is the file's name in errors.
    ///
    /// # Errors
    /// A damaged file, or one that is no recording.
    pub fn read(name: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        let bad = |why: &str| {
            let remedy = "name a file that `pixart generate --record` or the page wrote";
            Error::Request(Fault::new(FaultCode::BadRequest, format!("`{name}` is no recording: {why}"), remedy))
        };
        let mut folder = Folder::default();
        folder.insert(name, bytes);
        let tensors = folder.tensors(name)?;
        let note = |key: &str| tensors.metadata(key).ok_or_else(|| bad(&format!("its metadata has no `{key}`")));
        let request = serde_json::from_str(note(REQUEST)?).map_err(|error| bad(&error.to_string()))?;
        let (shape, pixels) = tensors.u8(PICTURE)?;
        let [height, width, 3] = shape[..] else { return Err(bad("its `picture` has not three channels")) };
        let mut latents = Vec::new();
        while tensors.contains(&format!("latents.{}", latents.len() + 1)) {
            latents.push(tensors.any_f32(&format!("latents.{}", latents.len() + 1))?);
        }
        let (device, embeds, mask) = (note(DEVICE)?.to_owned(), tensors.any_f32(EMBEDS)?, tensors.any_f32(MASK)?);
        Ok(Self { request, device, embeds, mask, latents, picture: Rgb8 { width, height, bytes: pixels.to_vec() } })
    }
}

async fn read<const RANK: usize>(what: &str, tensor: Tensor<RANK>) -> Result<ShapedValues, Error> {
    Ok((tensor.dims().to_vec(), values_read(what, tensor.flatten(0, RANK - 1)).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_read_back_and_a_truncated_one_is_refused() {
        let recording = Recording {
            request: GenerateRequest { seed: 7, ..GenerateRequest::of("a star") },
            device: "cpu".to_owned(),
            embeds: (vec![1, 2, 3], vec![0.5, -1.0, 2.0, 3.0, 4.0, 5.0]),
            mask: (vec![1, 2], vec![1.0, 0.0]),
            latents: vec![(vec![1, 1, 1, 2], vec![1.0, 2.0]), (vec![1, 1, 1, 2], vec![3.0, 4.0])],
            picture: Rgb8 { width: 2, height: 1, bytes: vec![1, 2, 3, 4, 5, 6] },
        };
        let bytes = recording.to_bytes();
        assert_eq!(Recording::read("r", bytes.clone()).expect("just written"), recording);
        let read = pixart_model::read_prompt_embeds(bytes.clone()).expect("it is a file of embeddings");
        assert_eq!((read.shape, read.embeds, read.attention_mask), ([1, 2, 3], recording.embeds.1, recording.mask.1));
        for length in 0..bytes.len() {
            assert!(Recording::read("r", bytes[..length].to_vec()).is_err(), "{length} of {} bytes", bytes.len());
        }
        let other = serialize_tensors(Vec::new(), HashMap::from([("made".to_owned(), "elsewhere".to_owned())]));
        let error = Recording::read("r", other).expect_err("no recording");
        assert!(error.to_string().contains("no `request`"), "{error}");
    }
}
