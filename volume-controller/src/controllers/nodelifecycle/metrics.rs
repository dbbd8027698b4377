//! What becomes of nodes, under upstream's names.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::zone::Zones;

/// A zone, or the nodes that name none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ZoneLabel {
    pub(crate) zone: String,
}

/// Why something was forced.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ForcedLabel {
    pub(crate) reason: &'static str,
}

/// Whose pod was removed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RemovedLabel {
    pub(crate) namespace: String,
    pub(crate) reason: &'static str,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct NodeMetrics {
    size: Family<ZoneLabel, Gauge>,
    health: Family<ZoneLabel, Gauge>,
    unhealthy: Family<ZoneLabel, Gauge>,
    pub(crate) evictions: Family<ZoneLabel, Counter>,
    pub(crate) evicted_pods: Counter,
    pub(crate) removed_pods: Family<RemovedLabel, Counter>,
    /// Attach-detach's. Only grows; a gauge because upstream's name has no `_total`, which a counter would get.
    pub(crate) forced_detaches: Family<ForcedLabel, Gauge>,
}

impl NodeMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("node_collector_zone_size", "Nodes of a zone", self.size.clone());
        registry.register(
            "node_collector_zone_health",
            "How many of 100 nodes of a zone are ready",
            self.health.clone(),
        );
        registry.register(
            "node_collector_unhealthy_nodes_in_zone",
            "Nodes of a zone that are not ready",
            self.unhealthy.clone(),
        );
        registry.register(
            "node_collector_evictions",
            "Nodes from which pods began to be driven away",
            self.evictions.clone(),
        );
        registry.register(
            "taint_eviction_controller_pod_deletions",
            "Pods driven away by a taint of their node",
            self.evicted_pods.clone(),
        );
        registry.register(
            "pod_gc_collector_force_delete_pods",
            "Pods removed without the word of their node",
            self.removed_pods.clone(),
        );
        registry.register(
            "attachdetach_controller_forced_detaches",
            "Volumes detached from nodes that did not say that they had let go of them",
            self.forced_detaches.clone(),
        );
    }

    pub(crate) fn counted(&self, zones: &Zones) {
        self.forget();
        for (name, zone) in zones {
            let label = ZoneLabel { zone: name.clone() };
            let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
            self.size.get_or_create(&label).set(number(zone.size));
            self.unhealthy.get_or_create(&label).set(number(zone.unready));
            self.health
                .get_or_create(&label)
                .set(number((zone.size - zone.unready) * 100 / zone.size.max(1)));
        }
    }

    /// Takes back what is told of nodes that are watched elsewhere.
    pub(crate) fn forget(&self) {
        self.size.clear();
        self.health.clear();
        self.unhealthy.clear();
    }
}
