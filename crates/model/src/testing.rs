//! Shared helpers of the networks' tests.

use std::collections::{BTreeMap, HashMap};

use burn::tensor::{Device, DeviceKind};
use pixart_kernels::KernelVariant;
use pixart_weights::{Dtype, Folder, serialize_tensors};

use crate::randn;

/// Returns a safetensors file of normal random weights, scaled by 1/√inputs so that activations keep their magnitude.
pub(crate) fn safetensors(shapes: BTreeMap<String, Vec<usize>>) -> Vec<u8> {
    let tensors = (1..).zip(shapes).map(|(seed, (name, shape))| {
        let inputs: usize = shape[1..].iter().product();
        let scale = (inputs as f32).sqrt().recip();
        let values = randn(seed, shape.iter().product()).into_iter();
        let bytes = values.flat_map(|value| (value * scale).to_le_bytes()).collect();
        (name, Dtype::F32, shape, bytes)
    });
    serialize_tensors(tensors.collect(), HashMap::new())
}

/// Reads the networks of a recorded pipeline and its scheduler configuration.
pub(crate) fn checkpoint(variant: &str) -> Folder {
    let (root, mut folder) = (concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden"), Folder::default());
    let networks = pixart_weights::packer::NETWORKS.into_iter();
    let files = networks.flat_map(|(dir, stem)| [format!("{dir}/config.json"), format!("{dir}/{stem}.safetensors")]);
    for file in files.chain(["scheduler/scheduler_config.json".to_owned()]) {
        let path = format!("{root}/{variant}/pipeline/{file}");
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        folder.insert(file, bytes);
    }
    folder
}

/// Returns the wgpu device with kernels of `variant`, or none if `NO_GPU=1`.
pub(crate) fn gpu(variant: KernelVariant) -> Option<Device> {
    if std::env::var_os("NO_GPU").is_some_and(|value| value == "1") {
        println!("NOT RUN in WGSL, because NO_GPU=1");
        return None;
    }
    variant.make_current();
    Some(Device::wgpu(DeviceKind::DefaultDevice))
}

/// Returns whether tests that take minutes on a fallback adapter run: `LARGE=1` enables them.
pub(crate) fn large(what: &str) -> bool {
    let enabled = std::env::var_os("LARGE").is_some_and(|value| value == "1");
    if !enabled {
        println!("NOT RUN: {what}, because LARGE is not 1");
    }
    enabled
}

/// Returns the peak resident memory of this process, where the system reports it.
pub(crate) fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("the peak memory is not reported").to_owned()
}
