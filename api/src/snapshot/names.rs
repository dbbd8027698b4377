//! Annotations, finalizers and parameters of snapshots, in external-snapshotter's spelling: its
//! controller and its sidecar can take the place of either of ours.

/// On a class: snapshots of its driver that name no class get this one (value `true`).
pub const DEFAULT_CLASS: &str = "snapshot.storage.kubernetes.io/is-default-class";
/// On a content: its snapshot object is being deleted, so that what becomes of the content is open no more.
pub const BEING_DELETED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
/// On a content: CreateSnapshot was begun, and its end is not known.
pub const BEING_CREATED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-created";
/// On a content: the secret for CreateSnapshot and DeleteSnapshot.
pub const SECRET_NAME: &str = "snapshot.storage.kubernetes.io/deletion-secret-name";
/// See [`SECRET_NAME`].
pub const SECRET_NAMESPACE: &str = "snapshot.storage.kubernetes.io/deletion-secret-namespace";
/// On a content: volumes of the other mode may be made from it (value `true`; for administrators to set).
pub const ALLOW_MODE_CHANGE: &str = "snapshot.storage.kubernetes.io/allow-volume-mode-change";

/// Keeps a snapshot while its content is there and goes with it.
pub const SNAPSHOT_BOUND: &str = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection";
/// Keeps a snapshot while a volume is being made from it.
pub const SNAPSHOT_AS_SOURCE: &str = "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection";
/// Keeps a content until what it stands for was deleted, or is to be kept.
pub const CONTENT_BOUND: &str = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
/// Keeps a claim while a snapshot of it is being taken.
pub const CLAIM_AS_SOURCE: &str = "snapshot.storage.kubernetes.io/pvc-as-source-protection";

/// Keeps a snapshot while the group snapshot that it is part of is there.
pub const SNAPSHOT_IN_GROUP: &str = "snapshot.storage.kubernetes.io/volumesnapshot-in-group-protection";

/// On a class of group snapshots: as [`DEFAULT_CLASS`].
pub const DEFAULT_GROUP_CLASS: &str = "groupsnapshot.storage.kubernetes.io/is-default-class";
/// On a group's content: as [`BEING_DELETED`].
pub const GROUP_BEING_DELETED: &str = "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-deleted";
/// On a group's content: CreateVolumeGroupSnapshot was begun, and its end is not known.
pub const GROUP_BEING_CREATED: &str = "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-created";
/// On a group's content: the secret for CreateVolumeGroupSnapshot and DeleteVolumeGroupSnapshot.
pub const GROUP_SECRET_NAME: &str = "groupsnapshot.storage.kubernetes.io/deletion-secret-name";
/// See [`GROUP_SECRET_NAME`].
pub const GROUP_SECRET_NAMESPACE: &str = "groupsnapshot.storage.kubernetes.io/deletion-secret-namespace";
/// Keeps a group snapshot while its content is there and goes with it.
pub const GROUP_BOUND: &str = "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-bound-protection";
/// As [`CONTENT_BOUND`], of a group's content.
pub const GROUP_CONTENT_BOUND: &str =
    "groupsnapshot.storage.kubernetes.io/volumegroupsnapshotcontent-bound-protection";
/// On a content: it is one of the group snapshot of this id, so CreateSnapshot is never called for it.
pub const GROUP_HANDLE: &str = "groupsnapshot.storage.k8s.io/volumeGroupSnapshotHandle";

/// In a class's parameters: the prefix of what is not for the driver.
pub const RESERVED: &str = "csi.storage.k8s.io/";
/// In a class's parameters: the secret for CreateSnapshot and DeleteSnapshot.
pub const SECRET: &str = "csi.storage.k8s.io/snapshotter";
/// In a class's parameters: the secret for ListSnapshots and GetSnapshot.
pub const LIST_SECRET: &str = "csi.storage.k8s.io/snapshotter-list";
/// In a class's parameters: the secret for CreateVolumeGroupSnapshot and DeleteVolumeGroupSnapshot.
pub const GROUP_SECRET: &str = "csi.storage.k8s.io/group-snapshotter";
/// In a class's parameters: the secret for GetVolumeGroupSnapshot.
pub const GROUP_GET_SECRET: &str = "csi.storage.k8s.io/group-snapshotter-get";
