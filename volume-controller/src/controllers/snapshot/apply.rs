//! The snapshot controller's effects: one transaction an action.

use holdfast_api::snapshot::{
    names::{BEING_DELETED, CLAIM_AS_SOURCE, CONTENT_BOUND, SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND},
    volume::VolumeSnapshotContent,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{decide::Action, reason::Reason};
use crate::{
    controllers::{
        engine::{Io, Outcome},
        recorder::{News, Severity},
        view::{At, content_key},
    },
    lifecycle,
    store::{Precondition, Write},
};

const COMPONENT: &str = "snapshot-controller";

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
            let write = io.edit(&object, |body| {
                if let Some(list) = body["metadata"]["finalizers"].as_array_mut() {
                    list.retain(|entry| !finalizers.iter().any(|finalizer| entry == finalizer));
                }
            });
            io.commit(vec![write]).await
        }
        Action::Mirror { snapshot, status, .. } => {
            let write = io.edit(&snapshot, |body| body["status"] = json!(status));
            io.commit(vec![write]).await
        }
        Action::Fail { snapshot, reason } => {
            let error = json!({"message": reason.to_string(), "time": lifecycle::time(Timestamp::now())});
            let write = io.edit(&snapshot, |body| {
                body["status"]["error"] = error;
                body["status"]["readyToUse"] = json!(false);
            });
            io.commit(vec![write]).await
        }
        Action::Wait { .. } => Outcome::Settled,
        Action::Abandon { content, delete, .. } => io.commit(vec![abandon(io, &content, delete)]).await,
    };
    if outcome != Outcome::Again {
        reasons.iter().for_each(|reason| tell(io, &about, reason));
    }
    outcome
}

fn tell(io: &Io, about: &crate::store::Key, reason: &Reason) {
    let Some(name) = reason.name() else {
        tracing::info!(%about, "{reason}");
        return;
    };
    let severity = if reason.is_warning() { Severity::Warning } else { Severity::Normal };
    let message = reason.to_string();
    io.recorder.tell(News { about: about.clone(), component: COMPONENT, severity, reason: name, message });
}

fn uid(body: &Value) -> &str {
    body["metadata"]["uid"].as_str().unwrap_or_default()
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

/// With its finalizer whatever happened to that: without one the object would go at once, and what
/// it stands for would stay behind.
fn abandon(io: &Io, content: &At, delete: bool) -> Option<Write> {
    let marked = io.edit(content, |body| {
        add(body, &[CONTENT_BOUND]);
        body["metadata"]["annotations"][BEING_DELETED] = json!("yes");
    })?;
    match marked.body {
        Some(body) if delete => {
            let precondition = Precondition::Revision(content.revision);
            Some(lifecycle::delete(content.key.clone(), precondition, body, 0, Timestamp::now()))
        }
        body => Some(Write { body, ..marked }),
    }
}

/// Puts finalizers on that are not there yet.
fn add(body: &mut Value, finalizers: &[&str]) {
    let list = &mut body["metadata"]["finalizers"];
    if !list.is_array() {
        *list = json!([]);
    }
    for finalizer in finalizers {
        if let Some(list) = list.as_array_mut()
            && !list.iter().any(|entry| entry == finalizer)
        {
            list.push(json!(finalizer));
        }
    }
}
