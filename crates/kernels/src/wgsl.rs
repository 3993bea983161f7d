//! From a shader file to the text a device compiles. A file is plain WGSL; two kinds of line are rewritten:
//!
//! - `const NAME: u32 = 4u; // spec` gets the value of the launch, and `alias Stored = f32; // spec` or
//!   `alias Stored4 = vec4<f32>; // spec` the type that activations are stored as;
//! - `//#import name` is replaced by `shaders/shared/name.wgsl`, or by another file there that the launch puts in its place.
//!
//! A value without its line, a `spec` line without its value and an import that is not known are mistakes of this crate
//! and panic.

/// The pieces that shaders import, by name.
const SHARED: [(&str, &str); 16] = [
    ("activation", include_str!("../../../shaders/shared/activation.wgsl")),
    ("attention", include_str!("../../../shaders/shared/attention.wgsl")),
    ("epilogue", include_str!("../../../shaders/shared/epilogue.wgsl")),
    ("matrix", include_str!("../../../shaders/shared/matrix.wgsl")),
    ("modulated", include_str!("../../../shaders/shared/modulated.wgsl")),
    ("moments", include_str!("../../../shaders/shared/moments.wgsl")),
    ("tile_sums", include_str!("../../../shaders/shared/tile_sums.wgsl")),
    ("tile_staged", include_str!("../../../shaders/shared/tile_staged.wgsl")),
    ("tile_step", include_str!("../../../shaders/shared/tile_step.wgsl")),
    ("tile_store", include_str!("../../../shaders/shared/tile_store.wgsl")),
    ("weights_f32", include_str!("../../../shaders/shared/weights_f32.wgsl")),
    ("weights_bf16", include_str!("../../../shaders/shared/weights_bf16.wgsl")),
    ("weights_f16", include_str!("../../../shaders/shared/weights_f16.wgsl")),
    ("weights_q8", include_str!("../../../shaders/shared/weights_q8.wgsl")),
    ("weights_q4", include_str!("../../../shaders/shared/weights_q4.wgsl")),
    ("window", include_str!("../../../shaders/shared/window.wgsl")),
];

/// One shader file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shader {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
}

/// Everything that changes a shader's text, and so the identity of its pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Spec {
    pub(crate) constants: Vec<(&'static str, u32)>,
    pub(crate) imports: Vec<(&'static str, &'static str)>,
    /// Whether activations are stored in half precision. Sums are f32 all the same.
    pub(crate) half: bool,
}

impl Shader {
    /// The text of this shader for `spec`.
    pub(crate) fn specialise(&self, spec: &Spec) -> String {
        let mut rest: Vec<&str> = spec.constants.iter().map(|(name, _)| *name).collect();
        let mut text = String::with_capacity(2 * self.source.len());
        if spec.half {
            text.push_str("enable f16;\n");
        }
        let mut stored = false;
        for line in self.source.lines() {
            if let Some(name) = line.strip_prefix("//#import ") {
                let name = name.trim();
                let other = spec.imports.iter().find(|(given, _)| *given == name);
                text.push_str(self.shared(other.map_or(name, |(_, other)| other)));
            } else if let Some(line) = line.trim_end().strip_suffix("// spec") {
                let stored_as = ["Stored4", "Stored"].iter().find(|name| line.starts_with(&format!("alias {name} ")));
                if let Some(name) = stored_as {
                    let element = if spec.half { "f16" } else { "f32" };
                    let kind = if *name == "Stored4" { format!("vec4<{element}>") } else { element.to_owned() };
                    text.push_str(&format!("alias {name} = {kind};"));
                    stored = true;
                } else {
                    let name =
                        constant(line).unwrap_or_else(|| panic!("{}: what is specialised here? {line}", self.name));
                    let value = spec.constants.iter().find(|(given, _)| *given == name);
                    let (_, value) = value.unwrap_or_else(|| panic!("{}: {name} was given no value", self.name));
                    rest.retain(|given| *given != name);
                    text.push_str(&format!("const {name}: u32 = {value}u;"));
                }
            } else {
                text.push_str(line);
            }
            text.push('\n');
        }
        assert!(rest.is_empty(), "{}: the shader has no constant {rest:?}", self.name);
        assert!(stored || !spec.half, "{}: the shader stores f32 only", self.name);
        text
    }

    fn shared(&self, name: &str) -> &'static str {
        let found = SHARED.iter().find(|(given, _)| *given == name);
        found.unwrap_or_else(|| panic!("{}: there is no shared/{name}.wgsl", self.name)).1
    }
}

fn constant(line: &str) -> Option<&str> {
    let (name, _) = line.trim_start().strip_prefix("const ")?.split_once(':')?;
    Some(name.trim())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn shader(source: &'static str) -> Shader {
        Shader { name: "test", source }
    }

    fn spec(constants: &[(&'static str, u32)]) -> Spec {
        Spec { constants: constants.to_vec(), imports: vec![], half: false }
    }

    const SOURCE: &str = "const A: u32 = 1u; // spec\nconst B: u32 = 2u;\n";

    #[test]
    fn only_marked_constants_are_rewritten() {
        assert_eq!(shader(SOURCE).specialise(&spec(&[("A", 7)])), "const A: u32 = 7u;\nconst B: u32 = 2u;\n");
    }

    #[test]
    fn half_precision_changes_what_is_stored() {
        let text = shader("alias Stored4 = vec4<f32>; // spec\n").specialise(&Spec { half: true, ..spec(&[]) });
        assert_eq!(text, "enable f16;\nalias Stored4 = vec4<f16>;\n");
    }

    #[test]
    #[should_panic(expected = "given no value")]
    fn a_constant_without_a_value_is_refused() {
        shader(SOURCE).specialise(&spec(&[]));
    }

    #[test]
    #[should_panic(expected = "has no constant")]
    fn a_value_without_a_constant_is_refused() {
        shader(SOURCE).specialise(&spec(&[("A", 7), ("C", 1)]));
    }

    #[test]
    #[should_panic(expected = "there is no shared/nothing.wgsl")]
    fn an_unknown_import_is_refused() {
        shader("//#import nothing\n").specialise(&spec(&[]));
    }
}
