//! Prompt embeddings in a safetensors file, named as the arguments of diffusers' `PixArtAlphaPipeline.check_inputs`.

use pixart_protocol::{EncodeResponse, Fault, FaultCode};
use pixart_weights::{Folder, Tensors};

use crate::Error;

const FILE: &str = "the embeddings file";
const EMBEDS: &str = "prompt_embeds";
const MASK: &str = "prompt_attention_mask";

/// Reads `prompt_embeds [B, L, C]` and `prompt_attention_mask [B, L]`. If the file has `negative_prompt_embeds` and
/// `negative_prompt_attention_mask`, of the same shapes, those rows come first.
///
/// # Errors
/// A tensor that is missing, has another shape or is not finite. The message names it.
pub fn read_prompt_embeds(bytes: Vec<u8>) -> Result<EncodeResponse, Error> {
    let mut folder = Folder::default();
    folder.insert(FILE, bytes);
    let tensors = folder.tensors(FILE)?;
    let prompt = rows(&tensors, "")?;
    let negative = if tensors.names().any(|name| name.starts_with("negative_")) {
        Some(rows(&tensors, "negative_")?)
    } else {
        None
    };
    let Some(negative) = negative else { return Ok(prompt) };
    let [b, l, c] = prompt.shape;
    if negative.shape != prompt.shape {
        let (shape, negative_shape) = (prompt.shape, negative.shape);
        let what = format!("`{EMBEDS}` has shape {shape:?}, and `negative_{EMBEDS}` {negative_shape:?}");
        return Err(bad_request(what));
    }
    Ok(EncodeResponse {
        shape: [2 * b, l, c],
        embeds: [negative.embeds, prompt.embeds].concat(),
        attention_mask: [negative.attention_mask, prompt.attention_mask].concat(),
        token_counts: Vec::new(),
    })
}

fn rows(tensors: &Tensors<'_>, prefix: &str) -> Result<EncodeResponse, Error> {
    let [embeds_name, mask_name] = [EMBEDS, MASK].map(|name| format!("{prefix}{name}"));
    let ((shape, embeds), (mask_shape, mask)) = (tensors.any_f32(&embeds_name)?, tensors.any_f32(&mask_name)?);
    let fits = <[usize; 3]>::try_from(&shape[..]).is_ok_and(|[b, l, _]| mask_shape == [b, l]) && !embeds.is_empty();
    if !fits {
        return Err(bad_request(format!("`{embeds_name}` has shape {shape:?}, and `{mask_name}` {mask_shape:?}")));
    }
    for (name, values) in [(embeds_name, &embeds), (mask_name, &mask)] {
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(bad_request(format!("`{name}` holds {} at element {index}", values[index])));
        }
    }
    let shape = [shape[0], shape[1], shape[2]].map(|side| u32::try_from(side).expect("a side of a tensor in memory"));
    Ok(EncodeResponse { shape, embeds, attention_mask: mask, token_counts: Vec::new() })
}

fn bad_request(what: String) -> Error {
    let remedy =
        "write the file with `pixart encode`, or as diffusers' `encode_prompt` returns them: [B, L, C] and [B, L]";
    Error::Request(Fault::new(FaultCode::BadRequest, what, remedy))
}
