//! The HTTP API of the companion: a server on a free loopback port, with the embedded checkpoint on the CPU.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, thread};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pixart_companion::serve::queue::Queue;
use pixart_companion::serve::{self, AccessPolicy, ServeOptions, Server, Token};
use pixart_companion::{AppState, Error, ImageGenerator, LoadOptions, PromptEncoder, PromptEncoderOptions, embeds};
use pixart_model::image;
use pixart_protocol::{EncodeRequest, EncodeResponse, Fault, FaultCode, GenerateRequest};
use serde_json::{Value, json};

const INDEX: &str = "<!doctype html><title>the page</title>";
const SECRET: &str = "not part of the page";

/// A server shared by the tests that need no other; its thread ends with the process.
pub(crate) fn server() -> SocketAddr {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    *SERVER.get_or_init(|| start(AccessPolicy::default(), std::future::pending()))
}

/// Starts a server with `access_policy` and waits until it is ready.
pub(crate) fn start(access_policy: AccessPolicy, stop: impl Future<Output = ()> + Send + 'static) -> SocketAddr {
    start_checkpoint(checkpoint(), access_policy, stop)
}

/// Starts a server with the checkpoint in a folder and waits until it is ready.
pub(crate) fn start_checkpoint(
    checkpoint: PathBuf,
    access_policy: AccessPolicy,
    stop: impl Future<Output = ()> + Send + 'static,
) -> SocketAddr {
    let (sender, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let (queue, opened) = Queue::start(16, || {
            let state = AppState::open(&PromptEncoderOptions { checkpoint, ..PromptEncoderOptions::default() })?;
            let info = state.info().clone();
            Ok((state, info))
        });
        let server = Server::new(queue);
        let router = server.router(&serving(access_policy)).expect("the page is there");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = serve::listen("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
            server.set_ready(opened.await.expect("the result is sent").expect("the embedded checkpoint loads"));
            sender.send(listener.local_addr().expect("an address")).expect("the test waits");
            server.run(listener, router, stop, Duration::from_secs(60)).await;
        });
    });
    address.recv().expect("the server starts")
}

pub(crate) fn serving(access_policy: AccessPolicy) -> ServeOptions {
    let minute = Duration::from_secs(60);
    ServeOptions {
        page: Some(page()),
        access_policy,
        model_aliases: vec!["gpt-image-1".to_owned()],
        request_timeout: minute,
        shutdown_timeout: minute,
    }
}

fn text() -> PromptEncoderOptions {
    PromptEncoderOptions { checkpoint: checkpoint(), ..PromptEncoderOptions::default() }
}

pub(crate) fn checkpoint() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes")
}

/// A page of two files, and beside its folder a file that must not be served.
fn page() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("companion");
    let page = root.join("dist");
    fs::create_dir_all(page.join("assets")).expect("a temporary folder");
    fs::write(page.join("index.html"), INDEX).expect("a temporary file");
    fs::write(page.join("assets/module.wasm"), b"\0asm").expect("a temporary file");
    fs::write(root.join("secret.txt"), SECRET).expect("a temporary file");
    page
}

