//! The files of one checkpoint, by name. A path is relative to the checkpoint and uses `/`: `text_encoder/config.json`.
//! Small files are held in memory; of large ones only their length is known, and the bytes that are asked for are read by
//! whoever brought them. It does no i/o and keeps no notion of directories beyond the text of its paths.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use crate::manifest::{Manifest, Section};
use crate::rows::Mapped;
use crate::{Adapter, Error};

/// Bytes on their way.
pub type Reading = Pin<Box<dyn Future<Output = Result<Vec<u8>, Error>>>>;

/// Reads files that are not in memory.
pub trait Reader {
    /// Begins to read the bytes `range` of the file `path`, all of them, and does not wait for them.
    fn read(&self, path: &str, range: Range<u64>) -> Reading;

    /// The same bytes where they are in memory as long as somebody holds them; None where they are not.
    fn mapped(&self, _path: &str, _range: Range<u64>) -> Option<Mapped> {
        None
    }
}

#[derive(Clone)]
enum File {
    Held(Arc<Vec<u8>>),
    Elsewhere {
        bytes: u64,
        reader: Rc<dyn Reader>,
    },
    /// Other files, one after the other, all but the last of one length.
    Joined {
        bytes: u64,
        part_bytes: u64,
        parts: Rc<[String]>,
    },
}

/// The files of one checkpoint. Cloning it, or taking a part of it, shares the bytes.
#[derive(Clone, Default)]
pub struct Folder {
    files: BTreeMap<String, File>,
    /// Of a packed checkpoint, whose tensors it lists.
    manifest: Option<Rc<Manifest>>,
    /// What is added to the weights below a directory as they are read.
    adapters: Vec<(String, Arc<Adapter>)>,
}

impl Folder {
    /// Adds a file, or replaces the one of that name.
    pub fn insert(&mut self, path: impl Into<String>, bytes: Vec<u8>) {
        self.files.insert(path.into(), File::Held(Arc::new(bytes)));
    }

    /// Adds a file of so many bytes that `reader` reads under the same name.
    pub fn insert_elsewhere(&mut self, path: impl Into<String>, bytes: u64, reader: &Rc<dyn Reader>) {
        self.files.insert(path.into(), File::Elsewhere { bytes, reader: Rc::clone(reader) });
    }

    /// Takes the checkpoint that `manifest` packs, whose shards `reader` reads, for the files of this folder.
    pub fn insert_packed(&mut self, manifest: Manifest, reader: &Rc<dyn Reader>) {
        for (path, text) in &manifest.configs {
            self.insert(path, text.clone().into_bytes());
        }
        for section in &manifest.sections {
            for shard in &section.shards {
                self.insert_elsewhere(&shard.file, shard.bytes, reader);
            }
            let parts = section.shards.iter().map(|shard| shard.file.clone()).collect();
            let (bytes, part_bytes) = (section.bytes(), section.shard_bytes);
            self.files.insert(section.path(), File::Joined { bytes, part_bytes, parts });
        }
        self.manifest = Some(Rc::new(manifest));
    }

