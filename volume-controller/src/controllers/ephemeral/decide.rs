//! Which claim of its own a pod lacks.

use k8s_openapi::api::core::v1::{Pod, Volume};
use serde_json::{Value, json};

use super::reason::Reason;
use crate::{
    controllers::view::{Seen, View, claim_key, is_deleting, is_owned_by, is_terminated},
    store::Key,
};

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Create the claim of one volume.
    Create { volume: String, claim: Value },
    /// Say why there is none.
    Tell { reason: Reason },
}

/// `None` for a pod that has its claims, or needs none any more.
pub(crate) fn decide(view: &View, key: &Key) -> Option<Action> {
    let pod = view.pods.at(key).filter(|pod| !is_deleting(&pod.metadata) && !is_terminated(pod))?;
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut in_the_way = None;
    for volume in volumes {
        let Some(claim) = claim_of(pod, volume) else { continue };
        let name = claim["metadata"]["name"].as_str().unwrap_or_default();
        match view.claims.at(&claim_key(&key.namespace, name)) {
            None => return Some(Action::Create { volume: volume.name.clone(), claim }),
            Some(found) if is_owned_by(found, &pod.uid) => {}
            Some(_) => {
                in_the_way.get_or_insert_with(|| Reason::NotOwner {
                    volume: volume.name.clone(),
                    claim: name.to_owned(),
                    pod: key.name.to_string(),
                });
            }
        }
    }
    in_the_way.map(|reason| Action::Tell { reason })
}

/// The claim that a volume of a pod is made from, under the name that it has in Kubernetes.
fn claim_of(pod: &Seen<Pod>, volume: &Volume) -> Option<Value> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let owner = json!({
        "apiVersion": "v1", "kind": "Pod", "name": &*pod.key.name, "uid": &*pod.uid,
        "controller": true, "blockOwnerDeletion": true,
    });
    let mut metadata = json!({
        "name": format!("{}-{}", pod.key.name, volume.name),
        "namespace": &*pod.key.namespace,
        "ownerReferences": [owner],
    });
    // Of its metadata these two only, as in Kubernetes.
    let given = template.metadata.as_ref();
    if let Some(labels) = given.and_then(|given| given.labels.as_ref()) {
        metadata["labels"] = json!(labels);
    }
    if let Some(annotations) = given.and_then(|given| given.annotations.as_ref()) {
        metadata["annotations"] = json!(annotations);
    }
    Some(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template.spec,
    }))
}
