//! A group snapshot that is to stay: its content, and what of it is told.

use holdfast_api::snapshot::{
    group::{VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeGroupSnapshotStatus},
    group_content_name,
    names::GROUP_BOUND,
};

use super::{
    super::super::{
        decide::full_name,
        reason::{Reason, Sort},
    },
    Action, belongs, bound_name, create, members, ref_uid,
};
use crate::controllers::view::{Seen, View, content_group, group_handle, has_finalizer, is_cut, is_deleting};

pub(super) fn decide(view: &View, group: &Seen<VolumeGroupSnapshot>) -> Option<Action> {
    let found = match group.spec.source.volume_group_snapshot_content_name.as_deref() {
        Some(name) => given(view, group, name),
        None => made(view, group),
    };
    let content = match found {
        Ok(content) => content,
        Err(Lack::Failure(reason)) => return fail(group, reason),
        Err(Lack::Unmade) => return create::decide(view, group),
        Err(Lack::Unbound(content)) => {
            let name = content.key.name.to_string();
            let reason = Reason::Bound { snapshot: full_name(&group.key), content: name };
            return Some(Action::Bind { group: group.at(), content: content.at(), reason });
        }
    };
    if !has_finalizer(&group.metadata, GROUP_BOUND) {
        let (finalizers, reason) = (vec![GROUP_BOUND], Reason::Protecting);
        return Some(Action::Protect { object: group.at(), finalizers, reason });
    }
    mirror(view, group, content)
}

/// A failure, unless the status says it already.
pub(super) fn fail(group: &Seen<VolumeGroupSnapshot>, reason: Reason) -> Option<Action> {
    let said = group.status.as_ref().and_then(|status| status.error.as_ref()?.message.as_deref());
    if said == Some(&reason.message(Sort::Group)) {
        return Some(Action::Wait { key: group.key.clone(), reason });
    }
    Some(Action::Fail { group: group.at(), reason })
}

/// Why a group snapshot has no content yet.
enum Lack<'a> {
    Failure(Reason),
    /// It was there before, and nobody has it.
    Unbound(&'a Seen<VolumeGroupSnapshotContent>),
    Unmade,
}

type Found<'a> = Result<&'a Seen<VolumeGroupSnapshotContent>, Lack<'a>>;

/// The content that was there before the group snapshot object.
fn given<'a>(view: &'a View, group: &Seen<VolumeGroupSnapshot>, name: &str) -> Found<'a> {
    let content = name.to_owned();
    let Some(found) = view.group_contents.get("", name) else {
        return Err(Lack::Failure(Reason::ContentMissing { content }));
    };
    if found.spec.source.group_snapshot_handles.is_none() {
        return Err(Lack::Failure(Reason::ContentMismatch { content }));
    }
    if content_group(found) != group.key || ref_uid(found).is_some_and(|uid| *uid != *group.uid) {
        return Err(Lack::Failure(Reason::Misbound { content }));
    }
    match ref_uid(found) {
        Some(_) => Ok(found),
        None if is_deleting(&found.metadata) => Err(Lack::Failure(Reason::ContentGoing { content })),
        None => Err(Lack::Unbound(found)),
    }
}

/// The content that is made for the group snapshot.
fn made<'a>(view: &'a View, group: &Seen<VolumeGroupSnapshot>) -> Found<'a> {
    let content = group_content_name(&group.uid);
    match view.group_contents.get("", &content) {
        Some(found) if belongs(found, group) => Ok(found),
        Some(_) => Err(Lack::Failure(Reason::Misbound { content })),
        // Never a second time: that would be a snapshot of a later moment.
        None if bound_name(group).is_some() => Err(Lack::Failure(Reason::ContentMissing { content })),
        None => Err(Lack::Unmade),
    }
}

/// Takes over what the content's status says, and tells what is new in it.
fn mirror(
    view: &View,
    group: &Seen<VolumeGroupSnapshot>,
    content: &Seen<VolumeGroupSnapshotContent>,
) -> Option<Action> {
    let was = group.status.clone().unwrap_or_default();
    let said = content.status.clone().unwrap_or_default();
    let mut status = VolumeGroupSnapshotStatus {
        bound_volume_group_snapshot_content_name: Some(content.key.name.to_string()),
        creation_time: said.creation_time,
        ready_to_use: Some(said.ready_to_use == Some(true)),
        error: said.error,
    };
    let handle = group_handle(content);
    if group.spec.source.selector.is_some() && !is_cut(group) {
        // Cut is what has its snapshots, too.
        match (handle, &status.creation_time, said.volume_snapshot_info_list.as_deref()) {
            (Some(handle), Some(_), Some([_, ..])) => return complete(view, group, content, handle, status),
            _ => (status.creation_time, status.ready_to_use) = (None, Some(false)),
        }
    }
    let changes = match handle {
        Some(handle) if group.spec.source.selector.is_some() => {
            members::changes(view, group, content, handle)
        }
        _ => Vec::new(),
    };
    if status == was && changes.is_empty() {
        return None;
    }
    let reasons = news(group, &was, &status);
    Some(Action::Mirror { group: group.at(), status: Box::new(status), members: changes, reasons })
}

fn complete(
    view: &View,
    group: &Seen<VolumeGroupSnapshot>,
    content: &Seen<VolumeGroupSnapshotContent>,
    handle: &str,
    status: VolumeGroupSnapshotStatus,
) -> Option<Action> {
    let members = match members::made(view, group, content, handle) {
        Ok(members) => members,
        Err(reason) => return fail(group, reason),
    };
    let reasons = news(group, &group.status.clone().unwrap_or_default(), &status);
    Some(Action::Complete {
        group: group.at(),
        status: Box::new(status),
        members,
        unchanged: vec![content.at()],
        reasons,
    })
}

/// What is new in a group snapshot's status.
fn news(
    group: &Seen<VolumeGroupSnapshot>,
    was: &VolumeGroupSnapshotStatus,
    status: &VolumeGroupSnapshotStatus,
) -> Vec<Reason> {
    let name = full_name(&group.key);
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
    reasons
}
