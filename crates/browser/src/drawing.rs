//! Draws one picture: its stages with their events, and the state it can be gone on with from after each step.

use std::pin::Pin;

use burn::tensor::{Tensor, TensorData};
use futures_lite::future;
use pixart_model::image::{Rgb8, rgb8_read};
use pixart_model::recording::Recording;
use pixart_model::{
    Error, Painter, PromptEmbeds, Sampler, SamplerProgress, SliceController, StepOutput, Taps, golden,
    read_prompt_embeds,
};
use pixart_protocol::{
    EncodeResponse, EngineEvent, Fault, FaultCode, GenerateRequest, GenerationStage, ImageResult, MemoryUsage,
    OutputType, PreviewImage, ResolvedRequest, StageMillis, StepProgress, TextEncoderSource,
};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::border::{heap_bytes, now_millis, object, value};
use crate::engine::Engine;
use crate::faults::{self, AtWork};

/// How a picture ended.
enum Outcome {
    Finished(ImageResult),
    Cancelled,
}

#[wasm_bindgen]
impl Engine {
    /// Draws a picture. `embeds` is an `EncodeResponse` where the text was encoded elsewhere; `model_outputs`, a list of
    /// `Uint8Array`s, holds the model output of each step that was run before an interruption.
    ///
    /// # Errors
    /// A `Fault`; the checkpoint stays loaded.
    pub async fn generate(&self, request: JsValue, embeds: JsValue, model_outputs: JsValue) -> Result<(), JsValue> {
        let _at_work = AtWork::begin();
        self.try_generate(request, embeds, model_outputs).await.map_err(|fault| object(&fault))
    }
}

impl Engine {
    async fn try_generate(&self, request: JsValue, embeds: JsValue, model_outputs: JsValue) -> Result<(), Fault> {
        let request: GenerateRequest = value(request, "the request")?;
        let embeds = match &request.text_encoder {
            TextEncoderSource::File { bytes } => Some(read_prompt_embeds(bytes.clone())?),
            _ => value(embeds, "the text embeddings")?,
        };
        let model_outputs: Option<Vec<serde_bytes::ByteBuf>> = value(model_outputs, "the model outputs")?;
        self.cancelled.set(None);
        let drawn = self.draw(&request, embeds, &model_outputs.unwrap_or_default()).await;
        // What the GPU said first is the cause; what the call says is often its consequence.
        faults::first()?;
        let event = match drawn? {
            Outcome::Finished(image) => EngineEvent::Image(image),
            Outcome::Cancelled => EngineEvent::Cancelled { id: request.id },
        };
        self.emitter.emit(&event);
        Ok(())
    }

    async fn draw(
        &self,
        request: &GenerateRequest,
        embeds: Option<EncodeResponse>,
        model_outputs: &[serde_bytes::ByteBuf],
    ) -> Result<Outcome, Fault> {
        let pipeline = self.loaded()?;
        let resolved = pipeline.resolve(request)?;
        if (request.num_images_per_prompt, request.output_type) != (1, OutputType::Png) {
            let what = format!(
                "num_images_per_prompt is {} and output_type {:?}",
                request.num_images_per_prompt, request.output_type
            );
            return Err(Fault::new(FaultCode::BadRequest, what, "ask the page for one PNG at a time"));
        }
        let id = request.id;
        let plan = pipeline.plan(request, &resolved)?;
        self.emitter.emit(&EngineEvent::Planned { id, plan: plan.line(), peak_bytes: plan.bytes() as f64 });
        let began = now_millis();

        self.emitter.emit(&EngineEvent::StageStarted { id, stage: GenerationStage::Text });
        let caption = match embeds {
            Some(EncodeResponse { shape, embeds, attention_mask: mask }) => {
                PromptEmbeds::from_values(embeds, mask, shape.map(|axis| axis as usize), &self.device)?
            }
            None => pipeline.encode(request, &resolved)?,
        };
        self.reach("the text embeddings", caption.embeds.clone()).await?;
        let text_done = now_millis();

        self.emitter.emit(&EngineEvent::StageStarted { id, stage: GenerationStage::Denoise });
        let mut recording = match request.record {
            true => Some(Recording::begin(request, &self.name, &caption).await?),
            false => None,
        };
        let encoding = self.encoding.borrow().clone();
        let mut sampler = pipeline.sampler(request, &resolved, encoding.as_deref(), caption, &plan)?;
        let steps = sampler.scheduler().remaining_calls() as u32;
        for model_output in model_outputs {
            self.repeat(&mut sampler, model_output)?;
            self.record(&mut recording, &sampler).await?;
        }
        if !self
            .make(
                StepProgress { id, total_steps: steps, ..StepProgress::default() },
                &pipeline.painter,
                &mut sampler,
                &mut recording,
            )
            .await?
        {
            return Ok(Outcome::Cancelled);
        }
        let denoise_done = now_millis();

        self.emitter.emit(&EngineEvent::StageStarted { id, stage: GenerationStage::Decode });
        let picture = rgb8_read(pipeline.decode(sampler.into_latents(), &plan), (&resolved).into()).await?;
        let png = pipeline.painter.signature(request, &self.name)?.png(&picture, request)?;
        let recording = recording.map(|recording| Recording { picture, ..recording }.to_bytes());
        let done = now_millis();
        self.device.memory_cleanup();

        let millis = StageMillis {
            text: text_done - began,
            denoise: denoise_done - text_done,
            decode: done - denoise_done,
            total: done - began,
        };
        let device_bytes = self.device.memory_pool_usage().map(|usage| usage.bytes_reserved as f64);
        let memory = MemoryUsage { heap_bytes: heap_bytes(), device_bytes };
        let ResolvedRequest { width, height, .. } = resolved;
        let seed = request.seed_of(0);
        Ok(Outcome::Finished(ImageResult {
            id,
            width,
            height,
            num_inference_steps: steps,
            seed,
            png,
            recording,
            millis,
            memory,
        }))
    }

