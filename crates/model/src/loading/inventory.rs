//! The tensors of networks by name and shape, from their configurations alone, in the order of their names in a checkpoint's
//! blocks. A test compares it with recorded checkpoints.

use crate::image::CHANNELS;
use pixart_weights::Folder;

use crate::Error;
use crate::loading::config::{DitConfig, PATCH, SINUSOID_CHANNELS, T5Config, VaeConfig};

/// Returns names and shapes of the tensors of the network in `dir` of a diffusers folder, from its `config.json` alone.
///
/// # Errors
/// A missing or unsupported key of the configuration, by name.
pub fn tensor_inventory(folder: &Folder, dir: &str) -> Result<Vec<(String, Vec<usize>)>, Error> {
    Ok(match dir {
        "text_encoder" => T5Config::read(folder)?.inventory(),
        "vae" => VaeConfig::read(folder)?.inventory(),
        _ => DitConfig::read(folder)?.inventory(),
    })
}

/// A tensor's name and shape.
pub(crate) type Named = (String, Vec<usize>);

struct List(Vec<Named>);

impl List {
    fn add(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.0.push((name.into(), shape.to_vec()));
    }

    /// `weight` and `bias`.
    fn map(&mut self, name: &str, shape: &[usize]) {
        self.add(format!("{name}.weight"), shape);
        self.add(format!("{name}.bias"), &shape[..1]);
    }
}

impl DitConfig {
    /// Those of the transformer.
    #[must_use]
    pub(crate) fn inventory(&self) -> Vec<Named> {
        let (mut list, c) = (List(Vec::new()), self.channels());
        let two = |list: &mut List, name: &str, inputs: usize, outputs: usize| {
            list.map(&format!("{name}.linear_1"), &[outputs, inputs]);
            list.map(&format!("{name}.linear_2"), &[outputs, outputs]);
        };
        if self.micro_conditions {
            for name in ["resolution_embedder", "aspect_ratio_embedder"] {
                two(&mut list, &format!("adaln_single.emb.{name}"), SINUSOID_CHANNELS, c / 3);
            }
        }
        two(&mut list, "adaln_single.emb.timestep_embedder", SINUSOID_CHANNELS, c);
        list.map("adaln_single.linear", &[6 * c, c]);
        two(&mut list, "caption_projection", self.caption_channels, c);
        list.map("pos_embed.proj", &[c, self.latent_channels, PATCH, PATCH]);
        list.map("proj_out", &[PATCH * PATCH * self.out_channels, c]);
        list.add("scale_shift_table", &[2, c]);
        for layer in 0..self.layers {
            let block = format!("transformer_blocks.{layer}");
            list.add(format!("{block}.scale_shift_table"), &[6, c]);
            for attention in ["attn1", "attn2"] {
                for name in ["to_q", "to_k", "to_v", "to_out.0"] {
                    list.map(&format!("{block}.{attention}.{name}"), &[c, c]);
                }
            }
            list.map(&format!("{block}.ff.net.0.proj"), &[4 * c, c]);
            list.map(&format!("{block}.ff.net.2"), &[c, 4 * c]);
        }
        list.0
    }
}

impl T5Config {
    /// Those of the encoder.
    #[must_use]
    pub(crate) fn inventory(&self) -> Vec<Named> {
        let Self { vocabulary, channels: c, heads, head_channels, hidden_channels, position_buckets, .. } = *self;
        let (mut list, inner) = (List(Vec::new()), heads * head_channels);
        list.add("shared.weight", &[vocabulary, c]);
        for layer in 0..self.layers {
            let block = format!("encoder.block.{layer}.layer");
            for name in ["q", "k", "v"] {
                list.add(format!("{block}.0.SelfAttention.{name}.weight"), &[inner, c]);
            }
            list.add(format!("{block}.0.SelfAttention.o.weight"), &[c, inner]);
            if layer == 0 {
                let name = format!("{block}.0.SelfAttention.relative_attention_bias.weight");
                list.add(name, &[position_buckets, heads]);
            }
            list.add(format!("{block}.0.layer_norm.weight"), &[c]);
            for name in ["wi_0", "wi_1"] {
                list.add(format!("{block}.1.DenseReluDense.{name}.weight"), &[hidden_channels, c]);
            }
            list.add(format!("{block}.1.DenseReluDense.wo.weight"), &[c, hidden_channels]);
            list.add(format!("{block}.1.layer_norm.weight"), &[c]);
        }
        list.add("encoder.final_layer_norm.weight", &[c]);
        list.0
    }
}