pub(crate) fn agent() -> ureq::Agent {
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

/// Sends `request` unchanged, which a client library would normalize, and returns the whole response.
pub(crate) fn send(request: &str) -> String {
    send_to(server(), request)
}

pub(crate) fn send_to(address: SocketAddr, request: &str) -> String {
    send_bytes_to(address, request.as_bytes())
}

/// As [`send`], for a request that need not be text.
pub(crate) fn send_bytes(request: &[u8]) -> String {
    send_bytes_to(server(), request)
}

fn send_bytes_to(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    // A server that refuses a large body may close before it has read it all.
    stream.write_all(request).ok();
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert!(!answer.is_empty(), "the server answers and closes: {error}"),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn post(headers: &str, body: &str) -> String {
    post_to("/v1/encode", headers, body)
}

pub(crate) fn post_to(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    send(&format!("POST {path} HTTP/1.1\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
}

pub(crate) fn status_and_fault(answer: &str) -> (String, Fault) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let fault = serde_json::from_str(body).unwrap_or_else(|error| panic!("{answer:?} is no fault: {error}"));
    (head.split(' ').nth(1).expect("a status").to_owned(), fault)
}

#[test]
fn embeddings_over_http_equal_those_of_the_library() {
    let captions = ["", "a red circle on a blue background"];
    let (status, body) = encode(&captions);
    assert_eq!(status, 200, "{body}");
    let reply: EncodeResponse = serde_json::from_value(body).expect("an EncodeResponse");

    let request = EncodeRequest::of(captions.map(str::to_owned).to_vec());
    let expected = PromptEncoder::open(&text()).and_then(|encoder| encoder.encode(&request));
    let expected = expected.expect("the embedded checkpoint encodes");
    assert_eq!(reply, expected, "JSON carries every f32 exactly");

    let [rows, tokens, channels] = reply.shape.map(|length| length as usize);
    assert_eq!((rows, tokens), (2, 120));
    let (negative, positive) = reply.embeds.split_at(tokens * channels);
    assert_ne!(negative, positive, "two captions have two embeddings");
    let attended = |mask: &[f32]| mask.iter().sum::<f32>();
    assert_eq!(attended(&reply.attention_mask[..tokens]), 1.0, "an empty caption is its end token alone");
    assert!(attended(&reply.attention_mask[tokens..]) > 5.0);
}

#[test]
fn stored_embeddings_are_read_back_unchanged() {
    let captions = vec!["a green star".to_owned()];
    let request = EncodeRequest::of(captions.clone());
    let encoder = PromptEncoder::open(&text()).expect("the embedded checkpoint loads");
    let embedded = encoder.encode(&request).expect("encodes");
    let file = embeds::write(&embedded, &captions);
    let stored = embeds::read(Path::new("e.safetensors"), &file).expect("just written");
    // A file of embeddings holds no counts of tokens.
    let embedded = EncodeResponse { token_counts: Vec::new(), ..embedded };
    assert_eq!((stored.embeds, stored.captions), (embedded, captions));
}

#[test]
fn invalid_captions_are_bad_requests_with_a_remedy() {
    let cases = [
        (encode(&[]), "0 captions were sent"),
        (encode(&["a star", &"x".repeat(100_001)]), "caption 1 has 100001 characters"),
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
fn an_invalid_body_is_a_fault_with_the_matching_status() {
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
fn loopback_origins_are_answered_and_other_origins_rejected() {
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
fn a_folder_without_an_index_is_rejected_at_startup() {
    let (queue, _) = Queue::start::<AppState, ()>(1, || Err(Error::ThreadStopped));
    let serving = ServeOptions { page: Some(checkpoint()), ..serving(AccessPolicy::default()) };
    let error = Server::new(queue).router(&serving).expect_err("it has no index.html");
    assert!(error.to_string().ends_with("it has no file `index.html`"), "{error}");
}

pub(crate) fn get(path: &str) -> (u16, String) {
    let mut reply = agent().get(format!("http://{}{path}", server())).call().expect("an answer");
    (reply.status().as_u16(), reply.body_mut().read_to_string().expect("text"))
}

pub(crate) fn generate(body: Value) -> (u16, Value) {
    let url = format!("http://{}/v1/images/generations", server());
    let mut reply = agent().post(&url).send_json(body).expect("an answer");
    (reply.status().as_u16(), reply.body_mut().read_json().expect("JSON"))
}

pub(crate) fn decoded(datum: &Value) -> Vec<u8> {
    STANDARD.decode(datum["b64_json"].as_str().expect("a text")).expect("base64")
}

#[test]
fn the_api_describes_itself() {
    assert_eq!([get("/healthz"), get("/readyz")], [(200, "ok\n".to_owned()), (200, "ready\n".to_owned())]);
    let models: Value = serde_json::from_str(&get("/v1/models").1).expect("JSON");
    let model = &models["data"][0];
    assert_eq!(
        (&model["id"], &model["device"], &model["generates_images"]),
        (&json!("scenes"), &json!("cpu"), &json!(true))
    );
    assert_eq!(model["fingerprint"].as_str().map(str::len), Some(64));
    let document: Value = serde_json::from_str(&get("/v1/openapi.json").1).expect("JSON");
    for (path, methods) in document["paths"].as_object().expect("paths") {
        // An unknown path gives 404, and another method than the documented one 405. No image is stored.
        let expected = match methods.get("get") {
            Some(_) if path.starts_with("/generated-images/") => 404,
            Some(_) => 200,
            None => 405,
        };
        assert_eq!(get(&path.replace("{id}", "scenes")).0, expected, "{path}");
    }
    assert_eq!(get("/openapi.json"), get("/v1/openapi.json"));
    assert_eq!(get("/v1/other").0, 404);
    let metrics = get("/metrics").1;
    assert!(metrics.contains("pixart_http_requests_total{route=\"/v1/models\",status=\"200\"}"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
}

#[test]
fn embeddings_are_sent_as_safetensors_where_accepted() {
    let request = json!({ "captions": ["", "a blue square"] });
    let url = format!("http://{}/v1/encode", server());
    let reply = agent().post(&url).header("accept", "application/safetensors").send_json(&request);
    let mut reply = reply.expect("an answer");
    assert_eq!(reply.headers()["content-type"], "application/safetensors");
    let stored =
        embeds::read(Path::new("reply"), &reply.body_mut().read_to_vec().expect("bytes")).expect("a file of ours");
    assert_eq!(stored.captions, ["", "a blue square"]);
    let same: EncodeResponse = serde_json::from_value(encode(&["", "a blue square"]).1).expect("an EncodeResponse");
    assert_eq!(stored.embeds, EncodeResponse { token_counts: Vec::new(), ..same });
}

#[test]
fn images_equal_those_of_the_library_streamed_or_not() {
    let request = json!({ "prompt": "a red circle", "n": 2, "size": "64x64", "seed": 7, "num_inference_steps": 3 });
    let (status, reply) = generate(request.clone());
    assert_eq!(status, 200, "{reply}");
    let files: Vec<Vec<u8>> = reply["data"].as_array().expect("a list").iter().map(decoded).collect();

    let options = LoadOptions { checkpoint: checkpoint(), ..LoadOptions::default() };
    let generator = ImageGenerator::open(options).expect("the embedded checkpoint loads");
    let wanted = GenerateRequest {
        num_images_per_prompt: 2,
        width: Some(64),
        height: Some(64),
        seed: 7,
        num_inference_steps: 3,
        ..GenerateRequest::of("a red circle")
    };
    let images = generator.generate(&wanted, |_| ControlFlow::Continue(())).expect("the request is valid");
    let pixels = |file: &[u8]| image::decode_image(file).expect("a PNG");
    assert_eq!(files.len(), 2);
    for (file, image) in files.iter().zip(&images) {
        assert_eq!(pixels(file), pixels(&image.file));
    }

    let mut streamed = request;
    streamed["stream"] = true.into();
    let body = streamed.to_string();
    let answer = post_to("/v1/images/generations", "Host: localhost\r\nContent-Type: application/json\r\n", &body);
    assert!(answer.contains("content-type: text/event-stream"), "{answer}");
    let events: Vec<Value> = answer
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    let kinds = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
    assert_eq!((kinds("image_generation.progress"), kinds("image_generation.completed")), (6, 2), "{answer}");
    assert_eq!(decoded(&events[7]), files[1]);
}

#[test]
fn img2img_equals_that_of_the_library() {
    let request = json!({ "prompt": "a red circle", "size": "64x64", "seed": 7, "steps": 3 });
    let first = decoded(&generate(request.clone()).1["data"][0]);
    let mut over = request;
    over["image"] = STANDARD.encode(&first).into();
    over["strength"] = 0.7.into();
    let (status, reply) = generate(over);
    assert_eq!(status, 200, "{reply}");

    let options = LoadOptions { checkpoint: checkpoint(), vae_encoder: true, ..LoadOptions::default() };
    let generator = ImageGenerator::open(options).expect("the embedded checkpoint loads");
    let (width, height) = (Some(64), Some(64));
    let plain =
        GenerateRequest { width, height, seed: 7, num_inference_steps: 3, ..GenerateRequest::of("a red circle") };
    let wanted = GenerateRequest { image: Some(first.clone()), strength: Some(0.7), ..plain };
    let images = generator.generate(&wanted, |_| ControlFlow::Continue(())).expect("the request is valid");
    let pixels = |file: &[u8]| image::decode_image(file).expect("a PNG");
    let got = pixels(&decoded(&reply["data"][0]));
    assert_eq!(got, pixels(&images[0].file));
    assert_ne!(got, pixels(&first));
}

#[test]
fn invalid_image_requests_are_rejected_by_field() {
    for (body, status, what) in [
        (json!({ "prompt": "p", "width": 63 }), 400, "63"),
        (json!({ "prompt": "p", "steps": 0 }), 400, "steps"),
        (json!({ "prompt": "p", "colour": "red" }), 400, "colour"),
        (json!({ "prompt": "p", "model": "dall-e-3" }), 404, "dall-e-3"),
    ] {
        let (got, body) = generate(body);
        assert_eq!(got, status, "{body}");
        assert!(body["what"].as_str().is_some_and(|text| text.contains(what)), "{what}: {body}");
        assert!(body["error"]["message"].as_str().is_some_and(|text| text.contains(what)), "{what}: {body}");
    }
}

#[test]
fn a_generation_whose_client_disconnects_is_cancelled() {
    let cancelled = || -> u64 {
        let metrics = get("/metrics").1;
        let line =
            metrics.lines().find_map(|line| line.strip_prefix("pixart_cancelled_total ")).expect("it is counted");
        line.parse().expect("a number")
    };
    let before = cancelled();
    let body = json!({ "prompt": "p", "num_inference_steps": 900, "stream": true }).to_string();
    let mut stream = TcpStream::connect(server()).expect("the server listens");
    write!(
        stream,
        "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the server reads");
    let mut first = [0; 512];
    let read = stream.read(&mut first).expect("it begins to answer");
    assert!(read > 0);
    drop(stream);
    let left = std::time::Instant::now();
    while cancelled() == before {
        assert!(left.elapsed() < Duration::from_secs(60), "the generation goes on");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_configured_token_is_required() {
    let secret = "0123456789abcdef0123456789abcdef";
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("token");
    fs::write(&path, format!("{secret}\n")).expect("a temporary file");
    let token = Token::read(&path).expect("it is long enough");
    let all = "0.0.0.0:7860".parse().expect("an address");
    let access_policy =
        AccessPolicy::new(all, Some(token), &["https://Example.org/".to_owned()]).expect("it has a token");
    let address = start(access_policy, std::future::pending());
    let ask = |path: &str, headers: &str| {
        send_to(address, &format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n"))
    };
    let right = format!("Host: pixart.example\r\nAuthorization: Bearer {secret}\r\n");
    assert!(ask("/v1/models", &right).starts_with("HTTP/1.1 200"), "a foreign host name is accepted with the token");
    assert!(ask("/v1/models", &right.replace("Bearer", "bearer")).starts_with("HTTP/1.1 200"), "schemes have no case");
    for path in ["/v1/models", "/v1/none", "/metrics"] {
        for wrong in ["", "Authorization: Bearer 0123456789abcdef0123456789abcdee\r\n", "Authorization: Basic x\r\n"] {
            let (status, fault) = status_and_fault(&ask(path, &format!("Host: localhost\r\n{wrong}")));
            assert_eq!((status.as_str(), fault.code), ("401", FaultCode::Companion), "{path} {wrong}");
        }
    }
    assert!(ask("/healthz", "Host: localhost\r\n").starts_with("HTTP/1.1 200"));
    let listed = ask("/v1/models", &format!("{right}Origin: https://example.org\r\n"));
    assert!(listed.starts_with("HTTP/1.1 200") && listed.contains("access-control-allow-origin: https://example.org"));
    assert!(ask("/v1/models", &format!("{right}Origin: https://example.com\r\n")).starts_with("HTTP/1.1 403"));
}

#[test]
fn responses_have_the_security_and_private_network_headers() {
    let answer = send(
        "OPTIONS /v1/encode HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: http://localhost:5173\r\n\
         Access-Control-Request-Method: POST\r\nAccess-Control-Request-Private-Network: true\r\n\r\n",
    );
    assert!(answer.contains("access-control-allow-private-network: true"), "{answer}");
    let page = agent().get(format!("http://{}/", server())).call().expect("an answer");
    for (name, part) in [
        ("content-security-policy", "script-src 'self' 'wasm-unsafe-eval'"),
        ("x-content-type-options", "nosniff"),
        ("x-pixart-companion", env!("CARGO_PKG_VERSION")),
        ("x-frame-options", "SAMEORIGIN"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert!(page.headers()[name].to_str().is_ok_and(|value| value.contains(part)), "{name}");
    }
    assert_eq!(page.headers()["x-request-id"].len(), 36);
}

#[test]
fn a_stopping_server_finishes_requests_in_flight() {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let address = start(AccessPolicy::default(), async { drop(stopped.await) });
    let asked = thread::spawn(move || {
        let url = format!("http://{address}/v1/images/generations");
        let reply =
            agent().post(&url).send_json(json!({ "prompt": "p", "num_inference_steps": 40 })).expect("an answer");
        let status = reply.status().as_u16();
        (status, reply.into_body().read_to_vec().expect("the whole answer").len())
    });
    thread::sleep(Duration::from_millis(200));
    stop.send(()).expect("the server runs");
    thread::sleep(Duration::from_millis(50));
    let late = send_to(address, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(late.starts_with("HTTP/1.1 503") && late.contains("retry-after"), "{late}");
    let (status, bytes) = asked.join().expect("it was answered");
    assert!(status == 200 && bytes > 1000, "{status}, {bytes} bytes");
}
