//! The manifest of a packed checkpoint. `FORMAT.md` in this crate specifies the format for other readers.
//!
//! Manifests are untrusted input. [`Manifest::read`] refuses names that leave the checkpoint's folder, sizes that do not
//! follow from shapes, and tensors that overlap or lie outside their shards. The hashes of shards are verified by the caller,
//! who holds the bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, TensorLayout, WeightFormat};

/// The file name of a manifest.
pub const MANIFEST: &str = "manifest.json";
/// The value of [`Manifest::format`].
pub const FORMAT: &str = "pixart-pack";
/// The version of the format that is written. Version 1, which calls `weight_format` `precision`, is read too.
pub const VERSION: u32 = 2;
/// The alignment of tensors in a section, in bytes.
pub const ALIGNMENT: u64 = 256;
/// Hexadecimal digits of [`Manifest::hash`].
const HASH_DIGITS: usize = 10;

/// The description of a packed checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: String,
    pub version: u32,
    /// The pipeline class that `model_index.json` names; empty without that file.
    pub pipeline: String,
    /// The format of the matrices of the networks' blocks.
    #[serde(alias = "precision")]
    pub weight_format: WeightFormat,
    /// An SPDX expression, or the source's own words; empty if unknown.
    pub license: String,
    /// The origin of the checkpoint, as text.
    pub source: String,
    /// The contents of the checkpoint's JSON files, by path.
    pub configs: BTreeMap<String, String>,
    pub sections: Vec<Section>,
}

/// The tensors that one stage of the pipeline needs, as one sequence of bytes that is cut into shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    pub name: String,
    /// The folder of the network, such as `transformer`. Empty for files that are stored whole.
    pub dir: String,
    /// The size of every shard but the last.
    pub shard_bytes: u64,
    pub shards: Vec<Shard>,
    /// In the order of their offsets.
    pub tensors: Vec<PackedTensor>,
}

/// A file that holds a part of a section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    pub file: String,
    pub bytes: u64,
    /// Lowercase hexadecimal.
    pub sha256: String,
}

/// The place and layout of one tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackedTensor {
    pub name: String,
    #[serde(flatten)]
    pub layout: TensorLayout,
    /// The shape in the diffusers file: `[outputs, inputs]` for a matrix, transposed or not.
    pub shape: Vec<usize>,
    /// Counted from the section's first byte.
    pub offset: u64,
    pub bytes: u64,
}

impl Section {
    /// Returns the path under which a [`Folder`](crate::Folder) lists the section's bytes as one file.
    pub(crate) fn path(&self) -> String {
        format!("{}.section", self.name)
    }

    /// Returns the bytes of all shards.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.saturating_add(shard.bytes))
    }
}

/// Returns the file name of a shard.
#[must_use]
pub fn shard_name(section: &str, index: usize, sha256: &str) -> String {
    format!("{section}-{index:05}-{}.bin", sha256.get(..8).unwrap_or(sha256))
}

impl Manifest {
    /// Parses and checks a manifest. One of an older version is converted to [`VERSION`].
    ///
    /// # Errors
    /// Bytes that are not a manifest of a supported version, or a manifest that contradicts itself.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let bad = |why: String| Error::BadJson { file: MANIFEST.into(), why };
        let mut manifest: Self = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        manifest.check().map_err(|why| Error::Corrupt { file: MANIFEST.into(), why })?;
        manifest.version = VERSION;
        Ok(manifest)
    }

    /// Serializes the manifest to the bytes of its file. Equal manifests give equal bytes.
    ///
    /// # Panics
    /// Never: all keys of the JSON are strings.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("all keys are strings");
        text.push(b'\n');
        text
    }

    /// Returns a short identifier of the contents: the first digits of the SHA-256 over the hashes of all shards.
    #[must_use]
    pub fn hash(&self) -> String {
        let shards = self.sections.iter().flat_map(|section| &section.shards);
        let hash = shards.fold(Sha256::new(), |hash, shard| hash.chain_update(&shard.sha256)).finalize();
        format!("{hash:x}")[..HASH_DIGITS].to_owned()
    }

    /// Returns the bytes of all shards of all sections.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sections.iter().fold(0, |sum, section| sum.saturating_add(section.bytes()))
    }

    fn check(&self) -> Result<(), String> {
        let Self { format, version, .. } = self;
        if format != FORMAT || !(1..=VERSION).contains(version) {
            return Err(format!(
                "the format is `{format}` version {version}; supported are versions 1 to {VERSION} of `{FORMAT}`"
            ));
        }
        if let Some(path) = self.configs.keys().find(|path| !path.split('/').all(is_name)) {
            return Err(format!("`{path}` is not a path inside a checkpoint"));
        }
        let mut names = BTreeSet::new();
        for section in &self.sections {
            let Section { name, dir, .. } = section;
            if !is_name(name) || !(dir.is_empty() || is_name(dir)) || !names.insert(name) {
                return Err(format!(
                    "the section `{name}` of folder `{dir}` has a name that is not allowed or is repeated"
                ));
            }
            section.check().map_err(|why| format!("section `{name}`: {why}"))?;
        }
        let mut files: BTreeMap<&str, &Shard> = BTreeMap::new();
        for shard in self.sections.iter().flat_map(|section| &section.shards) {
            if files.insert(&shard.file, shard).is_some_and(|other| other != shard) {
                return Err(format!("two different shards are named `{}`", shard.file));
            }
        }
        Ok(())
    }
}

impl Section {
    fn check(&self) -> Result<(), String> {
        let Self { shard_bytes, shards, tensors, .. } = self;
        let mut total = 0_u64;
        for (index, Shard { file, bytes, sha256 }) in shards.iter().enumerate() {
            let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if !is_name(file) || sha256.len() != 64 || !sha256.bytes().all(hex) {
                return Err(format!(
                    "the shard `{file}` with the hash `{sha256}` has a name or hash that is not allowed"
                ));
            }
            let last = index + 1 == shards.len();
            if *bytes == 0 || *bytes > *shard_bytes || (!last && bytes != shard_bytes) {
                return Err(format!("`{file}` has {bytes} bytes, and shards of this section have {shard_bytes}"));
            }
            total = total.checked_add(*bytes).ok_or("the sizes of its shards overflow")?;
        }
        let (mut end, mut names) = (0_u64, BTreeSet::new());
        for PackedTensor { name, layout, shape, offset, bytes } in tensors {
            if !names.insert(name) {
                return Err(format!("two tensors are named `{name}`"));
            }
            if layout.bytes(shape) != Some(*bytes) {
                return Err(format!(
                    "`{name}`: a tensor of shape {shape:?} stored as {layout} does not have {bytes} bytes"
                ));
            }
            if *offset < end || !offset.is_multiple_of(ALIGNMENT) {
                return Err(format!(
                    "`{name}` begins at byte {offset}, not at a multiple of {ALIGNMENT} after byte {end}"
                ));
            }
            end = offset.checked_add(*bytes).ok_or_else(|| format!("the end of `{name}` overflows"))?;
            if end > total {
                return Err(format!("`{name}` ends at byte {end}, and its shards have {total}"));
            }
        }
        Ok(())
    }
}

/// Returns whether `text` is safe as one component of a path.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && !text.starts_with('.') && text.len() <= 255 && text.bytes().all(plain)
}

#[cfg(test)]
mod tests;
