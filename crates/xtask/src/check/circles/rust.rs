//! The imports between the files of a crate: `use` declarations and longer paths, also in macros, followed through
//! re-exports to the file that defines the name.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, Ident, ImplItemFn, Item, ItemFn, ItemImpl, ItemUse, Macro, Path, UseTree,
    ext::IdentExt,
    visit::{self, Visit},
};

use super::{
    super::sources::{Module, is_test_only},
    Imports,
};

/// Re-exports are followed so often at most.
const HOPS: usize = 8;

/// The imports between the files of `modules`, one crate's, but for those between a module and one inside it.
pub(super) fn imports(modules: &[Module]) -> Imports<'_> {
    let tree = Tree::new(modules);
    let mut imports = Imports::default();
    for (index, module) in modules.iter().enumerate() {
        let mut paths = Paths::default();
        module.items.iter().for_each(|item| paths.visit_item(item));
        for path in &paths.found {
            let Some(target) = tree.resolve(index, path, HOPS) else { continue };
            let to = &modules[target];
            if !to.path.starts_with(&tree.file_path(index)) && !module.path.starts_with(&tree.file_path(target)) {
                imports.add(&module.file, &to.file, &path.join("::"));
            }
        }
    }
    imports
}

/// The modules of a crate by their path, with what each defines and brings in.
struct Tree<'a> {
    modules: &'a [Module],
    by_path: BTreeMap<&'a [String], usize>,
    defined: Vec<BTreeSet<String>>,
    used: Vec<Uses>,
}

/// The `use` declarations of a module.
#[derive(Default)]
struct Uses {
    /// The path of each name that they bring in.
    names: BTreeMap<String, Vec<String>>,
    /// The paths of their globs.
    globs: Vec<Vec<String>>,
}

impl<'a> Tree<'a> {
    fn new(modules: &'a [Module]) -> Self {
        let by_path = modules.iter().enumerate().map(|(index, module)| (&module.path[..], index)).collect();
        let defined = modules.iter().map(|module| module.items.iter().filter_map(name).collect()).collect();
        let used = modules
            .iter()
            .map(|module| {
                let mut uses = Uses::default();
                for item in &module.items {
                    let Item::Use(item) = item else { continue };
                    for (path, alias) in leaves(&item.tree) {
                        match alias.as_str() {
                            "*" => uses.globs.push(path),
                            _ => {
                                uses.names.insert(alias, path);
                            }
                        }
                    }
                }
                uses
            })
            .collect();
        Self { modules, by_path, defined, used }
    }

    /// The path of the outermost module that is in the same file.
    fn file_path(&self, index: usize) -> Vec<String> {
        let module = &self.modules[index];
        let same_file =
            |path: &&[String]| self.by_path.get(path).is_some_and(|at| self.modules[*at].file == module.file);
        let lengths = 0..=module.path.len();
        lengths.map(|length| &module.path[..length]).find(same_file).unwrap_or(&module.path).to_vec()
    }

    /// The module that defines what `path` names in the module `from`; nothing for other crates, and for a path that
    /// names a module and nothing in it.
    fn resolve(&self, from: usize, path: &[String], hops: usize) -> Option<usize> {
        let hops = hops.checked_sub(1)?;
        let base = &self.modules[from].path;
        let (start, rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (base.clone(), &path[1..]),
            "super" => {
                let count = path.iter().take_while(|part| *part == "super").count();
                (base[..base.len().checked_sub(count)?].to_vec(), &path[count..])
            }
            first => {
                let child = [&base[..], &path[..1]].concat();
                if self.by_path.contains_key(&child[..]) {
                    (base.clone(), path)
                } else {
                    // A name that this module's own `use` declares.
                    let used = self.used[from].names.get(first)?;
                    if used.as_slice() == path || used.first().is_some_and(|used| used == first) {
                        return None;
                    }
                    return self.resolve(from, &[&used[..], &path[1..]].concat(), hops);
                }
            }
        };
        let mut at = *self.by_path.get(&start[..])?;
        for (index, part) in rest.iter().enumerate() {
            if let Some(inner) =
                self.by_path.get(&[&self.modules[at].path[..], std::slice::from_ref(part)].concat()[..])
            {
                at = *inner;
                continue;
            }
            if self.defined[at].contains(part) {
                return Some(at);
            }
            let Uses { names, globs } = &self.used[at];
            if let Some(used) = names.get(part) {
                return self.resolve(at, &[&used[..], &rest[index + 1..]].concat(), hops).or(Some(at));
            }
            let inside =
                |glob: &&Vec<String>| self.module(at, glob).is_some_and(|module| self.defined[module].contains(part));
            return globs.iter().find(inside).and_then(|glob| self.module(at, glob)).or(Some(at));
        }
        None
    }

