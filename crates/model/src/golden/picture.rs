//! The recorded picture: its steps from the recorded embeddings, and the whole from the prompts.

use std::collections::BTreeMap;

use burn::tensor::{Int, Tensor};

use super::meta::GoldenMeta;
use super::{Check, PICTURE_TOLERANCE, compare, values_read};
use crate::image::Size;
use crate::noise::Noise;
use crate::pipeline::bins;
use crate::pipeline::{InitLatents, PromptEmbeds, TextEncoder};
use crate::{Error, Painter, Taps};

impl Check<'_> {
    pub(super) async fn sampling(&mut self) -> Result<(), Error> {
        let meta = GoldenMeta::read(self.folder)?;
        let pipeline = self.folder.under("pipeline/");
        let recorded = self.folder.tensors("sampling.safetensors")?;
        let given = self.tolerance;
        let painter = Painter::load(&pipeline, self.device).await?;

        let initial: Tensor<4> = self.tensor(&recorded, "initial_latents")?;
        let mut noise = Noise::new(meta.seed, [0, 1], initial.dims(), self.device);
        self.near(&recorded, "initial_latents", &values_read("the noise", noise.draw().flatten(0, 3)).await?)?;
        let prompt_embeds = self.recorded_prompt_embeds(&meta)?;
        let scheduler = painter.scheduler.choose(None)?.set_timesteps(&meta.scheduler_options())?;
        let mut sampler = painter.sampler(
            InitLatents::from_noise(initial.clone()),
            noise,
            prompt_embeds,
            meta.guidance.clone(),
            scheduler,
        );
        self.exact(&recorded, "timesteps", sampler.scheduler().timesteps())?;
        if recorded.contains("sigmas") {
            let sigmas: Vec<f32> = sampler.scheduler().sigmas().iter().map(|sigma| *sigma as f32).collect();
            self.near(&recorded, "sigmas", &sigmas)?;
        }

        let mut seen = BTreeMap::from([("step.0.sample".to_owned(), initial.flatten(0, 3))]);
        for step in 0.. {
            let mut taps = Taps::on();
            if !sampler.step(&mut taps) {
                break;
            }
            let mut step_taps = taps.into_tensors();
            for (tap, name) in [("out", "model_out"), ("eps", "eps"), ("prev_sample", "prev_sample")] {
                let tensor = step_taps.remove(tap).expect("every step shows its prediction and its latent");
                if tap == "prev_sample" {
                    seen.insert(format!("step.{}.sample", step + 1), tensor.clone());
                }
                seen.insert(format!("step.{step}.{name}"), tensor);
            }
        }
        seen.insert("final_latents".into(), sampler.into_latents().flatten(0, 3));
        seen.retain(|name, _| recorded.contains(name));
        let done = |name: &str| ["initial_latents", "timesteps", "sigmas"].contains(&name) || name.ends_with(".t");
        // Either side may be one rounding away from the exact run.
        self.tolerance = given.max(2.0 * meta.sampling_rounding);
        let outcome = self.taps(&recorded, seen, done).await;
        self.tolerance = given;
        outcome
    }

    /// From the prompts and the seed alone.
    pub(super) async fn image(&mut self) -> Result<(), Error> {
        let meta = GoldenMeta::read(self.folder)?;
        let pipeline = self.folder.under("pipeline/");
        let recorded = self.folder.tensors("image.safetensors")?;
        let (shape, want) = recorded.u8("u8")?;
        let [pictures, height, width] = [shape[0], shape[1], shape[2]];

        let text = TextEncoder::load(&pipeline, self.device).await?;
        let painter = Painter::load(&pipeline, self.device).await?;
        let negative = std::iter::repeat_n(meta.negative_cleaned.as_str(), pictures);
        let negative = negative.filter(|_| meta.guidance.is_guided());
        let prompts = meta.cleaned.iter().flat_map(|prompt| std::iter::repeat_n(prompt.as_str(), meta.images));
        let captions: Vec<&str> = negative.chain(prompts).collect();
        let prompt_embeds = text.encode(&captions, meta.tokens, &mut Taps::off())?;

        let factor = painter.vae.config().factor();
        let native = painter.limits().native_size;
        let bin = meta.binned.and_then(|[height, width]| bins::nearest_bin(native, height, width));
        let drawn = bin.map_or([height, width], |bin| bin.map(|side| side as usize));
        let shape = [pictures, painter.dit.config().latent_channels, drawn[0] / factor, drawn[1] / factor];
        let mut noise = Noise::new(meta.seed, [0, 1], shape, self.device);
        let scheduler = painter.scheduler.choose(None)?.set_timesteps(&meta.scheduler_options())?;
        let mut sampler = painter.sampler(
            InitLatents::from_noise(noise.draw()),
            noise,
            prompt_embeds,
            meta.guidance.clone(),
            scheduler,
        );
        while sampler.step(&mut Taps::off()) {}
        let decoded = painter.decode(sampler.into_latents());

        let mut got = Vec::with_capacity(want.len());
        for picture in 0..pictures {
            let one = decoded.clone().slice([picture..picture + 1, 0..3, 0..drawn[0], 0..drawn[1]]);
            got.extend(crate::image::rgb8_read(one, Size { height, width }).await?.bytes);
        }
        let [got, want] = [&got[..], want].map(|bytes| bytes.iter().map(|byte| f32::from(*byte)).collect::<Vec<_>>());
        let comparison = compare(&got, &want, PICTURE_TOLERANCE / f64::from(u8::MAX));
        let verdict = comparison.verdict_absolute(PICTURE_TOLERANCE);
        self.push("image.u8", &comparison, PICTURE_TOLERANCE, verdict);
        Ok(())
    }

    /// The recorded embeddings as the sampler wants them: a row for each picture, the negative prompts' before.
    fn recorded_prompt_embeds(&self, meta: &GoldenMeta) -> Result<PromptEmbeds, Error> {
        let text = self.folder.tensors("text.safetensors")?;
        let rows = (0..meta.cleaned.len() * meta.images).map(|row| (row / meta.images) as i32).collect::<Vec<_>>();
        let rows: Tensor<1, Int> = Tensor::from_data(rows.as_slice(), self.device);
        let embeds = |name: &str| Ok::<_, Error>(self.tensor::<3>(&text, name)?.select(0, rows.clone()));
        let mask = |name: &str| Ok::<_, Error>(self.tensor::<2>(&text, name)?.select(0, rows.clone()));
        let (embeds_of_prompts, mask_of_prompts) = (embeds("prompt_embeds")?, mask("attention_mask")?);
        if !meta.guidance.is_guided() {
            return Ok(PromptEmbeds { embeds: embeds_of_prompts, attention_mask: mask_of_prompts });
        }
        Ok(PromptEmbeds {
            embeds: Tensor::cat(vec![embeds("negative_prompt_embeds")?, embeds_of_prompts], 0),
            attention_mask: Tensor::cat(vec![mask("neg_attention_mask")?, mask_of_prompts], 0),
        })
    }
}
