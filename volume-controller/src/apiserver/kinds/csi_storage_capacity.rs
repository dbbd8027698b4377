//! CSIStorageCapacity.

use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use serde_json::Value;

use super::check::{Checks, text};
use super::columns::{NAME, cell_text, column};
use super::defaults::nothing;
use super::fields;
use super::kind::{Cause, Column, Kind, Model, Scope};
use super::names::NameRule;
use super::quantities;

/// The kind.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<CSIStorageCapacity>(),
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

const COLUMNS: &[Column] = &[
    NAME,
    column("StorageClassName", "", |capacity, _| cell_text(&capacity["storageClassName"]))
        .described("The class that the numbers are for."),
    column("Capacity", "", |capacity, _| quantities::printed(&capacity["capacity"]).into())
        .described("How much room is left."),
];

fn validate(capacity: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    for field in ["capacity", "maximumVolumeSize"] {
        if !capacity[field].is_null() {
            quantities::check_not_negative(&mut checks, field, &capacity[field]);
        }
    }
    if checks.present("storageClassName", &capacity["storageClassName"])
        && let Some(problem) = NameRule::Subdomain.problem(text(&capacity["storageClassName"]))
    {
        checks.invalid("storageClassName", &capacity["storageClassName"], problem);
    }
    checks.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    for field in ["nodeTopology", "storageClassName"] {
        checks.immutable(field, &new[field], &old[field]);
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
        assert_eq!(lines(&validate(&json!({}))), ["storageClassName: Required: "]);
        assert_eq!(validate(&json!({"storageClassName": "a", "capacity": "0"})), []);
        assert_eq!(
            lines(&validate(&json!({"storageClassName": "a", "capacity": "-1"}))),
            [r#"capacity: Invalid: "-1": must be greater than or equal to 0"#]
        );
        assert_eq!(
            lines(&validate_update(&json!({"storageClassName": "a"}), &json!({"storageClassName": "b"}))),
            [r#"storageClassName: Invalid: "a": field is immutable"#]
        );
    }
}
