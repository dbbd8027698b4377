//! From a pod's volume to what has to be mounted, or the reason why not yet. Pure.

use holdfast_api::{access, attachment::attachment_name, quantity};
use k8s_openapi::api::core::v1::{
    CSIPersistentVolumeSource, EmptyDirVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod,
    SecretReference, Volume,
};
use serde::Serialize;

use super::{
    desired::{Objects, Used},
    reason::Reason,
    view::{
        Attach, CsiVolume, Growth, LocalSource, LocalVolume, Plugin, PodKey, SecretRef, VolumeId, Wanted,
    },
};
use crate::csi::capability::Shape;

/// What a pod's volume leads to.
pub(crate) struct Resolved {
    pub(crate) wanted: Result<Wanted, Reason>,
    pub(crate) leaving_claim: Option<String>,
}

pub(crate) fn resolve(
    pod: &Pod,
    key: &PodKey,
    volume: &Volume,
    used: &Used<'_>,
    node: &str,
    objects: &impl Objects,
) -> Resolved {
    let mut leaving_claim = None;
    let wanted = if let Some(source) = &volume.persistent_volume_claim {
        let read_only = source.read_only.unwrap_or(false);
        match objects.claim(&key.namespace, &source.claim_name) {
            None => Err(Reason::ClaimNotFound { claim: source.claim_name.clone() }),
            Some(claim) => {
                leaving_claim = leaving(&claim);
                claimed(pod, volume, &claim, read_only, used, node, objects)
            }
        }
    } else if volume.ephemeral.is_some() {
        // Kubernetes names the claim of a generic ephemeral volume after the pod and the volume.
        let name = format!("{}-{}", key.name, volume.name);
        match objects.claim(&key.namespace, &name) {
            None => Err(Reason::ClaimNotFound { claim: name }),
            Some(claim) if !is_owned_by(&claim, key) => Err(Reason::ClaimForAnotherPod { claim: name }),
            Some(claim) => {
                leaving_claim = leaving(&claim);
                claimed(pod, volume, &claim, false, used, node, objects)
            }
        }
    } else {
        own(volume)
    };
    Resolved { wanted, leaving_claim }
}

fn leaving(claim: &PersistentVolumeClaim) -> Option<String> {
    claim.metadata.deletion_timestamp.as_ref().and_then(|_| claim.metadata.name.clone())
}

fn is_owned_by(claim: &PersistentVolumeClaim, key: &PodKey) -> bool {
    claim.metadata.owner_references.iter().flatten().any(|o| o.uid == key.uid && o.controller == Some(true))
}

/// A volume that the pod defines itself.
fn own(volume: &Volume) -> Result<Wanted, Reason> {
    let (plugin, source) = if let Some(host) = &volume.host_path {
        let check = host.type_.clone().unwrap_or_default();
        (Plugin::HostPath, LocalSource::Path { path: host.path.clone(), check })
    } else if let Some(empty) = &volume.empty_dir {
        (Plugin::EmptyDir, scratch(empty)?)
    } else {
        return Err(Reason::Unsupported { kind: kind_of(volume, &["name"]) });
    };
    Ok(Wanted::Local(LocalVolume {
        plugin,
        name: volume.name.clone(),
        source,
        block: false,
        read_only: false,
    }))
}

fn scratch(empty: &EmptyDirVolumeSource) -> Result<LocalSource, Reason> {
    match empty.medium.as_deref().unwrap_or_default() {
        "" => Ok(LocalSource::Scratch),
        "Memory" => {
            let limit = empty.size_limit.as_ref().and_then(|q| quantity::parse_bytes(&q.0).ok());
            Ok(LocalSource::Memory { limit: limit.filter(|&l| l > 0) })
        }
        other => Err(Reason::Unsupported { kind: format!("emptyDir with medium {other}") }),
    }
}

/// The field that says what a volume is: the one that is set beside the known others.
fn kind_of(source: &impl Serialize, others: &[&str]) -> String {
    let value = serde_json::to_value(source).unwrap_or_default();
    let kind = value.as_object().and_then(|o| o.keys().find(|k| !others.contains(&k.as_str())).cloned());
    kind.unwrap_or_else(|| "emptyDir or unknown".to_owned())
}

