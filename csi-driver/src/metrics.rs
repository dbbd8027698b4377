//! What the driver measures.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tonic::Code;

/// Seconds; the boundaries that CSI's own sidecars use.
const BUCKETS: [f64; 13] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];

/// Seconds; a freeze is ended after ten.
const FREEZE_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operation {
    driver_name: String,
    method_name: &'static str,
    grpc_status_code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    pool: String,
}

/// What was measured of a pool, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolFigures {
    pub(crate) size: u64,
    pub(crate) free: u64,
    pub(crate) promised: u64,
    pub(crate) healthy: bool,
}

/// The driver's metrics. Clones share their values.
#[derive(Debug, Clone)]
pub struct Metrics {
    operations: Family<Operation, Histogram, fn() -> Histogram>,
    frozen: Family<OfPool, Histogram, fn() -> Histogram>,
    pool_size: Family<OfPool, Gauge>,
    pool_free: Family<OfPool, Gauge>,
    pool_promised: Family<OfPool, Gauge>,
    pool_healthy: Family<OfPool, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            operations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            frozen: Family::new_with_constructor(|| Histogram::new(FREEZE_BUCKETS)),
            pool_size: Family::default(),
            pool_free: Family::default(),
            pool_promised: Family::default(),
            pool_healthy: Family::default(),
        }
    }
}

impl Metrics {
    /// Adds the metrics to `registry` under upstream's names:
    /// `csi_plugin_operations_seconds`, by driver, method and status code; and this driver's
    /// own, `holdfast_snapshot_freeze_seconds` and `holdfast_pool_*`, by pool.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "csi_plugin_operations_seconds",
            "Duration of CSI operations in seconds, with the gRPC status code they ended with",
            self.operations.clone(),
        );
        registry.register(
            "holdfast_snapshot_freeze_seconds",
            "How long the mounted file systems of volumes were frozen in seconds, once for each cut that froze any",
            self.frozen.clone(),
        );
        for (name, help, family) in [
            (
                "holdfast_pool_size_bytes",
                "Size of the pool's file system in bytes, without what is reserved for root",
                &self.pool_size,
            ),
            ("holdfast_pool_free_bytes", "Free bytes of the pool's file system", &self.pool_free),
            (
                "holdfast_pool_promised_bytes",
                "Bytes promised to the pool's volumes and snapshots, written or not",
                &self.pool_promised,
            ),
            (
                "holdfast_pool_healthy",
                "Whether the pool is healthy: 1, or 0 where its volumes are reported as abnormal or it does not answer",
                &self.pool_healthy,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
    }

    pub(crate) fn note_pool(&self, pool: &str, figures: PoolFigures) {
        let pool = OfPool { pool: pool.to_owned() };
        let set = |family: &Family<OfPool, Gauge>, value: u64| {
            family.get_or_create(&pool).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.pool_size, figures.size);
        set(&self.pool_free, figures.free);
        set(&self.pool_promised, figures.promised);
        set(&self.pool_healthy, figures.healthy.into());
    }

    /// The pool cannot be measured: its figures stay those of the last time.
    pub(crate) fn pool_hangs(&self, pool: &str) {
        self.pool_healthy.get_or_create(&OfPool { pool: pool.to_owned() }).set(0);
    }

    /// Programs that write were held up for so long, for a cut that succeeded or not.
    pub(crate) fn observe_freeze(&self, pool: &str, held: Duration) {
        self.frozen.get_or_create(&OfPool { pool: pool.to_owned() }).observe(held.as_secs_f64());
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
