//! What the snapshot controller does for one group snapshot, or for the content of one.
//!
//! What must hold, besides what holds for snapshots: a group's claims are held from the moment its
//! content is saved until it is cut. Its snapshots are saved, each bound to its content, in the one
//! transaction in which the group itself is told to be cut, and become ready together with it: nobody
//! sees a part of a group. They are made once and never again, and while their group is there they
//! cannot go without it.

use holdfast_api::snapshot::{
    group::{VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeGroupSnapshotStatus},
    volume::{VolumeSnapshot, VolumeSnapshotContent, VolumeSnapshotContentStatus, VolumeSnapshotStatus},
};

use super::super::{
    keeping::{self, Content, OF_GROUP, Step},
    reason::Reason,
};
use crate::{
    controllers::view::{At, GROUP_CONTENTS, GROUPS, Seen, View, content_group},
    store::Key,
};

mod create;
mod deletion;
mod live;
mod members;

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Give the group snapshot a class.
    Classify { group: At, class: String, reason: Reason },
    /// Save a content for the group snapshot, and what keeps both and the claims, if `unchanged` is as it was
    /// decided on.
    Create {
        group: At,
        claims: Vec<At>,
        content: Box<VolumeGroupSnapshotContent>,
        unchanged: Vec<At>,
        reason: Reason,
    },
    /// Tie a content that was there before and its group snapshot together, both sides.
    Bind { group: At, content: At, reason: Reason },
    /// Put finalizers on.
    Protect { object: At, finalizers: Vec<&'static str>, reason: Reason },
    /// Take finalizers off.
    Release { object: At, finalizers: Vec<&'static str>, reason: Reason },
    /// Save the group's snapshots and their contents, and that it is cut, if `unchanged` is as it was decided on.
    Complete {
        group: At,
        status: Box<VolumeGroupSnapshotStatus>,
        members: Vec<Member>,
        unchanged: Vec<At>,
        reasons: Vec<Reason>,
    },
    /// Take over what the content's status says, of the group and of its snapshots.
    Mirror { group: At, status: Box<VolumeGroupSnapshotStatus>, members: Vec<Change>, reasons: Vec<Reason> },
    /// Say in the status why it is not served.
    Fail { group: At, reason: Reason },
    /// Say why it waits.
    Wait { key: Key, reason: Reason },
    /// Say on the content that its group snapshot is being deleted, with `delete` begin its deletion
    /// too, and begin that of the group's snapshots.
    Abandon { content: Option<At>, members: Vec<At>, delete: bool, about: Key, reason: Reason },
}

/// A snapshot of a group and its content, each named and not yet saved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) snapshot: Box<VolumeSnapshot>,
    pub(crate) content: Box<VolumeSnapshotContent>,
}

/// What is new of a snapshot of a group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) snapshot: At,
    pub(crate) status: Box<VolumeSnapshotStatus>,
    pub(crate) content: At,
    pub(crate) content_status: Box<VolumeSnapshotContentStatus>,
}

impl Action {
    /// Which object people will ask about, and why; nothing for what is of no interest to anybody.
    pub(crate) fn reasons(&self) -> (&Key, &[Reason]) {
        use std::slice::from_ref;
        match self {
            Self::Classify { group, reason, .. }
            | Self::Create { group, reason, .. }
            | Self::Bind { group, reason, .. }
            | Self::Fail { group, reason } => (&group.key, from_ref(reason)),
            Self::Complete { group, reasons, .. } | Self::Mirror { group, reasons, .. } => {
                (&group.key, reasons)
            }
            Self::Protect { object, reason, .. } | Self::Release { object, reason, .. } => {
                (&object.key, from_ref(reason))
            }
            Self::Wait { key, reason } => (key, from_ref(reason)),
            Self::Abandon { about, reason, .. } => (about, from_ref(reason)),
        }
    }
}

/// What to do for one group snapshot or content; at most one step, after which the view is looked at again.
pub(crate) fn decide(view: &View, key: &Key) -> Option<Action> {
    match &*key.resource {
        GROUPS => {
            let group = view.groups.at(key)?;
            match group.metadata.deletion_timestamp.as_ref() {
                Some(since) => deletion::decide(view, group, since.0),
                None => live::decide(view, group),
            }
        }
        GROUP_CONTENTS => content(view, view.group_contents.at(key)?),
        _ => None,
    }
}

/// A content: what keeps it, and whether there is anybody to serve it.
fn content(view: &View, content: &Seen<VolumeGroupSnapshotContent>) -> Option<Action> {
    let spec = &content.spec;
    let step = keeping::step(
        view,
        &Content {
            notes: &OF_GROUP,
            metadata: &content.metadata,
            driver: &spec.driver,
            policy: &spec.deletion_policy,
            belongs_to: spec.volume_group_snapshot_ref.uid.as_deref(),
            is_ready: content.status.as_ref().and_then(|status| status.ready_to_use) == Some(true),
        },
    )?;
    let (object, finalizers) = (content.at(), vec![OF_GROUP.bound]);
    Some(match step {
        Step::Protect => Action::Protect { object, finalizers, reason: Reason::Protecting },
        Step::Release(reason) => Action::Release { object, finalizers, reason },
        Step::Wait(reason) => Action::Wait { key: content.key.clone(), reason },
    })
}

/// The content that the group snapshot's status names.
pub(super) fn bound_name(group: &VolumeGroupSnapshot) -> Option<&str> {
    let name = group.status.as_ref()?.bound_volume_group_snapshot_content_name.as_deref();
    name.filter(|name| !name.is_empty())
}

fn ref_uid(content: &VolumeGroupSnapshotContent) -> Option<&str> {
    content.spec.volume_group_snapshot_ref.uid.as_deref().filter(|uid| !uid.is_empty())
}

/// Whether a content names this group snapshot, and no other of the same name.
fn belongs(content: &VolumeGroupSnapshotContent, group: &Seen<VolumeGroupSnapshot>) -> bool {
    content_group(content) == group.key && ref_uid(content) == Some(&group.uid)
}
