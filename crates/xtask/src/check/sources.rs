//! The files of the repository, as `git` lists them, and the modules of its crates without what only tests compile.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context, Result};
use syn::{Attribute, Item, Meta, ext::IdentExt, punctuated::Punctuated, token::Comma};

use crate::{run, workspace::Workspace};

/// The text files of the repository by their path from its root, in order.
pub(super) struct Sources(BTreeMap<String, Option<String>>);

impl Sources {
    /// Reads what git tracks, and what it would track once added.
    pub(super) fn read(workspace: &Workspace) -> Result<Self> {
        let mut git = Command::new("git");
        git.current_dir(&workspace.root).args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
        let names = run::read(&mut git).context("git lists the files that are checked; run this in a clone")?;
        let mut files = BTreeMap::new();
        for name in names.split('\0').filter(|name| !name.is_empty()) {
            let path = workspace.root.join(name);
            // A file that was deleted and not yet committed is still listed.
            if path.is_file() {
                let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                files.insert(name.to_owned(), String::from_utf8(bytes).ok());
            }
        }
        Ok(Self(files))
    }

    /// The files whose name ends in `suffix`, with their text.
    pub(super) fn ending(&self, suffix: &str) -> impl Iterator<Item = (&str, &str)> {
        let files = self.0.iter().filter(move |(name, _)| name.ends_with(suffix));
        files.filter_map(|(name, text)| Some((name.as_str(), text.as_deref()?)))
    }

    /// The text of one file.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_deref()
    }

    /// This file's name and text.
    pub(super) fn file(&self, name: &str) -> Option<(&str, &str)> {
        let (name, text) = self.0.get_key_value(name)?;
        Some((name, text.as_deref()?))
    }

    /// Whether there is this file, or a folder with files.
    pub(super) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty()
            || self.0.contains_key(path)
            || self.0.range(folder.clone()..).next().is_some_and(|(name, _)| name.starts_with(&folder))
    }

    /// Whether some file's path ends in `/tail`.
    pub(super) fn has_tail(&self, tail: &str) -> bool {
        let tail = format!("/{tail}");
        self.0.keys().any(|name| name.ends_with(&tail))
    }

    /// The modules of every crate that is a product, crate by crate.
    pub(super) fn crates(&self) -> Result<Vec<Vec<Module>>> {
        let roots = self.ending(".rs").map(|(name, _)| name).filter(|name| is_crate_root(name));
        roots.map(|root| self.modules(root)).collect()
    }

    fn modules(&self, root: &str) -> Result<Vec<Module>> {
        let mut modules = Vec::new();
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.add(root, folder, Vec::new(), &mut modules)?;
        Ok(modules)
    }

    /// Adds the module in `file`, whose sub-modules are in files of `folder`.
    fn add(&self, file: &str, folder: &str, path: Vec<String>, modules: &mut Vec<Module>) -> Result<()> {
        let text = self.text(file).with_context(|| format!("{file} is a module and not in the repository"))?;
        let parsed = syn::parse_file(text).with_context(|| format!("cannot parse {file}"))?;
        self.add_items(file, folder, path, parsed.items, modules)
    }

    fn add_items(
        &self,
        file: &str,
        folder: &str,
        path: Vec<String>,
        items: Vec<Item>,
        modules: &mut Vec<Module>,
    ) -> Result<()> {
        let (inner, mut items): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| matches!(item, Item::Mod(_)));
        items.retain(|item| !is_test_only(attributes(item)));
        modules.push(Module { file: file.to_owned(), path: path.clone(), items });
        for item in inner {
            let Item::Mod(module) = item else { continue };
            if is_test_only(&module.attrs) {
                continue;
            }
            let name = module.ident.unraw().to_string();
            let path = [&path[..], std::slice::from_ref(&name)].concat();
            let below = format!("{folder}/{name}");
            if let Some((_, items)) = module.content {
                self.add_items(file, &below, path, items, modules)?;
                continue;
            }
            let candidates = [format!("{below}.rs"), format!("{below}/mod.rs")];
            // A module elsewhere, by `#[path]` or written by a build script, is none of this crate's own files.
            if let Some(inner) = candidates.iter().find(|name| self.text(name).is_some()) {
                self.add(inner, &below, path, modules)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Sources {
    fn from(files: [(&str, &str); N]) -> Self {
        Self(files.map(|(name, text)| (name.to_owned(), Some(text.to_owned()))).into())
    }
}

/// One module: a file, or a part of one between braces.
pub(super) struct Module {
    pub(super) file: String,
    /// Its path from the crate's root, which has none.
    pub(super) path: Vec<String>,
    /// What it holds but for other modules and what only tests compile.
    pub(super) items: Vec<Item>,
}

/// `crates/NAME/src/lib.rs`, `main.rs`, or a program of `bin`.
fn is_crate_root(name: &str) -> bool {
    let mut parts = name.split('/');
    let (top, _, src) = (parts.next(), parts.next(), parts.next());
    let rest: Vec<&str> = parts.collect();
    top == Some("crates") && src == Some("src") && matches!(rest[..], ["lib.rs" | "main.rs"] | ["bin", _])
}

/// Whether an item is compiled for tests alone.
pub(super) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        if path.is_ident("test") || path.is_ident("wasm_bindgen_test") {
            return true;
        }
        let Meta::List(list) = &attribute.meta else { return false };
        path.is_ident("cfg") && list.parse_args::<Meta>().is_ok_and(|condition| needs_test(&condition))
    })
}

fn needs_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        // `any(test, feature = "testing")` is for the tests of other crates.
        Meta::List(list) if list.path.is_ident("all") || list.path.is_ident("any") => list
            .parse_args_with(Punctuated::<Meta, Comma>::parse_terminated)
            .is_ok_and(|parts| parts.iter().any(needs_test)),
        _ => false,
    }
}

/// The attributes of an item of a module.
fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_follow_files_and_leave_tests_out() {
        let sources = Sources::from([
            (
                "crates/a/src/lib.rs",
                "mod b; #[cfg(any(test, feature = \"testing\"))] mod tests; mod inner { pub struct Inner; }",
            ),
            ("crates/a/src/b.rs", "mod c; #[cfg(all(test, unix))] struct T; #[cfg(not(test))] struct U;"),
            ("crates/a/src/b/c.rs", ""),
            ("crates/a/src/tests.rs", "struct T;"),
            ("crates/a/tests/other.rs", "struct T;"),
        ]);
        let crates = sources.crates().expect("it parses");
        let found: Vec<_> =
            crates[0].iter().map(|module| (module.file.as_str(), module.path.join("::"), module.items.len())).collect();
        assert_eq!(
            found,
            [
                ("crates/a/src/lib.rs", String::new(), 0),
                ("crates/a/src/b.rs", "b".into(), 1),
                ("crates/a/src/b/c.rs", "b::c".into(), 0),
                ("crates/a/src/lib.rs", "inner".into(), 1),
            ]
        );
        assert_eq!(crates.len(), 1);
    }

    #[test]
    fn folders_and_ends_of_paths_are_found() {
        let sources = Sources::from([("web/src/main.ts", ""), ("web-other/a", "")]);
        assert!(sources.has("web/src") && sources.has("web/src/main.ts") && sources.has(""));
        assert!(!sources.has("web/sr") && !sources.has("web/src/other.ts"));
        assert!(sources.has_tail("main.ts") && !sources.has_tail("ain.ts"));
    }
}
