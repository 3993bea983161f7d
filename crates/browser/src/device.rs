//! The device: the GPU, opened once, or the CPU. In a browser a shader that does not compile is only logged and its dispatch is
//! dropped, so errors are also taken from the log.

use std::cell::RefCell;
use std::sync::Arc;

use burn::tensor::Device;
use pixart_model::{DeviceLimits, KernelVariant};
use pixart_protocol::{AdapterInfo, DeviceKind, Fault, FaultCode};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

use crate::faults::report;
use crate::interop::without_stop;

/// Tasks of one submission: few enough that a fallback adapter responds between them.
const TASKS_MAX: usize = 32;

/// [`AdapterInfo::backend`] of the CPU.
pub(crate) const CPU_BACKEND: &str = "wasm";
/// The wasm address space, less files during loading and the page's messages.
const WASM_MEMORY: u64 = 3 << 30;
/// Log target of cubecl for a lost device.
const LOST: &str = "cubecl_wgpu::compute::device_poison";
const RELOAD: &str = "reload the page to open the device again";

thread_local! {
    /// cubecl holds the device of a module for ever and refuses to open it twice.
    static OPENED: RefCell<Option<(Device, DeviceLimits)>> = RefCell::default();
}

/// Opens the device of this kind; returns it with its limits.
///
/// # Errors
/// [`FaultCode::NoWebgpu`] where WebGPU was requested and is missing, or has no adapter or device.
pub(crate) async fn open(kind: DeviceKind) -> Result<(Device, AdapterInfo, DeviceLimits), Fault> {
    const REQUESTED: &str = "as requested";
    match kind {
        DeviceKind::Wasm => Ok(cpu(REQUESTED.into())),
        DeviceKind::Webgpu => gpu(describe(REQUESTED).await?).await,
        DeviceKind::Auto => {
            let opened = async {
                let adapter = describe("the GPU that the browser offers").await?;
                if adapter.is_fallback_adapter {
                    let only = format!("{}, a fallback adapter, which is slower", adapter.name);
                    return Ok(cpu(format!("WebGPU has only {only}")));
                }
                gpu(adapter).await
            };
            Ok(opened.await.unwrap_or_else(|fault: Fault| cpu(fault.what)))
        }
    }
}

fn cpu(reason: String) -> (Device, AdapterInfo, DeviceLimits) {
    let adapter = AdapterInfo { name: "CPU".into(), backend: CPU_BACKEND.into(), is_fallback_adapter: false, reason };
    (Device::flex(), adapter, DeviceLimits { memory_bytes: Some(WASM_MEMORY), ..DeviceLimits::UNLIMITED })
}

/// Opens the browser's adapter, at the first call.
async fn gpu(adapter: AdapterInfo) -> Result<(Device, AdapterInfo, DeviceLimits), Fault> {
    if let Some((device, limits)) = OPENED.with_borrow(Clone::clone) {
        return Ok((device, adapter, limits));
    }
    let opened = Device::wgpu_options().tasks_max(TASKS_MAX).init_with_setup_async().await;
    let (device, setup) = opened.map_err(|error| {
        Fault::new(
            FaultCode::NoWebgpu,
            format!("the WebGPU device could not be opened: {}", cause(&error.to_string())),
            RELOAD,
        )
    })?;
    report_errors(&setup.device);
    KernelVariant::for_adapter(adapter.is_fallback_adapter).make_current();
    let (has, features) = (setup.device.limits(), setup.device.features());
    let has_shader_f16 = features.contains(wgpu::Features::SHADER_F16);
    let (bindings, buffers) = (has.max_storage_buffer_binding_size, has.max_buffer_size);
    let limits = DeviceLimits::from_gpu(bindings, buffers, has_shader_f16, adapter.is_fallback_adapter);
    OPENED.set(Some((device.clone(), limits)));
    Ok((device, adapter, limits))
}

/// Returns the browser's own words in wgpu's text of an error, which shows them as `JsValue(NAME: TEXT` and a stack.
fn cause(text: &str) -> &str {
    let text = text.split_once("JsValue(").map_or(text, |(_, value)| value);
    text.lines().next().unwrap_or_default().trim_end_matches([')', '.'])
}

/// Reports the errors of the device and the log as faults.
fn report_errors(device: &wgpu::Device) {
    device.on_uncaptured_error(Arc::new(|error| report(fault_of(&error))));
    device.set_device_lost_callback(|reason, message| {
        report(Fault::new(
            FaultCode::DeviceLost,
            format!("the GPU device was lost{}: {}", lost_reason(reason), without_stop(&message)),
            RELOAD,
        ));
    });
    // For a second engine of the module the logger is installed already; it is the same one.
    let _ = log::set_logger(&ErrorLog).map(|()| log::set_max_level(log::LevelFilter::Warn));
}

fn lost_reason(reason: wgpu::DeviceLostReason) -> &'static str {
    match reason {
        wgpu::DeviceLostReason::Destroyed => " (it was destroyed)",
        wgpu::DeviceLostReason::Unknown => "",
    }
}

