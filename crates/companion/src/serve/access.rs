//! Access control of the server. By default it answers programs and pages of this computer. With a token it also answers other
//! computers, and pages whose origins are listed. It sets the security headers of every response.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pixart_protocol::{Fault, FaultCode};
use subtle::ConstantTimeEq;
use tower_http::cors::{AllowHeaders, AllowOrigin, AllowPrivateNetwork, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;

use super::api_error::ApiError;
use super::base64_input;
use super::hosts::{AllowedOrigin, Host, Origin};
use crate::Error;

/// Least length of a token in bytes: 128 bits in hexadecimal.
const TOKEN_BYTES_MIN: usize = 32;

/// Time for which browsers remember a preflight: Chromium's limit.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(7200);
/// Response header that identifies a companion and carries its version.
const COMPANION_HEADER: HeaderName = HeaderName::from_static("x-pixart-companion");
/// Content-Security-Policy of the page: its own files, compiled wasm, and connections to companions and checkpoints anywhere.
const CSP: &str = include_str!("../../../../web/csp.txt").trim_ascii();

/// Bearer token of the server.
#[derive(Clone)]
pub struct Token(Arc<[u8]>);

impl Token {
    /// Reads the token from the first line of a file.
    ///
    /// # Errors
    /// A file that cannot be read, or a token that is too short.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let token = text.lines().next().unwrap_or_default().trim();
        if token.len() < TOKEN_BYTES_MIN {
            return Err(Error::TokenTooShort { path: path.to_owned(), has: token.len(), least: TOKEN_BYTES_MIN });
        }
        Ok(Self(token.as_bytes().into()))
    }

    /// Compares in constant time.
    fn matches(&self, presented: &[u8]) -> bool {
        self.0.ct_eq(presented).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Token")
    }
}

/// Rules that decide which requests a server answers.
#[derive(Clone, Debug, Default)]
pub struct AccessPolicy {
    token: Option<Token>,
    /// Origins of pages of other computers that may send requests.
    origins: Arc<[AllowedOrigin]>,
    /// Hosts that requests may name beside this computer's.
    hosts: Arc<[Host]>,
}

impl AccessPolicy {
    /// Makes the policy of a server that listens at `listen` and also answers pages of `origins`: `https://example.org`, `null`
    /// or `*`.
    ///
    /// # Errors
    /// An address that other computers can reach, or origins of all web sites, without a token; a text that is no origin.
    pub fn new(listen: SocketAddr, token: Option<Token>, origins: &[String]) -> Result<Self, Error> {
        if !listen.ip().is_loopback() && token.is_none() {
            return Err(Error::TokenRequired { address: listen });
        }
        let parsed = origins.iter().map(|origin| AllowedOrigin::from_flag(origin)).collect::<Result<Vec<_>, _>>()?;
        let open = parsed.iter().zip(origins).find(|(parsed, _)| !matches!(parsed, AllowedOrigin::One(_)));
        if let Some((_, open)) = open.filter(|_| token.is_none()) {
            let what = format!("--allow-origin is `{open}`, and no token is set: any web site could use the companion");
            let remedy = "pass --token-file too, or name the origins, as --allow-origin https://example.org";
            return Err(Fault::new(FaultCode::Companion, what, remedy).into());
        }
        Ok(Self { token, origins: parsed.into(), hosts: Arc::default() })
    }

    /// Also answers requests to `hosts`, names with or without a port.
    ///
    /// # Errors
    /// A text that is no host.
    pub fn allow_hosts(self, hosts: &[String]) -> Result<Self, Error> {
        let hosts = hosts.iter().map(|host| Host::from_flag(host)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { hosts: hosts.into(), ..self })
    }

    fn allows_origin(&self, origin: &str) -> bool {
        Origin::parse(origin).is_some_and(|origin| origin.is_loopback())
            || self.origins.iter().any(|allowed| allowed.allows(origin))
    }

    /// Without a token, only this computer's names and those of `--allow-host` are allowed.
    fn allows_host(&self, host: &Host) -> bool {
        self.token.is_some() || host.is_loopback() || self.hosts.iter().any(|allowed| allowed.covers(host))
    }

    /// Returns the fault of a request from a foreign origin. Programs other than browsers need not send `Origin`. Without a
    /// token `Host` is checked too, because a web site can point its own name at this computer (DNS rebinding).
    fn foreign_origin(&self, headers: &HeaderMap) -> Option<Fault> {
        let mut hosts = headers.get_all(HOST).iter().map(|host| String::from_utf8_lossy(host.as_bytes()));
        let (text, others) = (hosts.next().unwrap_or_default(), hosts.count());
        let host = Host::parse(&text).filter(|_| others == 0);
        let Some(host) = host.filter(|host| self.allows_host(host)) else {
            return Some(foreign_host(&text));
        };
        let origin = String::from_utf8_lossy(headers.get(ORIGIN)?.as_bytes());
        let is_own = Origin::parse(&origin).is_some_and(|origin| origin.is_of(&host));
        if is_own || self.allows_origin(&origin) {
            return None;
        }
        let (what, remedy) = match (&*origin, Origin::parse(&origin)) {
            ("null", _) => (
                "a page without an origin (`null`) sent the request: a file, or a sandboxed frame".to_owned(),
                "serve the page over HTTP from localhost, or start the companion with --allow-origin null and --token-file"
                    .to_owned(),
            ),
            (_, Some(origin)) => (
                format!("a page of `{origin}` sent the request"),
                format!("open the page from localhost, or start the companion with --allow-origin {origin}"),
            ),
            (text, None) => (
                format!("the header `Origin` is `{text}`"),
                "send the origin of the page, as `http://localhost:7860`, or leave the header out".to_owned(),
            ),
        };
        Some(Fault::new(FaultCode::Companion, what, remedy))
    }