impl VaeConfig {
    /// Those of both halves of the autoencoder.
    #[must_use]
    pub(crate) fn inventory(&self) -> Vec<Named> {
        let (mut list, z) = (List(Vec::new()), self.latent_channels);
        let down = &self.block_channels;
        let up: Vec<usize> = down.iter().rev().copied().collect();
        self.half(&mut list, "encoder", [CHANNELS, 2 * z], down, "down_blocks", "downsamplers", 0);
        self.half(&mut list, "decoder", [z, CHANNELS], &up, "up_blocks", "upsamplers", 1);
        list.map("quant_conv", &[2 * z, 2 * z, 1, 1]);
        list.map("post_quant_conv", &[z, z, 1, 1]);
        list.0
    }

    #[expect(clippy::too_many_arguments, reason = "the names in which the halves differ")]
    fn half(
        &self,
        list: &mut List,
        half: &str,
        [inputs, outputs]: [usize; 2],
        widths: &[usize],
        blocks: &str,
        samplers: &str,
        more: usize,
    ) {
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let widest = if more == 0 { last } else { first };
        let conv = |list: &mut List, name: &str, [inputs, outputs]: [usize; 2]| {
            list.map(name, &[outputs, inputs, 3, 3]);
        };
        let resnet = |list: &mut List, name: &str, [inputs, outputs]: [usize; 2]| {
            list.map(&format!("{name}.norm1"), &[inputs]);
            conv(list, &format!("{name}.conv1"), [inputs, outputs]);
            list.map(&format!("{name}.norm2"), &[outputs]);
            conv(list, &format!("{name}.conv2"), [outputs, outputs]);
            if inputs != outputs {
                list.map(&format!("{name}.conv_shortcut"), &[outputs, inputs, 1, 1]);
            }
        };
        conv(list, &format!("{half}.conv_in"), [inputs, first]);
        for (index, width) in widths.iter().enumerate() {
            let block = format!("{half}.{blocks}.{index}");
            for layer in 0..self.layers_per_block + more {
                let inputs = if layer == 0 { widths[index.saturating_sub(1)] } else { *width };
                resnet(list, &format!("{block}.resnets.{layer}"), [inputs, *width]);
            }
            if index + 1 < widths.len() {
                conv(list, &format!("{block}.{samplers}.0.conv"), [*width, *width]);
            }
        }
        let mid = format!("{half}.mid_block");
        resnet(list, &format!("{mid}.resnets.0"), [widest, widest]);
        list.map(&format!("{mid}.attentions.0.group_norm"), &[widest]);
        for name in ["to_q", "to_k", "to_v", "to_out.0"] {
            list.map(&format!("{mid}.attentions.0.{name}"), &[widest, widest]);
        }
        resnet(list, &format!("{mid}.resnets.1"), [widest, widest]);
        list.map(&format!("{half}.conv_norm_out"), &[last]);
        conv(list, &format!("{half}.conv_out"), [last, outputs]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_lite::future::block_on;
    use pixart_weights::{Folder, Weights};

    use super::*;
    use crate::testing::checkpoint;

    #[track_caller]
    fn same(folder: &Folder, dir: &str, stem: &str, ours: Vec<Named>) {
        let weights = block_on(Weights::open(folder, dir, stem)).expect("recorded");
        let name = |name: &str| (name.to_owned(), weights.shape(name).expect("it has names").to_vec());
        let theirs: BTreeSet<Named> = weights.names().map(name).collect();
        let tied = |(name, _): &Named| name == "encoder.embed_tokens.weight";
        let theirs: BTreeSet<Named> = theirs.into_iter().filter(|named| !tied(named)).collect();
        let counted = ours.len();
        assert_eq!(ours.into_iter().collect::<BTreeSet<_>>(), theirs, "{dir}");
        assert_eq!(counted, theirs.len(), "{dir} names none twice");
    }

    #[test]
    fn recorded_checkpoints_hold_exactly_these() {
        for variant in ["alpha_plain", "alpha_ms1024"] {
            let folder = checkpoint(variant);
            let stem = "diffusion_pytorch_model";
            same(&folder, "transformer", stem, DitConfig::read(&folder).expect("recorded").inventory());
            same(&folder, "vae", stem, VaeConfig::read(&folder).expect("recorded").inventory());
            same(&folder, "text_encoder", "model", T5Config::read(&folder).expect("recorded").inventory());
        }
    }
}
