//! Makes the registry of the shader files: a constant for each kernel in shaders/, and for each module in shaders/shared that no
//! file imports by name, since the code must name it instead. An import of a file that does not exist is an error.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let shaders = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shaders");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", shaders.display());
    let (kernels, shared) = (files(&shaders), files(&shaders.join("shared")));
    let imported = imports(kernels.iter().chain(&shared));
    let known: BTreeSet<String> = shared.iter().map(|file| name(file)).collect();
    if let Some(import) = imported.difference(&known).next() {
        panic!("a shader imports {import}, but there is no shaders/shared/{import}.wgsl");
    }

    let mut code = String::from("use super::Shader;\n\n");
    for file in &kernels {
        let constant = name(file).to_uppercase();
        writeln!(code, "pub(in crate::gpu) const {constant}: Shader = {};", shader(file)).expect("a string grows");
    }
    for module in known.difference(&imported) {
        let constant = module.to_uppercase();
        writeln!(code, "pub(in crate::gpu) const {constant}: &str = {module:?};").expect("a string grows");
    }
    list(&mut code, "", "SHARED", &shared);
    list(&mut code, "#[cfg(test)]\n", "KERNELS", &kernels);
    let out = env::var_os("OUT_DIR").expect("cargo gives a build script a folder");
    fs::write(Path::new(&out).join("shaders.rs"), code).expect("the folder can be written");
}

/// Writes a constant list of shaders.
fn list(code: &mut String, attributes: &str, constant: &str, files: &[PathBuf]) {
    let shaders = files.iter().map(|file| format!("    {},\n", shader(file))).collect::<String>();
    write!(code, "{attributes}pub(in crate::gpu) const {constant}: &[Shader] = &[\n{shaders}];\n")
        .expect("a string grows");
}

fn shader(file: &Path) -> String {
    format!("Shader {{ name: {:?}, source: include_str!({:?}) }}", name(file), file)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot read {}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry of a folder that was opened").path());
    let mut files: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "wgsl")).collect();
    files.sort();
    files
}

fn name(file: &Path) -> String {
    file.file_stem().expect("a file has a name").to_string_lossy().into_owned()
}

/// Returns the names of all modules that the files import.
fn imports<'a>(files: impl Iterator<Item = &'a PathBuf>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files {
        println!("cargo:rerun-if-changed={}", file.display());
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
        names.extend(text.lines().filter_map(|line| Some(line.strip_prefix("#import ")?.trim().to_owned())));
    }
    names
}
