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

/// In a class's parameters: the prefix of what is not for the driver.
pub const RESERVED: &str = "csi.storage.k8s.io/";
/// In a class's parameters: the secret for CreateSnapshot and DeleteSnapshot.
pub const SECRET: &str = "csi.storage.k8s.io/snapshotter";
/// In a class's parameters: the secret for ListSnapshots and GetSnapshot.
pub const LIST_SECRET: &str = "csi.storage.k8s.io/snapshotter-list";
