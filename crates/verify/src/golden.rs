//! Networks and sampler against tensors recorded from diffusers, tap by tap. A variant is a folder with
//! `meta.json`, `pipeline/` (a diffusers folder) and the recordings `text`, `dit_step0`, `sampling`, `vae` and `image`.
//!
//! Latents that have gone through several guided steps carry the reference's own f32 rounding, amplified; where
//! `meta.json` records its size (`sampling_rounding`), the bound is twice that or the tolerance, whichever is larger, and
//! the row shows it.
//!
//! Every recorded tensor gets a row: compared, or failed with a reason, or named as not built. Stages are fed with the
//! recorded inputs, so that a stage's error is its own; only the image is generated end to end from the prompts.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use pixart_model::{
    Comparison, DecodeMode, DiagonalGaussian, Dit, Error, MicroConditions, Taps, TextEncoder, Tiling, Vae, compare,
    normalize_caption, randn, tensor_from_file, values_read,
};
use pixart_protocol::{GenerateRequest, TapRow, Verdict};
use pixart_weights::{Folder, Tensors};

mod image;
mod meta;

use meta::GoldenMeta;

/// Largest difference of an 8-bit pixel: a value on a rounding edge falls to either side.
const IMAGE_TOLERANCE: f64 = 1.0;
/// torch's f32 `exp` is one unit in the last place off at some of the 128 frequencies, 3e-8, and the angle is that
/// times a timestep of up to 999. Taps behind these sinusoids are held to the caller's tolerance again.
const SINUSOID_TOLERANCE: f64 = 5e-5;
/// Side of a recorded tile in pixels (`tile_sample_min_size` of the recorded checkpoints).
const TILE_PIXELS: usize = 64;
/// Seed of the recorded posterior sample.
const POSTERIOR_SEED: u64 = 9;

/// Compares every recorded tensor of `variant`. `tolerance` is relative to each tensor's largest magnitude.
pub async fn check(variant: &str, folder: &Folder, device: &Device, tolerance: f64) -> Vec<TapRow> {
    check_pipeline(variant, folder, &folder.under("pipeline/"), device, tolerance).await
}

/// Does what [`check`] does with the checkpoint in a folder of its own.
pub async fn check_pipeline(
    variant: &str,
    folder: &Folder,
    pipeline: &Folder,
    device: &Device,
    tolerance: f64,
) -> Vec<TapRow> {
    let mut check = GoldenCheck { variant, folder, pipeline, device, tolerance, rows: Vec::new() };
    for stage in ["text", "dit_step0", "sampling", "vae", "image"] {
        let outcome = match stage {
            "text" => check.text().await,
            "dit_step0" => check.dit().await,
            "sampling" => check.sampling().await,
            "vae" => check.vae().await,
            _ => check.image().await,
        };
        if let Err(error) = outcome {
            let verdict = match &error {
                // The configuration names what this build does not support.
                Error::Config { why, .. } if why.contains("is not supported") => {
                    Verdict::NotBuilt { why: error.to_string() }
                }
                _ => Verdict::Fail { why: error.to_string() },
            };
            check.row(stage, verdict);
        }
    }
    check.rows
}

struct GoldenCheck<'a> {
    variant: &'a str,
    folder: &'a Folder,
    /// The checkpoint.
    pipeline: &'a Folder,
    device: &'a Device,
    tolerance: f64,
    rows: Vec<TapRow>,
}

