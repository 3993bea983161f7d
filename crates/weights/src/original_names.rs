//! The tensor names of PixArt's own checkpoints and of other tools, as diffusers' names.
//!
//! Source: diffusers `scripts/convert_pixart_alpha_to_diffusers.py` and PixArt-Σ's `tools/convert_pixart_to_diffusers.py`.

use std::collections::BTreeSet;

/// Prefixes that wrappers of a network leave in front of its names: `DataParallel`, `torch.compile`, Lightning, ComfyUI, PEFT.
pub(crate) const WRAPPERS: [&str; 8] =
    ["module.", "model.", "net.", "_orig_mod.", "diffusion_model.", "transformer.", "unet.", "base_model."];
const SCALE_SHIFT_TABLE: &str = "scale_shift_table";
/// diffusers' name of the list of blocks.
const BLOCKS: &str = "transformer_blocks";
/// Names of modules, of PixArt and of diffusers: those outside of the blocks, and those of a block, relative to it.
const MODULES: [(&str, &str); 11] = [
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
];
const BLOCK_MODULES: [(&str, &str); 5] = [
    ("attn.proj", "attn1.to_out.0"),
    ("cross_attn.proj", "attn2.to_out.0"),
    ("cross_attn.q_linear", "attn2.to_q"),
    ("mlp.fc1", "ff.net.0.proj"),
    ("mlp.fc2", "ff.net.2"),
];
/// Modules of a PixArt block whose weights are several of diffusers', concatenated along the outputs.
const FUSED: [(&str, &[&str]); 2] = [
    ("attn.qkv", &["attn1.to_q", "attn1.to_k", "attn1.to_v"]),
    ("cross_attn.kv_linear", &["attn2.to_k", "attn2.to_v"]),
];

/// Tensors of a module.
const PARTS: [&str; 2] = ["weight", "bias"];

/// Returns diffusers' names of the tensor `name`, which is PixArt's or diffusers' own, with or without prefixes of wrappers;
/// `None` for an unknown name.
pub(crate) fn diffusers_names(name: &str) -> Option<Vec<String>> {
    let mut name = name;
    loop {
        if begins_as_in_diffusers(name) {
            return Some(vec![name.to_owned()]);
        }
        if let Some(names) = from_pixart(name) {
            return Some(names);
        }
        name = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper))?;
    }
}

/// Returns whether the first part of a tensor's name is one of diffusers' transformer.
fn begins_as_in_diffusers(name: &str) -> bool {
    let is_first =
        |first: &str| first == BLOCKS || MODULES.iter().any(|(_, ours)| ours.split('.').next() == Some(first));
    name == SCALE_SHIFT_TABLE || name.split_once('.').is_some_and(|(first, _)| is_first(first))
}

/// Splits the name of a tensor or module in a list of blocks into the block's index and the rest.
fn in_block<'a>(name: &'a str, list: &str, separator: char) -> Option<(usize, &'a str)> {
    let (index, own) = name.strip_prefix(list)?.strip_prefix(separator)?.split_once(separator)?;
    Some((index.parse().ok()?, own))
}

/// Returns diffusers' names of the tensor that PixArt calls `name`; `None` for an unknown name.
fn from_pixart(name: &str) -> Option<Vec<String>> {
    let (prefix, own, modules, table) = match in_block(name, "blocks", '.') {
        Some((index, own)) => (format!("{BLOCKS}.{index}."), own, &BLOCK_MODULES[..], SCALE_SHIFT_TABLE),
        None => (String::new(), name, &MODULES[..], "final_layer.scale_shift_table"),
    };
    if own == table {
        return Some(vec![format!("{prefix}{SCALE_SHIFT_TABLE}")]);
    }
    let (module, part) = own.rsplit_once('.').filter(|(_, part)| PARTS.contains(part))?;
    let fused = FUSED.iter().find(|(theirs, _)| *theirs == module && !prefix.is_empty());
    if let Some((_, names)) = fused {
        return Some(names.iter().map(|name| format!("{prefix}{name}.{part}")).collect());
    }
    let (_, ours) = modules.iter().find(|(theirs, _)| *theirs == module)?;
    Some(vec![format!("{prefix}{ours}.{part}")])
}

/// Returns the modules of a block by diffusers' names.
fn block_modules() -> impl Iterator<Item = &'static str> {
    BLOCK_MODULES.iter().map(|(_, ours)| *ours).chain(FUSED.iter().flat_map(|(_, ours)| ours.iter().copied()))
}

/// Returns whether diffusers' transformer has a tensor of this name.
#[must_use]
pub fn is_transformer_tensor(name: &str) -> bool {
    let block = in_block(name, BLOCKS, '.');
    let own = block.map_or(name, |(_, own)| own);
    let is_module = |module: &str| match block {
        Some(_) => block_modules().any(|known| known == module),
        None => MODULES.iter().any(|(_, known)| *known == module),
    };
    own == SCALE_SHIFT_TABLE
        || own.rsplit_once('.').is_some_and(|(module, part)| PARTS.contains(&part) && is_module(module))
}

/// Returns the names of all tensors of a transformer of one block with size conditions, in diffusers' words: those that files of
/// any tool are renamed to. What the network loads is compared with them.
#[must_use]
pub fn transformer_tensor_names() -> BTreeSet<String> {
    let outside = MODULES.iter().map(|(_, ours)| (*ours).to_owned());
    let modules = outside.chain(block_modules().map(|module| format!("{BLOCKS}.0.{module}")));
    let tables = [SCALE_SHIFT_TABLE.to_owned(), format!("{BLOCKS}.0.{SCALE_SHIFT_TABLE}")];
    modules.flat_map(|module| PARTS.map(|part| format!("{module}.{part}"))).chain(tables).collect()
}

/// Returns the module that kohya's trainers call `flat`, with underscores for dots: `transformer_blocks_0_attn1_to_q`.
pub(crate) fn module_from_flat(flat: &str) -> Option<String> {
    let is_flat = |module: &&str, own: &str| module.replace('.', "_") == own;
    let block = [BLOCKS, "blocks"].iter().find_map(|list| Some((list, in_block(flat, list, '_')?)));
    let Some((list, (index, own))) = block else {
        let mut modules = MODULES.iter().flat_map(|(theirs, ours)| [*theirs, *ours]);
        return modules.find(|module| is_flat(module, flat)).map(str::to_owned);
    };
    let theirs = BLOCK_MODULES.iter().map(|(theirs, _)| *theirs).chain(FUSED.iter().map(|(theirs, _)| *theirs));
    let module = block_modules().chain(theirs).find(|module| is_flat(module, own))?;
    Some(format!("{list}.{index}.{module}"))
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
        for name in [
            "pos_embed",
            "blocks.x.attn.proj.weight",
            "encoder.weight",
            "module.",
            "y_embedder.y_embedding",
            "attn.proj.weight",
        ] {
            assert_eq!(diffusers_names(name), None, "{name}");
        }
    }

    #[test]
    fn a_tensor_is_the_transformers_by_its_whole_name() {
        for name in transformer_tensor_names() {
            assert!(is_transformer_tensor(&name), "{name}");
        }
        assert!(is_transformer_tensor("transformer_blocks.27.attn2.to_v.bias"));
        for name in [
            "pos_embed.pos_embed",
            "caption_projection.y_embedding",
            "attn1.to_q.weight",
            "transformer_blocks.0.proj_out.bias",
        ] {
            assert!(!is_transformer_tensor(name), "{name}");
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
