//! The effects for group snapshots: one transaction an action.

use holdfast_api::snapshot::names::{CLAIM_AS_SOURCE, GROUP_BOUND, GROUP_CONTENT_BOUND};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    super::{
        edit::{abandon, add, release, tell, uid},
        keeping::OF_GROUP,
        reason::Sort,
    },
    decide::{Action, Member},
};
use crate::{
    controllers::{
        engine::{Io, Outcome},
        view::{At, SNAPSHOTS, content_key, group_content_key},
    },
    lifecycle,
    store::{Key, Precondition, Write},
};

/// Does one action. Every write rests on the very revisions that were decided on.
///
/// A watch, and so the view, tells of a transaction's writes one after the other. They are in this order, so
/// that what is seen in between leads nobody to a write of his own: a content before the snapshot that is
/// bound to it, the snapshots before their group, the group before the claims that are held for it.
pub(crate) async fn apply(io: &Io, action: Action) -> Outcome {
    let (about, reasons) = action.reasons();
    let (about, reasons) = (about.clone(), reasons.to_vec());
    let outcome = match action {
        Action::Classify { group, class, .. } => {
            let write = io.edit(&group, |body| {
                body["spec"]["volumeGroupSnapshotClassName"] = json!(class);
                lifecycle::count_generation(body);
            });
            io.commit(vec![write]).await
        }
        Action::Create { group, claims, content, unchanged, .. } => {
            let name = content.metadata.name.clone().unwrap_or_default();
            let held = claims.iter().map(|claim| io.edit(claim, |body| add(body, &[CLAIM_AS_SOURCE])));
            let bound = io.edit(&group, |body| {
                add(body, &[GROUP_BOUND]);
                body["status"] = json!({"boundVolumeGroupSnapshotContentName": name, "readyToUse": false});
            });
            let made = new(group_content_key(&name), &content);
            io.commit_guarded(&unchanged, [made, bound].into_iter().chain(held).collect()).await
        }
        Action::Bind { group, content, .. } => io.commit(bind(io, &group, &content)).await,
        Action::Protect { object, finalizers, .. } => {
            io.commit(vec![io.edit(&object, |body| add(body, &finalizers))]).await
        }
        Action::Release { object, finalizers, .. } => {
            io.commit(vec![io.edit(&object, |body| release(body, &finalizers))]).await
        }
        Action::Complete { group, status, members, unchanged, .. } => {
            let mut writes: Vec<_> = members.iter().flat_map(pair).collect();
            writes.push(io.edit(&group, |body| body["status"] = json!(status)));
            io.commit_guarded(&unchanged, writes).await
        }
        Action::Mirror { group, status, members, .. } => {
            let mut writes = Vec::new();
            for member in members {
                writes.push(io.edit(&member.content, |body| body["status"] = json!(member.content_status)));
                writes.push(io.edit(&member.snapshot, |body| body["status"] = json!(member.status)));
            }
            writes.push(io.edit(&group, |body| body["status"] = json!(status)));
            io.commit(writes).await
        }
        Action::Fail { group, reason } => {
            let message = reason.message(Sort::Group);
            let error = json!({"message": message, "time": lifecycle::time(Timestamp::now())});
            let write = io.edit(&group, |body| {
                body["status"]["error"] = error;
                body["status"]["readyToUse"] = json!(false);
            });
            io.commit(vec![write]).await
        }
        Action::Wait { .. } => Outcome::Settled,
        Action::Abandon { content, members, delete, .. } => {
            let told = content.map(|content| abandon(io, &content, delete, &OF_GROUP));
            let going = members.iter().map(|member| begin_deletion(io, member));
            io.commit(told.into_iter().chain(going).collect()).await
        }
    };
    if outcome != Outcome::Again {
        reasons.iter().for_each(|reason| tell(io, &about, reason, Sort::Group));
    }
    outcome
}

fn new(key: Key, object: &impl Serialize) -> Option<Write> {
    Some(lifecycle::create(key, serde_json::to_value(object).ok()?, Timestamp::now()))
}

/// A snapshot of a group and its content, bound to each other from the first.
fn pair(member: &Member) -> [Option<Write>; 2] {
    let metadata = &member.snapshot.metadata;
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    let key = Key::new(SNAPSHOTS, namespace.unwrap_or_default(), name.unwrap_or_default());
    let Some(snapshot) = new(key, &member.snapshot) else { return [None, None] };
    let bound_to = snapshot.body.as_ref().map(|body| uid(body).to_owned());
    let mut content = member.content.clone();
    content.spec.volume_snapshot_ref.uid = bound_to;
    let name = content.metadata.name.clone().unwrap_or_default();
    [new(content_key(&name), &content), Some(snapshot)]
}

fn begin_deletion(io: &Io, object: &At) -> Option<Write> {
    let there = io.store.get(&object.key).filter(|there| there.revision == object.revision)?;
    let body: Value = there.decode().ok()?;
    let precondition = Precondition::Revision(object.revision);
    Some(lifecycle::delete(object.key.clone(), precondition, body, 0, Timestamp::now()))
}

/// Both sides; what the driver says of it is taken over later.
fn bind(io: &Io, group: &At, content: &At) -> Vec<Option<Write>> {
    let Some(object) = io.store.get(&group.key) else { return vec![None] };
    let class = object.decode::<Value>().map(|body| body["spec"]["volumeGroupSnapshotClassName"].clone());
    let content_side = io.edit(content, |body| {
        add(body, &[GROUP_CONTENT_BOUND]);
        body["spec"]["volumeGroupSnapshotRef"]["uid"] = json!(object.uid);
        if let Ok(Value::String(class)) = class {
            body["spec"]["volumeGroupSnapshotClassName"] = json!(class);
        }
        lifecycle::count_generation(body);
    });
    let group_side = io.edit(group, |body| {
        add(body, &[GROUP_BOUND]);
        body["status"]["boundVolumeGroupSnapshotContentName"] = json!(&*content.key.name);
        body["status"]["readyToUse"] = json!(false);
        if let Some(status) = body["status"].as_object_mut() {
            status.remove("error");
        }
    });
    vec![content_side, group_side]
}
