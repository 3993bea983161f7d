//! What this computer can run the model on, as data. It opens adapters to ask them and starts no model.

use std::fmt::Write as _;

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub cpu: Processor,
    /// Every adapter that wgpu finds, on every graphics interface; empty where there is none.
    pub wgpu: Vec<Adapter>,
    pub cuda: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Processor {
    pub cores: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adapter {
    pub name: String,
    pub backend: String,
    /// `DiscreteGpu`, `IntegratedGpu`, `VirtualGpu`, `Cpu` (a software adapter) or `Other`.
    pub device_type: String,
    pub driver: String,
    pub shader_f16: bool,
    pub subgroups: bool,
    pub storage_binding_max_bytes: u64,
    pub buffer_max_bytes: u64,
}

/// Asks the processor and every adapter.
#[must_use]
pub fn examine() -> Report {
    // The operating system may refuse to tell the number of cores; one is always there.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = futures_lite::future::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    Report { cpu: Processor { cores }, wgpu: adapters.iter().map(describe).collect(), cuda: "not in this build" }
}

fn describe(adapter: &wgpu::Adapter) -> Adapter {
    let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
    Adapter {
        name: info.name,
        backend: format!("{:?}", info.backend),
        device_type: format!("{:?}", info.device_type),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        shader_f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: features.contains(wgpu::Features::SUBGROUP),
        storage_binding_max_bytes: limits.max_storage_buffer_binding_size,
        buffer_max_bytes: limits.max_buffer_size,
    }
}

/// The report as lines for a terminal.
#[must_use]
pub fn text(report: &Report) -> String {
    const MIB: u64 = 1 << 20;
    let mut text = format!("cpu   usable: {} cores\n", report.cpu.cores);
    if report.wgpu.is_empty() {
        text.push_str(
            "wgpu  not usable: no adapter; install a Vulkan driver (Mesa's lavapipe runs on the processor)\n",
        );
    }
    for adapter in &report.wgpu {
        let Adapter { name, backend, device_type, driver, shader_f16, subgroups, .. } = adapter;
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

    fn report(wgpu: Vec<Adapter>) -> Report {
        Report { cpu: Processor { cores: 2 }, wgpu, cuda: "not in this build" }
    }

    #[test]
    fn a_computer_without_an_adapter_is_told_so() {
        let text = text(&report(Vec::new()));
        assert!(text.contains("cpu   usable: 2 cores") && text.contains("wgpu  not usable"), "{text}");
    }

    #[test]
    fn every_adapter_is_listed_with_its_features() {
        let adapter = Adapter {
            name: "llvmpipe".to_owned(),
            backend: "Vulkan".to_owned(),
            device_type: "Cpu".to_owned(),
            driver: "Mesa".to_owned(),
            shader_f16: true,
            subgroups: false,
            storage_binding_max_bytes: 128 << 20,
            buffer_max_bytes: 2 << 30,
        };
        let text = text(&report(vec![adapter]));
        for part in ["llvmpipe, Vulkan, Cpu, Mesa", "f16 yes, subgroups no", "binding 128 MiB", "buffer 2048 MiB"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }
}
