//! Access control of the server. By default it answers programs and pages of this computer. With a token it also answers other
//! computers, and pages whose origins are listed. It sets the security headers of every response.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pixart_protocol::{Fault, FaultCode};
use subtle::ConstantTimeEq;
use tower_http::cors::{AllowOrigin, AllowPrivateNetwork, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;

use super::api_error::ApiError;
use super::loopback;
use crate::Error;

/// Least length of a token in bytes: 128 bits in hexadecimal.
const TOKEN_BYTES_MIN: usize = 32;

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
    origins: Arc<[String]>,
}

impl AccessPolicy {
    /// Makes the policy of a server that listens at `listen`.
    ///
    /// # Errors
    /// An address that other computers can reach, without a token.
    pub fn new(listen: SocketAddr, token: Option<Token>, origins: Vec<String>) -> Result<Self, Error> {
        if !listen.ip().is_loopback() && token.is_none() {
            return Err(Error::TokenRequired { address: listen });
        }
        Ok(Self { token, origins: origins.into() })
    }

    fn allows_origin(&self, origin: &str) -> bool {
        loopback::is_origin(origin) || self.origins.iter().any(|allowed| allowed == origin)
    }

    /// Returns the fault of a request from a foreign origin. Programs other than browsers need not send `Origin`. Without a
    /// token `Host` is checked too, because a web site can point its own name at this computer (DNS rebinding).
    fn foreign_origin(&self, headers: &HeaderMap) -> Option<Fault> {
        let header = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let (host, origin) = (header(HOST), header(ORIGIN));
        let is_own = |origin: &str| {
            self.token.is_some() && host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, at)| at == host))
        };
        let host_is_good = host.is_some_and(|host| self.token.is_some() || loopback::is_host(host));
        if host_is_good && origin.is_none_or(|origin| self.allows_origin(origin) || is_own(origin)) {
            return None;
        }
        let [origin, host] = [origin, host].map(|value| value.map_or("none".to_owned(), |value| format!("`{value}`")));
        let what = format!("a request was sent from origin {origin} to host {host}");
        let remedy = "open the page from localhost or 127.0.0.1, or start the companion with --allow-origin";
        Some(Fault::new(FaultCode::Companion, what, remedy))
    }

    /// CORS layer: allowed origins may read responses, also where a browser sends a Private Network Access preflight.
    pub(super) fn cors(&self) -> CorsLayer {
        let policy = self.clone();
        let allows = move |origin: &HeaderValue, _: &axum::http::request::Parts| {
            origin.to_str().is_ok_and(|origin| policy.allows_origin(origin))
        };
        CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(allows))
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([CONTENT_TYPE, AUTHORIZATION])
            .expose_headers([RETRY_AFTER, HeaderName::from_static("x-request-id")])
            .allow_private_network(AllowPrivateNetwork::yes())
    }
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
    let presented = request.headers().get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if policy.token.as_ref().is_some_and(|token| !presented.is_some_and(|presented| token.matches(presented))) {
        let fault = Fault::new(
            FaultCode::Companion,
            "the bearer token is missing or wrong",
            "send `Authorization: Bearer <token>`",
        );
        return ApiError::new(StatusCode::UNAUTHORIZED, fault).into_response();
    }
    next.run(request).await
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
        assert!(AccessPolicy::new(all, None, Vec::new()).is_err());
        let held = token("0123456789abcdef0123456789abcdef").expect("long enough");
        assert!(AccessPolicy::new(all, Some(held), Vec::new()).is_ok());
        assert!(AccessPolicy::new("127.0.0.1:0".parse().expect("an address"), None, Vec::new()).is_ok());
    }
}
