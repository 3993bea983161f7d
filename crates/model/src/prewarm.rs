//! Compilation of all shaders before the first image. [`kernels`] launches those of the networks. [`prewarm`] generates an
//! image with tiny networks of the checkpoint's kind, whose weights are zeros: this launches burn's own small operations of
//! guidance, the scheduler's steps and the ends of the networks.

use std::collections::HashMap;

use burn::tensor::{Device, Tensor};
use pixart_kernels::BLOCK;
use pixart_protocol::GenerateRequest;
use pixart_weights::packer::NETWORKS;
use pixart_weights::{Dtype, Folder, serialize_tensors};
use serde_json::Value;

use crate::loading::config::{DitConfig, VaeConfig};
use crate::loading::json::Json;
use crate::schedulers::class as scheduler_class;
use crate::{Batch, DeviceLimits, Error, Pipeline, PromptEmbeds, preset_of};

pub(crate) mod kernels;

/// Rows and columns of the latents. The text of some of burn's shaders depends on a tensor's size.
const SIDE: usize = 16;
/// Steps in which a solver of the third order uses all its formulas, also where it ends in lower orders.
const STEPS: u32 = 5;
const TOKENS: usize = 8;
/// Channels of the VAE. Attention with one head of this width is the only kernel of ours that the real networks do not need.
const WIDTH: usize = 4;
/// Heads: micro-conditions divide the channels by three.
const HEADS: usize = 3;

/// Generates an image `[1, 3, H, W]` by the preset of the checkpoint, with tiny networks of its kind. `configs` holds the
/// `config.json`s.
///
/// # Errors
/// A missing or unsupported key, by name.
pub async fn prewarm(configs: &Folder, device: &Device, limits: DeviceLimits) -> Result<Tensor<4>, Error> {
    let pipeline = Pipeline::load(&tiny_checkpoint(configs)?, device, limits, None).await?;
    let request = GenerateRequest { num_inference_steps: STEPS, ..preset_of(configs)?.request("") };
    let side = (SIDE * pipeline.vae.config().factor()) as u32;
    let batch = Batch { prompts: &[String::new()], negative_prompt: "", generated_size: [side; 2] };
    let prepared = pipeline.prepare_batch(&request, batch)?;
    let (rows, channels) = (prepared.prompts.len(), pipeline.transformer.config().caption_channels);
    let embeds = Tensor::zeros([rows, TOKENS, channels], device);
    let prompt_embeds = PromptEmbeds { embeds, attention_mask: Tensor::ones([rows, TOKENS], device) };
    pipeline.generate(&prepared, prompt_embeds, 0)
}

/// Returns a checkpoint with the configurations of `configs`, at the smallest sizes.
fn tiny_checkpoint(configs: &Folder) -> Result<Folder, Error> {
    let mut folder = Folder::default();
    let mut configure = |file: &str, sizes: &[(&str, Value)]| {
        let mut values = Json::read(configs, file)?.values().clone();
        values.extend(sizes.iter().map(|(key, size)| ((*key).to_owned(), size.clone())));
        folder.insert(file, Value::Object(values).to_string().into_bytes());
        Ok::<_, Error>(())
    };
    let blocks = VaeConfig::read(configs)?.block_channels.len();
    configure("scheduler/scheduler_config.json", &[("_class_name", scheduler_class(configs)?.into())])?;
    let one = [("num_attention_heads", HEADS.into()), ("num_layers", 1.into()), ("caption_channels", BLOCK.into())];
    configure("transformer/config.json", &one)?;
    let widths = vec![WIDTH; blocks].into();
    let narrow = [("block_out_channels", widths), ("layers_per_block", 1.into()), ("norm_num_groups", 1.into())];
    configure("vae/config.json", &narrow)?;
    let [dit, vae] = [DitConfig::read(&folder)?.inventory(), VaeConfig::read(&folder)?.inventory()];
    for (network, tensors) in [("transformer", dit), ("vae", vae)] {
        let zeros = tensors.into_iter().map(|(name, shape)| {
            let bytes = vec![0; shape.iter().product::<usize>() * size_of::<f32>()];
            (name, Dtype::F32, shape, bytes)
        });
        let (_, stem) = NETWORKS.iter().find(|(dir, _)| *dir == network).expect("a network of a checkpoint");
        folder.insert(format!("{network}/{stem}.safetensors"), serialize_tensors(zeros.collect(), HashMap::new()));
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::testing::checkpoint;

    #[test]
    fn tiny_networks_of_every_recorded_checkpoint_generate_an_image() {
        let recorded = ["alpha_plain", "alpha_binned", "alpha_dmd", "alpha_lcm", "alpha_ms1024", "sigma", "sigma_pag"];
        for variant in recorded {
            let (configs, device) = (checkpoint(variant), Device::flex());
            let image =
                block_on(prewarm(&configs, &device, DeviceLimits::UNLIMITED)).expect("its configurations are read");
            let factor = VaeConfig::read(&configs).expect("recorded").factor();
            assert_eq!(image.dims(), [1, 3, SIDE * factor, SIDE * factor]);
            let pixels: Vec<f32> = image.into_data().try_into_vec().expect("f32 comes back");
            assert!(pixels.iter().all(|pixel| pixel.is_finite()), "{variant}");
        }
    }
}
