//! Checkpoints by their name on a hub. The hub of these tests answers as the real one: a list of files, small files itself, large ones
//! by a redirect to another host with a signed address that expires, and the headers `X-Repo-Commit`, `X-Linked-Etag` and
//! `X-Linked-Size`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use pixart_companion::hub::{Hub, Selection, fetch_from, model_name};
use pixart_companion::{ComponentPaths, Error, ImageGenerator, LoadOptions};
use pixart_protocol::{Fault, FaultCode};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::packed::Scratch;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_test";

fn scenes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes")
}

/// State of a hub: its files, its faults and the requests it received.
#[derive(Default)]
struct HubState {
    /// Paths and contents of the repository `owner/name`.
    files: Vec<(String, Vec<u8>)>,
    /// Only the token is given the files.
    is_gated: bool,
    /// Transfers of the storage host that are cut off in the middle.
    cuts: usize,
    /// Signatures that were used, and are expired.
    used: Vec<String>,
    next_signature: usize,
    /// `METHOD path range`, of both hosts.
    log: Vec<String>,
}

/// A hub on this computer. Its threads end with the process.
struct LocalHub {
    endpoint: String,
    state: Arc<Mutex<HubState>>,
}

impl LocalHub {
    fn start(state: HubState) -> Self {
        let state = Arc::new(Mutex::new(state));
        let (hub, storage) = (listen(), listen());
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("an address"));
        let (endpoint, storage_endpoint) = (address(&hub), address(&storage));
        serve(hub, &state, move |state, request| hub_answer(state, request, &storage_endpoint));
        serve(storage, &state, storage_answer);
        Self { endpoint, state }
    }

    fn client(&self, cache: &Path, token: Option<&str>) -> Hub {
        Hub::new(self.endpoint.clone(), cache.to_owned(), token.map(str::to_owned), false)
    }

    fn log(&self) -> Vec<String> {
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
    stream.write_all(b"Access-Control-Expose-Headers: X-Repo-Commit,X-Linked-Size,X-Linked-ETag,ETag\r\n\r\n")?;
    if method != "HEAD" {
        stream.write_all(if is_cut { &body[..body.len() / 2] } else { body })?;
    }
    stream.shutdown(Shutdown::Both)
}

fn hub_answer(state: &mut HubState, request: &Request, storage: &str) -> (Answer, bool) {
    let plain = |status: u16| ((status, Vec::new(), Vec::new()), false);
    if state.is_gated && request.authorization.as_deref() != Some(&format!("Bearer {TOKEN}")) {
        return plain(401);
    }
    if request.path == "/api/models/owner/name/revision/main" {
        let siblings: Vec<_> = state.files.iter().map(|(path, _)| json!({ "rfilename": path })).collect();
        let body = json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        return ((200, vec![("Content-Type", "application/json".to_owned())], body.into_bytes()), false);
    }
    let file = request.path.strip_prefix(&format!("/owner/name/resolve/{COMMIT}/"));
    let Some((path, bytes)) = file.and_then(|file| state.files.iter().find(|(path, _)| path == file)) else {
        return plain(404);
    };
    let sha256 = hex(bytes);
    let mut headers = vec![("X-Repo-Commit", COMMIT.to_owned())];
    if path.ends_with(".json") || path.ends_with(".md") {
        headers.push(("ETag", format!("\"{}\"", &sha256[..40])));
        return ((200, headers, bytes.clone()), false);
    }
    headers.push(("X-Linked-Etag", format!("\"{sha256}\"")));
    headers.push(("X-Linked-Size", bytes.len().to_string()));
    headers.push(("Location", format!("{storage}/{sha256}?Expires=60&Signature={}", state.next_signature)));
    state.next_signature += 1;
    ((302, headers, b"Found. Redirecting".to_vec()), false)
}

fn storage_answer(state: &mut HubState, request: &Request) -> (Answer, bool) {
    let (path, signature) = request.path.split_once('?').unwrap_or_default();
    // The token of the hub is nothing for another host, and a signature is good for one transfer.
    if request.authorization.is_some() || state.used.iter().any(|used| used == signature) {
        return ((403, Vec::new(), Vec::new()), false);
    }
    state.used.push(signature.to_owned());
    let (_, bytes) = state.files.iter().find(|(_, bytes)| hex(bytes) == path[1..]).expect("a stored file");
    let start = request.range_start.unwrap_or(0);
    let status = if request.range_start.is_some() { 206 } else { 200 };
    let headers = vec![("Content-Range", format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()))];
    let body = bytes[start..].to_vec();
    let is_cut = state.cuts > 0;
    state.cuts = state.cuts.saturating_sub(1);
    ((status, headers, body), is_cut)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files of the embedded checkpoint, and what a repository has beside them.
fn published() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for dir in ["", "scheduler/", "text_encoder/", "tokenizer/", "transformer/", "vae/"] {
        for entry in fs::read_dir(scenes().join(dir)).expect("the embedded checkpoint") {
            let path = entry.expect("a file").path();
            if path.is_file() {
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                files.push((format!("{dir}{name}"), fs::read(&path).expect("a file")));
            }
        }
    }
    for unread in
        ["vae/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.fp16.safetensors", "text_encoder/model.onnx"]
    {
        files.push((unread.to_owned(), b"not read".to_vec()));
    }
    files
}

fn fetch(hub: &Hub, name: &str, components: &ComponentPaths) -> Result<(PathBuf, ComponentPaths), Error> {
    fetch_from(hub, Path::new(name), components, Selection::default(), &mut |_, _| ())
}

fn fault(result: Result<(PathBuf, ComponentPaths), Error>) -> Fault {
    result.expect_err("it cannot be fetched").into()
}

