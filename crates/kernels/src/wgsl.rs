//! From a shader file to the text a device compiles. A file is plain WGSL; a line `const NAME: T = value; // spec` is
//! rewritten with the value of the launch. A value without its line, or a `spec` line without its value, is a mistake
//! of this crate and panics.

use burn_wgpu::{CubeTensor, SourceTemplate};

/// The name cubecl gives a device whose shaders are compiled from WGSL.
const WGSL_RUNTIME: &str = "wgpu<wgsl>";

/// True where a WGSL text can be launched; elsewhere the portable body runs.
pub(crate) fn is_spoken_by(tensor: &CubeTensor) -> bool {
    tensor.client.name() == WGSL_RUNTIME
}

/// `source` with every `// spec` constant set from `values`.
pub(crate) fn specialise(source: &str, values: &[(&str, u32)]) -> String {
    let mut used = 0;
    let mut text = String::with_capacity(source.len());
    for line in source.lines() {
        if let Some(name) = line.trim_end().strip_suffix("// spec").and_then(name_of_constant) {
            let (_, value) = values
                .iter()
                .find(|(given, _)| *given == name)
                .unwrap_or_else(|| panic!("the shader's constant {name} was given no value"));
            text.push_str(&format!("const {name}: u32 = {value}u;\n"));
            used += 1;
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    assert_eq!(used, values.len(), "the shader has other constants than {values:?}");
    text
}

/// [`specialise`], as the launch wants it.
pub(crate) fn template(source: &str, values: &[(&str, u32)]) -> SourceTemplate {
    SourceTemplate::new(specialise(source, values))
}

/// Parses and validates a shader's text, as a device would.
#[cfg(test)]
pub(crate) fn assert_valid(text: &str) {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(text)));
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::empty());
    validator.validate(&module).unwrap_or_else(|error| panic!("{}", error.emit_to_string(text)));
}

fn name_of_constant(line: &str) -> Option<&str> {
    let (name, _) = line.trim_start().strip_prefix("const ")?.split_once(':')?;
    Some(name.trim())
}

#[cfg(test)]
mod tests {
    use super::{assert_valid, specialise};

    const SOURCE: &str = "const A: u32 = 1u; // spec\nconst B: u32 = 2u;\n";

    #[test]
    fn only_marked_constants_are_rewritten() {
        assert_eq!(specialise(SOURCE, &[("A", 7)]), "const A: u32 = 7u;\nconst B: u32 = 2u;\n");
    }

    #[test]
    #[should_panic(expected = "no definition in scope")]
    fn a_shader_that_does_not_compile_is_not_valid() {
        assert_valid("@compute @workgroup_size(1) fn main() { var x: float; }");
    }

    #[test]
    #[should_panic(expected = "given no value")]
    fn a_constant_without_a_value_is_refused() {
        specialise(SOURCE, &[("B", 7)]);
    }

    #[test]
    #[should_panic(expected = "has other constants")]
    fn a_value_without_a_constant_is_refused() {
        specialise(SOURCE, &[("A", 7), ("C", 1)]);
    }
}