fn fault_of(error: &wgpu::Error) -> Fault {
    match error {
        wgpu::Error::OutOfMemory { .. } => Fault::new(
            FaultCode::OutOfMemory,
            "the GPU is out of memory",
            "choose a smaller image, or close other pages that use the GPU",
        ),
        _ => Fault::new(
            FaultCode::GpuValidation,
            format!("the GPU refused a command: {}", without_stop(&error.to_string())),
            RELOAD,
        ),
    }
}

/// Passes warnings to the console, and reports errors as faults.
struct ErrorLog;

impl log::Log for ErrorLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{}: {}", record.target(), record.args());
        match record.level() {
            log::Level::Error => {
                web_sys::console::error_1(&line.as_str().into());
                // The device's callback reports it, too.
                if record.target() == LOST {
                    return;
                }
                report(Fault::new(FaultCode::GpuValidation, line, RELOAD));
            }
            log::Level::Warn => web_sys::console::warn_1(&line.into()),
            _ => {}
        }
    }

    fn flush(&self) {}
}

/// Requests the browser's adapter and describes it. Uses reflection: web-sys's bindings of WebGPU are unstable.
async fn describe(reason: &str) -> Result<AdapterInfo, Fault> {
    let none = |what: &str| {
        let remedy = "use the CPU, or a browser with WebGPU, such as a current Chrome or Edge";
        Fault::new(FaultCode::NoWebgpu, what, remedy)
    };
    let navigator = get(&js_sys::global(), "navigator");
    let gpu = get(&navigator, "gpu");
    let is_secure = get(&js_sys::global(), "isSecureContext").as_bool().unwrap_or(true);
    if (gpu.is_undefined() || gpu.is_null()) && !is_secure {
        let what = "browsers offer WebGPU to pages from https and localhost only";
        return Err(Fault::new(FaultCode::NoWebgpu, what, "open this page by https or at localhost, or use the CPU"));
    }
    if gpu.is_undefined() || gpu.is_null() {
        return Err(none("this browser offers no WebGPU"));
    }
    let request = get(&gpu, "requestAdapter").dyn_into::<js_sys::Function>();
    let promise = request.and_then(|request| request.call0(&gpu)).map(js_sys::Promise::from);
    let adapter = match promise {
        Ok(promise) => JsFuture::from(promise).await,
        Err(error) => Err(error),
    };
    let adapter = adapter.map_err(|_| none("WebGPU could not request an adapter"))?;
    if adapter.is_null() || adapter.is_undefined() {
        return Err(none("WebGPU is here, but it has no adapter for this GPU"));
    }
    let info = get(&adapter, "info");
    let text = |key: &str| get(&info, key).as_string().unwrap_or_default();
    let parts = [text("vendor"), text("architecture"), text("description")];
    let name: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    let fallback = |owner: &JsValue| get(owner, "isFallbackAdapter").as_bool().unwrap_or(false);
    Ok(AdapterInfo {
        name: if name.is_empty() { "GPU".into() } else { name.join(" ") },
        backend: "webgpu".into(),
        is_fallback_adapter: fallback(&info) || fallback(&adapter) || text("architecture").contains("swiftshader"),
        reason: if name.is_empty() { format!("{reason}; the browser does not name it") } else { reason.into() },
    })
}

fn get(owner: &JsValue, key: &str) -> JsValue {
    js_sys::Reflect::get(owner, &key.into()).unwrap_or(JsValue::UNDEFINED)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;
    use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

    use super::*;
    use crate::faults::{CallGuard, take_first};

    wasm_bindgen_test_configure!(run_in_dedicated_worker);

    #[wasm_bindgen_test]
    async fn rejected_commands_and_logged_errors_are_faults() {
        crate::construct();
        let opened = Device::wgpu_options().init_with_setup_async().await;
        let (device, setup) = opened.expect("WebGPU is here");
        report_errors(&setup.device);
        let _guard = CallGuard::begin();
        let tensor = Tensor::<1>::ones([4], &device);
        tensor.clone().into_data_async().await.expect("reads");
        assert_eq!(take_first(), Ok(()));

        let text = "@compute @workgroup_size(1) fn main() { let x: nonsense = 1; }";
        let source = wgpu::ShaderSource::Wgsl(text.into());
        let _ = setup.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        (tensor + 1.0).into_data_async().await.expect("the device lives on");
        let fault = take_first().expect_err("the shader does not compile");
        assert_eq!(fault.code, FaultCode::GpuValidation);
        assert!(fault.what.contains("nonsense"), "{fault}");

        // cubecl reports a kernel that does not compile only through the log.
        log::error!("shader creation failed");
        let fault = take_first().expect_err("an error was logged");
        assert!(fault.what.contains("shader creation failed"), "{fault}");
        assert_eq!(take_first(), Ok(()));
    }
}
