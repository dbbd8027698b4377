//! What the store tells about itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// The label of a metric that is told per resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResourceLabel {
    /// As in [`super::Key::resource`].
    pub resource: String,
}

/// The store's metrics. Clones share the values.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Time of one SQL transaction, from its begin to its durable end.
    pub commit_seconds: Histogram,
    /// Writes in one SQL transaction.
    pub batch_writes: Histogram,
    /// SQL transactions that committed writes.
    pub batches: Counter,
    /// SQL transactions that failed.
    pub failures: Counter,
    /// Objects by resource.
    pub objects: Family<ResourceLabel, Gauge>,
    /// Bytes of all objects' JSON.
    pub objects_bytes: Gauge,
    /// The most that they may have; 0 without a limit.
    pub quota_bytes: Gauge,
    /// Bytes that the database occupies, as of the last quiet moment.
    pub database_bytes: Gauge,
    /// Of these, what the next writes will use.
    pub database_free_bytes: Gauge,
    /// The latest revision.
    pub revision: Gauge,
    /// The revision up to which the change log is compacted on disk.
    pub compacted: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            // 0.1 ms to 3 s
            commit_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            batch_writes: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            batches: Counter::default(),
            failures: Counter::default(),
            objects: Family::default(),
            objects_bytes: Gauge::default(),
            quota_bytes: Gauge::default(),
            database_bytes: Gauge::default(),
            database_free_bytes: Gauge::default(),
            revision: Gauge::default(),
            compacted: Gauge::default(),
        }
    }

    /// Adds the metrics to a registry, under `holdfast_store_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("holdfast_store");
        registry.register_with_unit(
            "commit",
            "Time of one SQL transaction, from its begin to its durable end",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register("batch_writes", "Writes in one SQL transaction", self.batch_writes.clone());
        registry.register("batches", "SQL transactions that committed writes", self.batches.clone());
        registry.register("failures", "SQL transactions that failed", self.failures.clone());
        registry.register("objects", "Objects by resource", self.objects.clone());
        for (name, help, gauge) in [
            ("objects", "Bytes of the objects' JSON", &self.objects_bytes),
            ("quota", "The most bytes that the objects' JSON may have; 0 without a limit", &self.quota_bytes),
            ("database", "Bytes that the database occupies", &self.database_bytes),
            (
                "database_free",
                "Bytes of the database that the next writes will use",
                &self.database_free_bytes,
            ),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        }
        registry.register("revision", "The latest revision", self.revision.clone());
        registry.register("compacted", "Revision up to which the log is compacted", self.compacted.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_encoded_under_their_names() {
        let metrics = Metrics::new();
        metrics.commit_seconds.observe(0.002);
        metrics.batches.inc();
        metrics.objects.get_or_create(&ResourceLabel { resource: "pods".to_owned() }).set(3);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "holdfast_store_commit_seconds_count 1",
            "holdfast_store_batches_total 1",
            "holdfast_store_objects{resource=\"pods\"} 3",
            "holdfast_store_objects_bytes 0",
            "holdfast_store_revision 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
