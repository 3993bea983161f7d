//! The companion over HTTP, as a page or a program meets it: a real server on a free loopback port, with the embedded
//! checkpoint on the processor.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, thread};

use pixart_companion::queue::Queue;
use pixart_companion::{Encoder, Error, TextOpening, embeds, serve};
use pixart_protocol::{EncodeReply, EncodeRequest, Fault, FaultCode};
use serde_json::{Value, json};

const INDEX: &str = "<!doctype html><title>the page</title>";
const SECRET: &str = "not part of the page";

/// One server for all tests of the process; its thread ends with the process.
fn server() -> SocketAddr {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    *SERVER.get_or_init(|| {
        let (told, address) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let queue = Queue::start(|| {
                let encoder = Encoder::open(&text())?;
                Ok(move |request: &EncodeRequest| encoder.encode(request))
            });
            let router = serve::router(queue.expect("the embedded checkpoint loads"), Some(&page()));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = serve::listen(0).await.expect("a free port");
                told.send(listener.local_addr().expect("an address")).expect("the test waits");
                serve::run(listener, router.expect("the page is there"), std::future::pending()).await
            })
        });
        address.recv().expect("the server starts")
    })
}

fn text() -> TextOpening {
    TextOpening { checkpoint: checkpoint(), ..TextOpening::default() }
}

fn checkpoint() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes")
}

/// A page of two files, with a file beside it that does not belong to it.
fn page() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("companion");
    let page = root.join("dist");
    fs::create_dir_all(page.join("assets")).expect("a temporary folder");
    fs::write(page.join("index.html"), INDEX).expect("a temporary file");
    fs::write(page.join("assets/module.wasm"), b"\0asm").expect("a temporary file");
    fs::write(root.join("secret.txt"), SECRET).expect("a temporary file");
    page
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().new_agent()
}

fn encode(captions: &[&str]) -> (u16, Value) {
    let url = format!("http://{}/v1/encode", server());
    let mut reply = agent().post(&url).send_json(json!({ "captions": captions })).expect("an answer");
    (reply.status().as_u16(), reply.body_mut().read_json().expect("JSON"))
}

fn fault(reply: (u16, Value)) -> (u16, Fault) {
    let (status, body) = reply;
    (status, serde_json::from_value(body.clone()).unwrap_or_else(|error| panic!("{body} is no fault: {error}")))
}

