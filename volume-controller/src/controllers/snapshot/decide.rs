//! What the snapshot controller does for one snapshot, content or claim.
//!
//! What must hold: a content belongs to the snapshot whose UID its `volumeSnapshotRef` bears, and
//! to no other. A content is made together with everything that keeps it, its snapshot and its
//! claim in place, in one transaction, so there is no half of it to repair. It is deleted only
//! because its snapshot is: a content whose snapshot is not there (restored from a backup, say)
//! stays, and what it stands for stays with it.

use holdfast_api::snapshot::{
    group::VolumeGroupSnapshot,
    names::CLAIM_AS_SOURCE,
    volume::{VolumeSnapshot, VolumeSnapshotContent, VolumeSnapshotStatus},
};
use k8s_openapi::{
    Resource, api::core::v1::PersistentVolumeClaim, apimachinery::pkg::apis::meta::v1::OwnerReference,
};

use super::reason::Reason;
use crate::{
    controllers::view::{
        At, CLAIMS, CONTENTS, Relation, SNAPSHOTS, Seen, Shared, View, claim_volume, csi_source,
        has_finalizer, namespace_key, owning_group, snapshot_group,
    },
    store::Key,
};

mod content;
mod create;
mod deletion;
mod live;

pub(super) use deletion::restored;
pub(super) use live::status_of;

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
    /// Make a snapshot that was there before part of its group, if `unchanged` is as it was decided on.
    Join { snapshot: At, owner: Box<OwnerReference>, unchanged: Vec<At>, reason: Reason },
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
            | Self::Join { snapshot, reason, .. }
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

/// A claim is held as long as a snapshot is being taken of it, alone or in a group.
fn claim(view: &View, key: &Key) -> Option<Action> {
    let claim = view.claims.at(key).filter(|claim| has_finalizer(&claim.metadata, CLAIM_AS_SOURCE))?;
    let mut snapshots = view.related(Relation::SnapshotAs, key).filter_map(|key| view.snapshots.at(key));
    let is_needed = snapshots.any(|snapshot| is_begun(snapshot) && !is_ready(snapshot));
    (!is_needed && !is_cut_in_group(view, claim)).then(|| Action::Release {
        object: claim.at(),
        finalizers: vec![CLAIM_AS_SOURCE],
        reason: Reason::ClaimUnused,
    })
}

/// Whether a claim's volume is one of a group snapshot that was begun and is not cut yet.
fn is_cut_in_group(view: &View, claim: &Seen<PersistentVolumeClaim>) -> bool {
    let volume = claim_volume(claim).and_then(|name| view.volumes.get("", name));
    let Some(csi) = volume.and_then(|volume| csi_source(volume)) else { return false };
    let groups = view.related(Relation::OpenGroupIn, &namespace_key(&claim.key.namespace));
    let mut contents = groups.filter_map(|key| {
        let status = view.groups.at(key)?.status.as_ref()?;
        view.group_contents.get("", status.bound_volume_group_snapshot_content_name.as_deref()?)
    });
    contents.any(|content| {
        let handles = content.spec.source.volume_handles.as_ref();
        content.spec.driver == csi.driver && handles.is_some_and(|all| all.contains(&csi.volume_handle))
    })
}

/// The group snapshot that a snapshot is part of, while that is there.
fn group_of<'a>(view: &'a View, snapshot: &VolumeSnapshot) -> Option<&'a Shared<VolumeGroupSnapshot>> {
    let group = view.groups.at(&snapshot_group(snapshot)?)?;
    // A later one may have taken its name.
    owning_group(snapshot).is_none_or(|uid| *uid == *group.uid).then_some(group)
}

/// What says that a snapshot is part of a group snapshot.
pub(super) fn owner(group: &Seen<VolumeGroupSnapshot>) -> OwnerReference {
    OwnerReference {
        api_version: VolumeGroupSnapshot::API_VERSION.to_owned(),
        kind: VolumeGroupSnapshot::KIND.to_owned(),
        name: group.key.name.to_string(),
        uid: group.uid.to_string(),
        ..OwnerReference::default()
    }
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

pub(super) fn full_name(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}
