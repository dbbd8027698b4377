//! How long snapshots and group snapshots take, under upstream's names: `snapshot_controller_operation_total_seconds`
//! and `snapshot_controller_operations_in_flight`.
//!
//! As upstream: an operation begins when it is noticed first, so a restart begins anew, and one
//! that was over before the process began is not counted.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::time::Instant;

use crate::{controllers::view::GROUPS, store::Key};

/// Upstream's.
const BUCKETS: [f64; 13] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    driver_name: String,
    operation_name: &'static str,
    snapshot_type: &'static str,
    operation_status: &'static str,
}

/// A snapshot as one look finds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight<'a> {
    pub(super) uid: &'a str,
    /// Where it is known.
    pub(super) driver: Option<&'a str>,
    /// To be taken, in place of one that is there.
    pub(super) is_dynamic: bool,
    pub(super) is_cut: bool,
    pub(super) is_ready: bool,
    /// Being deleted, with nothing in the middle of being made from it.
    pub(super) is_going: bool,
}

/// What the operations on a key are called: the cut, the cut until it is ready, the deletion.
fn operations(key: &Key) -> [&'static str; 3] {
    match &*key.resource {
        GROUPS => ["CreateGroupSnapshot", "CreateGroupSnapshotAndReady", "DeleteGroupSnapshot"],
        _ => ["CreateSnapshot", "CreateSnapshotAndReady", "DeleteSnapshot"],
    }
}

/// What is under way for one snapshot, and since when.
#[derive(Debug)]
struct Open {
    uid: Box<str>,
    driver: String,
    snapshot_type: &'static str,
    cut: Option<Instant>,
    ready: Option<Instant>,
    deletion: Option<Instant>,
}

impl Open {
    fn new(sight: &Sight<'_>) -> Self {
        Self {
            uid: sight.uid.into(),
            driver: "unknown".to_owned(),
            snapshot_type: if sight.is_dynamic { "dynamic" } else { "pre-provisioned" },
            cut: None,
            ready: None,
            deletion: None,
        }
    }

    fn count(&self) -> i64 {
        [self.cut, self.ready, self.deletion].iter().flatten().map(|_| 1).sum()
    }
}

/// See the module's documentation. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    open: Arc<Mutex<HashMap<Key, Open>>>,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(BUCKETS);
        Self {
            open: Arc::default(),
            seconds: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
        }
    }
}

impl Timing {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "snapshot_controller_operation_total",
            "For how long snapshots were taken and deleted, from when that was noticed first",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "snapshot_controller_operations_in_flight",
            "Snapshots that are being taken or deleted",
            self.in_flight.clone(),
        );
    }

    /// Takes in what a look at a key found; `None` when nothing is there.
    pub(super) fn see(&self, key: &Key, sight: Option<Sight<'_>>, now: Instant) {
        let [cut, cut_and_ready, deletion] = operations(key);
        let mut all = self.open.lock();
        let is_same = |open: &Open| sight.is_some_and(|sight| *sight.uid == *open.uid);
        if all.get(key).is_some_and(|open| !is_same(open))
            && let Some(open) = all.remove(key)
        {
            self.in_flight.dec_by(open.count());
            self.observe(&open, deletion, "success", open.deletion, now);
            self.observe(&open, cut, "cancel", open.cut, now);
            self.observe(&open, cut_and_ready, "cancel", open.ready, now);
        }
        let Some(sight) = sight else { return };
        let mut open = all.remove(key).unwrap_or_else(|| Open::new(&sight));
        let before = open.count();
        if let Some(driver) = sight.driver {
            driver.clone_into(&mut open.driver);
        }
        if sight.is_cut {
            let begun = open.cut.take();
            self.observe(&open, cut, "success", begun, now);
        } else if sight.is_dynamic && !sight.is_going {
            open.cut.get_or_insert(now);
        }
        if sight.is_ready {
            let begun = open.ready.take();
            self.observe(&open, cut_and_ready, "success", begun, now);
        } else if !sight.is_going {
            open.ready.get_or_insert(now);
        }
        if sight.is_going {
            open.deletion.get_or_insert(now);
        }
        self.in_flight.inc_by(open.count() - before);
        if open.count() > 0 {
            all.insert(key.clone(), open);
        }
    }

    fn observe(
        &self,
        open: &Open,
        operation_name: &'static str,
        operation_status: &'static str,
        begun: Option<Instant>,
        now: Instant,
    ) {
        let Some(begun) = begun else { return };
        let labels = Labels {
            driver_name: open.driver.clone(),
            operation_name,
            snapshot_type: open.snapshot_type,
            operation_status,
        };
        self.seconds.get_or_create(&labels).observe(now.duration_since(begun).as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn scrape(timing: &Timing) -> String {
        let mut registry = Registry::default();
        timing.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    fn sum(operation: &str, kind: &str, status: &str, seconds: &str) -> String {
        format!(
            "snapshot_controller_operation_total_seconds_sum{{driver_name=\"d\",operation_name=\"{operation}\",\
             snapshot_type=\"{kind}\",operation_status=\"{status}\"}} {seconds}\n"
        )
    }

    #[test]
    fn lives_of_snapshots() {
        let timing = Timing::default();
        let key = Key::new("volumesnapshots.snapshot.storage.k8s.io", "dev", "s");
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let new = Sight {
            uid: "1",
            driver: None,
            is_dynamic: true,
            is_cut: false,
            is_ready: false,
            is_going: false,
        };
        timing.see(&key, Some(new), at(0));
        timing.see(&key, Some(new), at(1));
        assert!(scrape(&timing).contains("snapshot_controller_operations_in_flight 2\n"));
        let cut = Sight { driver: Some("d"), is_cut: true, ..new };
        timing.see(&key, Some(cut), at(2));
        let ready = Sight { is_ready: true, ..cut };
        timing.see(&key, Some(ready), at(5));
        timing.see(&key, Some(ready), at(6));
        let text = scrape(&timing);
        assert!(text.contains(&sum("CreateSnapshot", "dynamic", "success", "2.0")), "{text}");
        assert!(text.contains(&sum("CreateSnapshotAndReady", "dynamic", "success", "5.0")), "{text}");
        assert!(text.contains("snapshot_controller_operations_in_flight 0\n"), "{text}");
        timing.see(&key, Some(Sight { is_going: true, ..ready }), at(10));
        timing.see(&key, Some(Sight { is_going: true, ..ready }), at(12));
        // Another took its name at once: one that was there, and goes before it is ready.
        let given = Sight { uid: "2", is_dynamic: false, driver: Some("d"), ..new };
        timing.see(&key, Some(given), at(13));
        timing.see(&key, Some(Sight { is_going: true, ..given }), at(14));
        timing.see(&key, None, at(20));
        let text = scrape(&timing);
        assert!(text.contains(&sum("DeleteSnapshot", "dynamic", "success", "3.0")), "{text}");
        assert!(text.contains(&sum("DeleteSnapshot", "pre-provisioned", "success", "6.0")), "{text}");
        assert!(text.contains(&sum("CreateSnapshotAndReady", "pre-provisioned", "cancel", "7.0")), "{text}");
        assert!(
            !text.contains("operation_name=\"CreateSnapshot\",snapshot_type=\"pre-provisioned\""),
            "{text}"
        );
        assert!(text.contains("snapshot_controller_operations_in_flight 0\n"), "{text}");
    }
}
