//! The kinds of external-snapshotter. Upstream defines them by CustomResourceDefinition:
//! their `/status` takes nothing else, strategic merge patches are refused, and their rules
//! are those that external-snapshotter v8.6 states in its definitions (in CEL, mostly).

pub mod volume_group_snapshot;
pub mod volume_group_snapshot_class;
pub mod volume_group_snapshot_content;
pub mod volume_snapshot;
pub mod volume_snapshot_class;
pub mod volume_snapshot_content;

mod rules;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::columns;
use super::defaults::remove;
use super::kind::Column;

/// The group of VolumeSnapshots.
const GROUP: &str = holdfast_api::snapshot::GROUP;
/// The group of VolumeGroupSnapshots.
const GROUP_OF_GROUPS: &str = holdfast_api::snapshot::GROUP_OF_GROUPS;
/// The version of group snapshots before v1: the same form under another name, which
/// external-snapshotter 8.4 and 8.5 speak. Objects are stored as v1.
const BETA: &str = "v1beta2";

/// AGE, of the type that columns of custom resources have.
const AGE: Column = columns::AGE.typed("date");

/// What a client may not say of a new object.
fn without_status(object: &mut Value) {
    remove(object, &["status"]);
}
