//! VolumeAttributesClass.

use holdfast_api::names;
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use serde_json::Value;

use super::check::{Checks, entries, text};
use super::columns::{AGE, NAME, cell_text, column};
use super::defaults::{add_finalizer, nothing};
use super::fields;
use super::kind::{Cause, Column, Kind, Model, Scope, schema_as};
use super::names::NameRule;
use super::storage_class::{check_parameters, same_map};

const V1: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short_names: &["vac"],
    categories: &[],
    scope: Scope::Cluster,
    model: Model::of::<VolumeAttributesClass>(),
    has_status: false,
    is_graceful: false,
    returns_deleted: true,
    columns: COLUMNS,
    fields: fields::NONE,
    default: nothing,
    prepare_create: |class| add_finalizer(class, names::VAC_PROTECTION),
    validate,
    validate_update,
};

/// The kind.
pub static KIND: Kind = V1;
/// The kind under the name of its earlier version, the same in form, which kubectl and external-resizer ask for
/// that were made for Kubernetes before 1.34.
pub static KIND_BETA: Kind = Kind {
    version: "v1beta1",
    model: Model {
        // The type takes the name of its own version only.
        check: |value| {
            let mut own = value.clone();
            let name =
                own.get_mut("apiVersion").map(|name| std::mem::replace(name, "storage.k8s.io/v1".into()));
            let mut known = (V1.model.check)(&own)?;
            if let (Some(place), Some(name)) = (known.get_mut("apiVersion"), name) {
                *place = name;
            }
            Ok(known)
        },
        schema: |generator| {
            schema_as::<VolumeAttributesClass>(generator, "io.k8s.api.storage.v1beta1.VolumeAttributesClass")
        },
    },
    ..V1
};

const COLUMNS: &[Column] = &[
    NAME,
    column("DriverName", "", |class, _| cell_text(&class["driverName"]))
        .described("The driver of the class."),
    AGE,
];

fn validate(class: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    if checks.present("driverName", &class["driverName"])
        && let Some(problem) = NameRule::Driver.problem(&text(&class["driverName"]).to_lowercase())
    {
        checks.invalid("driverName", &class["driverName"], problem);
    }
    if entries(&class["parameters"]).next().is_none() {
        checks.required("parameters", "must contain at least one key/value pair");
    }
    check_parameters(&mut checks, &class["parameters"]);
    checks.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    for field in ["driverName", "parameters"] {
        if !same_map(&new[field], &old[field]) {
            checks.forbidden(field, format_args!("updates to {field} are forbidden."));
        }
    }
    checks.into_causes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;
    use serde_json::json;

    #[test]
    fn rules() {
        let gold = json!({"driverName": "a.b", "parameters": {"iops": "9"}});
        assert_eq!(validate(&gold), []);
        assert_eq!(
            lines(&validate(&json!({}))),
            ["driverName: Required: ", "parameters: Required: must contain at least one key/value pair"]
        );
        assert_eq!(
            lines(&validate_update(&json!({"driverName": "a.b", "parameters": {"iops": "8"}}), &gold)),
            ["parameters: Forbidden: updates to parameters are forbidden."]
        );
    }
}
