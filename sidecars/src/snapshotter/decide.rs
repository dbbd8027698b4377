//! What to do next for one content. Pure: the loop asks, applies, and asks again.
//!
//! The order that makes a crash harmless:
//! 1. the intent (an annotation on the content, which a finalizer keeps) is saved, against the very
//!    version that was read;
//! 2. CreateSnapshot, under a name made of the snapshot's UID, the same call until it answers;
//! 3. the snapshot's id is saved in the content's status;
//! 4. the intent is taken away.
//!
//! So as long as a snapshot may exist of which the content does not tell the id, and only so
//! long, the content says so. If it is to go then, the same call gives the id first.

use std::{collections::HashMap, sync::Arc};

use holdfast_api::snapshot::{
    names,
    volume::{VolumeSnapshotClass, VolumeSnapshotContent},
};
use holdfast_proto::csi::{CreateSnapshotRequest, Snapshot};
use kube::ResourceExt;

use super::{
    parameters,
    reason::{Reason, Task},
};
use crate::{
    csi::{CsiError, DriverFacts},
    writes::SecretKey,
};

/// What is known of the content's class.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Class {
    NotAsked,
    /// The API says that there is none of the name.
    Absent,
    There(Box<VolumeSnapshotClass>),
}

/// What came of the steps of this very look.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Progress {
    Begun,
    /// The driver has it, as it says here.
    Told(Box<Snapshot>),
    /// The driver has none of this id.
    Missing {
        handle: String,
    },
    Failed(Task, CsiError),
    /// What the driver said is in the status.
    Saved {
        ready: bool,
    },
    /// The failure is in the status.
    Noted(Box<Reason>),
    Deleted,
}

/// All that a decision looks at.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub facts: Arc<DriverFacts>,
    /// Tell the driver the names of the objects.
    pub extra_create_metadata: bool,
    pub content: Option<Arc<VolumeSnapshotContent>>,
    /// `content` comes from the API itself and not from the cache.
    pub live: bool,
    pub class: Class,
    /// The intent is of this very process, and every call since was refused for certain.
    pub clear: bool,
    pub progress: Progress,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Nothing until something changes.
    Rest(Reason),
    /// Nothing now; the same again after the backoff.
    Retry(Reason),
    /// Read the content from the API.
    ReadContent(Reason),
    /// Read its class from the API.
    ReadClass { class: String, reason: Reason },
    /// Put the intent and the finalizer on the content, if it is still the version that was read.
    RecordIntent(Reason),
    /// CreateSnapshot.
    Create { request: Box<CreateSnapshotRequest>, secret: Option<SecretKey>, reason: Reason },
    /// Ask the driver how a snapshot is: GetSnapshot or ListSnapshots.
    Ask { handle: String, secret: Option<SecretKey>, reason: Reason },
    /// Save what the driver said.
    Save { snapshot: Box<Snapshot>, reason: Reason },
    /// Save that a snapshot which the driver cannot be asked about is what it is said to be.
    Trust { handle: String, reason: Reason },
    /// Take the intent off.
    DropIntent(Reason),
    /// Say in the status why not.
    NoteFailure(Reason),
    /// DeleteSnapshot.
    Delete { handle: String, secret: Option<SecretKey>, reason: Reason },
    /// Take the finalizer and the intent off, so that the content goes.
    Unprotect(Reason),
}

impl Action {
    pub(crate) fn reason(&self) -> &Reason {
        match self {
            Self::Rest(reason)
            | Self::Retry(reason)
            | Self::ReadContent(reason)
            | Self::ReadClass { reason, .. }
            | Self::RecordIntent(reason)
            | Self::Create { reason, .. }
            | Self::Ask { reason, .. }
            | Self::Save { reason, .. }
            | Self::Trust { reason, .. }
            | Self::DropIntent(reason)
            | Self::NoteFailure(reason)
            | Self::Delete { reason, .. }
            | Self::Unprotect(reason) => reason,
        }
    }
}

