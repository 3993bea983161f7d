//! The class the worker holds.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use burn::tensor::{Device, Tensor};
use pixart_model::recording::Recording;
use pixart_model::{
    Caption, DeviceLimits, Encoding, Error, Pipeline, Progress, Slices, Taps, WarmUp, captions_of, golden, image,
};
use pixart_protocol::{
    EncodeReply, Event, Fault, FaultCode, Generate, Image, OutputType, Resolved, Stage, StageMillis, TextSource,
};
use pixart_weights::{Folder, Tensors};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::border::{Emitter, now_millis, object, turn, value};
use crate::faults::AtWork;
use crate::{device, faults, weights};

/// The bound that a golden check in the browser holds taps to, relative to each tap's largest magnitude.
const CHECK_TOLERANCE: f64 = 1e-4;

/// One device and the checkpoint on it.
#[wasm_bindgen]
pub struct Engine {
    pub(crate) device: Device,
    pub(crate) limits: DeviceLimits,
    /// As the device was announced.
    name: String,
    pub(crate) emitter: Emitter,
    /// Whether the worker itself computes, and hears nothing meanwhile.
    pub(crate) is_busy: bool,
    pub(crate) pipeline: RefCell<Option<Rc<Pipeline>>>,
    /// What reads a picture to draw over, once one was asked for.
    pub(crate) encoding: RefCell<Option<Rc<Encoding>>>,
    cancelled: Cell<Option<u32>>,
}

/// How a picture ended.
enum Outcome {
    Finished(Image),
    Cancelled,
}

#[wasm_bindgen]
impl Engine {
    /// Opens the device of this `DeviceKind` and announces it.
    ///
    /// # Errors
    /// A `Fault` with the code `no_webgpu`.
    pub async fn open(emit: js_sys::Function, kind: JsValue) -> Result<Engine, JsValue> {
        let emitter = Emitter(emit);
        faults::tell(&emitter);
        let opened = async { device::open(value(kind, "the device")?).await };
        let (device, adapter, limits) = opened.await.map_err(|fault| object(&fault))?;
        let is_busy = adapter.backend == device::PROCESSOR;
        let name = format!("tab: {} ({})", adapter.name, adapter.backend);
        emitter.emit(&Event::Adapter(adapter));
        let (pipeline, encoding) = (RefCell::default(), RefCell::default());
        Ok(Engine { device, limits, name, emitter, is_busy, pipeline, encoding, cancelled: Cell::default() })
    }

    /// Whether [`Engine::load_encoding`] has been called for the checkpoint.
    pub fn can_encode(&self) -> bool {
        self.encoding.borrow().is_some()
    }

    /// Compiles the shaders of a checkpoint whose `config.json`s are in `files`, one after the other, while its weights are
    /// fetched; `manifest` is that of a packed one. On the processor there is nothing to compile.
    ///
    /// # Errors
    /// A `Fault` that names the key, or that the GPU failed.
    pub async fn warm_up(&self, files: js_sys::Map, manifest: Option<String>) -> Result<(), JsValue> {
        let _at_work = AtWork::begin();
        let configs =
            manifest.map_or_else(|| Ok(weights::held(&files)), |manifest| weights::packed(&manifest, weights::Unread));
        let warm_up = async { self.try_warm_up(&configs?).await };
        warm_up.await.map_err(|fault| object(&fault))
    }

    /// Draws a picture. `embeds` is an `EncodeReply` where the text was encoded elsewhere.
    ///
    /// # Errors
    /// A `Fault`; the checkpoint stays loaded.
    pub async fn generate(&self, request: JsValue, embeds: JsValue) -> Result<(), JsValue> {
        let _at_work = AtWork::begin();
        self.try_generate(request, embeds).await.map_err(|fault| object(&fault))
    }

    /// The captions of a request in the order of the batch, cleaned, with style and without suffix: what a companion is
    /// asked to encode.
    ///
    /// # Errors
    /// A `Fault` with the code `bad_request`.
    pub fn captions(&self, request: JsValue) -> Result<Vec<String>, JsValue> {
        let captions = || {
            let request: Generate = value(request, "the request")?;
            Ok::<_, Fault>(captions_of(&request, &self.loaded()?.resolve(&request)?))
        };
        captions().map_err(|fault| object(&fault))
    }

    /// Refuses a request as `generate` would, without drawing.
    ///
    /// # Errors
    /// A `Fault` with the code `bad_request`.
    pub fn validate(&self, request: JsValue) -> Result<(), JsValue> {
        let check = || Ok(self.loaded()?.resolve(&value(request, "the request")?).map(|_| ())?);
        check().map_err(|fault: Fault| object(&fault))
    }

    /// Stops the picture `id` before its next step.
    pub fn cancel(&self, id: u32) {
        self.cancelled.set(Some(id));
    }

    /// Compares a golden variant tap by tap: `files` is a `Map` of path to `Uint8Array`.
    ///
    /// # Errors
    /// A `Fault` where the GPU failed; taps that differ are rows of the `checked` event.
    pub async fn check(&self, id: u32, variant: String, files: js_sys::Map) -> Result<(), JsValue> {
        let _at_work = AtWork::begin();
        let rows = golden::check(&variant, &weights::held(&files), &self.device, CHECK_TOLERANCE).await;
        faults::first().map_err(|fault| object(&fault))?;
        self.emitter.emit(&Event::Checked { id, rows });
        Ok(())
    }
}

