//! The companion over HTTP: the built page as static files, and an interface under `/v1` that embeds prompts and draws
//! pictures, the latter in the shape that OpenAI's clients speak.
//!
//! | route | what |
//! |---|---|
//! | `POST /v1/encode` | captions → text embeddings, JSON or safetensors |
//! | `POST /v1/images/generations` | a prompt → pictures; `"stream": true` tells each step as a server-sent event |
//! | `GET /v1/models` | what is loaded, and where it runs |
//! | `GET /v1/openapi.json` | this table for programs |
//! | `GET /healthz`, `/readyz` | whether it answers; whether it is loaded and takes requests |
//! | `GET /metrics` | counters for Prometheus |
//!
//! Who may ask is settled in `doors`. Every refusal is a [`Fault`] as JSON, and in OpenAI's words
//! beside it. It opens no file for writing and reads none outside the page's folder.

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

use crate::queue::Queue;
use crate::{About, Error};

mod doors;
mod images;
mod loopback;
mod meters;
mod refusal;
mod status;
mod text;

pub use doors::{Doors, Token};
use meters::Meters;
use refusal::Refusal;

/// Room for the longest request that is accepted, with every character escaped as JSON does.
const BODY_BYTES_MAX: usize = 512 * 1024;
/// The same with a picture to draw over and its mask, of 2048 px in PNG and base64.
const PICTURE_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Connections at a time; the next ones wait in the system's own queue.
const CONNECTIONS_MAX: usize = 2048;
/// Time for the headers of a request, and between two pieces of its body.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a connection's buffer, which all headers of a request fit.
const HEADER_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// After the signal to stop new connections are taken for so long, and then those that were have as long to send a request.
const LINGER: Duration = Duration::from_millis(300);

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct Serving {
    /// The folder of the built page; without it only the interface is served.
    pub page: Option<PathBuf>,
    pub doors: Doors,
    /// Time for the whole of a request.
    pub within: Duration,
    /// Time that requests under way are given once the server is told to stop.
    pub grace: Duration,
}

/// What all routes share.
#[derive(Clone)]
pub struct Server {
    queue: Queue,
    /// Set once the model is loaded.
    about: Arc<OnceLock<About>>,
    stopping: Arc<AtomicBool>,
    meters: Arc<Meters>,
}

impl Server {
    #[must_use]
    pub fn new(queue: Queue) -> Self {
        let meters = Arc::new(Meters::new(queue.tally()));
        Self { queue, about: Arc::default(), stopping: Arc::default(), meters }
    }

    /// Tells that the model is loaded.
    pub fn is_loaded(&self, about: About) {
        // It is told once.
        self.about.set(about).ok();
    }

    /// The server's routes.
    ///
    /// # Errors
    /// A page without `index.html`.
    pub fn router(&self, serving: &Serving) -> Result<Router, Error> {
        let doors = Arc::new(serving.doors.clone());
        let interface = Router::new()
            .route("/encode", post(text::encode))
            .route("/images/generations", post(images::generate).layer(DefaultBodyLimit::max(PICTURE_BYTES_MAX)))
            .route("/models", get(status::models))
            .route("/openapi.json", get(status::openapi))
            .method_not_allowed_fallback(async || Refusal::none(StatusCode::METHOD_NOT_ALLOWED))
            .fallback(async || Refusal::none(StatusCode::NOT_FOUND))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .layer(RequestBodyTimeoutLayer::new(HEADERS_WITHIN))
            .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, serving.within))
            .layer(middleware::from_fn_with_state(self.clone(), refuse_when_stopping))
            .layer(middleware::from_fn_with_state(Arc::clone(&doors), doors::ask_for_token))
            .layer(serving.doors.cors());
        let metrics = Router::new()
            .route("/metrics", get(status::metrics))
            .layer(middleware::from_fn_with_state(Arc::clone(&doors), doors::ask_for_token));
        let mut router = Router::new()
            .nest("/v1", interface)
            .merge(metrics)
            .route("/healthz", get(status::health))
            .route("/readyz", get(status::ready))
            .with_state(self.clone());
        if let Some(page) = &serving.page {
            if !page.join("index.html").is_file() {
                return Err(Error::NoPage { path: page.clone() });
            }
            router = router.fallback_service(ServeDir::new(page));
        }
        let span = TraceLayer::new_for_http().make_span_with(|request: &Request| {
            let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
            tracing::info_span!("request", id, method = %request.method(), path = request.uri().path())
        });
        Ok(doors::secured(router)
            .layer(middleware::from_fn_with_state(doors, doors::guard))
            .layer(middleware::from_fn_with_state(Arc::clone(&self.meters), metered))
            .layer(PropagateRequestIdLayer::x_request_id())
            .layer(span)
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid)))
    }

    /// Answers until `stop` is ready. From then on requests that are under way are finished and new ones refused.
    pub async fn run(&self, listener: TcpListener, router: Router, stop: impl Future<Output = ()>, grace: Duration) {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .max_buf_size(HEADER_BYTES_MAX)
            .max_headers(HEADERS_MAX);
        let (graceful, room) = (GracefulShutdown::new(), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
        let serve = |stream, permit| {
            let service = TowerToHyperService::new(router.clone());
            let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
            tokio::spawn(async move {
                // A client that goes away, or sends what is no HTTP, is its own affair.
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended");
                }
                drop(permit);
            });
        };
        let accept = async || {
            let permit = Arc::clone(&room).acquire_owned().await.expect("it is never closed");
            match listener.accept().await {
                Ok((stream, _)) => serve(stream, Some(permit)),
                Err(error) => {
                    // Out of file handles, most likely: others have to be closed first.
                    tracing::warn!(%error, "a connection could not be taken");
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
        // Those whom the system has already taken are answered, too, that the server is stopping.
        tokio::time::timeout(LINGER, async {
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
        // A connection that has not sent its request yet would be closed without an answer.
        tokio::time::sleep(LINGER).await;
        if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
            tracing::warn!(seconds = grace.as_secs(), "requests were still under way");
        }
    }
}

/// Listens at `address`; port 0 takes a free one.
///
/// # Errors
/// An address that is taken, or not this computer's.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

async fn refuse_when_stopping(State(server): State<Server>, request: Request, next: Next) -> Response {
    if server.stopping.load(Ordering::Relaxed) {
        let fault = Fault::new(FaultCode::Busy, "the companion is stopping", "ask again when it is back");
        return Refusal::of(StatusCode::SERVICE_UNAVAILABLE, fault).retry_after(5).into_response();
    }
    next.run(request).await
}

async fn metered(State(meters): State<Arc<Meters>>, request: Request, next: Next) -> Response {
    let began = std::time::Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or("page".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    meters.answered(route, response.status().as_u16(), began.elapsed());
    response
}
