//! The GPU of the test process, which wgpu can open once.

use std::sync::OnceLock;

use pixart_companion::device::{self, DeviceSpec, LoadedDevice};
use pixart_model::KernelVariant;

/// Returns the adapter that wgpu finds, which may be a fallback adapter, and selects its kernels for this thread. Returns `None`
/// and prints so where `NO_GPU=1`; without an adapter a test fails.
pub(crate) fn opened() -> Option<&'static LoadedDevice> {
    static GPU: OnceLock<(LoadedDevice, KernelVariant)> = OnceLock::new();
    if std::env::var_os("NO_GPU").is_some_and(|value| value == "1") {
        println!("NOT RUN in WGSL, because NO_GPU=1");
        return None;
    }
    let (opened, variant) = GPU.get_or_init(|| {
        let opened = device::open(DeviceSpec::Wgpu).expect("a GPU adapter is usable, or NO_GPU=1");
        (opened, KernelVariant::current())
    });
    variant.make_current();
    Some(opened)
}
