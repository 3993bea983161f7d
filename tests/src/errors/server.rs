//! Faults of the HTTP interface.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use pixart_companion::serve::queue::Queue;
use pixart_companion::serve::{self, AccessPolicy, ServeOptions, Server, Token};
use pixart_companion::{AppState, Error, ModelInfo};
use pixart_protocol::{Fault, GenerateRequest};

use super::{ProvokedFault, folder};
use crate::companion::{checkpoint, server, serving, start, start_checkpoint};

const IMAGES: &str = "/v1/images/generations";
const STAR: &str = r#"{"prompt": "a star"}"#;
const READ: &str = "crates/companion/src/serve/image_request.rs read";

/// Sends `body` as JSON, or requests the path where there is none, and returns the fault of the reply.
fn refused(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Fault {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let url = format!("http://{address}{path}");
    let mut reply = match body {
        Some(body) => {
            let request = agent.post(&url).header("content-type", "application/json");
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send(body)
        }
        None => headers.iter().fold(agent.get(&url), |request, (name, value)| request.header(*name, *value)).call(),
    }
    .expect("a reply");
    let text = reply.body_mut().read_to_string().expect("text");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path} answered {text}: {error}"))
}

pub(super) fn faults() -> Vec<ProvokedFault> {
    let mut faults = Vec::new();
    for (site, path, body) in [
        ("crates/companion/src/serve/text.rs encode", "/v1/encode", Some(r#"{"captions": 1}"#)),
        ("crates/companion/src/serve/fields.rs read_object", "/v1/encode", Some("[]")),
        ("crates/companion/src/serve/api_error.rs invalid_body", IMAGES, Some("{")),
        ("crates/companion/src/serve/api_error.rs no_route", "/v1/nowhere", None),
        ("crates/companion/src/serve/api_error.rs no_route", IMAGES, None),
        ("crates/companion/src/serve/fields.rs invalid", IMAGES, Some(r#"{"prompt": "a star", "stream": "yes"}"#)),
        ("crates/companion/src/serve/fields.rs unknown", IMAGES, Some(r#"{"prompt": "a star", "colour": "red"}"#)),
        (READ, IMAGES, Some(r#"{"prompt": "a star", "size": "64x64", "width": 64}"#)),
        (READ, IMAGES, Some(r#"{"prompt": "a star", "record": true}"#)),
        (
            "crates/companion/src/serve/image_request.rs unknown_model",
            IMAGES,
            Some(r#"{"prompt": "a star", "model": "dall-e-9"}"#),
        ),
        (
            "crates/companion/src/serve/image_request.rs image_bytes",
            IMAGES,
            Some(r#"{"prompt": "a star", "image": "%"}"#),
        ),
        ("crates/companion/src/serve/image_request.rs overlay", IMAGES, Some("{}")),
        ("crates/companion/src/serve/image_store.rs get", "/generated-images/missing.png", None),
        (
            "crates/companion/src/serve/sdapi/samplers.rs our_scheduler",
            "/sdapi/v1/txt2img",
            Some(r#"{"prompt": "a star", "sampler_name": "DPM adaptive"}"#),
        ),
        (
            "crates/companion/src/serve/sdapi/request.rs input_image",
            "/sdapi/v1/img2img",
            Some(r#"{"prompt": "a star"}"#),
        ),
        (
            "crates/companion/src/serve/sdapi/request.rs inverted",
            "/sdapi/v1/img2img",
            Some(r#"{"prompt": "a star", "init_images": ["AQI="], "mask": "%", "inpainting_mask_invert": 1}"#),
        ),
        ("crates/companion/src/serve/sdapi/png_info.rs png_info", "/sdapi/v1/png-info", Some(r#"{"image": "AQI="}"#)),
        (
            "crates/companion/src/serve/sdapi/lists.rs set_options",
            "/sdapi/v1/options",
            Some(r#"{"sd_model_checkpoint": "dreamshaper"}"#),
        ),
    ] {
        faults.push(ProvokedFault::new(site, refused(server(), path, &[], body)));
    }
    let host = [("host", "pixart.example.org")];
    let foreign = refused(server(), "/v1/models", &host, None);
    faults.push(ProvokedFault::new("crates/companion/src/serve/access.rs foreign_host", foreign));
    let foreign = refused(server(), "/v1/models", &[("origin", "https://example.org")], None);
    faults.push(ProvokedFault::new("crates/companion/src/serve/access.rs foreign_origin", foreign));
    let path = folder().join("token.txt");
    std::fs::write(&path, "0123456789abcdef0123456789abcdef").expect("a temporary file");
    let listen = "127.0.0.1:7860".parse().expect("an address");
    let policy = AccessPolicy::new(listen, Some(token(&path)), &[]).expect("it has a token");
    let closed = refused(start(policy, std::future::pending()), "/v1/models", &[], None);
    faults.push(ProvokedFault::new("crates/companion/src/serve/access.rs require_token", closed));
    let refused_origin = |origin: &str| -> Error {
        AccessPolicy::new(listen, None, &[origin.to_owned()]).map(drop).expect_err("it is refused")
    };
    faults.push(ProvokedFault::new("crates/companion/src/serve/access.rs new", refused_origin("*")));
    let hosts = "crates/companion/src/serve/hosts.rs from_flag";
    faults.push(ProvokedFault::new(hosts, refused_origin("example.org")));
    let host = AccessPolicy::default().allow_hosts(&["http://pixart.example.org/".to_owned()]);
    faults.push(ProvokedFault::new(hosts, host.map(drop).expect_err("it is an address")));
    faults.extend(faults_under_load());
    let text_encoder = folder().join("text-encoder");
    for file in
        ["text_encoder/config.json", "text_encoder/model.safetensors", "tokenizer/spiece.model", "model_index.json"]
    {
        let to = text_encoder.join(file);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a temporary folder");
        std::fs::copy(checkpoint().join(file), to).expect("a temporary file");
    }
    let address = start_checkpoint(text_encoder, AccessPolicy::default(), std::future::pending());
    let only_encodes = refused(address, IMAGES, &[], Some(STAR));
    faults.push(ProvokedFault::new("crates/companion/src/serve/app_state.rs generate", only_encodes));
    faults
}

/// Faults of a model that loads for ever, of its queue, and of a device thread that has stopped.
fn faults_under_load() -> Vec<ProvokedFault> {
    let mut faults = Vec::new();
    let (gates, closed) = mpsc::channel();
    let loading = |queued_max| {
        let (gate, opened) = mpsc::channel::<()>();
        gates.send(gate).expect("they are kept");
        Queue::start(queued_max, move || {
            let _ = opened.recv();
            Err::<(AppState, ModelInfo), _>(Error::ThreadStopped)
        })
        .0
    };
    for (site, places) in
        [("crates/companion/src/serve.rs limit_time", 1), ("crates/companion/src/serve.rs loaded_model", 0)]
    {
        faults.push(ProvokedFault::new(site, refused(start_loading(loading(places)), IMAGES, &[], Some(STAR))));
    }
    let queue = loading(2);
    let request = || GenerateRequest::of("a star");
    let pending: Vec<_> = (0..2).map(|_| queue.generate(request()).expect("it has a place")).collect();
    let full = queue.generate(request()).map(drop).expect_err("two are queued");
    faults.push(ProvokedFault::new("crates/companion/src/serve/queue.rs send", full));
    drop((pending, closed));
    let (stopped, _) = Queue::start(1, || Err::<(AppState, ModelInfo), _>(Error::ThreadStopped));
    // Until the thread ends, its queue has a place.
    let fault = loop {
        match stopped.generate(request()) {
            Err(fault) if fault.what.contains("stopped") => break fault,
            _ => thread::sleep(Duration::from_millis(1)),
        }
    };
    faults.push(ProvokedFault::new("crates/companion/src/serve/queue.rs thread_stopped", fault));
    faults
}

/// Starts a server whose model is never ready, and which answers within two seconds.
fn start_loading(queue: Queue) -> SocketAddr {
    let (sender, address) = mpsc::channel();
    thread::spawn(move || {
        let options = ServeOptions { request_timeout: Duration::from_secs(2), ..serving(AccessPolicy::default()) };
        let server = Server::new(queue);
        let router = server.router(&options).expect("the page is there");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = serve::listen("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
            sender.send(listener.local_addr().expect("an address")).expect("the test waits");
            server.run(listener, router, std::future::pending(), Duration::from_secs(60)).await;
        });
    });
    address.recv().expect("the server starts")
}

fn token(path: &Path) -> Token {
    Token::read(path).expect("it is long enough")
}
