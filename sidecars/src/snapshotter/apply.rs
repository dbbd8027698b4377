//! The snapshotter's effects: one for each action.

use std::sync::Arc;

use holdfast_api::snapshot::{
    names,
    volume::{VolumeSnapshotClass, VolumeSnapshotContent},
};
use holdfast_proto::csi::{DeleteSnapshotRequest, GetSnapshotRequest, ListSnapshotsRequest, Snapshot};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{
    decide::{Action, Class, Progress, View, has_intent},
    reason::{Reason, Task},
};
use crate::{
    context::Context,
    csi::CsiError,
    writes::{self, ApiError, Part, SecretKey, Written, finalizer_patch},
};

/// Does `action` and brings `view` up to date with what came of it. `Rest` and `Retry` do nothing.
pub(super) async fn apply(context: &Context, view: &mut View, action: Action) -> Result<(), ApiError> {
    let Some(content) = view.content.clone() else { return Ok(()) };
    let api: Api<VolumeSnapshotContent> = Api::all(context.client.clone());
    match action {
        Action::Rest(_) | Action::Retry(_) => {}
        Action::ReadContent(_) => {
            let now = writes::get(&api, &content.name_any()).await?;
            view.content = now.filter(|now| now.uid() == content.uid()).map(Arc::new);
            view.live = true;
        }
        Action::ReadClass { class, .. } => {
            let classes: Api<VolumeSnapshotClass> = Api::all(context.client.clone());
            let found = writes::get(&classes, &class).await?;
            view.class = found.map_or(Class::Absent, |class| Class::There(Box::new(class)));
        }
        Action::RecordIntent(_) => {
            let mut patch = finalizer_patch(&*content, names::CONTENT_BOUND, true);
            patch["metadata"]["annotations"] = json!({ names::BEING_CREATED: "yes" });
            let written = writes::patch_if_unchanged(&api, &*content, Part::Whole, patch).await?;
            // Over another version the intent may be somebody else's, and so may be calls.
            if matches!(written, Written::Yes(_)) && !has_intent(&content) {
                view.clear = true;
            }
            take(view, written);
        }
        Action::Create { mut request, secret, .. } => {
            request.secrets = writes::secret(&context.client, secret.as_ref()).await?;
            // Until there is an answer the call counts as begun, also if this task is cut off here.
            let was_clear = std::mem::take(&mut view.clear);
            view.progress = match context.csi.create_snapshot(*request).await {
                Ok(snapshot) => Progress::Told(Box::new(snapshot)),
                Err(error) => {
                    view.clear = was_clear && error.is_final();
                    Progress::Failed(Task::Create, error)
                }
            };
        }
        Action::Ask { handle, secret, .. } => {
            view.progress = match ask(context, handle.clone(), secret.as_ref()).await? {
                Ok(Some(snapshot)) => Progress::Told(Box::new(snapshot)),
                Ok(None) => Progress::Missing { handle },
                Err(error) => Progress::Failed(Task::Ask, error),
            };
        }
        Action::Save { snapshot, .. } => {
            let status = status_of(&snapshot);
            save(view, &api, &content, status, snapshot.ready_to_use).await?;
        }
        Action::Trust { handle, .. } => {
            let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
            let status =
                json!({"snapshotHandle": handle, "creationTime": now, "readyToUse": true, "error": null});
            save(view, &api, &content, status, true).await?;
        }
        Action::DropIntent(_) => {
            let patch = json!({"metadata": {"annotations": {names::BEING_CREATED: null}}});
            take(view, writes::patch_own_fields(&api, &*content, Part::Whole, patch).await?);
            view.clear = false;
        }
        Action::NoteFailure(reason) => {
            note(view, &api, &content, &reason).await?;
            view.progress = Progress::Noted(Box::new(reason));
        }
        Action::Delete { handle, secret, .. } => {
            view.progress = match delete(context, handle, secret.as_ref()).await? {
                Ok(()) => Progress::Deleted,
                Err(error) => Progress::Failed(Task::Delete, error),
            };
        }
        Action::Unprotect(_) => {
            let mut patch = finalizer_patch(&*content, names::CONTENT_BOUND, false);
            patch["metadata"]["annotations"] = json!({ names::BEING_CREATED: null });
            let written = writes::patch_if_unchanged(&api, &*content, Part::Whole, patch).await?;
            if matches!(written, Written::Yes(_)) {
                view.clear = false;
            }
            take(view, written);
        }
    }
    Ok(())
}