fn claimed(
    pod: &Pod,
    volume: &Volume,
    claim: &PersistentVolumeClaim,
    read_only: bool,
    used: &Used<'_>,
    node: &str,
    objects: &impl Objects,
) -> Result<Wanted, Reason> {
    let name = claim.metadata.name.clone().unwrap_or_default();
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let pv_name = claim.spec.as_ref().and_then(|s| s.volume_name.clone()).unwrap_or_default();
    if phase == "Lost" {
        return Err(Reason::ClaimLost { claim: name, volume: pv_name });
    }
    if phase != "Bound" || pv_name.is_empty() {
        return Err(Reason::ClaimNotBound { claim: name });
    }
    let Some(pv) = objects.volume(&pv_name) else {
        return Err(Reason::VolumeNotFound { claim: name, volume: pv_name });
    };
    if !access::refers_to(&pv, claim) {
        return Err(Reason::VolumeNotOfClaim { claim: name, volume: pv_name });
    }
    let block = access::volume_mode(&pv) == "Block";
    if block && used.mounted.contains(volume.name.as_str()) {
        return Err(Reason::ModeMismatch { mode: "Block", field: "volumeMounts" });
    }
    if !block && used.devices.contains(volume.name.as_str()) {
        return Err(Reason::ModeMismatch { mode: "Filesystem", field: "volumeDevices" });
    }
    let Some(spec) = &pv.spec else {
        return Err(Reason::VolumeNotFound { claim: name, volume: pv_name });
    };
    if let Some(csi) = &spec.csi {
        return Ok(Wanted::Csi(Box::new(csi_volume(pod, &pv, csi, claim, read_only, node, objects))));
    }
    let (plugin, source) = if let Some(host) = &spec.host_path {
        let check = host.type_.clone().unwrap_or_default();
        (Plugin::HostPath, LocalSource::Path { path: host.path.clone(), check })
    } else if let Some(local) = &spec.local {
        // A local volume is made by hand; what is not there is not made.
        (Plugin::Local, LocalSource::Path { path: local.path.clone(), check: "Exists".to_owned() })
    } else {
        let others = [
            "accessModes",
            "capacity",
            "claimRef",
            "mountOptions",
            "nodeAffinity",
            "persistentVolumeReclaimPolicy",
            "storageClassName",
            "volumeAttributesClassName",
            "volumeMode",
        ];
        return Err(Reason::Unsupported { kind: kind_of(spec, &others) });
    };
    Ok(Wanted::Local(LocalVolume { plugin, name: pv_name, source, block, read_only }))
}

fn csi_volume(
    pod: &Pod,
    pv: &PersistentVolume,
    csi: &CSIPersistentVolumeSource,
    claim: &PersistentVolumeClaim,
    read_only: bool,
    node: &str,
    objects: &impl Objects,
) -> CsiVolume {
    let modes = pv.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
    let driver = objects.csi_driver(&csi.driver);
    let driver = driver.as_ref().map(|d| &d.spec);
    // A driver without a CSIDriver object has to be attached, as in Kubernetes.
    let attach_required = driver.and_then(|d| d.attach_required).unwrap_or(true);
    let service_account = pod.spec.as_ref().and_then(|s| s.service_account_name.clone());
    CsiVolume {
        id: VolumeId { driver: csi.driver.clone(), handle: csi.volume_handle.clone() },
        pv: pv.metadata.name.clone().unwrap_or_default(),
        shape: Shape {
            block: access::volume_mode(pv) == "Block",
            fs_type: csi.fs_type.clone().unwrap_or_default(),
            mount_flags: pv.spec.as_ref().and_then(|s| s.mount_options.clone()).unwrap_or_default(),
            // As kubelet: the volume's first mode counts.
            access_mode: modes.first().cloned().unwrap_or_else(|| "ReadWriteOnce".to_owned()),
        },
        attributes: csi.volume_attributes.clone().unwrap_or_default(),
        stage_secret: secret(csi.node_stage_secret_ref.as_ref()),
        publish_secret: secret(csi.node_publish_secret_ref.as_ref()),
        expand_secret: secret(csi.node_expand_secret_ref.as_ref()),
        read_only,
        attach: if attach_required { attach(csi, node, objects) } else { Attach::NotNeeded },
        pod_info: driver
            .and_then(|d| d.pod_info_on_mount)
            .unwrap_or(false)
            .then(|| service_account.unwrap_or_else(|| "default".to_owned())),
        one_pod: modes.iter().any(|m| m == "ReadWriteOncePod"),
        growth: growth(pv, claim),
    }
}

fn secret(reference: Option<&SecretReference>) -> Option<SecretRef> {
    let reference = reference?;
    Some(SecretRef { namespace: reference.namespace.clone()?, name: reference.name.clone()? })
}

fn attach(csi: &CSIPersistentVolumeSource, node: &str, objects: &impl Objects) -> Attach {
    let attachment = objects.attachment(&attachment_name(&csi.driver, &csi.volume_handle, node));
    let attached = attachment.is_some_and(|a| {
        a.metadata.deletion_timestamp.is_none() && a.status.as_ref().is_some_and(|s| s.attached)
    });
    if attached { Attach::Attached } else { Attach::Pending }
}

/// The growth that waits for this node: the volume is larger than the claim says, and the resizer
/// has left the rest to the node (Kubernetes, "PersistentVolumeClaimStatus").
fn growth(pv: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<Growth> {
    let status = claim.status.as_ref()?;
    let asked = status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "FileSystemResizePending" && c.status == "True")
        || status
            .allocated_resource_statuses
            .as_ref()
            .and_then(|s| s.get("storage"))
            .is_some_and(|s| matches!(s.as_str(), "NodeResizePending" | "NodeResizeInProgress"));
    let bytes = access::volume_capacity(pv).ok()?;
    let has = access::claim_capacity(claim).ok()?.unwrap_or(0);
    if !asked || bytes <= has {
        return None;
    }
    Some(Growth {
        namespace: claim.metadata.namespace.clone()?,
        claim: claim.metadata.name.clone()?,
        claim_uid: claim.metadata.uid.clone()?,
        bytes,
        quantity: pv.spec.as_ref()?.capacity.as_ref()?.get("storage")?.0.clone(),
    })
}
