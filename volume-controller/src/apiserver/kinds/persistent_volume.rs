//! PersistentVolume.

use holdfast_api::names;
use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::{Value, json};

use super::access_modes;
use super::check::{Checks, entries, same, text};
use super::columns::{AGE, NAME, UNSET, cell_or, cell_text, column};
use super::defaults::{add_finalizer, fill, fill_text, set};
use super::fields;
use super::kind::{Cause, Column, Kind, Model, Scope};
use super::names::NameRule;
use super::node_selector;
use super::persistent_volume_claim::class;
use super::quantities;
use super::volume_source;

/// The kind.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    categories: &[],
    scope: Scope::Cluster,
    model: Model::of::<PersistentVolume>(),
    has_status: true,
    is_graceful: false,
    returns_deleted: true,
    columns: COLUMNS,
    fields: fields::NONE,
    default,
    prepare_create,
    validate,
    validate_update,
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Capacity", "", |volume, _| quantities::printed(&volume["spec"]["capacity"]["storage"]).into())
        .described("The size of the volume."),
    column("Access Modes", "", |volume, _| access_modes::short(&volume["spec"]["accessModes"]).into())
        .described("How the volume can be mounted."),
    column("Reclaim Policy", "", |volume, _| cell_text(&volume["spec"]["persistentVolumeReclaimPolicy"]))
        .described("What happens to the volume when its claim is gone."),
    column("Status", "", |volume, _| {
        if volume["metadata"]["deletionTimestamp"].is_null() {
            cell_text(&volume["status"]["phase"])
        } else {
            "Terminating".into()
        }
    })
    .described("Whether the volume is available, bound, released or failed."),
    column("Claim", "", |volume, _| {
        let claim = &volume["spec"]["claimRef"];
        match claim.is_null() {
            true => "".into(),
            false => format!("{}/{}", text(&claim["namespace"]), text(&claim["name"])).into(),
        }
    })
    .described("The claim that the volume is bound to."),
    column("StorageClass", "", |volume, _| class(volume).into()).described("StorageClass of the pv"),
    column("VolumeAttributesClass", "", |volume, _| {
        cell_or(&volume["spec"]["volumeAttributesClassName"], UNSET)
    })
    .described("VolumeAttributesClass of the pv"),
    column("Reason", "", |volume, _| cell_text(&volume["status"]["reason"]))
        .described("Why the volume is in its phase."),
    AGE,
    column("VolumeMode", "", |volume, _| cell_or(&volume["spec"]["volumeMode"], UNSET))
        .described("Whether the volume is a file system or a block device.")
        .wide(),
];

/// The kinds of volumes that a PersistentVolume can be.
const SOURCES: &[&str] = &[
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "glusterfs",
    "hostPath",
    "iscsi",
    "local",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

fn default(volume: &mut Value) {
    fill_text(volume, &["status", "phase"], "Pending");
    let spec = &mut volume["spec"];
    fill_text(spec, &["persistentVolumeReclaimPolicy"], "Retain");
    fill(spec, &["volumeMode"], "Filesystem");
    if spec["claimRef"].is_object() {
        fill_text(spec, &["claimRef", "kind"], "PersistentVolumeClaim");
        fill_text(spec, &["claimRef", "apiVersion"], "v1");
    }
    volume_source::default(spec);
}

fn prepare_create(volume: &mut Value) {
    set(volume, &["status"], json!({"phase": "Pending"}));
    add_finalizer(volume, names::PV_PROTECTION);
}

fn validate(volume: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let spec = &volume["spec"];
    access_modes::check(&mut checks, spec, "");
    check_capacity(&mut checks, &spec["capacity"]);
    checks.one_of(
        "spec.persistentVolumeReclaimPolicy",
        &spec["persistentVolumeReclaimPolicy"],
        &["Delete", "Recycle", "Retain"],
    );
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let name = text(&spec[field]);
        if !name.is_empty()
            && let Some(problem) = NameRule::Subdomain.problem(name)
        {
            checks.invalid_text(format!("spec.{field}"), name, problem);
        }
    }
    check_source(&mut checks, spec);
    if !spec["nodeAffinity"].is_null() {
        match &spec["nodeAffinity"]["required"] {
            Value::Null => {
                checks.required("spec.nodeAffinity.required", "must specify required node constraints")
            }
            required => node_selector::check(&mut checks, "spec.nodeAffinity.required", required),
        }
    }
    let claim = &spec["claimRef"];
    if !claim.is_null() && (text(&claim["name"]).is_empty() || text(&claim["namespace"]).is_empty()) {
        checks.invalid("spec.claimRef", claim, "both name and namespace of the claim must be given");
    }
    checks.into_causes()
}

