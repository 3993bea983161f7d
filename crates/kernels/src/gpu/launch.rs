//! One launch of one shader, and the counters of all launches. Shapes reach a shader in a small parameter buffer, so that one
//! pipeline serves every shape; only what changes the generated code is rendered into the text.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use burn::tensor::{Bytes, DType, Shape, Tensor};
use burn_wgpu::{CubeBackend, CubeTensor, KernelSource, SourceKernel, SourceTemplate, into_contiguous};
use cubecl::{CubeCount, CubeDim, prelude::KernelId, server::KernelArguments};

use super::wgsl::{Shader, Spec};
use crate::KernelVariant;

/// cubecl's name of a device that compiles WGSL.
const WGSL_RUNTIME: &str = "wgpu<wgsl>";
/// The most parameter buffers in the cache before it is cleared. The images of one size need a few dozen.
const MAX_CACHED_PARAMS: usize = 512;

/// Launches of one thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchCounts {
    pub dispatches: u64,
    /// Distinct shader texts among them.
    pub pipelines: u64,
    /// Total size of the bound buffers, summed over all dispatches: an upper bound of the memory traffic of kernels that read each
    /// byte once.
    pub bytes: u64,
    /// Inputs that were copied first because they were not contiguous.
    pub copies: u64,
}

#[derive(Default)]
struct LaunchLog {
    counts: LaunchCounts,
    pipelines: HashSet<(&'static str, Spec)>,
}

thread_local! {
    static LAUNCH_LOG: RefCell<LaunchLog> = RefCell::default();
    static PARAMS: RefCell<HashMap<(String, Vec<u32>), CubeTensor>> = RefCell::default();
}

/// Runs `work` and counts its launches on this thread. Burn's built-in operations are not counted.
pub fn count_launches<T>(work: impl FnOnce() -> T) -> (T, LaunchCounts) {
    let before = LAUNCH_LOG.take();
    let result = work();
    let log = LAUNCH_LOG.replace(before);
    (result, LaunchCounts { pipelines: log.pipelines.len() as u64, ..log.counts })
}

/// Returns the tensor as a shader reads it, contiguous; None if the device compiles no WGSL.
pub(crate) fn gpu_input<const RANK: usize, K>(tensor: &Tensor<RANK, K>) -> Option<CubeTensor>
where
    K: burn::tensor::BackendPrimitive<CubeBackend, Primitive = CubeTensor> + burn::tensor::kind::Basic,
{
    if KernelVariant::current() == KernelVariant::BurnReference {
        return None;
    }
    let tensor = tensor.clone().try_into_primitive::<CubeBackend>().ok()?;
    (tensor.client.name() == WGSL_RUNTIME).then(|| {
        if !tensor.is_contiguous() {
            LAUNCH_LOG.with_borrow_mut(|log| log.counts.copies += 1);
        }
        into_contiguous(tensor)
    })
}

/// Wraps an output of a launch.
pub(crate) fn tensor<const RANK: usize>(tensor: CubeTensor) -> Tensor<RANK> {
    Tensor::from_primitive::<CubeBackend>(tensor)
}

/// The description of a launch.
pub(crate) struct ShaderLaunch<'a> {
    pub(crate) shader: Shader,
    /// Values of the shader's `// spec` constants.
    pub(crate) constants: &'a [(&'static str, u32)],
    /// The file in shaders/shared that takes the place of an import with several implementations.
    pub(crate) imports: &'a [(&'static str, &'static str)],
    /// The fields of the shader's `Params`, in order; f32 fields as their bits.
    pub(crate) params: &'a [(&'static str, u32)],
    /// The shader's `@workgroup_size`.
    pub(crate) workgroup: [u32; 3],
    /// Workgroups along each axis.
    pub(crate) count: [usize; 3],
}

