//! Type names that are defined twice. One word means one thing: within the workspace a name of a struct, enum, union, trait
//! or type alias is defined once, and within `web/src` so is the name of an exported type. Tests are left out.

use std::collections::BTreeMap;

use anyhow::Result;
use syn::{
    Attribute, Ident, ItemEnum, ItemFn, ItemStruct, ItemTrait, ItemType, ItemUnion,
    ext::IdentExt,
    visit::{self, Visit},
};

use super::{
    Finding,
    sources::{Module, Sources, is_test_only},
};

/// Names that may be defined more than once, each with the reason.
const ALLOWED: [(&str, &str); 1] =
    [("Error", "the one error of a library crate, which others name with the crate: `pixart_weights::Error`")];

pub(super) fn check(sources: &Sources) -> Result<Vec<Finding>> {
    let mut places = BTreeMap::new();
    for module in sources.crates()?.iter().flatten() {
        let mut names = Names { module, places: &mut places };
        module.items.iter().for_each(|item| names.visit_item(item));
    }
    let mut findings = twice(&places);
    let mut places = BTreeMap::new();
    for (file, text) in sources.ending(".ts").filter(|(file, _)| file.starts_with("web/src/")) {
        for (line, name) in exported_types(text) {
            // One file may declare an interface and a value of one name; they are one thing.
            places.entry(name.to_owned()).or_insert_with(BTreeMap::new).entry(file.to_owned()).or_insert(line);
        }
    }
    findings.extend(twice(&places));
    Ok(findings)
}

/// Where each name is defined: the line by the file and module.
type Places = BTreeMap<String, BTreeMap<String, usize>>;

fn twice(places: &Places) -> Vec<Finding> {
    let is_allowed = |name: &str| ALLOWED.iter().any(|(allowed, _)| *allowed == name);
    let several = places.iter().filter(|(name, places)| places.len() > 1 && !is_allowed(name));
    let finding = |(name, places): (&String, &BTreeMap<String, usize>)| {
        let list: Vec<String> =
            places.iter().map(|(place, line)| format!("{}:{line}", place.split('#').next().unwrap_or(place))).collect();
        Finding::new(name, format!("the type name is defined {} times: {}", places.len(), list.join(", ")))
    };
    several.map(finding).collect()
}

/// Collects the types that a module defines, also inside its functions.
struct Names<'a> {
    module: &'a Module,
    places: &'a mut Places,
}

impl Names<'_> {
    fn add(&mut self, name: &Ident, attributes: &[Attribute]) {
        if is_test_only(attributes) {
            return;
        }
        // The variants of one type for several targets stand in one module.
        let place = format!("{}#{}", self.module.file, self.module.path.join("::"));
        let name_ = name.unraw().to_string();
        self.places.entry(name_).or_default().entry(place).or_insert(name.span().start().line);
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        self.add(&item.ident, &item.attrs);
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        self.add(&item.ident, &item.attrs);
    }

    fn visit_item_union(&mut self, item: &'ast ItemUnion) {
        self.add(&item.ident, &item.attrs);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.add(&item.ident, &item.attrs);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast ItemType) {
        self.add(&item.ident, &item.attrs);
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_test_only(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }
}

/// The lines and names of the types that a TypeScript file exports.
fn exported_types(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter_map(|(line, text)| {
        let rest = text.strip_prefix("export ")?;
        let rest = rest.strip_prefix("declare ").unwrap_or(rest);
        let rest = rest.strip_prefix("abstract ").unwrap_or(rest);
        let name = ["type ", "interface ", "class ", "enum "].iter().find_map(|kind| rest.strip_prefix(kind))?;
        let end = name.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(name.len());
        // `export type { A } from` defines nothing.
        (end > 0).then(|| (line + 1, &name[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sources: &Sources) -> Vec<String> {
        check(sources).expect("it parses").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_defined_in_two_crates_or_modules_or_functions_is_found() {
        let sources = Sources::from([
            ("crates/a/src/lib.rs", "pub struct Row;\nfn f() { enum Local { A } }"),
            ("crates/b/src/lib.rs", "mod m { trait Row {} }\n\ntype Local = u8;"),
        ]);
        assert_eq!(
            names(&sources),
            [
                "Local: the type name is defined 2 times: crates/a/src/lib.rs:2, crates/b/src/lib.rs:3",
                "Row: the type name is defined 2 times: crates/a/src/lib.rs:1, crates/b/src/lib.rs:1",
            ]
        );
    }

    #[test]
    fn tests_and_the_variants_of_one_type_for_several_targets_are_no_duplicates() {
        let sources = Sources::from([
            ("crates/a/src/lib.rs", "#[cfg(unix)] struct Row; #[cfg(not(unix))] struct Row; trait T { type Item; }"),
            ("crates/b/src/lib.rs", "#[cfg(test)] mod tests { struct Row; } trait U { type Item; }"),
            ("tests/src/main.rs", "struct Row;"),
        ]);
        assert_eq!(names(&sources), [""; 0]);
    }

    #[test]
    fn an_exported_typescript_type_is_unique_among_the_files_of_the_page() {
        let sources = Sources::from([
            ("web/src/a.ts", "export type Engine = number;\nexport type { Other } from './b';\ntype Own = 1;"),
            ("web/src/b.ts", "export interface Engine<T> {}\nexport interface Other {}\ntype Own = 2;"),
            ("tests/page/c.ts", "export type Other = 1;"),
        ]);
        assert_eq!(names(&sources), ["Engine: the type name is defined 2 times: web/src/a.ts:1, web/src/b.ts:1"]);
    }
}
