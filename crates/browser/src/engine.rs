//! The engine's class: a device and the checkpoint on it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use burn::tensor::{Device, Tensor};
use pixart_model::image::{Size, rgb8_read};
use pixart_model::{
    DeviceLimits, Error, Pipeline, PreparedRequest, PrewarmKernel, PromptEmbeds, encoder_rows, prewarm,
};
use pixart_protocol::{
    ComponentPlaces, EngineEvent, Fault, FaultCode, GenerateRequest, LoraScale, OutputType, TextEncoderSource,
    TokenCount, TokensCounted,
};
use pixart_verify::golden;
use pixart_weights::Folder;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::faults::CallGuard;
use crate::interop::{Emitter, from_js, to_js, yield_to_event_loop};
use crate::{device, faults, folder};

/// Tolerance of a golden check, relative to each tap's largest magnitude.
const CHECK_TOLERANCE: f64 = 1e-4;

/// The embeddings of the prompts of request `id`.
pub(crate) struct EncodedRequest {
    pub(crate) id: u32,
    pub(crate) prompt_embeds: PromptEmbeds,
    pub(crate) token_counts: Vec<TokenCount>,
    pub(crate) millis: f64,
}

/// One device and the checkpoint on it.
#[wasm_bindgen]
pub struct Engine {
    pub(crate) device: Device,
    pub(crate) limits: DeviceLimits,
    /// The device's name, as in recordings and metadata.
    pub(crate) name: String,
    pub(crate) emitter: Emitter,
    /// True on the CPU: the worker's own thread computes, and receives no messages meanwhile.
    pub(crate) computes_on_worker: bool,
    pub(crate) pipeline: RefCell<Option<Rc<Pipeline>>>,
    /// Names of the loaded checkpoint's components from other places.
    pub(crate) components: RefCell<ComponentPlaces>,
    /// The LoRAs in its transformer.
    pub(crate) loras: RefCell<Vec<LoraScale>>,
    /// The request of the last [`Engine::prepare`].
    pub(crate) prepared: RefCell<Option<PreparedRequest>>,
    /// The prompts of the last [`Engine::encode`].
    pub(crate) encoded: RefCell<Option<EncodedRequest>>,
    pub(crate) cancelled: Cell<Option<u32>>,
}

#[wasm_bindgen]
impl Engine {
    /// Opens the device of this `DeviceKind` and emits `adapter`. `memory_limit_bytes` lowers the
    /// memory that the planner assumes.
    ///
    /// # Errors
    /// A `Fault` with the code `no_webgpu`.
    pub async fn open(
        emit: js_sys::Function,
        kind: JsValue,
        memory_limit_bytes: Option<f64>,
    ) -> Result<Engine, JsValue> {
        let emitter = Emitter(emit);
        faults::set_emitter(&emitter);
        let opened = async { device::open(from_js(kind, "the device")?).await };
        let (device, adapter, limits) = opened.await.map_err(|fault| to_js(&fault))?;
        let computes_on_worker = adapter.backend == device::CPU_BACKEND;
        let limits = match memory_limit_bytes {
            Some(bytes) => DeviceLimits { memory_bytes: Some(bytes as u64), ..limits },
            None => limits,
        };
        let name = format!("tab: {} ({})", adapter.name, adapter.backend);
        emitter.emit(&EngineEvent::Adapter(adapter));
        let (pipeline, prepared, encoded) = (RefCell::default(), RefCell::default(), RefCell::default());
        let (components, loras) = (RefCell::default(), RefCell::default());
        let cancelled = Cell::default();
        Ok(Engine {
            device,
            limits,
            name,
            emitter,
            computes_on_worker,
            pipeline,
            components,
            loras,
            prepared,
            encoded,
            cancelled,
        })
    }

    /// Returns whether the VAE's encoder is on the device.
    pub fn has_vae_encoder(&self) -> bool {
        self.pipeline.borrow().as_ref().is_some_and(|pipeline| pipeline.has_vae_encoder())
    }

    /// Compiles the shaders of a checkpoint and runs a tiny image, while the weights are downloaded. The checkpoint's
    /// configurations, the scheduler's included, are in `files`, or in the `manifest` of a packed one. Does nothing on the CPU.
    ///
    /// # Errors
    /// A `Fault` that names the key, or that the GPU failed.
    pub async fn prewarm(&self, files: js_sys::Map, manifest: Option<String>) -> Result<(), JsValue> {
        let _guard = CallGuard::begin();
        let configs = manifest.map_or_else(
            || Ok(folder::memory_folder(&files)),
            |manifest| folder::packed_folder(&manifest, folder::NoReads),
        );
        let prewarmed = async { self.try_prewarm(&configs?).await };
        prewarmed.await.map_err(|fault| to_js(&fault))
    }

