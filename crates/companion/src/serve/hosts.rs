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
mod tests;