#[test]
fn a_checkpoint_is_fetched_by_its_name_small_files_first_and_once() {
    let (hub, scratch) = (LocalHub::start(HubState { files: published(), ..HubState::default() }), Scratch::new("hub"));
    let client = hub.client(scratch.path(), Some(TOKEN));
    let (root, _) = fetch(&client, "owner/name", &ComponentPaths::default()).expect("it is there");
    assert_eq!(model_name(&root), "owner/name");
    let log = hub.log();
    assert!(!log.iter().any(|line| line.contains(".bin") || line.contains("fp16") || line.contains("onnx")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("example.png")), "{log:?}");
    let first_weights = log.iter().position(|line| line.contains(".safetensors")).expect("weights");
    let last_small = log.iter().rposition(|line| line.contains(".json") || line.contains("spiece.model"));
    assert!(last_small < Some(first_weights), "{log:?}");
    for (path, bytes) in published() {
        if let Ok(fetched) = fs::read(root.join(&path)) {
            assert_eq!(fetched, bytes, "{path}");
        }
    }
    ImageGenerator::open(LoadOptions { checkpoint: root.clone(), ..LoadOptions::default() }).expect("a checkpoint");
    assert_eq!(fetch(&client, "owner/name@main", &ComponentPaths::default()).expect("it is there").0, root);
    assert_eq!(hub.log(), ["GET /api/models/owner/name/revision/main"]);
    let offline = Hub::new("http://127.0.0.1:1".to_owned(), scratch.path().to_owned(), None, false);
    assert_eq!(fetch(&offline, "owner/name", &ComponentPaths::default()).expect("it is in the cache").0, root);
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped_with_a_new_signature() {
    let files =
        vec![("vae/m.safetensors".to_owned(), (0..3_000_000_u32).map(|index| index as u8).collect::<Vec<u8>>())];
    let hub = LocalHub::start(HubState { files: files.clone(), cuts: 2, ..HubState::default() });
    let scratch = Scratch::new("hub-broken");
    let components = ComponentPaths { vae: Some("owner/name/vae/m.safetensors".into()), ..ComponentPaths::default() };
    let client = hub.client(scratch.path(), None);
    let (_, found) = fetch(&client, ".", &components).expect("it is there");
    assert_eq!(fs::read(found.vae.expect("a file")).expect("a file"), files[0].1);
    let log = hub.log();
    let starts: Vec<Option<&str>> = log
        .iter()
        .filter(|line| !line.contains("/owner/name/") && line.starts_with("GET"))
        .map(|line| line.rsplit_once(' ').and_then(|(_, range)| range.strip_suffix('-')))
        .collect();
    assert_eq!(starts, [None, Some("1500000"), Some("2250000")], "{log:?}");
    assert_eq!(hub.state.lock().expect("no test panicked").used.len(), 3);
}

#[test]
fn a_refused_or_missing_file_is_named_with_what_to_do() {
    let hub = LocalHub::start(HubState { files: published(), is_gated: true, ..HubState::default() });
    let scratch = Scratch::new("hub-refused");
    let none = ComponentPaths::default();
    let gated = fault(fetch(&hub.client(scratch.path(), None), "owner/name", &none));
    assert_eq!(gated.code, FaultCode::BadRequest);
    assert!(gated.what.contains("owner/name at main (status 401)"), "{}", gated.what);
    assert!(gated.remedy.contains("set HF_TOKEN"), "{}", gated.remedy);
    let client = hub.client(scratch.path(), Some(TOKEN));
    fetch(&client, "owner/name", &none).expect("the token is accepted, and sent to no other host");
    let missing = fault(fetch(&client, "owner/name@v2", &none));
    assert!(missing.what.contains("owner/name at v2 (status 404)"), "{}", missing.what);
}

#[test]
fn a_checkpoint_without_a_tokenizer_is_refused_before_a_weight_is_fetched() {
    let files = published().into_iter().filter(|(path, _)| !path.starts_with("tokenizer/")).collect();
    let (hub, scratch) = (LocalHub::start(HubState { files, ..HubState::default() }), Scratch::new("hub-tokenizer"));
    let refused = fault(fetch(&hub.client(scratch.path(), None), "owner/name", &ComponentPaths::default()));
    assert_eq!(refused.code, FaultCode::BadWeights);
    assert!(refused.what.contains("tokenizer/spiece.model"), "{}", refused.what);
    assert_eq!(hub.log(), ["GET /api/models/owner/name/revision/main"]);
}

/// The faults of the hub, for the error catalogue.
pub(crate) fn faults() -> Vec<(&'static str, Fault)> {
    let files = published().into_iter().filter(|(path, _)| !path.starts_with("tokenizer/")).collect();
    let (hub, scratch) = (LocalHub::start(HubState { files, ..HubState::default() }), Scratch::new("hub-faults"));
    let client = hub.client(scratch.path(), None);
    let offline = Hub::new(hub.endpoint.clone(), scratch.path().join("empty"), None, true);
    let none = ComponentPaths::default();
    let lacks = fault(fetch(&client, "owner/name", &none));
    let missing = fault(fetch(&client, "owner/name@v2", &none));
    hub.state.lock().expect("no test panicked").is_gated = true;
    vec![
        ("crates/companion/src/hub/address.rs lacks", lacks),
        ("crates/companion/src/hub/client.rs unreachable", fault(fetch(&offline, "owner/name", &none))),
        ("crates/companion/src/hub/client.rs refused", fault(fetch(&client, "owner/name", &none))),
        ("crates/companion/src/hub/client.rs refused", missing),
    ]
}
