//! The tensor names of PixArt's own checkpoints and of other tools, as diffusers' names.
//!
//! Source: diffusers `scripts/convert_pixart_alpha_to_diffusers.py` and PixArt-Σ's `tools/convert_pixart_to_diffusers.py`.

/// Prefixes that wrappers of a network leave in front of its names: `DataParallel`, `torch.compile`, Lightning, ComfyUI, PEFT.
pub(crate) const WRAPPERS: [&str; 8] =
    ["module.", "model.", "net.", "_orig_mod.", "diffusion_model.", "transformer.", "unet.", "base_model."];
/// First parts of diffusers' names.
const DIFFUSERS: [&str; 5] = ["transformer_blocks.", "adaln_single.", "caption_projection.", "pos_embed.", "proj_out."];
const SCALE_SHIFT_TABLE: &str = "scale_shift_table";
/// Module names of PixArt and of diffusers. Those of a block are relative to it.
const MODULES: [(&str, &str); 14] = [
    ("x_embedder.proj", "pos_embed.proj"),
    ("y_embedder.y_proj.fc1", "caption_projection.linear_1"),
    ("y_embedder.y_proj.fc2", "caption_projection.linear_2"),
    ("t_embedder.mlp.0", "adaln_single.emb.timestep_embedder.linear_1"),
    ("t_embedder.mlp.2", "adaln_single.emb.timestep_embedder.linear_2"),
    ("csize_embedder.mlp.0", "adaln_single.emb.resolution_embedder.linear_1"),
    ("csize_embedder.mlp.2", "adaln_single.emb.resolution_embedder.linear_2"),
    ("ar_embedder.mlp.0", "adaln_single.emb.aspect_ratio_embedder.linear_1"),
    ("ar_embedder.mlp.2", "adaln_single.emb.aspect_ratio_embedder.linear_2"),
    ("t_block.1", "adaln_single.linear"),
    ("final_layer.linear", "proj_out"),
    ("attn.proj", "attn1.to_out.0"),
    ("cross_attn.proj", "attn2.to_out.0"),
    ("cross_attn.q_linear", "attn2.to_q"),
];
/// Module names of a block's feed-forward layers, of PixArt and of diffusers.
const FEED_FORWARD: [(&str, &str); 2] = [("mlp.fc1", "ff.net.0.proj"), ("mlp.fc2", "ff.net.2")];
/// Modules of PixArt whose weights are several of diffusers', concatenated along the outputs.
const FUSED: [(&str, &[&str]); 2] = [
    ("attn.qkv", &["attn1.to_q", "attn1.to_k", "attn1.to_v"]),
    ("cross_attn.kv_linear", &["attn2.to_k", "attn2.to_v"]),
];

/// Returns diffusers' names of the tensor `name`, which is PixArt's or diffusers' own, with or without prefixes of wrappers;
/// `None` for an unknown name.
pub(crate) fn diffusers_names(name: &str) -> Option<Vec<String>> {
    let mut name = name;
    loop {
        if name == SCALE_SHIFT_TABLE || DIFFUSERS.iter().any(|first| name.starts_with(first)) {
            return Some(vec![name.to_owned()]);
        }
        if let Some(names) = from_pixart(name) {
            return Some(names);
        }
        name = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper))?;
    }
}

/// Returns diffusers' names of the tensor that PixArt calls `name`; `None` for an unknown name.
fn from_pixart(name: &str) -> Option<Vec<String>> {
    let (prefix, own) = match name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
        Some((index, own)) => (format!("transformer_blocks.{}.", index.parse::<usize>().ok()?), own),
        None => (String::new(), name),
    };
    if matches!((prefix.is_empty(), own), (false, SCALE_SHIFT_TABLE) | (true, "final_layer.scale_shift_table")) {
        return Some(vec![format!("{prefix}{SCALE_SHIFT_TABLE}")]);
    }
    let (module, part) = own.rsplit_once('.').filter(|(_, part)| ["weight", "bias"].contains(part))?;
    if let Some((_, names)) = FUSED.iter().find(|(theirs, _)| *theirs == module) {
        return Some(names.iter().map(|name| format!("{prefix}{name}.{part}")).collect());
    }
    let (_, ours) = MODULES.iter().chain(&FEED_FORWARD).find(|(theirs, _)| *theirs == module)?;
    Some(vec![format!("{prefix}{ours}.{part}")])
}

/// Returns the module that kohya's trainers call `flat`, with underscores for dots: `transformer_blocks_0_attn1_to_q`.
pub(crate) fn module_from_flat(flat: &str) -> Option<String> {
    let in_block = |rest: &str| {
        let (index, own) = rest.split_once('_')?;
        index.parse::<usize>().ok().map(|index| (index, own.to_owned()))
    };
    let (prefix, own) = ["transformer_blocks", "blocks"]
        .iter()
        .find_map(|list| {
            let (index, own) = in_block(flat.strip_prefix(list)?.strip_prefix('_')?)?;
            Some((format!("{list}.{index}."), own))
        })
        .unwrap_or((String::new(), flat.to_owned()));
    let pairs = MODULES.iter().chain(&FEED_FORWARD).flat_map(|(theirs, ours)| [*theirs, *ours]);
    let fused = FUSED.iter().flat_map(|(theirs, ours)| std::iter::once(*theirs).chain(ours.iter().copied()));
    let module = pairs.chain(fused).find(|module| module.replace('.', "_") == own)?;
    Some(format!("{prefix}{module}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pixart_and_of_wrappers_are_diffusers_names() {
        for (name, want) in [
            ("blocks.3.attn.qkv.weight", &["transformer_blocks.3.attn1.to_q.weight"][..]),
            ("module.blocks.3.mlp.fc1.bias", &["transformer_blocks.3.ff.net.0.proj.bias"]),
            ("model.diffusion_model.final_layer.scale_shift_table", &["scale_shift_table"]),
            ("_orig_mod.module.transformer_blocks.0.scale_shift_table", &["transformer_blocks.0.scale_shift_table"]),
            ("net.scale_shift_table", &["scale_shift_table"]),
            ("proj_out.weight", &["proj_out.weight"]),
        ] {
            let got = diffusers_names(name).expect(name);
            assert_eq!(got[..want.len()], *want, "{name}");
        }
        let fused = diffusers_names("model.blocks.0.cross_attn.kv_linear.bias").expect("fused");
        assert_eq!(fused, ["transformer_blocks.0.attn2.to_k.bias", "transformer_blocks.0.attn2.to_v.bias"]);
        for name in ["pos_embed", "blocks.x.attn.proj.weight", "encoder.weight", "module.", "y_embedder.y_embedding"] {
            assert_eq!(diffusers_names(name), None, "{name}");
        }
    }

    #[test]
    fn flat_names_are_modules() {
        for (flat, want) in [
            ("transformer_blocks_10_attn1_to_out_0", Some("transformer_blocks.10.attn1.to_out.0")),
            ("blocks_2_cross_attn_kv_linear", Some("blocks.2.cross_attn.kv_linear")),
            ("adaln_single_emb_timestep_embedder_linear_1", Some("adaln_single.emb.timestep_embedder.linear_1")),
            ("proj_out", Some("proj_out")),
            ("transformer_blocks_0_ff_net_2", Some("transformer_blocks.0.ff.net.2")),
            ("transformer_blocks_x_ff_net_2", None),
            ("down_blocks_0_attn", None),
        ] {
            assert_eq!(module_from_flat(flat).as_deref(), want);
        }
    }
}
