//! The snapshot kinds: `snapshot.storage.k8s.io/v1` and `groupsnapshot.storage.k8s.io`
//! (v1; v1beta2 has the same form). Upstream defines them outside of Kubernetes, by
//! CustomResourceDefinition; source: the definitions of external-snapshotter v8.6.
//!
//! Fields that are required there are plain here and empty where they are missing, as
//! in `k8s-openapi`: what is missing is for the API server to refuse.

pub mod group;
pub mod names;
pub mod volume;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The group of the kinds in [`volume`].
pub const GROUP: &str = "snapshot.storage.k8s.io";
/// The group of the kinds in [`group`].
pub const GROUP_OF_GROUPS: &str = "groupsnapshot.storage.k8s.io";

/// The name of the content that is made for a snapshot of this UID.
#[must_use]
pub fn content_name(snapshot_uid: &str) -> String {
    format!("snapcontent-{snapshot_uid}")
}

/// The name of the content that is made for a group snapshot of this UID.
#[must_use]
pub fn group_content_name(group_uid: &str) -> String {
    format!("groupsnapcontent-{group_uid}")
}

/// The names of the snapshot, and of its content, of one volume in a group snapshot of this UID.
/// As external-snapshotter names them, so that either controller finds what the other made.
#[must_use]
pub fn member_names(group_uid: &str, volume_handle: &str) -> [String; 2] {
    let digest = Sha256::new().chain_update(group_uid).chain_update(volume_handle).finalize();
    [format!("snapshot-{digest:x}"), format!("snapcontent-{digest:x}")]
}

/// What went wrong last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "io.k8s.storage.snapshot.v1.VolumeSnapshotError")]
pub struct VolumeSnapshotError {
    /// For people; never a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// What makes a type one of the API's: its names, and the default, which is an object with nothing in the given fields.
macro_rules! kind {
    ($type:ident { $($field:ident),* }, $group:literal, $plural:literal, $scope:ident) => {
        impl Default for $type {
            fn default() -> Self {
                Self {
                    api_version: <Self as k8s_openapi::Resource>::API_VERSION.to_owned(),
                    kind: <Self as k8s_openapi::Resource>::KIND.to_owned(),
                    metadata: ObjectMeta::default(),
                    $($field: Default::default(),)*
                }
            }
        }

        impl k8s_openapi::Resource for $type {
            const API_VERSION: &'static str = concat!($group, "/v1");
            const GROUP: &'static str = $group;
            const KIND: &'static str = stringify!($type);
            const VERSION: &'static str = "v1";
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = k8s_openapi::$scope;
        }

        impl k8s_openapi::ListableResource for $type {
            const LIST_KIND: &'static str = concat!(stringify!($type), "List");
        }

        impl k8s_openapi::Metadata for $type {
            type Ty = ObjectMeta;

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
pub(crate) use kind;

#[cfg(test)]
mod tests {
    use super::{group::VolumeGroupSnapshot, volume::VolumeSnapshot};
    use serde_json::json;

    #[test]
    fn members_have_the_same_names_every_time() {
        // printf %s 'u1h1' | sha256sum
        let digest = "c138c0a8bb7bdbb020e152a70ad45cdcd6a0fd352930e74e5700a9a302107476";
        assert_eq!(
            super::member_names("u1", "h1"),
            [format!("snapshot-{digest}"), format!("snapcontent-{digest}")]
        );
    }

    #[test]
    fn what_is_left_out_is_known() {
        let snapshot: VolumeSnapshot =
            serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"source": {}}})).unwrap();
        assert_eq!(snapshot.api_version, "snapshot.storage.k8s.io/v1");
        assert_eq!(snapshot.kind, "VolumeSnapshot");
        assert_eq!(
            serde_json::to_value(&snapshot).unwrap(),
            json!({
                "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
                "metadata": {"name": "a"}, "spec": {"source": {}},
            })
        );
    }

    #[test]
    fn the_version_stays_as_it_was_sent() {
        let sent = json!({
            "apiVersion": "groupsnapshot.storage.k8s.io/v1beta2", "kind": "VolumeGroupSnapshot",
            "metadata": {"name": "a"}, "spec": {"source": {"selector": {"matchLabels": {"app": "db"}}}},
            "status": {"readyToUse": false, "creationTime": "2026-01-01T00:00:00Z"},
        });
        let read: VolumeGroupSnapshot = serde_json::from_value(sent.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), sent);
    }
}
