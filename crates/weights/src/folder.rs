//! The files of one checkpoint, by path. A path is relative to the checkpoint and uses `/`: `text_encoder/config.json`.
//!
//! Small files are in memory. Of large files only the length is known; requested ranges are read by the [`Reader`] they were
//! inserted with. A folder does no I/O itself and knows directories only as text of its paths.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use crate::manifest::{Manifest, Section};
use crate::{Error, LoraAdapter, MappedBytes, MappedFile, Tensors};

/// The folder of the network whose tensors may have PixArt's own names.
pub(crate) const TRANSFORMER: &str = "transformer";
/// The folder of the network whose tensors may have llama.cpp's names.
pub(crate) const TEXT_ENCODER: &str = "text_encoder";

/// A pending read.
pub type ReadFuture = Pin<Box<dyn Future<Output = Result<Vec<u8>, Error>>>>;

/// A source of files that are not in memory.
pub trait Reader {
    /// Starts to read the bytes `range` of the file `path`, without waiting for them.
    fn read(&self, path: &str, range: Range<u64>) -> ReadFuture;

    /// Returns the same bytes as a memory map; `None` if the source cannot map files.
    fn mapped(&self, _path: &str, _range: Range<u64>) -> Option<MappedBytes> {
        None
    }

    /// Returns files one after the other as one memory map; `None` if the source cannot map them so.
    fn mapped_together(&self, _paths: &[String]) -> Option<MappedFile> {
        None
    }
}

#[derive(Clone)]
enum FileSource {
    Memory(Arc<Vec<u8>>),
    Reader {
        bytes: u64,
        reader: Rc<dyn Reader>,
    },
    /// The concatenation of other files, all but the last of one length.
    Concatenated {
        bytes: u64,
        part_bytes: u64,
        parts: Rc<[String]>,
    },
}

/// The files of one checkpoint. Clones and sub-folders share the bytes.
///
/// ```
/// use pixart_weights::Folder;
///
/// let mut folder = Folder::default();
/// folder.insert("vae/config.json", b"{}".to_vec());
/// assert_eq!(folder.bytes("vae/config.json")?, b"{}");
/// assert_eq!(folder.under("vae/").paths().collect::<Vec<_>>(), ["config.json"]);
/// # Ok::<(), pixart_weights::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Folder {
    files: BTreeMap<String, FileSource>,
    /// The manifest, if the checkpoint is packed.
    manifest: Option<Rc<Manifest>>,
    /// LoRA adapters with the directory of the network that each is merged into.
    lora_adapters: Vec<(String, Arc<LoraAdapter>)>,
    /// diffusers' `variant` of the weight files to read.
    pub(crate) variant: Option<String>,
    headers_only: bool,
}

impl Folder {
    /// Inserts a file that is in memory; replaces a file of the same path.
    pub fn insert(&mut self, path: impl Into<String>, bytes: Vec<u8>) {
        self.files.insert(path.into(), FileSource::Memory(Arc::new(bytes)));
    }

    /// Inserts a file of a known length that `reader` reads under the same path.
    pub fn insert_with_reader(&mut self, path: impl Into<String>, bytes: u64, reader: &Rc<dyn Reader>) {
        self.files.insert(path.into(), FileSource::Reader { bytes, reader: Rc::clone(reader) });
    }

    /// Inserts the files of a packed checkpoint, whose shards `reader` reads.
    pub fn insert_packed(&mut self, manifest: Manifest, reader: &Rc<dyn Reader>) {
        for (path, text) in &manifest.configs {
            self.insert(path, text.clone().into_bytes());
        }
        for section in &manifest.sections {
            for shard in &section.shards {
                self.insert_with_reader(&shard.file, shard.bytes, reader);
            }
            let parts = section.shards.iter().map(|shard| shard.file.clone()).collect();
            let (bytes, part_bytes) = (section.bytes(), section.shard_bytes);
            self.files.insert(section.path(), FileSource::Concatenated { bytes, part_bytes, parts });
        }
        self.manifest = Some(Rc::new(manifest));
    }

