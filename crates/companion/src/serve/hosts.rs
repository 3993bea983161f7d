//! Hosts and origins, as the `Host` and `Origin` headers and the flags `--allow-host` and `--allow-origin` write them.
//!
//! Listening on 127.0.0.1 keeps other computers out, but any web page that is open in a browser here can send requests to
//! it. Pages cannot forge `Origin` and `Host`. `Origin` identifies the page; `Host` is a foreign name where a web site has
//! pointed its own name at 127.0.0.1 (DNS rebinding).

use std::net::{Ipv4Addr, Ipv6Addr};

use pixart_protocol::{Fault, FaultCode};

/// A host's name or address, in lower case and without the dot of the root, and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    name: String,
    address: Option<Address>,
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Address {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Host {
    /// Reads `name`, `name:port`, `127.0.0.1:port` or `[::1]:port`; `None` for other texts.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, port, address) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inside, port) = rest.split_once(']')?;
                let address: Ipv6Addr = inside.parse().ok()?;
                let port = if port.is_empty() { "" } else { port.strip_prefix(':')? };
                (format!("[{address}]"), port, Some(Address::V6(address)))
            }
            None => {
                let (name, port) = text.split_once(':').unwrap_or((text, ""));
                let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                let is_label = |label: &str| {
                    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
                };
                name.split('.').all(is_label).then_some(())?;
                let address = ipv4(&name);
                (name, port, address.map(Address::V4))
            }
        };
        let port = match port {
            "" => None,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            _ => return None,
        };
        Some(Self { name, address, port })
    }

    /// True for names and addresses of this computer: `localhost` and all names below it, 127.0.0.0/8 and `[::1]`.
    pub(super) fn is_loopback(&self) -> bool {
        match self.address {
            Some(Address::V4(address)) => address.is_loopback(),
            Some(Address::V6(address)) => address.to_canonical().is_loopback(),
            None => self.name == "localhost" || self.name.ends_with(".localhost"),
        }
    }

    /// True where `other` is the same host, and has the same port where this one names a port.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let port = other.port.or(Some(HTTP_PORT));
        self.name == other.name && (self.port.is_none() || self.port == port)
    }

    /// The host without its port.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads a value of `--allow-host`.
    ///
    /// # Errors
    /// A value that is no host.
    pub(super) fn from_flag(text: &str) -> Result<Self, Fault> {
        Self::parse(text).ok_or_else(|| {
            let inside = text.split_once("://").map_or(text, |(_, rest)| rest);
            let inside = inside.split(['/', '?', '#']).next().unwrap_or_default();
            let remedy = match (text, Self::parse(inside)) {
                ("*", _) => "name each host; with --token-file every host is allowed".to_owned(),
                (_, Some(_)) => format!("write the host alone: --allow-host {inside}"),
                (_, None) => "write a host with or without its port, as `host.docker.internal`".to_owned(),
            };
            Fault::new(FaultCode::BadRequest, format!("--allow-host is `{text}`"), remedy)
        })
    }
}

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Reads an IPv4 address with one to four decimal numbers, as browsers do: `127.1` is 127.0.0.1.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let numbers = text.split('.').map(|number| {
        let is_decimal =
            number.bytes().all(|byte| byte.is_ascii_digit()) && (number == "0" || !number.starts_with('0'));
        number.parse::<u32>().ok().filter(|_| is_decimal)
    });
    let numbers: Vec<u32> = numbers.collect::<Option<_>>()?;
    let (last, first) = numbers.split_last()?;
    if first.len() > 3 || first.iter().any(|number| *number > 255) {
        return None;
    }
    let bits_left = 32 - 8 * first.len() as u32;
    (u64::from(*last) < 1 << bits_left).then_some(())?;
    let high = first.iter().enumerate().map(|(index, number)| number << (24 - 8 * index)).sum::<u32>();
    Some(Ipv4Addr::from(high | last))
}

/// The origin of a page, without the port where it is the scheme's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: Host,
}

