//! The tensor names of a T5 encoder in GGUF files, as transformers' names.
//!
//! Source: llama.cpp `gguf-py/gguf/constants.py` (`MODEL_ARCH.T5ENCODER`) and `tensor_mapping.py`.

use std::collections::{BTreeMap, BTreeSet};

use crate::tensor_location::TensorLocation;

/// End of every tensor's name.
const SUFFIX: &str = ".weight";
/// A block's index is between these, in transformers' names; in llama.cpp's it is behind the last.
const BLOCK: &str = "encoder.block.";
const LAYER: &str = ".layer.";
const LLAMA_CPP_BLOCK: &str = "enc.blk.";
/// Second name of the token embeddings, in transformers' files.
const TIED_EMBEDDINGS: &str = "encoder.embed_tokens.weight";
/// Module names outside and inside of a block, of llama.cpp and of transformers.
const MODULES: [(&str, &str); 2] = [("token_embd", "shared"), ("enc.output_norm", "encoder.final_layer_norm")];
const BLOCK_MODULES: [(&str, &str); 10] = [
    ("attn_q", "0.SelfAttention.q"),
    ("attn_k", "0.SelfAttention.k"),
    ("attn_v", "0.SelfAttention.v"),
    ("attn_o", "0.SelfAttention.o"),
    ("attn_rel_b", "0.SelfAttention.relative_attention_bias"),
    ("attn_norm", "0.layer_norm"),
    ("ffn_gate", "1.DenseReluDense.wi_0"),
    ("ffn_up", "1.DenseReluDense.wi_1"),
    ("ffn_down", "1.DenseReluDense.wo"),
    ("ffn_norm", "1.layer_norm"),
];
/// Prefixes of a text encoder in files that hold other networks too, or that name it.
const PREFIXES: [&str; 5] = [
    "text_encoders.t5xxl.transformer.",
    "text_encoder.",
    "t5xxl.transformer.",
    "cond_stage_model.transformer.",
    "model.",
];

/// Renames the tensors of a T5 encoder to transformers' names, where they have llama.cpp's or a prefix. Unknown tensors, such as
/// those of a decoder, keep their names.
pub(crate) fn renamed_t5(tensors: BTreeMap<String, TensorLocation>) -> BTreeMap<String, TensorLocation> {
    let rename = |(name, tensor): (String, TensorLocation)| (transformers_name(&name).unwrap_or(name), tensor);
    tensors.into_iter().map(rename).collect()
}

/// Returns transformers' name of a tensor; none for a name that is transformers' already, or unknown.
fn transformers_name(name: &str) -> Option<String> {
    let module = name.strip_suffix(SUFFIX).unwrap_or_default();
    let known = MODULES.iter().find(|(theirs, _)| *theirs == module);
    if let Some((_, ours)) = known {
        return Some(format!("{ours}{SUFFIX}"));
    }
    if let Some((block, module)) = module.strip_prefix(LLAMA_CPP_BLOCK).and_then(|rest| rest.split_once('.')) {
        block.parse::<u32>().ok()?;
        let (_, ours) = BLOCK_MODULES.iter().find(|(theirs, _)| *theirs == module)?;
        return Some(format!("{BLOCK}{block}{LAYER}{ours}{SUFFIX}"));
    }
    let rest = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    (rest.starts_with("encoder.") || rest.starts_with("shared.")).then(|| rest.to_owned())
}

/// Returns llama.cpp's name of the tensor of a T5 encoder that transformers calls `name`; none for other tensors.
#[must_use]
pub fn llama_cpp_name(name: &str) -> Option<String> {
    let module = name.strip_suffix(SUFFIX)?;
    let theirs = match module.strip_prefix(BLOCK).and_then(|rest| rest.split_once(LAYER)) {
        Some((block, own)) => {
            block.parse::<u32>().ok()?;
            let (theirs, _) = BLOCK_MODULES.iter().find(|(_, ours)| *ours == own)?;
            format!("{LLAMA_CPP_BLOCK}{block}.{theirs}")
        }
        None => MODULES.iter().find(|(_, ours)| *ours == module)?.0.to_owned(),
    };
    Some(format!("{theirs}{SUFFIX}"))
}

