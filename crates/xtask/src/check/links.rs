//! Links between documents: files and headings that a Markdown file links to, and paths in backticks that look like files
//! of the repository.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{Finding, sources::Sources};

/// Folders that a build writes, which git does not track. `web/types` is one of the npm package, whose README is
/// `web/PACKAGE.md`.
const BUILT: [&str; 5] = ["web/dist", "web/pkg", "web/package", "web/types", "target"];
/// Endings of files that a visitor of the repository would look for. Others may be a user's own.
const SOURCE_ENDINGS: [&str; 8] = [".rs", ".wgsl", ".ts", ".mjs", ".py", ".md", ".toml", ".yml"];

pub(super) fn check(sources: &Sources) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (file, text) in sources.ending(".md") {
        let document = Document::read(text);
        for (line, target) in &document.links {
            if let Some(what) = broken_link(sources, file, target) {
                findings.push(Finding::new(format!("{file}:{line}"), what));
            }
        }
        for (line, code) in &document.codes {
            if looks_like_file(sources, code) && !is_file(sources, file, code) {
                let what = format!("`{code}` looks like a file of the repository, and there is none");
                findings.push(Finding::new(format!("{file}:{line}"), what));
            }
        }
    }
    Ok(findings)
}

/// What a document has of interest, with the line of each.
struct Document {
    links: Vec<(usize, String)>,
    codes: Vec<(usize, String)>,
    anchors: BTreeSet<String>,
}

impl Document {
    fn read(text: &str) -> Self {
        let (mut links, mut codes, mut headings) = (Vec::new(), Vec::new(), Vec::new());
        let mut heading: Option<String> = None;
        let line = |at: usize| text[..at].matches('\n').count() + 1;
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    links.push((line(range.start), dest_url.into_string()));
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => headings.extend(heading.take()),
                Event::Text(part) => heading.iter_mut().for_each(|heading| heading.push_str(&part)),
                Event::Code(code) => {
                    heading.iter_mut().for_each(|heading| heading.push_str(&code));
                    codes.push((line(range.start), code.into_string()));
                }
                _ => {}
            }
        }
        Self { links, codes, anchors: anchors(&headings) }
    }
}

/// The anchors of headings, as GitHub makes them.
fn anchors(headings: &[String]) -> BTreeSet<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for heading in headings {
        let slug: String = heading
            .to_lowercase()
            .chars()
            .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
            .map(|letter| if letter == ' ' { '-' } else { letter })
            .collect();
        let count = counts.entry(slug.clone()).or_default();
        anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    anchors
}

/// Why a link of `file` leads nowhere.
fn broken_link(sources: &Sources, file: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let to = if path.is_empty() { Some(file.to_owned()) } else { beside(file, path) };
    if to.as_deref().is_some_and(is_built) {
        return None;
    }
    let Some(to) = to.filter(|to| sources.has(to)) else {
        return Some(format!("the link to {target} leads to no file of the repository"));
    };
    let anchor = anchor?;
    let text = sources.text(&to).filter(|_| to.ends_with(".md"));
    let has = text.is_some_and(|text| Document::read(text).anchors.contains(anchor));
    (!has).then(|| format!("{to} has no heading with the anchor #{anchor}"))
}

/// The path from the root of what `path` names in a document.
fn beside(file: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in path.trim_end_matches('/').split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Whether `code` is written as a path of this repository: it ends as sources do, or begins with a folder of the root.
fn looks_like_file(sources: &Sources, code: &str) -> bool {
    let is_plain = code.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '/' | '.' | '_' | '-'));
    if !is_plain || code.starts_with(['/', '.', '-']) || code.contains("..") {
        return false;
    }
    // `name.wgsl` stands for any.
    if code.rsplit('/').next().is_some_and(|file| file.starts_with("name.") || file.starts_with("name_")) {
        return false;
    }
    let is_in_folder =
        code.split_once('/').is_some_and(|(top, rest)| !rest.is_empty() && sources.has(top) && !is_built(code));
    is_in_folder || SOURCE_ENDINGS.iter().any(|ending| code.strip_suffix(ending).is_some_and(|name| !name.is_empty()))
}

fn is_built(path: &str) -> bool {
    BUILT.iter().any(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// Whether `path` is a file or folder seen from the root, from the document, by the end of its path, or of the crate that
/// its first part names.
fn is_file(sources: &Sources, file: &str, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let of_crate = path.split_once('/').map(|(name, rest)| format!("crates/{name}/src/{rest}"));
    of_crate.is_some_and(|path| sources.has(&path))
        || sources.has(path)
        || beside(file, path).is_some_and(|path| sources.has(&path))
        || sources.has_tail(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let sources = Sources::from([
            ("docs/guide.md", text),
            ("docs/other.md", "# Its *first* heading: `x`\n## Twice\n## Twice\n"),
            ("crates/model/src/vae.rs", ""),
        ]);
        check(&sources).expect("it parses").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_missing_file_and_a_missing_heading_are_found() {
        let found =
            found("[a](missing.md)\n\n[b](other.md#nothing) [c](../docs/other.md#its-first-heading-x)\n\n![d](x.png)");
        assert_eq!(
            found,
            [
                "docs/guide.md:1: the link to missing.md leads to no file of the repository",
                "docs/guide.md:3: docs/other.md has no heading with the anchor #nothing",
                "docs/guide.md:5: the link to x.png leads to no file of the repository",
            ]
        );
    }

    #[test]
    fn headings_of_one_text_are_numbered_and_addresses_elsewhere_are_not_followed() {
        assert_eq!(found("[a](other.md#twice-1) [b](https://example.org/x) [c](#here)\n# Here\n"), [""; 0]);
    }

    #[test]
    fn a_path_in_backticks_that_looks_like_a_source_is_looked_for() {
        let found = found(
            "`crates/model/src/vae.rs` `model/src/vae.rs` `model/vae.rs` `vae.rs` `web/dist/x.js` `name_staged.wgsl`\n`dit.rs` `docs/no`\n```\nnone.rs\n```\n`model_index.json` `application/json`",
        );
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("`dit.rs`") && found[1].contains("`docs/no`"), "{found:?}");
    }
}