impl Origin {
    /// Reads `scheme://host` or `scheme://host:port`; `None` for other texts, `null` among them.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, host) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        is_scheme.then_some(())?;
        let origin = Self { scheme: scheme.to_ascii_lowercase(), host: Host::parse(host)? };
        let port = origin.host.port.filter(|port| Some(*port) != origin.default_port());
        Some(Self { host: Host { port, ..origin.host }, ..origin })
    }

    fn default_port(&self) -> Option<u16> {
        match self.scheme.as_str() {
            "http" => Some(HTTP_PORT),
            "https" => Some(HTTPS_PORT),
            _ => None,
        }
    }

    /// True for pages that this computer serves.
    pub(super) fn is_loopback(&self) -> bool {
        self.default_port().is_some() && self.host.is_loopback()
    }

    /// True for pages that the server with this `Host` served.
    pub(super) fn is_of(&self, host: &Host) -> bool {
        let port = host.port.filter(|port| Some(*port) != self.default_port());
        self.default_port().is_some() && self.host.name == host.name && self.host.port == port
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}://{}", self.scheme, self.host.name)?;
        self.host.port.map_or(Ok(()), |port| write!(out, ":{port}"))
    }
}

/// A value of `--allow-origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AllowedOrigin {
    One(Origin),
    /// `null`: pages in files and in sandboxed frames, of any web site.
    Null,
    /// `*`.
    Any,
}

