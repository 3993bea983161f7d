//! From a shader file to the text that a device compiles. A file is plain WGSL, or a module of whole functions and declarations;
//! rendering it for a launch does three things:
//!
//! - `#import name` at the start of a line is replaced by `shaders/shared/name.wgsl`, or by another file there that the launch gives
//!   in its place. A file is imported once, by the first that names it.
//! - `const NAME: u32 = 4u; // spec` gets the value of the launch, and `alias Stored = f32; // spec` or
//!   `alias Stored4 = vec4<f32>; // spec` the dtype of activations. The values in the file are examples that make it valid.
//! - What is marked `//#inline`, `//#unroll` or `//#scalars` is taken apart, see [`unroll`](super::unroll).
//!
//! A module names what it needs of the files that import it: the declarations behind `//#needs`, with which it is valid by itself.
//!
//! A value without its line, a `spec` line without its value and an import that is not known are mistakes of this crate and panic.

use super::unroll::unroll;

/// The files of shaders/, found by build.rs: a constant for each that Rust names, and all of shaders/shared by name. A file that
/// nothing names does not compile.
#[deny(dead_code)]
pub(super) mod files {
    include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
}

/// One shader file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shader {
    pub(crate) name: &'static str,
    pub(crate) source: &'static str,
}

/// Everything that changes a shader's text, and so the identity of its pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Spec {
    pub(crate) constants: Vec<(&'static str, u32)>,
    /// Files that take the place of imports.
    pub(crate) imports: Vec<(&'static str, &'static str)>,
    /// True if activations are stored as f16. Accumulation is f32 in any case.
    pub(crate) half: bool,
}

impl Shader {
    /// Returns the text of this shader for `spec`.
    pub(crate) fn specialise(&self, spec: &Spec) -> String {
        let mut rest: Vec<&str> = spec.constants.iter().map(|(name, _)| *name).collect();
        let mut stored = false;
        let mut lines: Vec<String> = Vec::new();
        if spec.half {
            lines.push("enable f16;".to_owned());
        }
        for line in self.with_imports(&spec.imports) {
            let Some(line) = line.trim_end().strip_suffix("// spec") else {
                if !line.starts_with("//#needs ") {
                    lines.push(line.to_owned());
                }
                continue;
            };
            let stored_as = ["Stored4", "Stored"].iter().find(|name| line.starts_with(&format!("alias {name} ")));
            if let Some(name) = stored_as {
                let element = if spec.half { "f16" } else { "f32" };
                let kind = if *name == "Stored4" { format!("vec4<{element}>") } else { element.to_owned() };
                lines.push(format!("alias {name} = {kind};"));
                stored = true;
            } else {
                let name = constant(line).unwrap_or_else(|| panic!("{}: what is specialised here? {line}", self.name));
                let value = spec.constants.iter().find(|(given, _)| *given == name);
                let (_, value) = value.unwrap_or_else(|| panic!("{}: {name} was given no value", self.name));
                rest.retain(|given| *given != name);
                lines.push(format!("const {name}: u32 = {value}u;"));
            }
        }
        assert!(rest.is_empty(), "{}: the shader has no constant {rest:?}", self.name);
        assert!(stored || !spec.half, "{}: the shader stores f32 only", self.name);
        unroll(self.name, lines)
    }

    /// Returns the lines of this file with those of its imports.
    fn with_imports(&self, instead: &[(&'static str, &'static str)]) -> Vec<&'static str> {
        let (mut imported, mut lines) = (Vec::new(), Vec::new());
        self.import(self.source, instead, &mut imported, &mut lines);
        lines
    }

    fn import(
        &self,
        source: &'static str,
        instead: &[(&'static str, &'static str)],
        imported: &mut Vec<&'static str>,
        lines: &mut Vec<&'static str>,
    ) {
        for line in source.lines() {
            let Some(name) = line.strip_prefix("#import ") else {
                lines.push(line);
                continue;
            };
            let name = instead.iter().find(|(given, _)| *given == name.trim()).map_or(name.trim(), |(_, other)| other);
            if imported.contains(&name) {
                continue;
            }
            imported.push(name);
            let file = files::SHARED.iter().find(|file| file.name == name);
            let file = file.unwrap_or_else(|| panic!("{}: there is no shared/{name}.wgsl", self.name));
            self.import(file.source, instead, imported, lines);
        }
    }
}

fn constant(line: &str) -> Option<&str> {
    let (name, _) = line.trim_start().strip_prefix("const ")?.split_once(':')?;
    Some(name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::reflection::validated;

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
    fn a_file_is_imported_once_and_its_needs_are_dropped() {
        let text = shader("#import moments\n#import moments\n//#needs struct A { a: u32 }\n").specialise(&spec(&[]));
        assert_eq!(text.matches("struct Moments").count(), 1);
        assert!(!text.contains("struct A"));
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
        shader("#import nothing\n").specialise(&spec(&[]));
    }

    /// The file as it stands, with its imports, and with its needs if it is a module.
    fn by_itself(file: Shader) -> String {
        let needs = file.source.lines().filter_map(|line| line.strip_prefix("//#needs "));
        let lines: Vec<&str> = needs.chain(file.with_imports(&[])).collect();
        lines.join("\n")
    }

    #[test]
    fn every_file_is_valid_by_itself_with_its_imports_and_needs() {
        for file in files::KERNELS.iter().chain(files::SHARED) {
            println!("{}", file.name);
            validated(&by_itself(*file));
        }
    }

    #[test]
    fn the_readme_lists_every_kernel() {
        let readme = include_str!("../../../../shaders/README.md");
        let listed = readme.lines().filter_map(|row| row.strip_prefix("| ")?.split_once(" | ")).map(|(names, _)| names);
        let mut listed: Vec<&str> =
            listed.flat_map(|names| names.split(", ")).filter_map(|name| name.strip_suffix(".wgsl")).collect();
        listed.sort_unstable();
        assert_eq!(listed, files::KERNELS.iter().map(|file| file.name).collect::<Vec<_>>());
    }

    #[test]
    fn wgsl_analyzer_knows_every_import() {
        let settings = include_str!("../../../../.vscode/settings.json");
        let known: Vec<&str> =
            settings.lines().filter(|line| line.contains("shaders/shared/")).map(str::trim).collect();
        let entry = |file: &Shader| format!("{0:?}: \"${{workspaceFolder}}/shaders/shared/{0}.wgsl\"", file.name);
        let wanted: Vec<String> = files::SHARED.iter().map(entry).collect();
        assert_eq!(known.iter().map(|line| line.trim_end_matches(',')).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn kernels_are_complete_without_needs() {
        for file in files::KERNELS {
            assert!(!file.source.contains("//#needs "), "{} is launched and imported by nothing", file.name);
        }
    }
}
