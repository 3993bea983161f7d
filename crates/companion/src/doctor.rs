//! Report of the devices of this computer. It queries adapters and loads no model.

use std::fmt::Write as _;

use serde::Serialize;

use crate::device::device_type_name;

/// Devices of this computer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DoctorReport {
    pub cpu: CpuReport,
    /// Adapters of every graphics API that wgpu finds.
    pub wgpu: Vec<AdapterReport>,
    pub cuda: &'static str,
}

/// The CPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuReport {
    pub cores: usize,
}

/// A wgpu adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdapterReport {
    pub name: String,
    pub backend: String,
    /// `discrete GPU`, `integrated GPU`, `virtual GPU`, `CPU` (a fallback adapter) or `other`.
    pub device_type: String,
    pub driver: String,
    pub shader_f16: bool,
    pub subgroups: bool,
    pub storage_binding_max_bytes: u64,
    pub buffer_max_bytes: u64,
}

/// Queries the CPU and every adapter.
#[must_use]
pub fn report() -> DoctorReport {
    // The operating system may not give the number of cores.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = futures_lite::future::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    DoctorReport { cpu: CpuReport { cores }, wgpu: adapters.iter().map(describe).collect(), cuda: "not in this build" }
}

fn describe(adapter: &wgpu::Adapter) -> AdapterReport {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    AdapterReport {
        name: info.name,
        backend: info.backend.to_string(),
        device_type: device_type_name(info.device_type).to_owned(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        shader_f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: features.contains(wgpu::Features::SUBGROUP),
        storage_binding_max_bytes: limits.max_storage_buffer_binding_size,
        buffer_max_bytes: limits.max_buffer_size,
    }
}

/// Formats the report for a terminal.
#[must_use]
pub fn text(report: &DoctorReport) -> String {
    const MIB: u64 = 1 << 20;
    let mut text = format!("cpu   usable: {} cores\n", report.cpu.cores);
    if report.wgpu.is_empty() {
        text.push_str("wgpu  not usable: no adapter; install a Vulkan driver (Mesa's lavapipe runs on the CPU)\n");
    }
    for adapter in &report.wgpu {
        let AdapterReport { name, backend, device_type, driver, shader_f16, subgroups, .. } = adapter;
        let yes_no = |has: &bool| if *has { "yes" } else { "no" };
        let (binding, buffer) = (adapter.storage_binding_max_bytes / MIB, adapter.buffer_max_bytes / MIB);
        writeln!(
            text,
            "wgpu  usable: {name}, {backend}, {device_type}, {driver}\n      f16 {}, subgroups {}, largest binding \
             {binding} MiB, largest buffer {buffer} MiB",
            yes_no(shader_f16),
            yes_no(subgroups),
        )
        .expect("a String takes all text");
    }
    writeln!(text, "cuda  {}", report.cuda).expect("a String takes all text");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_of(wgpu: Vec<AdapterReport>) -> DoctorReport {
        DoctorReport { cpu: CpuReport { cores: 2 }, wgpu, cuda: "not in this build" }
    }

    #[test]
    fn a_report_without_an_adapter_says_so() {
        let text = text(&report_of(Vec::new()));
        assert!(text.contains("cpu   usable: 2 cores") && text.contains("wgpu  not usable"), "{text}");
    }

    #[test]
    fn every_adapter_is_listed_with_its_features() {
        let adapter = AdapterReport {
            name: "llvmpipe".to_owned(),
            backend: "vulkan".to_owned(),
            device_type: "CPU".to_owned(),
            driver: "Mesa".to_owned(),
            shader_f16: true,
            subgroups: false,
            storage_binding_max_bytes: 128 << 20,
            buffer_max_bytes: 2 << 30,
        };
        let text = text(&report_of(vec![adapter]));
        for part in ["llvmpipe, vulkan, CPU, Mesa", "f16 yes, subgroups no", "binding 128 MiB", "buffer 2048 MiB"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }
}
