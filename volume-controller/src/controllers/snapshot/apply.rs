//! The snapshot controller's effects: one transaction an action.

use holdfast_api::snapshot::{
    names::{CLAIM_AS_SOURCE, CONTENT_BOUND, SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND, SNAPSHOT_IN_GROUP},
    volume::VolumeSnapshotContent,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    decide::Action,
    edit::{abandon, add, release, tell, uid},
    keeping::OF_SNAPSHOT,
    reason::Sort,
};
use crate::{
    controllers::{
        engine::{Io, Outcome},
        view::{At, content_key},
    },
    lifecycle,
    store::Write,
};

/// Does one action. Every write rests on the very revisions that were decided on.
pub(crate) async fn apply(io: &Io, action: Action) -> Outcome {
    let (about, reasons) = action.reasons();
    let (about, reasons) = (about.clone(), reasons.to_vec());
    let outcome = match action {
        Action::Classify { snapshot, class, .. } => {
            let write = io.edit(&snapshot, |body| {
                body["spec"]["volumeSnapshotClassName"] = json!(class);
                lifecycle::count_generation(body);
            });
            io.commit(vec![write]).await
        }
        Action::Create { snapshot, claim, content, unchanged, .. } => {
            let writes = vec![
                new_content(*content),
                io.edit(&snapshot, |body| {
                    add(body, &[SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND]);
                    let name = holdfast_api::snapshot::content_name(uid(body));
                    body["status"] = json!({"boundVolumeSnapshotContentName": name, "readyToUse": false});
                }),
                io.edit(&claim, |body| add(body, &[CLAIM_AS_SOURCE])),
            ];
            io.commit_guarded(&unchanged, writes).await
        }
        Action::Bind { snapshot, content, .. } => io.commit(bind(io, &snapshot, &content)).await,
        Action::Protect { object, finalizers, .. } => {
            io.commit(vec![io.edit(&object, |body| add(body, &finalizers))]).await
        }
        Action::Release { object, finalizers, .. } => {
            io.commit(vec![io.edit(&object, |body| release(body, &finalizers))]).await
        }
        Action::Join { snapshot, owner, unchanged, .. } => {
            let write = io.edit(&snapshot, |body| {
                add(body, &[SNAPSHOT_IN_GROUP]);
                body["status"]["volumeGroupSnapshotName"] = json!(owner.name);
                let owners = &mut body["metadata"]["ownerReferences"];
                match owners.as_array_mut() {
                    Some(owners) => owners.push(json!(owner)),
                    None => *owners = json!([owner]),
                }
            });
            io.commit_guarded(&unchanged, vec![write]).await
        }
        Action::Mirror { snapshot, status, .. } => {
            let write = io.edit(&snapshot, |body| body["status"] = json!(status));
            io.commit(vec![write]).await
        }
        Action::Fail { snapshot, reason } => {
            let message = reason.message(Sort::Snapshot);
            let error = json!({"message": message, "time": lifecycle::time(Timestamp::now())});
            let write = io.edit(&snapshot, |body| {
                body["status"]["error"] = error;
                body["status"]["readyToUse"] = json!(false);
            });
            io.commit(vec![write]).await
        }
        Action::Wait { .. } => Outcome::Settled,
        Action::Abandon { content, delete, .. } => {
            io.commit(vec![abandon(io, &content, delete, &OF_SNAPSHOT)]).await
        }
    };
    if outcome != Outcome::Again {
        reasons.iter().for_each(|reason| tell(io, &about, reason, Sort::Snapshot));
    }
    outcome
}

fn new_content(content: VolumeSnapshotContent) -> Option<Write> {
    let name = content.metadata.name.clone()?;
    let body = serde_json::to_value(content).ok()?;
    Some(lifecycle::create(content_key(&name), body, Timestamp::now()))
}

/// Both sides; what the driver says of it is taken over later.
fn bind(io: &Io, snapshot: &At, content: &At) -> Vec<Option<Write>> {
    let Some(object) = io.store.get(&snapshot.key) else { return vec![None] };
    let class = object.decode::<Value>().map(|body| body["spec"]["volumeSnapshotClassName"].clone());
    let content_side = io.edit(content, |body| {
        add(body, &[CONTENT_BOUND]);
        body["spec"]["volumeSnapshotRef"]["uid"] = json!(object.uid);
        if let Ok(Value::String(class)) = class {
            body["spec"]["volumeSnapshotClassName"] = json!(class);
        }
        lifecycle::count_generation(body);
    });
    let snapshot_side = io.edit(snapshot, |body| {
        add(body, &[SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND]);
        body["status"]["boundVolumeSnapshotContentName"] = json!(&*content.key.name);
        body["status"]["readyToUse"] = json!(false);
        if let Some(status) = body["status"].as_object_mut() {
            status.remove("error");
        }
    });
    vec![content_side, snapshot_side]
}