pub(crate) fn has_intent(content: &VolumeSnapshotContent) -> bool {
    content.annotations().contains_key(names::BEING_CREATED)
}

pub(crate) fn is_held(content: &VolumeSnapshotContent) -> bool {
    content.finalizers().iter().any(|finalizer| finalizer == names::CONTENT_BOUND)
}

/// The content is being deleted, and not against the will of a snapshot object.
fn is_going(content: &VolumeSnapshotContent) -> bool {
    let unbound = content.spec.volume_snapshot_ref.uid.as_deref().unwrap_or_default().is_empty();
    let released = content.annotations().contains_key(names::BEING_DELETED);
    content.metadata.deletion_timestamp.is_some() && (unbound || released)
}

/// The driver's id of the snapshot, once it is known.
pub(crate) fn handle(content: &VolumeSnapshotContent) -> Option<&str> {
    let told = content.status.as_ref().and_then(|status| status.snapshot_handle.as_deref());
    told.or(content.spec.source.snapshot_handle.as_deref()).filter(|handle| !handle.is_empty())
}

fn is_ready(content: &VolumeSnapshotContent) -> bool {
    content.status.as_ref().and_then(|status| status.ready_to_use) == Some(true)
}

/// See the module's documentation.
pub(crate) fn decide(view: &View) -> Action {
    let Some(content) = &view.content else { return Action::Rest(Reason::Gone) };
    if content.spec.driver != view.facts.name {
        return Action::Rest(Reason::NotOurs);
    }
    let going = is_going(content);
    // Steps of this look that must be brought to their end first.
    match &view.progress {
        Progress::Told(snapshot) => {
            return Action::Save { snapshot: snapshot.clone(), reason: Reason::Saving };
        }
        Progress::Missing { handle } => {
            return Action::NoteFailure(Reason::Missing { handle: handle.clone() });
        }
        Progress::Failed(task, error) => {
            let doubt = *task == Task::Create && error.is_final() && has_intent(content) && !view.clear;
            let error = error.clone();
            return Action::NoteFailure(match doubt {
                true => Reason::InDoubt { name: snapshot_name(content), error },
                false => Reason::Failed { task: *task, error },
            });
        }
        Progress::Noted(reason) => {
            // Nothing exists for certain: the content need not say otherwise until the next attempt.
            if has_intent(content) && view.clear {
                return Action::DropIntent(Reason::NothingMade);
            }
            return Action::Retry(Reason::Noted(reason.clone()));
        }
        Progress::Deleted => return Action::Unprotect(Reason::Deleted),
        Progress::Saved { .. } if !going && has_intent(content) => {
            return Action::DropIntent(Reason::Saved);
        }
        Progress::Saved { ready: true } if !going => return Action::Rest(Reason::Ready),
        Progress::Saved { ready: false } if !going => return Action::Retry(Reason::NotReady),
        Progress::Saved { .. } | Progress::Begun => {}
    }
    if going { delete(view, content) } else { create(view, content) }
}

fn create(view: &View, content: &VolumeSnapshotContent) -> Action {
    if is_ready(content) && handle(content).is_some() {
        return match has_intent(content) {
            true => Action::DropIntent(Reason::Saved),
            false => Action::Rest(Reason::Ready),
        };
    }
    let can_ask = view.facts.get_snapshot || view.facts.list_snapshots;
    match handle(content) {
        Some(handle) if can_ask => {
            if let (Some(class), Class::NotAsked) = (class_name(content), &view.class) {
                return Action::ReadClass { class, reason: Reason::Asking };
            }
            match parameters::list_secret(class(view), content) {
                Ok(secret) => Action::Ask { handle: handle.to_owned(), secret, reason: Reason::Asking },
                Err(error) => Action::NoteFailure(Reason::BadClass(error)),
            }
        }
        Some(handle) if content.spec.source.snapshot_handle.is_some() => {
            Action::Trust { handle: handle.to_owned(), reason: Reason::Trusting }
        }
        _ => take(view, content, Reason::Creating),
    }
}

