//! Validation of a shader's text by naga, and comparison of its reflection with what the host binds. Every launch of a test is
//! checked by [`check`].

use std::collections::HashSet;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess, TypeInner};

use super::launch::ShaderLaunch;
use super::wgsl::Spec;

/// Bytes of workgroup memory that every WebGPU device has.
const WORKGROUP_BYTES: u32 = 16 << 10;
/// Storage buffers per stage that every WebGPU device supports.
const STORAGE_BUFFERS: usize = 8;
/// Invocations per workgroup that every WebGPU device supports.
const INVOCATIONS: u32 = 256;

thread_local! {
    /// Every specialisation that is listed for tools.
    static KNOWN: HashSet<(&'static str, Spec)> =
        super::specialisations::all().into_iter().map(|(shader, spec)| (shader.name, spec)).collect();
}

/// Asserts that the specialisation is a listed one, that the text is valid, that its bindings, parameters and workgroup are those of the launch, and that it stays within
/// the limits of every WebGPU device.
pub(crate) fn check(launch: &ShaderLaunch<'_>, spec: &Spec, inputs: usize, outputs: usize) {
    let name = launch.shader.name;
    let is_listed = KNOWN.with(|known| known.contains(&(name, spec.clone())));
    assert!(is_listed, "{name}: {spec:?} is not among the specialisations");
    check_text(launch, spec, inputs, outputs);
}

fn check_text(launch: &ShaderLaunch<'_>, spec: &Spec, inputs: usize, outputs: usize) {
    let text = launch.shader.specialise(spec);
    let module = validated(&text);
    let name = launch.shader.name;

    let mut bindings: Vec<(u32, StorageAccess, &str)> = Vec::new();
    let mut workgroup_bytes = 0;
    for (_, variable) in module.global_variables.iter() {
        match variable.space {
            AddressSpace::Storage { access } => {
                let binding = variable.binding.as_ref().expect("a storage variable has a binding");
                assert_eq!(binding.group, 0, "{name}: group");
                bindings.push((binding.binding, access, variable.name.as_deref().unwrap_or_default()));
            }
            AddressSpace::WorkGroup => workgroup_bytes += module.types[variable.ty].inner.size(module.to_ctx()),
            _ => {}
        }
    }
    bindings.sort_by_key(|(index, ..)| *index);
    let indices: Vec<usize> = bindings.iter().map(|(index, ..)| *index as usize).collect();
    let bound = inputs + outputs + 1;
    assert_eq!(indices, (0..bound).collect::<Vec<_>>(), "{name}: bindings");
    assert!(bound <= STORAGE_BUFFERS, "{name} binds {bound} buffers");
    for (index, (_, access, variable)) in bindings.iter().enumerate() {
        let output = (inputs..inputs + outputs).contains(&index);
        assert_eq!(access.contains(StorageAccess::STORE), output, "{name}: whether {variable} is an output");
    }
    assert_eq!(bindings[bound - 1].2, "params", "{name}: the last binding");

    let fields = module.types.iter().find(|(_, kind)| kind.name.as_deref() == Some("Params"));
    let (_, fields) = fields.unwrap_or_else(|| panic!("{name} declares no Params"));
    let TypeInner::Struct { members, .. } = &fields.inner else { panic!("{name}: Params is no struct") };
    let declared: Vec<(&str, u32)> =
        members.iter().map(|member| (member.name.as_deref().unwrap_or_default(), member.offset)).collect();
    let given: Vec<(&str, u32)> = launch.params.iter().zip(0..).map(|((name, _), at)| (*name, 4 * at)).collect();
    assert_eq!(declared, given, "{name}: Params");

    let entry = &module.entry_points[0];
    assert_eq!((entry.name.as_str(), entry.workgroup_size), ("main", launch.workgroup), "{name}: entry point");
    assert!(launch.workgroup.iter().product::<u32>() <= INVOCATIONS, "{name}: {:?} invocations", launch.workgroup);
    assert!(workgroup_bytes <= WORKGROUP_BYTES, "{name}: {workgroup_bytes} bytes of workgroup memory");
}

/// Parses and validates a shader's text, as a device does.
pub(super) fn validated(text: &str) -> Module {
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(text)));
    // f16 is what the half-precision path asks its device for; to unpack halves into f32 is WebGPU's own.
    let capabilities = Capabilities::SHADER_FLOAT16 | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.validate(&module).unwrap_or_else(|error| panic!("{}", error.emit_to_string(text)));
    module
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::wgsl::Shader;

    const SOURCE: &str = "
struct Params { count: u32, scale: f32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read> params: Params;
@compute @workgroup_size(64, 1, 1)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < params.count) { y[id.x] = params.scale * x[id.x]; }
}";

    fn launch(source: &'static str, params: &'static [(&'static str, u32)], workgroup: [u32; 3], inputs: usize) {
        let shader = Shader { name: "scaled", source };
        let launch = ShaderLaunch { shader, constants: &[], imports: &[], params, workgroup, count: [1; 3] };
        check_text(&launch, &Spec { constants: vec![], imports: vec![], half: false }, inputs, 1);
    }

    const PARAMS: &[(&str, u32)] = &[("count", 1), ("scale", 0)];

    #[test]
    fn a_launch_that_fits_its_shader_passes() {
        launch(SOURCE, PARAMS, [64, 1, 1], 1);
    }

    #[test]
    #[should_panic(expected = "no definition in scope")]
    fn a_shader_that_does_not_compile_is_refused() {
        launch("@compute @workgroup_size(1) fn main() { var x: float; }", PARAMS, [64, 1, 1], 1);
    }

    #[test]
    #[should_panic(expected = "scaled: bindings")]
    fn a_missing_binding_is_refused() {
        launch(SOURCE, PARAMS, [64, 1, 1], 2);
    }

    #[test]
    #[should_panic(expected = "scaled: Params")]
    fn parameters_in_another_order_are_refused() {
        launch(SOURCE, &[("scale", 0), ("count", 1)], [64, 1, 1], 1);
    }

    #[test]
    #[should_panic(expected = "scaled: entry point")]
    fn another_workgroup_is_refused() {
        launch(SOURCE, PARAMS, [8, 8, 1], 1);
    }
}
