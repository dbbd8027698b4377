//! A snapshot that is being deleted: first its group goes, where it is part of one, and nothing is
//! made from it any more, then its content goes or is let go, then it goes.

use holdfast_api::snapshot::{
    content_name,
    names::{BEING_DELETED, SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND, SNAPSHOT_IN_GROUP},
    volume::{VolumeSnapshot, VolumeSnapshotContent},
};
use jiff::Timestamp;

use super::{super::reason::Reason, Action, belongs, bound_name, full_name, group_of};
use crate::controllers::view::{Relation, Seen, Shared, View, annotation, has_finalizer, is_deleting};

/// All that keeps a snapshot.
const ALL: [&str; 3] = [SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND, SNAPSHOT_IN_GROUP];

pub(super) fn decide(view: &View, snapshot: &Seen<VolumeSnapshot>, since: Timestamp) -> Option<Action> {
    if let Some(group) = group_of(view, snapshot) {
        // The driver deletes the snapshots of a group together: until it has, they are told of.
        let reason = Reason::InGroup { group: full_name(&group.key) };
        let is_alone = !is_deleting(&group.metadata);
        return is_alone.then(|| Action::Wait { key: snapshot.key.clone(), reason });
    }
    let claims = restored(view, snapshot, since);
    if !claims.is_empty() {
        let reason = Reason::InRestore { claims: claims.join(", ") };
        return Some(Action::Wait { key: snapshot.key.clone(), reason });
    }
    let Some(content) = content(view, snapshot) else {
        return release(snapshot, &ALL, Reason::Gone);
    };
    let delete = content.spec.deletion_policy == "Delete";
    let is_told = annotation(&content.metadata, BEING_DELETED).is_some();
    let name = full_name(&snapshot.key);
    if !is_told || (delete && !is_deleting(&content.metadata)) {
        let reason =
            if delete { Reason::Deleting { snapshot: name } } else { Reason::Keeping { snapshot: name } };
        return Some(Action::Abandon { content: content.at(), delete, reason });
    }
    let content_name = content.key.name.to_string();
    if !delete {
        return release(snapshot, &ALL, Reason::Kept { content: content_name });
    }
    // The other one stays until the content is gone: so long the driver may yet refuse.
    let reason = Reason::WaitsForContent { content: content_name };
    release(snapshot, &[SNAPSHOT_AS_SOURCE, SNAPSHOT_IN_GROUP], reason).or_else(|| {
        let error = content.status.as_ref().and_then(|status| status.error.as_ref()?.message.clone());
        error
            .map(|message| Action::Wait { key: snapshot.key.clone(), reason: Reason::NotDeleted { message } })
    })
}

fn release(snapshot: &Seen<VolumeSnapshot>, finalizers: &[&'static str], reason: Reason) -> Option<Action> {
    let there = finalizers.iter().copied().filter(|name| has_finalizer(&snapshot.metadata, name));
    let finalizers: Vec<_> = there.collect();
    (!finalizers.is_empty()).then(|| Action::Release { object: snapshot.at(), finalizers, reason })
}

/// The claims that are being filled from the snapshot. Those that came after its deletion was asked
/// for get nothing from it, so that it goes one day.
pub(in super::super) fn restored(
    view: &View,
    snapshot: &Seen<VolumeSnapshot>,
    since: Timestamp,
) -> Vec<String> {
    let claims = view.related(Relation::RestoredIn, &snapshot.key).filter_map(|key| view.claims.at(key));
    let before = claims
        .filter(|claim| claim.metadata.creation_timestamp.as_ref().is_none_or(|created| created.0 <= since));
    before.map(|claim| claim.key.name.to_string()).collect()
}

/// The content that belongs to the snapshot, also where the snapshot's status does not say so.
fn content<'a>(view: &'a View, snapshot: &Seen<VolumeSnapshot>) -> Option<&'a Shared<VolumeSnapshotContent>> {
    let made = content_name(&snapshot.uid);
    let given = snapshot.spec.source.volume_snapshot_content_name.as_deref();
    let names = given.into_iter().chain([&*made]).chain(bound_name(snapshot));
    let mut contents = names.filter_map(|name| view.contents.get("", name));
    contents.find(|content| belongs(content, snapshot))
}
