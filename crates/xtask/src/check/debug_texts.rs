//! Debug formatting in texts that a user reads: `{:?}` shows `Some("…")` and the names of our types. A scanner cannot know
//! who reads a string, so every string literal counts but for those of tests, panics, assertions and debug logs, and those
//! of `Debug` implementations.

use anyhow::Result;
use proc_macro2::{Literal, TokenStream, TokenTree};
use syn::{
    Attribute, ImplItemFn, ItemFn, ItemImpl, Lit, LitStr, Macro,
    visit::{self, Visit},
};

use super::{
    Finding,
    sources::{Sources, is_test_only},
};

/// Macros whose text is for developers: a panic is our own mistake.
const FOR_DEVELOPERS: [&str; 14] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "dbg",
    "debug",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "panic",
    "todo",
    "trace",
    "unimplemented",
    "unreachable",
    "debug_span",
];

/// Names of values that are lists of numbers wherever they are shown, such as `[1, 4, 32, 32]`, or a range, `0..4`: a user
/// would write them just so.
const NUMBERS: [&str; 9] = ["shape", "shapes", "dims", "strides", "channels", "timesteps", "sigmas", "range", "layers"];

/// Files with a text that nobody reads, each with the reason.
const NOT_READ: [(&str, &str); 1] = [("crates/kernels/src/gpu/launch.rs", "the key of a cache")];

pub(super) fn check(sources: &Sources) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for module in sources.crates()?.iter().flatten() {
        if NOT_READ.iter().any(|(file, _)| *file == module.file) {
            continue;
        }
        let mut texts = Texts { file: &module.file, findings: &mut findings };
        module.items.iter().for_each(|item| texts.visit_item(item));
    }
    Ok(findings)
}

struct Texts<'a> {
    file: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl Texts<'_> {
    fn text(&mut self, text: &str, line: usize) {
        if let Some(placeholder) = debug_placeholder(text) {
            let what =
                format!("`{placeholder}` shows Debug formatting in a text; give the value a Display, or join it");
            self.findings.push(Finding::new(format!("{}:{line}", self.file), what));
        }
    }

    fn literal(&mut self, literal: &Literal) {
        if let Lit::Str(text) = Lit::new(literal.clone()) {
            self.text(&text.value(), literal.span().start().line);
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut skipped = false;
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Literal(literal) => self.literal(literal),
                TokenTree::Group(group) if !skipped => self.tokens(group.stream()),
                _ => {}
            }
            // `assert!(…)` inside another macro's tokens.
            let called = at > 0 && matches!(token, TokenTree::Punct(mark) if mark.as_char() == '!');
            skipped =
                called && matches!(&tokens[at - 1], TokenTree::Ident(name) if is_for_developers(&name.to_string()));
        }
    }
}

fn is_for_developers(name: &str) -> bool {
    FOR_DEVELOPERS.contains(&name)
}

impl<'ast> Visit<'ast> for Texts<'_> {
    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.text(&text.value(), text.span().start().line);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        let name = item.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if !is_for_developers(&name) {
            self.tokens(item.tokens.clone());
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        // thiserror's texts. Documentation is none that a user of the product reads.
        if attribute.path().is_ident("error")
            && let Ok(list) = attribute.meta.require_list()
        {
            self.tokens(list.tokens.clone());
        }
    }

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
        let is_debug = item
            .trait_
            .as_ref()
            .is_some_and(|(_, path, _)| path.segments.last().is_some_and(|segment| segment.ident == "Debug"));
        if !is_debug && !is_test_only(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }
}

/// The first placeholder of `text` that asks for Debug formatting of something else than numbers.
fn debug_placeholder(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(begin) = rest.find('{') {
        let inner = &rest[begin + 1..];
        if let Some(escaped) = inner.strip_prefix('{') {
            rest = escaped;
            continue;
        }
        let end = inner.find('}')?;
        if let Some((name, format)) = inner[..end].split_once(':')
            && format.ends_with('?')
            && !is_numbers(name)
        {
            return Some(&rest[begin..begin + end + 2]);
        }
        rest = &inner[end + 1..];
    }
    None
}

fn is_numbers(name: &str) -> bool {
    NUMBERS.iter().any(|list| name.strip_suffix(list).is_some_and(|rest| rest.is_empty() || rest.ends_with('_')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let sources = Sources::from([("crates/a/src/lib.rs", text)]);
        check(&sources).expect("it parses").iter().map(|finding| finding.place.clone()).collect()
    }

    #[test]
    fn debug_formatting_is_found_in_formats_errors_and_nested_macros() {
        let text = "fn f() { format!(\"{:?}\", 1); }\n\
            #[derive(Error)] enum E { #[error(\"bad {got:?}\")] A }\n\
            fn g() { vec![format!(\"{a:#?}\")]; }\n\
            const T: &str = \"{0:?}\";";
        assert_eq!(lines(text), [1, 2, 3, 4].map(|line| format!("crates/a/src/lib.rs:{line}")));
    }

    #[test]
    fn panics_tests_debug_implementations_shapes_and_escapes_may_show_it() {
        let text = "fn f() { panic!(\"{:?}\", 1); vec![assert!(x, \"{x:?}\")]; format!(\"{{:?}} {:.3} {name}\"); }\n\
            #[cfg(test)] mod tests { fn f() { format!(\"{:?}\", 1); } }\n\
            #[test] fn g() { format!(\"{:?}\", 1); }\n\
            impl fmt::Debug for T { fn fmt(&self) { write!(to, \"{:?}\", 1) } }\n\
            fn h() { format!(\"{shape:?} {latent_shape:?}\"); }";
        assert_eq!(lines(text), [""; 0]);
    }
}