fn check_capacity(checks: &mut Checks, capacity: &Value) {
    if entries(capacity).next().is_none() {
        checks.required("spec.capacity", "say how large the volume is, for example storage: 10Gi");
        return;
    }
    for (resource, value) in entries(capacity) {
        if resource == "storage" {
            quantities::check_positive(checks, "spec.capacity[storage]", value);
        } else {
            checks.one_of("spec.capacity", &json!(resource), &["storage"]);
        }
    }
}

fn check_source(checks: &mut Checks, spec: &Value) {
    let given: Vec<&str> = SOURCES.iter().copied().filter(|source| !spec[*source].is_null()).collect();
    match given.as_slice() {
        [] => checks.required("spec", "must specify a volume type"),
        [first, more @ ..] => {
            volume_source::check(checks, "spec", first, &spec[*first]);
            for source in more {
                checks.forbidden(format!("spec.{source}"), "may not specify more than 1 volume type");
            }
        }
    }
    if !spec["local"].is_null() && spec["nodeAffinity"].is_null() {
        checks.required("spec.nodeAffinity", "Local volume requires node affinity");
    }
    if spec["hostPath"]["path"] == "/" && spec["persistentVolumeReclaimPolicy"] == "Recycle" {
        checks.forbidden(
            "spec.persistentVolumeReclaimPolicy",
            "may not be 'recycle' for a hostPath mount of '/'",
        );
    }
    if !spec["csi"].is_null() && spec["persistentVolumeReclaimPolicy"] == "Recycle" {
        checks.forbidden("spec.persistentVolumeReclaimPolicy", "may not be 'recycle' for a CSI volume");
    }
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let (spec, before) = (&new["spec"], &old["spec"]);
    let changed: Vec<&str> = SOURCES
        .iter()
        .copied()
        .filter(|source| !same_source(source, &spec[*source], &before[*source]))
        .collect();
    if !changed.is_empty() {
        checks.forbidden(
            "spec.persistentvolumesource",
            format_args!(
                "spec.persistentvolumesource is immutable after creation\n(changed: spec.{})",
                changed.join(", spec.")
            ),
        );
    }
    checks.immutable("spec.volumeMode", &spec["volumeMode"], &before["volumeMode"]);
    if !before["nodeAffinity"].is_null() {
        checks.immutable("spec.nodeAffinity", &spec["nodeAffinity"], &before["nodeAffinity"]);
    }
    let (attributes, had) = (&spec["volumeAttributesClassName"], &before["volumeAttributesClassName"]);
    if attributes.is_null() && !had.is_null() {
        checks.forbidden(
            "spec.volumeAttributesClassName",
            format_args!("update from non-nil value to nil is forbidden (it was {had})"),
        );
    }
    checks.into_causes()
}

/// A source stays what it is, but a CSI volume may be given secrets for growing that it had not.
fn same_source(source: &str, new: &Value, old: &Value) -> bool {
    const LATER: [&str; 2] = ["controllerExpandSecretRef", "nodeExpandSecretRef"];
    if source != "csi" {
        return same(new, old);
    }
    new.is_null() == old.is_null()
        && entries(new).chain(entries(old)).all(|(field, _)| {
            same(&new[field.as_str()], &old[field.as_str()])
                || (LATER.contains(&field.as_str()) && old[field.as_str()].is_null())
        })
}

#[cfg(test)]
#[path = "persistent_volume_tests.rs"]
mod tests;
