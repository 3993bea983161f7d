//! Who is let in. By default programs and pages of this computer; elsewhere whoever holds the token, from pages that are
//! listed. A browser is told what a page of ours may do.

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

use super::loopback;
use super::refusal::Refusal;
use crate::Error;

/// Bytes of a token, at least: 128 bits in hexadecimal.
const TOKEN_MIN: usize = 32;

/// Says that a companion answers, with its version.
const COMPANION: HeaderName = HeaderName::from_static("x-pixart-companion");
/// What the page may load and where it may ask: its own files, compiled wasm, companions and checkpoints anywhere.
const POLICY: &str = include_str!("../../../../web/csp.txt").trim_ascii();

/// A secret that a caller shows.
#[derive(Clone)]
pub struct Token(Arc<[u8]>);

impl Token {
    /// The first line of a file.
    ///
    /// # Errors
    /// A file that cannot be read, or a token that could be guessed.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let token = text.lines().next().unwrap_or_default().trim();
        if token.len() < TOKEN_MIN {
            return Err(Error::WeakToken { path: path.to_owned(), has: token.len(), least: TOKEN_MIN });
        }
        Ok(Self(token.as_bytes().into()))
    }

    /// Takes as long for a token that is nearly right as for one that is not.
    fn is(&self, shown: &[u8]) -> bool {
        self.0.ct_eq(shown).into()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Token")
    }
}

/// The doors of one server.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    token: Option<Token>,
    /// Origins of pages of other computers that may ask.
    origins: Arc<[String]>,
}

impl Doors {
    /// # Errors
    /// An address that other computers reach without a token.
    pub fn new(listen: SocketAddr, token: Option<Token>, origins: Vec<String>) -> Result<Self, Error> {
        if !listen.ip().is_loopback() && token.is_none() {
            return Err(Error::OpenDoor { address: listen });
        }
        Ok(Self { token, origins: origins.into() })
    }

    fn lets(&self, origin: &str) -> bool {
        loopback::is_origin(origin) || self.origins.iter().any(|allowed| allowed == origin)
    }

    /// Why a request is not let in by where it comes from, if so. A program that is no browser need not name an origin.
    /// Without a token the name it was reached by is looked at too: a web site can point its own name at this computer.
    fn foreign(&self, headers: &HeaderMap) -> Option<Fault> {
        let header = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let (host, origin) = (header(HOST), header(ORIGIN));
        let is_own = |origin: &str| {
            self.token.is_some() && host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, at)| at == host))
        };
        let host_is_good = host.is_some_and(|host| self.token.is_some() || loopback::is_host(host));
        if host_is_good && origin.is_none_or(|origin| self.lets(origin) || is_own(origin)) {
            return None;
        }
        let what = format!("a request from origin {origin:?} to host {host:?}");
        let remedy = "open the page from localhost or 127.0.0.1, or start the companion with --allow-origin";
        Some(Fault::new(FaultCode::Companion, what, remedy))
    }

    /// Lets pages that are let in read the replies, also where a browser asks first because this is a private network.
    pub(super) fn cors(&self) -> CorsLayer {
        let doors = self.clone();
        let lets = move |origin: &HeaderValue, _: &axum::http::request::Parts| {
            origin.to_str().is_ok_and(|origin| doors.lets(origin))
        };
        CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(lets))
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([CONTENT_TYPE, AUTHORIZATION])
            .expose_headers([RETRY_AFTER, HeaderName::from_static("x-request-id")])
            .allow_private_network(AllowPrivateNetwork::yes())
    }
}

pub(super) async fn guard(State(doors): State<Arc<Doors>>, request: Request, next: Next) -> Response {
    match doors.foreign(request.headers()) {
        Some(fault) => Refusal::of(StatusCode::FORBIDDEN, fault).into_response(),
        None => next.run(request).await,
    }
}

pub(super) async fn ask_for_token(State(doors): State<Arc<Doors>>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(AUTHORIZATION).and_then(|shown| shown.as_bytes().strip_prefix(b"Bearer "));
    if doors.token.as_ref().is_some_and(|token| !shown.is_some_and(|shown| token.is(shown))) {
        let fault =
            Fault::new(FaultCode::Companion, "no token, or another one", "send `Authorization: Bearer <token>`");
        return Refusal::of(StatusCode::UNAUTHORIZED, fault).into_response();
    }
    next.run(request).await
}

/// The headers that every answer has.
pub(super) fn secured(router: Router) -> Router {
    let always = |name: HeaderName, value| SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value));
    router
        .layer(always(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(always(X_FRAME_OPTIONS, "SAMEORIGIN"))
        .layer(always(REFERRER_POLICY, "no-referrer"))
        .layer(always(CONTENT_SECURITY_POLICY, POLICY))
        // The page it serves asks for it, and elsewhere asks nobody.
        .layer(always(COMPANION, env!("CARGO_PKG_VERSION")))
        // A page that was built again has to be seen again.
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
    fn a_token_is_the_first_line_and_long_enough() {
        let secret = "0123456789abcdef0123456789abcdef";
        let good = token(&format!("  {secret} \nsecond line\n")).expect("it is long enough");
        assert!(good.is(secret.as_bytes()));
        for wrong in ["", "0123456789abcdef0123456789abcdee", "0123456789abcdef0123456789abcdef0"] {
            assert!(!good.is(wrong.as_bytes()), "{wrong}");
        }
        assert!(token("short").expect_err("it is short").to_string().contains("5 characters"));
        assert!(token("").is_err());
    }

    #[test]
    fn no_other_computer_gets_in_without_a_token() {
        let all = "0.0.0.0:7860".parse().expect("an address");
        assert!(Doors::new(all, None, Vec::new()).is_err());
        let held = token("0123456789abcdef0123456789abcdef").expect("long enough");
        assert!(Doors::new(all, Some(held), Vec::new()).is_ok());
        assert!(Doors::new("127.0.0.1:0".parse().expect("an address"), None, Vec::new()).is_ok());
    }
}
