//! The binder's effects: one transaction an action.

use holdfast_api::names;
use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::{Value, json};

use super::decide::Action;
use crate::{
    controllers::{
        engine::{Io, Outcome},
        recorder::{News, Severity},
        view::At,
    },
    store::Write,
};

const COMPONENT: &str = "persistentvolume-controller";

/// Does one action. Every write rests on the very revisions that were decided on.
pub(crate) async fn apply(io: &Io, action: Action) -> Outcome {
    let reason = action.reason().clone();
    let about = action.about().clone();
    let (outcome, is_news) = match action {
        Action::Bind { claim, volume, .. } => (io.commit(bind(io, &claim, &volume)).await, false),
        Action::Classify { claim, class, .. } => {
            let write = io.edit(&claim, |body| body["spec"]["storageClassName"] = json!(class));
            (io.commit(vec![write]).await, false)
        }
        Action::Ask { claim, provisioner, .. } => {
            let write = io.edit(&claim, |body| {
                let annotations = &mut body["metadata"]["annotations"];
                annotations[names::STORAGE_PROVISIONER] = json!(provisioner);
                annotations[names::STORAGE_PROVISIONER_BETA] = json!(provisioner);
            });
            (io.commit(vec![write]).await, true)
        }
        Action::Lose { claim, .. } => {
            let write = io.edit(&claim, |body| body["status"]["phase"] = json!("Lost"));
            (io.commit(vec![write]).await, true)
        }
        Action::Wait { .. } => (Outcome::Settled, true),
        Action::Phase { volume, phase, .. } => {
            let is_failure = phase == "Failed";
            let write = io.edit(&volume, |body| {
                let mut status = json!({"phase": phase, "lastPhaseTransitionTime": crate::lifecycle::time(jiff::Timestamp::now())});
                if is_failure {
                    status["reason"] = json!(reason.name());
                    status["message"] = json!(reason.to_string());
                }
                body["status"] = status;
            });
            (io.commit(vec![write]).await, is_failure)
        }
        Action::Free { volume, .. } => {
            let write = io.edit(&volume, |body| {
                remove(body, "spec", "claimRef");
                remove(&mut body["metadata"], "annotations", names::BOUND_BY_CONTROLLER);
                body["status"] = json!({"phase": "Available"});
            });
            (io.commit(vec![write]).await, false)
        }
    };
    if is_news && outcome != Outcome::Again {
        let severity = if reason.is_warning() { Severity::Warning } else { Severity::Normal };
        let message = reason.to_string();
        io.recorder.tell(News { about, component: COMPONENT, severity, reason: reason.name(), message });
    } else if outcome == Outcome::Wrote {
        tracing::info!(%about, "{reason}");
    }
    outcome
}

fn remove(body: &mut Value, object: &str, field: &str) {
    if let Some(object) = body[object].as_object_mut() {
        object.remove(field);
    }
}

/// Both sides of a binding.
fn bind(io: &Io, claim: &At, volume: &At) -> Vec<Option<Write>> {
    // Each side quotes the other as it was decided on; a side that changed refuses the whole.
    let typed = io.store.get(&volume.key).and_then(|object| object.decode::<PersistentVolume>().ok());
    let uid = io.store.get(&claim.key).map(|object| object.uid.clone());
    let (Some(typed), Some(uid)) = (typed, uid) else { return vec![None] };
    let spec = typed.spec.unwrap_or_default();
    let now = crate::lifecycle::time(jiff::Timestamp::now());
    let volume_side = io.edit(volume, |body| {
        if body["spec"]["claimRef"].is_null() {
            body["metadata"]["annotations"][names::BOUND_BY_CONTROLLER] = json!("yes");
        }
        body["spec"]["claimRef"] = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": &*claim.key.namespace,
            "name": &*claim.key.name, "uid": uid, "resourceVersion": claim.revision.to_string(),
        });
        if body["status"]["phase"] != "Bound" {
            body["status"] = json!({"phase": "Bound", "lastPhaseTransitionTime": now});
        }
    });
    let claim_side = io.edit(claim, |body| {
        if body["spec"]["volumeName"].as_str().unwrap_or_default().is_empty() {
            body["spec"]["volumeName"] = json!(&*volume.key.name);
            body["metadata"]["annotations"][names::BOUND_BY_CONTROLLER] = json!("yes");
        }
        body["metadata"]["annotations"][names::BIND_COMPLETED] = json!("yes");
        let status = &mut body["status"];
        status["accessModes"] = json!(spec.access_modes);
        // Later the resizer and the node agent keep the capacity.
        if status["phase"] != "Bound" || status["capacity"].is_null() {
            status["capacity"] = json!(spec.capacity);
        }
        status["phase"] = json!("Bound");
        if let Some(class) = &spec.volume_attributes_class_name {
            status["currentVolumeAttributesClassName"] = json!(class);
        }
    });
    vec![volume_side, claim_side]
}
