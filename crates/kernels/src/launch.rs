//! One launch of one shader, and the count of all of them. Shapes reach a shader as numbers in a small buffer, so that
//! one pipeline serves every shape; only what changes the generated code is written into its text.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use burn::tensor::{Bytes, DType, Shape, Tensor};
use burn_wgpu::{CubeBackend, CubeTensor, KernelSource, SourceKernel, SourceTemplate, into_contiguous};
use cubecl::{CubeCount, CubeDim, prelude::KernelId, server::KernelArguments};

use crate::KernelVariant;
use crate::wgsl::{Shader, Spec};

/// The name cubecl gives a device whose shaders are compiled from WGSL.
const WGSL_RUNTIME: &str = "wgpu<wgsl>";
/// Parameter buffers kept before they are dropped all at once: a picture of one size needs a few dozen.
const MAX_CACHED_PARAMS: usize = 512;

/// What a thread has launched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchCounts {
    pub dispatches: u64,
    /// Different texts among them.
    pub pipelines: u64,
    /// Sizes of all buffers bound, once for each dispatch: an upper bound of what a launch moves if it reads each byte
    /// once.
    pub bytes: u64,
    /// Inputs that had to be copied first because they were not contiguous.
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

/// Runs `work` and counts what it launches on this thread. Operations of burn's own are not seen here.
pub fn count_launches<T>(work: impl FnOnce() -> T) -> (T, LaunchCounts) {
    let before = LAUNCH_LOG.take();
    let result = work();
    let log = LAUNCH_LOG.replace(before);
    (result, LaunchCounts { pipelines: log.pipelines.len() as u64, ..log.counts })
}

/// The tensor as a shader reads it: contiguous, on a device that speaks WGSL. None elsewhere.
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

/// Back from what a launch returned.
pub(crate) fn tensor<const RANK: usize>(tensor: CubeTensor) -> Tensor<RANK> {
    Tensor::from_primitive::<CubeBackend>(tensor)
}

/// A launch to be.
pub(crate) struct Launch<'a> {
    pub(crate) shader: Shader,
    /// Values of the shader's `// spec` constants.
    pub(crate) constants: &'a [(&'static str, u32)],
    /// Which shared file stands for an import that has several.
    pub(crate) imports: &'a [(&'static str, &'static str)],
    /// The fields of the shader's `Params`, in order; f32 fields as their bits.
    pub(crate) params: &'a [(&'static str, u32)],
    /// As in the shader's `@workgroup_size`.
    pub(crate) workgroup: [u32; 3],
    /// Workgroups along each axis.
    pub(crate) count: [usize; 3],
}

impl Launch<'_> {
    /// Binds `inputs`, the output and the parameters in this order, and returns the output: `shape` of `dtype`.
    /// Activations are stored as the first input is.
    pub(crate) fn run<const RANK: usize>(
        self,
        inputs: &[&CubeTensor],
        shape: [usize; RANK],
        dtype: DType,
    ) -> CubeTensor {
        let [output] = self.run_all(inputs, [(shape, dtype)]);
        output
    }

    /// The same with several outputs.
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
        crate::reflection::check(&self, &spec, inputs.len(), OUTPUTS);
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

/// What is bound where a shader's input is not used.
pub(crate) fn unused_binding(near: &CubeTensor) -> CubeTensor {
    params(near, &[("nothing", 0); 4])
}

/// The buffer that holds these numbers on `near`'s device. Buffers are kept: few launches differ in their numbers.
fn params(near: &CubeTensor, fields: &[(&'static str, u32)]) -> CubeTensor {
    let numbers: Vec<u32> = fields.iter().map(|(_, value)| *value).collect();
    let key = (format!("{:?}", near.device), numbers);
    if let Some(kept) = PARAMS.with_borrow(|kept| kept.get(&key).cloned()) {
        return kept;
    }
    let bytes: Vec<u8> = key.1.iter().flat_map(|number| number.to_le_bytes()).collect();
    let handle = near.client.create(Bytes::from_bytes_vec(bytes));
    let (client, device) = (near.client.clone(), near.device.clone());
    let buffer = CubeTensor::new_contiguous(client, device, Shape::from([key.1.len()]), handle, DType::U32);
    PARAMS.with_borrow_mut(|kept| {
        if kept.len() >= MAX_CACHED_PARAMS {
            kept.clear();
        }
        kept.insert(key, buffer.clone());
    });
    buffer
}

/// A shader with everything that changes its text.
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
