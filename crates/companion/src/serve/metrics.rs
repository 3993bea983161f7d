//! Prometheus metrics of the server and of its device thread.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::queue::QueueMetrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

/// HTTP metrics, registered together with those of the device thread.
pub(super) struct Metrics {
    registry: Registry,
    responses: Family<ResponseLabels, Counter>,
    durations: Family<RouteLabels, Histogram>,
    queued: Gauge<i64, AtomicI64>,
}

impl Metrics {
    pub(super) fn new(metrics: &QueueMetrics) -> Self {
        let mut registry = Registry::with_prefix("pixart");
        let responses = Family::<ResponseLabels, Counter>::default();
        // From a millisecond to a quarter of an hour.
        let histogram = || Histogram::new(exponential_buckets(0.001, 4.0, 11));
        let durations = Family::<RouteLabels, Histogram>::new_with_constructor(histogram);
        let queued = Gauge::default();
        registry.register("http_requests", "HTTP requests answered, by route and status", responses.clone());
        let help = "Time from request headers to response headers";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, durations.clone());
        registry.register("queued", "Requests queued for the device", queued.clone());
        let counters = [
            ("captions", "Captions encoded or served from the cache", &metrics.captions),
            ("caption_cache_hits", "Captions served from the cache", &metrics.cache_hits),
            ("encode_batches", "Batches of the text encoder", &metrics.batches),
            ("images", "Images generated", &metrics.images),
            ("denoising_steps", "Denoising steps", &metrics.steps),
            ("cancelled", "Requests cancelled because the client disconnected", &metrics.cancelled),
            ("rejected", "Requests rejected because the queue was full", &metrics.rejected),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register_with_unit(
            "device_busy",
            "Time the device thread has worked",
            Unit::Seconds,
            metrics.busy_seconds.clone(),
        );
        Self { registry, responses, durations, queued }
    }

    /// Records one response.
    pub(super) fn record(&self, route: String, status: u16, duration: Duration) {
        self.responses.get_or_create(&ResponseLabels { route: route.clone(), status }).inc();
        self.durations.get_or_create(&RouteLabels { route }).observe(duration.as_secs_f64());
    }

    /// All metrics in the OpenMetrics text format.
    pub(super) fn to_text(&self, queued: usize) -> String {
        self.queued.set(queued as i64);
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("a String takes all text");
        text
    }
}
