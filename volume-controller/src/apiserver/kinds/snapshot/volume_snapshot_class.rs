//! VolumeSnapshotClass.

use holdfast_api::snapshot::volume::VolumeSnapshotClass;
use serde_json::Value;

use super::super::check::Checks;
use super::super::columns::{NAME, cell_text, column};
use super::super::defaults::nothing;
use super::super::fields;
use super::super::kind::{Cause, Column, Kind, Model, Scope};
use super::{AGE, GROUP, rules};

/// The kind.
pub static KIND: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "VolumeSnapshotClass",
    plural: "volumesnapshotclasses",
    singular: "volumesnapshotclass",
    short_names: &["vsclass", "vsclasses"],
    categories: &[],
    scope: Scope::Cluster,
    model: Model::of::<VolumeSnapshotClass>(),
    has_status: false,
    is_graceful: false,
    returns_deleted: false,
    columns: COLUMNS,
    fields: fields::NONE,
    default: nothing,
    prepare_create: nothing,
    validate,
    // Upstream lets a class of volume snapshots change; one of group snapshots it does not.
    validate_update: |_, _| Vec::new(),
};

/// Also those of the class of group snapshots.
pub(super) const COLUMNS: &[Column] = &[
    NAME,
    column("Driver", "", |class, _| cell_text(&class["driver"])).described("Who takes the snapshots."),
    column("DeletionPolicy", "", |class, _| cell_text(&class["deletionPolicy"]))
        .described("What happens to a snapshot in the storage when its object is gone."),
    AGE,
];

/// Also the rules on the class of group snapshots.
pub(super) fn validate(class: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    rules::driver_and_policy(&mut checks, "", class);
    checks.into_causes()
}
