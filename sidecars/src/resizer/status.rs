//! The part of a claim's status that tells how far growing has come.
//!
//! Names and meaning: `allocatedResourceStatuses` and the conditions of
//! PersistentVolumeClaim in Kubernetes' API reference.

use std::sync::Arc;

use holdfast_api::quantity::{format_bytes, parse_bytes};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use serde_json::{Value, json};

pub(super) const IN_PROGRESS: &str = "ControllerResizeInProgress";
pub(super) const INFEASIBLE: &str = "ControllerResizeInfeasible";
pub(super) const NODE_PENDING: &str = "NodeResizePending";
pub(super) const NODE_IN_PROGRESS: &str = "NodeResizeInProgress";
pub(super) const NODE_INFEASIBLE: &str = "NodeResizeInfeasible";

const RESIZING: &str = "Resizing";
const FS_PENDING: &str = "FileSystemResizePending";
const CONTROLLER_ERROR: &str = "ControllerResizeError";
const NODE_ERROR: &str = "NodeResizeError";

/// How far growing has come, in the API's words.
pub(super) fn of(claim: &PersistentVolumeClaim) -> Option<&str> {
    let all = claim.status.as_ref()?.allocated_resource_statuses.as_ref()?;
    all.get("storage").map(String::as_str)
}

/// The size that growing is under way to, bytes.
pub(super) fn allocated(claim: &PersistentVolumeClaim) -> Option<i64> {
    let all = claim.status.as_ref()?.allocated_resources.as_ref()?;
    parse_bytes(&all.get("storage")?.0).ok()
}

fn condition(kind: &str, message: Option<String>, now: Timestamp) -> PersistentVolumeClaimCondition {
    PersistentVolumeClaimCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        last_transition_time: Some(Time(now)),
        message,
        ..PersistentVolumeClaimCondition::default()
    }
}

/// The claim's conditions with `new` in them. `keep` are the resize conditions that may
/// stay; conditions of others always do.
fn conditions(
    claim: &PersistentVolumeClaim,
    new: Option<PersistentVolumeClaimCondition>,
    keep: &[&str],
) -> Vec<PersistentVolumeClaimCondition> {
    let ours = [RESIZING, FS_PENDING, CONTROLLER_ERROR, NODE_ERROR];
    let old = claim.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let replaced = new.as_ref().map(|new| new.type_.clone());
    let mut all: Vec<_> = old
        .into_iter()
        .filter(|c| Some(&c.type_) != replaced.as_ref())
        .filter(|c| !ours.contains(&c.type_.as_str()) || keep.contains(&c.type_.as_str()))
        .collect();
    all.extend(new);
    all
}

/// The patch that says: growing to `bytes` is under way in the controller.
pub(super) fn in_progress(claim: &Arc<PersistentVolumeClaim>, bytes: i64, now: Timestamp) -> Value {
    json!({"status": {
        "allocatedResources": {"storage": format_bytes(bytes)},
        "allocatedResourceStatuses": {"storage": IN_PROGRESS},
        "conditions": conditions(claim, Some(condition(RESIZING, None, now)), &[]),
    }})
}

/// The patch that says why the controller could not; `infeasible`: and never will.
pub(super) fn failed(
    claim: &Arc<PersistentVolumeClaim>,
    message: String,
    infeasible: bool,
    now: Timestamp,
) -> Value {
    let error = condition(CONTROLLER_ERROR, Some(message), now);
    let mut patch = json!({"status": {"conditions": conditions(claim, Some(error), &[RESIZING])}});
    if infeasible {
        patch["status"]["allocatedResourceStatuses"] = json!({"storage": INFEASIBLE});
    }
    patch
}

/// The patch that says: the rest is the node's part.
pub(super) fn node_pending(claim: &Arc<PersistentVolumeClaim>, now: Timestamp) -> Value {
    let message = "Waiting for the node to grow the file system of the volume.".to_owned();
    let pending = condition(FS_PENDING, Some(message), now);
    json!({"status": {
        "allocatedResourceStatuses": {"storage": NODE_PENDING},
        "conditions": conditions(claim, Some(pending), &[RESIZING]),
    }})
}

/// The patch that says: all done, the claim has `bytes`.
pub(super) fn finished(claim: &Arc<PersistentVolumeClaim>, bytes: i64) -> Value {
    json!({"status": {
        "capacity": {"storage": format_bytes(bytes)},
        "allocatedResourceStatuses": {"storage": null},
        "conditions": conditions(claim, None, &[]),
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_others_stay() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({"status": {"conditions": [
            {"type": "Unused", "status": "True"},
            {"type": "Resizing", "status": "True"},
            {"type": "NodeResizeError", "status": "True"},
        ]}}))
        .expect("a claim");
        let claim = Arc::new(claim);
        let kinds = |patch: &Value| -> Vec<String> {
            let all = patch["status"]["conditions"].as_array().expect("conditions").clone();
            all.iter().map(|c| c["type"].as_str().unwrap_or_default().to_owned()).collect()
        };
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(kinds(&in_progress(&claim, 1, now)), ["Unused", "Resizing"]);
        assert_eq!(
            kinds(&failed(&claim, String::new(), true, now)),
            ["Unused", "Resizing", "ControllerResizeError"]
        );
        assert_eq!(kinds(&node_pending(&claim, now)), ["Unused", "Resizing", "FileSystemResizePending"]);
        assert_eq!(kinds(&finished(&claim, 1)), ["Unused"]);
    }
}
