//! The recorded image: its steps from the recorded embeddings, and the whole from the prompts.

use std::collections::BTreeMap;

use burn::tensor::{Int, Tensor};
use pixart_model::image::{Size, rgb8_read};
use pixart_model::{Batch, DeviceLimits, Error, Pipeline, PreparedRequest, PromptEmbeds, Taps, compare, values_read};

use super::meta::GoldenMeta;
use super::{GoldenCheck, IMAGE_TOLERANCE};

impl GoldenCheck<'_> {
    pub(super) async fn sampling(&mut self) -> Result<(), Error> {
        let meta = GoldenMeta::read(self.folder)?;
        let recorded = self.folder.tensors("sampling.safetensors")?;
        let given = self.tolerance;
        let pipeline = Pipeline::load(self.pipeline, self.device, DeviceLimits::UNLIMITED, None).await?;

        let initial: Tensor<4> = self.tensor(&recorded, "initial_latents")?;
        let [_, _, h, w] = initial.dims();
        let generated_size = [h, w].map(|side| (side * pipeline.vae.config().factor()) as u32);
        let (prompts, negative_prompt) = (meta.batch_prompts(), &meta.request.negative_prompt);
        let batch = Batch { prompts: &prompts, negative_prompt, generated_size };
        let prepared = pipeline.prepare_batch(&meta.request, batch)?;
        let mut noise = pipeline.noise(&prepared, 0);
        self.near(&recorded, "initial_latents", &values_read("the noise", noise.draw().flatten(0, 3)).await?)?;
        let prompt_embeds = self.recorded_prompt_embeds(&meta, &prepared)?;
        let mut sampler = pipeline.sampler_from(&prepared, prompt_embeds, initial.clone(), noise)?;
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
                let tensor = step_taps.remove(tap).expect("every step records its outputs");
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

    /// Generates the image from the prompts and the seed alone.
    pub(super) async fn image(&mut self) -> Result<(), Error> {
        let meta = GoldenMeta::read(self.folder)?;
        let recorded = self.folder.tensors("image.safetensors")?;
        let (shape, want) = recorded.u8("u8")?;
        let [images, height, width] = [shape[0], shape[1], shape[2]];

        let loaded = Pipeline::load(self.pipeline, self.device, DeviceLimits::UNLIMITED, None).await?;
        loaded.load_text_encoder(self.pipeline).await?;
        let generated_size = loaded.generated_size(&meta.request, [height, width].map(|side| side as u32));
        let (prompts, negative_prompt) = (meta.batch_prompts(), &meta.request.negative_prompt);
        let batch = Batch { prompts: &prompts, negative_prompt, generated_size };
        let prepared = loaded.prepare_batch(&meta.request, batch)?;
        let decoded = loaded.generate(&prepared, loaded.encode(&prepared).await?, 0)?;

        let mut got = Vec::with_capacity(want.len());
        let [_, c, h, w] = decoded.dims();
        for image in 0..images {
            let one = decoded.clone().slice([image..image + 1, 0..c, 0..h, 0..w]);
            got.extend(rgb8_read(one, Size { height, width }).await?.bytes);
        }
        let [got, want] = [&got[..], want].map(|bytes| bytes.iter().map(|byte| f32::from(*byte)).collect::<Vec<_>>());
        let comparison = compare(&got, &want, IMAGE_TOLERANCE / f64::from(u8::MAX));
        let verdict = comparison.verdict_absolute(IMAGE_TOLERANCE);
        self.push("image.u8", &comparison, IMAGE_TOLERANCE, verdict);
        Ok(())
    }

    /// Returns the recorded embeddings of the batch: one row for each image, those of the negative prompts first.
    fn recorded_prompt_embeds(&self, meta: &GoldenMeta, prepared: &PreparedRequest) -> Result<PromptEmbeds, Error> {
        let text = self.folder.tensors("text.safetensors")?;
        let rows = (0..meta.cleaned.len() * meta.images).map(|row| (row / meta.images) as i32).collect::<Vec<_>>();
        let rows: Tensor<1, Int> = Tensor::from_data(rows.as_slice(), self.device);
        let embeds = |name: &str| Ok::<_, Error>(self.tensor::<3>(&text, name)?.select(0, rows.clone()));
        let mask = |name: &str| Ok::<_, Error>(self.tensor::<2>(&text, name)?.select(0, rows.clone()));
        let (embeds_of_prompts, mask_of_prompts) = (embeds("prompt_embeds")?, mask("attention_mask")?);
        if !prepared.guidance.is_guided() {
            return Ok(PromptEmbeds { embeds: embeds_of_prompts, attention_mask: mask_of_prompts });
        }
        Ok(PromptEmbeds {
            embeds: Tensor::cat(vec![embeds("negative_prompt_embeds")?, embeds_of_prompts], 0),
            attention_mask: Tensor::cat(vec![mask("neg_attention_mask")?, mask_of_prompts], 0),
        })
    }
}
