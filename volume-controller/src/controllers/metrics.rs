//! What the controllers' queues look like from outside, under upstream's names.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{leader::LeaderLabel, nodelifecycle::NodeMetrics, snapshot::Timing};

/// Which controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct QueueLabel {
    /// Its name, as in logs.
    pub(crate) name: String,
}

/// Metrics of all controllers.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(crate) depth: Family<QueueLabel, Gauge>,
    pub(crate) oldest_age: Family<QueueLabel, Gauge<f64, AtomicU64>>,
    pub(crate) retries: Family<QueueLabel, Counter>,
    /// Whether the controllers run here, where they may run elsewhere.
    pub(super) leading: Family<LeaderLabel, Gauge>,
    pub(super) snapshots: Timing,
    pub(super) nodes: NodeMetrics,
}

impl Metrics {
    /// Registers them, once.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("workqueue_depth", "Keys that wait or are worked on", self.depth.clone());
        registry.register_with_unit(
            "workqueue_oldest_age",
            "How long the first key in line has waited for a worker",
            Unit::Seconds,
            self.oldest_age.clone(),
        );
        registry.register("workqueue_retries", "Looks that have to be repeated", self.retries.clone());
        registry.register(
            "leader_election_master_status",
            "1 where the controllers run, of several servers; 0 on the others",
            self.leading.clone(),
        );
        self.snapshots.register(registry);
        self.nodes.register(registry);
    }

    /// Takes back what is told of queues that are no more.
    pub(super) fn forget(&self) {
        self.depth.clear();
        self.oldest_age.clear();
        self.nodes.forget();
    }
}
