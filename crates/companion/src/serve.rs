//! HTTP server of the companion: the built page as static files, and an API under `/v1` that encodes prompts and generates
//! images. Image generation follows OpenAI's image API.
//!
//! | route | answers with |
//! |---|---|
//! | `POST /v1/encode` | text embeddings of captions, as JSON or safetensors |
//! | `POST /v1/images/generations` | images of a prompt; with `"stream": true` a server-sent event per step |
//! | `GET /v1/models` | the loaded model and its device |
//! | `GET /v1/openapi.json` | the OpenAPI document of this API |
//! | `GET /healthz`, `/readyz` | liveness; readiness, once the model is loaded |
//! | `GET /metrics` | Prometheus metrics |
//!
//! The module `access` decides which requests are answered. Every error is a [`Fault`] as JSON, with OpenAI's error object
//! beside it. The server opens no file for writing and reads none outside the page's folder.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use pixart_protocol::{Fault, FaultCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::services::ServeDir;
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};
use tower_http::trace::TraceLayer;

use crate::Error;

mod access;
mod api_error;
mod app_state;
mod cache;
mod images;
mod loopback;
mod metrics;
pub mod queue;
mod status;
mod text;

pub use access::{AccessPolicy, Token};
use api_error::ApiError;
pub use app_state::{AppState, ModelInfo};
use metrics::Metrics;
use queue::Queue;

/// Size limit of a body: the longest accepted request with every character escaped in JSON.
const BODY_BYTES_MAX: usize = 512 * 1024;
/// Size limit of a body with an input image and its mask, each of 2048 px in PNG and base64.
const IMAGE_BODY_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Limit of open connections; further ones wait in the system's backlog.
const CONNECTIONS_MAX: usize = 2048;
/// Timeout for the headers of a request, and between two chunks of its body.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Size of a connection's buffer, which bounds the headers of a request.
const HEADER_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// Time after the stop signal in which new connections are accepted, and then the time that they have to send a request.
const STOP_LINGER: Duration = Duration::from_millis(300);

/// Options of [`Server::router`].
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Folder of the built page; `None` serves the API alone.
    pub page: Option<PathBuf>,
    pub access_policy: AccessPolicy,
    /// Time after which a request is answered with 504.
    pub request_timeout: Duration,
    /// Time that requests in flight are given after the stop signal.
    pub shutdown_timeout: Duration,
}

/// State shared by all routes.
#[derive(Clone)]
pub struct Server {
    queue: Queue,
    /// Set once the model is loaded.
    model_info: Arc<OnceLock<ModelInfo>>,
    stopping: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl Server {
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        let metrics = Arc::new(Metrics::new(queue.metrics()));
        Self { queue, model_info: Arc::default(), stopping: Arc::default(), metrics }
    }

    /// Marks the server ready: its model is loaded.
    pub fn set_ready(&self, info: ModelInfo) {
        // Only the first call counts.
        self.model_info.set(info).ok();
    }

    /// Builds the routes.
    ///
    /// # Errors
    /// A page folder without `index.html`.
    pub fn router(&self, options: &ServeOptions) -> Result<Router, Error> {
        let policy = Arc::new(options.access_policy.clone());
        let api = Router::new()
            .route("/encode", post(text::encode))
            .route("/images/generations", post(images::generate).layer(DefaultBodyLimit::max(IMAGE_BODY_BYTES_MAX)))
            .route("/models", get(status::models))
            .route("/openapi.json", get(status::openapi))
            .method_not_allowed_fallback(async || ApiError::not_found(StatusCode::METHOD_NOT_ALLOWED))
            .fallback(async || ApiError::not_found(StatusCode::NOT_FOUND))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(RequestBodyTimeoutLayer::new(READ_TIMEOUT))
            .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, options.request_timeout))
            .layer(middleware::from_fn_with_state(self.clone(), reject_when_stopping))
            .layer(middleware::from_fn_with_state(Arc::clone(&policy), access::require_token))
            .layer(options.access_policy.cors());
        let metrics = Router::new()
            .route("/metrics", get(status::metrics))
            .layer(middleware::from_fn_with_state(Arc::clone(&policy), access::require_token));
        let mut router = Router::new()
            .nest("/v1", api)
            .merge(metrics)
            .route("/healthz", get(status::health))
            .route("/readyz", get(status::ready))
            .with_state(self.clone());
        if let Some(page) = &options.page {
            if !page.join("index.html").is_file() {
                return Err(Error::NotAPage { path: page.clone() });
            }
            router = router.fallback_service(ServeDir::new(page));
        }
        let span = TraceLayer::new_for_http().make_span_with(|request: &Request| {
            let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
            tracing::info_span!("request", id, method = %request.method(), path = request.uri().path())
        });
        Ok(access::with_security_headers(router)
            .layer(middleware::from_fn_with_state(policy, access::check_origin))
            .layer(middleware::from_fn_with_state(Arc::clone(&self.metrics), record_response))
            .layer(PropagateRequestIdLayer::x_request_id())
            .layer(span)
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid)))
    }

    /// Serves until `stop` is ready. Then requests in flight are finished, for `timeout` at most, and new ones rejected.
    pub async fn run(&self, listener: TcpListener, router: Router, stop: impl Future<Output = ()>, timeout: Duration) {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(READ_TIMEOUT)
            .max_buf_size(HEADER_BYTES_MAX)
            .max_headers(HEADERS_MAX);
        let (graceful, room) = (GracefulShutdown::new(), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
        let serve = |stream, permit| {
            let service = TowerToHyperService::new(router.clone());
            let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
            tokio::spawn(async move {
                // A client that disconnects or sends invalid HTTP does not concern the server.
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection closed with an error");
                }
                drop(permit);
            });
        };
        let accept = async || {
            let permit = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
            match listener.accept().await {
                Ok((stream, _)) => serve(stream, Some(permit)),
                Err(error) => {
                    // Most likely the process is out of file descriptors until other connections close.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = accept() => {}
                () = &mut stop => break,
            }
        }
        self.stopping.store(true, Ordering::Relaxed);
        tracing::info!("stopping");
        // Connections in the system's backlog are answered too, with 503.
        tokio::time::timeout(STOP_LINGER, async {
            loop {
                accept().await;
            }
        })
        .await
        .ok();
        if let Ok(listener) = listener.into_std() {
            while let Ok((stream, _)) = listener.accept() {
                if stream.set_nonblocking(true).is_ok()
                    && let Ok(stream) = TcpStream::from_std(stream)
                {
                    serve(stream, None);
                }
            }
        }
        // An accepted connection gets time to send its request; otherwise it would be closed without an answer.
        tokio::time::sleep(STOP_LINGER).await;
        if tokio::time::timeout(timeout, graceful.shutdown()).await.is_err() {
            tracing::warn!(seconds = timeout.as_secs(), "requests in flight were aborted");
        }
    }
}

/// Listens at `address`; port 0 takes a free one.
///
/// # Errors
/// An address that is in use, or not this computer's.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Middleware that rejects new requests with 503 while the server stops.
async fn reject_when_stopping(State(server): State<Server>, request: Request, next: Next) -> Response {
    if server.stopping.load(Ordering::Relaxed) {
        let fault = Fault::new(FaultCode::Busy, "the companion is stopping", "send the request again once it runs");
        return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, fault).retry_after(5).into_response();
    }
    next.run(request).await
}

/// Middleware that records route, status and duration of every response.
async fn record_response(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let began = std::time::Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("page".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    metrics.record(route, response.status().as_u16(), began.elapsed());
    response
}
