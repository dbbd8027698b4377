//! VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeGroupSnapshotClass.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{VolumeSnapshotError, kind};

/// Somebody's wish for snapshots of several claims at one moment, or for such that are there already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.groupsnapshot.v1.VolumeGroupSnapshot", extend("required" = ["spec"]))]
pub struct VolumeGroupSnapshot {
    /// `groupsnapshot.storage.k8s.io/v1`, or what it was read from.
    pub api_version: String,
    /// `VolumeGroupSnapshot`.
    pub kind: String,
    /// Name, labels and the like.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: VolumeGroupSnapshotSpec,
    /// What is; to be trusted only where the content names the group snapshot as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<VolumeGroupSnapshotStatus>,
}

kind!(
    VolumeGroupSnapshot { spec, status },
    "groupsnapshot.storage.k8s.io",
    "volumegroupsnapshots",
    NamespaceResourceScope
);

/// What a group snapshot is to be of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.groupsnapshot.v1.VolumeGroupSnapshotSpec", extend("required" = ["source"]))]
pub struct VolumeGroupSnapshotSpec {
    /// Of what; never changes.
    pub source: VolumeGroupSnapshotSource,
    /// The class; without one the default of the driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_group_snapshot_class_name: Option<String>,
}

/// Exactly one of the two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.groupsnapshot.v1.VolumeGroupSnapshotSource")]
pub struct VolumeGroupSnapshotSource {
    /// The claims of the same namespace to take snapshots of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// The content of a group snapshot that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_group_snapshot_content_name: Option<String>,
}

/// What became of a group snapshot; taken over from its content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.groupsnapshot.v1.VolumeGroupSnapshotStatus")]
pub struct VolumeGroupSnapshotStatus {
    /// The content; never changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_volume_group_snapshot_content_name: Option<String>,
    /// The moment that the snapshots show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// Whether volumes can be made from all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_to_use: Option<bool>,
    /// What went wrong last, until it goes well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<VolumeSnapshotError>,
}

/// A group snapshot as it is in the storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.groupsnapshot.v1.VolumeGroupSnapshotContent", extend("required" = ["spec"]))]
pub struct VolumeGroupSnapshotContent {
    /// `groupsnapshot.storage.k8s.io/v1`, or what it was read from.
    pub api_version: String,
    /// `VolumeGroupSnapshotContent`.
    pub kind: String,
    /// Name, labels and the like.
    pub metadata: ObjectMeta,
    /// What it is.
    pub spec: VolumeGroupSnapshotContentSpec,
    /// What the driver says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<VolumeGroupSnapshotContentStatus>,
}

kind!(
    VolumeGroupSnapshotContent { spec, status },
    "groupsnapshot.storage.k8s.io",
    "volumegroupsnapshotcontents",
    ClusterResourceScope
);

/// What a group snapshot in the storage is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.groupsnapshot.v1.VolumeGroupSnapshotContentSpec", extend("required" = ["deletionPolicy", "driver", "source", "volumeGroupSnapshotRef"]))]
pub struct VolumeGroupSnapshotContentSpec {
    /// The group snapshot object that it belongs to: name, namespace, and UID once it is bound.
    pub volume_group_snapshot_ref: ObjectReference,
    /// `Delete` or `Retain`: what becomes of it when its group snapshot object goes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deletion_policy: String,
    /// The CSI driver that has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// The class that it was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_group_snapshot_class_name: Option<String>,
    /// Of what; never changes.
    pub source: VolumeGroupSnapshotContentSource,
}

/// Exactly one of the two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.groupsnapshot.v1.VolumeGroupSnapshotContentSource")]
pub struct VolumeGroupSnapshotContentSource {
    /// The driver's ids of the volumes to take snapshots of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_handles: Option<Vec<String>>,
    /// What is there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_snapshot_handles: Option<GroupSnapshotHandles>,
}

/// A group snapshot that is there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.groupsnapshot.v1.GroupSnapshotHandles", extend("required" = ["volumeGroupSnapshotHandle", "volumeSnapshotHandles"]))]
pub struct GroupSnapshotHandles {
    /// The driver's id of the group snapshot.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_group_snapshot_handle: String,
    /// The driver's ids of its snapshots.
    pub volume_snapshot_handles: Vec<String>,
}

/// What the driver says of a group snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.groupsnapshot.v1.VolumeGroupSnapshotContentStatus")]
pub struct VolumeGroupSnapshotContentStatus {
    /// The driver's id of the group snapshot; never changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_group_snapshot_handle: Option<String>,
    /// The moment that the snapshots show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<Time>,
    /// Whether volumes can be made from all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_to_use: Option<bool>,
    /// What went wrong last, until it goes well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<VolumeSnapshotError>,
    /// Its snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_info_list: Option<Vec<VolumeSnapshotInfo>>,
}

/// One snapshot of a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.groupsnapshot.v1.VolumeSnapshotInfo")]
pub struct VolumeSnapshotInfo {
    /// The driver's id of the volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_handle: Option<String>,
    /// The driver's id of the snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_handle: Option<String>,
    /// The moment that it shows, in nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_time: Option<i64>,
    /// Whether volumes can be made from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_to_use: Option<bool>,
    /// The smallest size of a volume made from it, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_size: Option<i64>,
}

/// How group snapshots are taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.groupsnapshot.v1.VolumeGroupSnapshotClass", extend("required" = ["deletionPolicy", "driver"]))]
pub struct VolumeGroupSnapshotClass {
    /// `groupsnapshot.storage.k8s.io/v1`, or what it was read from.
    pub api_version: String,
    /// `VolumeGroupSnapshotClass`.
    pub kind: String,
    /// Name, labels and the like.
    pub metadata: ObjectMeta,
    /// The CSI driver that takes them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// What the driver is told besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<BTreeMap<String, String>>,
    /// `Delete` or `Retain`: what becomes of the content when its group snapshot object goes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deletion_policy: String,
}

kind!(
    VolumeGroupSnapshotClass { driver, parameters, deletion_policy },
    "groupsnapshot.storage.k8s.io",
    "volumegroupsnapshotclasses",
    ClusterResourceScope
);