impl GoldenCheck<'_> {
    async fn text(&mut self) -> Result<(), Error> {
        let meta = GoldenMeta::read(self.folder)?;
        let recorded = self.folder.tensors("text.safetensors")?;
        let encoder = TextEncoder::load(self.pipeline, None, self.device).await?;
        let negative = vec![meta.request.negative_prompt.as_str(); meta.cleaned.len()];
        let tokens = meta.request.max_sequence_length as usize;
        let prompts: Vec<&str> = meta.cleaned.iter().map(String::as_str).collect();
        let ours = meta.prompts.iter().map(|prompt| normalize_caption(prompt));
        if !ours.eq(meta.cleaned.iter().cloned()) {
            self.row("caption", Verdict::NotBuilt { why: "caption cleaning".into() });
        }

        for (prefix, captions) in [("neg_", &negative), ("", &prompts)] {
            let rows = encoder.tokens(captions, tokens)?;
            let ids: Vec<f32> = rows.iter().flat_map(|row| row.input_ids.iter().map(|id| *id as f32)).collect();
            let mask: Vec<f32> = rows.iter().flat_map(|row| row.attention_mask.iter().copied()).collect();
            self.exact(&recorded, &format!("{prefix}input_ids"), &ids)?;
            self.exact(&recorded, &format!("{prefix}attention_mask"), &mask)?;
        }

        let negative = encoder.encode(&negative, tokens, &mut Taps::on()).await?;
        let mut taps = Taps::on();
        let positive = encoder.encode(&prompts, tokens, &mut taps).await?;
        taps.record(format_args!("negative_prompt_embeds"), &negative.embeds);
        taps.record(format_args!("prompt_embeds"), &positive.embeds);
        let mut seen = taps.into_tensors();
        if let Some(bias) = seen.get("position_bias").cloned() {
            // transformers hands the bias from block to block, and its hooks record it at each.
            for name in recorded.names().filter(|name| name.starts_with("t5.block.") && name.ends_with(".1")) {
                seen.insert(name.into(), bias.clone());
            }
        }
        self.taps(&recorded, seen, |name| name.ends_with("input_ids") || name.ends_with("attention_mask")).await
    }

    async fn dit(&mut self) -> Result<(), Error> {
        let recorded = self.folder.tensors("dit_step0.safetensors")?;
        let dit = Dit::load(self.pipeline, self.device).await?;
        let timestep = recorded.any_f32("in.timestep")?.1[0];
        let micro = if recorded.contains("in.resolution") {
            let (_, size) = recorded.any_f32("in.resolution")?;
            let (_, aspect_ratio) = recorded.any_f32("in.aspect_ratio")?;
            Some(MicroConditions { height: size[0], width: size[1], aspect_ratio: aspect_ratio[0] })
        } else {
            None
        };

        let mut taps = Taps::on();
        let embeds = self.tensor(&recorded, "in.encoder_hidden_states")?;
        let mask = self.tensor(&recorded, "in.encoder_attention_mask")?;
        let latent: Tensor<4> = self.tensor(&recorded, "in.hidden_states")?;
        let [_, _, rows, columns] = latent.dims();
        let conditions = dit.prepare_conditioning(embeds, mask, [rows, columns], micro, &mut taps);
        let GenerateRequest { pag_scale, pag_applied_layers, .. } = GoldenMeta::read(self.folder)?.request;
        if pag_scale > 0.0 {
            let layers: Vec<usize> = pag_applied_layers.iter().flatten().map(|layer| *layer as usize).collect();
            // The last third of the rows is the prompts' again, perturbed; no tap but the output is recorded.
            let all = latent.dims()[0];
            let third = all / 3;
            let perturbed = conditions.with_perturbed_attention(third, &layers);
            let mut off = Taps::off();
            let plain = dit.forward(latent.clone(), timestep, &conditions, &mut off).narrow(0, 0, all - third);
            let spoilt = dit.forward(latent.narrow(0, all - third, third), timestep, &perturbed, &mut off);
            taps = Taps::on();
            taps.record(format_args!("out"), &Tensor::cat(vec![plain, spoilt], 0));
        } else {
            let _ = dit.forward(latent, timestep, &conditions, &mut taps);
        }
        self.taps(&recorded, taps.into_tensors(), |name| name.starts_with("in.")).await
    }

    async fn vae(&mut self) -> Result<(), Error> {
        let recorded = self.folder.tensors("vae.safetensors")?;
        let vae = Vae::load(self.pipeline, self.device).await?;
        let mut taps = Taps::on();
        let image = vae.decode(self.tensor(&recorded, "z")?, &mut taps);
        taps.record(format_args!("image"), &image);

        let moments = vae.encode(self.tensor(&recorded, "encode_in")?, &mut taps);
        let noise = randn(POSTERIOR_SEED, moments.mean.dims().iter().product());
        let noise = Tensor::from_data(TensorData::new(noise, moments.mean.dims()), self.device);
        taps.record(format_args!("mean"), &moments.mean);
        taps.record(format_args!("logvar"), &moments.log_variance);
        taps.record(format_args!("std"), &moments.std());
        taps.record(format_args!("posterior_sample_seed9"), &moments.sample(noise));
        let mut seen = taps.into_tensors();
        if let Some(moments) = seen.get("quant_conv").cloned() {
            seen.insert("moments".into(), moments);
        }
        for (image, latent) in [("untiled.image", "tiled.z"), ("untiled_enc.moments", "tiled_enc.image")] {
            if !recorded.contains(image) {
                continue;
            }
            let mut taps = Taps::on();
            if image == "untiled.image" {
                let image = vae.decode(self.tensor(&recorded, latent)?, &mut taps);
                taps.record(format_args!("untiled.image"), &image);
            } else {
                let _ = vae.encode(self.tensor(&recorded, latent)?, &mut taps);
            }
            let mut tiled = taps.into_tensors();
            let tap = if image == "untiled.image" { "untiled.image" } else { "quant_conv" };
            seen.insert(image.into(), tiled.remove(tap).expect("shown above"));
        }
        if recorded.contains("tiled.image") {
            let tiling = Tiling::new(TILE_PIXELS, vae.config().factor());
            let mut taps = Taps::on();
            let image = vae.decode_as(self.tensor(&recorded, "tiled.z")?, DecodeMode::Tiles(tiling));
            taps.record(format_args!("tiled.image"), &image);
            let DiagonalGaussian { mean, log_variance } =
                vae.encode_tiled(self.tensor(&recorded, "tiled_enc.image")?, tiling);
            taps.record(format_args!("tiled_enc.moments"), &Tensor::cat(vec![mean, log_variance], 1));
            seen.append(&mut taps.into_tensors());
        }
        let inputs = ["z", "encode_in", "tiled.z", "tiled_enc.image"];
        seen.retain(|name, _| recorded.contains(name));
        self.taps(&recorded, seen, |name| inputs.contains(&name)).await
    }

    fn tensor<const RANK: usize>(&self, from: &Tensors<'_>, name: &str) -> Result<Tensor<RANK>, Error> {
        tensor_from_file(from, self.variant, name, self.device)
    }

    /// A row for every recorded tensor that `done` does not name; one that was not produced fails.
    async fn taps(
        &mut self,
        recorded: &Tensors<'_>,
        mut seen: BTreeMap<String, Tensor<1>>,
        done: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        for name in recorded.names().filter(|name| !done(name)) {
            match seen.remove(name) {
                Some(tensor) => self.near(recorded, name, &values_read(&format!("the tap {name}"), tensor).await?)?,
                None => self.row(name, Verdict::Fail { why: "this tap is not produced".into() }),
            }
        }
        Ok(())
    }

    fn near(&mut self, recorded: &Tensors<'_>, name: &str, got: &[f32]) -> Result<(), Error> {
        let least = if name == "time_proj" { SINUSOID_TOLERANCE } else { 0.0 };
        self.within(recorded, name, got, self.tolerance.max(least))
    }

    fn exact(&mut self, recorded: &Tensors<'_>, name: &str, got: &[f32]) -> Result<(), Error> {
        self.within(recorded, name, got, 0.0)
    }

    fn within(&mut self, recorded: &Tensors<'_>, name: &str, got: &[f32], tolerance: f64) -> Result<(), Error> {
        let comparison = compare(got, &recorded.any_f32(name)?.1, tolerance);
        let verdict = comparison.verdict();
        self.push(name, &comparison, tolerance, verdict);
        Ok(())
    }

    fn push(&mut self, tap: &str, comparison: &Comparison, tolerance: f64, verdict: Verdict) {
        let Comparison { max_abs, max_relative, .. } = *comparison;
        let (variant, tap) = (self.variant.to_owned(), tap.to_owned());
        self.rows.push(TapRow { variant, tap, max_abs, max_relative, tolerance, verdict });
    }

    fn row(&mut self, tap: &str, verdict: Verdict) {
        let (variant, tap) = (self.variant.to_owned(), tap.to_owned());
        self.rows.push(TapRow { variant, tap, max_abs: 0.0, max_relative: 0.0, tolerance: self.tolerance, verdict });
    }
}