    /// The module that `path` names in the module `from`.
    fn module(&self, from: usize, path: &[String]) -> Option<usize> {
        let base = &self.modules[from].path;
        let whole = match path.first()?.as_str() {
            "crate" => path[1..].to_vec(),
            "self" => [base, &path[1..]].concat(),
            "super" => {
                let count = path.iter().take_while(|part| *part == "super").count();
                [&base[..base.len().checked_sub(count)?], &path[count..]].concat()
            }
            _ => [&base[..], path].concat(),
        };
        self.by_path.get(&whole[..]).copied()
    }
}

/// The name that an item defines.
fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(text(ident))
}

fn text(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// The paths of a `use` declaration, each with the name that it brings in, or `*`.
fn leaves(tree: &UseTree) -> Vec<(Vec<String>, String)> {
    match tree {
        UseTree::Path(path) => {
            let first = text(&path.ident);
            let below = leaves(&path.tree).into_iter();
            below.map(|(rest, name)| ([vec![first.clone()], rest].concat(), name)).collect()
        }
        UseTree::Name(name) if name.ident == "self" => vec![(Vec::new(), String::from("self"))],
        UseTree::Name(name) => vec![(vec![text(&name.ident)], text(&name.ident))],
        UseTree::Rename(rename) if rename.ident == "self" => vec![(Vec::new(), text(&rename.rename))],
        UseTree::Rename(rename) => vec![(vec![text(&rename.ident)], text(&rename.rename))],
        UseTree::Glob(_) => vec![(Vec::new(), String::from("*"))],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
    .into_iter()
    .map(|(path, name)| {
        let last = path.last().filter(|_| name == "self").cloned();
        (path, last.unwrap_or(name))
    })
    .collect()
}

/// Collects the paths of more than one part that a module's items name.
#[derive(Default)]
struct Paths {
    found: BTreeSet<Vec<String>>,
}

impl Paths {
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if colons == 2 || path.is_empty() => {
                    path.push(text(&ident));
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    self.add(std::mem::take(&mut path));
                    colons = 0;
                    match other {
                        TokenTree::Ident(ident) => path.push(text(&ident)),
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        _ => {}
                    }
                }
            }
        }
        self.add(path);
    }

    fn add(&mut self, path: Vec<String>) {
        if path.len() > 1 {
            self.found.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for (path, name) in leaves(&item.tree) {
            // A glob names something of the module that it opens: all the rest is as good as it.
            let path = if name == "*" { [path, vec![name]].concat() } else { path };
            self.add(path);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.add(path.segments.iter().map(|segment| text(&segment.ident)).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        self.tokens(item.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_test_only(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_test_only(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if !is_test_only(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::sources::Sources, *};

    fn circles<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        let crates = Sources::from(files).crates().expect("it parses");
        imports(&crates[0]).circles().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn two_files_that_use_each_other_are_a_circle() {
        let found = circles([
            ("crates/a/src/lib.rs", "mod b; mod c;"),
            ("crates/a/src/b.rs", "use crate::c::C; pub struct B;"),
            ("crates/a/src/c.rs", "use crate::b; pub struct C; fn f() { vec![b::B] }"),
        ]);
        assert_eq!(
            found,
            [
                "crates/a/src/b.rs: 2 files import each other: crates/a/src/b.rs imports `crate::c::C` of crates/a/src/c.rs; \
              crates/a/src/c.rs imports `b::B` of crates/a/src/b.rs"
            ]
        );
    }

    #[test]
    fn a_circle_through_re_exports_is_between_the_files_that_define_the_names() {
        let found = circles([
            ("crates/a/src/lib.rs", "mod room; mod c; pub use c::C;"),
            ("crates/a/src/room.rs", "mod b; pub use b::*; pub fn f() -> B { B }"),
            ("crates/a/src/room/b.rs", "use crate::C; pub struct B;"),
            ("crates/a/src/c.rs", "use crate::room::B; pub struct C;"),
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/a/src/c.rs: 2 files"), "{}", found[0]);
    }

    #[test]
    fn a_module_and_those_inside_it_may_use_each_other() {
        let found = circles([
            ("crates/a/src/lib.rs", "mod room; pub struct Error; use room::b::B;"),
            ("crates/a/src/room.rs", "pub mod b; use b::B; pub struct R; mod inline { use super::super::Error; }"),
            ("crates/a/src/room/b.rs", "use super::R; use crate::Error; pub struct B;"),
        ]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn what_tests_use_and_other_crates_are_no_imports() {
        let found = circles([
            ("crates/a/src/lib.rs", "mod b; mod c;"),
            ("crates/a/src/b.rs", "use std::fmt; use crate::c::C; pub struct B;"),
            ("crates/a/src/c.rs", "pub struct C; #[cfg(test)] mod tests { use crate::b::B; }"),
        ]);
        assert_eq!(found, [""; 0]);
    }
}
