//! The hub's HTTP interface and the cache of its files, as Python's `huggingface_hub` has them: `HF_ENDPOINT`, `HF_HOME`,
//! `HF_HUB_CACHE`, `HF_TOKEN`, `HF_HUB_OFFLINE`; blobs by ETag, and a folder of links for each commit. The token is sent to the hub
//! itself and to no host that it redirects to.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pixart_protocol::{Fault, FaultCode};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use ureq::http::Response;

use super::HubAddress;
use super::transfer::{FileHeaders, copy, create_parent, is_safe, origin, place, write};
use crate::Error;
use crate::pack::PackProgress;

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// Broken transfers in a row, none of which brought a byte, after which a download fails.
const ATTEMPTS_MAX: usize = 5;
/// Hexadecimal digits of a SHA-256, which is the ETag of a large file.
const SHA256_DIGITS: usize = 64;

/// A file to download.
pub(super) type Download = (Revision, String);

/// A commit of a repository with the paths of its files.
#[derive(Clone, Debug)]
pub(super) struct Revision {
    address: HubAddress,
    commit: String,
    pub(super) files: Vec<String>,
}

/// The answer to `/api/models/…`.
#[derive(Deserialize)]
struct RepositoryInfo {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// A hub and the cache of its files.
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    is_offline: bool,
    agent: ureq::Agent,
}

