//! The names of an adapter's tensors, as PEFT, diffusers and kohya's trainers spell them.

use std::fmt;

use crate::original_names::{WRAPPERS, diffusers_names, module_from_flat};

/// A tensor of an adapter.
#[derive(Debug, PartialEq)]
pub(super) enum LoraKey {
    /// A part of the update of a module.
    Part(String, LoraPart),
    /// A tensor of the network that is saved whole, by its name there.
    Whole(String),
}

/// A part of the update of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LoraPart {
    A,
    B,
    Alpha,
    BiasOfB,
    Magnitude,
}

impl fmt::Display for LoraPart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::A => "lora_A",
            Self::B => "lora_B",
            Self::Alpha => "alpha",
            Self::BiasOfB => "lora_B.bias",
            Self::Magnitude => "lora_magnitude_vector",
        })
    }
}

/// Ends of names, after the module.
const PARTS: [(&str, LoraPart); 13] = [
    (".lora_A.weight", LoraPart::A),
    (".lora_down.weight", LoraPart::A),
    (".lora.down.weight", LoraPart::A),
    (".lora_linear_layer.down.weight", LoraPart::A),
    ("_lora.down.weight", LoraPart::A),
    (".lora_B.weight", LoraPart::B),
    (".lora_up.weight", LoraPart::B),
    (".lora.up.weight", LoraPart::B),
    (".lora_linear_layer.up.weight", LoraPart::B),
    ("_lora.up.weight", LoraPart::B),
    (".alpha", LoraPart::Alpha),
    (".lora_B.bias", LoraPart::BiasOfB),
    (".lora_magnitude_vector", LoraPart::Magnitude),
];
/// Parts of names of adapters that are not low-rank updates, and what these are called.
const OTHER_KINDS: [(&str, &str); 9] = [
    (".hada_", "LoHa"),
    (".lokr_", "LoKr"),
    (".ia3_", "IA3"),
    (".oft_", "OFT"),
    (".lora_mid", "LoCon with a core tensor"),
    (".dora_scale", "DoRA of kohya's trainers"),
    (".lora_embedding_", "LoRA of embeddings"),
    (".diff", "a full difference"),
    (".lora_E", "AdaLoRA"),
];
/// Starts of the names of text encoders.
const TEXT_ENCODERS: [&str; 4] = ["text_encoder", "lora_te", "te1.", "lycoris_te"];
/// Starts of the flat names of kohya's trainers.
const FLAT: [&str; 5] = ["lora_transformer_", "lora_unet_", "lycoris_unet_", "lycoris_", "lora_"];

/// Parses the name of a tensor; the error says why an adapter with it is not supported.
pub(super) fn parse(name: &str) -> Result<LoraKey, String> {
    if TEXT_ENCODERS.iter().any(|start| name.starts_with(start)) {
        return Err("LoRA of a text encoder is not supported, only of the transformer".into());
    }
    if let Some((_, kind)) = OTHER_KINDS.iter().find(|(part, _)| name.contains(part)) {
        return Err(format!("{kind} is not supported, only LoRA"));
    }
    // PEFT leaves the adapter's name in a state dict that it did not save itself.
    let plain =
        name.replace(".default.weight", ".weight").replace(".lora_magnitude_vector.weight", ".lora_magnitude_vector");
    let found = PARTS.iter().find_map(|(end, part)| Some((plain.strip_suffix(end)?, *part)));
    let Some((module, part)) = found else { return Ok(LoraKey::Whole(unwrapped(&plain))) };
    if !module.contains('.')
        && let Some(flat) = FLAT.iter().find_map(|start| module_from_flat(module.strip_prefix(start)?))
    {
        return Ok(LoraKey::Part(flat, part));
    }
    // diffusers' former attention processors hold the update of the layers beside them.
    let module = unwrapped(module).replace(".processor.", ".");
    let is_former = module.ends_with(".to_out") && plain.contains("_lora.");
    Ok(LoraKey::Part(if is_former { format!("{module}.0") } else { module }, part))
}

/// Returns a name without the prefixes of wrappers.
fn unwrapped(name: &str) -> String {
    let mut name = name;
    while diffusers_names(name).is_none_or(|names| names.iter().all(|own| own != name))
        && let Some(rest) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper))
    {
        name = rest;
    }
    name.replace(".base_layer.", ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_a_part_of_the_same_module() {
        let module = "transformer_blocks.0.attn1.to_q";
        for (name, part) in [
            ("base_model.model.transformer_blocks.0.attn1.to_q.lora_A.weight", LoraPart::A),
            ("base_model.model.transformer_blocks.0.attn1.to_q.lora_A.default.weight", LoraPart::A),
            ("transformer.transformer_blocks.0.attn1.to_q.lora_B.weight", LoraPart::B),
            ("unet.transformer_blocks.0.attn1.to_q.lora.up.weight", LoraPart::B),
            ("transformer_blocks.0.attn1.to_q.lora_down.weight", LoraPart::A),
            ("transformer.transformer_blocks.0.attn1.processor.to_q_lora.down.weight", LoraPart::A),
            ("lora_transformer_transformer_blocks_0_attn1_to_q.lora_up.weight", LoraPart::B),
            ("lora_unet_transformer_blocks_0_attn1_to_q.alpha", LoraPart::Alpha),
            ("lycoris_transformer_blocks_0_attn1_to_q.lora_down.weight", LoraPart::A),
            ("base_model.model.transformer_blocks.0.attn1.to_q.lora_B.bias", LoraPart::BiasOfB),
            ("base_model.model.transformer_blocks.0.attn1.to_q.lora_magnitude_vector", LoraPart::Magnitude),
            ("base_model.model.transformer_blocks.0.attn1.to_q.lora_magnitude_vector.weight", LoraPart::Magnitude),
            (
                "base_model.model.transformer_blocks.0.attn1.to_q.lora_magnitude_vector.default.weight",
                LoraPart::Magnitude,
            ),
        ] {
            assert_eq!(parse(name), Ok(LoraKey::Part(module.to_owned(), part)), "{name}");
        }
        let out = parse("transformer_blocks.0.attn2.processor.to_out_lora.up.weight");
        assert_eq!(out, Ok(LoraKey::Part("transformer_blocks.0.attn2.to_out.0".to_owned(), LoraPart::B)));
        let whole = parse("base_model.model.transformer_blocks.0.attn1.to_q.base_layer.bias");
        assert_eq!(whole, Ok(LoraKey::Whole("transformer_blocks.0.attn1.to_q.bias".to_owned())));
    }

    #[test]
    fn other_kinds_of_adapters_are_named() {
        for (name, want) in [
            ("base_model.model.proj_out.hada_w1_a", "LoHa is not supported, only LoRA"),
            ("lycoris_proj_out.lokr_w1", "LoKr is not supported, only LoRA"),
            ("base_model.model.proj_out.ia3_l", "IA3 is not supported, only LoRA"),
            ("lora_unet_proj_out.dora_scale", "DoRA of kohya's trainers is not supported, only LoRA"),
            (
                "lora_te_encoder_block_0.lora_up.weight",
                "LoRA of a text encoder is not supported, only of the transformer",
            ),
        ] {
            assert_eq!(parse(name), Err(want.to_owned()), "{name}");
        }
    }
}
