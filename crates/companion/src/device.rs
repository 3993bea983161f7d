//! Opens the device that the model runs on, and describes it.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;
use pixart_model::{DeviceLimits, KernelVariant};

use crate::Error;

/// Where the model can run. A build has the first two; the others are features of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The processor, with the vector instructions that it has.
    #[default]
    Cpu,
    /// A GPU through wgpu and our WGSL; a software Vulkan driver where there is no GPU.
    Wgpu,
    /// A GPU through Vulkan and burn's own kernels in SPIR-V.
    Vulkan,
    /// An NVIDIA card, the first of which is 0, through CUDA and burn's own kernels.
    Cuda(usize),
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word.split_once(':') {
            None if word == "cpu" => Ok(Self::Cpu),
            None if word == "wgpu" => Ok(Self::Wgpu),
            None if word == "vulkan" => Ok(Self::Vulkan),
            None if word == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) => {
                index.parse().map(Self::Cuda).map_err(|_| format!("`{index}` is not the number of a card"))
            }
            _ => Err("choose cpu, wgpu, vulkan, cuda or cuda:<number>".to_owned()),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => to.write_str("cpu"),
            Self::Wgpu => to.write_str("wgpu"),
            Self::Vulkan => to.write_str("vulkan"),
            Self::Cuda(index) => write!(to, "cuda:{index}"),
        }
    }
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
///
/// # Errors
/// A device that is not there, or that this build was made without.
pub fn open(kind: Kind) -> Result<Opened, Error> {
    match kind {
        Kind::Cpu => Ok(Opened { device: Device::flex(), name: "cpu".to_owned(), limits: DeviceLimits::UNLIMITED }),
        Kind::Wgpu => {
            let opened = Device::wgpu_options().init_with_setup();
            let (device, setup) = opened.map_err(|error| Error::NoGpu { why: error.to_string() })?;
            let info = setup.adapter.get_info();
            let software = info.device_type == wgpu::DeviceType::Cpu;
            KernelVariant::for_adapter(software).make_current();
            let (has, features) = (setup.device.limits(), setup.device.features());
            let has_shader_f16 = features.contains(wgpu::Features::SHADER_F16);
            let (bindings, buffers) = (has.max_storage_buffer_binding_size, has.max_buffer_size);
            let limits = DeviceLimits::from_gpu(bindings, buffers, has_shader_f16, software);
            Ok(Opened { device, name: adapter_name(&info), limits })
        }
        #[cfg(feature = "vulkan")]
        Kind::Vulkan => Ok(Opened {
            device: Device::vulkan(burn::tensor::DeviceKind::DefaultDevice),
            name: kind.to_string(),
            limits: DeviceLimits::UNLIMITED,
        }),
        #[cfg(feature = "cuda")]
        Kind::Cuda(index) => {
            let device = Device::cuda(index);
            answers(&device)?;
            Ok(Opened { device, name: kind.to_string(), limits: DeviceLimits::UNLIMITED })
        }
        #[cfg(not(all(feature = "vulkan", feature = "cuda")))]
        _ => Err(Error::NotInThisBuild { kind }),
    }
}

/// Has the device compile and run a sum: burn opens it no earlier, and panics where that fails.
#[cfg(feature = "cuda")]
fn answers(device: &Device) -> Result<(), Error> {
    let sum = || (burn::tensor::Tensor::<1>::from_data([1.0_f32], device) + 1.0).into_data().try_into_vec::<f32>();
    let failed = match crate::self_test::caught(|| Ok(sum())) {
        Ok(Ok(sum)) if sum == [2.0] => return Ok(()),
        Ok(other) => format!("1 + 1 gave {other:?}"),
        Err(why) => why,
    };
    Err(Error::NoGpu { why: format!("a card, its driver or NVRTC of a CUDA toolkit is missing ({failed})") })
}

/// The name and interface of an adapter, in words.
#[must_use]
pub fn adapter_name(info: &wgpu::AdapterInfo) -> String {
    format!("{} ({:?})", info.name, info.backend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_command_line_are_read_and_written() {
        for (word, kind) in
            [("cpu", Kind::Cpu), ("wgpu", Kind::Wgpu), ("vulkan", Kind::Vulkan), ("cuda:3", Kind::Cuda(3))]
        {
            assert_eq!((word.parse(), kind.to_string().as_str()), (Ok(kind), word));
        }
        assert_eq!("cuda".parse(), Ok(Kind::Cuda(0)));
        for word in ["", "CPU", "cuda:", "cuda:-1", "cpu:0"] {
            assert!(word.parse::<Kind>().is_err(), "{word}");
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_device_of_another_build_is_refused_with_the_way_to_get_it() {
        let fault = pixart_protocol::Fault::from(open(Kind::Cuda(0)).expect_err("not in this build"));
        assert!(fault.what.contains("cuda:0") && fault.remedy.contains("--features cuda"), "{fault}");
    }
}
