//! The hosts and origins that the companion answers, and the remedies that its refusals name.

use std::fs;
use std::path::Path;

use pixart_companion::serve::{AccessPolicy, Token};
use pixart_protocol::Fault;

use crate::companion::{send, send_to, start, status_and_fault};

fn get(headers: &str) -> String {
    format!("GET /v1/models HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")
}

fn policy(token: Option<Token>, origins: &[&str], hosts: &[&str]) -> AccessPolicy {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let policy = AccessPolicy::new("127.0.0.1:0".parse().expect("an address"), token, &owned(origins));
    policy.and_then(|policy| policy.allow_hosts(&owned(hosts))).expect("a policy")
}

/// The value after `flag` in a fault's remedy.
fn value_of<'a>(fault: &'a Fault, flag: &str) -> &'a str {
    let (_, rest) = fault.remedy.split_once(flag).unwrap_or_else(|| panic!("{fault}"));
    rest.trim_start().split(' ').next().expect("a value")
}

#[test]
fn names_of_this_computer_are_answered() {
    for host in ["pixart.localhost:7860", "LOCALHOST", "localhost.:7860", "[::1]:7860", "127.0.0.2:1", "127.1:7860"] {
        let answer = send(&get(&format!("Host: {host}\r\nOrigin: http://{}\r\n", host.to_lowercase())));
        assert!(answer.starts_with("HTTP/1.1 200"), "{host}: {answer}");
    }
}

#[test]
fn the_remedy_of_a_refused_host_works() {
    for host in ["host.docker.internal:7860", "NAS.fritz.box", "192.168.1.2:7860", "0.0.0.0:7860", "pixart_web:80"] {
        let (status, fault) = status_and_fault(&send(&get(&format!("Host: {host}\r\n"))));
        assert_eq!(
            (status.as_str(), fault.what),
            ("403", format!("the request names the host `{host}`, which is not known as this computer"))
        );
        let fault = Fault { what: String::new(), ..fault };
        let address = start(policy(None, &[], &[value_of(&fault, "--allow-host")]), std::future::pending());
        let own = format!("Host: {host}\r\nOrigin: http://{}\r\n", host.to_lowercase());
        assert!(send_to(address, &get(&own)).starts_with("HTTP/1.1 200"), "{host}");
        let other = send_to(address, &get(&format!("Host: {host}\r\nOrigin: https://example.org\r\n")));
        assert!(other.starts_with("HTTP/1.1 403"), "an allowed host allows no other origin: {other}");
    }
    for (headers, what) in [
        ("", "the request names no host"),
        ("Host: a b\r\n", "the header `Host` is `a b`"),
        ("Host: localhost/\r\n", "the header `Host` is `localhost/`"),
    ] {
        let (status, fault) = status_and_fault(&send(&get(headers)));
        assert_eq!((status.as_str(), fault.what.as_str()), ("403", what));
    }
    let two = send(&get("Host: localhost\r\nHost: example.org\r\n"));
    assert!(two.starts_with("HTTP/1.1 403") || two.starts_with("HTTP/1.1 400"), "{two}");
}

#[test]
fn the_remedy_of_a_refused_origin_works() {
    for origin in ["https://example.org", "http://192.168.1.2:8080", "app://obsidian.md"] {
        let headers = format!("Host: localhost\r\nOrigin: {origin}\r\n");
        let (status, fault) = status_and_fault(&send(&get(&headers)));
        assert_eq!(
            (status.as_str(), fault.what.as_str()),
            ("403", format!("a page of `{origin}` sent the request").as_str())
        );
        let address = start(policy(None, &[value_of(&fault, "--allow-origin")], &[]), std::future::pending());
        let answer = send_to(address, &get(&headers));
        let allowed = format!("access-control-allow-origin: {origin}\r\n");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&allowed), "{answer}");
    }
    let headers = "Host: localhost\r\nOrigin: null\r\n";
    let (status, fault) = status_and_fault(&send(&get(headers)));
    assert_eq!((status.as_str(), value_of(&fault, "--allow-origin")), ("403", "null"));
    let secret = "0123456789abcdef0123456789abcdef";
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("null-token");
    fs::write(&path, secret).expect("a temporary file");
    let token = Token::read(&path).expect("it is long enough");
    let address = start(policy(Some(token), &["null"], &[]), std::future::pending());
    let answer = send_to(address, &get(&format!("{headers}Authorization: Bearer {secret}\r\n")));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("access-control-allow-origin: null\r\n"), "{answer}");
}

#[test]
fn a_preflight_allows_every_header_that_openais_client_sends() {
    let asked = "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-package-version,\
                 x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout";
    for path in ["/v1/images/generations", "/v1/models", "/v1/encode", "/v1/none", "/generated-images/a.png"] {
        for method in ["GET", "POST", "DELETE"] {
            let preflight = |origin: &str, more: &str| {
                send(&format!(
                    "OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: {origin}\r\n\
                     Access-Control-Request-Method: {method}\r\nAccess-Control-Request-Headers: {asked}\r\n{more}\r\n"
                ))
            };
            let answer = preflight("http://localhost:5173", "Access-Control-Request-Private-Network: true\r\n");
            for header in [
                "HTTP/1.1 200",
                "access-control-allow-origin: http://localhost:5173\r\n",
                "access-control-allow-methods: GET,POST\r\n",
                &format!("access-control-allow-headers: {asked}\r\n"),
                "access-control-allow-private-network: true\r\n",
                "access-control-max-age: 7200\r\n",
                "vary: origin, access-control-request-method, access-control-request-headers\r\n",
            ] {
                assert!(answer.contains(header), "{header} {answer}");
            }
            assert!(!preflight("http://localhost:5173", "").contains("private-network"), "it was not asked for");
            let foreign = preflight("https://example.org", "");
            assert!(foreign.starts_with("HTTP/1.1 403") && !foreign.contains("access-control-allow"), "{foreign}");
        }
    }
}
