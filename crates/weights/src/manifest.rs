//! The list of what a packed checkpoint holds; `FORMAT.md` beside this crate describes it for other readers.
//!
//! A manifest comes from anywhere, so nothing in it is believed: [`Manifest::read`] refuses names that are paths, sizes that
//! do not follow from shapes, and tensors that overlap or lie outside their shards. Hashes are for who holds the bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Precision};

/// The name of its file.
pub const MANIFEST: &str = "manifest.json";
/// What [`Manifest::format`] says.
pub const FORMAT: &str = "pixart-pack";
/// The version of the format that is read and written.
pub const VERSION: u32 = 1;
/// Tensors begin at multiples of this.
pub const ALIGNMENT: u64 = 256;
/// More axes than any tensor here has.
const RANK_MAX: usize = 8;

/// Letters of [`Manifest::hash`].
const HASH_LETTERS: usize = 10;

/// A packed checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: String,
    pub version: u32,
    /// The pipeline's class by its `model_index.json`; empty where there is none.
    pub pipeline: String,
    /// Of the matrices of the blocks.
    pub precision: Precision,
    /// An SPDX expression, or what the source says; empty where it says nothing.
    pub license: String,
    /// Where the checkpoint is from, in words.
    pub source: String,
    /// The texts of its JSON files, by path.
    pub configs: BTreeMap<String, String>,
    pub sections: Vec<Section>,
}

/// What a stage needs: tensors in one string of bytes, which is cut into shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    pub name: String,
    /// The folder that the tensors were in: `transformer`. Empty for files that are kept whole.
    pub dir: String,
    /// Of every shard but the last.
    pub shard_bytes: u64,
    pub shards: Vec<Shard>,
    /// In the order of their offsets.
    pub tensors: Vec<Packing>,
}

/// A file of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    pub file: String,
    pub bytes: u64,
    /// Lowercase hexadecimal.
    pub sha256: String,
}

/// Where and how a tensor is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packing {
    pub name: String,
    #[serde(flatten)]
    pub form: Form,
    /// As the network knows it: a matrix is `[outputs, inputs]`, transposed or not.
    pub shape: Vec<usize>,
    /// From the section's first byte.
    pub offset: u64,
    pub bytes: u64,
}

/// The form of a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    pub dtype: Kept,
    /// Whether it is a matrix `[inputs, outputs]`, as [`Precision`] lays it out. The others are row major.
    pub transposed: bool,
}

/// How a number is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    F32,
    Bf16,
    F16,
    Q8,
    Q4,
    /// A byte of a file.
    U8,
}

impl Kept {
    /// The precision of a transposed matrix.
    pub(crate) fn precision(self) -> Option<Precision> {
        match self {
            Self::F32 => Some(Precision::F32),
            Self::Bf16 => Some(Precision::Bf16),
            Self::F16 => Some(Precision::F16),
            Self::Q8 => Some(Precision::Q8),
            Self::Q4 => Some(Precision::Q4),
            Self::U8 => None,
        }
    }
}

impl Form {
    /// As it is, row major.
    #[must_use]
    pub fn plain(dtype: Kept) -> Self {
        Self { dtype, transposed: false }
    }

    /// A matrix in `precision`, where that fits its shape `[outputs, inputs]`, or in full.
    #[must_use]
    pub fn matrix(precision: Precision, [outputs, inputs]: [usize; 2]) -> Self {
        let dtype = match precision {
            _ if !precision.fits(inputs, outputs) => Kept::F32,
            Precision::F32 => Kept::F32,
            Precision::Bf16 => Kept::Bf16,
            Precision::F16 => Kept::F16,
            Precision::Q8 => Kept::Q8,
            Precision::Q4 => Kept::Q4,
        };
        Self { dtype, transposed: true }
    }

    /// Bytes of a tensor of this shape; none where it cannot have this form.
    #[must_use]
    pub fn bytes(self, shape: &[usize]) -> Option<u64> {
        if shape.len() > RANK_MAX {
            return None;
        }
        let count = shape.iter().try_fold(1_u64, |count, side| count.checked_mul(*side as u64))?;
        if !self.transposed {
            let each = match self.dtype {
                Kept::F32 => 4,
                Kept::Bf16 | Kept::F16 => 2,
                Kept::U8 => 1,
                Kept::Q8 | Kept::Q4 => return None,
            };
            return count.checked_mul(each);
        }
        let (precision, [outputs, inputs]) = (self.dtype.precision()?, <[usize; 2]>::try_from(shape).ok()?);
        // What is counted in usize does not overflow where four bytes for each number do not.
        usize::try_from(count.checked_mul(4)?).ok()?;
        precision.fits(inputs, outputs).then(|| precision.bytes(inputs, outputs) as u64)
    }
}

