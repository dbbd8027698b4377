//! A content: what keeps it, and whether there is anybody to serve it.

use holdfast_api::snapshot::{names::CONTENT_BOUND, volume::VolumeSnapshotContent};

use super::{
    super::{
        keeping::{self, Content, OF_SNAPSHOT, Step},
        reason::Reason,
    },
    Action,
};
use crate::controllers::view::{Seen, View};

pub(super) fn decide(view: &View, content: &Seen<VolumeSnapshotContent>) -> Option<Action> {
    let spec = &content.spec;
    let step = keeping::step(
        view,
        &Content {
            notes: &OF_SNAPSHOT,
            metadata: &content.metadata,
            driver: &spec.driver,
            policy: &spec.deletion_policy,
            belongs_to: spec.volume_snapshot_ref.uid.as_deref(),
            is_ready: content.status.as_ref().and_then(|status| status.ready_to_use) == Some(true),
        },
    )?;
    let (object, finalizers) = (content.at(), vec![CONTENT_BOUND]);
    Some(match step {
        Step::Protect => Action::Protect { object, finalizers, reason: Reason::Protecting },
        Step::Release(reason) => Action::Release { object, finalizers, reason },
        Step::Wait(reason) => Action::Wait { key: content.key.clone(), reason },
    })
}
