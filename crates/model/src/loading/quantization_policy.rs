//! Quantization policy of a packed checkpoint: the tensors that the networks read, the section of each, and its dtype and layout.

use pixart_weights::packer::SourceTensor;
use pixart_weights::{StoredDtype, TensorLayout, WeightFormat};

/// Prefixes of the transformer's tensors besides its blocks.
const TRANSFORMER: [&str; 5] =
    ["adaln_single.", "caption_projection.", "pos_embed.proj.", "proj_out.", "scale_shift_table"];

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
    let begins = |with: &[&str]| with.iter().any(|with| name.starts_with(with));
    let (section, is_block) = match dir {
        "text_encoder" if name.starts_with("encoder.block.") => ("text_encoder", true),
        "text_encoder" if begins(&["shared.", "encoder."]) => ("text_encoder", false),
        "transformer" if name.starts_with("transformer_blocks.") => ("transformer", true),
        "transformer" if begins(&TRANSFORMER) => ("transformer", false),
        "vae" if begins(&["decoder.", "post_quant_conv."]) => ("vae_decoder", false),
        "vae" if begins(&["encoder.", "quant_conv."]) => ("vae_encoder", false),
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_no_network_reads_is_left_out() {
        for (dir, name) in
            [("transformer", "pos_embed.pos_embed"), ("text_encoder", "lm_head.weight"), ("safety_checker", "w")]
        {
            assert_eq!(of(dir, name, &[64, 64]), None, "{name}");
        }
    }
}
