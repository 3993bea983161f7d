//! The page's companion over HTTP: the built page as static files, and `POST /v1/encode`, which embeds captions with
//! this computer's text encoder.
//!
//! It listens on 127.0.0.1 only and answers loopback pages only, wherever on this computer they are served from; see
//! `loopback.rs`. Every refusal under `/v1` is a [`Fault`] as JSON with a 4xx or 5xx status. It holds no file
//! open for writing and reads none outside the page's folder.

use std::future::Future;
use std::path::Path;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use pixart_protocol::{EncodeReply, EncodeRequest, Fault, FaultCode};
use tokio::net::TcpListener;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::services::ServeDir;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::queue::Queue;
use crate::{Error, loopback};

/// Room for the longest request that [`EncodeRequest::validate`] accepts, with every character escaped as JSON does.
const BODY_BYTES_MAX: usize = 512 * 1024;

/// The server's routes. `page` is the folder of the built page; without it only the interface is served.
pub fn router(queue: Queue, page: Option<&Path>) -> Result<Router, Error> {
    let interface = Router::new()
        .route("/encode", post(encode))
        .method_not_allowed_fallback(async || Refusal::bad_request(StatusCode::METHOD_NOT_ALLOWED, "use POST"))
        .fallback(async || Refusal::bad_request(StatusCode::NOT_FOUND, "the interface has /v1/encode only"))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(cors())
        .with_state(queue);
    let mut router = Router::new().nest("/v1", interface);
    if let Some(page) = page {
        if !page.join("index.html").is_file() {
            return Err(Error::NoPage { path: page.to_owned() });
        }
        router = router.fallback_service(ServeDir::new(page));
    }
    Ok(router
        .layer(always(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // A page that was built again has to be seen again.
        .layer(always(CACHE_CONTROL, "no-cache"))
        .layer(middleware::from_fn(loopback_only)))
}

/// Listens on `port` of the loopback interface; 0 takes a free one.
pub async fn listen(port: u16) -> Result<TcpListener, Error> {
    TcpListener::bind(("127.0.0.1", port)).await.map_err(|source| Error::Listen { port, source })
}

/// Answers until `stop` is ready, then finishes the requests that are under way.
pub async fn run(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    axum::serve(listener, router).with_graceful_shutdown(stop).await.map_err(|source| Error::Serve { source })
}

async fn encode(
    State(queue): State<Queue>,
    body: Result<Json<EncodeRequest>, JsonRejection>,
) -> Result<Json<EncodeReply>, Refusal> {
    let Json(request) = body.map_err(|rejection| {
        let fault = Fault::new(
            FaultCode::BadRequest,
            format!("the body is not an encode request: {}", rejection.body_text()),
            r#"send {"captions": ["...", "..."]} as application/json"#,
        );
        Refusal { status: rejection.status(), fault }
    })?;
    request.validate()?;
    Ok(Json(queue.encode(request).await?))
}

/// A fault on its way out.
struct Refusal {
    status: StatusCode,
    fault: Fault,
}

impl Refusal {
    fn bad_request(status: StatusCode, remedy: &str) -> Self {
        let what = format!("the companion has nothing here ({status})");
        Self { status, fault: Fault::new(FaultCode::BadRequest, what, remedy) }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let status = match fault.code {
            FaultCode::BadRequest => StatusCode::BAD_REQUEST,
            FaultCode::Companion => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, fault }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        tracing::warn!(status = self.status.as_u16(), fault = %self.fault, "refused");
        (self.status, Json(self.fault)).into_response()
    }
}

async fn loopback_only(request: Request, next: Next) -> Response {
    match foreign(request.headers()) {
        Some(fault) => Refusal { status: StatusCode::FORBIDDEN, fault }.into_response(),
        None => next.run(request).await,
    }
}

/// Why a request is not one of this computer's, if so. A program that is no browser need not name an origin.
fn foreign(headers: &HeaderMap) -> Option<Fault> {
    let header = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let (host, origin) = (header(HOST), header(ORIGIN));
    if host.is_some_and(loopback::is_host) && origin.is_none_or(loopback::is_origin) {
        return None;
    }
    let what = format!("a request from origin {origin:?} to host {host:?}");
    Some(Fault::new(FaultCode::Companion, what, "open the page from localhost or 127.0.0.1"))
}

/// Lets a page that is served from another port of this computer read the replies.
fn cors() -> CorsLayer {
    let loopback_page =
        |origin: &HeaderValue, _: &axum::http::request::Parts| origin.to_str().is_ok_and(loopback::is_origin);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(loopback_page))
        .allow_methods([Method::POST])
        .allow_headers([CONTENT_TYPE])
}

fn always(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value))
}