impl Engine {
    pub(crate) fn loaded(&self) -> Result<Rc<Pipeline>, Fault> {
        let loaded = self.pipeline.borrow().clone();
        loaded.ok_or_else(|| Fault::new(FaultCode::BadRequest, "no checkpoint is loaded", "load one first"))
    }

    async fn try_warm_up(&self, configs: &Folder) -> Result<(), Fault> {
        if self.is_busy {
            return Ok(());
        }
        let all = WarmUp::all(configs, self.limits)?;
        let shaders = all.len() as u32;
        for (compiled, one) in (1..).zip(all) {
            self.reach("a shader's first result", one.launch(&self.device)).await?;
            faults::first()?;
            self.emitter.emit(&Event::Compiling { compiled, shaders });
        }
        Ok(())
    }

    async fn try_generate(&self, request: JsValue, embeds: JsValue) -> Result<(), Fault> {
        let request: Generate = value(request, "the request")?;
        let embeds = match &request.text {
            TextSource::File { bytes } => Some(stored(bytes.clone())?),
            _ => value(embeds, "the text embeddings")?,
        };
        self.cancelled.set(None);
        let drawn = self.draw(&request, embeds).await;
        // What the GPU said first is the cause; what the call says is often its consequence.
        faults::first()?;
        let event = match drawn? {
            Outcome::Finished(image) => Event::Image(image),
            Outcome::Cancelled => Event::Cancelled { id: request.id },
        };
        self.emitter.emit(&event);
        Ok(())
    }

    async fn draw(&self, request: &Generate, embeds: Option<EncodeReply>) -> Result<Outcome, Fault> {
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
        self.emitter.emit(&Event::Planned { id, plan: plan.line() });
        let began = now_millis();

        self.emitter.emit(&Event::Began { id, stage: Stage::Text });
        let caption = match embeds {
            Some(EncodeReply { shape, embeds, mask }) => {
                Caption::from_values(embeds, mask, shape.map(|axis| axis as usize), &self.device)?
            }
            None => pipeline.encode(request, &resolved)?,
        };
        self.reach("the text embeddings", caption.embeds.clone()).await?;
        let text_done = now_millis();

        self.emitter.emit(&Event::Began { id, stage: Stage::Denoise });
        let mut recording = match request.record {
            true => Some(Recording::begin(request, &self.name, &caption.embeds).await?),
            false => None,
        };
        let encoding = self.encoding.borrow().clone();
        let mut denoise = pipeline.denoise(request, &resolved, encoding.as_deref(), caption, &plan)?;
        let (mut slices, mut step) = (Slices::default(), 0);
        let steps = denoise.run().left() as u32;
        loop {
            if self.cancelled.get() == Some(id) {
                return Ok(Outcome::Cancelled);
            }
            let began = now_millis();
            let progress = denoise.advance(slices.blocks(), &mut Taps::off());
            let (Progress::Within(blocks) | Progress::Step(blocks)) = progress else { break };
            // Waiting for each slice keeps the queue short, so that progress is true and a cancellation is seen.
            self.reach("the step", denoise.latest()).await?;
            faults::first()?;
            slices.took(blocks, now_millis() - began);
            if matches!(progress, Progress::Step(_)) {
                step += 1;
                if let Some(recording) = &mut recording {
                    recording.step(denoise.latent()).await?;
                }
                self.emitter.emit(&Event::Step { id, step, steps });
            }
        }
        let denoise_done = now_millis();

        self.emitter.emit(&Event::Began { id, stage: Stage::Decode });
        let picture = image::rgb8_read(pipeline.decode(denoise.into_latent(), &plan), (&resolved).into()).await?;
        let png = image::signed_png(&picture, request)?;
        let recording = recording.map(|recording| Recording { picture, ..recording }.to_bytes());
        let done = now_millis();
        self.device.memory_cleanup();

        let millis = StageMillis {
            text: text_done - began,
            denoise: denoise_done - text_done,
            decode: done - denoise_done,
            total: done - began,
        };
        let Resolved { width, height, .. } = resolved;
        let seed = request.seed_of(0);
        Ok(Outcome::Finished(Image { id, width, height, steps, seed, png, recording, millis }))
    }

    /// Waits until `tensor`, named `what` in a fault, has been computed, and lets messages in.
    pub(crate) async fn reach<const RANK: usize>(&self, what: &str, tensor: Tensor<RANK>) -> Result<(), Fault> {
        let first = tensor.flatten::<1>(0, RANK - 1).slice([0..1]);
        let read = first.into_data_async().await;
        read.map_err(|error| Error::Read { what: what.into(), why: format!("{error:?}") })?;
        if self.is_busy {
            turn().await;
        }
        Ok(())
    }
}

/// Text embeddings of a file that `pixart encode` wrote.
fn stored(bytes: Vec<u8>) -> Result<EncodeReply, Fault> {
    const FILE: &str = "the file of embeddings";
    let mut folder = Folder::default();
    folder.insert(FILE, bytes);
    let read = || -> Result<EncodeReply, Error> {
        let tensors = Tensors::file(&folder, FILE)?;
        let ((shape, embeds), (_, mask)) =
            (tensors.any_f32("prompt_embeds")?, tensors.any_f32("prompt_attention_mask")?);
        let shape = <[usize; 3]>::try_from(shape).unwrap_or_default().map(|side| side as u32);
        Ok(EncodeReply { shape, embeds, mask })
    };
    read().map_err(|error| {
        let remedy = "write it with `pixart encode`: the negative prompt, then the prompt";
        Fault::new(FaultCode::BadRequest, error.to_string(), remedy)
    })
}
