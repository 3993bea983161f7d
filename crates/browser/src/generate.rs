//! Generates one image: runs its stages, emits their events, and after each step the state to resume from.

use std::borrow::Cow;
use std::pin::Pin;

use burn::tensor::Tensor;
use futures_lite::future;
use pixart_model::image::{Rgb8, rgb8_read};
use pixart_model::{
    Error, Pipeline, PreparedRequest, PromptEmbeds, Sampler, SamplerProgress, SliceController, StepOutput, Taps,
    encoder_rows, read_prompt_embeds, values_read,
};
use pixart_protocol::{
    DenoisingStep, EncodeResponse, EngineEvent, Fault, FaultCode, GenerationStage, ImageResult, MemoryUsage,
    PreviewImage, StageMillis, TextEncoderSource,
};
use pixart_verify::recording::Recording;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::encode::{counts_of, not_prepared};
use crate::engine::Engine;
use crate::faults::{self, CallGuard};
use crate::interop::{f32_bytes, from_js, heap_bytes, now_millis, tensor_of_bytes, to_js};

/// Result of a generation.
enum GenerationOutcome {
    Finished(ImageResult),
    Cancelled,
}

#[wasm_bindgen]
impl Engine {
    /// Generates the image of the request that [`Engine::prepare`] holds under `id`. `embeds` is an `EncodeResponse` where the
    /// prompts were encoded elsewhere; `model_outputs`, a list of `Uint8Array`s, holds the model output of each step that was
    /// run before an interruption.
    ///
    /// # Errors
    /// A `Fault`; the checkpoint stays loaded.
    pub async fn generate(&self, id: u32, embeds: JsValue, model_outputs: JsValue) -> Result<(), JsValue> {
        let _guard = CallGuard::begin();
        self.try_generate(id, embeds, model_outputs).await.map_err(|fault| to_js(&fault))
    }
}

impl Engine {
    async fn try_generate(&self, id: u32, embeds: JsValue, model_outputs: JsValue) -> Result<(), Fault> {
        let Some(prepared) = self.prepared.take().filter(|prepared| prepared.request.id == id) else {
            return Err(not_prepared(id));
        };
        let embeds = match &prepared.request.text_encoder {
            TextEncoderSource::File { bytes } => Some(read_prompt_embeds(bytes.clone())?),
            _ => from_js(embeds, "the text embeddings")?,
        };
        let model_outputs: Option<Vec<serde_bytes::ByteBuf>> = from_js(model_outputs, "the model outputs")?;
        self.cancelled.set(None);
        let outcome = self.run(&prepared, embeds, &model_outputs.unwrap_or_default()).await;
        // The GPU's first error is the cause; the call's own is often its consequence.
        faults::take_first()?;
        let event = match outcome? {
            GenerationOutcome::Finished(image) => EngineEvent::Image(image),
            GenerationOutcome::Cancelled => EngineEvent::Cancelled { id },
        };
        self.emitter.emit(&event);
        Ok(())
    }

