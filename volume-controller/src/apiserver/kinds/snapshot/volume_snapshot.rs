//! VolumeSnapshot.

use holdfast_api::snapshot::volume::VolumeSnapshot;
use serde_json::Value;

use super::super::check::Checks;
use super::super::columns::{NAME, column, quantity, since};
use super::super::defaults::nothing;
use super::super::fields;
use super::super::kind::{Cause, Column, Kind, Model, Scope};
use super::{AGE, GROUP, rules, without_status};

/// The kind.
pub static KIND: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "VolumeSnapshot",
    plural: "volumesnapshots",
    singular: "volumesnapshot",
    short_names: &["vs"],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<VolumeSnapshot>(),
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

const COLUMNS: &[Column] = &[
    NAME,
    column("ReadyToUse", "", |snapshot, _| snapshot["status"]["readyToUse"].clone())
        .typed("boolean")
        .described("Whether volumes can be made from the snapshot."),
    column("SourcePVC", "", |snapshot, _| snapshot["spec"]["source"]["persistentVolumeClaimName"].clone())
        .described("The claim that the snapshot is of."),
    column("SourceSnapshotContent", "", |snapshot, _| {
        snapshot["spec"]["source"]["volumeSnapshotContentName"].clone()
    })
    .described("The content of a snapshot that was there before."),
    column("RestoreSize", "", |snapshot, _| match &snapshot["status"]["restoreSize"] {
        Value::Null => Value::Null,
        size => quantity(size).into(),
    })
    .described("The smallest size of a volume made from the snapshot."),
    column("SnapshotClass", "", |snapshot, _| snapshot["spec"]["volumeSnapshotClassName"].clone())
        .described("The class of the snapshot."),
    column("SnapshotContent", "", |snapshot, _| snapshot["status"]["boundVolumeSnapshotContentName"].clone())
        .described("The content that the snapshot is bound to."),
    column("CreationTime", "", |snapshot, now| match &snapshot["status"]["creationTime"] {
        Value::Null => Value::Null,
        time => since(time, now).into(),
    })
    .typed("date")
    .described("The time since the moment that the snapshot shows."),
    AGE,
];

const SOURCES: [&str; 2] = ["volumeSnapshotContentName", "persistentVolumeClaimName"];

fn validate(snapshot: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let spec = &snapshot["spec"];
    rules::exactly_one(&mut checks, "spec.source", &spec["source"], SOURCES);
    rules::not_empty(&mut checks, "spec.volumeSnapshotClassName", &spec["volumeSnapshotClassName"]);
    checks.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    rules::kept(&mut checks, "spec.source", &new["spec"]["source"], &old["spec"]["source"], &SOURCES);
    checks.into_causes()
}
