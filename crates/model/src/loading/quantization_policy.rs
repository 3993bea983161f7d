//! Quantization policy of a packed checkpoint: the tensors that the networks read, the section of each, and its dtype and layout.

use pixart_weights::packer::SourceTensor;
use pixart_weights::{StoredDtype, TensorLayout, WeightFormat, is_text_encoder_tensor, is_transformer_tensor};

/// First parts of the names of the tensors of either half of an autoencoder.
const VAE_DECODER: [&str; 2] = ["decoder.", "post_quant_conv."];
const VAE_ENCODER: [&str; 2] = ["encoder.", "quant_conv."];

/// Returns a tensor's section in a packed checkpoint, and its dtype and layout there if the blocks' matrices are stored in
/// `weight_format`. Returns `None` if no network reads the tensor.
///
/// Other matrices, embeddings and convolutions are f16 where the blocks are not f32; vectors, tables and the position biases
/// are always f32.
#[must_use]
pub fn quantization_policy(
    weight: SourceTensor<'_>,
    weight_format: WeightFormat,
) -> Option<(&'static str, TensorLayout)> {
    let SourceTensor { dir, name, shape, dtype } = weight;
    let (section, is_block) = match dir {
        "text_encoder" if is_text_encoder_tensor(name) => ("text_encoder", name.starts_with("encoder.block.")),
        "transformer" if is_transformer_tensor(name) => ("transformer", name.starts_with("transformer_blocks.")),
        "vae" if is_of_decoder(name) => ("vae_decoder", false),
        "vae" if begins(name, VAE_ENCODER) => ("vae_encoder", false),
        _ => return None,
    };
    let is_table = name.ends_with("scale_shift_table") || name.contains("relative_attention_bias");
    let is_embedding = name == "shared.weight" || name == "encoder.embed_tokens.weight";
    let others = if weight_format == WeightFormat::F32 { WeightFormat::F32 } else { WeightFormat::F16 };
    let plain = TensorLayout::row_major(if others == WeightFormat::F32 { StoredDtype::F32 } else { StoredDtype::F16 });
    let layout = match *shape {
        [_] => TensorLayout::row_major(StoredDtype::F32),
        _ if is_table => TensorLayout::row_major(StoredDtype::F32),
        [rows, columns] if !is_embedding => {
            // Integers of ggml keep their numbers.
            let kept = dtype.same_numbers().filter(|kept| is_block && *kept >= WeightFormat::Q8);
            TensorLayout::matrix(kept.unwrap_or(if is_block { weight_format } else { others }), [rows, columns])
        }
        _ => plain,
    };
    Some((section, layout))
}

/// Returns whether a tensor of an autoencoder is its decoder's.
pub(crate) fn is_of_decoder(name: &str) -> bool {
    begins(name, VAE_DECODER)
}

fn begins(name: &str, firsts: [&str; 2]) -> bool {
    firsts.iter().any(|first| name.starts_with(first))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pixart_weights::{text_encoder_tensor_names, transformer_tensor_names};

    use super::*;
    use crate::loading::config::{DitConfig, T5_XL, T5Config, XL_2, sd_vae};

    fn of(dir: &str, name: &str, shape: &[usize]) -> Option<(&'static str, StoredDtype, bool)> {
        let (section, layout) =
            quantization_policy(SourceTensor { dir, name, shape, dtype: StoredDtype::F32 }, WeightFormat::Q8)?;
        Some((section, layout.dtype, layout.transposed))
    }

    #[test]
    fn only_the_matrices_of_blocks_lose_precision() {
        for (dir, name, shape, kept) in [
            (
                "transformer",
                "transformer_blocks.3.attn1.to_q.weight",
                &[64, 64][..],
                ("transformer", StoredDtype::Q8, true),
            ),
            ("transformer", "transformer_blocks.3.attn1.to_q.bias", &[64], ("transformer", StoredDtype::F32, false)),
            (
                "transformer",
                "transformer_blocks.3.scale_shift_table",
                &[6, 64],
                ("transformer", StoredDtype::F32, false),
            ),
            ("transformer", "adaln_single.linear.weight", &[384, 64], ("transformer", StoredDtype::F16, true)),
            ("transformer", "pos_embed.proj.weight", &[64, 4, 2, 2], ("transformer", StoredDtype::F16, false)),
            ("transformer", "proj_out.weight", &[30, 64], ("transformer", StoredDtype::F32, true)),
            ("text_encoder", "shared.weight", &[320, 64], ("text_encoder", StoredDtype::F16, false)),
            (
                "text_encoder",
                "encoder.block.1.layer.0.SelfAttention.q.weight",
                &[64, 64],
                ("text_encoder", StoredDtype::Q8, true),
            ),
            ("vae", "decoder.mid_block.attentions.0.to_q.weight", &[64, 64], ("vae_decoder", StoredDtype::F16, true)),
            ("vae", "quant_conv.weight", &[8, 8, 1, 1], ("vae_encoder", StoredDtype::F16, false)),
        ] {
            assert_eq!(of(dir, name, shape), Some(kept), "{name}");
        }
        let bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
        assert_eq!(of("text_encoder", bias, &[32, 64]), Some(("text_encoder", StoredDtype::F32, false)));
    }

    #[test]
    fn files_are_renamed_to_exactly_the_tensors_that_the_networks_load() {
        let names = |inventory: Vec<(String, Vec<usize>)>| inventory.into_iter().map(|(name, _)| name).collect();
        let dit: BTreeSet<String> = names(DitConfig { layers: 1, micro_conditions: true, ..XL_2 }.inventory());
        assert_eq!(transformer_tensor_names(), dit);
        let t5: BTreeSet<String> = names(T5Config { layers: 1, ..T5_XL }.inventory());
        assert_eq!(text_encoder_tensor_names(), t5);
    }

    /// A packed matrix is in the format in which the device holds it, so that nothing is converted while it loads.
    #[test]
    fn a_packed_checkpoint_has_every_tensor_that_is_loaded_with_the_blocks_in_the_format_of_the_device() {
        let config = DitConfig { layers: 2, micro_conditions: true, ..XL_2 };
        for format in WeightFormat::ALL {
            for tensor in config.declared(format) {
                let source = SourceTensor {
                    dir: "transformer",
                    name: &tensor.name,
                    shape: &tensor.shape,
                    dtype: StoredDtype::F32,
                };
                let (_, layout) = quantization_policy(source, format).expect("a network reads it");
                let is_matrix = tensor.shape.len() == 2 && tensor.name.starts_with("transformer_blocks.");
                let stored = layout.weight_format().unwrap_or(WeightFormat::F32);
                assert!(!is_matrix || stored == tensor.format, "{}: {stored}, {}", tensor.name, tensor.format);
            }
        }
        for (dir, inventory) in
            [("vae", sd_vae().inventory()), ("text_encoder", T5Config { layers: 2, ..T5_XL }.inventory())]
        {
            for (name, shape) in inventory {
                assert!(of(dir, &name, &shape).is_some(), "{dir}: {name}");
            }
        }
    }

    #[test]
    fn what_no_network_reads_is_left_out() {
        for (dir, name) in [
            ("transformer", "pos_embed.pos_embed"),
            ("transformer", "caption_projection.y_embedding"),
            ("text_encoder", "lm_head.weight"),
            ("safety_checker", "w"),
        ] {
            assert_eq!(of(dir, name, &[64, 64]), None, "{name}");
        }
    }
}
