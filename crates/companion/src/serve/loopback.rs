//! Checks of the `Origin` and `Host` headers against loopback names.
//!
//! Listening on 127.0.0.1 keeps other computers out, but any web page that is open in a browser here can send requests to
//! it. Pages cannot forge `Origin` and `Host`. `Origin` identifies the page; `Host` is a foreign name where a web site has
//! pointed its own name at 127.0.0.1 (DNS rebinding).

use std::net::IpAddr;

/// True for `Origin` values of pages served by this computer; false for `null` (a file, a sandboxed frame).
pub(crate) fn is_origin(origin: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| origin.strip_prefix(scheme).is_some_and(is_host))
}

/// True for `Host` values that name this computer: `localhost`, `127.0.0.1`, `[::1]`, with or without a port.
pub(crate) fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, "0"),
    };
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let is_loopback = address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    (is_loopback || name.eq_ignore_ascii_case("localhost")) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_origins_and_hosts_are_accepted() {
        for origin in ["http://localhost:5173", "http://127.0.0.1:7860", "http://[::1]:80", "https://LOCALHOST"] {
            assert!(is_origin(origin), "{origin}");
        }
        for host in ["localhost", "127.0.0.1:7860", "127.0.0.2", "[::1]", "[::1]:7860"] {
            assert!(is_host(host), "{host}");
        }
    }

    #[test]
    fn other_origins_and_hosts_are_not() {
        let origins = [
            "null",
            "",
            "https://example.org",
            "http://localhost.example.org",
            "http://127.0.0.1.example.org:7860",
            "http://127.0.0.1@example.org",
            "http://localhost:80@example.org",
            "http://localhost/",
            "file://localhost",
            "http://192.168.1.2",
        ];
        for origin in origins {
            assert!(!is_origin(origin), "{origin}");
        }
        for host in ["example.org:7860", "0.0.0.0", "localhost:port", "[::1", "::2", ""] {
            assert!(!is_host(host), "{host}");
        }
    }
}
