//! Counts and durations, under the names that kubelet's dashboards know.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabels {
    operation_name: &'static str,
    volume_plugin: String,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CsiLabels {
    driver_name: String,
    method_name: &'static str,
    grpc_status_code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TotalLabels {
    state: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

struct Inner {
    operations: Histograms<OperationLabels>,
    csi: Histograms<CsiLabels>,
    volumes: Family<TotalLabels, Gauge>,
}

/// The metrics of one node agent; clones share the same numbers.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

impl Default for Metrics {
    fn default() -> Self {
        let seconds: fn() -> Histogram = || {
            Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0])
        };
        Self(Arc::new(Inner {
            operations: Family::new_with_constructor(seconds),
            csi: Family::new_with_constructor(seconds),
            volumes: Family::default(),
        }))
    }
}

impl Metrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "storage_operation_duration_seconds",
            "Duration of volume operations on this node",
            self.0.operations.clone(),
        );
        registry.register("csi_operations_seconds", "Duration of calls to CSI drivers", self.0.csi.clone());
        registry.register(
            "volume_manager_total_volumes",
            "Volumes in the wanted and in the actual state of this node",
            self.0.volumes.clone(),
        );
    }

    pub(crate) fn operation(
        &self,
        operation_name: &'static str,
        volume_plugin: String,
        ok: bool,
        took: Duration,
    ) {
        let status = if ok { "success" } else { "fail-unknown" };
        self.0
            .operations
            .get_or_create(&OperationLabels { operation_name, volume_plugin, status })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn csi(&self, driver: &str, method_name: &'static str, code: &'static str, took: Duration) {
        self.0
            .csi
            .get_or_create(&CsiLabels { driver_name: driver.to_owned(), method_name, grpc_status_code: code })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn volumes(&self, wanted: usize, actual: usize) {
        for (state, count) in [("desired_state_of_world", wanted), ("actual_state_of_world", actual)] {
            self.0
                .volumes
                .get_or_create(&TotalLabels { state })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