impl AllowedOrigin {
    /// Reads a value of the flag; one slash after the host is left out.
    ///
    /// # Errors
    /// A value that no browser sends as `Origin`.
    pub(super) fn from_flag(text: &str) -> Result<Self, Fault> {
        match text {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Null),
            _ => {}
        }
        if let Some(origin) = Origin::parse(text.strip_suffix('/').unwrap_or(text)) {
            return Ok(Self::One(origin));
        }
        let cut = |text: &str| {
            let start = text.find("://").map_or(0, |at| at + 3);
            let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
            Origin::parse(&text[..end])
        };
        let remedy = if let Some(origin) = cut(text) {
            format!("leave out the path: --allow-origin {origin}")
        } else if let Some(origin) = cut(&format!("https://{text}")).filter(|_| !text.contains("://")) {
            format!("write it with its scheme: --allow-origin {origin}")
        } else if text.contains('*') {
            "repeat the flag for each origin, as `https://example.org`".to_owned()
        } else if !text.is_ascii() {
            "write the host as browsers send it, in letters of ASCII: `https://xn--…`".to_owned()
        } else {
            "write a scheme and a host, as `https://example.org`".to_owned()
        };
        Err(Fault::new(FaultCode::BadRequest, format!("--allow-origin is `{text}`"), remedy))
    }

    /// True where the `Origin` header `origin` is allowed.
    pub(super) fn allows(&self, origin: &str) -> bool {
        match self {
            Self::One(allowed) => Origin::parse(origin).is_some_and(|origin| origin == *allowed),
            Self::Null => origin == "null",
            Self::Any => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_loopback_origin(origin: &str) -> bool {
        Origin::parse(origin).is_some_and(|origin| origin.is_loopback())
    }

    fn is_loopback_host(host: &str) -> bool {
        Host::parse(host).is_some_and(|host| host.is_loopback())
    }

    #[test]
    fn loopback_origins_and_hosts_are_accepted() {
        for origin in [
            "http://localhost:5173",
            "http://127.0.0.1:7860",
            "http://[::1]:80",
            "https://LOCALHOST",
            "http://pixart.localhost:7860",
            "http://localhost.:7860",
        ] {
            assert!(is_loopback_origin(origin), "{origin}");
        }
        for host in [
            "localhost",
            "LocalHost:7860",
            "localhost.",
            "localhost.:7860",
            "pixart.localhost",
            "A.B.localhost.:1",
            "127.0.0.1:7860",
            "127.0.0.2",
            "127.255.255.254:1",
            "127.1:7860",
            "2130706433",
            "127.0.0.1.",
            "[::1]",
            "[::1]:7860",
            "[0:0:0:0:0:0:0:1]:7860",
            "[::ffff:127.0.0.1]",
            "localhost:",
        ] {
            assert!(is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn other_origins_and_hosts_are_not() {
        for origin in [
            "null",
            "",
            "https://example.org",
            "http://localhost.example.org",
            "http://127.0.0.1.example.org:7860",
            "http://127.0.0.1@example.org",
            "http://localhost:80@example.org",
            "http://localhost/",
            "http://localhost#",
            "file://localhost",
            "http://192.168.1.2",
            "http://localhost:+80",
            "http:// localhost",
        ] {
            assert!(!is_loopback_origin(origin), "{origin}");
        }
        for host in [
            "example.org:7860",
            "0.0.0.0",
            "localhost:port",
            "localhost:99999",
            "localhost:+80",
            "localhost..",
            ".localhost",
            "localhost.example",
            "notlocalhost",
            "127.0.0.1.example.org",
            "127.0.0.256",
            "127.0.0.0.1",
            "[::1",
            "[127.0.0.1]",
            "::2",
            "::1",
            "[::]",
            "",
            ".",
            "localhost, example.org",
        ] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn an_allowed_origin_is_normalized() {
        for (flag, origin) in [
            ("https://example.org", "https://example.org"),
            ("https://example.org/", "https://example.org"),
            ("HTTPS://Example.ORG:443/", "https://example.org"),
            ("http://example.org:80", "http://example.org"),
            ("http://example.org:8080", "http://example.org:8080"),
            ("https://example.org:80", "https://example.org:80"),
            ("http://[0:0::1]:5173/", "http://[::1]:5173"),
            ("app://obsidian.md", "app://obsidian.md"),
            ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
            ("null", "null"),
            ("*", "https://anything.example"),
        ] {
            let allowed = AllowedOrigin::from_flag(flag).unwrap_or_else(|fault| panic!("{flag}: {fault}"));
            assert!(allowed.allows(origin), "{flag} {origin}");
            if let AllowedOrigin::One(one) = &allowed {
                assert_eq!(one.to_string(), origin);
                assert!(!allowed.allows("https://example.com") && !allowed.allows("null"), "{flag}");
            }
        }
        let https = AllowedOrigin::from_flag("https://example.org").expect("an origin");
        assert!(!https.allows("http://example.org") && !https.allows("https://sub.example.org"));
        assert!(!https.allows("https://example.org:8443"));
    }

    #[test]
    fn a_value_that_is_no_origin_is_refused_with_what_to_write() {
        for (flag, remedy) in [
            ("https://example.org/app", "leave out the path: --allow-origin https://example.org"),
            ("https://example.org//", "leave out the path: --allow-origin https://example.org"),
            ("https://example.org?a=b", "leave out the path: --allow-origin https://example.org"),
            ("https://example.org:8443/#top", "leave out the path: --allow-origin https://example.org:8443"),
            ("example.org", "write it with its scheme: --allow-origin https://example.org"),
            ("example.org:8080/", "write it with its scheme: --allow-origin https://example.org:8080"),
            ("https://*.example.org", "repeat the flag for each origin, as `https://example.org`"),
            ("https://bücher.example", "write the host as browsers send it, in letters of ASCII: `https://xn--…`"),
            ("https://user@example.org", "write a scheme and a host, as `https://example.org`"),
            ("https://", "write a scheme and a host, as `https://example.org`"),
            ("https://example.org:port", "write a scheme and a host, as `https://example.org`"),
            ("", "write a scheme and a host, as `https://example.org`"),
            ("a b", "write a scheme and a host, as `https://example.org`"),
        ] {
            let fault = AllowedOrigin::from_flag(flag).expect_err(flag);
            assert_eq!((fault.what, fault.remedy.as_str()), (format!("--allow-origin is `{flag}`"), remedy));
            // A remedy that names a value names one that is accepted.
            if let Some((_, value)) = remedy.split_once("--allow-origin ") {
                AllowedOrigin::from_flag(value).expect(value);
            }
        }
    }

    #[test]
    fn an_allowed_host_is_a_host_with_or_without_a_port() {
        let covers =
            |flag: &str, host: &str| Host::from_flag(flag).expect(flag).covers(&Host::parse(host).expect(host));
        assert!(covers("host.docker.internal", "host.docker.internal:7860"));
        assert!(covers("HOST.docker.internal.", "host.docker.INTERNAL"));
        assert!(covers("nas:80", "nas") && covers("nas:7860", "nas:7860") && !covers("nas:7860", "nas:7861"));
        assert!(covers("[fd00::1]", "[fd00:0::1]:7860") && !covers("nas", "nas.example"));
        for (flag, remedy) in [
            ("http://nas:7860/", "write the host alone: --allow-host nas:7860"),
            ("nas/app", "write the host alone: --allow-host nas"),
            ("*", "name each host; with --token-file every host is allowed"),
            ("*.example.org", "write a host with or without its port, as `host.docker.internal`"),
            ("", "write a host with or without its port, as `host.docker.internal`"),
        ] {
            let fault = Host::from_flag(flag).expect_err(flag);
            assert_eq!((fault.what, fault.remedy.as_str()), (format!("--allow-host is `{flag}`"), remedy));
        }
    }
}