impl Hub {
    /// Reads the hub's environment variables.
    ///
    /// # Errors
    /// A computer without a home folder, where no variable names the cache.
    pub fn from_env() -> Result<Self, Error> {
        let path = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = || path("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")));
        let home = path("HF_HOME")
            .or_else(|| Some(home()?.join("huggingface")))
            .ok_or_else(|| Error::Read { path: "$HOME".into(), source: io::ErrorKind::NotFound.into() })?;
        let token = env::var("HF_TOKEN").ok().or_else(|| {
            // Most users have none.
            fs::read_to_string(path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"))).ok()
        });
        let endpoint = env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".to_owned());
        let offline = env::var("HF_HUB_OFFLINE").unwrap_or_default().to_uppercase();
        let is_offline = ["1", "ON", "YES", "TRUE"].contains(&offline.as_str());
        let cache = path("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub"));
        Ok(Self::new(endpoint, cache, token, is_offline))
    }

    /// A hub at `endpoint` with its files in `cache`.
    #[must_use]
    pub fn new(endpoint: String, cache: PathBuf, token: Option<String>, is_offline: bool) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .user_agent(concat!("pixart/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        Self { endpoint: endpoint.trim_end_matches('/').to_owned(), cache, token, is_offline, agent }
    }

    /// Asks for the commit that a revision names and its files. Without the hub, they are those of the cache.
    pub(super) fn revision(&self, address: &HubAddress) -> Result<Revision, Error> {
        let listed = match self.is_offline {
            true => Err(unreachable(address, "", &"HF_HUB_OFFLINE is set")),
            false => self.list(address),
        };
        match listed {
            Ok(info) => {
                let reference = self.repository(address).join("refs").join(&address.revision);
                write(&reference, info.sha.as_bytes())?;
                let files = info.siblings.into_iter().map(|sibling| sibling.rfilename).filter(|file| is_safe(file));
                Ok(Revision { address: address.clone(), commit: info.sha, files: files.collect() })
            }
            Err(Error::Request(fault)) if fault.code == FaultCode::Network => match self.cached(address) {
                Some(revision) => {
                    tracing::warn!("{}; the files of the cache are used", fault.what);
                    Ok(revision)
                }
                None => Err(fault.into()),
            },
            Err(error) => Err(error),
        }
    }

    fn list(&self, address: &HubAddress) -> Result<RepositoryInfo, Error> {
        let revision = address.revision.replace('/', "%2F");
        let url = format!("{}/api/models/{}/revision/{revision}", self.endpoint, address.repository);
        let (mut response, _) = self.get(address, "", &url, None, false)?;
        let text = response.body_mut().read_to_vec().map_err(|error| unreachable(address, "", &error))?;
        let info: RepositoryInfo = serde_json::from_slice(&text).map_err(|error| unreachable(address, "", &error))?;
        if info.sha.is_empty() || !info.sha.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(unreachable(address, "", &"the commit it names is none"));
        }
        Ok(info)
    }

    /// Returns the files of the cache for the commit that `address` named last.
    fn cached(&self, address: &HubAddress) -> Option<Revision> {
        let reference = self.repository(address).join("refs").join(&address.revision);
        let commit = fs::read_to_string(reference).unwrap_or_else(|_| address.revision.clone()).trim().to_owned();
        let root = self.repository(address).join("snapshots").join(&commit);
        let mut files = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).ok()?.flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(file) = path.strip_prefix(&root).ok().and_then(Path::to_str) {
                    files.push(file.replace('\\', "/"));
                }
            }
        }
        Some(Revision { address: address.clone(), commit, files })
    }

    fn repository(&self, address: &HubAddress) -> PathBuf {
        self.cache.join(format!("models--{}", address.repository.replace('/', "--")))
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, revision: &Revision) -> PathBuf {
        self.repository(&revision.address).join("snapshots").join(&revision.commit)
    }

    /// Downloads a file unless the cache has it, and returns its path. A transfer that breaks goes on where it stopped, in a later
    /// process too.
    pub(super) fn download(
        &self,
        revision: &Revision,
        file: &str,
        on_progress: &mut dyn FnMut(&str, PackProgress),
    ) -> Result<PathBuf, Error> {
        let link = self.snapshot(revision).join(file);
        if link.is_file() {
            return Ok(link);
        }
        let address = &revision.address;
        if !is_safe(file) {
            return Err(unreachable(address, file, &"its path leaves the repository"));
        }
        let url = format!("{}/{}/resolve/{}/{file}", self.endpoint, address.repository, revision.commit);
        let (_, headers) = self.get(address, file, &url, None, true)?;
        let (etag, bytes) = (headers.etag, headers.bytes);
        let (Some(etag), Some(bytes)) = (etag, bytes) else {
            return Err(unreachable(address, file, &"its ETag or its length is missing"));
        };
        let blob = self.repository(address).join("blobs").join(&etag);
        if !blob.is_file() {
            let partial = blob.with_extension("incomplete");
            self.download_blob(address, file, &url, &partial, bytes, on_progress)?;
            if etag.len() == SHA256_DIGITS {
                check(address, file, &partial, &etag)?;
            }
            fs::rename(&partial, &blob).map_err(|source| Error::Write { path: blob.clone(), source })?;
        }
        create_parent(&link)?;
        // Relative, as huggingface_hub links: the cache may be moved.
        let depth = file.matches('/').count() + 2;
        let target = Path::new(&"../".repeat(depth)).join("blobs").join(&etag);
        place(&target, &blob, &link).map_err(|source| Error::Write { path: link.clone(), source })?;
        Ok(link)
    }

    fn download_blob(
        &self,
        address: &HubAddress,
        file: &str,
        url: &str,
        partial: &Path,
        bytes: u64,
        on_progress: &mut dyn FnMut(&str, PackProgress),
    ) -> Result<(), Error> {
        create_parent(partial)?;
        let failed = |source| Error::Write { path: partial.to_owned(), source };
        let mut out = OpenOptions::new().create(true).append(true).open(partial).map_err(failed)?;
        let mut at = out.metadata().map_err(failed)?.len();
        if at > bytes {
            out.set_len(0).map_err(failed)?;
            at = 0;
        }
        let (began, first, mut attempts) = (Instant::now(), at, 0);
        while at < bytes {
            let before = at;
            let broken = match self.get(address, file, url, Some(at), false) {
                // A host that knows no ranges sends the whole file.
                Ok((response, _)) if at > 0 && response.status() != 206 => {
                    out.set_len(0).map_err(failed)?;
                    at = 0;
                    copy(response, &mut out, bytes, &mut at, &mut |_| ()).map_err(failed)?
                }
                Ok((response, _)) => {
                    let mut report = |at: u64| {
                        let progress =
                            PackProgress { bytes: at - first, total_bytes: bytes - first, elapsed: began.elapsed() };
                        on_progress(file, progress);
                    };
                    copy(response, &mut out, bytes, &mut at, &mut report).map_err(failed)?
                }
                Err(Error::Request(fault)) if fault.code == FaultCode::Network => Some(fault.what),
                Err(error) => return Err(error),
            };
            attempts = if at > before { 0 } else { attempts + 1 };
            if let Some(why) = broken.filter(|_| attempts >= ATTEMPTS_MAX) {
                return Err(unreachable(address, file, &why));
            }
        }
        Ok(())
    }

    /// Requests `url`, follows redirects and returns the answer with what the hub's headers say of the file.
    fn get(
        &self,
        address: &HubAddress,
        file: &str,
        url: &str,
        from: Option<u64>,
        is_head: bool,
    ) -> Result<(Response<ureq::Body>, FileHeaders), Error> {
        let (mut url, mut headers) = (url.to_owned(), FileHeaders::default());
        for _ in 0..=REDIRECTS_MAX {
            let mut request = if is_head { self.agent.head(&url) } else { self.agent.get(&url) };
            request = request.header("Accept-Encoding", "identity");
            let is_hub = url.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/'));
            if let Some(token) = self.token.as_ref().filter(|_| is_hub) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if let Some(from) = from.filter(|from| *from > 0) {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|error| unreachable(address, file, &error))?;
            let status = response.status().as_u16();
            headers.read(response.headers(), (200..300).contains(&status));
            match status {
                200..=299 => return Ok((response, headers)),
                300..=399 => {
                    let location = response.headers().get("location").and_then(|value| value.to_str().ok());
                    let location = location.ok_or_else(|| unreachable(address, file, &"a redirect leads nowhere"))?;
                    url = if location.starts_with('/') {
                        format!("{}{location}", origin(&url))
                    } else {
                        location.to_owned()
                    };
                    // The hub's own headers say all that a HEAD request asks for.
                    if is_head && headers.is_linked && headers.bytes.is_some() {
                        return Ok((response, headers));
                    }
                }
                _ => return Err(refused(address, file, status)),
            }
        }
        Err(unreachable(address, file, &format!("it redirects more than {REDIRECTS_MAX} times")))
    }
}

