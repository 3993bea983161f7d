//! A hub on this computer that answers as the real one: a list of files, small files itself, large ones by a redirect to another host
//! with a signed address that expires, ranges, and the headers that pages of other origins are shown.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use pixart_companion::hub::Hub;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// The commit of every `main`.
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const TOKEN: &str = "hf_test";

/// Paths and contents of a repository's files.
pub(crate) type HubFiles = Vec<(String, Vec<u8>)>;

/// State of a hub: its files, its faults and the requests it received.
#[derive(Default)]
pub(crate) struct HubState {
    /// Files of each repository, by `owner/name`.
    pub(crate) repositories: BTreeMap<String, HubFiles>,
    /// Only the token is given the files.
    pub(crate) is_gated: bool,
    /// Transfers of the storage host that are cut off in the middle.
    pub(crate) cuts: usize,
    /// Signatures that were used, and are expired.
    pub(crate) used: Vec<String>,
    /// Signed addresses, each with the repository and the index of the file that it is good for.
    pub(crate) signed: BTreeMap<String, (String, usize)>,
    pub(crate) next_signature: usize,
    /// `METHOD path range`, of both hosts.
    pub(crate) log: Vec<String>,
}

impl HubState {
    /// A hub with the repository `owner/name`.
    pub(crate) fn of(files: HubFiles) -> Self {
        Self { repositories: BTreeMap::from([("owner/name".to_owned(), files)]), ..Self::default() }
    }

    /// A hub with the repositories of a folder, each as `owner/name`.
    pub(crate) fn of_folder(folder: &Path) -> Self {
        let mut repositories = BTreeMap::<String, HubFiles>::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(&next).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(folder).expect("it is below").to_str().expect("UTF-8").to_owned();
                let (at, _) = name.match_indices('/').nth(1).expect("owner, name and file");
                let (repository, file) = (name[..at].to_owned(), name[at + 1..].to_owned());
                repositories.entry(repository).or_default().push((file, fs::read(&path).expect("a file")));
            }
        }
        Self { repositories, ..Self::default() }
    }
}

/// A hub on this computer. Its threads end with the process.
pub(crate) struct LocalHub {
    pub(crate) endpoint: String,
    pub(crate) state: Arc<Mutex<HubState>>,
}

impl LocalHub {
    pub(crate) fn start(state: HubState) -> Self {
        let state = Arc::new(Mutex::new(state));
        let (hub, storage) = (listen(), listen());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("an address"));
        let (endpoint, storage_endpoint) = (address(&hub), address(&storage));
        serve(hub, &state, move |state, request| hub_answer(state, request, &storage_endpoint));
        serve(storage, &state, storage_answer);
        Self { endpoint, state }
    }

    pub(crate) fn client(&self, cache: &Path, token: Option<&str>) -> Hub {
        Hub::new(self.endpoint.clone(), cache.to_owned(), token.map(str::to_owned), false)
    }

    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().expect("no test panicked").log)
    }
}

struct Request {
    method: String,
    path: String,
    range_start: Option<usize>,
    authorization: Option<String>,
}

/// Status, headers and body.
type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

fn serve(
    listener: TcpListener,
    state: &Arc<Mutex<HubState>>,
    answer: impl Fn(&mut HubState, &Request) -> (Answer, bool) + Send + 'static,
) {
    let state = Arc::clone(state);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            let Some(request) = read_request(&stream) else { continue };
            let (answer, is_cut) = {
                let mut state = state.lock().expect("no test panicked");
                let range = request.range_start.map_or(String::new(), |start| format!(" {start}-"));
                let path = request.path.split('?').next().unwrap_or_default().to_owned();
                state.log.push(format!("{} {path}{range}", request.method));
                answer(&mut state, &request)
            };
            // A client that has what it needs may close first.
            let _ = write_answer(stream, &request.method, &answer, is_cut);
        }
    });
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Request { method, path, range_start: None, authorization: None };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range_start = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok(),
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(request)
}

fn write_answer(mut stream: TcpStream, method: &str, answer: &Answer, is_cut: bool) -> std::io::Result<()> {
    let (status, headers, body) = answer;
    write!(stream, "HTTP/1.1 {status} Status\r\nContent-Length: {}\r\nConnection: close\r\n", body.len())?;
    headers.iter().try_for_each(|(name, value)| write!(stream, "{name}: {value}\r\n"))?;
    stream.write_all(b"Access-Control-Allow-Origin: *\r\nVary: Origin\r\nAccess-Control-Expose-Headers: ")?;
    stream.write_all(b"X-Repo-Commit,ETag,Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag\r\n\r\n")?;
    if method != "HEAD" {
        stream.write_all(if is_cut { &body[..body.len() / 2] } else { body })?;
    }
    stream.shutdown(Shutdown::Both)
}

