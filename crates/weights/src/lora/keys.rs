//! The names of an adapter's tensors, as PEFT, diffusers, kohya's trainers, LyCORIS, OneTrainer, SimpleTuner and ComfyUI spell them.
//!
//! Sources: PEFT `utils/save_and_load.py`, diffusers `loaders/lora_conversion_utils.py`, sd-scripts `networks/lora.py`, LyCORIS
//! `wrapper.py`, OneTrainer `modules/util/convert_lora_util.py`, ComfyUI `comfy/lora.py`.

use std::fmt;

use crate::gguf::{is_t5, t5_module_from_flat};
use crate::original_names::{WRAPPERS, diffusers_names, module_from_flat};

/// A tensor of an adapter.
#[derive(Debug, PartialEq)]
pub(super) enum LoraKey {
    /// A part of the change of a module.
    Part(String, LoraPart),
    /// A tensor of the network that is saved whole, by its name there.
    Whole(String),
}

/// A part of the change of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoraPart {
    A,
    B,
    Core,
    Alpha,
    BiasOfB,
    Magnitude,
    DoraScale,
    Diff,
    DiffBias,
    HadaW1A,
    HadaW1B,
    HadaT1,
    HadaW2A,
    HadaW2B,
    HadaT2,
    KronW1,
    KronW1A,
    KronW1B,
    KronT1,
    KronW2,
    KronW2A,
    KronW2B,
    KronT2,
}

/// Ends of names, after the module, the first of a part being its name in errors.
const PARTS: [(&str, LoraPart); 37] = [
    (".lora_A.weight", LoraPart::A),
    (".lora_A", LoraPart::A),
    (".lora_down.weight", LoraPart::A),
    (".lora.down.weight", LoraPart::A),
    (".lora_linear_layer.down.weight", LoraPart::A),
    ("_lora.down.weight", LoraPart::A),
    (".lora_B.weight", LoraPart::B),
    (".lora_B", LoraPart::B),
    (".lora_up.weight", LoraPart::B),
    (".lora.up.weight", LoraPart::B),
    (".lora_linear_layer.up.weight", LoraPart::B),
    ("_lora.up.weight", LoraPart::B),
    (".lora_mid.weight", LoraPart::Core),
    (".alpha", LoraPart::Alpha),
    (".lora_B.bias", LoraPart::BiasOfB),
    (".lora_magnitude_vector", LoraPart::Magnitude),
    (".lora_magnitude_vector.weight", LoraPart::Magnitude),
    (".dora_scale", LoraPart::DoraScale),
    (".diff", LoraPart::Diff),
    (".w_norm", LoraPart::Diff),
    (".diff_b", LoraPart::DiffBias),
    (".b_norm", LoraPart::DiffBias),
    (".hada_w1_a", LoraPart::HadaW1A),
    (".hada_w1_b", LoraPart::HadaW1B),
    (".hada_t1", LoraPart::HadaT1),
    (".hada_w2_a", LoraPart::HadaW2A),
    (".hada_w2_b", LoraPart::HadaW2B),
    (".hada_t2", LoraPart::HadaT2),
    (".lokr_w1", LoraPart::KronW1),
    (".lokr_w1_a", LoraPart::KronW1A),
    (".lokr_w1_b", LoraPart::KronW1B),
    (".lokr_t1", LoraPart::KronT1),
    (".lokr_w2", LoraPart::KronW2),
    (".lokr_w2_a", LoraPart::KronW2A),
    (".lokr_w2_b", LoraPart::KronW2B),
    (".lokr_t2", LoraPart::KronT2),
    (".lora_linear_layer.bias", LoraPart::BiasOfB),
];
/// Parts of names of adapters that are no changes of weights by addition, and what these are called.
const OTHER_KINDS: [(&str, &str); 12] = [
    (".ia3_", "IA3"),
    (".on_input", "IA3"),
    (".oft_", "OFT"),
    (".boft_", "BOFT"),
    (".a1.weight", "GLoRA"),
    (".b1.weight", "GLoRA"),
    (".vera_", "VeRA"),
    (".lora_embedding_", "LoRA of embeddings"),
    (".lora_E", "AdaLoRA"),
    (".reshape_weight", "a weight of another shape"),
    (".set_weight", "a replaced weight"),
    ("bundle_emb.", "an embedding for words of the prompt"),
];
/// Starts of the flat names of trainers, the longest first. `lora_te` may have a number behind it.
const FLAT: [&str; 7] =
    ["lora_transformer_", "lora_unet_", "lycoris_unet_", "lora_te", "lycoris_te", "lycoris_", "lora_"];
