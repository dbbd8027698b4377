//! What the snapshot controller does for one snapshot, content or claim.
//!
//! What must hold: a content belongs to the snapshot whose UID its `volumeSnapshotRef` bears, and
//! to no other. A content is made together with everything that keeps it, its snapshot and its
//! claim in place, in one transaction, so there is no half of it to repair. It is deleted only
//! because its snapshot is: a content whose snapshot is not there (restored from a backup, say)
//! stays, and what it stands for stays with it.

use holdfast_api::snapshot::{
    names::CLAIM_AS_SOURCE,
    volume::{VolumeSnapshot, VolumeSnapshotContent, VolumeSnapshotStatus},
};

use super::reason::Reason;
use crate::{
    controllers::view::{At, CLAIMS, CONTENTS, Relation, SNAPSHOTS, Seen, View, has_finalizer},
    store::Key,
};

mod content;
mod create;
mod deletion;
mod live;

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Give the snapshot a class.
    Classify { snapshot: At, class: String, reason: Reason },
    /// Save a content for the snapshot, and what keeps all three, if `unchanged` is as it was decided on.
    Create {
        snapshot: At,
        claim: At,
        content: Box<VolumeSnapshotContent>,
        unchanged: Vec<At>,
        reason: Reason,
    },
    /// Tie a content that was there before and its snapshot together, both sides.
    Bind { snapshot: At, content: At, reason: Reason },
    /// Put finalizers on.
    Protect { object: At, finalizers: Vec<&'static str>, reason: Reason },
    /// Take finalizers off.
    Release { object: At, finalizers: Vec<&'static str>, reason: Reason },
    /// Take over what the content's status says.
    Mirror { snapshot: At, status: Box<VolumeSnapshotStatus>, reasons: Vec<Reason> },
    /// Say in the snapshot's status why it is not served.
    Fail { snapshot: At, reason: Reason },
    /// Say why it waits.
    Wait { key: Key, reason: Reason },
    /// Say on the content that its snapshot is being deleted, and with `delete` begin its deletion too.
    Abandon { content: At, delete: bool, reason: Reason },
}

impl Action {
    /// Which object people will ask about, and why; nothing for what is of no interest to anybody.
    pub(crate) fn reasons(&self) -> (&Key, &[Reason]) {
        use std::slice::from_ref;
        match self {
            Self::Classify { snapshot, reason, .. }
            | Self::Create { snapshot, reason, .. }
            | Self::Bind { snapshot, reason, .. }
            | Self::Fail { snapshot, reason } => (&snapshot.key, from_ref(reason)),
            Self::Mirror { snapshot, reasons, .. } => (&snapshot.key, reasons),
            Self::Protect { object, reason, .. } | Self::Release { object, reason, .. } => {
                (&object.key, from_ref(reason))
            }
            Self::Wait { key, reason } => (key, from_ref(reason)),
            Self::Abandon { content, reason, .. } => (&content.key, from_ref(reason)),
        }
    }
}

/// What to do for one snapshot, content or claim; at most one step, after which the view is looked at again.
pub(crate) fn decide(view: &View, key: &Key) -> Option<Action> {
    match &*key.resource {
        SNAPSHOTS => {
            let snapshot = view.snapshots.at(key)?;
            match snapshot.metadata.deletion_timestamp.as_ref() {
                Some(since) => deletion::decide(view, snapshot, since.0),
                None => live::decide(view, snapshot),
            }
        }
        CONTENTS => content::decide(view, view.contents.at(key)?),
        CLAIMS => claim(view, key),
        _ => None,
    }
}

/// A claim is held as long as a snapshot is being taken of it.
fn claim(view: &View, key: &Key) -> Option<Action> {
    let claim = view.claims.at(key).filter(|claim| has_finalizer(&claim.metadata, CLAIM_AS_SOURCE))?;
    let snapshots = view.related(Relation::SnapshotAs, key).filter_map(|key| view.snapshots.at(key));
    let is_needed = snapshots.into_iter().any(|snapshot| is_begun(snapshot) && !is_ready(snapshot));
    (!is_needed).then(|| Action::Release {
        object: claim.at(),
        finalizers: vec![CLAIM_AS_SOURCE],
        reason: Reason::ClaimUnused,
    })
}

/// The content that the snapshot's status names.
fn bound_name(snapshot: &VolumeSnapshot) -> Option<&str> {
    let name = snapshot.status.as_ref()?.bound_volume_snapshot_content_name.as_deref();
    name.filter(|name| !name.is_empty())
}

fn is_begun(snapshot: &VolumeSnapshot) -> bool {
    bound_name(snapshot).is_some()
}

fn is_ready(snapshot: &VolumeSnapshot) -> bool {
    snapshot.status.as_ref().and_then(|status| status.ready_to_use) == Some(true)
}

fn ref_uid(content: &VolumeSnapshotContent) -> Option<&str> {
    content.spec.volume_snapshot_ref.uid.as_deref().filter(|uid| !uid.is_empty())
}

/// Whether a content names this snapshot, and no other of the same name.
fn belongs(content: &VolumeSnapshotContent, snapshot: &Seen<VolumeSnapshot>) -> bool {
    names(content, snapshot) && ref_uid(content) == Some(&snapshot.uid)
}

/// Whether a content is for a snapshot of this name.
fn names(content: &VolumeSnapshotContent, snapshot: &Seen<VolumeSnapshot>) -> bool {
    crate::controllers::view::content_snapshot(content) == snapshot.key
}

fn full_name(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}
