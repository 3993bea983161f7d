//! From a shader file to the text a device compiles. A file is plain WGSL; three kinds of line are rewritten:
//!
//! - `const NAME: u32 = 4u; // spec` gets the value of the launch, and `alias Stored = f32; // spec` or
//!   `alias Stored4 = vec4<f32>; // spec` the type that activations are stored as;
//! - `//#import name` is replaced by `shaders/shared/name.wgsl`, or by another file there that the launch puts in its place.
//! - The lines from `//#each i < LIMIT` to its `//#end` are repeated for i = 0, 1, …, with the number in place of `$i`. LIMIT
//!   is a number or a `const` of the text. Drivers keep numbered variables in registers, and an array only where they unroll
//!   every loop over it.
//!
//! A value without its line, a `spec` line without its value, an import that is not known and a repetition without an end are
//! mistakes of this crate and panic.

use std::borrow::Cow;

/// The pieces that shaders import, by name.
const SHARED: [(&str, &str); 23] = [
    ("activation", include_str!("../../../../shaders/shared/activation.wgsl")),
    ("attention", include_str!("../../../../shaders/shared/attention.wgsl")),
    ("conv_epilogue", include_str!("../../../../shaders/shared/conv_epilogue.wgsl")),
    ("conv_window", include_str!("../../../../shaders/shared/conv_window.wgsl")),
    ("gemm_epilogue", include_str!("../../../../shaders/shared/gemm_epilogue.wgsl")),
    ("gemm_params", include_str!("../../../../shaders/shared/gemm_params.wgsl")),
    ("modulation", include_str!("../../../../shaders/shared/modulation.wgsl")),
    ("moments", include_str!("../../../../shaders/shared/moments.wgsl")),
    ("tile_accumulators", include_str!("../../../../shaders/shared/tile_accumulators.wgsl")),
    ("tile_begin", include_str!("../../../../shaders/shared/tile_begin.wgsl")),
    ("tile_end", include_str!("../../../../shaders/shared/tile_end.wgsl")),
    ("tile_place", include_str!("../../../../shaders/shared/tile_place.wgsl")),
    ("tile_registers", include_str!("../../../../shaders/shared/tile_registers.wgsl")),
    ("tile_stage", include_str!("../../../../shaders/shared/tile_stage.wgsl")),
    ("tile_step", include_str!("../../../../shaders/shared/tile_step.wgsl")),
    ("tile_store", include_str!("../../../../shaders/shared/tile_store.wgsl")),
    ("tile_weights", include_str!("../../../../shaders/shared/tile_weights.wgsl")),
    ("tile_workgroup", include_str!("../../../../shaders/shared/tile_workgroup.wgsl")),
    ("weights_bf16", include_str!("../../../../shaders/shared/weights_bf16.wgsl")),
    ("weights_f16", include_str!("../../../../shaders/shared/weights_f16.wgsl")),
    ("weights_f32", include_str!("../../../../shaders/shared/weights_f32.wgsl")),
    ("weights_q4", include_str!("../../../../shaders/shared/weights_q4.wgsl")),
    ("weights_q8", include_str!("../../../../shaders/shared/weights_q8.wgsl")),
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
        let mut stored = false;
        let mut lines: Vec<Cow<'_, str>> = Vec::new();
        if spec.half {
            lines.push("enable f16;".into());
        }
        for line in self.imported(self.source, spec) {
            let Some(line) = line.trim_end().strip_suffix("// spec") else {
                lines.push(line.into());
                continue;
            };
            let stored_as = ["Stored4", "Stored"].iter().find(|name| line.starts_with(&format!("alias {name} ")));
            if let Some(name) = stored_as {
                let element = if spec.half { "f16" } else { "f32" };
                let kind = if *name == "Stored4" { format!("vec4<{element}>") } else { element.to_owned() };
                lines.push(format!("alias {name} = {kind};").into());
                stored = true;
            } else {
                let name = constant(line).unwrap_or_else(|| panic!("{}: what is specialised here? {line}", self.name));
                let value = spec.constants.iter().find(|(given, _)| *given == name);
                let (_, value) = value.unwrap_or_else(|| panic!("{}: {name} was given no value", self.name));
                rest.retain(|given| *given != name);
                lines.push(format!("const {name}: u32 = {value}u;").into());
            }
        }
        assert!(rest.is_empty(), "{}: the shader has no constant {rest:?}", self.name);
        assert!(stored || !spec.half, "{}: the shader stores f32 only", self.name);
        let mut text = String::with_capacity(2 * self.source.len());
        self.repeat(&lines, &lines, &mut text);
        text
    }

    /// The lines of `source` with those of its imports.
    fn imported<'a>(&self, source: &'a str, spec: &Spec) -> Vec<&'a str>
    where
        'static: 'a,
    {
        let with_imports = |line: &'a str| match line.strip_prefix("//#import ") {
            None => vec![line],
            Some(name) => {
                let other = spec.imports.iter().find(|(given, _)| *given == name.trim());
                self.imported(self.shared(other.map_or(name.trim(), |(_, other)| other)), spec)
            }
        };
        source.lines().flat_map(with_imports).collect()
    }

    /// Writes `lines`, repeated where they say so; limits are looked up in `all`.
    fn repeat(&self, lines: &[Cow<'_, str>], all: &[Cow<'_, str>], text: &mut String) {
        let mut rest = lines;
        while let Some((line, after)) = rest.split_first() {
            let Some(each) = line.strip_prefix("//#each ") else {
                text.push_str(line);
                text.push('\n');
                rest = after;
                continue;
            };
            let (name, limit) = each.split_once('<').unwrap_or_else(|| panic!("{}: no limit in {line}", self.name));
            let (place, limit) = (format!("${}", name.trim()), self.number(limit.trim(), all));
            let end = end_of(after).unwrap_or_else(|| panic!("{}: no end of {line}", self.name));
            for number in 0..limit {
                let numbered = after[..end].iter().map(|line| line.replace(&place, &number.to_string()).into());
                self.repeat(&numbered.collect::<Vec<_>>(), all, text);
            }
            rest = &after[end + 1..];
        }
    }

    /// A number, or the value of a constant of the text.
    fn number(&self, word: &str, lines: &[Cow<'_, str>]) -> u32 {
        let given = |line: &Cow<'_, str>| {
            let value = line.strip_prefix("const ")?.strip_prefix(word)?.strip_prefix(": u32 = ")?;
            value.trim_end().strip_suffix("u;")?.parse().ok()
        };
        let number = word.parse().ok().or_else(|| lines.iter().find_map(given));
        number.unwrap_or_else(|| panic!("{}: {word} is neither a number nor a constant with one", self.name))
    }

    fn shared(&self, name: &str) -> &'static str {
        let found = SHARED.iter().find(|(given, _)| *given == name);
        found.unwrap_or_else(|| panic!("{}: there is no shared/{name}.wgsl", self.name)).1
    }
}

/// The line that ends the repetition whose lines begin here.
fn end_of(lines: &[Cow<'_, str>]) -> Option<usize> {
    let mut open = 1;
    lines.iter().position(|line| {
        open += i32::from(line.starts_with("//#each ")) - i32::from(line.starts_with("//#end"));
        open == 0
    })
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
    fn lines_are_repeated_within_one_another_as_often_as_a_constant_says() {
        let source = "const A: u32 = 9u; // spec\n//#each i < A\n//#each j < 2\nx$i$j = $iu;\n//#end\n//#end\nend\n";
        let text = shader(source).specialise(&spec(&[("A", 2)]));
        assert_eq!(text, "const A: u32 = 2u;\nx00 = 0u;\nx01 = 0u;\nx10 = 1u;\nx11 = 1u;\nend\n");
    }

    #[test]
    #[should_panic(expected = "B is neither a number nor a constant")]
    fn a_repetition_to_an_unknown_limit_is_refused() {
        shader("//#each i < B\n//#end\n").specialise(&spec(&[]));
    }

    #[test]
    #[should_panic(expected = "no end of //#each i < 2")]
    fn a_repetition_without_an_end_is_refused() {
        shader("//#each i < 2\n").specialise(&spec(&[]));
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
