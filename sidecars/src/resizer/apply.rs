//! The resizer's effects: one for each action.

use std::sync::Arc;

use holdfast_api::{access, quantity::format_bytes};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{
    decide::{Action, NodeTry, Progress, View},
    status,
};
use crate::{
    context::Context,
    writes::{self, ApiError, Part, Written},
};

/// Does `action` and brings `view` up to date with what came of it.
pub(super) async fn apply(context: &Context, view: &mut View, action: Action) -> Result<(), ApiError> {
    let Some(claim) = view.claim.clone() else { return Ok(()) };
    match action {
        Action::Rest(_) | Action::Retry(_) => {}
        Action::RecordIntent { bytes, .. } => {
            let patch = status::in_progress(&claim, bytes, view.now);
            // Against the version that was read: whether to grow was decided on it.
            if write_status(context, view, &claim, patch).await? {
                if status::of(&claim) == Some(status::NODE_INFEASIBLE) {
                    let asked = access::claim_request(&claim).unwrap_or_default();
                    view.node_try = Some(NodeTry { asked, at: view.now });
                }
                view.progress = Progress::Recorded { bytes };
            }
        }
        Action::SkipController { bytes, .. } => view.progress = Progress::Expanded { bytes, node: true },
        Action::Expand { mut request, secret, .. } => {
            request.secrets = writes::secret(&context.client, secret.as_ref()).await?;
            view.ended = false;
            let asked = request.capacity_range.as_ref().map_or(0, |range| range.required_bytes);
            match context.csi.expand(*request).await {
                Ok(reply) => {
                    // A driver that does not say has done what it was asked for.
                    let bytes = if reply.capacity_bytes == 0 { asked } else { reply.capacity_bytes };
                    let node = reply.node_expansion_required;
                    view.ended = true;
                    view.progress = Progress::Expanded { bytes, node };
                }
                Err(error) => {
                    view.ended = error.is_final();
                    view.progress = Progress::Failed(error);
                }
            }
        }
        Action::SaveVolume { bytes, node, .. } => {
            let Some(volume) = view.volume.clone() else { return Ok(()) };
            // Never smaller than what is written already: two answers may come in any order.
            if access::volume_capacity(&volume).unwrap_or_default() < bytes {
                let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
                let patch = json!({"spec": {"capacity": {"storage": format_bytes(bytes)}}});
                let written = writes::patch_own_fields(&volumes, &*volume, Part::Whole, patch).await?;
                view.volume = written.current();
            }
            view.progress = Progress::Saved { bytes, node };
        }
        Action::HandToNode(_) => {
            finish(context, view, status::node_pending).await?;
        }
        Action::Finish { bytes, .. } => {
            finish(context, view, |claim, _| status::finished(claim, bytes)).await?;
        }
        Action::NoteFailure { infeasible, reason } => {
            let message = format!("failed to expand pvc with {reason}");
            finish(context, view, |claim, at| status::failed(claim, message.clone(), infeasible, at)).await?;
            view.progress = Progress::Noted(reason);
        }
    }
    Ok(())
}

/// Whether it was written; if not, the view has the claim as it is now.
async fn write_status(
    context: &Context,
    view: &mut View,
    claim: &Arc<PersistentVolumeClaim>,
    patch: Value,
) -> Result<bool, ApiError> {
    let api = Api::namespaced(context.client.clone(), &claim.namespace().unwrap_or_default());
    let written = writes::patch_if_unchanged(&api, &**claim, Part::Status, patch).await?;
    let done = matches!(written, Written::Yes(_));
    view.claim = written.current();
    Ok(done)
}

/// Writes what already happened; on a conflict again over the newer claim. (The list of
/// conditions has other writers, so each attempt builds on the version it is written over.)
async fn finish(
    context: &Context,
    view: &mut View,
    patch: impl Fn(&Arc<PersistentVolumeClaim>, jiff::Timestamp) -> Value,
) -> Result<(), ApiError> {
    for _ in 0..8 {
        let Some(claim) = view.claim.clone() else { break };
        let patch = patch(&claim, view.now);
        if write_status(context, view, &claim, patch).await? {
            break;
        }
    }
    view.progress = Progress::Finished;
    Ok(())
}
