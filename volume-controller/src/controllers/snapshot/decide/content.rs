//! A content: what keeps it, and whether there is anybody to serve it.

use holdfast_api::snapshot::{
    names::{BEING_CREATED, BEING_DELETED, CONTENT_BOUND},
    volume::VolumeSnapshotContent,
};

use super::{super::reason::Reason, Action};
use crate::controllers::view::{Seen, View, has_finalizer, is_deleting};

/// What it stands for stays.
const RETAIN: &str = "Retain";

pub(super) fn decide(view: &View, content: &Seen<VolumeSnapshotContent>) -> Option<Action> {
    let is_held = has_finalizer(&content.metadata, CONTENT_BOUND);
    if !is_deleting(&content.metadata) && !is_held {
        let (finalizers, reason) = (vec![CONTENT_BOUND], Reason::Protecting);
        return Some(Action::Protect { object: content.at(), finalizers, reason });
    }
    let is_ready = content.status.as_ref().and_then(|status| status.ready_to_use) == Some(true);
    let waits = if is_deleting(&content.metadata) { is_held } else { !is_ready };
    let driver = &content.spec.driver;
    if waits && is_settled(content) && !is_known(view, driver) {
        let (finalizers, reason) = (vec![CONTENT_BOUND], Reason::NothingToDelete { driver: driver.clone() });
        return Some(Action::Release { object: content.at(), finalizers, reason });
    }
    (waits && !is_known(view, driver)).then(|| Action::Wait {
        key: content.key.clone(),
        reason: Reason::NoDriver { driver: driver.clone() },
    })
}

/// Whether a content that is being deleted leaves nothing for a driver to do: what it stands for is
/// to stay, nobody has begun to make it, and its snapshot, if it ever had one, lets it go.
fn is_settled(content: &VolumeSnapshotContent) -> bool {
    let notes = content.metadata.annotations.as_ref();
    let has = |note: &str| notes.is_some_and(|notes| notes.contains_key(note));
    let unbound = content.spec.volume_snapshot_ref.uid.as_deref().unwrap_or_default().is_empty();
    is_deleting(&content.metadata)
        && content.spec.deletion_policy == RETAIN
        && !has(BEING_CREATED)
        && (unbound || has(BEING_DELETED))
}

/// Whether anything says that there is such a driver.
fn is_known(view: &View, driver: &str) -> bool {
    view.drivers.get("", driver).is_some()
        || view.csi_nodes.iter().any(|node| node.spec.drivers.iter().any(|found| found.name == driver))
}