/// Prefixes of a text encoder's modules.
const TEXT_WRAPPERS: [&str; 4] = ["text_encoders.", "text_encoder.", "t5xxl.", "te1."];
/// Parts of names that networks other than PixArt have, and what these are called.
const ARCHITECTURES: [(&str, &str); 15] = [
    ("single_blocks", "Flux"),
    ("single_transformer_blocks", "Flux"),
    ("double_blocks", "Flux"),
    ("joint_blocks", "Stable Diffusion 3"),
    ("joint_transformer_blocks", "AuraFlow"),
    ("add_q_proj", "Stable Diffusion 3 or Flux"),
    ("down_blocks", "Stable Diffusion 1, 2 or XL"),
    ("up_blocks", "Stable Diffusion 1, 2 or XL"),
    ("mid_block", "Stable Diffusion 1, 2 or XL"),
    ("input_blocks", "Stable Diffusion 1, 2 or XL"),
    ("output_blocks", "Stable Diffusion 1, 2 or XL"),
    ("middle_block", "Stable Diffusion 1, 2 or XL"),
    ("text_model", "Stable Diffusion 1, 2 or XL"),
    ("img_mlp", "Qwen-Image"),
    ("conv_inverted", "Sana"),
];

impl fmt::Display for LoraPart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (end, _) = PARTS.iter().find(|(_, part)| part == self).expect("every part has a name");
        out.write_str(end.trim_start_matches('.').trim_end_matches(".weight"))
    }
}

/// Returns what the network is called that has a tensor of this name; `None` where it may be PixArt.
pub(super) fn other_architecture(name: &str) -> Option<&'static str> {
    ARCHITECTURES.iter().find(|(part, _)| name.contains(part)).map(|(_, architecture)| *architecture)
}

/// Parses the name of a tensor; the error says why an adapter with it is not supported.
pub(super) fn parse(name: &str) -> Result<LoraKey, String> {
    if let Some((_, kind)) = OTHER_KINDS.iter().find(|(part, _)| name.contains(part)) {
        return Err(format!("{kind} is not supported, only LoRA, LoHa and LoKr"));
    }
    // PEFT leaves the adapter's name in a state dict that it did not save itself.
    let plain = name.replace(".default.weight", ".weight");
    let plain = plain.strip_suffix(".default").unwrap_or(&plain);
    let found = PARTS.iter().find_map(|(end, part)| Some((plain.strip_suffix(end)?, *part)));
    let Some((module, part)) = found else { return Ok(LoraKey::Whole(unwrapped(plain))) };
    let unknown = || format!("`{module}` is no module of PixArt's transformer or of T5");
    if !module.contains('.')
        && let Some(flat) = FLAT.iter().find_map(|start| module.strip_prefix(start))
    {
        let flat = flat.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches('_');
        let found = module_from_flat(flat).or_else(|| t5_module_from_flat(flat)).ok_or_else(unknown)?;
        return Ok(LoraKey::Part(found, part));
    }
    // diffusers' former attention processors hold the update of the layers beside them.
    let own = unwrapped(module).replace(".processor.", ".");
    let is_former = own.ends_with(".to_out") && plain.contains("_lora.");
    let own = if is_former { format!("{own}.0") } else { own };
    if !is_known(&format!("{own}.weight")) {
        return Err(unknown());
    }
    Ok(LoraKey::Part(own, part))
}

/// Returns whether a tensor may be one of PixArt's transformer or of T5, by diffusers' and transformers' names, or PixArt's own.
fn is_known(name: &str) -> bool {
    is_t5(name) || diffusers_names(name).is_some()
}

