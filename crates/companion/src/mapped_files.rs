//! Several files in one range of addresses: the shards of a packed checkpoint, whose tensors do not end where a shard does.

use std::fs::File;
use std::io;
use std::sync::Arc;

/// Files that are memory-mapped one after the other. They must not be truncated meanwhile, see
/// [`FileReader`](crate::file_reader::FileReader).
#[cfg(unix)]
pub(crate) struct MappedFiles {
    start: *mut libc::c_void,
    bytes: usize,
}

#[cfg(unix)]
impl MappedFiles {
    /// Maps `files`. Returns none where one that is followed by another does not end with a page.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(crate) fn map(files: &[Arc<File>]) -> io::Result<Option<Self>> {
        use std::os::fd::AsRawFd;

        let lengths: Vec<usize> =
            files.iter().map(|file| Ok(file.metadata()?.len() as usize)).collect::<io::Result<_>>()?;
        // SAFETY: the call reads a constant of the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as usize;
        let bytes = lengths.iter().sum();
        if bytes == 0 || lengths.iter().rev().skip(1).any(|length| !length.is_multiple_of(page)) {
            return Ok(None);
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
        // SAFETY: a new range of addresses is reserved, which nothing else uses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapped = Self { start, bytes };
        let mut at = 0;
        for (file, length) in files.iter().zip(lengths).filter(|(_, length)| *length > 0) {
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            // SAFETY: the lengths add up to the reserved range, so that the file takes addresses of this range alone.
            let part = unsafe { libc::mmap(start.byte_add(at), length, libc::PROT_READ, flags, file.as_raw_fd(), 0) };
            if part == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            at += length;
        }
        Ok(Some(mapped))
    }
}

#[cfg(unix)]
impl AsRef<[u8]> for MappedFiles {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: all bytes are mapped readable, and stay so until the drop.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.bytes) }
    }
}

#[cfg(unix)]
impl Drop for MappedFiles {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map`, and no slice of it is left. A failure leaves it mapped.
        unsafe { libc::munmap(self.start, self.bytes) };
    }
}

// SAFETY: the bytes are read alone.
#[cfg(unix)]
unsafe impl Send for MappedFiles {}
// SAFETY: as above.
#[cfg(unix)]
unsafe impl Sync for MappedFiles {}

/// Elsewhere files are read.
#[cfg(not(unix))]
pub(crate) struct MappedFiles;

#[cfg(not(unix))]
impl MappedFiles {
    pub(crate) fn map(_: &[Arc<File>]) -> io::Result<Option<Self>> {
        Ok(None)
    }
}

#[cfg(not(unix))]
impl AsRef<[u8]> for MappedFiles {
    fn as_ref(&self) -> &[u8] {
        &[]
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn files_that_end_with_a_page_are_one_range() {
        let dir = std::env::temp_dir().join(format!("pixart-mapped-files-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let file = |name: &str, bytes: Vec<u8>| {
            let path = dir.join(name);
            std::fs::write(&path, bytes).expect("it is written");
            Arc::new(File::open(path).expect("it is there"))
        };
        // A multiple of every system's page.
        let (whole, rest) = (vec![1; 1 << 16], vec![2; 100]);
        let files = [file("a", whole.clone()), file("b", rest.clone())];
        let mapped = MappedFiles::map(&files).expect("it is mapped").expect("the first ends with a page");
        assert!(mapped.as_ref() == [whole, rest].concat());
        let reversed = [Arc::clone(&files[1]), Arc::clone(&files[0])];
        assert!(MappedFiles::map(&reversed).expect("no error").is_none(), "a hole would be between them");
        drop(mapped);
        std::fs::remove_dir_all(dir).expect("it is removed");
    }
}