/// Takes over what a write on the content left: the live object, or that it is gone.
fn take(view: &mut View, written: Written<VolumeSnapshotContent>) {
    view.content = written.current();
    view.live = true;
}

async fn save(
    view: &mut View,
    api: &Api<VolumeSnapshotContent>,
    content: &Arc<VolumeSnapshotContent>,
    status: Value,
    ready: bool,
) -> Result<(), ApiError> {
    // Whatever else changed: what is outside is outside.
    let patch = json!({ "status": status });
    take(view, writes::patch_own_fields(api, &**content, Part::Status, patch).await?);
    view.progress = Progress::Saved { ready };
    Ok(())
}

/// Saves a failure, unless it is there: its time is that of its first.
async fn note(
    view: &mut View,
    api: &Api<VolumeSnapshotContent>,
    content: &Arc<VolumeSnapshotContent>,
    reason: &Reason,
) -> Result<(), ApiError> {
    let message = reason.to_string();
    let said = content.status.as_ref().and_then(|status| status.error.as_ref()?.message.as_ref());
    if said == Some(&message) {
        return Ok(());
    }
    let mut status = json!({"error": {"message": message, "time": Time(Timestamp::now())}});
    if !matches!(reason, Reason::Failed { task: Task::Delete, .. } | Reason::NotSupported) {
        status["readyToUse"] = json!(false);
    }
    let patch = json!({ "status": status });
    take(view, writes::patch_own_fields(api, &**content, Part::Status, patch).await?);
    Ok(())
}

/// A content's status, as a patch, of what the driver said.
fn status_of(snapshot: &Snapshot) -> Value {
    let mut status = json!({
        "snapshotHandle": snapshot.snapshot_id, "readyToUse": snapshot.ready_to_use, "error": null,
    });
    if let Some(time) = snapshot.creation_time.as_ref().and_then(|time| nanoseconds(time.seconds, time.nanos))
    {
        status["creationTime"] = json!(time);
    }
    // 0 is "not known".
    if snapshot.size_bytes > 0 {
        status["restoreSize"] = json!(snapshot.size_bytes);
    }
    if !snapshot.group_snapshot_id.is_empty() {
        status["volumeGroupSnapshotHandle"] = json!(snapshot.group_snapshot_id);
    }
    status
}

/// Since 1970; `None` past what the field holds (the year 2262).
fn nanoseconds(seconds: i64, nanos: i32) -> Option<i64> {
    i64::try_from(SignedDuration::new(seconds, nanos).as_nanos()).ok()
}

async fn ask(
    context: &Context,
    snapshot_id: String,
    secret: Option<&SecretKey>,
) -> Result<Result<Option<Snapshot>, CsiError>, ApiError> {
    let secrets = writes::secret(&context.client, secret).await?;
    Ok(if context.facts.get_snapshot {
        context.csi.get_snapshot(GetSnapshotRequest { snapshot_id, secrets }).await
    } else {
        let request = ListSnapshotsRequest { snapshot_id, secrets, ..ListSnapshotsRequest::default() };
        context.csi.list_snapshot(request).await
    })
}

async fn delete(
    context: &Context,
    snapshot_id: String,
    secret: Option<&SecretKey>,
) -> Result<Result<(), CsiError>, ApiError> {
    let secrets = writes::secret_to_delete(&context.client, secret).await?;
    Ok(context.csi.delete_snapshot(DeleteSnapshotRequest { snapshot_id, secrets }).await)
}
