//! What the sidecars count, under upstream's names.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};
use tonic::Code;

use crate::queue::Gauges;

/// Buckets of `csi_sidecar_operations_seconds`, as upstream's `csi-lib-utils` has them.
const BUCKETS: [f64; 13] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    driver_name: String,
    method_name: String,
    grpc_status_code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RestartLabels {
    controller: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaseLabels {
    name: String,
}

type Calls = Family<CallLabels, Histogram, fn() -> Histogram>;

fn call_histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

/// The metrics of one run of the sidecars. Cheap to clone; register once.
#[derive(Clone)]
pub struct Metrics {
    calls: Calls,
    queues: Queues,
    restarts: Family<RestartLabels, Counter>,
    leases: Family<LeaseLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let calls = Calls::new_with_constructor(call_histogram);
        Self { calls, queues: Queues::default(), restarts: Family::default(), leases: Family::default() }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Puts everything into `registry`: `csi_sidecar_operations_seconds` (labels
    /// `driver_name`, `method_name`, `grpc_status_code`; seconds), `workqueue_depth`,
    /// `workqueue_oldest_age_seconds` and `workqueue_panics_total` (label `name`), `leader_election_master_status` (label `name`, of the lease)
    /// and `sidecar_controller_restarts_total` (labels `controller` and `reason`, which is `panic` or `error`).
    pub fn register(&self, registry: &mut Registry) {
        self.register_calls(registry);
        registry.register_collector(Box::new(self.queues.clone()));
        registry.register(
            "leader_election_master_status",
            "Whether this process holds a lease",
            self.leases.clone(),
        );
    }

    /// As [`Metrics::register`], where others in the process have queues of these names: a metric is
    /// described once. The sidecars' are `sidecar_workqueue_…` then, and there are no leases.
    pub fn register_beside(&self, registry: &mut Registry) {
        self.register_calls(registry);
        registry.sub_registry_with_prefix("sidecar").register_collector(Box::new(self.queues.clone()));
    }

    fn register_calls(&self, registry: &mut Registry) {
        registry.register(
            "csi_sidecar_operations_seconds",
            "Duration of CSI calls in seconds, by gRPC status code",
            self.calls.clone(),
        );
        registry.register(
            "sidecar_controller_restarts",
            "Controllers that stopped by themselves and were started again",
            self.restarts.clone(),
        );
    }

    pub(crate) fn count_restart(&self, controller: &'static str, reason: &'static str) {
        self.restarts.get_or_create(&RestartLabels { controller, reason }).inc();
    }

    pub(crate) fn leads(&self, lease: &str, leads: bool) {
        self.leases.get_or_create(&LeaseLabels { name: lease.to_owned() }).set(leads.into());
    }

    pub(crate) fn observe_call(&self, driver: &str, method: &str, code: Code, took: Duration) {
        let labels = CallLabels {
            driver_name: driver.to_owned(),
            // Upstream's label is the full gRPC path.
            method_name: full_method(method),
            grpc_status_code: code_name(code).to_owned(),
        };
        self.calls.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Shows a queue in the metrics for as long as it lives.
    pub(crate) fn watch_queue(&self, name: &'static str, queue: Weak<dyn Gauges>) {
        let mut queues = self.queues.0.lock();
        queues.retain(|(other, queue)| *other != name && queue.strong_count() > 0);
        queues.push((name, queue));
    }
}

fn full_method(method: &str) -> String {
    let service = match method {
        "Probe" | "GetPluginInfo" | "GetPluginCapabilities" => "Identity",
        _ if method.starts_with("Node") => "Node",
        _ => "Controller",
    };
    format!("/csi.v1.{service}/{method}")
}

/// A code as Go's gRPC prints it, which is what upstream's dashboards look for.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

type NamedQueue = (&'static str, Weak<dyn Gauges>);

#[derive(Clone, Default)]
struct Queues(Arc<Mutex<Vec<NamedQueue>>>);

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    name: &'static str,
}

impl Collector for Queues {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let queues: Vec<_> =
            self.0.lock().iter().filter_map(|(name, queue)| Some((*name, queue.upgrade()?))).collect();
        let kind = prometheus_client::metrics::MetricType::Gauge;
        let mut depths =
            encoder.encode_descriptor("workqueue_depth", "Keys that wait to be worked on", None, kind)?;
        for (name, queue) in &queues {
            let depth = ConstGauge::new(i64::try_from(queue.depth()).unwrap_or(i64::MAX));
            depth.encode(depths.encode_family(&QueueLabels { name })?)?;
        }
        let mut panics = encoder.encode_descriptor(
            "workqueue_panics",
            "Looks at keys that panicked, which are tried again",
            None,
            prometheus_client::metrics::MetricType::Counter,
        )?;
        for (name, queue) in &queues {
            ConstCounter::new(queue.panics()).encode(panics.encode_family(&QueueLabels { name })?)?;
        }
        let mut ages = encoder.encode_descriptor(
            "workqueue_oldest_age_seconds",
            "For how long the oldest key has waited or been worked on",
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?;
        for (name, queue) in &queues {
            ConstGauge::new(queue.oldest_age()).encode(ages.encode_family(&QueueLabels { name })?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Backoff, Queue};

    #[test]
    fn what_a_scrape_shows() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        metrics.observe_call(
            "d.example.com",
            "CreateVolume",
            Code::ResourceExhausted,
            Duration::from_secs(1),
        );
        let queue = Arc::new(Queue::new(Backoff::new(Duration::from_secs(1), Duration::from_secs(2))));
        queue.add("one");
        let gauges: Arc<dyn Gauges> = queue.clone();
        metrics.watch_queue("claims", Arc::downgrade(&gauges));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        let call = "csi_sidecar_operations_seconds_count{driver_name=\"d.example.com\",method_name=\"/csi.v1.Controller/CreateVolume\",grpc_status_code=\"ResourceExhausted\"} 1";
        assert!(text.contains(call), "{text}");
        assert!(text.contains("workqueue_depth{name=\"claims\"} 1"), "{text}");
        assert!(text.contains("workqueue_panics_total{name=\"claims\"} 0"), "{text}");
        assert!(text.contains("workqueue_oldest_age_seconds{name=\"claims\"}"), "{text}");
    }
}