fn hub_answer(state: &mut HubState, request: &Request, storage: &str) -> (Answer, bool) {
    let plain = |status: u16| ((status, Vec::new(), Vec::new()), false);
    if request.method == "OPTIONS" {
        return ((204, vec![("Access-Control-Allow-Headers", "Range,Authorization".to_owned())], Vec::new()), false);
    }
    if state.is_gated && request.authorization.as_deref() != Some(&format!("Bearer {TOKEN}")) {
        return plain(401);
    }
    let Some(asked) = Asked::parse(&request.path) else { return plain(404) };
    let Some(files) = state.repositories.get(&asked.repository) else { return plain(404) };
    let Some(file) = asked.file else {
        let siblings: Vec<_> = files.iter().map(|(path, _)| json!({ "rfilename": path })).collect();
        let body = json!({ "id": asked.repository, "sha": asked.commit, "siblings": siblings }).to_string();
        return ((200, vec![("Content-Type", "application/json; charset=utf-8".to_owned())], body.into_bytes()), false);
    };
    let Some(index) = files.iter().position(|(path, _)| *path == file) else { return plain(404) };
    let (path, bytes) = &files[index];
    let sha256 = hex(bytes);
    let mut headers = vec![("X-Repo-Commit", asked.commit), ("Accept-Ranges", "bytes".to_owned())];
    if path.ends_with(".json") || path.ends_with(".md") {
        headers.push(("ETag", format!("\"{}\"", &sha256[..40])));
        headers.push(("Content-Disposition", format!("inline; filename*=UTF-8''{path}")));
        return ((200, headers, bytes.clone()), false);
    }
    headers.push(("X-Linked-Etag", format!("\"{sha256}\"")));
    headers.push(("X-Linked-Size", bytes.len().to_string()));
    let signed = format!("/{sha256}?Expires=60&Signature={}", state.next_signature);
    headers.push(("Location", format!("{storage}{signed}")));
    state.signed.insert(signed, (asked.repository, index));
    state.next_signature += 1;
    ((302, headers, b"Found. Redirecting".to_vec()), false)
}

/// What a path of the hub asks for.
struct Asked {
    repository: String,
    commit: String,
    /// None for the list of files.
    file: Option<String>,
}

impl Asked {
    /// Parses `/api/models/owner/name/revision/main` and `/owner/name/resolve/main/file`. There are the branch `main` and commits.
    fn parse(path: &str) -> Option<Self> {
        let listed = path.strip_prefix("/api/models/");
        let parts: Vec<&str> = listed.unwrap_or(path.strip_prefix('/')?).splitn(5, '/').collect();
        let (repository, verb) = (format!("{}/{}", parts.first()?, parts.get(1)?), *parts.get(2)?);
        let commit = match *parts.get(3)? {
            "main" => COMMIT.to_owned(),
            commit if commit.len() == COMMIT.len() => commit.to_owned(),
            _ => return None,
        };
        match (listed, verb, parts.get(4)) {
            (Some(_), "revision", None) => Some(Self { repository, commit, file: None }),
            (None, "resolve", Some(file)) => Some(Self { repository, commit, file: Some((*file).to_owned()) }),
            _ => None,
        }
    }
}

fn storage_answer(state: &mut HubState, request: &Request) -> (Answer, bool) {
    let (path, signature) = request.path.split_once('?').unwrap_or_default();
    // The token of the hub is nothing for another host, and a signature is good for one transfer.
    if request.authorization.is_some() || state.used.iter().any(|used| used == signature) {
        return ((403, Vec::new(), Vec::new()), false);
    }
    state.used.push(signature.to_owned());
    let Some((repository, index)) = state.signed.get(&request.path) else {
        return ((403, Vec::new(), Vec::new()), false);
    };
    let (_, bytes) = &state.repositories[repository][*index];
    let start = request.range_start.unwrap_or(0);
    if start >= bytes.len() && start > 0 {
        return ((416, vec![("Content-Range", format!("bytes */{}", bytes.len()))], Vec::new()), false);
    }
    let mut headers = vec![("ETag", format!("\"{}\"", &path[1..])), ("Accept-Ranges", "bytes".to_owned())];
    let status = if request.range_start.is_some() { 206 } else { 200 };
    if status == 206 {
        headers.push(("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())));
    }
    let body = bytes[start..].to_vec();
    let is_cut = state.cuts > 0;
    state.cuts = state.cuts.saturating_sub(1);
    ((status, headers, body), is_cut)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
