//! Faults of the HTTP interface.

use std::path::Path;

use pixart_companion::Error;
use pixart_companion::serve::{AccessPolicy, Token};
use pixart_protocol::Fault;

use super::{ProvokedFault, folder};
use crate::companion::{server, start};

const IMAGES: &str = "/v1/images/generations";
const READ: &str = "crates/companion/src/serve/image_request.rs read";

/// Sends `body` as JSON, or requests the path where there is none, and returns the fault of the reply.
fn refused(address: std::net::SocketAddr, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Fault {
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
    faults
}

fn token(path: &Path) -> Token {
    Token::read(path).expect("it is long enough")
}
