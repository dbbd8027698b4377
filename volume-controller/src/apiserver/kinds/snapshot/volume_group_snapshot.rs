//! VolumeGroupSnapshot.

use holdfast_api::snapshot::group::VolumeGroupSnapshot;
use serde_json::Value;

use super::super::check::Checks;
use super::super::columns::{NAME, column, since};
use super::super::defaults::nothing;
use super::super::fields;
use super::super::kind::{Cause, Column, Kind, Model, Scope, schema_as};
use super::{AGE, BETA, GROUP_OF_GROUPS, rules, without_status};

const V1: Kind = Kind {
    group: GROUP_OF_GROUPS,
    version: "v1",
    kind: "VolumeGroupSnapshot",
    plural: "volumegroupsnapshots",
    singular: "volumegroupsnapshot",
    short_names: &["vgs"],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<VolumeGroupSnapshot>(),
    has_status: true,
    is_graceful: false,
    returns_deleted: false,
    columns: COLUMNS,
    fields: fields::NONE,
    default: nothing,
    prepare_create: without_status,
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
            schema_as::<VolumeGroupSnapshot>(
                generator,
                "io.k8s.storage.groupsnapshot.v1beta2.VolumeGroupSnapshot",
            )
        },
        ..V1.model
    },
    ..V1
};

const COLUMNS: &[Column] = &[
    NAME,
    column("ReadyToUse", "", |group, _| group["status"]["readyToUse"].clone())
        .typed("boolean")
        .described("Whether volumes can be made from all snapshots of the group."),
    column("VolumeGroupSnapshotClass", "", |group, _| group["spec"]["volumeGroupSnapshotClassName"].clone())
        .described("The class of the group snapshot."),
    column("VolumeGroupSnapshotContent", "", |group, _| {
        group["status"]["boundVolumeGroupSnapshotContentName"].clone()
    })
    .described("The content that the group snapshot is bound to."),
    column("CreationTime", "", |group, now| match &group["status"]["creationTime"] {
        Value::Null => Value::Null,
        time => since(time, now).into(),
    })
    .typed("date")
    .described("The time since the moment that the snapshots show."),
    AGE,
];

const SOURCES: [&str; 2] = ["selector", "volumeGroupSnapshotContentName"];

fn validate(group: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let spec = &group["spec"];
    rules::exactly_one(&mut checks, "spec.source", &spec["source"], SOURCES);
    rules::not_empty(&mut checks, "spec.volumeGroupSnapshotClassName", &spec["volumeGroupSnapshotClassName"]);
    checks.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    rules::kept(&mut checks, "spec.source", &new["spec"]["source"], &old["spec"]["source"], &SOURCES);
    let bound = |group: &Value| group["status"]["boundVolumeGroupSnapshotContentName"].clone();
    rules::not_replaced(&mut checks, "status.boundVolumeGroupSnapshotContentName", &bound(new), &bound(old));
    checks.into_causes()
}
