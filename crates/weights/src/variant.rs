//! The file of a network's weights by diffusers' `variant`: `<stem>.fp16.safetensors` beside, or in place of, `<stem>.safetensors`,
//! and the index files of shards.

use std::cmp::Reverse;

use crate::{Error, Folder};

/// Variants that are taken where a folder has no file without one, in the order of preference: more bits, then alphabetical.
const PREFERRED: [&str; 3] = ["fp32", "fp16", "bf16"];

/// A file that holds the weights of a network, or lists their shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkFile {
    pub(crate) path: String,
    pub(crate) is_index: bool,
    pub(crate) is_gguf: bool,
    /// Empty for a file without a variant.
    variant: String,
}

impl Folder {
    /// Sets the variant of the weight files to read, as `fp16`: networks that have it are read from its files.
    pub fn set_variant(&mut self, variant: Option<String>) {
        self.variant = variant;
    }

    /// Returns the variants that the networks' files have, in alphabetical order.
    #[must_use]
    pub fn variants(&self, networks: &[(&str, &str)]) -> Vec<String> {
        let files = networks.iter().flat_map(|(dir, stem)| self.network_files(dir, stem));
        let mut variants: Vec<String> = files.map(|file| file.variant).filter(|variant| !variant.is_empty()).collect();
        variants.sort();
        variants.dedup();
        variants
    }

    /// Returns the file of the network in `dir`: that of the variant that was set, else the one without a variant, else the
    /// best of any variant. A whole file is preferred to an index.
    pub(crate) fn network_file(&self, dir: &str, stem: &str) -> Option<NetworkFile> {
        let wanted = self.variant.as_deref();
        let rank = |file: &NetworkFile| {
            let preferred = PREFERRED.iter().position(|known| *known == file.variant).unwrap_or(PREFERRED.len());
            let is_wanted = wanted == Some(file.variant.as_str());
            (Reverse(is_wanted), !file.variant.is_empty(), preferred, file.variant.clone(), file.is_index)
        };
        self.network_files(dir, stem).min_by_key(rank)
    }

    /// Returns the only `.safetensors` or `.gguf` file in `dir`, for folders without one of the usual name.
    ///
    /// # Errors
    /// Several such files: which one is meant cannot be told.
    pub(crate) fn lone_file(&self, dir: &str) -> Result<Option<NetworkFile>, Error> {
        let prefix = format!("{dir}/");
        let is_weights = |path: &&str| {
            let name = path.strip_prefix(&prefix).unwrap_or_default();
            !name.contains('/') && !name.contains("-of-") && (name.ends_with(".safetensors") || name.ends_with(".gguf"))
        };
        let mut files = self.paths().filter(is_weights);
        match (files.next(), files.next()) {
            (Some(path), None) => {
                let is_gguf = path.ends_with(".gguf");
                Ok(Some(NetworkFile { path: path.to_owned(), is_index: false, is_gguf, variant: String::new() }))
            }
            (Some(first), Some(second)) => {
                Err(Error::Ambiguous { dir: dir.to_owned(), files: [first, second].map(str::to_owned) })
            }
            (None, _) => Ok(None),
        }
    }

    /// Returns the path of the file that the network in `dir` is read from, or of the index of its shards; `None` without weights.
    ///
    /// # Errors
    /// Several files, none of which has the usual name: which one is meant cannot be told.
    pub fn network_path(&self, dir: &str, stem: &str) -> Result<Option<String>, Error> {
        Ok(self.weights_file(dir, stem)?.map(|file| file.path))
    }

    /// Returns the file of the usual name of the network in `dir`, else the only one there.
    ///
    /// # Errors
    /// Several files, none of which has the usual name.
    pub(crate) fn weights_file(&self, dir: &str, stem: &str) -> Result<Option<NetworkFile>, Error> {
        match self.network_file(dir, stem) {
            Some(file) => Ok(Some(file)),
            None => self.lone_file(dir),
        }
    }

    fn network_files(&self, dir: &str, stem: &str) -> impl Iterator<Item = NetworkFile> {
        let prefix = format!("{dir}/{stem}.");
        self.paths().filter_map(move |path| {
            let (variant, is_index) = parse(path.strip_prefix(&prefix)?)?;
            Some(NetworkFile { path: path.to_owned(), is_index, is_gguf: false, variant: variant.to_owned() })
        })
    }
}

/// Parses the rest of a file's name after the stem and a dot, to its variant and whether it is an index. The libraries place
/// the variant of an index differently.
fn parse(rest: &str) -> Option<(&str, bool)> {
    let (variant, is_index) = match rest {
        "safetensors" => ("", false),
        "safetensors.index.json" => ("", true),
        _ => {
            let around = |before: &str, after: &str| {
                let variant = rest.strip_prefix(before)?.strip_suffix(after)?;
                (!variant.is_empty() && !variant.contains(['.', '/'])).then_some(variant)
            };
            let index = around("safetensors.index.", ".json")
                .or_else(|| around("safetensors.", ".index.json"))
                .or_else(|| around("", ".safetensors.index.json"));
            match index {
                Some(variant) => (variant, true),
                None => (around("", ".safetensors")?, false),
            }
        }
    };
    // A shard is read through its index.
    (!variant.contains("-of-")).then_some((variant, is_index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(paths: &[&str], variant: Option<&str>) -> Option<String> {
        let mut folder = Folder::default();
        paths.iter().for_each(|path| folder.insert(*path, Vec::new()));
        folder.set_variant(variant.map(str::to_owned));
        folder.network_file("vae", "m").map(|file| file.path)
    }

    #[test]
    fn the_file_without_a_variant_is_preferred_unless_one_is_set() {
        let all =
            ["vae/m.bf16.safetensors", "vae/m.fp16.safetensors", "vae/m.non_ema.safetensors", "vae/m.safetensors"];
        assert_eq!(file(&all, None).as_deref(), Some("vae/m.safetensors"));
        assert_eq!(file(&all, Some("non_ema")).as_deref(), Some("vae/m.non_ema.safetensors"));
        assert_eq!(file(&all, Some("fp8")).as_deref(), Some("vae/m.safetensors"), "a network without it");
        assert_eq!(file(&all[..3], None).as_deref(), Some("vae/m.fp16.safetensors"));
        assert_eq!(file(&all[2..3], None).as_deref(), Some("vae/m.non_ema.safetensors"));
    }

    #[test]
    fn an_index_is_found_in_every_spelling_and_no_shard_is_taken_for_a_file() {
        let shards = ["vae/m.fp16-00001-of-00002.safetensors", "vae/m-00001-of-00002.safetensors"];
        assert_eq!(file(&shards, None), None);
        for index in ["safetensors.index.fp16.json", "safetensors.fp16.index.json", "fp16.safetensors.index.json"] {
            let index = format!("vae/m.{index}");
            assert_eq!(file(&[shards[0], &index], None), Some(index.clone()));
            let plain = "vae/m.safetensors.index.json";
            assert_eq!(file(&[&index, plain], None).as_deref(), Some(plain));
            assert_eq!(file(&[&index, plain], Some("fp16")), Some(index));
        }
        for other in
            ["vae/m.bin", "vae/m.safetensors.bak", "vae/mx.safetensors", "vae/m.a.b.safetensors", "x/m.safetensors"]
        {
            assert_eq!(file(&[other], None), None, "{other}");
        }
    }
}
