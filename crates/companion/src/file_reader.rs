//! Readers of files on the disk, which read ranges or map whole files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use pixart_weights::{MappedBytes, MappedFile, ReadFuture, Reader};

use crate::mapped_files::MappedFiles;

/// Reader of the files below a folder; each is opened once. Matrices that are used as stored are memory-mapped, so that a
/// checkpoint must not be truncated while it is in use: the process would end with SIGBUS.
pub(crate) struct FileReader {
    root: PathBuf,
    open: RefCell<BTreeMap<String, Arc<File>>>,
    maps: RefCell<BTreeMap<String, Arc<Mmap>>>,
    /// Maps of several files, by the first one's path.
    sections: RefCell<BTreeMap<String, MappedFile>>,
}

impl FileReader {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), open: RefCell::default(), maps: RefCell::default(), sections: RefCell::default() }
    }

    fn file(&self, path: &str) -> std::io::Result<Arc<File>> {
        let mut open = self.open.borrow_mut();
        if let Some(file) = open.get(path) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(self.root.join(path))?);
        open.insert(path.to_owned(), Arc::clone(&file));
        prefetch(&file)?;
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
        // SAFETY: every bit pattern is a valid number; see `FileReader` for files that change.
        let map = Arc::new(unsafe { Mmap::map(&*self.file(path)?)? });
        self.maps.borrow_mut().insert(path.to_owned(), Arc::clone(&map));
        Ok(map)
    }
}

/// Prefetches a file while it is open, so that the disk reads while weights are checked and converted.
#[cfg(target_os = "linux")]
fn prefetch(file: &Arc<File>) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;

    /// Bytes of a prefetch request.
    const CHUNK_BYTES: i64 = 32 << 20;
    let (bytes, file) = (file.metadata()?.len() as i64, Arc::downgrade(file));
    std::thread::spawn(move || {
        for at in (0..bytes).step_by(CHUNK_BYTES as usize) {
            let Some(file) = file.upgrade() else { return };
            // SAFETY: the file is open. A failure has no effect.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), at, CHUNK_BYTES, libc::POSIX_FADV_WILLNEED) };
        }
    });
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn prefetch(_: &Arc<File>) -> std::io::Result<()> {
    Ok(())
}

/// Reader of one file, under whatever name it is asked for.
pub(crate) struct RenamedFile {
    reader: FileReader,
    name: PathBuf,
}

impl RenamedFile {
    pub(crate) fn new(path: &Path) -> Self {
        let (dir, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        Self { reader: FileReader::new(dir), name: name.into() }
    }

    fn name(&self) -> String {
        self.name.to_string_lossy().into_owned()
    }
}

impl Reader for RenamedFile {
    fn read(&self, _path: &str, range: Range<u64>) -> ReadFuture {
        self.reader.read(&self.name(), range)
    }

    fn mapped(&self, _path: &str, range: Range<u64>) -> Option<MappedBytes> {
        self.reader.mapped(&self.name(), range)
    }
}

impl Reader for FileReader {
    fn read(&self, path: &str, range: Range<u64>) -> ReadFuture {
        let unreadable =
            |error: std::io::Error| pixart_weights::Error::Unreadable { file: path.to_owned(), why: error.to_string() };
        Box::pin(std::future::ready(self.bytes(path, range).map_err(unreadable)))
    }

    fn mapped(&self, path: &str, range: Range<u64>) -> Option<MappedBytes> {
        // A file that cannot be mapped is read instead, which reports the error.
        let file = self.map(path).ok()?;
        let range = range.start as usize..range.end as usize;
        (range.end <= file.len()).then_some(MappedBytes { file, range })
    }

    fn mapped_together(&self, paths: &[String]) -> Option<MappedFile> {
        let first = paths.first()?;
        if let Some(mapped) = self.sections.borrow().get(first) {
            return Some(Arc::clone(mapped));
        }
        let files: Vec<Arc<File>> = paths.iter().map(|path| self.file(path)).collect::<Result<_, _>>().ok()?;
        let mapped: MappedFile = Arc::new(MappedFiles::map(&files).ok()??);
        self.sections.borrow_mut().insert(first.clone(), Arc::clone(&mapped));
        Some(mapped)
    }
}
