//! Headers, bodies and places of the hub's files.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use ureq::http::{HeaderMap, Response};

use crate::Error;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Headers about a file.
#[derive(Debug, Default)]
pub(super) struct FileHeaders {
    pub(super) etag: Option<String>,
    pub(super) bytes: Option<u64>,
    /// The hub itself said it, of a file on another host.
    pub(super) is_linked: bool,
}

impl FileHeaders {
    pub(super) fn read(&mut self, headers: &HeaderMap, is_file: bool) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let is_name =
            |etag: &&str| !etag.is_empty() && etag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let etag = |text: &str| {
            Some(text.trim_start_matches("W/").trim_matches('"')).filter(|etag| is_name(etag)).map(str::to_owned)
        };
        if let Some(linked) = text("x-linked-etag").and_then(etag) {
            self.etag = Some(linked);
            self.bytes = text("x-linked-size").and_then(|size| size.parse().ok());
            self.is_linked = true;
        } else if is_file && !self.is_linked {
            self.etag = text("etag").and_then(etag);
            self.bytes = text("content-length").and_then(|size| size.parse().ok());
        }
    }
}

/// Appends the body to `out` and returns why it broke off; `None` where it ended.
pub(super) fn copy(
    response: Response<ureq::Body>,
    out: &mut File,
    bytes: u64,
    at: &mut u64,
    report: &mut dyn FnMut(u64),
) -> io::Result<Option<String>> {
    let mut body = response.into_body().into_reader();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match body.read(&mut chunk) {
            Ok(0) if *at < bytes => return Ok(Some(format!("it ended after {at} of {bytes} bytes"))),
            Ok(0) => return Ok(None),
            Ok(got) => {
                // Never more than the hub named.
                let got = (got as u64).min(bytes - *at) as usize;
                out.write_all(&chunk[..got])?;
                *at += got as u64;
                report(*at);
                if *at == bytes {
                    return Ok(None);
                }
            }
            Err(error) => return Ok(Some(error.to_string())),
        }
    }
}

#[cfg(unix)]
pub(super) fn place(target: &Path, _blob: &Path, link: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(target, link) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && link.is_file() => Ok(()),
        made => made,
    }
}

/// Moves the file where links need rights that users do not have.
#[cfg(not(unix))]
pub(super) fn place(_target: &Path, blob: &Path, link: &Path) -> io::Result<()> {
    fs::rename(blob, link)
}

pub(super) fn create_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|source| Error::Write { path: parent.to_owned(), source })
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    create_parent(path)?;
    fs::write(path, bytes).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Returns whether a path of the hub stays below the folder it is joined to.
pub(super) fn is_safe(file: &str) -> bool {
    file.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':']))
}

/// Returns scheme, host and port of an address.
pub(super) fn origin(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |end| &url[..host + end])
}
