//! What is counted, for Prometheus.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::queue::Tally;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

/// The server's own numbers beside those of its device thread.
pub(super) struct Meters {
    registry: Registry,
    answers: Family<Answer, Counter>,
    seconds: Family<Route, Histogram>,
    waiting: Gauge<i64, AtomicI64>,
}

impl Meters {
    pub(super) fn new(tally: &Tally) -> Self {
        let mut registry = Registry::with_prefix("pixart");
        let answers = Family::<Answer, Counter>::default();
        // From a millisecond to a quarter of an hour.
        let histogram = || Histogram::new(exponential_buckets(0.001, 4.0, 11));
        let seconds = Family::<Route, Histogram>::new_with_constructor(histogram);
        let waiting = Gauge::default();
        registry.register("answers", "Requests answered, by route and status", answers.clone());
        registry.register_with_unit("answer", "Time from headers to answer", Unit::Seconds, seconds.clone());
        registry.register("waiting", "Requests that wait for the device", waiting.clone());
        let counters = [
            ("captions", "Captions encoded or answered from memory", &tally.captions),
            ("caption_hits", "Captions answered from memory", &tally.hits),
            ("batches", "Times that waiting captions were taken up together", &tally.batches),
            ("pictures", "Pictures drawn", &tally.pictures),
            ("steps", "Denoising steps", &tally.steps),
            ("cancelled", "Pictures that nobody waited for any more", &tally.cancelled),
            ("refused", "Requests refused because too many were waiting", &tally.refused),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register_with_unit("busy", "Time the device has worked", Unit::Seconds, tally.busy.clone());
        Self { registry, answers, seconds, waiting }
    }

    pub(super) fn answered(&self, route: String, status: u16, after: Duration) {
        self.answers.get_or_create(&Answer { route: route.clone(), status }).inc();
        self.seconds.get_or_create(&Route { route }).observe(after.as_secs_f64());
    }

    /// In OpenMetrics' words.
    pub(super) fn text(&self, waiting: usize) -> String {
        self.waiting.set(waiting as i64);
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("a String takes all text");
        text
    }
}
