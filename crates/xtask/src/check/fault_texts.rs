//! The error catalogue, `tests/errors/catalogue.json`: every place that makes a fault has a row with the text that a test produced
//! there, and the text is one that a person can read.

use std::collections::BTreeMap;

use anyhow::Result;
use syn::{
    Attribute, Expr, ExprCall, ImplItemFn, ItemEnum, ItemFn,
    visit::{self, Visit},
};

use super::{
    Finding,
    sources::{Sources, is_test_only},
};
use crate::errors::{self, CATALOGUE, DOCUMENT, ErrorRow};

/// Marks of Rust or TypeScript syntax, and of values that were not formatted.
const SYNTAX: [&str; 14] = [
    "Some(",
    "None",
    "Ok(",
    "Err(",
    "::",
    "=>",
    "undefined",
    "[object",
    "TypeError",
    "DOMException",
    "unwrap",
    "RefCell",
    "JsValue",
    "\\\"",
];

/// Files whose faults pass on a fault made elsewhere, or are for tests, each with the reason.
const PASSED_ON: [(&str, &str); 4] = [
    ("crates/browser/src/bench.rs", "compiled into the benchmarks' module only"),
    ("crates/protocol/src/fault.rs", "the type itself"),
    ("crates/model/src/error.rs", "adds code and remedy to the rows of its enum"),
    ("crates/companion/src/error.rs", "adds code and remedy to the rows of its enum"),
];

/// Faults that no test provokes through the page or the program as a whole, by their number at a site, each with the reason.
const NOT_PROVOKED: [(&str, usize, &str); 7] = [
    ("crates/browser/src/device.rs log", 1, "a logged error of a kernel; a test of the module logs one"),
    ("crates/browser/src/faults.rs install_panic_hook", 1, "a panic, whose text has a line of the code"),
    ("crates/companion/src/cli/loras.rs parse", 1, "a flag; the tests of the command line give it"),
    ("crates/companion/src/cli/serve.rs model_aliases", 1, "a flag; the tests of the command line give it"),
    ("crates/companion/src/serve.rs reject_when_stopping", 1, "a server that stops, which its own tests make"),
    ("web/src/checkpoints/convert.ts", 1, "ends a conversion that is only checked, and is caught"),
    ("web/src/engine/worker.ts", 1, "ends the upload of a request that was cancelled, and is replaced by that"),
];

pub(super) fn check(sources: &Sources) -> Result<Vec<Finding>> {
    let Some(text) = sources.text(CATALOGUE) else {
        return Ok(vec![Finding::new(CATALOGUE, "is missing".to_owned())]);
    };
    let rows = errors::rows(text)?;
    let mut findings = Vec::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        *counts.entry(&row.site).or_default() += 1;
        findings.extend(unreadable(row).map(|what| Finding::new(format!("{CATALOGUE}: {}", row.site), what)));
    }
    let mut sites = sites(sources)?;
    for (site, count, _) in NOT_PROVOKED {
        if let Some(needed) = sites.get_mut(site) {
            *needed = needed.saturating_sub(count);
        }
    }
    for (site, needed) in &sites {
        let has = counts.get(site.as_str()).copied().unwrap_or_default();
        if has < *needed {
            let what =
                format!("makes {needed} faults, and {has} of its texts are in {CATALOGUE}; add a test of the error");
            findings.push(Finding::new(site.clone(), what));
        }
    }
    for site in counts.keys().filter(|site| !sites.contains_key(**site)) {
        findings.push(Finding::new(format!("{CATALOGUE}: {site}"), "makes no fault".to_owned()));
    }
    if sources.text(DOCUMENT) != Some(errors::document(&rows).as_str()) {
        findings.push(Finding::new(DOCUMENT, format!("does not match {CATALOGUE}; run `cargo xtask errors`")));
    }
    Ok(findings)
}

/// Says what keeps a person from reading the row's texts.
fn unreadable(row: &ErrorRow) -> Option<String> {
    let texts = [("what", &row.what), ("remedy", &row.remedy)];
    texts.into_iter().find_map(|(name, text)| {
        if let Some(mark) = SYNTAX.iter().find(|mark| text.contains(**mark)) {
            return Some(format!("`{name}` has `{mark}`: {text}"));
        }
        let unbalanced = text.matches('`').count() % 2 == 1;
        let ends = text.ends_with(['.', ';', ':', ',', ' ']);
        (text.is_empty() || unbalanced || ends || !text.contains(' '))
            .then(|| format!("`{name}` is no sentence without its full stop: {text}"))
    })
}

/// Returns the number of faults made at each site: a function of Rust, a variant of an error enum, or a file of TypeScript.
fn sites(sources: &Sources) -> Result<BTreeMap<String, usize>> {
    let mut found = BTreeMap::new();
    let is_passed_on = |file: &str| PASSED_ON.iter().any(|(name, _)| *name == file);
    for module in sources.crates()?.iter().flatten() {
        if module.file.starts_with("crates/xtask") {
            continue;
        }
        let mut visitor = Sites {
            file: &module.file,
            function: String::new(),
            makes: !is_passed_on(&module.file),
            found: &mut found,
        };
        module.items.iter().for_each(|item| visitor.visit_item(item));
    }
    for (file, text) in sources.ending(".ts").filter(|(file, _)| file.starts_with("web/src") && !is_passed_on(file)) {
        let count = typescript_faults(text);
        if count > 0 {
            found.insert(file.to_owned(), count);
        }
    }
    Ok(found)
}

