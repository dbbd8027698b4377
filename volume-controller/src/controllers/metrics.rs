//! What the controllers' queues look like from outside, under upstream's names.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Which controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueueLabel {
    /// Its name, as in logs.
    pub name: String,
}

/// Metrics of all controllers.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(crate) depth: Family<QueueLabel, Gauge>,
    pub(crate) retries: Family<QueueLabel, Counter>,
}

impl Metrics {
    /// Registers them, once.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("workqueue_depth", "Keys that wait or are worked on", self.depth.clone());
        registry.register("workqueue_retries", "Looks that have to be repeated", self.retries.clone());
    }
}
