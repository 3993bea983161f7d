//! Devices that the model runs on.

use burn::tensor::Device;
use pixart_model::{DeviceLimits, KernelVariant};

use crate::Error;

mod spec;

pub use spec::DeviceSpec;

/// An open device.
#[derive(Clone, Debug)]
pub struct LoadedDevice {
    pub device: Device,
    /// Name of the adapter and its graphics API.
    pub name: String,
    /// Limits of its memory and bindings.
    pub limits: DeviceLimits,
}

/// Opens a device. The GPU can be opened once in a process; keep what is returned.
///
/// # Errors
/// A device that is not there, or not in this build.
pub fn open(kind: DeviceSpec) -> Result<LoadedDevice, Error> {
    match kind {
        DeviceSpec::Cpu => {
            Ok(LoadedDevice { device: Device::flex(), name: "cpu".to_owned(), limits: DeviceLimits::UNLIMITED })
        }
        DeviceSpec::Wgpu => {
            let opened = Device::wgpu_options().init_with_setup();
            let (device, setup) = opened.map_err(|error| Error::NoGpu { why: error.to_string() })?;
            let info = setup.adapter.get_info();
            let software = info.device_type == wgpu::DeviceType::Cpu;
            KernelVariant::for_adapter(software).make_current();
            let (has, features) = (setup.device.limits(), setup.device.features());
            let has_shader_f16 = features.contains(wgpu::Features::SHADER_F16);
            let (bindings, buffers) = (has.max_storage_buffer_binding_size, has.max_buffer_size);
            let limits = DeviceLimits::from_gpu(bindings, buffers, has_shader_f16, software);
            Ok(LoadedDevice { device, name: adapter_name(&info), limits })
        }
        #[cfg(feature = "vulkan")]
        DeviceSpec::Vulkan => Ok(LoadedDevice {
            device: Device::vulkan(burn::tensor::DeviceKind::DefaultDevice),
            name: kind.to_string(),
            limits: DeviceLimits::UNLIMITED,
        }),
        #[cfg(feature = "cuda")]
        DeviceSpec::Cuda(index) => {
            let device = Device::cuda(index);
            check_runs(&device)?;
            Ok(LoadedDevice { device, name: kind.to_string(), limits: DeviceLimits::UNLIMITED })
        }
        #[cfg(not(all(feature = "vulkan", feature = "cuda")))]
        _ => Err(Error::NotInThisBuild { kind }),
    }
}

/// Compiles and runs a sum: burn opens the device no earlier, and panics where that fails.
#[cfg(feature = "cuda")]
fn check_runs(device: &Device) -> Result<(), Error> {
    let sum = || (burn::tensor::Tensor::<1>::from_data([1.0_f32], device) + 1.0).into_data().try_into_vec::<f32>();
    let failed = match pixart_verify::catch_panics(|| Ok::<_, Error>(sum())) {
        Ok(Ok(sum)) if sum == [2.0] => return Ok(()),
        Ok(Ok(sum)) => format!("1 + 1 gave {}", sum.first().copied().unwrap_or(f32::NAN)),
        Ok(Err(error)) => format!("1 + 1 cannot be read: {error}"),
        Err(why) => why,
    };
    Err(Error::NoGpu { why: format!("an NVIDIA GPU, its driver or NVRTC of a CUDA toolkit is missing ({failed})") })
}

/// Name of an adapter and its graphics API.
#[must_use]
pub fn adapter_name(info: &wgpu::AdapterInfo) -> String {
    format!("{} ({})", info.name, info.backend)
}

/// Device type of an adapter, in words.
pub(crate) fn device_type_name(kind: wgpu::DeviceType) -> &'static str {
    match kind {
        wgpu::DeviceType::DiscreteGpu => "discrete GPU",
        wgpu::DeviceType::IntegratedGpu => "integrated GPU",
        wgpu::DeviceType::VirtualGpu => "virtual GPU",
        wgpu::DeviceType::Cpu => "CPU",
        wgpu::DeviceType::Other => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_parsed_and_displayed() {
        for (word, kind) in [
            ("cpu", DeviceSpec::Cpu),
            ("wgpu", DeviceSpec::Wgpu),
            ("vulkan", DeviceSpec::Vulkan),
            ("cuda:3", DeviceSpec::Cuda(3)),
        ] {
            assert_eq!((word.parse(), kind.to_string().as_str()), (Ok(kind), word));
        }
        assert_eq!("cuda".parse(), Ok(DeviceSpec::Cuda(0)));
        for word in ["", "CPU", "cuda:", "cuda:-1", "cpu:0"] {
            assert!(word.parse::<DeviceSpec>().is_err(), "{word}");
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_device_that_is_not_in_this_build_is_rejected_with_the_feature_to_enable() {
        let fault = pixart_protocol::Fault::from(open(DeviceSpec::Cuda(0)).expect_err("not in this build"));
        assert!(fault.what.contains("cuda:0") && fault.remedy.contains("--features cuda"), "{fault}");
    }
}
