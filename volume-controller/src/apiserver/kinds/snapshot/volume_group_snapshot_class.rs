//! VolumeGroupSnapshotClass.

use holdfast_api::snapshot::group::VolumeGroupSnapshotClass;
use serde_json::Value;

use super::super::check::Checks;
use super::super::defaults::nothing;
use super::super::fields;
use super::super::kind::{Cause, Kind, Model, Scope, schema_as};
use super::volume_snapshot_class::{COLUMNS, validate};
use super::{BETA, GROUP_OF_GROUPS, rules};

const V1: Kind = Kind {
    group: GROUP_OF_GROUPS,
    version: "v1",
    kind: "VolumeGroupSnapshotClass",
    plural: "volumegroupsnapshotclasses",
    singular: "volumegroupsnapshotclass",
    short_names: &["vgsclass", "vgsclasses"],
    categories: &[],
    scope: Scope::Cluster,
    model: Model::of::<VolumeGroupSnapshotClass>(),
    has_status: false,
    is_graceful: false,
    returns_deleted: false,
    columns: COLUMNS,
    fields: fields::NONE,
    default: nothing,
    prepare_create: nothing,
    validate,
    validate_update,
};

/// The kind.
pub static KIND: Kind = V1;
/// The kind under the name of its earlier version.
pub static KIND_BETA: Kind = Kind {
    version: BETA,
    model: Model {
        schema: |generator| {
            schema_as::<VolumeGroupSnapshotClass>(
                generator,
                "io.k8s.storage.groupsnapshot.v1beta2.VolumeGroupSnapshotClass",
            )
        },
        ..V1.model
    },
    ..V1
};

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    for field in ["driver", "deletionPolicy", "parameters"] {
        rules::not_replaced(&mut checks, field, &new[field], &old[field]);
    }
    checks.into_causes()
}
