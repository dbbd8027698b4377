//! Small questions to typed objects that several controllers ask.

use holdfast_api::snapshot::{
    GROUP, GROUP_OF_GROUPS,
    group::{VolumeGroupSnapshot, VolumeGroupSnapshotContent},
    volume::{VolumeSnapshot, VolumeSnapshotContent},
};
use k8s_openapi::{
    api::{
        core::v1::{
            CSIPersistentVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod,
        },
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::store::Key;

pub(crate) const CLAIMS: &str = "persistentvolumeclaims";
pub(crate) const VOLUMES: &str = "persistentvolumes";
pub(crate) const CLASSES: &str = "storageclasses.storage.k8s.io";
pub(crate) const ATTRIBUTES_CLASSES: &str = "volumeattributesclasses.storage.k8s.io";
pub(crate) const PODS: &str = "pods";
pub(crate) const NODES: &str = "nodes";
pub(crate) const LEASES: &str = "leases.coordination.k8s.io";
pub(crate) const ATTACHMENTS: &str = "volumeattachments.storage.k8s.io";
pub(crate) const DRIVERS: &str = "csidrivers.storage.k8s.io";
pub(crate) const CSI_NODES: &str = "csinodes.storage.k8s.io";
pub(crate) const NAMESPACES: &str = "namespaces";
pub(crate) const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
pub(crate) const ACCOUNTS: &str = "serviceaccounts";
pub(crate) const EVENTS: &str = "events";
pub(crate) const SNAPSHOTS: &str = "volumesnapshots.snapshot.storage.k8s.io";
pub(crate) const CONTENTS: &str = "volumesnapshotcontents.snapshot.storage.k8s.io";
pub(crate) const SNAPSHOT_CLASSES: &str = "volumesnapshotclasses.snapshot.storage.k8s.io";
pub(crate) const GROUPS: &str = "volumegroupsnapshots.groupsnapshot.storage.k8s.io";
pub(crate) const GROUP_CONTENTS: &str = "volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io";
pub(crate) const GROUP_CLASSES: &str = "volumegroupsnapshotclasses.groupsnapshot.storage.k8s.io";

pub(crate) fn claim_key(namespace: &str, name: &str) -> Key {
    Key::new(CLAIMS, namespace, name)
}

pub(crate) fn volume_key(name: &str) -> Key {
    Key::new(VOLUMES, "", name)
}

pub(crate) fn node_key(name: &str) -> Key {
    Key::new(NODES, "", name)
}

pub(crate) fn content_key(name: &str) -> Key {
    Key::new(CONTENTS, "", name)
}

pub(crate) fn snapshot_class_key(name: &str) -> Key {
    Key::new(SNAPSHOT_CLASSES, "", name)
}

pub(crate) fn group_content_key(name: &str) -> Key {
    Key::new(GROUP_CONTENTS, "", name)
}

pub(crate) fn namespace_key(name: &str) -> Key {
    Key::new(NAMESPACES, "", name)
}

/// What stands for a group snapshot of a driver, by the driver's id.
pub(crate) fn group_handle_key(driver: &str, handle: &str) -> Key {
    Key::new("group", driver, handle)
}

/// The key of the group snapshot that a group's content says it is of.
pub(crate) fn content_group(content: &VolumeGroupSnapshotContent) -> Key {
    let reference = &content.spec.volume_group_snapshot_ref;
    let (namespace, name) = (reference.namespace.as_deref(), reference.name.as_deref());
    Key::new(GROUPS, namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// The driver's id of a group snapshot, once it is known.
pub(crate) fn group_handle(content: &VolumeGroupSnapshotContent) -> Option<&str> {
    let told = content.status.as_ref().and_then(|status| status.volume_group_snapshot_handle.as_deref());
    let given = content.spec.source.group_snapshot_handles.as_ref();
    let given = given.map(|given| given.volume_group_snapshot_handle.as_str());
    told.or(given).filter(|handle| !handle.is_empty())
}

/// Whether a group snapshot is there and shows a moment; its snapshots are there since then.
pub(crate) fn is_cut(group: &VolumeGroupSnapshot) -> bool {
    group.status.as_ref().is_some_and(|status| status.creation_time.is_some())
}

/// The group snapshot that a snapshot says it is part of.
pub(crate) fn snapshot_group(snapshot: &VolumeSnapshot) -> Option<Key> {
    let name = snapshot.status.as_ref()?.volume_group_snapshot_name.as_deref()?;
    let namespace = snapshot.metadata.namespace.as_deref().unwrap_or_default();
    (!name.is_empty()).then(|| Key::new(GROUPS, namespace, name))
}

/// The UID of the group snapshot that owns a snapshot.
pub(crate) fn owning_group(snapshot: &VolumeSnapshot) -> Option<&str> {
    let is_group = |version: &str| version.split_once('/').is_some_and(|(group, _)| group == GROUP_OF_GROUPS);
    let mut owners = snapshot.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.kind == "VolumeGroupSnapshot" && is_group(&owner.api_version));
    owner.map(|owner| owner.uid.as_str())
}

/// The key of the snapshot that a content says it is of.
pub(crate) fn content_snapshot(content: &VolumeSnapshotContent) -> Key {
    let reference = &content.spec.volume_snapshot_ref;
    let (namespace, name) = (reference.namespace.as_deref(), reference.name.as_deref());
    Key::new(SNAPSHOTS, namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// The snapshot that a claim is to be filled from.
pub(crate) fn claim_source(claim: &PersistentVolumeClaim) -> Option<Key> {
    let spec = claim.spec.as_ref()?;
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let here = |group: Option<&str>, kind: &str, name: &str| {
        (group == Some(GROUP) && kind == "VolumeSnapshot").then(|| Key::new(SNAPSHOTS, namespace, name))
    };
    match (&spec.data_source_ref, &spec.data_source) {
        // Across namespaces nothing is restored here.
        (Some(source), _) if source.namespace.as_deref().is_some_and(|other| other != namespace) => None,
        (Some(source), _) => here(source.api_group.as_deref(), &source.kind, &source.name),
        (None, Some(source)) => here(source.api_group.as_deref(), &source.kind, &source.name),
        (None, None) => None,
    }
}

pub(crate) fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(crate) fn is_deleting(metadata: &ObjectMeta) -> bool {
    metadata.deletion_timestamp.is_some()
}

pub(crate) fn has_finalizer(metadata: &ObjectMeta, name: &str) -> bool {
    metadata.finalizers.iter().flatten().any(|finalizer| finalizer == name)
}

/// The names of the claims that a pod uses; the second is true where the claim
/// is made from the pod itself (a generic ephemeral volume).
pub(crate) fn pod_claims(pod: &Pod) -> Vec<(String, bool)> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| {
            if let Some(source) = &volume.persistent_volume_claim {
                return Some((source.claim_name.clone(), false));
            }
            volume.ephemeral.as_ref().map(|_| (format!("{pod_name}-{}", volume.name), true))
        })
        .collect()
}

/// Whether a claim made from a pod is really that pod's.
pub(crate) fn is_owned_by(claim: &PersistentVolumeClaim, pod_uid: &str) -> bool {
    claim
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true) && owner.uid == pod_uid)
}

/// The node a pod is bound to.
pub(crate) fn pod_node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

/// Whether a pod has ended for good: its containers have, or its node has let go of it and finalizers
/// alone keep the object. One that waits for its own claims to go would keep them for ever.
pub(crate) fn is_terminated(pod: &Pod) -> bool {
    if is_deleting(&pod.metadata) && pod.metadata.deletion_grace_period_seconds == Some(0) {
        return true;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The volume that a claim names; `None` while it names none.
pub(crate) fn claim_volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

pub(crate) fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

pub(crate) fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

pub(crate) fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// The UID of the one claim that a volume belongs to; `None` while that is open.
pub(crate) fn claim_ref_uid(volume: &PersistentVolume) -> Option<&str> {
    claim_ref(volume)?.uid.as_deref().filter(|uid| !uid.is_empty())
}

/// The key of the claim that a `claimRef` names.
pub(crate) fn claim_ref_key(reference: &ObjectReference) -> Key {
    claim_key(
        reference.namespace.as_deref().unwrap_or_default(),
        reference.name.as_deref().unwrap_or_default(),
    )
}

pub(crate) fn csi_source(volume: &PersistentVolume) -> Option<&CSIPersistentVolumeSource> {
    volume.spec.as_ref()?.csi.as_ref()
}

pub(crate) fn volume_modes(volume: &PersistentVolume) -> &[String] {
    volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

pub(crate) fn claim_modes(claim: &PersistentVolumeClaim) -> &[String] {
    claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default()
}

/// The VolumeAttributesClasses that a claim has, wants, or is being given.
pub(crate) fn claim_attributes(claim: &PersistentVolumeClaim) -> impl Iterator<Item = &str> {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let has = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let change = status.and_then(|status| status.modify_volume_status.as_ref());
    let becoming = change.and_then(|change| change.target_volume_attributes_class_name.as_deref());
    [wanted, has, becoming].into_iter().flatten().filter(|name| !name.is_empty())
}

/// The VolumeAttributesClass that a volume has.
pub(crate) fn volume_attributes(volume: &PersistentVolume) -> Option<&str> {
    let name = volume.spec.as_ref()?.volume_attributes_class_name.as_deref();
    name.filter(|name| !name.is_empty())
}

pub(crate) fn attributes_class_key(name: &str) -> Key {
    Key::new(ATTRIBUTES_CLASSES, "", name)
}

/// Whether claims of the class wait for a pod, so that the volume comes to be where the pod is.
pub(crate) fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// `apiVersion` and `kind` of a resource that events are about.
pub(crate) fn kind_of(resource: &str) -> (&'static str, &'static str) {
    match resource {
        CLAIMS => ("v1", "PersistentVolumeClaim"),
        VOLUMES => ("v1", "PersistentVolume"),
        PODS => ("v1", "Pod"),
        NODES => ("v1", "Node"),
        NAMESPACES => ("v1", "Namespace"),
        CLASSES => ("storage.k8s.io/v1", "StorageClass"),
        ATTACHMENTS => ("storage.k8s.io/v1", "VolumeAttachment"),
        ATTRIBUTES_CLASSES => ("storage.k8s.io/v1", "VolumeAttributesClass"),
        SNAPSHOTS => ("snapshot.storage.k8s.io/v1", "VolumeSnapshot"),
        CONTENTS => ("snapshot.storage.k8s.io/v1", "VolumeSnapshotContent"),
        GROUPS => ("groupsnapshot.storage.k8s.io/v1", "VolumeGroupSnapshot"),
        GROUP_CONTENTS => ("groupsnapshot.storage.k8s.io/v1", "VolumeGroupSnapshotContent"),
        _ => ("v1", ""),
    }
}