/// CreateSnapshot, the first time or again.
fn take(view: &View, content: &VolumeSnapshotContent, reason: Reason) -> Action {
    if !view.facts.create_snapshot {
        return Action::NoteFailure(Reason::NotSupported);
    }
    let Some(volume) = content.spec.source.volume_handle.clone() else {
        return Action::Rest(Reason::NothingMade);
    };
    if let Some(class) = class_name(content) {
        match &view.class {
            Class::NotAsked => return Action::ReadClass { class, reason },
            Class::Absent => return Action::NoteFailure(Reason::NoClass { class }),
            Class::There(_) => {}
        }
    }
    let mut parameters = match parameters::of_driver(class(view)) {
        Ok(parameters) => parameters,
        Err(error) => return Action::NoteFailure(Reason::BadClass(error)),
    };
    // With the id in the status nothing is in doubt.
    if !is_held(content) || (!has_intent(content) && handle(content).is_none()) {
        return Action::RecordIntent(reason);
    }
    // The intent may be all that a stale cache still shows of a snapshot long taken.
    if !view.live {
        return Action::ReadContent(reason);
    }
    if view.extra_create_metadata {
        parameters.extend(object_names(content));
    }
    let request = CreateSnapshotRequest {
        name: snapshot_name(content),
        source_volume_id: volume,
        parameters,
        ..CreateSnapshotRequest::default()
    };
    Action::Create { request: Box::new(request), secret: parameters::secret(content), reason }
}

fn delete(view: &View, content: &VolumeSnapshotContent) -> Action {
    if !is_held(content) {
        return Action::Rest(Reason::Released);
    }
    // What follows destroys data or forgets it: a cache is no ground for it.
    if !view.live {
        return Action::ReadContent(Reason::Checking);
    }
    let of_group = content.status.as_ref().and_then(|status| status.volume_group_snapshot_handle.as_ref());
    if of_group.is_some() {
        return Action::Unprotect(Reason::OfGroup);
    }
    match handle(content) {
        // CSI has no "find by name": the same call again gives the id, and then it can be deleted.
        None if has_intent(content) && !view.clear => take(view, content, Reason::Abandoning),
        None => Action::Unprotect(Reason::NothingMade),
        Some(_) if content.spec.deletion_policy != "Delete" => Action::Unprotect(Reason::Kept),
        Some(_) if !view.facts.create_snapshot => Action::NoteFailure(Reason::NotSupported),
        Some(handle) => Action::Delete {
            handle: handle.to_owned(),
            secret: parameters::secret(content),
            reason: Reason::Deleting,
        },
    }
}

/// The name under which the driver is asked for it; upstream's, so that either sidecar can go on
/// with what the other began.
fn snapshot_name(content: &VolumeSnapshotContent) -> String {
    format!("snapshot-{}", content.spec.volume_snapshot_ref.uid.as_deref().unwrap_or_default())
}

fn class_name(content: &VolumeSnapshotContent) -> Option<String> {
    content.spec.volume_snapshot_class_name.clone().filter(|name| !name.is_empty())
}

fn class(view: &View) -> Option<&VolumeSnapshotClass> {
    match &view.class {
        Class::There(class) => Some(class),
        Class::NotAsked | Class::Absent => None,
    }
}

fn object_names(content: &VolumeSnapshotContent) -> HashMap<String, String> {
    let reference = &content.spec.volume_snapshot_ref;
    let pairs = [
        ("volumesnapshot/name", reference.name.clone()),
        ("volumesnapshot/namespace", reference.namespace.clone()),
        ("volumesnapshotcontent/name", content.metadata.name.clone()),
    ];
    let named = pairs.into_iter().map(|(key, value)| (format!("{}{key}", names::RESERVED), value));
    named.map(|(key, value)| (key, value.unwrap_or_default())).collect()
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