/// Compares the SHA-256 of a downloaded file with the hub's, and removes a file that differs.
fn check(address: &HubAddress, file: &str, path: &Path, sha256: &str) -> Result<(), Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path).map_err(read)?, &mut hash).map_err(read)?;
    if hex::encode(hash.finalize()) == sha256 {
        return Ok(());
    }
    fs::remove_file(path).map_err(|source| Error::Write { path: path.to_owned(), source })?;
    Err(unreachable(address, file, &"its SHA-256 is not the hub's"))
}

/// Names a file, or the repository where `file` is empty.
fn named(address: &HubAddress, file: &str) -> String {
    let HubAddress { repository, revision, .. } = address;
    if file.is_empty() {
        format!("{repository} at {revision}")
    } else {
        format!("{file} of {repository} at {revision}")
    }
}

fn unreachable(address: &HubAddress, file: &str, why: &dyn std::fmt::Display) -> Error {
    let what = format!("{} could not be downloaded: {why}", named(address, file));
    let remedy =
        "check the connection and HF_ENDPOINT, and run the command again: the download goes on where it stopped";
    Fault::new(FaultCode::Network, what, remedy).into()
}

fn refused(address: &HubAddress, file: &str, status: u16) -> Error {
    let place = named(address, file);
    let fault = match status {
        401 | 403 => Fault::new(
            FaultCode::BadRequest,
            format!("the hub does not give out {place} (status {status}), and there is no local folder of this name"),
            "check the name; if the model is gated, accept its licence on its page and set HF_TOKEN",
        ),
        404 => Fault::new(
            FaultCode::BadRequest,
            format!("the hub does not have {place} (status 404), and there is no local folder of this name"),
            "check the spelling of the name, the revision and the file",
        ),
        _ => return unreachable(address, file, &format!("the hub answered with status {status}")),
    };
    fault.into()
}
