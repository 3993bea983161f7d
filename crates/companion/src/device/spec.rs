//! The name of a device on the command line.

use std::fmt;
use std::str::FromStr;

/// A device of the command line: `cpu`, `wgpu`, `vulkan`, `cuda` or `cuda:1`. Every build has the first two; the others are cargo
/// features of the same name.
///
/// ```
/// use pixart_companion::device::DeviceSpec;
///
/// assert_eq!("cuda:1".parse(), Ok(DeviceSpec::Cuda(1)));
/// assert_eq!(DeviceSpec::Cpu.to_string(), "cpu");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The CPU, with its SIMD instructions.
    #[default]
    Cpu,
    /// A GPU through wgpu and our WGSL, or a fallback adapter.
    Wgpu,
    /// A GPU through Vulkan and burn's kernels in SPIR-V.
    Vulkan,
    /// An NVIDIA GPU by its index, through CUDA and burn's kernels.
    Cuda(usize),
}

impl FromStr for DeviceSpec {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word.split_once(':') {
            None if word == "cpu" => Ok(Self::Cpu),
            None if word == "wgpu" => Ok(Self::Wgpu),
            None if word == "vulkan" => Ok(Self::Vulkan),
            None if word == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) => {
                index.parse().map(Self::Cuda).map_err(|_| format!("`{index}` is not the index of a GPU"))
            }
            _ => Err("choose cpu, wgpu, vulkan, cuda or cuda:<index>".to_owned()),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => to.write_str("cpu"),
            Self::Wgpu => to.write_str("wgpu"),
            Self::Vulkan => to.write_str("vulkan"),
            Self::Cuda(index) => write!(to, "cuda:{index}"),
        }
    }
}
