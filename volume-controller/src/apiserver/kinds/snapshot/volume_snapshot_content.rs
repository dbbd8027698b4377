//! VolumeSnapshotContent.

use holdfast_api::snapshot::volume::VolumeSnapshotContent;
use serde_json::{Value, json};

use super::super::check::Checks;
use super::super::columns::{NAME, cell_text, column};
use super::super::defaults::nothing;
use super::super::fields;
use super::super::kind::{Cause, Column, Kind, Model, Scope};
use super::{AGE, GROUP, rules, without_status};

/// The kind.
pub static KIND: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "VolumeSnapshotContent",
    plural: "volumesnapshotcontents",
    singular: "volumesnapshotcontent",
    short_names: &["vsc", "vscs"],
    categories: &[],
    scope: Scope::Cluster,
    model: Model::of::<VolumeSnapshotContent>(),
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
    column("ReadyToUse", "", |content, _| content["status"]["readyToUse"].clone())
        .typed("boolean")
        .described("Whether volumes can be made from the snapshot."),
    column("RestoreSize", "", |content, _| content["status"]["restoreSize"].clone())
        .typed("integer")
        .described("The size of the snapshot in bytes."),
    column("DeletionPolicy", "", |content, _| cell_text(&content["spec"]["deletionPolicy"]))
        .described("What happens to the snapshot in the storage when its object is gone."),
    column("Driver", "", |content, _| cell_text(&content["spec"]["driver"])).described("Who has it."),
    column("VolumeSnapshotClass", "", |content, _| content["spec"]["volumeSnapshotClassName"].clone())
        .described("The class that it was made with."),
    column("VolumeSnapshot", "", |content, _| content["spec"]["volumeSnapshotRef"]["name"].clone())
        .described("The snapshot object that it belongs to."),
    column("VolumeSnapshotNamespace", "", |content, _| {
        content["spec"]["volumeSnapshotRef"]["namespace"].clone()
    })
    .described("The namespace of that object."),
    AGE,
];

const SOURCES: [&str; 2] = ["volumeHandle", "snapshotHandle"];
const SIZE: &str = "status.restoreSize";

fn validate(content: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let spec = &content["spec"];
    rules::driver_and_policy(&mut checks, "spec.", spec);
    rules::exactly_one(&mut checks, "spec.source", &spec["source"], SOURCES);
    let (field, reference) = ("spec.volumeSnapshotRef", &spec["volumeSnapshotRef"]);
    rules::whole_reference(&mut checks, field, reference, field);
    checks.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let (spec, before) = (&new["spec"], &old["spec"]);
    rules::kept(&mut checks, "spec.source", &spec["source"], &before["source"], &SOURCES);
    rules::kept(&mut checks, "spec", spec, before, &["sourceVolumeMode"]);
    let size = &new["status"]["restoreSize"];
    if size.as_i64().is_some_and(|size| size < 0) {
        let message = format!("{SIZE} in body should be greater than or equal to 0");
        checks.invalid(SIZE, &json!(size), message);
    }
    checks.into_causes()
}
