//! A content: what keeps it, and whether there is anybody to serve it.

use holdfast_api::snapshot::{names::CONTENT_BOUND, volume::VolumeSnapshotContent};

use super::{super::reason::Reason, Action};
use crate::controllers::view::{Seen, View, has_finalizer, is_deleting};

pub(super) fn decide(view: &View, content: &Seen<VolumeSnapshotContent>) -> Option<Action> {
    let is_held = has_finalizer(&content.metadata, CONTENT_BOUND);
    if !is_deleting(&content.metadata) && !is_held {
        let (finalizers, reason) = (vec![CONTENT_BOUND], Reason::Protecting);
        return Some(Action::Protect { object: content.at(), finalizers, reason });
    }
    let is_ready = content.status.as_ref().and_then(|status| status.ready_to_use) == Some(true);
    let waits = if is_deleting(&content.metadata) { is_held } else { !is_ready };
    let driver = &content.spec.driver;
    (waits && !is_known(view, driver)).then(|| Action::Wait {
        key: content.key.clone(),
        reason: Reason::NoDriver { driver: driver.clone() },
    })
}

/// Whether anything says that there is such a driver.
fn is_known(view: &View, driver: &str) -> bool {
    view.drivers.get("", driver).is_some()
        || view.csi_nodes.iter().any(|node| node.spec.drivers.iter().any(|found| found.name == driver))
}
