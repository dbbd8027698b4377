//! PersistentVolumeClaim.

use holdfast_api::names;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use super::access_modes;
use super::check::{Checks, entries, list, same, text, without};
use super::columns::{AGE, NAME, UNSET, cell_or, cell_text, column, quantity};
use super::defaults::{add_finalizer, fill, fill_text, set};
use super::kind::{Cause, Column, Kind, Model, Scope};
use super::names::NameRule;
use super::quantities;

/// The kind.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<PersistentVolumeClaim>(),
    has_status: true,
    is_graceful: false,
    returns_deleted: true,
    columns: COLUMNS,
    fields: super::fields::NONE,
    default,
    prepare_create,
    validate,
    validate_update,
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "", |claim, _| {
        if claim["metadata"]["deletionTimestamp"].is_null() {
            cell_text(&claim["status"]["phase"])
        } else {
            "Terminating".into()
        }
    })
    .described("Whether the claim is bound to a volume."),
    column("Volume", "", |claim, _| cell_text(&claim["spec"]["volumeName"]))
        .described("The volume that the claim is bound to."),
    column("Capacity", "", |claim, _| match text(&claim["spec"]["volumeName"]) {
        "" => "".into(),
        _ => quantities::printed(&claim["status"]["capacity"]["storage"]).into(),
    })
    .described("The size that the claim has."),
    column("Access Modes", "", |claim, _| match text(&claim["spec"]["volumeName"]) {
        "" => "".into(),
        _ => access_modes::short(&claim["status"]["accessModes"]).into(),
    })
    .described("How the volume can be mounted."),
    column("StorageClass", "", |claim, _| class(claim).into()).described("StorageClass of the pvc"),
    column("VolumeAttributesClass", "", |claim, _| {
        cell_or(&claim["spec"]["volumeAttributesClassName"], UNSET)
    })
    .described("VolumeAttributesClass of the pvc"),
    AGE,
    column("VolumeMode", "", |claim, _| cell_or(&claim["spec"]["volumeMode"], UNSET))
        .described("Whether the volume is a file system or a block device.")
        .wide(),
];

/// The class of a claim or volume, from the annotation that came before the field, or the field.
pub(crate) fn class(object: &Value) -> &str {
    let annotated = text(&object["metadata"]["annotations"][names::CLASS_BETA]);
    if annotated.is_empty() { text(&object["spec"]["storageClassName"]) } else { annotated }
}

fn default(claim: &mut Value) {
    fill_text(claim, &["status", "phase"], "Pending");
    default_spec(&mut claim["spec"]);
}

/// Defaults of a claim's spec, also of one in a pod's ephemeral volume.
pub(crate) fn default_spec(spec: &mut Value) {
    fill(spec, &["volumeMode"], "Filesystem");
}

fn prepare_create(claim: &mut Value) {
    set(claim, &["status"], json!({"phase": "Pending"}));
    add_finalizer(claim, names::PVC_PROTECTION);
    // The two forms of a data source mean the same unless the source is in another namespace.
    let (old_form, new_form) = (claim["spec"]["dataSource"].clone(), claim["spec"]["dataSourceRef"].clone());
    if !new_form.is_null() && old_form.is_null() && text(&new_form["namespace"]).is_empty() {
        fill(claim, &["spec", "dataSource"], without(&new_form, &["/namespace"]));
    } else if new_form.is_null() && !old_form.is_null() {
        fill(claim, &["spec", "dataSourceRef"], old_form);
    }
}

fn validate(claim: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    check_spec(&mut checks, &claim["spec"]);
    checks.into_causes()
}

/// The rules on a claim's spec, also of one in a pod's ephemeral volume.
pub(crate) fn check_spec(checks: &mut Checks, spec: &Value) {
    access_modes::check(checks, spec, "at least 1 access mode is required");
    let request = &spec["resources"]["requests"]["storage"];
    if request.is_null() {
        checks.required(
            "spec.resources.requests[storage]",
            "say how much storage the claim needs, for example 10Gi",
        );
    } else {
        quantities::check_positive(checks, "spec.resources.requests[storage]", request);
    }
    let limit = &spec["resources"]["limits"]["storage"];
    if !limit.is_null() {
        quantities::check_positive(checks, "spec.resources.limits[storage]", limit);
        if let (Ok(limit_bytes), Ok(bytes)) = (quantities::bytes(limit), quantities::bytes(request))
            && limit_bytes < bytes
        {
            checks.invalid_text(
                "spec.resources.requests",
                &quantity(request),
                format_args!("must be less than or equal to storage limit of {}", quantity(limit)),
            );
        }
    }
    for field in ["storageClassName", "volumeAttributesClassName", "volumeName"] {
        let name = text(&spec[field]);
        if !name.is_empty()
            && let Some(problem) = NameRule::Subdomain.problem(name)
        {
            checks.invalid_text(format!("spec.{field}"), name, problem);
        }
    }
    for expression in list(&spec["selector"]["matchExpressions"]) {
        check_expression(checks, expression);
    }
    check_source(checks, "spec.dataSource", &spec["dataSource"]);
    check_source(checks, "spec.dataSourceRef", &spec["dataSourceRef"]);
    let (old_form, new_form) = (&spec["dataSource"], &spec["dataSourceRef"]);
    if !old_form.is_null() && !new_form.is_null() {
        if !text(&new_form["namespace"]).is_empty() {
            checks.invalid(
                "spec",
                old_form,
                "may not be specified when dataSourceRef.namespace is specified",
            );
        } else if !same(old_form, &without(new_form, &["/namespace"])) {
            checks.invalid("spec", old_form, "must match dataSourceRef");
        }
    }
}