    /// What packs this folder, where it is packed.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_deref()
    }

    /// The sections that pack the tensors of `dir`; empty where the folder is not packed.
    pub(crate) fn sections(&self, dir: &str) -> impl Iterator<Item = &Section> {
        let sections = self.manifest.iter().flat_map(|manifest| &manifest.sections);
        sections.filter(move |section| section.dir == dir)
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

    /// A file that is held in memory.
    ///
    /// # Errors
    /// None of that name, or one that has to be read.
    pub fn bytes(&self, path: &str) -> Result<&[u8], Error> {
        match self.file(path)? {
            File::Held(bytes) => Ok(bytes.as_slice()),
            _ => Err(Error::NotHeld { file: path.to_owned() }),
        }
    }

    /// A whole file, wherever it is. A packed folder keeps some as tensors.
    ///
    /// # Errors
    /// None of that name, or one that cannot be read.
    pub async fn whole(&self, path: &str) -> Result<Vec<u8>, Error> {
        let packed = self.sections("").find_map(|section| {
            let tensor = section.tensors.iter().find(|tensor| tensor.name == path)?;
            Some((section.path(), tensor.offset..tensor.offset + tensor.bytes))
        });
        let (path, range) = match packed {
            Some(packed) => packed,
            None => (path.to_owned(), 0..self.length(path)?),
        };
        self.read(&path, range).await
    }

    /// Bytes of a file.
    ///
    /// # Errors
    /// None of that name.
    pub fn length(&self, path: &str) -> Result<u64, Error> {
        Ok(match self.file(path)? {
            File::Held(bytes) => bytes.len() as u64,
            File::Elsewhere { bytes, .. } | File::Joined { bytes, .. } => *bytes,
        })
    }

    /// Begins to read the bytes `range` of a file.
    pub fn read(&self, path: &str, range: Range<u64>) -> Reading {
        let reading = self.begin(path, range.clone());
        let path = path.to_owned();
        Box::pin(async move {
            let bytes = reading?.await?;
            let (got, expected) = (bytes.len() as u64, range.end - range.start);
            if got == expected {
                return Ok(bytes);
            }
            Err(Error::Truncated { file: path, why: format!("{got} of the bytes {range:?} are there") })
        })
    }

    /// Bytes of a file that is in memory without having been read; None of others.
    pub(crate) fn mapped(&self, path: &str, range: Range<u64>) -> Option<Mapped> {
        let Ok(File::Elsewhere { bytes, reader }) = self.file(path) else { return None };
        (range.end <= *bytes).then(|| reader.mapped(path, range)).flatten()
    }

    fn begin(&self, path: &str, range: Range<u64>) -> Result<Reading, Error> {
        let length = self.length(path)?;
        if range.start > range.end || range.end > length {
            let why = format!("bytes {range:?} were asked for, and it has {length}");
            return Err(Error::Truncated { file: path.to_owned(), why });
        }
        Ok(match self.file(path)? {
            File::Held(bytes) => {
                let bytes = bytes[range.start as usize..range.end as usize].to_vec();
                Box::pin(std::future::ready(Ok(bytes)))
            }
            File::Elsewhere { reader, .. } => reader.read(path, range),
            File::Joined { part_bytes, parts, .. } => {
                let (first, last) = (range.start / part_bytes, range.end.div_ceil(*part_bytes));
                let pieces: Vec<Reading> = (first..last)
                    .map(|part| {
                        let base = part * part_bytes;
                        let end = (range.end - base).min(*part_bytes);
                        self.read(&parts[part as usize], range.start.saturating_sub(base)..end)
                    })
                    .collect();
                Box::pin(joined(pieces))
            }
        })
    }

    fn file(&self, path: &str) -> Result<&File, Error> {
        self.files.get(path).ok_or_else(|| Error::MissingFile { file: path.to_owned() })
    }

    /// Whether [`Folder::whole`] finds it.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        let is_packed = |section: &Section| section.tensors.iter().any(|tensor| tensor.name == path);
        self.files.contains_key(path) || self.sections("").any(is_packed)
    }

    /// Every path, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// The files whose path starts with `prefix`, named by the rest of it: `under("vae/")` of `vae/config.json` holds
    /// `config.json`. It has those in memory alone.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Folder {
        let held = |(path, file): (&String, &File)| match file {
            File::Held(_) => Some((path.strip_prefix(prefix)?.to_owned(), file.clone())),
            _ => None,
        };
        let part =
            |(dir, adapter): &(String, Arc<Adapter>)| Some((dir.strip_prefix(prefix)?.to_owned(), Arc::clone(adapter)));
        Folder {
            files: self.files.iter().filter_map(held).collect(),
            manifest: None,
            adapters: self.adapters.iter().filter_map(part).collect(),
        }
    }
}

async fn joined(pieces: Vec<Reading>) -> Result<Vec<u8>, Error> {
    let mut pieces = pieces.into_iter();
    let mut bytes = match pieces.next() {
        Some(first) => first.await?,
        None => Vec::new(),
    };
    for piece in pieces {
        bytes.extend(piece.await?);
    }
    Ok(bytes)
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_map().entries(self.files.keys().map(|path| (path, self.length(path).ok()))).finish()
    }
}

#[cfg(test)]
mod tests;
