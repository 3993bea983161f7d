//! The class the worker holds.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use burn::tensor::{Device, Tensor};
use pixart_model::image::{Size, rgb8_read};
use pixart_model::{DeviceLimits, Error, Pipeline, PrewarmKernel, VaeEncoder, captions_of, golden, prewarm};
use pixart_protocol::{EngineEvent, Fault, FaultCode, GenerateRequest};
use pixart_weights::Folder;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::border::{Emitter, object, turn, value};
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
    pub(crate) name: String,
    pub(crate) emitter: Emitter,
    /// Whether the worker itself computes, and hears nothing meanwhile.
    pub(crate) is_busy: bool,
    pub(crate) pipeline: RefCell<Option<Rc<Pipeline>>>,
    /// What reads a picture to draw over, once one was asked for.
    pub(crate) encoding: RefCell<Option<Rc<VaeEncoder>>>,
    pub(crate) cancelled: Cell<Option<u32>>,
}

#[wasm_bindgen]
impl Engine {
    /// Opens the device of this `DeviceKind` and announces it. `memory_limit_bytes` lowers the
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
        faults::tell(&emitter);
        let opened = async { device::open(value(kind, "the device")?).await };
        let (device, adapter, limits) = opened.await.map_err(|fault| object(&fault))?;
        let is_busy = adapter.backend == device::CPU_BACKEND;
        let limits = match memory_limit_bytes {
            Some(bytes) => DeviceLimits { memory_bytes: Some(bytes as u64), ..limits },
            None => limits,
        };
        let name = format!("tab: {} ({})", adapter.name, adapter.backend);
        emitter.emit(&EngineEvent::Adapter(adapter));
        let (pipeline, encoding) = (RefCell::default(), RefCell::default());
        Ok(Engine { device, limits, name, emitter, is_busy, pipeline, encoding, cancelled: Cell::default() })
    }

    /// Whether [`Engine::load_vae_encoder`] has been called for the checkpoint.
    pub fn has_vae_encoder(&self) -> bool {
        self.encoding.borrow().is_some()
    }

    /// Compiles the shaders of a checkpoint whose `config.json`s are in `files`, the scheduler's among them, one after the other,
    /// while its weights are fetched, and rehearses a picture; `manifest` is that of a packed one. On the processor there is
    /// nothing to compile.
    ///
    /// # Errors
    /// A `Fault` that names the key, or that the GPU failed.
    pub async fn prewarm(&self, files: js_sys::Map, manifest: Option<String>) -> Result<(), JsValue> {
        let _at_work = AtWork::begin();
        let configs =
            manifest.map_or_else(|| Ok(weights::held(&files)), |manifest| weights::packed(&manifest, weights::Unread));
        let warm_up = async { self.try_prewarm(&configs?).await };
        warm_up.await.map_err(|fault| object(&fault))
    }

    /// The captions of a request in the order of the batch, cleaned, with style and without suffix: what a companion is
    /// asked to encode.
    ///
    /// # Errors
    /// A `Fault` with the code `bad_request`.
    pub fn captions(&self, request: JsValue) -> Result<Vec<String>, JsValue> {
        let captions = || {
            let request: GenerateRequest = value(request, "the request")?;
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
        self.emitter.emit(&EngineEvent::Checked { id, rows });
        Ok(())
    }
}

impl Engine {
    pub(crate) fn loaded(&self) -> Result<Rc<Pipeline>, Fault> {
        let loaded = self.pipeline.borrow().clone();
        loaded.ok_or_else(|| Fault::new(FaultCode::BadRequest, "no checkpoint is loaded", "load one first"))
    }

    async fn try_prewarm(&self, configs: &Folder) -> Result<(), Fault> {
        if self.is_busy {
            return Ok(());
        }
        let all = PrewarmKernel::all(configs, self.limits)?;
        let shaders = all.len() as u32 + 1;
        for (compiled, one) in (1..).zip(all) {
            self.reach("a shader's first result", one.launch(&self.device)).await?;
            faults::first()?;
            self.emitter.emit(&EngineEvent::Compiling { compiled, shaders });
        }
        let picture = prewarm(configs, &self.device, self.limits).await?;
        let [_, _, height, width] = picture.dims();
        rgb8_read(picture, Size { height, width }).await?;
        faults::first()?;
        self.emitter.emit(&EngineEvent::Compiling { compiled: shaders, shaders });
        Ok(())
    }

    /// Waits until `tensor`, named `what` in a fault, has been computed, and lets messages in.
    pub(crate) async fn reach<const RANK: usize>(&self, what: &str, tensor: Tensor<RANK>) -> Result<(), Fault> {
        let first = tensor.flatten::<1>(0, RANK - 1).slice([0..1]);
        let read = first.into_data_async().await;
        read.map_err(|error| Error::Read { what: what.into(), why: format!("{error:?}") })?;
        self.listen().await;
        Ok(())
    }

    /// Lets messages in where the worker itself computes; elsewhere they come while a GPU is waited for.
    pub(crate) async fn listen(&self) {
        if self.is_busy {
            turn().await;
        }
    }
}