    /// Validates a request and holds it for [`Engine::generate`] under its id. Returns its prompts in batch order, cleaned, with
    /// the style applied and without the suffix: as a companion encodes them where it does, else in rows as [`Engine::encode`] does.
    ///
    /// # Errors
    /// A `Fault` with the code `bad_request`, or `out_of_memory` where the image does not fit.
    pub fn prepare(&self, request: JsValue) -> Result<Vec<String>, JsValue> {
        self.try_prepare(request).map_err(|fault| to_js(&fault))
    }

    /// Counts the tokens of the prompts of a request and returns the event `tokens_counted`. May be called while an image is
    /// generated.
    ///
    /// # Errors
    /// A `Fault` with the code `bad_request`.
    pub fn count_tokens(&self, id: u32, request: JsValue) -> Result<JsValue, JsValue> {
        self.try_count_tokens(id, request).map(|event| to_js(&event)).map_err(|fault| to_js(&fault))
    }

    /// Cancels image `id` before its next step.
    pub fn cancel(&self, id: u32) {
        self.cancelled.set(Some(id));
    }

    /// Compares a golden variant tap by tap: `files` is a `Map` of path to `Uint8Array`.
    ///
    /// # Errors
    /// A `Fault` where the GPU failed; taps that differ are rows of the `checked` event.
    pub async fn check(&self, id: u32, variant: String, files: js_sys::Map) -> Result<(), JsValue> {
        let _guard = CallGuard::begin();
        let rows = golden::check(&variant, &folder::memory_folder(&files), &self.device, CHECK_TOLERANCE).await;
        faults::take_first().map_err(|fault| to_js(&fault))?;
        self.emitter.emit(&EngineEvent::Checked { id, rows });
        Ok(())
    }
}

impl Engine {
    fn try_prepare(&self, request: JsValue) -> Result<Vec<String>, Fault> {
        let request: GenerateRequest = from_js(request, "the request")?;
        let prepared = self.loaded_pipeline()?.prepare(&request)?;
        if request.image_indices().len() != 1 || request.output_type != OutputType::Png {
            let what = "a tab generates one PNG at a time";
            let remedy =
                "leave num_images_per_prompt and output_type at their defaults, or choose one image by image_index";
            return Err(Fault::new(FaultCode::BadRequest, what, remedy));
        }
        let prompts = match &request.text_encoder {
            TextEncoderSource::Companion { .. } => prepared.prompts.clone(),
            _ => encoder_rows(&prepared.prompts),
        };
        self.prepared.replace(Some(prepared));
        Ok(prompts)
    }

    fn try_count_tokens(&self, id: u32, request: JsValue) -> Result<EngineEvent, Fault> {
        let request: GenerateRequest = from_js(request, "the request")?;
        let pipeline = self.pipeline.borrow().clone();
        let counts = pipeline.map_or(Ok(Vec::new()), |pipeline| pipeline.typed_token_counts(&request))?;
        let mut counts = counts.into_iter();
        Ok(EngineEvent::TokensCounted(TokensCounted { id, prompt: counts.next(), negative_prompt: counts.next() }))
    }

    pub(crate) fn loaded_pipeline(&self) -> Result<Rc<Pipeline>, Fault> {
        self.pipeline.borrow().clone().ok_or_else(not_loaded)
    }

    async fn try_prewarm(&self, configs: &Folder) -> Result<(), Fault> {
        if self.computes_on_worker {
            return Ok(());
        }
        let all = PrewarmKernel::all(configs, self.limits)?;
        let shaders = all.len() as u32 + 1;
        for (compiled, kernel) in (1..).zip(all) {
            self.fence("a shader's first result", kernel.launch(&self.device)).await?;
            faults::take_first()?;
            self.emitter.emit(&EngineEvent::Compiling { compiled, shaders });
        }
        let image = prewarm(configs, &self.device, self.limits).await?;
        let [_, _, height, width] = image.dims();
        rgb8_read(image, Size { height, width }).await?;
        faults::take_first()?;
        self.emitter.emit(&EngineEvent::Compiling { compiled: shaders, shaders });
        Ok(())
    }

    /// Waits until `tensor`, named `what` in a fault, is computed. On the CPU it then yields to the event loop.
    pub(crate) async fn fence<const RANK: usize>(&self, what: &str, tensor: Tensor<RANK>) -> Result<(), Fault> {
        let first = tensor.flatten::<1>(0, RANK - 1).slice([0..1]);
        let read = first.into_data_async().await;
        read.map_err(|error| Error::Read { what: what.into(), why: error.to_string() })?;
        self.yield_on_cpu().await;
        Ok(())
    }

    /// Yields to the event loop on the CPU. With a GPU, messages are received during its fences.
    pub(crate) async fn yield_on_cpu(&self) {
        if self.computes_on_worker {
            yield_to_event_loop().await;
        }
    }
}

pub(crate) fn not_loaded() -> Fault {
    Fault::new(FaultCode::BadRequest, "no checkpoint is loaded", "load one first")
}
