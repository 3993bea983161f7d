//! Addresses on a hub: `owner/name`, `owner/name@revision`, either with a folder or file after it, and the addresses of its pages.

use pixart_protocol::{Fault, FaultCode};

use crate::Error;

/// Hosts whose pages are addresses of models.
const HOSTS: [&str; 4] = ["https://huggingface.co/", "https://hf.co/", "https://www.huggingface.co/", "hf://"];

/// A repository at a revision, and a folder or file in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubAddress {
    /// `owner/name`.
    pub repository: String,
    /// A branch, tag or commit.
    pub revision: String,
    /// A folder or file; empty for the whole repository.
    pub path: String,
}

impl HubAddress {
    /// Parses `owner/name[@revision][/path]` or the address of a page, as `https://huggingface.co/owner/name/blob/main/file`.
    /// Returns `None` for what can only be a local path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let page = HOSTS.iter().find_map(|host| text.strip_prefix(host));
        let rest = page.unwrap_or(text).split(['?', '#']).next()?.trim_end_matches('/');
        let mut parts = rest.split('/');
        let (owner, name) = (parts.next()?, parts.next()?);
        let (name, mut revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision)),
            None => (name, None),
        };
        let mut path: Vec<&str> = parts.collect();
        if page.is_some() && revision.is_none() && matches!(path.first(), Some(&("blob" | "resolve" | "tree"))) {
            revision = Some(path.get(1).copied()?);
            path.drain(..2);
        }
        let revision = revision.unwrap_or("main").replace("%2F", "/");
        let is_plain = |part: &&str| !part.is_empty() && *part != "." && *part != ".." && !part.contains(['\\', ':']);
        let is_address = is_name(owner)
            && is_name(name)
            && path.iter().all(is_plain)
            && revision.split('/').all(|part| is_plain(&part) && is_name(part));
        is_address.then(|| Self { repository: format!("{owner}/{name}"), revision, path: path.join("/") })
    }

    /// Returns the path as the beginning of those below it.
    pub(super) fn prefix(&self) -> String {
        if self.path.is_empty() { String::new() } else { format!("{}/", self.path) }
    }

    /// The error of a repository that does not have `file`.
    pub(super) fn lacks(&self, file: &str) -> Error {
        let folder = if self.path.is_empty() { String::new() } else { format!(" in {}", self.path) };
        let what = format!("{} at {} has no file {file}{folder}", self.repository, self.revision);
        let remedy = "name another repository, or the missing component's own with --tokenizer, --text-encoder, --transformer or --vae";
        Fault::new(FaultCode::BadWeights, what, remedy).into()
    }
}

/// Returns whether the hub takes the text for the name of an owner, a repository or a part of a revision.
fn is_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= 96 && !text.starts_with('.') && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<[String; 3]> {
        HubAddress::parse(text).map(|HubAddress { repository, revision, path }| [repository, revision, path])
    }

    #[test]
    fn names_revisions_paths_and_pages_are_addresses() {
        for (text, expected) in [
            ("o/n", ["o/n", "main", ""]),
            ("o/n@v1.0", ["o/n", "v1.0", ""]),
            ("o/n@refs%2Fpr%2F1", ["o/n", "refs/pr/1", ""]),
            ("o/n/vae", ["o/n", "main", "vae"]),
            ("o/n@v1/t5/model.gguf", ["o/n", "v1", "t5/model.gguf"]),
            ("https://huggingface.co/o/n", ["o/n", "main", ""]),
            ("https://huggingface.co/o/n/", ["o/n", "main", ""]),
            ("https://huggingface.co/o/n/tree/main/vae", ["o/n", "main", "vae"]),
            ("https://hf.co/o/n/blob/v1/a.gguf?download=true", ["o/n", "v1", "a.gguf"]),
            ("https://huggingface.co/o/n/resolve/main/a/b.safetensors#x", ["o/n", "main", "a/b.safetensors"]),
        ] {
            assert_eq!(parsed(text), Some(expected.map(str::to_owned)), "{text}");
        }
    }

    #[test]
    fn local_paths_are_no_addresses() {
        for text in
            ["", "o", "./o/n", "../o/n", "/o/n", "o/../n", "o\\n", "C:/o/n", "~/o n", "o//n", "o/n/../x", "o/n@"]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