impl ShaderLaunch<'_> {
    /// Binds `inputs`, the output and the parameters in this order, and returns the output: `shape` of `dtype`.
    /// The dtype of activations is that of the first input.
    pub(crate) fn run<const RANK: usize>(
        self,
        inputs: &[&CubeTensor],
        shape: [usize; RANK],
        dtype: DType,
    ) -> CubeTensor {
        let [output] = self.run_all(inputs, [(shape, dtype)]);
        output
    }

    /// Does the same with several outputs.
    pub(crate) fn run_all<const RANK: usize, const OUTPUTS: usize>(
        self,
        inputs: &[&CubeTensor],
        outputs: [([usize; RANK], DType); OUTPUTS],
    ) -> [CubeTensor; OUTPUTS] {
        let first = inputs[0];
        let half = first.dtype == DType::F16;
        let spec = Spec { constants: self.constants.to_vec(), imports: self.imports.to_vec(), half };
        let outputs = outputs.map(|(shape, dtype)| {
            let (client, device) = (first.client.clone(), first.device.clone());
            let buffer = client.empty(shape.iter().product::<usize>() * dtype.size());
            CubeTensor::new_contiguous(client, device, Shape::from(shape), buffer, dtype)
        });
        let params = params(first, self.params);
        let bound: Vec<&CubeTensor> = inputs.iter().copied().chain(&outputs).chain([&params]).collect();
        #[cfg(test)]
        super::reflection::check(&self, &spec, inputs.len(), OUTPUTS);
        record_launch(self.shader, &spec, &bound);

        let [x, y, z] = self.workgroup;
        let count = self.count.map(|count| u32::try_from(count).expect("a count of workgroups fits u32"));
        let kernel = Kernel { shader: self.shader, spec };
        first.client.launch(
            Box::new(SourceKernel::new(kernel, CubeDim::new_3d(x, y, z))),
            CubeCount::Static(count[0], count[1], count[2]),
            KernelArguments::new()
                .with_buffers(bound.into_iter().map(|tensor| tensor.handle.clone().binding()).collect()),
        );
        outputs
    }
}

fn record_launch(shader: Shader, spec: &Spec, bound: &[&CubeTensor]) {
    LAUNCH_LOG.with_borrow_mut(|log| {
        log.counts.dispatches += 1;
        log.counts.bytes += bound.iter().map(|tensor| tensor.handle.size_in_used()).sum::<u64>();
        log.pipelines.insert((shader.name, spec.clone()));
    });
}

/// Returns the buffer that is bound in place of an absent input.
pub(crate) fn unused_binding(near: &CubeTensor) -> CubeTensor {
    params(near, &[("unused", 0); 4])
}

/// Returns a buffer with these values on the device of `near`. Buffers are cached: few launches differ in their parameters.
fn params(near: &CubeTensor, fields: &[(&'static str, u32)]) -> CubeTensor {
    let numbers: Vec<u32> = fields.iter().map(|(_, value)| *value).collect();
    let key = (format!("{:?}", near.device), numbers);
    if let Some(cached) = PARAMS.with_borrow(|cache| cache.get(&key).cloned()) {
        return cached;
    }
    let bytes: Vec<u8> = key.1.iter().flat_map(|number| number.to_le_bytes()).collect();
    let handle = near.client.create(Bytes::from_bytes_vec(bytes));
    let (client, device) = (near.client.clone(), near.device.clone());
    let buffer = CubeTensor::new_contiguous(client, device, Shape::from([key.1.len()]), handle, DType::U32);
    PARAMS.with_borrow_mut(|cache| {
        if cache.len() >= MAX_CACHED_PARAMS {
            cache.clear();
        }
        cache.insert(key, buffer.clone());
    });
    buffer
}

/// A shader and its specialisation.
struct Kernel {
    shader: Shader,
    spec: Spec,
}

impl KernelSource for Kernel {
    fn source(&self) -> SourceTemplate {
        SourceTemplate::new(self.shader.specialise(&self.spec))
    }

    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info((self.shader.name, self.spec.clone()))
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}