    /// CORS layer: allowed origins may read responses and send any header, also where a browser sends a Private Network Access
    /// preflight.
    pub(super) fn cors(&self) -> CorsLayer {
        let policy = self.clone();
        let allows = move |origin: &HeaderValue, _: &axum::http::request::Parts| {
            origin.to_str().is_ok_and(|origin| policy.allows_origin(origin))
        };
        CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(allows))
            .allow_methods([Method::GET, Method::POST])
            // OpenAI's client sends a dozen headers of its own, and each version others.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([RETRY_AFTER, HeaderName::from_static("x-request-id")])
            .allow_private_network(AllowPrivateNetwork::yes())
            .max_age(PREFLIGHT_MAX_AGE)
    }
}

/// Fault of a request whose `Host` is `text`.
fn foreign_host(text: &str) -> Fault {
    let (what, remedy) = match Host::parse(text) {
        Some(host) => (
            format!("the request names the host `{text}`, which is not known as this computer"),
            format!("send it to localhost, or start the companion with --allow-host {}", host.name()),
        ),
        None if text.is_empty() => {
            ("the request names no host".to_owned(), "send the header `Host`, as `localhost:7860`".to_owned())
        }
        None => (
            format!("the header `Host` is `{text}`"),
            "send one host with or without its port, as `localhost:7860`".to_owned(),
        ),
    };
    Fault::new(FaultCode::Companion, what, remedy)
}

/// Middleware that rejects foreign origins with 403.
pub(super) async fn check_origin(State(policy): State<Arc<AccessPolicy>>, request: Request, next: Next) -> Response {
    match policy.foreign_origin(request.headers()) {
        Some(fault) => ApiError::new(StatusCode::FORBIDDEN, fault).into_response(),
        None => next.run(request).await,
    }
}

/// Middleware that rejects requests without the bearer token with 401.
pub(super) async fn require_token(State(policy): State<Arc<AccessPolicy>>, request: Request, next: Next) -> Response {
    let presented = request.headers().get(AUTHORIZATION).and_then(|value| presented_token(value.as_bytes()));
    if policy.token.as_ref().is_some_and(|token| !presented.is_some_and(|presented| token.matches(&presented))) {
        let fault = Fault::new(
            FaultCode::Companion,
            "the bearer token is missing or wrong",
            "send `Authorization: Bearer <token>`",
        );
        return ApiError::new(StatusCode::UNAUTHORIZED, fault).into_response();
    }
    next.run(request).await
}

/// The token of an `Authorization` header: a bearer token, or the password of the scheme that AUTOMATIC1111's clients use.
fn presented_token(value: &[u8]) -> Option<Vec<u8>> {
    if let Some(token) = bearer_token(value) {
        return Some(token.to_vec());
    }
    let (scheme, credentials) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("Basic").then(|| base64_input::decode(credentials))??;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded[colon + 1..].to_vec())
}

/// The bearer token of an `Authorization` header. The name of the scheme is in letters of any case.
fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token.trim_ascii())
}

/// Adds the headers that every response has.
pub(super) fn with_security_headers(router: Router) -> Router {
    let always = |name: HeaderName, value| SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value));
    router
        .layer(always(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(always(X_FRAME_OPTIONS, "SAMEORIGIN"))
        .layer(always(REFERRER_POLICY, "no-referrer"))
        .layer(always(CONTENT_SECURITY_POLICY, CSP))
        // The page looks for a companion at its own origin only where this header is present.
        .layer(always(COMPANION_HEADER, env!("CARGO_PKG_VERSION")))
        // A rebuilt page must not be served from the browser's cache.
        .layer(always(CACHE_CONTROL, "no-cache"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Result<Token, Error> {
        let path = std::env::temp_dir().join(format!("pixart-token-{}-{}", std::process::id(), text.len()));
        std::fs::write(&path, text).expect("a temporary file");
        let token = Token::read(&path);
        std::fs::remove_file(path).expect("it was written above");
        token
    }

    #[test]
    fn a_token_is_the_first_line_and_has_a_minimum_length() {
        let secret = "0123456789abcdef0123456789abcdef";
        let good = token(&format!("  {secret} \nsecond line\n")).expect("it is long enough");
        assert!(good.matches(secret.as_bytes()));
        for wrong in ["", "0123456789abcdef0123456789abcdee", "0123456789abcdef0123456789abcdef0"] {
            assert!(!good.matches(wrong.as_bytes()), "{wrong}");
        }
        assert!(token("short").expect_err("it is short").to_string().contains("5 characters"));
        assert!(token("").is_err());
    }

    #[test]
    fn an_address_other_computers_reach_requires_a_token() {
        let all = "0.0.0.0:7860".parse().expect("an address");
        assert!(AccessPolicy::new(all, None, &[]).is_err());
        let held = token("0123456789abcdef0123456789abcdef").expect("long enough");
        assert!(AccessPolicy::new(all, Some(held), &[]).is_ok());
        assert!(AccessPolicy::new("127.0.0.1:0".parse().expect("an address"), None, &[]).is_ok());
    }

    #[test]
    fn origins_of_all_web_sites_require_a_token() {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let token = token("0123456789abcdef0123456789abcdef0").expect("long enough");
        for open in ["*", "null"] {
            let fault = Fault::from(AccessPolicy::new(listen, None, &[open.to_owned()]).expect_err(open));
            assert_eq!(
                fault.what,
                format!("--allow-origin is `{open}`, and no token is set: any web site could use the companion")
            );
            let policy = AccessPolicy::new(listen, Some(token.clone()), &[open.to_owned()]).expect("it has a token");
            assert!(policy.allows_origin("null") && policy.allows_origin("https://example.org") == (open == "*"));
        }
    }
}