impl Section {
    /// The name that the section's bytes have as one file of a folder.
    pub(crate) fn path(&self) -> String {
        format!("{}.section", self.name)
    }

    /// Bytes of all shards.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.saturating_add(shard.bytes))
    }
}

/// The file name of a shard.
#[must_use]
pub fn shard_name(section: &str, index: usize, sha256: &str) -> String {
    format!("{section}-{index:05}-{}.bin", sha256.get(..8).unwrap_or(sha256))
}

impl Manifest {
    /// The manifest in `bytes`.
    ///
    /// # Errors
    /// What is not a manifest of this version, or contradicts itself.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let bad = |why: String| Error::BadJson { file: MANIFEST.into(), why };
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        manifest.check().map_err(|why| Error::Corrupt { file: MANIFEST.into(), why })?;
        Ok(manifest)
    }

    /// As a file: the same manifest always gives the same bytes.
    ///
    /// # Panics
    /// Never: all of its keys are strings.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("its keys are strings");
        text.push(b'\n');
        text
    }

    /// A short name for what is in the shards: the first letters of the SHA-256 of their SHA-256s.
    #[must_use]
    pub fn hash(&self) -> String {
        let shards = self.sections.iter().flat_map(|section| &section.shards);
        let hash = shards.fold(Sha256::new(), |hash, shard| hash.chain_update(&shard.sha256)).finalize();
        format!("{hash:x}")[..HASH_LETTERS].to_owned()
    }

    /// Bytes of all shards.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.sections.iter().fold(0, |sum, section| sum.saturating_add(section.bytes()))
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT || self.version != VERSION {
            let Self { format, version, .. } = self;
            return Err(format!("it is of format `{format}` {version}, and `{FORMAT}` {VERSION} is read here"));
        }
        if let Some(path) = self.configs.keys().find(|path| !path.split('/').all(is_name)) {
            return Err(format!("`{path}` is no path inside a checkpoint"));
        }
        let mut names = BTreeSet::new();
        for section in &self.sections {
            let Section { name, dir, .. } = section;
            if !is_name(name) || !(dir.is_empty() || is_name(dir)) || !names.insert(name) {
                return Err(format!("a section is called `{name}`, of `{dir}`"));
            }
            section.check().map_err(|why| format!("section `{name}`: {why}"))?;
        }
        let mut files: BTreeMap<&str, &Shard> = BTreeMap::new();
        for shard in self.sections.iter().flat_map(|section| &section.shards) {
            if files.insert(&shard.file, shard).is_some_and(|other| other != shard) {
                return Err(format!("two shards are called `{}`", shard.file));
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
                return Err(format!("a shard is called `{file}`, with the hash `{sha256}`"));
            }
            let last = index + 1 == shards.len();
            if *bytes == 0 || *bytes > *shard_bytes || (!last && bytes != shard_bytes) {
                return Err(format!("`{file}` has {bytes} bytes, and shards have {shard_bytes}"));
            }
            total = total.checked_add(*bytes).ok_or("its shards have too many bytes to count")?;
        }
        let (mut end, mut names) = (0_u64, BTreeSet::new());
        for Packing { name, form, shape, offset, bytes } in tensors {
            if !names.insert(name) {
                return Err(format!("there are two tensors `{name}`"));
            }
            if form.bytes(shape) != Some(*bytes) {
                return Err(format!("`{name}`: a tensor of shape {shape:?} as {form:?} has not {bytes} bytes"));
            }
            if *offset < end || !offset.is_multiple_of(ALIGNMENT) {
                return Err(format!("`{name}` begins at byte {offset}, and {end} are taken"));
            }
            end = offset.checked_add(*bytes).ok_or_else(|| format!("`{name}` ends nowhere"))?;
            if end > total {
                return Err(format!("`{name}` ends at byte {end} of {total}"));
            }
        }
        Ok(())
    }
}

/// Whether `text` can stand between the slashes of a path, and names nothing above it.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && !text.starts_with('.') && text.len() <= 255 && text.bytes().all(plain)
}

#[cfg(test)]
mod tests;