    /// Makes the steps that are left, of which `each` tells. False where the picture was cancelled before the last.
    async fn make<'a>(
        &'a self,
        each: StepProgress,
        painter: &'a Painter,
        sampler: &mut Sampler<'_>,
        recording: &mut Option<Recording>,
    ) -> Result<bool, Fault> {
        // A GPU makes one slice while it is told of the next; a processor has made a slice when it is asked for the next.
        let mut ahead: Option<Asked<'a>> = None;
        let (mut slices, mut settled) = (SliceController::default(), now_millis());
        let made = async {
            loop {
                if self.cancelled.get() == Some(each.id) {
                    return Ok(false);
                }
                let next = match sampler.advance(slices.blocks(), &mut Taps::off()) {
                    SamplerProgress::Done => None,
                    SamplerProgress::Within(blocks) => {
                        Some(Asked::begin(blocks, self.reach("the step", sampler.latest())).await)
                    }
                    SamplerProgress::Step(blocks) => {
                        self.record(recording, sampler).await?;
                        let step = StepProgress {
                            step: each.total_steps - sampler.scheduler().remaining_calls() as u32,
                            ..each.clone()
                        };
                        let step_output = sampler.step_output();
                        let told = async move {
                            self.emitter.emit(&EngineEvent::Step(self.step(painter, step_output, step).await?));
                            self.listen().await;
                            Ok(())
                        };
                        Some(Asked::begin(blocks, told).await)
                    }
                };
                let due = if self.is_busy { next } else { std::mem::replace(&mut ahead, next) };
                let Some(Asked { blocks, done }) = due else {
                    if ahead.is_some() {
                        continue;
                    }
                    return Ok(true);
                };
                // Waiting for each slice keeps the queue short, so that progress is true and a cancellation is seen.
                done.await?;
                faults::first()?;
                slices.took(blocks, now_millis() - settled);
                settled = now_millis();
            }
        };
        let made: Result<bool, Fault> = made.await;
        let waited = match ahead {
            Some(Asked { done, .. }) => done.await,
            None => Ok(()),
        };
        let is_finished = made?;
        waited.map(|()| is_finished)
    }

    /// Makes a step that was made before.
    fn repeat(&self, sampler: &mut Sampler<'_>, model_output: &[u8]) -> Result<(), Fault> {
        let shape = sampler.latents().dims();
        let (numbers, rest) = model_output.as_chunks::<4>();
        let numbers: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
        let fits = rest.is_empty() && numbers.len() == shape.iter().product::<usize>();
        let data = fits.then(|| Tensor::from_data(TensorData::new(numbers, shape), &self.device));
        if data.is_some_and(|model_output| sampler.replay(model_output)) {
            return Ok(());
        }
        let what = format!(
            "a step that was made before has {} bytes, or there are too many for this request",
            model_output.len()
        );
        Err(Fault::new(FaultCode::BadRequest, what, "draw the picture from its first step"))
    }

    /// Adds a step to the recording, where there is one.
    async fn record(&self, recording: &mut Option<Recording>, sampler: &Sampler<'_>) -> Result<(), Fault> {
        if let Some(recording) = recording {
            recording.step(sampler.latents()).await?;
        }
        Ok(())
    }

    /// `step` with the model output, and the preview that follows from it.
    async fn step(
        &self,
        painter: &Painter,
        step_output: Option<StepOutput>,
        step: StepProgress,
    ) -> Result<StepProgress, Error> {
        let Some(StepOutput { model_output, pred_original_sample: clean }) = step_output else { return Ok(step) };
        let [_, _, rows, columns] = clean.dims();
        let preview = &painter.vae.config().preview;
        // Read at once: each reading waits for the device.
        let read = if preview.is_some() { vec![model_output.clone(), clean] } else { vec![model_output.clone()] };
        let numbers = golden::values_read("the model output", Tensor::cat(read, 0).flatten(0, 3)).await?;
        let (model_output, clean) = numbers.split_at(model_output.dims().iter().product());
        let preview = match preview {
            Some(preview) => {
                let Rgb8 { width, height, bytes } = preview.picture(clean, [rows, columns])?;
                Some(PreviewImage { width: width as u32, height: height as u32, rgb: bytes })
            }
            None => None,
        };
        let model_output = model_output.iter().flat_map(|number| number.to_le_bytes()).collect();
        Ok(StepProgress { preview, model_output, ..step })
    }
}

type Done<'engine> = Pin<Box<dyn Future<Output = Result<(), Fault>> + 'engine>>;

/// A slice that the device was asked for, of so many blocks. It has to be waited for: a reading that is let go midway leaves a
/// buffer mapped, and what uses that buffer next is refused.
struct Asked<'engine> {
    blocks: usize,
    done: Done<'engine>,
}

impl<'engine> Asked<'engine> {
    /// Asks now, and leaves the waiting for later.
    async fn begin(blocks: usize, done: impl Future<Output = Result<(), Fault>> + 'engine) -> Self {
        let mut done: Done<'engine> = Box::pin(done);
        if let Some(result) = future::poll_once(&mut done).await {
            done = Box::pin(std::future::ready(result));
        }
        Self { blocks, done }
    }
}