    async fn run(
        &self,
        prepared: &PreparedRequest,
        embeds: Option<EncodeResponse>,
        model_outputs: &[serde_bytes::ByteBuf],
    ) -> Result<GenerationOutcome, Fault> {
        let pipeline = self.loaded_pipeline()?;
        let request = &prepared.request;
        let id = request.id;
        let started = now_millis();
        let encoded = self.encoded.take().filter(|encoded| encoded.id == id);
        if encoded.is_none() {
            self.emit_plan(&pipeline, prepared);
            self.emitter.emit(&EngineEvent::StageStarted { id, stage: GenerationStage::Text });
        }
        let encode_millis = encoded.as_ref().map_or(0.0, |encoded| encoded.millis);
        let (prompt_embeds, token_counts) = match (embeds, encoded) {
            (Some(response), _) => {
                let token_counts = response.token_counts.clone();
                (PromptEmbeds::from_response(response, &self.device)?, token_counts)
            }
            (None, Some(encoded)) => (encoded.prompt_embeds, encoded.token_counts),
            (None, None) => {
                let rows = encoder_rows(&prepared.prompts);
                let unknown = vec![None; rows.len()];
                let Some(prompts) = self.encode_missing(&pipeline, prepared, &rows, unknown, None).await? else {
                    return Ok(GenerationOutcome::Cancelled);
                };
                let tokens = request.max_sequence_length as usize;
                let prompt_embeds = PromptEmbeds::from_rows(&prepared.prompts, &prompts, tokens, &self.device)?;
                (prompt_embeds, counts_of(prompts))
            }
        };
        self.emit_notes(id, prepared.notes(&token_counts));
        self.fence("the prompt embeddings", prompt_embeds.embeds.clone()).await?;
        let text_done = now_millis();

        self.emitter.emit(&EngineEvent::StageStarted { id, stage: GenerationStage::Denoise });
        let mut recording = match request.record {
            true => Some(Recording::begin(request, &self.name, &prompt_embeds).await?),
            false => None,
        };
        let index = request.image_indices().start;
        let total_steps = prepared.total_steps()?;
        let mut left = DenoisingStep { id, total_steps, pass: 1, ..DenoisingStep::default() };
        let mut model_outputs = model_outputs.iter();
        let mut present = Cow::Borrowed(prepared);
        let (image, denoise_done) = loop {
            let mut sampler = pipeline.sampler(&present, prompt_embeds.clone(), index)?;
            let steps = sampler.scheduler().remaining_calls();
            let is_last = !present.has_second_pass();
            // What is too much for the last pass is refused there.
            let replayed = if is_last { usize::MAX } else { steps };
            for model_output in model_outputs.by_ref().take(replayed) {
                self.replay_step(&mut sampler, model_output)?;
                self.record_step(&mut recording, &sampler).await?;
            }
            left.step += steps as u32;
            if !self.denoise(&left, &pipeline, &mut sampler, &mut recording).await? {
                return Ok(GenerationOutcome::Cancelled);
            }
            let denoise_done = now_millis();
            self.emitter.emit(&EngineEvent::StageStarted { id, stage: GenerationStage::Decode });
            let image = rgb8_read(pipeline.decode(sampler.into_latents(), &present), present.size).await?;
            if is_last {
                break (image, denoise_done);
            }
            self.emitter.emit(&EngineEvent::StageStarted { id, stage: GenerationStage::Denoise });
            present = Cow::Owned(present.second_pass(&image)?);
            left.pass += 1;
        };
        let png = self.metadata(&pipeline, prepared).encode_png(&image, &request.of_image(index))?;
        let recording = recording.map(|recording| Recording { picture: image, ..recording }.to_bytes());
        let done = now_millis();
        self.device.memory_cleanup();

        let millis = StageMillis {
            text: encode_millis + text_done - started,
            denoise: denoise_done - text_done,
            decode: done - denoise_done,
            total: encode_millis + done - started,
        };
        let device_bytes = self.device.memory_pool_usage().map(|usage| usage.bytes_reserved as f64);
        let memory = MemoryUsage { heap_bytes: heap_bytes(), device_bytes };
        let [width, height] = [present.size.width, present.size.height].map(|side| side as u32);
        let seed = request.seed_of(index);
        Ok(GenerationOutcome::Finished(ImageResult {
            id,
            width,
            height,
            num_inference_steps: total_steps,
            seed,
            png,
            recording,
            millis,
            memory,
        }))
    }

    fn emit_notes(&self, id: u32, notes: Vec<String>) {
        notes.into_iter().for_each(|text| self.emitter.emit(&EngineEvent::Note { id, text }));
    }

