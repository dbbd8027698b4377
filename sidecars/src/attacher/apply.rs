//! The attacher's effects: one for each action.

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::PersistentVolume, storage::v1::VolumeAttachment},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::decide::{Action, NODE_ID, Progress, View, finalizer};
use crate::{
    context::Context,
    writes::{self, ApiError, Part, Written, finalizer_patch},
};

/// Does `action` and brings `view` up to date with what came of it.
pub(super) async fn apply(context: &Context, view: &mut View, action: Action) -> Result<(), ApiError> {
    let Some(attachment) = view.attachment.clone() else { return Ok(()) };
    let api: Api<VolumeAttachment> = Api::all(context.client.clone());
    match action {
        Action::Rest(_) | Action::Retry(_) => {}
        Action::HoldVolume(_) => {
            let Some(volume) = view.volume.clone() else { return Ok(()) };
            let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
            let patch = finalizer_patch(&*volume, &finalizer(&context.facts.name), true);
            view.volume = writes::patch_if_unchanged(&volumes, &*volume, Part::Whole, patch).await?.current();
        }
        Action::RecordIntent { node_id, .. } => {
            let mut patch = finalizer_patch(&*attachment, &finalizer(&context.facts.name), true);
            patch["metadata"]["annotations"] = json!({ NODE_ID: node_id });
            view.attachment =
                writes::patch_if_unchanged(&api, &*attachment, Part::Whole, patch).await?.current();
        }
        Action::Publish { mut request, secret, .. } => {
            request.secrets = match writes::secret(&context.client, secret.as_ref()).await {
                Err(error @ ApiError::NoSecret { .. }) => {
                    view.progress = Progress::NoSecret(error.to_string());
                    return Ok(());
                }
                other => other?,
            };
            view.progress = match context.csi.publish(*request).await {
                Ok(metadata) => Progress::Published(metadata.into_iter().collect()),
                Err(error) => Progress::PublishFailed(error),
            };
        }
        Action::MarkAttached { metadata, .. } => {
            let metadata = if metadata.is_empty() { Value::Null } else { json!(metadata) };
            let status = json!({"attached": true, "attachmentMetadata": metadata, "attachError": null});
            status_patch(&api, view, &attachment, status).await?;
        }
        Action::NoteAttachError { code, reason } => {
            let mut error = json!({"time": Time(Timestamp::now()), "message": reason.to_string()});
            if let Some(code) = code {
                error["errorCode"] = json!(code);
            }
            status_patch(&api, view, &attachment, json!({"attached": false, "attachError": error})).await?;
            view.progress = Progress::Noted(reason);
        }
        Action::Unpublish { mut request, secret, .. } => {
            request.secrets = match writes::secret(&context.client, secret.as_ref()).await {
                // A secret that is gone must not keep the volume on the node for ever; the
                // driver can still refuse.
                Err(ApiError::NoSecret { .. }) => std::collections::HashMap::new(),
                other => other?,
            };
            view.progress = match context.csi.unpublish(*request).await {
                Ok(()) => Progress::Unpublished,
                Err(error) => Progress::UnpublishFailed(error),
            };
        }
        Action::MarkDetached(_) => {
            // The finalizer first: without it the attachment counts as detached whatever its
            // status says. The other way round a crash in between would detach once more.
            let patch = finalizer_patch(&*attachment, &finalizer(&context.facts.name), false);
            let written = writes::patch_if_unchanged(&api, &*attachment, Part::Whole, patch).await?;
            let stays = matches!(&written, Written::Yes(left) if !left.finalizers().is_empty());
            view.attachment = written.current();
            if let (true, Some(left)) = (stays, view.attachment.clone()) {
                let status = json!({"attached": false, "attachmentMetadata": null, "detachError": null});
                status_patch(&api, view, &left, status).await?;
            }
        }
        Action::NoteDetachError(reason) => {
            let error = json!({"time": Time(Timestamp::now()), "message": reason.to_string()});
            status_patch(&api, view, &attachment, json!({"detachError": error})).await?;
            view.progress = Progress::Noted(reason);
        }
    }
    Ok(())
}

/// Only the attacher writes an attachment's status, so no version is compared.
async fn status_patch(
    api: &Api<VolumeAttachment>,
    view: &mut View,
    attachment: &VolumeAttachment,
    status: Value,
) -> Result<(), ApiError> {
    let patch = json!({ "status": status });
    view.attachment = writes::patch_own_fields(api, attachment, Part::Status, patch).await?.current();
    Ok(())
}

/// Takes our finalizer off a volume object that is being deleted.
pub(super) async fn let_go(context: &Context, volume: &PersistentVolume) -> Result<(), ApiError> {
    let api: Api<PersistentVolume> = Api::all(context.client.clone());
    let ours = finalizer(&context.facts.name);
    let mut volume = volume.clone();
    for _ in 0..8 {
        if !volume.finalizers().contains(&ours) {
            return Ok(());
        }
        let patch = finalizer_patch(&volume, &ours, false);
        match writes::patch_if_unchanged(&api, &volume, Part::Whole, patch).await? {
            Written::Changed(now) => volume = now,
            Written::Yes(_) | Written::Gone => return Ok(()),
        }
    }
    Ok(())
}