/// Returns a name without the prefixes of wrappers.
fn unwrapped(name: &str) -> String {
    let is_own =
        |name: &str| is_t5(name) || diffusers_names(name).is_some_and(|names| names.iter().any(|own| own == name));
    let mut name = name;
    while !is_own(name)
        && let Some(rest) = TEXT_WRAPPERS.iter().chain(&WRAPPERS).find_map(|wrapper| name.strip_prefix(wrapper))
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
    fn every_tool_names_the_same_modules() {
        let modules = [
            ("transformer_blocks.0.attn1.to_out.0", "blocks.0.attn.proj"),
            ("transformer_blocks.27.ff.net.0.proj", "blocks.27.mlp.fc1"),
            ("transformer_blocks.3.attn2.to_q", "blocks.3.cross_attn.q_linear"),
            ("adaln_single.linear", "t_block.1"),
            ("caption_projection.linear_1", "y_embedder.y_proj.fc1"),
        ];
        for (diffusers, pixart) in modules {
            let (flat, flat_pixart) = (diffusers.replace('.', "_"), pixart.replace('.', "_"));
            for (name, want) in [
                (format!("{diffusers}.lora_A"), diffusers),
                (format!("transformer.{diffusers}.lora_A.weight"), diffusers),
                (format!("base_model.model.{diffusers}.lora_A.weight"), diffusers),
                (format!("unet.base_model.model.{diffusers}.lora_A.weight"), diffusers),
                (format!("lora_transformer_{flat}.lora_down.weight"), diffusers),
                (format!("lycoris_{flat}.lora_down.weight"), diffusers),
                (format!("lora_unet_{flat_pixart}.lora_down.weight"), pixart),
                (format!("{pixart}.lora_A.weight"), pixart),
                (format!("diffusion_model.{pixart}.lora_A.weight"), pixart),
                (format!("model.diffusion_model.{pixart}.lora_down.weight"), pixart),
            ] {
                // PixArt's own names may stay: they are split and renamed with the weights.
                let Ok(LoraKey::Part(module, LoraPart::A)) = parse(&name) else { panic!("{name}") };
                let names = diffusers_names(&format!("{module}.weight")).expect("a known module");
                assert_eq!(Some(names), diffusers_names(&format!("{want}.weight")), "{name}");
            }
        }
    }

    #[test]
    fn modules_of_the_text_encoder_have_transformers_names() {
        let (q, norm) = ("encoder.block.11.layer.0.SelfAttention.q", "encoder.final_layer_norm");
        for (name, module, part) in [
            ("lora_te_encoder_block_11_layer_0_SelfAttention_q.lora_down.weight", q, LoraPart::A),
            ("lora_te1_encoder_block_11_layer_0_SelfAttention_q.alpha", q, LoraPart::Alpha),
            ("text_encoder.encoder.block.11.layer.0.SelfAttention.q.lora_B.weight", q, LoraPart::B),
            ("text_encoder.base_model.model.encoder.block.11.layer.0.SelfAttention.q.lora_B.weight", q, LoraPart::B),
            (
                "text_encoders.t5xxl.transformer.encoder.block.11.layer.0.SelfAttention.q.hada_w1_a",
                q,
                LoraPart::HadaW1A,
            ),
            ("base_model.model.encoder.block.11.layer.0.SelfAttention.q.lokr_w2", q, LoraPart::KronW2),
            ("lycoris_te_encoder_final_layer_norm.w_norm", norm, LoraPart::Diff),
        ] {
            assert_eq!(parse(name), Ok(LoraKey::Part(module.to_owned(), part)), "{name}");
        }
    }

    #[test]
    fn other_kinds_of_adapters_and_unknown_modules_are_named() {
        for (name, want) in [
            ("base_model.model.proj_out.ia3_l", "IA3 is not supported, only LoRA, LoHa and LoKr"),
            ("transformer.proj_out.oft_R.weight", "OFT is not supported, only LoRA, LoHa and LoKr"),
            ("bundle_emb.<cat>.t5", "an embedding for words of the prompt is not supported, only LoRA, LoHa and LoKr"),
            ("lora_unet_head.lora_up.weight", "`lora_unet_head` is no module of PixArt's transformer or of T5"),
            (
                "transformer.blocks.0.self_attn.lora_A.weight",
                "`transformer.blocks.0.self_attn` is no module of PixArt's transformer or of T5",
            ),
        ] {
            assert_eq!(parse(name), Err(want.to_owned()), "{name}");
        }
        for (name, want) in [
            ("lora_unet_down_blocks_0_attentions_0_proj_in.alpha", Some("Stable Diffusion 1, 2 or XL")),
            ("lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha", Some("Stable Diffusion 1, 2 or XL")),
            ("transformer.single_transformer_blocks.0.proj_out.lora_A.weight", Some("Flux")),
            ("lora_unet_double_blocks_0_img_attn_qkv.alpha", Some("Flux")),
            ("diffusion_model.joint_blocks.0.x_block.attn.qkv.lora_A.weight", Some("Stable Diffusion 3")),
            ("transformer.transformer_blocks.0.attn.add_q_proj.lora_A.weight", Some("Stable Diffusion 3 or Flux")),
            ("transformer.transformer_blocks.0.attn1.to_q.lora_A.weight", None),
        ] {
            assert_eq!(other_architecture(name), want, "{name}");
        }
    }
}