/// Returns whether a T5 encoder has a tensor that transformers calls `name`.
#[must_use]
pub fn is_text_encoder_tensor(name: &str) -> bool {
    name == TIED_EMBEDDINGS || llama_cpp_name(name).is_some()
}

/// Returns the names of all tensors of a T5 encoder of one block, in transformers' words: those that files of any tool are renamed
/// to. What the network loads is compared with them.
#[must_use]
pub fn text_encoder_tensor_names() -> BTreeSet<String> {
    let modules = MODULES.iter().map(|(_, ours)| (*ours).to_owned());
    let blocks = BLOCK_MODULES.iter().map(|(_, ours)| format!("{BLOCK}0{LAYER}{ours}"));
    modules.chain(blocks).map(|module| format!("{module}{SUFFIX}")).collect()
}

/// Returns whether transformers calls a tensor or module of a T5 encoder `name`.
pub(crate) fn is_t5(name: &str) -> bool {
    [BLOCK, "encoder.final_layer_norm.", "shared."].iter().any(|first| name.starts_with(first))
}

/// Returns the module of a T5 encoder that trainers call `flat`, with underscores for dots: `encoder_block_0_layer_0_SelfAttention_q`.
pub(crate) fn t5_module_from_flat(flat: &str) -> Option<String> {
    let is_flat = |module: &str| module.replace('.', "_") == flat;
    if let Some((_, module)) = MODULES.iter().find(|(_, module)| is_flat(module)) {
        return Some((*module).to_owned());
    }
    let (block, own) = flat.strip_prefix("encoder_block_")?.split_once('_')?;
    block.parse::<u32>().ok()?;
    let (_, module) =
        BLOCK_MODULES.iter().find(|(_, module)| own.strip_prefix("layer_") == Some(&module.replace('.', "_")))?;
    Some(format!("{BLOCK}{block}{LAYER}{module}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_llama_cpp_and_prefixes_become_those_of_transformers() {
        for (theirs, ours) in [
            ("token_embd.weight", Some("shared.weight")),
            ("enc.output_norm.weight", Some("encoder.final_layer_norm.weight")),
            ("enc.blk.11.attn_o.weight", Some("encoder.block.11.layer.0.SelfAttention.o.weight")),
            (
                "enc.blk.0.attn_rel_b.weight",
                Some("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
            ),
            ("enc.blk.3.ffn_gate.weight", Some("encoder.block.3.layer.1.DenseReluDense.wi_0.weight")),
            ("text_encoder.shared.weight", Some("shared.weight")),
            (
                "t5xxl.transformer.encoder.block.0.layer.0.layer_norm.weight",
                Some("encoder.block.0.layer.0.layer_norm.weight"),
            ),
            ("encoder.block.0.layer.0.layer_norm.weight", None),
            ("dec.blk.0.attn_q.weight", None),
            ("enc.blk.x.attn_q.weight", None),
            ("enc.blk.0.attn_q.bias", None),
            ("model.diffusion_model.x", None),
        ] {
            assert_eq!(transformers_name(theirs).as_deref(), ours, "{theirs}");
        }
        for name in text_encoder_tensor_names() {
            let theirs = llama_cpp_name(&name).unwrap_or_else(|| panic!("llama.cpp has {name}"));
            assert_eq!(transformers_name(&theirs).as_deref(), Some(name.as_str()));
        }
        for other in ["lm_head.weight", "encoder.block.x.layer.0.layer_norm.weight", "shared.bias"] {
            assert!(!is_text_encoder_tensor(other), "{other}");
        }
    }
}
