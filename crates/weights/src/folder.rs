//! Files by name, in memory. A path is relative to the checkpoint and uses `/`: `text_encoder/config.json`. It does
//! no i/o and keeps no notion of directories beyond the text of its paths.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Adapter, Error};

/// The files of one checkpoint. Cloning it, or taking a part of it, shares the bytes.
#[derive(Clone, Default)]
pub struct Folder {
    files: BTreeMap<String, Arc<Vec<u8>>>,
    /// What is added to the weights below a directory as they are read.
    adapters: Vec<(String, Arc<Adapter>)>,
}

impl Folder {
    /// Adds a file, or replaces the one of that name.
    pub fn insert(&mut self, path: impl Into<String>, bytes: Vec<u8>) {
        self.files.insert(path.into(), Arc::new(bytes));
    }

    /// Forgets a file; its bytes are freed once no other folder shares them. Says whether there was one.
    pub fn remove(&mut self, path: &str) -> bool {
        self.files.remove(path).is_some()
    }

    /// Adds `adapter` to the weights of the network in `dir` from now on, after those added before.
    pub fn adapt(&mut self, dir: &str, adapter: Adapter) {
        self.adapters.push((dir.to_owned(), Arc::new(adapter)));
    }

    /// Those of the network in `dir`.
    pub(crate) fn adapters(&self, dir: &str) -> Vec<Arc<Adapter>> {
        let of_dir = self.adapters.iter().filter(|(adapted, _)| adapted == dir);
        of_dir.map(|(_, adapter)| Arc::clone(adapter)).collect()
    }

    pub fn bytes(&self, path: &str) -> Result<&[u8], Error> {
        let file = self.files.get(path).ok_or_else(|| Error::MissingFile { file: path.to_owned() })?;
        Ok(file.as_slice())
    }

    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Every path, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The files whose path starts with `prefix`, named by the rest of it: `under("vae/")` of `vae/config.json` holds
    /// `config.json`.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Folder {
        let files = self
            .files
            .iter()
            .filter_map(|(path, bytes)| Some((path.strip_prefix(prefix)?.to_owned(), Arc::clone(bytes))))
            .collect();
        let part =
            |(dir, adapter): &(String, Arc<Adapter>)| Some((dir.strip_prefix(prefix)?.to_owned(), Arc::clone(adapter)));
        Folder { files, adapters: self.adapters.iter().filter_map(part).collect() }
    }
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_map().entries(self.files.iter().map(|(path, bytes)| (path, bytes.len()))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> Folder {
        let mut folder = Folder::default();
        folder.insert("pipeline/vae/config.json", b"{}".to_vec());
        folder.insert("pipeline/model_index.json", b"[]".to_vec());
        folder.insert("text.safetensors", vec![1, 2, 3]);
        folder
    }

    #[test]
    fn a_part_of_a_folder_is_named_from_its_prefix_on_and_shares_the_bytes() {
        let folder = folder();
        let pipeline = folder.under("pipeline/");
        assert_eq!(pipeline.paths().collect::<Vec<_>>(), ["model_index.json", "vae/config.json"]);
        let (whole, part) = (folder.bytes("pipeline/vae/config.json"), pipeline.bytes("vae/config.json"));
        assert!(std::ptr::eq(whole.expect("inserted"), part.expect("under the prefix")));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = folder().bytes("vae/config.json").expect_err("not inserted at the top");
        assert_eq!(error, Error::MissingFile { file: "vae/config.json".to_owned() });
        assert!(error.to_string().contains("`vae/config.json`"));
    }

    #[test]
    fn a_removed_file_is_gone() {
        let mut folder = folder();
        assert!(folder.remove("text.safetensors"));
        assert!(!folder.remove("text.safetensors"));
        assert!(!folder.contains("text.safetensors"));
    }
}
