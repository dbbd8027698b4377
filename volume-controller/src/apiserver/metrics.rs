//! What the API server tells about itself, under upstream's names.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What one request was about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) verb: &'static str,
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) subresource: &'static str,
    pub(crate) scope: &'static str,
    pub(crate) dry_run: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    dry_run: &'static str,
    code: u16,
}

/// What a watch is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    group: &'static str,
    version: &'static str,
    resource: &'static str,
}

/// The metrics of all requests.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<CodeLabels, Counter<u64, AtomicU64>>,
    seconds: Family<RequestLabels, Histogram, fn() -> Histogram>,
    long_running: Family<RequestLabels, Gauge>,
    sizes: Family<RequestLabels, Histogram, fn() -> Histogram>,
    watch_events: Family<WatchLabels, Counter<u64, AtomicU64>>,
    watch_bytes: Family<WatchLabels, Histogram, fn() -> Histogram>,
    slow_watches: Family<WatchLabels, Counter<u64, AtomicU64>>,
}

impl Metrics {
    /// Makes the metrics known to the registry.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        // 1 ms to 32 s
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 16))),
            long_running: Family::default(),
            // 1 kB to 1 GB
            sizes: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1000.0, 10.0, 7))),
            watch_events: Family::default(),
            // 1 KiB to 128 KiB
            watch_bytes: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1024.0, 2.0, 8))),
            slow_watches: Family::default(),
        };
        registry.register(
            "apiserver_request",
            "Requests by what they were about and the HTTP status code of the answer",
            metrics.requests.clone(),
        );
        registry.register(
            "apiserver_request_duration_seconds",
            "Time from a request's arrival to its answer, watches excluded",
            metrics.seconds.clone(),
        );
        registry.register(
            "apiserver_longrunning_requests",
            "Watches that are open",
            metrics.long_running.clone(),
        );
        registry.register(
            "apiserver_response_sizes",
            "Bytes of answers before they are compressed, watches excluded",
            metrics.sizes.clone(),
        );
        registry.register(
            "apiserver_watch_events",
            "Events sent to watches, bookmarks and errors included",
            metrics.watch_events.clone(),
        );
        registry.register(
            "apiserver_watch_events_sizes",
            "Bytes of an event sent to a watch",
            metrics.watch_bytes.clone(),
        );
        registry.register(
            "apiserver_terminated_watchers",
            "Watches ended because they were read too slowly",
            metrics.slow_watches.clone(),
        );
        metrics
    }

    /// Counts an answered request; `bytes` is `None` where the answer's size is not known.
    pub(crate) fn answered(&self, labels: &RequestLabels, code: u16, bytes: Option<u64>, took: Duration) {
        let RequestLabels { verb, group, version, resource, subresource, scope, dry_run } = *labels;
        let with_code = CodeLabels { verb, group, version, resource, subresource, scope, dry_run, code };
        self.requests.get_or_create(&with_code).inc();
        if verb != "WATCH" {
            self.seconds.get_or_create(labels).observe(took.as_secs_f64());
            if let Some(bytes) = bytes {
                #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
                self.sizes.get_or_create(labels).observe(bytes as f64);
            }
        }
    }

    /// Counts an open watch until it is dropped.
    pub(crate) fn open_watch(&self, labels: &RequestLabels) -> OpenWatch {
        let RequestLabels { group, version, resource, .. } = *labels;
        let of = WatchLabels { group, version, resource };
        OpenWatch {
            _open: Open::new(self.long_running.get_or_create(labels).clone()),
            events: self.watch_events.get_or_create(&of).clone(),
            bytes: self.watch_bytes.get_or_create(&of).clone(),
            slow: self.slow_watches.get_or_create(&of).clone(),
        }
    }
}

/// Something that is open.
struct Open(Gauge);

impl Open {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// An open watch in the metrics.
pub(crate) struct OpenWatch {
    _open: Open,
    events: Counter<u64, AtomicU64>,
    bytes: Histogram,
    slow: Counter<u64, AtomicU64>,
}

impl OpenWatch {
    /// Counts an event of so many bytes.
    pub(crate) fn sent(&self, bytes: usize) {
        self.events.inc();
        #[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
        self.bytes.observe(bytes as f64);
    }

    /// Counts that the watch ends for being slow.
    pub(crate) fn was_too_slow(&self) {
        self.slow.inc();
    }
}
