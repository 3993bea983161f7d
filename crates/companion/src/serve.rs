//! HTTP server of the companion: the built page as static files, and an API under `/v1` that encodes prompts and generates
//! images. Image generation follows OpenAI's image API, and under `/sdapi/v1` that of AUTOMATIC1111's web UI.
//!
//! | route | answers with |
//! |---|---|
//! | `POST /v1/encode` | text embeddings of captions, as JSON or safetensors |
//! | `POST /v1/images/generations` | images of a prompt; with `"stream": true` a server-sent event per step |
//! | `GET /generated-images/{name}` | an image of a request with `"response_format": "url"` |
//! | `GET /v1/models`, `/v1/models/{id}` | the loaded model and its device, and its aliases |
//! | `/sdapi/v1/…` | the API of AUTOMATIC1111's web UI, see the module `sdapi` |
//! | `GET /openapi.json`, `/v1/openapi.json` | the OpenAPI document of this API |
//! | `GET /healthz`, `/readyz` | liveness; readiness, once the model is loaded |
//! | `GET /metrics` | Prometheus metrics |
//!
//! The module `access` decides which requests are answered. Every error is a [`Fault`] as JSON, with OpenAI's error object
//! beside it. The server opens no file for writing and reads none outside the page's folder.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, OriginalUri, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use pixart_protocol::{Fault, FaultCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::services::ServeDir;
use tower_http::timeout::RequestBodyTimeoutLayer;
use tower_http::trace::TraceLayer;

use crate::Error;

mod access;
mod api_error;
mod app_state;
mod base64_input;
mod cache;
mod fields;
mod hosts;
mod image_request;
mod image_store;
mod images;
mod metrics;
mod openapi;
pub mod queue;
mod sdapi;
mod status;
mod text;

pub use access::{AccessPolicy, Token};
use api_error::ApiError;
pub use app_state::{AppState, ModelInfo, model_id};
use image_store::ImageStore;
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
/// `Retry-After` while the model is loaded.
const LOADING_RETRY_SECONDS: u64 = 5;
/// Time after the stop signal in which new connections are accepted, and then the time that they have to send a request.
const STOP_LINGER: Duration = Duration::from_millis(300);

/// Options of [`Server::router`].
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Folder of the built page; `None` serves the API alone.
    pub page: Option<PathBuf>,
    pub access_policy: AccessPolicy,
    /// Names that the loaded model answers to beside its own.
    pub model_aliases: Vec<String>,
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
    model_info: Arc<watch::Sender<Option<ModelInfo>>>,
    /// Places for requests that wait for the model, as many as in the queue.
    waiting: Arc<Semaphore>,
    model_aliases: Arc<[String]>,
    image_store: Arc<ImageStore>,
    stopping: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl Server {
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        let metrics = Arc::new(Metrics::new(queue.metrics()));
        let waiting = Arc::new(Semaphore::new(queue.queued_max()));
        Self {
            queue,
            model_info: Arc::default(),
            waiting,
            model_aliases: Arc::default(),
            image_store: Arc::default(),
            stopping: Arc::default(),
            metrics,
        }
    }

    /// Marks the server ready: its model is loaded.
    pub fn set_ready(&self, info: ModelInfo) {
        self.model_info.send_replace(Some(info));
    }

    fn model_info(&self) -> Option<ModelInfo> {
        self.model_info.borrow().clone()
    }

    /// Waits until the model is loaded.
    async fn loaded_model(&self) -> Result<ModelInfo, ApiError> {
        if let Some(info) = self.model_info() {
            return Ok(info);
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            let fault = Fault::new(FaultCode::Busy, "the model is still loading", "try again later");
            return Err(ApiError::from(fault).retry_after(LOADING_RETRY_SECONDS));
        };
        let mut loaded = self.model_info.subscribe();
        let info = loaded.wait_for(Option::is_some).await.map_err(|_| queue::thread_stopped())?;
        Ok(info.clone().expect("it was waited for"))
    }

    /// Builds the routes.
    ///
    /// # Errors
    /// A page folder without `index.html`.
    pub fn router(&self, options: &ServeOptions) -> Result<Router, Error> {
        let server = Self { model_aliases: options.model_aliases.clone().into(), ..self.clone() };
        let policy = Arc::new(options.access_policy.clone());
        let api = Router::new()
            .route("/encode", post(text::encode))
            .route("/images/generations", post(images::generate).layer(DefaultBodyLimit::max(IMAGE_BODY_BYTES_MAX)))
            .route("/models", get(status::models))
            .route("/models/{id}", get(status::model))
            .route("/openapi.json", get(status::openapi))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(not_found);
        let limited = |routes: Router<Self>| {
            routes
                .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
                .layer(RequestBodyTimeoutLayer::new(READ_TIMEOUT))
                .layer(middleware::from_fn_with_state(options.request_timeout, limit_time))
                .layer(middleware::from_fn_with_state(self.clone(), reject_when_stopping))
                .layer(middleware::from_fn_with_state(Arc::clone(&policy), access::require_token))
        };
        let api = limited(api).layer(options.access_policy.cors());
        let sdapi = sdapi::with_errors(limited(sdapi::routes())).layer(options.access_policy.cors());
        let metrics = Router::new()
            .route("/metrics", get(status::metrics))
            .layer(middleware::from_fn_with_state(Arc::clone(&policy), access::require_token));
        let images = Router::new()
            .route(&format!("{}/{{name}}", image_store::PATH), get(image_store::get))
            .method_not_allowed_fallback(method_not_allowed)
            .layer(options.access_policy.cors());
        let mut router = Router::new()
            .nest("/v1", api)
            .nest("/sdapi/v1", sdapi)
            // The fallback of the nested routes does not see this path.
            .route("/v1/", any(not_found))
            .merge(images)
            .merge(metrics)
            .route("/openapi.json", get(status::openapi).layer(options.access_policy.cors()))
            .route("/healthz", get(status::health))
            .route("/readyz", get(status::ready))
            .with_state(server);
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

/// Middleware that answers with 504 after `limit`.
async fn limit_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
        let what = format!("the request was not answered within {} seconds", limit.as_secs());
        let remedy = "send it with fewer steps or images, or start the companion with a longer --request-timeout";
        ApiError::new(StatusCode::GATEWAY_TIMEOUT, Fault::new(FaultCode::Busy, what, remedy)).into_response()
    })
}

async fn not_found(OriginalUri(uri): OriginalUri, method: Method) -> ApiError {
    ApiError::no_route(StatusCode::NOT_FOUND, &method, uri.path())
}

async fn method_not_allowed(OriginalUri(uri): OriginalUri, method: Method) -> ApiError {
    ApiError::no_route(StatusCode::METHOD_NOT_ALLOWED, &method, uri.path())
}

/// Middleware that records route, status and duration of every response.
async fn record_response(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let began = std::time::Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("page".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    metrics.record(route, response.status().as_u16(), began.elapsed());
    response
}
