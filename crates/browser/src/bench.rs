//! Benchmark of one part of a network against other implementations. The page measures: the time of the browser's processes
//! counts, which is invisible here.

use pixart_model::{KernelVariant, Workload, values_read};
use pixart_protocol::{DeviceKind, Fault, FaultCode};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::faults::CallGuard;
use crate::interop::to_js;
use crate::{device, faults, folder};

/// A workload on the device.
#[wasm_bindgen]
pub struct Bench {
    workload: Workload,
}

#[wasm_bindgen]
impl Bench {
    /// Opens the device and uploads workload `name`. `files` is a `Map` of path to `Uint8Array`. `variant` is `workgroup`,
    /// `registers` or, in a module with the feature `burn-reference`, `burn-reference` for WebGPU, or `cpu` for the CPU.
    ///
    /// # Errors
    /// A `Fault` that names the variant, file or tensor.
    pub async fn open(name: String, variant: String, files: js_sys::Map) -> Result<Bench, JsValue> {
        let _guard = CallGuard::begin();
        let opened = async {
            let (kind, variant) = kernel_variant(&variant)?;
            let (device, ..) = device::open(kind).await?;
            variant.make_current();
            Ok(Self { workload: Workload::load(&name, &folder::memory_folder(&files), &device).await? })
        };
        opened.await.map_err(|fault: Fault| to_js(&fault))
    }

    /// Runs the workload once, and returns its output.
    ///
    /// # Errors
    /// A `Fault` where the GPU failed.
    pub async fn run(&self) -> Result<Vec<f32>, JsValue> {
        let _guard = CallGuard::begin();
        let output = values_read("the workload's output", self.workload.run()).await;
        let checked = faults::take_first().and(output.map_err(Fault::from));
        checked.map_err(|fault| to_js(&fault))
    }
}

fn kernel_variant(name: &str) -> Result<(DeviceKind, KernelVariant), Fault> {
    match name {
        "workgroup" => Ok((DeviceKind::Webgpu, KernelVariant::WorkgroupTiled)),
        "registers" => Ok((DeviceKind::Webgpu, KernelVariant::RegisterTiled)),
        "burn-reference" if cfg!(feature = "burn-reference") => Ok((DeviceKind::Webgpu, KernelVariant::BurnReference)),
        "cpu" => Ok((DeviceKind::Wasm, KernelVariant::default())),
        _ => {
            let what = format!("there is no kernel variant {name}");
            let remedy = "use workgroup, registers or cpu, or burn-reference in a module built with that feature";
            Err(Fault::new(FaultCode::BadRequest, what, remedy))
        }
    }
}