/// Returns the number of calls in TypeScript that make a fault; their arguments may begin on the next line.
fn typescript_faults(text: &str) -> usize {
    let is_made = |rest: &&str| {
        let arguments = rest.trim_start();
        arguments.starts_with('\'') || arguments.starts_with("code, ")
    };
    text.split("fault(").skip(1).filter(is_made).count() + text.matches("Fault(`").count()
}

struct Sites<'a> {
    file: &'a str,
    function: String,
    /// True if the file's own faults count, beside its enums.
    makes: bool,
    found: &'a mut BTreeMap<String, usize>,
}

impl Sites<'_> {
    fn within(&mut self, name: String, attributes: &[Attribute], visit: impl FnOnce(&mut Self)) {
        if !is_test_only(attributes) {
            let outer = std::mem::replace(&mut self.function, name);
            visit(self);
            self.function = outer;
        }
    }
}

impl<'ast> Visit<'ast> for Sites<'_> {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.within(item.sig.ident.to_string(), &item.attrs, |this| visit::visit_item_fn(this, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.within(item.sig.ident.to_string(), &item.attrs, |this| visit::visit_impl_item_fn(this, item));
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if let Expr::Path(path) = &*call.func {
            let names: Vec<String> = path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            if self.makes && names == ["Fault", "new"] {
                *self.found.entry(format!("{} {}", self.file, self.function)).or_default() += 1;
            }
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        for variant in &item.variants {
            let text = variant.attrs.iter().filter(|attribute| attribute.path().is_ident("error"));
            let tokens =
                text.filter_map(|attribute| Some(attribute.meta.require_list().ok()?.tokens.to_string())).next();
            if tokens.is_some_and(|tokens| tokens != "transparent" && tokens != "\"{0}\"") {
                self.found.insert(format!("{} {}::{}", self.file, item.ident, variant.ident), 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "fn f() { Err(Fault::new(A, b, c)) }\n\
        impl T { fn g() { x.map_err(|e| Fault::new(A, b, c)); Fault::new(A, b, c) } }\n\
        enum E { #[error(\"bad {x}\")] Bad, #[error(transparent)] Other(F), #[error(\"{0}\")] Third(F) }\n\
        #[cfg(test)] mod tests { fn h() { Fault::new(A, b, c) } }";

    fn row(site: &str, what: &str) -> ErrorRow {
        let text = serde_json::json!({ "site": site, "code": "internal", "what": what, "remedy": "try it again" });
        serde_json::from_value(text).expect("a row")
    }

    #[test]
    fn sites_are_functions_variants_and_files_of_typescript() {
        let sources = Sources::from([
            ("crates/a/src/lib.rs", SOURCE),
            (
                "web/src/a.ts",
                "fault('x', `y`, 'z'); fault(code, y, z); companionFault(`b`); fault(\n  'x',\n y, z); fault(thrown)",
            ),
        ]);
        let expected = [
            ("crates/a/src/lib.rs E::Bad", 1),
            ("crates/a/src/lib.rs f", 1),
            ("crates/a/src/lib.rs g", 2),
            ("web/src/a.ts", 4),
        ];
        let found = sites(&sources).expect("it parses");
        assert_eq!(found.iter().map(|(site, count)| (site.as_str(), *count)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn missing_superfluous_and_unreadable_rows_are_found() {
        let rows =
            [row("crates/a/src/lib.rs f", "the value is Some(3)"), row("crates/a/src/lib.rs h", "a value is bad")];
        let catalogue = serde_json::to_string(&rows).expect("plain data");
        let document = errors::document(&rows);
        let sources = Sources::from([
            ("crates/a/src/lib.rs", "fn f() { Fault::new(A, b, c) } fn g() { Fault::new(A, b, c) }"),
            (CATALOGUE, &catalogue),
            (DOCUMENT, &document),
        ]);
        let places: Vec<String> = check(&sources).expect("it parses").iter().map(|found| found.place.clone()).collect();
        let catalogued = |function: &str| format!("{CATALOGUE}: crates/a/src/lib.rs {function}");
        assert_eq!(places, [catalogued("f"), "crates/a/src/lib.rs g".to_owned(), catalogued("h")]);
    }

    #[test]
    fn a_sentence_without_syntax_is_readable() {
        assert_eq!(unreadable(&row("s", "`a.png` is 3 × 4 pixels")), None);
        for bad in ["", "bad", "a value is `x", "it ends in a stop.", "a value is None", "a\\\"b is bad"] {
            assert!(unreadable(&row("s", bad)).is_some(), "{bad}");
        }
    }
}
