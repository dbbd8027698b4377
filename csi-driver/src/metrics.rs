//! What the driver measures.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};
use tonic::Code;

/// Seconds; the boundaries that CSI's own sidecars use.
const BUCKETS: [f64; 13] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    driver_name: String,
    method_name: &'static str,
    grpc_status_code: String,
}

/// The driver's metrics. Clones share their values.
#[derive(Debug, Clone)]
pub struct Metrics {
    operations: Family<Operation, Histogram, fn() -> Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { operations: Family::new_with_constructor(|| Histogram::new(BUCKETS)) }
    }
}

impl Metrics {
    /// Adds the metrics to `registry` under upstream's names:
    /// `csi_plugin_operations_seconds`, by driver, method and status code.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "csi_plugin_operations_seconds",
            "Duration of CSI operations in seconds, with the gRPC status code they ended with",
            self.operations.clone(),
        );
    }

    pub(crate) fn observe(&self, driver: &str, method: &'static str, code: Code, took: Duration) {
        let operation = Operation {
            driver_name: driver.to_owned(),
            method_name: method,
            grpc_status_code: format!("{code:?}"),
        };
        self.operations.get_or_create(&operation).observe(took.as_secs_f64());
    }
}
