//! What the volume loop reads from and writes to the API server besides its caches.

use std::collections::{BTreeSet, HashMap};

use holdfast_api::attachment::{self, attachment_name};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolumeClaim, Pod, Secret},
    storage::v1::VolumeAttachment,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;

use super::{
    apply::Io,
    desired::CONDITION,
    view::{Growth, PodKey, Report, SecretRef, VolumeId},
};
use crate::{clock, error::Error};

/// `volumesInUse` as the server confirmed it, for one Node object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Confirmed {
    pub(crate) node_uid: Option<String>,
    pub(crate) volumes: BTreeSet<String>,
}

pub(crate) async fn set_in_use(io: &Io, volumes: &[String]) -> Result<Confirmed, Error> {
    let api: Api<Node> = Api::all(io.client.clone());
    let patch = json!({"status": {"volumesInUse": volumes}});
    let node = api
        .patch_status(&io.node, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(Error::api(format!("list the volumes in use at node {}", io.node)))?;
    let listed: BTreeSet<String> =
        node.status.and_then(|s| s.volumes_in_use).unwrap_or_default().into_iter().collect();
    // The server's word counts, not what we sent.
    if !listed.iter().eq(volumes) {
        return Err(Error::Refused(format!("node {} lists other volumes in use than were written", io.node)));
    }
    Ok(Confirmed { node_uid: node.metadata.uid, volumes: listed })
}

/// The attachment's metadata, read from the server now; an error while it is not attached.
pub(crate) async fn attachment_metadata(
    io: &Io,
    id: &VolumeId,
    pv: &str,
) -> Result<HashMap<String, String>, Error> {
    let api: Api<VolumeAttachment> = Api::all(io.client.clone());
    let name = attachment_name(&id.driver, &id.handle, &io.node);
    let found = api.get_opt(&name).await.map_err(Error::api(format!("read volumeattachment {name}")))?;
    let refused = |why: &str| {
        Err(Error::Refused(format!("volume {pv} is not attached: volumeattachment {name} {why}")))
    };
    let Some(found) = found else { return refused("does not exist") };
    if found.metadata.deletion_timestamp.is_some() {
        return refused("is being deleted");
    }
    if found.spec.node_name != io.node || found.spec.attacher != id.driver {
        return refused("is of another node or driver");
    }
    let own = attachment::Machine { boot: &io.boot_id, id: &io.machine_id };
    if attachment::is_of_another_machine(&found, own) {
        return refused("is of another machine that had the name of this node");
    }
    match found.status {
        Some(status) if status.attached => {
            Ok(status.attachment_metadata.unwrap_or_default().into_iter().collect())
        }
        _ => refused("does not say attached"),
    }
}

/// A Secret's values. They go to the driver and nowhere else.
pub(crate) async fn secrets(
    io: &Io,
    reference: Option<&SecretRef>,
) -> Result<HashMap<String, String>, Error> {
    let Some(SecretRef { namespace, name }) = reference else { return Ok(HashMap::new()) };
    let api: Api<Secret> = Api::namespaced(io.client.clone(), namespace);
    let secret = api.get(name).await.map_err(Error::api(format!("read secret {namespace}/{name}")))?;
    secret
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, value)| match String::from_utf8(value.0) {
            Ok(value) => Ok((key, value)),
            Err(_) => {
                Err(Error::Refused(format!("key {key} of secret {namespace}/{name} is not UTF-8 text")))
            }
        })
        .collect()
}

/// Writes what a pod's volumes are like. No container runs here, so the phase stays Pending.
pub(crate) async fn report_pod(io: &Io, pod: &PodKey, report: &Report) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(io.client.clone(), &pod.namespace);
    let patch = json!({
        "metadata": {"uid": pod.uid},
        "status": {
            "phase": "Pending",
            "reason": report.reason,
            "message": report.message,
            "conditions": [{
                "type": CONDITION,
                "status": if report.published { "True" } else { "False" },
                "reason": report.reason,
                "message": report.message,
                "lastTransitionTime": clock::now(),
            }],
        }
    });
    match api.patch_status(&pod.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => Ok(()),
        // Gone, or another pod under the same name: nobody is left to tell.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(Error::api(format!("report the status of pod {pod}"))(error)),
    }
}

/// Ends a pod's object, once nothing of it is left here.
pub(crate) async fn delete_pod(io: &Io, pod: &PodKey) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(io.client.clone(), &pod.namespace);
    let only_this = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(&pod.name, &only_this).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(Error::api(format!("delete pod {pod}"))(error)),
    }
}

const CONFLICTS: usize = 5;
const RESIZE_CONDITIONS: [&str; 5] =
    ["FileSystemResizePending", "Resizing", "ControllerResizeError", "NodeResizeError", "NodeResizePending"];

/// Tells the claim that the growth has reached its file system.
pub(crate) async fn finish_growth(io: &Io, growth: &Growth) -> Result<(), Error> {
    let Growth { namespace, claim: name, .. } = growth;
    let api: Api<PersistentVolumeClaim> = Api::namespaced(io.client.clone(), namespace);
    for _ in 0..CONFLICTS {
        let claim = api.get_opt(name).await.map_err(Error::api(format!("read claim {namespace}/{name}")))?;
        let Some(claim) = claim.filter(|c| c.metadata.uid.as_deref() == Some(&growth.claim_uid)) else {
            return Ok(()); // the claim that grew is gone
        };
        let mut conditions = claim.status.and_then(|s| s.conditions).unwrap_or_default();
        conditions.retain(|c| !RESIZE_CONDITIONS.contains(&c.type_.as_str()));
        let patch = json!({
            "metadata": {"resourceVersion": claim.metadata.resource_version},
            "status": {
                "capacity": {"storage": growth.quantity},
                "conditions": conditions,
                "allocatedResourceStatuses": {"storage": null},
            }
        });
        match api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(error) => {
                return Err(Error::api(format!("report the growth of claim {namespace}/{name}"))(error));
            }
        }
    }
    Err(Error::Refused(format!("claim {namespace}/{name} is written by others all the time")))
}
