//! The binder's effects: one transaction an action.

use std::time::Duration;

use holdfast_api::names;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::{Value, json};

use super::{decide::Action, reason::Reason};
use crate::{
    controllers::{
        engine::{Io, Outcome},
        recorder::{News, Severity},
        view::At,
    },
    lifecycle,
    store::Write,
};

const COMPONENT: &str = "persistentvolume-controller";
/// How long what is contested is left alone.
const MOMENT: Duration = Duration::from_millis(20);

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
        Action::Defer { .. } => (Outcome::After(MOMENT), false),
        Action::Phase { volume, phase, .. } => {
            let failure = (phase == "Failed").then_some(&reason);
            let write = io.edit(&volume, |body| set_phase(body, phase, failure));
            (io.commit(vec![write]).await, failure.is_some())
        }
        Action::Free { volume, .. } => {
            let write = io.edit(&volume, |body| {
                remove(body, "spec", "claimRef");
                remove(&mut body["metadata"], "annotations", names::BOUND_BY_CONTROLLER);
                set_phase(body, "Available", None);
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

/// Brings a volume to a phase. What a failure said goes when the failure does.
fn set_phase(body: &mut Value, phase: &str, failure: Option<&Reason>) {
    body["status"]["phase"] = json!(phase);
    body["status"]["lastPhaseTransitionTime"] = json!(lifecycle::time(Timestamp::now()));
    match failure {
        Some(failure) => {
            body["status"]["reason"] = json!(failure.name());
            body["status"]["message"] = json!(failure.to_string());
        }
        None => {
            remove(body, "status", "reason");
            remove(body, "status", "message");
        }
    }
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
    let volume_side = io.edit(volume, |body| {
        if body["spec"]["claimRef"].is_null() {
            body["metadata"]["annotations"][names::BOUND_BY_CONTROLLER] = json!("yes");
        }
        body["spec"]["claimRef"] = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": &*claim.key.namespace,
            "name": &*claim.key.name, "uid": uid, "resourceVersion": claim.revision.to_string(),
        });
        if body["status"]["phase"] != "Bound" {
            set_phase(body, "Bound", None);
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
