//! VolumeSnapshot, VolumeSnapshotContent, VolumeSnapshotClass.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{VolumeSnapshotError, kind};

/// Somebody's wish for a snapshot of a claim, or for one that is there already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.snapshot.v1.VolumeSnapshot", extend("required" = ["spec"]))]
pub struct VolumeSnapshot {
    /// `snapshot.storage.k8s.io/v1`, or what it was read from.
    pub api_version: String,
    /// `VolumeSnapshot`.
    pub kind: String,
    /// Name, labels and the like.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: VolumeSnapshotSpec,
    /// What is; to be trusted only where the content names the snapshot as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<VolumeSnapshotStatus>,
}

kind!(VolumeSnapshot { spec, status }, "snapshot.storage.k8s.io", "volumesnapshots", NamespaceResourceScope);

/// What a snapshot is to be of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.snapshot.v1.VolumeSnapshotSpec", extend("required" = ["source"]))]
pub struct VolumeSnapshotSpec {
    /// Of what; never changes.
    pub source: VolumeSnapshotSource,
    /// The class; without one that of the driver that is marked as default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_class_name: Option<String>,
}

/// Exactly one of the two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.snapshot.v1.VolumeSnapshotSource")]
pub struct VolumeSnapshotSource {
    /// A claim in the same namespace, to take a snapshot of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim_name: Option<String>,
    /// The content of a snapshot that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_content_name: Option<String>,
}

/// What became of a snapshot; taken over from its content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.snapshot.v1.VolumeSnapshotStatus")]
pub struct VolumeSnapshotStatus {
    /// The content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_volume_snapshot_content_name: Option<String>,
    /// The moment that the snapshot shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// Whether volumes can be made from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_to_use: Option<bool>,
    /// The smallest size of a volume made from it, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_size: Option<Quantity>,
    /// What went wrong last, until it goes well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<VolumeSnapshotError>,
    /// The group snapshot that it is part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_group_snapshot_name: Option<String>,
}

/// A snapshot as it is in the storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.snapshot.v1.VolumeSnapshotContent", extend("required" = ["spec"]))]
pub struct VolumeSnapshotContent {
    /// `snapshot.storage.k8s.io/v1`, or what it was read from.
    pub api_version: String,
    /// `VolumeSnapshotContent`.
    pub kind: String,
    /// Name, labels and the like.
    pub metadata: ObjectMeta,
    /// What it is.
    pub spec: VolumeSnapshotContentSpec,
    /// What the driver says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<VolumeSnapshotContentStatus>,
}

kind!(
    VolumeSnapshotContent { spec, status },
    "snapshot.storage.k8s.io",
    "volumesnapshotcontents",
    ClusterResourceScope
);

/// What a snapshot in the storage is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.snapshot.v1.VolumeSnapshotContentSpec", extend("required" = ["deletionPolicy", "driver", "source", "volumeSnapshotRef"]))]
pub struct VolumeSnapshotContentSpec {
    /// The snapshot object that it belongs to: name, namespace, and UID once it is bound.
    pub volume_snapshot_ref: ObjectReference,
    /// `Delete` or `Retain`: what becomes of it when its snapshot object goes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deletion_policy: String,
    /// The CSI driver that has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// The class that it was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_class_name: Option<String>,
    /// Of what; never changes.
    pub source: VolumeSnapshotContentSource,
    /// `Filesystem` or `Block`, as the volume was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_volume_mode: Option<String>,
}

/// Exactly one of the two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.snapshot.v1.VolumeSnapshotContentSource")]
pub struct VolumeSnapshotContentSource {
    /// The driver's id of the volume to take a snapshot of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_handle: Option<String>,
    /// The driver's id of a snapshot that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_handle: Option<String>,
}

/// What the driver says of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.snapshot.v1.VolumeSnapshotContentStatus")]
pub struct VolumeSnapshotContentStatus {
    /// The driver's id of the snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_handle: Option<String>,
    /// The moment that it shows, in nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<i64>,
    /// The smallest size of a volume made from it, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_size: Option<i64>,
    /// Whether volumes can be made from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_to_use: Option<bool>,
    /// What went wrong last, until it goes well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<VolumeSnapshotError>,
    /// The driver's id of the group snapshot that it is part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_group_snapshot_handle: Option<String>,
}

/// How snapshots are taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.snapshot.v1.VolumeSnapshotClass", extend("required" = ["deletionPolicy", "driver"]))]
pub struct VolumeSnapshotClass {
    /// `snapshot.storage.k8s.io/v1`, or what it was read from.
    pub api_version: String,
    /// `VolumeSnapshotClass`.
    pub kind: String,
    /// Name, labels and the like.
    pub metadata: ObjectMeta,
    /// The CSI driver that takes them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// What the driver is told besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<BTreeMap<String, String>>,
    /// `Delete` or `Retain`: what becomes of the content when its snapshot object goes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deletion_policy: String,
}

kind!(
    VolumeSnapshotClass { driver, parameters, deletion_policy },
    "snapshot.storage.k8s.io",
    "volumesnapshotclasses",
    ClusterResourceScope
);
