//! Opens the device that the model runs on, and describes it.

use burn::tensor::Device;
use pixart_model::{DeviceLimits, Family};

use crate::Error;

/// The devices of this build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// The processor, through burn's portable backend.
    #[default]
    Flex,
    /// A GPU through wgpu and WGSL; a software Vulkan driver where there is no GPU.
    Wgpu,
}

/// An open device.
#[derive(Clone, Debug)]
pub struct Opened {
    pub device: Device,
    /// As people know it: the adapter's name and the graphics interface it is reached through.
    pub name: String,
    /// What it can hold.
    pub limits: DeviceLimits,
}

/// Opens a device. The GPU of a process can be opened once; keep what is returned.
pub fn open(kind: Kind) -> Result<Opened, Error> {
    match kind {
        Kind::Flex => Ok(Opened { device: Device::flex(), name: "flex".to_owned(), limits: DeviceLimits::NONE }),
        Kind::Wgpu => {
            let opened = Device::wgpu_options().init_with_setup();
            let (device, setup) = opened.map_err(|error| Error::NoGpu { why: error.to_string() })?;
            let info = setup.adapter.get_info();
            let software = info.device_type == wgpu::DeviceType::Cpu;
            Family::of(software).choose();
            let (has, features) = (setup.device.limits(), setup.device.features());
            let has_shader_f16 = features.contains(wgpu::Features::SHADER_F16);
            let (bindings, buffers) = (has.max_storage_buffer_binding_size, has.max_buffer_size);
            let limits = DeviceLimits::of_gpu(bindings, buffers, has_shader_f16, software);
            Ok(Opened { device, name: adapter_name(&info), limits })
        }
    }
}

/// The name and interface of an adapter, in words.
#[must_use]
pub fn adapter_name(info: &wgpu::AdapterInfo) -> String {
    format!("{} ({:?})", info.name, info.backend)
}