/// Sends `request` as it is, which a client library would first tidy, and returns the whole answer.
fn send(request: &str) -> String {
    let mut stream = TcpStream::connect(server()).expect("the server listens");
    stream.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the server answers and closes");
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(headers: &str, body: &str) -> String {
    let length = body.len();
    send(&format!("POST /v1/encode HTTP/1.1\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
}

fn status_and_fault(answer: &str) -> (String, Fault) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let fault = serde_json::from_str(body).unwrap_or_else(|error| panic!("{answer:?} is no fault: {error}"));
    (head.split(' ').nth(1).expect("a status").to_owned(), fault)
}

#[test]
fn embeddings_over_http_are_those_of_the_library() {
    let captions = ["", "a red circle on a blue background"];
    let (status, body) = encode(&captions);
    assert_eq!(status, 200, "{body}");
    let reply: EncodeReply = serde_json::from_value(body).expect("an EncodeReply");

    let request = EncodeRequest::of(captions.map(str::to_owned).to_vec());
    let expected = Encoder::open(&text()).and_then(|encoder| encoder.encode(&request));
    let expected = expected.expect("the embedded checkpoint encodes");
    assert_eq!(reply, expected, "JSON carries every f32 exactly");

    let [rows, tokens, channels] = reply.shape.map(|length| length as usize);
    assert_eq!((rows, tokens), (2, 120));
    let (negative, positive) = reply.embeds.split_at(tokens * channels);
    assert_ne!(negative, positive, "two captions have two embeddings");
    let kept = |mask: &[f32]| mask.iter().sum::<f32>();
    assert_eq!(kept(&reply.mask[..tokens]), 1.0, "an empty caption is its end token alone");
    assert!(kept(&reply.mask[tokens..]) > 5.0);
}

#[test]
fn stored_embeddings_are_read_back_as_they_were_encoded() {
    let captions = vec!["a green star".to_owned()];
    let request = EncodeRequest::of(captions.clone());
    let encoder = Encoder::open(&text()).expect("the embedded checkpoint loads");
    let embedded = encoder.encode(&request).expect("encodes");
    let file = embeds::write(&embedded, &captions);
    let stored = embeds::read(Path::new("e.safetensors"), &file).expect("just written");
    assert_eq!((stored.embeds, stored.captions), (embedded, captions));
}

#[test]
fn unusable_captions_are_bad_requests_with_a_remedy() {
    let cases = [
        (encode(&[]), "0 captions were sent"),
        (encode(&["a star", &"x".repeat(10_000)]), "caption 1 has 10000 characters"),
        (encode(&["a"; 17]), "17 captions were sent"),
    ];
    for (reply, what) in cases {
        let (status, fault) = fault(reply);
        assert_eq!((status, fault.code, fault.what.as_str()), (400, FaultCode::BadRequest, what));
        assert!(!fault.remedy.is_empty());
    }
    assert_eq!(encode(&["a star"]).0, 200, "the server goes on after a bad request");
}

#[test]
fn a_body_that_is_no_encode_request_is_a_fault_with_the_fitting_status() {
    let as_json = "Host: localhost\r\nContent-Type: application/json\r\n";
    let cases = [
        (post(as_json, "{\"captions\": ["), "400"),
        (post(as_json, "{\"captions\": \"a star\"}"), "422"),
        (post("Host: localhost\r\nContent-Type: text/plain\r\n", "{\"captions\": [\"a\"]}"), "415"),
        (post(as_json, &" ".repeat(600 * 1024)), "413"),
        (send("GET /v1/encode HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), "405"),
        (send("GET /v1/other HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), "404"),
    ];
    for (answer, status) in cases {
        let (got, fault) = status_and_fault(&answer);
        assert_eq!((got.as_str(), fault.code), (status, FaultCode::BadRequest), "{answer}");
    }
}

#[test]
fn the_page_is_served_with_the_types_a_browser_needs() {
    let get = |path: &str| agent().get(format!("http://{}{path}", server())).call().expect("an answer");
    let mut index = get("/");
    assert_eq!(index.headers()["content-type"], "text/html");
    assert_eq!(index.headers()["cache-control"], "no-cache");
    assert_eq!(index.body_mut().read_to_string().expect("text"), INDEX);
    assert_eq!(get("/assets/module.wasm").headers()["content-type"], "application/wasm");
    assert_eq!(get("/models/none/config.json").status(), 404);
}

#[test]
fn no_path_leads_out_of_the_page() {
    for path in
        ["/../secret.txt", "/assets/../../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "//../secret.txt"]
    {
        let answer = send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert!(!answer.starts_with("HTTP/1.1 200") && !answer.contains(SECRET), "{path}: {answer}");
    }
}

#[test]
fn pages_of_this_computer_may_ask_and_pages_of_the_web_may_not() {
    let body = "{\"captions\": [\"a star\"]}";
    let headers =
        |host: &str, origin: &str| format!("Host: {host}\r\nOrigin: {origin}\r\nContent-Type: application/json\r\n");
    let answer = post(&headers("127.0.0.1:7860", "http://localhost:5173"), body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("access-control-allow-origin: http://localhost:5173"), "{answer}");

    let foreign =
        [("127.0.0.1:7860", "https://example.org"), ("127.0.0.1", "null"), ("example.org:7860", "http://localhost")];
    for (host, origin) in foreign {
        let (status, fault) = status_and_fault(&post(&headers(host, origin), body));
        assert_eq!((status.as_str(), fault.code), ("403", FaultCode::Companion), "{host} {origin}");
    }

    let preflight = |origin: &str| {
        send(&format!(
            "OPTIONS /v1/encode HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\r\n"
        ))
    };
    assert!(preflight("http://localhost:5173").contains("access-control-allow-headers: content-type"));
    assert!(!preflight("https://example.org").contains("access-control-allow"));
}

#[test]
fn a_folder_that_is_no_page_is_refused_at_the_start() {
    let queue = Queue::start(|| Ok(|_: &EncodeRequest| -> Result<EncodeReply, Error> { Err(Error::ThreadStopped) }));
    let error = serve::router(queue.expect("nothing to fail"), Some(&checkpoint())).expect_err("it has no index.html");
    assert!(error.to_string().ends_with("it has no file `index.html`"), "{error}");
}
