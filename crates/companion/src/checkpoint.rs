//! Finds the files of a checkpoint folder. It knows which files a diffusers folder or a packed one is made of and nothing of
//! what they hold; of pickles (`.bin`, `.pth`) it reads none but the one that a user names. Weights are left on the disk
//! until they are asked for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use memmap2::Mmap;
use pixart_protocol::{Fault, FaultCode};
use pixart_weights::manifest::MANIFEST;
use pixart_weights::{Folder, LoraAdapter, Manifest, MappedBytes, ReadFuture, Reader, original};

use crate::Error;

/// Extensions of the files that a checkpoint is made of. `model` is SentencePiece's.
const EXTENSIONS: [&str; 3] = ["json", "model", "safetensors"];
/// Folders are read this deep: `pipeline/text_encoder/model.safetensors` is the longest path in use.
const DEPTH_MAX: usize = 3;
/// What the files of a transformer's weights begin with.
const WEIGHTS: &str = "transformer/diffusion_pytorch_model";
const MODEL_INDEX: &str = "model_index.json";

/// The files of the diffusers folder `dir`, without the sub-folders named in `unused`, or of the packed one.
///
/// # Errors
/// A folder that is neither, or cannot be read.
pub fn read(dir: &Path, unused: &[&str]) -> Result<Folder, Error> {
    if dir.join(MANIFEST).is_file() {
        return packed(dir);
    }
    if !dir.join(MODEL_INDEX).is_file() {
        return Err(Error::NotACheckpoint { path: dir.to_owned(), missing: MODEL_INDEX });
    }
    networks(dir, unused)
}

/// [`read`] of a folder that need not be a whole checkpoint.
///
/// # Errors
/// A folder that cannot be read.
pub fn part(dir: &Path, unused: &[&str]) -> Result<Folder, Error> {
    if dir.join(MANIFEST).is_file() { packed(dir) } else { networks(dir, unused) }
}

/// [`part`] of a folder that is not packed.
///
/// # Errors
/// A folder that cannot be read.
pub fn networks(dir: &Path, unused: &[&str]) -> Result<Folder, Error> {
    let reader: Rc<dyn Reader> = Rc::new(OnDisk::new(dir));
    let mut folder = Folder::default();
    walk(dir, "", unused, &mut |name, path| {
        if name.ends_with(".safetensors") {
            let bytes = fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?.len();
            folder.insert_with_reader(name, bytes, &reader);
        } else {
            folder.insert(name, bytes_of(path)?);
        }
        Ok(())
    })?;
    Ok(folder)
}

/// The packed checkpoint in `dir`.
fn packed(dir: &Path) -> Result<Folder, Error> {
    let manifest = Manifest::read(&bytes_of(&dir.join(MANIFEST))?).map_err(pixart_model::Error::Weights)?;
    // What a manifest says of its shards is believed only where they are so long.
    for shard in manifest.sections.iter().flat_map(|section| &section.shards) {
        let path = dir.join(&shard.file);
        let bytes = fs::metadata(&path).map_err(|source| Error::Read { path, source })?.len();
        if bytes != shard.bytes {
            let why = format!("{bytes} of {} bytes are there", shard.bytes);
            let truncated = pixart_weights::Error::Truncated { file: shard.file.clone(), why };
            return Err(pixart_model::Error::Weights(truncated).into());
        }
    }
    let reader: Rc<dyn Reader> = Rc::new(OnDisk::new(dir));
    let mut folder = Folder::default();
    folder.insert_packed(manifest, &reader);
    Ok(folder)
}

/// Adds the files under `dir` to `folder`, held in memory, each named `prefix` and its path below `dir`.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn read_into(folder: &mut Folder, dir: &Path, prefix: &str, unused: &[&str]) -> Result<(), Error> {
    walk(dir, prefix, unused, &mut |name, path| {
        folder.insert(name, bytes_of(path)?);
        Ok(())
    })
}