fn check_expression(checks: &mut Checks, expression: &Value) {
    let operator = &expression["operator"];
    let field = "spec.selector.matchExpressions";
    checks.present(format!("{field}.key"), &expression["key"]);
    checks.one_of(format!("{field}.operator"), operator, &["DoesNotExist", "Exists", "In", "NotIn"]);
    let has_values = !list(&expression["values"]).is_empty();
    match text(operator) {
        "In" | "NotIn" if !has_values => {
            checks.required(format!("{field}.values"), "must be specified when `operator` is 'In' or 'NotIn'")
        }
        "Exists" | "DoesNotExist" if has_values => checks.forbidden(
            format!("{field}.values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        _ => {}
    }
}

fn check_source(checks: &mut Checks, field: &str, source: &Value) {
    if source.is_null() {
        return;
    }
    checks.present(format!("{field}.name"), &source["name"]);
    let has_kind = checks.present(format!("{field}.kind"), &source["kind"]);
    if has_kind && text(&source["apiGroup"]).is_empty() && source["kind"] != "PersistentVolumeClaim" {
        checks.invalid(
            field,
            &source["kind"],
            "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        );
    }
}

/// The fields of the spec that may change, each under a condition of its own.
const CHANGEABLE: [&str; 3] = ["/resources/requests/storage", "/volumeAttributesClassName", "/volumeName"];

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let (spec, before) = (&new["spec"], &old["spec"]);
    let bound = old["status"]["phase"] == "Bound";
    check_immutable(&mut checks, spec, before, bound);
    check_size(&mut checks, spec, old);
    let (class, class_before) = (&spec["volumeAttributesClassName"], &before["volumeAttributesClassName"]);
    check_status(&mut checks, &new["status"], &old["status"]);
    let pending = text(&old["status"]["modifyVolumeStatus"]["status"]);
    if !text(class_before).is_empty() && text(class).is_empty() && pending != "Infeasible" {
        checks.forbidden(
            "spec.volumeAttributesClassName",
            format_args!("update from non-nil value to nil is forbidden (it was {class_before})"),
        );
    }
    checks.into_causes()
}

/// Claims do not change, so that what was checked when they were made (quota, limits) stays true.
fn check_immutable(checks: &mut Checks, new: &Value, old: &Value, bound: bool) {
    let mut expected = without(old, &CHANGEABLE);
    let mut found = without(new, &CHANGEABLE);
    // A claim made before there was a default class may be given one later.
    if old["storageClassName"].is_null() {
        expected = without(&expected, &["/storageClassName"]);
        found = without(&found, &["/storageClassName"]);
    }
    let mut changed: Vec<String> = entries(&expected)
        .chain(entries(&found))
        .map(|(field, _)| field)
        .filter(|field| !same(&expected[field.as_str()], &found[field.as_str()]))
        .map(|field| format!("spec.{field}"))
        .collect();
    let size = |spec: &Value| spec["resources"]["requests"]["storage"].clone();
    // A size that cannot be read or is nothing is said to be so by the rules on new claims.
    let readable = quantities::bytes(&size(new)).is_ok_and(|bytes| bytes > 0);
    if !bound && readable && quantities::bytes(&size(new)) != quantities::bytes(&size(old)) {
        changed.push("spec.resources.requests.storage".to_owned());
    }
    if !bound && !same(&new["volumeAttributesClassName"], &old["volumeAttributesClassName"]) {
        changed.push("spec.volumeAttributesClassName".to_owned());
    }
    // The volume is chosen once.
    if !text(&old["volumeName"]).is_empty() && new["volumeName"] != old["volumeName"] {
        changed.push("spec.volumeName".to_owned());
    }
    changed.sort();
    changed.dedup();
    if !changed.is_empty() {
        checks.forbidden(
            "spec",
            format_args!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                 bound claims\n(changed: {})",
                changed.join(", ")
            ),
        );
    }
}

/// A request may go back towards what the claim has, to get out of an expansion
/// that cannot succeed, but volumes do not shrink.
fn check_size(checks: &mut Checks, spec: &Value, old: &Value) {
    let requested = |spec: &Value| quantities::bytes(&spec["resources"]["requests"]["storage"]);
    let (Ok(new), Ok(before)) = (requested(spec), requested(&old["spec"])) else { return };
    let has = quantities::bytes(&old["status"]["capacity"]["storage"]).unwrap_or(0);
    if new > 0 && new < before && new <= has {
        checks.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity");
    }
}

/// Sizes that nobody can read would stop whoever grows the claim.
fn check_status(checks: &mut Checks, new: &Value, old: &Value) {
    for field in ["capacity", "allocatedResources"] {
        for (resource, size) in entries(&new[field]) {
            if !same(size, &old[field][resource.as_str()]) {
                quantities::check_not_negative(checks, &format!("status.{field}[{resource}]"), size);
            }
        }
    }
}

#[cfg(test)]
#[path = "persistent_volume_claim_tests.rs"]
mod tests;