    /// Runs the remaining steps of a pass; `last` is the progress after them. Returns false where the image was cancelled before.
    async fn denoise<'a>(
        &'a self,
        last: &DenoisingStep,
        pipeline: &'a Pipeline,
        sampler: &mut Sampler<'_>,
        recording: &mut Option<Recording>,
    ) -> Result<bool, Fault> {
        // Slices are double-buffered: the next is submitted while the GPU runs the previous one. The CPU has finished a slice when
        // it returns.
        let mut previous: Option<PendingSlice<'a>> = None;
        let (mut slices, mut fenced) = (SliceController::default(), now_millis());
        let finished = async {
            loop {
                if self.cancelled.get() == Some(last.id) {
                    return Ok(false);
                }
                let next = match sampler.advance(slices.blocks(), &mut Taps::off()) {
                    SamplerProgress::Done => None,
                    SamplerProgress::Within(blocks) => {
                        Some(PendingSlice::submit(blocks, self.fence("the step", sampler.latest())).await)
                    }
                    SamplerProgress::Step(blocks) => {
                        self.record_step(recording, sampler).await?;
                        let step = last.step - sampler.scheduler().remaining_calls() as u32;
                        let progress = DenoisingStep { step, ..last.clone() };
                        let step_output = sampler.step_output();
                        let emitted = async move {
                            let progress = self.step_progress(pipeline, step_output, progress).await?;
                            self.emitter.emit(&EngineEvent::Step(progress));
                            self.yield_on_cpu().await;
                            Ok(())
                        };
                        Some(PendingSlice::submit(blocks, emitted).await)
                    }
                };
                let due = if self.computes_on_worker { next } else { std::mem::replace(&mut previous, next) };
                let Some(PendingSlice { blocks, done }) = due else {
                    if previous.is_some() {
                        continue;
                    }
                    return Ok(true);
                };
                // A fence for each slice keeps the queue short: progress is accurate, and a cancellation takes effect soon.
                done.await?;
                faults::take_first()?;
                slices.took(blocks, now_millis() - fenced);
                fenced = now_millis();
            }
        };
        let finished: Result<bool, Fault> = finished.await;
        let last = match previous {
            Some(PendingSlice { done, .. }) => done.await,
            None => Ok(()),
        };
        let is_finished = finished?;
        last.map(|()| is_finished)
    }

    /// Replays a step with its recorded model output.
    fn replay_step(&self, sampler: &mut Sampler<'_>, model_output: &[u8]) -> Result<(), Fault> {
        let shape = sampler.latents().dims();
        let recorded = tensor_of_bytes(model_output, shape, &self.device);
        if recorded.is_some_and(|model_output| sampler.replay(model_output)) {
            return Ok(());
        }
        let what = format!(
            "the model output of a step has {} bytes, or there are too many for this request",
            model_output.len()
        );
        Err(Fault::new(FaultCode::BadRequest, what, "generate the image from its first step"))
    }

    /// Adds a step to the recording, where there is one.
    async fn record_step(&self, recording: &mut Option<Recording>, sampler: &Sampler<'_>) -> Result<(), Fault> {
        if let Some(recording) = recording {
            recording.step(sampler.latents()).await?;
        }
        Ok(())
    }

    /// Completes `progress` with the model output, and the preview of `pred_original_sample`.
    async fn step_progress(
        &self,
        pipeline: &Pipeline,
        step_output: Option<StepOutput>,
        progress: DenoisingStep,
    ) -> Result<DenoisingStep, Error> {
        let Some(StepOutput { model_output, pred_original_sample }) = step_output else { return Ok(progress) };
        let [_, _, rows, columns] = pred_original_sample.dims();
        let preview = &pipeline.vae.config().preview;
        // One readback, since each waits for the device.
        let read = if preview.is_some() {
            vec![model_output.clone(), pred_original_sample]
        } else {
            vec![model_output.clone()]
        };
        let numbers = values_read("the model output", Tensor::cat(read, 0).flatten(0, 3)).await?;
        let (model_output, pred_original_sample) = numbers.split_at(model_output.dims().iter().product());
        let preview = match preview {
            Some(preview) => {
                let Rgb8 { width, height, bytes } = preview.rgb8(pred_original_sample, [rows, columns])?;
                Some(PreviewImage { width: width as u32, height: height as u32, rgb: bytes })
            }
            None => None,
        };
        Ok(DenoisingStep { preview, model_output: f32_bytes(model_output), ..progress })
    }
}

type SliceDone<'engine> = Pin<Box<dyn Future<Output = Result<(), Fault>> + 'engine>>;

/// A submitted slice of `blocks` blocks. It has to be awaited: a readback that is dropped midway leaves a buffer mapped, and the
/// next use of that buffer fails.
struct PendingSlice<'engine> {
    blocks: usize,
    done: SliceDone<'engine>,
}

impl<'engine> PendingSlice<'engine> {
    /// Submits the slice, and returns before it is done.
    async fn submit(blocks: usize, done: impl Future<Output = Result<(), Fault>> + 'engine) -> Self {
        let mut done: SliceDone<'engine> = Box::pin(done);
        if let Some(result) = future::poll_once(&mut done).await {
            done = Box::pin(std::future::ready(result));
        }
        Self { blocks, done }
    }
}
