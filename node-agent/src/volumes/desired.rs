//! What the pods of this node want, from the objects of the API. Pure.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{CSIDriver, VolumeAttachment},
};

use super::{
    resolve,
    view::{Life, PodKey, PodView, PodVolume, Report},
};

/// The condition that says whether a pod's volumes are all there.
pub(crate) const CONDITION: &str = "holdfast.dev/VolumesPublished";

/// The objects that a pod's volumes lead to.
pub(crate) trait Objects {
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>>;
    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>>;
    fn attachment(&self, name: &str) -> Option<Arc<VolumeAttachment>>;
    fn csi_driver(&self, name: &str) -> Option<Arc<CSIDriver>>;
}

/// What one pod wants; `None` for an object without a name or UID, which no API server hands out.
pub(crate) fn pod_view(pod: &Pod, node: &str, objects: &impl Objects) -> Option<PodView> {
    let meta = &pod.metadata;
    let key = PodKey { namespace: meta.namespace.clone()?, name: meta.name.clone()?, uid: meta.uid.clone()? };
    let used = Used::of(pod);
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_deref()).unwrap_or_default();
    let volumes = volumes
        .iter()
        // As kubelet: a volume that no container names is left alone.
        .filter(|v| used.mounted.contains(v.name.as_str()) || used.devices.contains(v.name.as_str()))
        .map(|v| {
            let resolved = resolve::resolve(pod, &key, v, &used, node, objects);
            PodVolume { name: v.name.clone(), wanted: resolved.wanted, leaving_claim: resolved.leaving_claim }
        })
        .collect();
    Some(PodView {
        life: life(pod),
        created: meta.creation_timestamp.as_ref().map_or(0, |t| t.0.as_second()),
        volumes,
        reported: reported(pod),
        key,
    })
}

fn life(pod: &Pod) -> Life {
    if pod.metadata.deletion_timestamp.is_some() {
        // With no grace left somebody has let go of it already; only finalizers keep the object.
        return if pod.metadata.deletion_grace_period_seconds == Some(0) {
            Life::Left
        } else {
            Life::Leaving
        };
    }
    match pod.status.as_ref().and_then(|s| s.phase.as_deref()) {
        Some("Succeeded" | "Failed") => Life::Ended,
        _ => Life::Active,
    }
}

fn reported(pod: &Pod) -> Option<Report> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let condition = conditions.iter().find(|c| c.type_ == CONDITION)?;
    Some(Report {
        published: condition.status == "True",
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    })
}

/// The volumes that the containers of a pod name.
pub(crate) struct Used<'a> {
    pub(crate) mounted: BTreeSet<&'a str>,
    pub(crate) devices: BTreeSet<&'a str>,
}

impl<'a> Used<'a> {
    pub(crate) fn of(pod: &'a Pod) -> Self {
        let mut used = Self { mounted: BTreeSet::new(), devices: BTreeSet::new() };
        let Some(spec) = &pod.spec else { return used };
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            used.mounted.extend(container.volume_mounts.iter().flatten().map(|m| m.name.as_str()));
            used.devices.extend(container.volume_devices.iter().flatten().map(|d| d.name.as_str()));
        }
        used
    }
}
