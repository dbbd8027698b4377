//! A snapshot that is to stay: its content, and what of it is told.

use holdfast_api::{
    quantity::format_bytes,
    snapshot::{
        content_name,
        group::VolumeGroupSnapshot,
        names::{SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND, SNAPSHOT_IN_GROUP},
        volume::{VolumeSnapshot, VolumeSnapshotContent, VolumeSnapshotStatus},
    },
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time};

use super::{
    super::reason::{Reason, Sort},
    Action, belongs, bound_name, create, full_name, group_of, names, owner, ref_uid,
};
use crate::controllers::view::{
    Relation, Seen, Shared, View, content_group, group_handle_key, has_finalizer, is_deleting, snapshot_group,
};

pub(super) fn decide(view: &View, snapshot: &Seen<VolumeSnapshot>) -> Option<Action> {
    let found = match snapshot.spec.source.volume_snapshot_content_name.as_deref() {
        Some(name) => given(view, snapshot, name),
        None => made(view, snapshot),
    };
    let content = match found {
        Ok(content) => content,
        Err(Lack::Failure(reason)) => return fail(snapshot, reason),
        Err(Lack::Unmade) => return create::decide(view, snapshot),
        Err(Lack::Unbound(content)) => {
            let name = content.key.name.to_string();
            let reason = Reason::Bound { snapshot: full_name(&snapshot.key), content: name };
            return Some(Action::Bind { snapshot: snapshot.at(), content: content.at(), reason });
        }
    };
    let in_group = group_of(view, snapshot).map(|_| SNAPSHOT_IN_GROUP);
    let wanted = [SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND].into_iter().chain(in_group);
    let missing: Vec<_> = wanted.filter(|name| !has_finalizer(&snapshot.metadata, name)).collect();
    if !missing.is_empty() {
        let reason = Reason::Protecting;
        return Some(Action::Protect { object: snapshot.at(), finalizers: missing, reason });
    }
    if let Some(group) = joins(view, snapshot, content) {
        return Some(Action::Join {
            snapshot: snapshot.at(),
            owner: Box::new(owner(group)),
            unchanged: vec![group.at()],
            reason: Reason::Joining { group: full_name(&group.key) },
        });
    }
    mirror(snapshot, content)
}

/// The group snapshot that a snapshot which was there before turns out to be part of.
fn joins<'a>(
    view: &'a View,
    snapshot: &Seen<VolumeSnapshot>,
    content: &VolumeSnapshotContent,
) -> Option<&'a Shared<VolumeGroupSnapshot>> {
    let handle = content.status.as_ref()?.volume_group_snapshot_handle.as_deref()?;
    if snapshot_group(snapshot).is_some() {
        return None;
    }
    let contents = view.related(Relation::GroupContentOf, &group_handle_key(&content.spec.driver, handle));
    let mut groups = contents.filter_map(|key| {
        let content = view.group_contents.at(key)?;
        let group = view.groups.at(&content_group(content))?;
        let is_its = content.spec.volume_group_snapshot_ref.uid.as_deref() == Some(&group.uid);
        let is_near = group.key.namespace == snapshot.key.namespace;
        (is_its && is_near && !is_deleting(&group.metadata)).then_some(group)
    });
    groups.next()
}

/// A failure, unless the status says it already.
pub(super) fn fail(snapshot: &Seen<VolumeSnapshot>, reason: Reason) -> Option<Action> {
    let said = snapshot.status.as_ref().and_then(|status| status.error.as_ref()?.message.as_deref());
    if said == Some(&reason.message(Sort::Snapshot)) {
        return Some(Action::Wait { key: snapshot.key.clone(), reason });
    }
    Some(Action::Fail { snapshot: snapshot.at(), reason })
}

/// Why a snapshot has no content yet.
enum Lack<'a> {
    Failure(Reason),
    /// It was there before, and nobody has it.
    Unbound(&'a Seen<VolumeSnapshotContent>),
    Unmade,
}

type Found<'a> = Result<&'a Seen<VolumeSnapshotContent>, Lack<'a>>;

/// The content that was there before the snapshot object.
fn given<'a>(view: &'a View, snapshot: &Seen<VolumeSnapshot>, name: &str) -> Found<'a> {
    let content = name.to_owned();
    let Some(found) = view.contents.get("", name) else {
        return Err(Lack::Failure(Reason::ContentMissing { content }));
    };
    if found.spec.source.snapshot_handle.is_none() {
        return Err(Lack::Failure(Reason::ContentMismatch { content }));
    }
    if !names(found, snapshot) || ref_uid(found).is_some_and(|uid| *uid != *snapshot.uid) {
        return Err(Lack::Failure(Reason::Misbound { content }));
    }
    match ref_uid(found) {
        Some(_) => Ok(found),
        None if is_deleting(&found.metadata) => Err(Lack::Failure(Reason::ContentGoing { content })),
        None => Err(Lack::Unbound(found)),
    }
}

/// The content that is made for the snapshot; that of one in a group has a name of its own.
fn made<'a>(view: &'a View, snapshot: &Seen<VolumeSnapshot>) -> Found<'a> {
    let bound = bound_name(snapshot);
    let content = bound.map_or_else(|| content_name(&snapshot.uid), str::to_owned);
    match view.contents.get("", &content) {
        Some(found) if belongs(found, snapshot) => Ok(found),
        Some(_) => Err(Lack::Failure(Reason::Misbound { content })),
        // Never a second time: that would be a snapshot of a later moment.
        None if bound.is_some() => Err(Lack::Failure(Reason::ContentMissing { content })),
        None => Err(Lack::Unmade),
    }
}

/// Takes over what the content's status says, and tells what is new in it.
fn mirror(snapshot: &Seen<VolumeSnapshot>, content: &Seen<VolumeSnapshotContent>) -> Option<Action> {
    let was = snapshot.status.clone().unwrap_or_default();
    let status = VolumeSnapshotStatus {
        volume_group_snapshot_name: was.volume_group_snapshot_name.clone(),
        ..status_of(&content.key.name, content)
    };
    if status == was {
        return None;
    }
    let name = full_name(&snapshot.key);
    let mut reasons = Vec::new();
    if was.creation_time.is_none() && status.creation_time.is_some() {
        reasons.push(Reason::Created { snapshot: name.clone() });
    }
    if was.ready_to_use != Some(true) && status.ready_to_use == Some(true) {
        reasons.push(Reason::Ready { snapshot: name });
    }
    if let Some(error) = status.error.as_ref().filter(|error| was.error.as_ref() != Some(error)) {
        let message = error.message.clone().unwrap_or_default();
        reasons.push(Reason::DriverFailed { message });
    }
    Some(Action::Mirror { snapshot: snapshot.at(), status: Box::new(status), reasons })
}

/// A snapshot's status, of what its content's says.
pub(in super::super) fn status_of(name: &str, content: &VolumeSnapshotContent) -> VolumeSnapshotStatus {
    let said = content.status.clone().unwrap_or_default();
    let size = said.restore_size.filter(|bytes| *bytes > 0);
    VolumeSnapshotStatus {
        bound_volume_snapshot_content_name: Some(name.to_owned()),
        creation_time: said.creation_time.and_then(moment),
        ready_to_use: Some(said.ready_to_use == Some(true)),
        restore_size: size.map(|bytes| Quantity(format_bytes(bytes))),
        error: said.error,
        volume_group_snapshot_name: None,
    }
}

/// Nanoseconds since 1970, in the whole seconds that the API has.
fn moment(nanoseconds: i64) -> Option<Time> {
    Timestamp::from_second(nanoseconds.div_euclid(1_000_000_000)).ok().map(Time)
}