fn walk(
    dir: &Path,
    prefix: &str,
    unused: &[&str],
    found: &mut impl FnMut(String, &Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let unreadable = |source| Error::Read { path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue; // No file of a checkpoint has a name outside UTF-8.
        };
        let name_in_folder = format!("{prefix}{name}");
        if path.is_dir() {
            if !unused.contains(&name) && name_in_folder.split('/').count() < DEPTH_MAX {
                walk(&path, &format!("{name_in_folder}/"), unused, found)?;
            }
        } else if path.extension().is_some_and(|found| EXTENSIONS.iter().any(|known| found == *known)) {
            found(name_in_folder, &path)?;
        }
    }
    Ok(())
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Reads the files below a folder, each opened once. Matrices that a network can use as they are stay in their file, which is
/// mapped into memory for them: whoever truncates a checkpoint while it is in use ends this program.
struct OnDisk {
    root: PathBuf,
    open: RefCell<BTreeMap<String, Arc<File>>>,
    maps: RefCell<BTreeMap<String, Arc<Mmap>>>,
}

impl OnDisk {
    fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), open: RefCell::default(), maps: RefCell::default() }
    }

    fn file(&self, path: &str) -> std::io::Result<Arc<File>> {
        let mut open = self.open.borrow_mut();
        if let Some(file) = open.get(path) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(self.root.join(path))?);
        open.insert(path.to_owned(), Arc::clone(&file));
        read_ahead(&file)?;
        Ok(file)
    }

    fn bytes(&self, path: &str, range: Range<u64>) -> std::io::Result<Vec<u8>> {
        let mut file = &*self.file(path)?;
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
        file.take(range.end - range.start).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn map(&self, path: &str) -> std::io::Result<Arc<Mmap>> {
        if let Some(map) = self.maps.borrow().get(path) {
            return Ok(Arc::clone(map));
        }
        // SAFETY: the bytes are plain numbers, of which every pattern is one; see `OnDisk` for files that change.
        let map = Arc::new(unsafe { Mmap::map(&*self.file(path)?)? });
        self.maps.borrow_mut().insert(path.to_owned(), Arc::clone(&map));
        Ok(map)
    }
}

/// Has the system read a file as long as somebody uses it: the disk works while weights are checked and converted.
#[cfg(target_os = "linux")]
fn read_ahead(file: &Arc<File>) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;

    /// Bytes that the disk is asked for at a time.
    const AHEAD: i64 = 32 << 20;
    let (bytes, file) = (file.metadata()?.len() as i64, Arc::downgrade(file));
    std::thread::spawn(move || {
        for at in (0..bytes).step_by(AHEAD as usize) {
            let Some(file) = file.upgrade() else { return };
            // SAFETY: the file is open. Advice that is not taken costs time alone.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), at, AHEAD, libc::POSIX_FADV_WILLNEED) };
        }
    });
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn read_ahead(_: &Arc<File>) -> std::io::Result<()> {
    Ok(())
}

impl Reader for OnDisk {
    fn read(&self, path: &str, range: Range<u64>) -> ReadFuture {
        let unreadable =
            |error: std::io::Error| pixart_weights::Error::Unreadable { file: path.to_owned(), why: error.to_string() };
        Box::pin(std::future::ready(self.bytes(path, range).map_err(unreadable)))
    }

    fn mapped(&self, path: &str, range: Range<u64>) -> Option<MappedBytes> {
        // What cannot be mapped is reported by whoever reads it then.
        let file = self.map(path).ok()?;
        let range = range.start as usize..range.end as usize;
        (range.end <= file.len()).then_some(MappedBytes { file, range })
    }
}

/// Puts the transformer of a `.pth` file of PixArt's own in the place of the folder's.
///
/// # Errors
/// A file that is none of PixArt's, or a packed folder, whose transformer has no place to be taken.
pub fn take_transformer(folder: &mut Folder, file: &Path) -> Result<(), Error> {
    if folder.manifest().is_some() {
        let remedy = "name the diffusers folder that was packed, or pack the file";
        return Err(Fault::new(FaultCode::BadRequest, "a packed checkpoint takes no other transformer", remedy).into());
    }
    let weights = original::transformer(&file.display().to_string(), &bytes_of(file)?);
    let weights = weights.map_err(pixart_model::Error::Weights)?;
    let old: Vec<String> = folder.paths().filter(|path| path.starts_with(WEIGHTS)).map(str::to_owned).collect();
    for path in &old {
        folder.remove(path);
    }
    folder.insert(format!("{WEIGHTS}.safetensors"), weights);
    Ok(())
}

/// The PEFT adapter in the folder `dir`.
pub fn adapter(dir: &Path, scale: f64) -> Result<LoraAdapter, Error> {
    let mut folder = Folder::default();
    read_into(&mut folder, dir, "", &[])?;
    Ok(folder.read_lora(scale).map_err(pixart_model::Error::Weights)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_model_index_is_refused_by_name() {
        let error = read(Path::new(env!("CARGO_MANIFEST_DIR")), &[]).expect_err("a crate is no checkpoint");
        assert!(error.to_string().contains("no file `model_index.json`"), "{error}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(read(Path::new("no/such/folder"), &[]).is_err());
    }

    #[test]
    fn sub_folders_are_read_with_their_names_and_unused_ones_are_not() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web/models/scenes");
        let all = read(&dir, &[]).expect("the embedded checkpoint");
        assert!(all.contains("vae/config.json") && all.contains("text_encoder/config.json"));
        let part = read(&dir, &["text_encoder"]).expect("the embedded checkpoint");
        assert!(part.contains("vae/config.json") && !part.contains("text_encoder/config.json"));
    }
}
