//! Prompt embeddings as a safetensors file: `prompt_embeds [captions, tokens, channels]` and `prompt_attention_mask
//! [captions, tokens]`, both f32, named as the arguments of diffusers' pipelines. The header's metadata has the captions as a JSON
//! list under `captions`.

use std::collections::HashMap;
use std::path::Path;

use pixart_model::read_prompt_embeds;
use pixart_protocol::EncodeResponse;
use pixart_weights::{Dtype, serialize_tensors};
use safetensors::SafeTensors;

use crate::Error;

const EMBEDS: &str = "prompt_embeds";
const MASK: &str = "prompt_attention_mask";
const CAPTIONS: &str = "captions";

/// Prompt embeddings that were read from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPromptEmbeds {
    pub embeds: EncodeResponse,
    /// The encoded captions, where the file names them; otherwise empty.
    pub captions: Vec<String>,
}

/// Serializes `embeds` of `captions`.
#[must_use]
pub fn write(embeds: &EncodeResponse, captions: &[String]) -> Vec<u8> {
    let [rows, tokens, channels] = embeds.shape.map(|length| length as usize);
    let tensors = vec![
        f32_tensor(EMBEDS, &[rows, tokens, channels], &embeds.embeds),
        f32_tensor(MASK, &[rows, tokens], &embeds.attention_mask),
    ];
    let captions = serde_json::to_string(captions).expect("strings are always JSON");
    serialize_tensors(tensors, HashMap::from([(CAPTIONS.to_owned(), captions)]))
}

/// Serializes one f32 tensor.
#[must_use]
pub fn write_tensor(name: &str, shape: &[usize], values: &[f32]) -> Vec<u8> {
    serialize_tensors(vec![f32_tensor(name, shape, values)], HashMap::new())
}

/// An argument of [`serialize_tensors`].
fn f32_tensor(name: &str, shape: &[usize], values: &[f32]) -> (String, Dtype, Vec<usize>, Vec<u8>) {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    (name.to_owned(), Dtype::F32, shape.to_vec(), bytes)
}

/// Reads a file of [`write()`], or any that [`read_prompt_embeds`] can read. `path` is named in errors.
pub fn read(path: &Path, bytes: &[u8]) -> Result<StoredPromptEmbeds, Error> {
    let bad = |why: String| Error::BadEmbeds { path: path.to_owned(), why };
    let embeds = read_prompt_embeds(bytes.to_vec()).map_err(|error| bad(error.to_string()))?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| bad(error.to_string()))?;
    let captions = match header.metadata().as_ref().and_then(|notes| notes.get(CAPTIONS)) {
        Some(json) => serde_json::from_str(json).map_err(|error| bad(format!("`{CAPTIONS}`: {error}")))?,
        None => Vec::new(),
    };
    Ok(StoredPromptEmbeds { embeds, captions })
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    fn example() -> (EncodeResponse, Vec<String>) {
        let embeds = (0..12u8).map(|value| f32::from(value) / 7.0 - 0.5).collect();
        let reply = EncodeResponse {
            shape: [2, 3, 2],
            embeds,
            attention_mask: vec![1.0, 0.0, 0.0, 1.0, 1.0, 1.0],
            token_counts: Vec::new(),
        };
        (reply, vec![String::new(), "a red circle".to_owned()])
    }

    fn read_bytes(bytes: &[u8]) -> Result<StoredPromptEmbeds, Error> {
        read(Path::new("e.safetensors"), bytes)
    }

    #[test]
    fn written_embeddings_are_read_back_bit_for_bit() {
        let (embeds, captions) = example();
        let stored = read_bytes(&write(&embeds, &captions)).expect("just written");
        assert_eq!(stored, StoredPromptEmbeds { embeds, captions });
    }

    #[test]
    fn a_truncated_file_is_rejected() {
        let (embeds, captions) = example();
        let bytes = write(&embeds, &captions);
        for length in 0..bytes.len() {
            assert!(read_bytes(&bytes[..length]).is_err(), "{length} of {} bytes were accepted", bytes.len());
        }
    }

    #[test]
    fn a_nan_and_a_mask_of_another_shape_are_rejected() {
        let (embeds, captions) = example();
        let mut nan = embeds.clone();
        nan.embeds[5] = f32::NAN;
        let error = read_bytes(&write(&nan, &captions)).expect_err("NaN");
        assert!(error.to_string().contains("`prompt_embeds` holds NaN at element 5"), "{error}");

        let transposed = TensorView::new(Dtype::F32, vec![3, 2], &[0; 24]).expect("24 bytes");
        let flat = TensorView::new(Dtype::F32, vec![2, 3, 1], &[0; 24]).expect("24 bytes");
        let bytes = safetensors::serialize([(EMBEDS, flat), (MASK, transposed)], None).expect("two tensors");
        let error = read_bytes(&bytes).expect_err("[3, 2] is not [2, 3]");
        assert!(error.to_string().contains("`prompt_attention_mask` [3, 2]"), "{error}");
    }
}
