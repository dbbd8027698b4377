//! VolumeGroupSnapshotContent.

use holdfast_api::snapshot::group::VolumeGroupSnapshotContent;
use serde_json::{Value, json};

use super::super::check::{Checks, same};
use super::super::columns::{NAME, cell_text, column};
use super::super::defaults::nothing;
use super::super::fields;
use super::super::kind::{Cause, Column, Kind, Model, Scope, schema_as};
use super::{AGE, BETA, GROUP_OF_GROUPS, rules, without_status};

const V1: Kind = Kind {
    group: GROUP_OF_GROUPS,
    version: "v1",
    kind: "VolumeGroupSnapshotContent",
    plural: "volumegroupsnapshotcontents",
    singular: "volumegroupsnapshotcontent",
    short_names: &["vgsc", "vgscs"],
    categories: &[],
    scope: Scope::Cluster,
    model: Model::of::<VolumeGroupSnapshotContent>(),
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
            schema_as::<VolumeGroupSnapshotContent>(
                generator,
                "io.k8s.storage.groupsnapshot.v1beta2.VolumeGroupSnapshotContent",
            )
        },
        ..V1.model
    },
    ..V1
};

const COLUMNS: &[Column] = &[
    NAME,
    column("ReadyToUse", "", |content, _| content["status"]["readyToUse"].clone())
        .typed("boolean")
        .described("Whether volumes can be made from all snapshots of the group."),
    column("DeletionPolicy", "", |content, _| cell_text(&content["spec"]["deletionPolicy"]))
        .described("What happens to the group snapshot in the storage when its object is gone."),
    column("Driver", "", |content, _| cell_text(&content["spec"]["driver"])).described("Who has it."),
    column("VolumeGroupSnapshotClass", "", |content, _| {
        content["spec"]["volumeGroupSnapshotClassName"].clone()
    })
    .described("The class that it was made with."),
    column("VolumeGroupSnapshotNamespace", "", |content, _| content["spec"][REFERENCE]["namespace"].clone())
        .described("The namespace of the group snapshot object that it belongs to."),
    column("VolumeGroupSnapshot", "", |content, _| content["spec"][REFERENCE]["name"].clone())
        .described("The group snapshot object that it belongs to."),
    AGE,
];

const SOURCES: [&str; 2] = ["volumeHandles", "groupSnapshotHandles"];
const REFERENCE: &str = "volumeGroupSnapshotRef";
const FIELD: &str = "spec.volumeGroupSnapshotRef";

fn validate(content: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let spec = &content["spec"];
    rules::driver_and_policy(&mut checks, "spec.", spec);
    rules::exactly_one(&mut checks, "spec.source", &spec["source"], SOURCES);
    if let Some(handles) = spec["source"].get("groupSnapshotHandles").filter(|handles| !handles.is_null()) {
        let field = "spec.source.groupSnapshotHandles.volumeGroupSnapshotHandle";
        checks.present(field, &handles["volumeGroupSnapshotHandle"]);
    }
    rules::whole_reference(&mut checks, FIELD, &spec[REFERENCE], REFERENCE);
    checks.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let (spec, before) = (&new["spec"], &old["spec"]);
    rules::kept(&mut checks, "spec.source", &spec["source"], &before["source"], &SOURCES);
    for field in ["driver", "volumeGroupSnapshotClassName"] {
        rules::not_replaced(&mut checks, &format!("spec.{field}"), &spec[field], &before[field]);
    }
    let (reference, bound) = (&spec[REFERENCE], &before[REFERENCE]);
    if ["name", "namespace"].iter().any(|part| !same(&reference[*part], &bound[*part])) {
        let message = format!("{REFERENCE}.name and {REFERENCE}.namespace are immutable");
        checks.invalid(FIELD, &json!("object"), message);
    }
    if !bound["uid"].is_null() && reference["uid"] != bound["uid"] {
        checks.invalid(FIELD, &json!("object"), format!("{REFERENCE}.uid is immutable once set"));
    }
    let handle = |content: &Value| content["status"]["volumeGroupSnapshotHandle"].clone();
    rules::not_replaced(&mut checks, "status.volumeGroupSnapshotHandle", &handle(new), &handle(old));
    checks.into_causes()
}