    /// Returns the manifest of a packed checkpoint.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_deref()
    }

    /// Returns the sections that hold the tensors of `dir`; none if the checkpoint is not packed.
    pub(crate) fn sections(&self, dir: &str) -> impl Iterator<Item = &Section> {
        let sections = self.manifest.iter().flat_map(|manifest| &manifest.sections);
        sections.filter(move |section| section.dir == dir)
    }

    /// Removes a file and returns whether there was one. Its bytes are freed once no other folder shares them.
    pub fn remove(&mut self, path: &str) -> bool {
        self.files.remove(path).is_some()
    }

    /// Returns the folder for a check: a network that is loaded from it reads the headers of its files alone, compares names,
    /// shapes and dtypes, and has no weights.
    #[must_use]
    pub fn headers_only(&self) -> Self {
        Self { headers_only: true, ..self.clone() }
    }

    /// Returns whether the folder is for a check.
    #[must_use]
    pub fn is_headers_only(&self) -> bool {
        self.headers_only
    }

    /// Merges `adapter` into the weights of the transformer in `dir` whenever they are read, after adapters inserted before. What it
    /// changes of the text encoder is merged into that of the same checkpoint, which is in `text_encoder` beside `transformer`.
    pub fn insert_lora(&mut self, dir: &str, adapter: LoraAdapter) {
        let [transformer, text_encoder] = adapter.split();
        for (dir, adapter) in [(dir.to_owned(), transformer), (dir.replace(TRANSFORMER, TEXT_ENCODER), text_encoder)] {
            if !adapter.is_empty() {
                self.lora_adapters.push((dir, Arc::new(adapter)));
            }
        }
    }

    /// Reads a LoRA adapter: PEFT's two files, diffusers' one, or the only safetensors file of the folder. `scale` is the factor of
    /// the update.
    ///
    /// # Errors
    /// As [`LoraAdapter::new`], or a file that is missing or not in memory.
    pub fn read_lora(&self, scale: f64) -> Result<LoraAdapter, Error> {
        let known = LoraAdapter::FILES.into_iter().find(|file| self.contains(file));
        let mut others = self.paths().filter(|path| path.ends_with(".safetensors") && !path.contains('/'));
        let file = match (known, others.next(), others.next()) {
            (Some(known), ..) => known,
            (None, Some(only), None) => only,
            _ => return Err(Error::MissingFile { file: LoraAdapter::FILES[0].to_owned() }),
        };
        let config = if self.contains(LoraAdapter::CONFIG) { Some(self.bytes(LoraAdapter::CONFIG)?) } else { None };
        if config.is_none() && file == LoraAdapter::FILES[0] {
            return Err(Error::MissingFile { file: LoraAdapter::CONFIG.to_owned() });
        }
        LoraAdapter::new(config, file, &self.tensors(file)?, scale)
    }

    /// Returns the LoRA adapters of the network in `dir`.
    pub(crate) fn lora_adapters(&self, dir: &str) -> Vec<Arc<LoraAdapter>> {
        let of_dir = self.lora_adapters.iter().filter(|(adapted, _)| adapted == dir);
        of_dir.map(|(_, adapter)| Arc::clone(adapter)).collect()
    }

    /// Returns the bytes of a file that is in memory.
    ///
    /// # Errors
    /// A file that is missing or not in memory.
    pub fn bytes(&self, path: &str) -> Result<&[u8], Error> {
        match self.file(path)? {
            FileSource::Memory(bytes) => Ok(bytes.as_slice()),
            _ => Err(Error::NotInMemory { file: path.to_owned() }),
        }
    }

    /// Parses a safetensors file that is in memory.
    ///
    /// # Errors
    /// A file that is missing, not in memory, or damaged.
    pub fn tensors(&self, path: &str) -> Result<Tensors<'_>, Error> {
        Tensors::parse(path, self.bytes(path)?)
    }

    /// Reads a whole file. A packed checkpoint stores some files as tensors of its sections.
    ///
    /// # Errors
    /// A file that is missing or cannot be read.
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

    /// Returns the length of a file in bytes.
    ///
    /// # Errors
    /// A file that is missing.
    pub fn length(&self, path: &str) -> Result<u64, Error> {
        Ok(match self.file(path)? {
            FileSource::Memory(bytes) => bytes.len() as u64,
            FileSource::Reader { bytes, .. } | FileSource::Concatenated { bytes, .. } => *bytes,
        })
    }

    /// Starts to read the bytes `range` of a file.
    pub fn read(&self, path: &str, range: Range<u64>) -> ReadFuture {
        let started = self.start_read(path, range.clone());
        let path = path.to_owned();
        Box::pin(async move {
            let bytes = started?.await?;
            let (got, expected) = (bytes.len() as u64, range.end - range.start);
            if got == expected {
                return Ok(bytes);
            }
            Err(Error::Truncated {
                file: path,
                why: format!("of the bytes {} to {}, only {got} are there", range.start, range.end),
            })
        })
    }

    /// Returns a range of a file as a memory map; `None` if its reader cannot map it.
    pub(crate) fn mapped(&self, path: &str, range: Range<u64>) -> Option<MappedBytes> {
        match self.file(path).ok()? {
            FileSource::Reader { bytes, reader } if range.end <= *bytes => reader.mapped(path, range),
            FileSource::Concatenated { bytes, parts, .. } if range.end <= *bytes => {
                let FileSource::Reader { reader, .. } = self.file(parts.first()?).ok()? else { return None };
                let file = reader.mapped_together(parts)?;
                let range = range.start as usize..range.end as usize;
                (range.end <= (*file).as_ref().len()).then_some(MappedBytes { file, range })
            }
            _ => None,
        }
    }

    fn start_read(&self, path: &str, range: Range<u64>) -> Result<ReadFuture, Error> {
        let length = self.length(path)?;
        if range.start > range.end || range.end > length {
            let Range { start, end } = range;
            let why = format!("bytes {start} to {end} were requested, and the file has {length}");
            return Err(Error::Truncated { file: path.to_owned(), why });
        }
        Ok(match self.file(path)? {
            FileSource::Memory(bytes) => {
                let bytes = bytes[range.start as usize..range.end as usize].to_vec();
                Box::pin(std::future::ready(Ok(bytes)))
            }
            FileSource::Reader { reader, .. } => reader.read(path, range),
            FileSource::Concatenated { part_bytes, parts, .. } => {
                let (first, last) = (range.start / part_bytes, range.end.div_ceil(*part_bytes));
                let pieces: Vec<ReadFuture> = (first..last)
                    .map(|part| {
                        let base = part * part_bytes;
                        let end = (range.end - base).min(*part_bytes);
                        self.read(&parts[part as usize], range.start.saturating_sub(base)..end)
                    })
                    .collect();
                Box::pin(concatenate(pieces))
            }
        })
    }

    fn file(&self, path: &str) -> Result<&FileSource, Error> {
        self.files.get(path).ok_or_else(|| Error::MissingFile { file: path.to_owned() })
    }

    /// Returns whether [`Folder::whole`] finds the file.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        let is_packed = |section: &Section| section.tensors.iter().any(|tensor| tensor.name == path);
        self.files.contains_key(path) || self.sections("").any(is_packed)
    }

    /// Returns all paths, in alphabetical order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Returns the files in memory whose path starts with `prefix`, without the prefix: `under("vae/")` has `config.json` for
    /// `vae/config.json`.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Folder {
        let in_memory = |(path, file): (&String, &FileSource)| match file {
            FileSource::Memory(_) => Some((path.strip_prefix(prefix)?.to_owned(), file.clone())),
            _ => None,
        };
        let part = |(dir, adapter): &(String, Arc<LoraAdapter>)| {
            Some((dir.strip_prefix(prefix)?.to_owned(), Arc::clone(adapter)))
        };
        Folder {
            files: self.files.iter().filter_map(in_memory).collect(),
            manifest: None,
            variant: self.variant.clone(),
            headers_only: self.headers_only,
            lora_adapters: self.lora_adapters.iter().filter_map(part).collect(),
        }
    }
}

async fn concatenate(pieces: Vec<ReadFuture>) -> Result<Vec<u8>, Error> {
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
