//! A group snapshot that is being deleted: first nothing is made from its snapshots any more, then
//! its content goes or is let go, then it goes, and its snapshots after it.

use holdfast_api::snapshot::{
    group::{VolumeGroupSnapshot, VolumeGroupSnapshotContent},
    group_content_name,
    names::{GROUP_BEING_DELETED, GROUP_BOUND},
    volume::VolumeSnapshot,
};
use jiff::Timestamp;

use super::{
    super::super::{
        decide::{full_name, restored},
        reason::Reason,
    },
    Action, belongs, bound_name,
};
use crate::controllers::view::{
    Relation, Seen, Shared, View, annotation, has_finalizer, is_deleting, owning_group,
};

pub(super) fn decide(view: &View, group: &Seen<VolumeGroupSnapshot>, since: Timestamp) -> Option<Action> {
    let members = members(view, group);
    let claims: Vec<String> = members.iter().flat_map(|member| restored(view, member, since)).collect();
    if !claims.is_empty() {
        let reason = Reason::InRestore { claims: claims.join(", ") };
        return Some(Action::Wait { key: group.key.clone(), reason });
    }
    let content = content(view, group);
    let delete = content.is_some_and(|content| content.spec.deletion_policy == "Delete");
    let is_told = |content: &Shared<VolumeGroupSnapshotContent>| {
        annotation(&content.metadata, GROUP_BEING_DELETED).is_some()
            && (!delete || is_deleting(&content.metadata))
    };
    let untold = content.filter(|content| !is_told(content));
    let there: Vec<_> = members.iter().filter(|member| !is_deleting(&member.metadata)).collect();
    if untold.is_some() || !there.is_empty() {
        let snapshot = full_name(&group.key);
        let reason = if delete { Reason::Deleting { snapshot } } else { Reason::Keeping { snapshot } };
        return Some(Action::Abandon {
            content: untold.map(|content| content.at()),
            members: there.iter().map(|member| member.at()).collect(),
            delete,
            about: group.key.clone(),
            reason,
        });
    }
    match content {
        // So long the driver may yet refuse, which is for the group's owner to know.
        Some(content) if delete => {
            let error = content.status.as_ref().and_then(|status| status.error.as_ref()?.message.clone());
            error.map(|message| Action::Wait {
                key: group.key.clone(),
                reason: Reason::NotDeleted { message },
            })
        }
        Some(content) => release(group, Reason::Kept { content: content.key.name.to_string() }),
        None => release(group, Reason::Gone),
    }
}

fn release(group: &Seen<VolumeGroupSnapshot>, reason: Reason) -> Option<Action> {
    let (object, finalizers) = (group.at(), vec![GROUP_BOUND]);
    has_finalizer(&group.metadata, GROUP_BOUND).then_some(Action::Release { object, finalizers, reason })
}

/// The snapshots that are part of it, and not of an earlier one of its name.
fn members<'a>(view: &'a View, group: &Seen<VolumeGroupSnapshot>) -> Vec<&'a Shared<VolumeSnapshot>> {
    let members = view.related(Relation::MemberOf, &group.key).filter_map(|key| view.snapshots.at(key));
    members.filter(|member| owning_group(member).is_none_or(|uid| *uid == *group.uid)).collect()
}

/// The content that belongs to the group snapshot, also where its status does not say so.
fn content<'a>(
    view: &'a View,
    group: &Seen<VolumeGroupSnapshot>,
) -> Option<&'a Shared<VolumeGroupSnapshotContent>> {
    let made = group_content_name(&group.uid);
    let given = group.spec.source.volume_group_snapshot_content_name.as_deref();
    let names = given.into_iter().chain([&*made]).chain(bound_name(group));
    let mut contents = names.filter_map(|name| view.group_contents.get("", name));
    contents.find(|content| belongs(content, group))
}
