//! One part of a network, to be timed against other implementations of it. The page keeps the time: what counts is what
//! the browser's processes spend, which nobody here can see.

use pixart_model::golden::values_read;
use pixart_model::{Family, Workload};
use pixart_protocol::{DeviceKind, Fault, FaultCode};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::border::object;
use crate::faults::AtWork;
use crate::{device, faults, weights};

/// A workload on the device.
#[wasm_bindgen]
pub struct Bench {
    workload: Workload,
}

#[wasm_bindgen]
impl Bench {
    /// Opens the device and puts workload `name` on it. `files` is a `Map` of path to `Uint8Array`; `family` is `gpu`,
    /// `software` or, in a module that has burn's own operations, `stock` for the GPU's, or `cpu` for the processor.
    ///
    /// # Errors
    /// A `Fault` that names the family, file or tensor.
    pub async fn open(name: String, family: String, files: js_sys::Map) -> Result<Bench, JsValue> {
        let _at_work = AtWork::begin();
        let opened = async {
            let (kind, family) = self::family(&family)?;
            let (device, ..) = device::open(kind).await?;
            family.choose();
            Ok(Self { workload: Workload::load(&name, &weights::held(&files), &device).await? })
        };
        opened.await.map_err(|fault: Fault| object(&fault))
    }

    /// Computes the workload once, and returns what it gives.
    ///
    /// # Errors
    /// A `Fault` where the GPU failed.
    pub async fn run(&self) -> Result<Vec<f32>, JsValue> {
        let _at_work = AtWork::begin();
        let output = values_read("the workload's output", self.workload.run()).await;
        let checked = faults::first().and(output.map_err(Fault::from));
        checked.map_err(|fault| object(&fault))
    }
}

fn family(name: &str) -> Result<(DeviceKind, Family), Fault> {
    match name {
        "gpu" => Ok((DeviceKind::Webgpu, Family::Gpu)),
        "software" => Ok((DeviceKind::Webgpu, Family::Software)),
        "stock" if cfg!(feature = "stock") => Ok((DeviceKind::Webgpu, Family::Stock)),
        "cpu" => Ok((DeviceKind::Wasm, Family::default())),
        _ => {
            let what = format!("there is no family {name}");
            let remedy = "gpu, software or cpu; stock where the module was built with that feature";
            Err(Fault::new(FaultCode::BadRequest, what, remedy))
        }
    }
}
