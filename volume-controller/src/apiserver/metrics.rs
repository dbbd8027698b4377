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

/// The metrics of all requests.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: Family<CodeLabels, Counter<u64, AtomicU64>>,
    seconds: Family<RequestLabels, Histogram, fn() -> Histogram>,
    long_running: Family<RequestLabels, Gauge>,
}

impl Metrics {
    /// Makes the metrics known to the registry.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        // 1 ms to 32 s
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 16))),
            long_running: Family::default(),
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
        metrics
    }

    /// Counts an answered request.
    pub(crate) fn answered(&self, labels: &RequestLabels, code: u16, took: Duration) {
        let RequestLabels { verb, group, version, resource, subresource, scope, dry_run } = *labels;
        let with_code = CodeLabels { verb, group, version, resource, subresource, scope, dry_run, code };
        self.requests.get_or_create(&with_code).inc();
        if verb != "WATCH" {
            self.seconds.get_or_create(labels).observe(took.as_secs_f64());
        }
    }

    /// Counts an open watch until the guard is dropped.
    pub(crate) fn open_watch(&self, labels: &RequestLabels) -> OpenWatch {
        let gauge = self.long_running.get_or_create(labels).clone();
        gauge.inc();
        OpenWatch(gauge)
    }
}

/// An open watch in the metrics.
pub(crate) struct OpenWatch(Gauge);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.dec();
    }
}
