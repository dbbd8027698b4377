//! CSINode.

use k8s_openapi::api::storage::v1::CSINode;
use serde_json::Value;

use super::check::{Checks, list, same, text, without};
use super::columns::{AGE, NAME, column};
use super::defaults::nothing;
use super::fields;
use super::kind::{Cause, Column, Kind, Model, Scope};
use super::names::{NameRule, qualified_problem};

/// The kind.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    short_names: &[],
    categories: &[],
    scope: Scope::Cluster,
    model: Model::of::<CSINode>(),
    has_status: false,
    is_graceful: false,
    returns_deleted: true,
    columns: COLUMNS,
    fields: fields::NONE,
    default: nothing,
    prepare_create: nothing,
    validate,
    validate_update,
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Drivers", "", |node, _| list(&node["spec"]["drivers"]).len().into())
        .typed("integer")
        .described("How many drivers are registered on the node."),
    AGE,
];

/// The longest id that a driver may give a node, in bytes.
const NODE_ID_LIMIT: usize = 192;

fn validate(node: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let drivers = list(&node["spec"]["drivers"]);
    for (index, driver) in drivers.iter().enumerate() {
        let field = format!("spec.drivers[{index}]");
        let name = &driver["name"];
        if checks.present(format!("{field}.name"), name)
            && let Some(problem) = NameRule::Driver.problem(&text(name).to_lowercase())
        {
            checks.invalid(format!("{field}.name"), name, problem);
        }
        if drivers[..index].iter().any(|other| other["name"] == *name) {
            checks.duplicate(format!("{field}.name"), name);
        }
        let id = format!("{field}.nodeID");
        if checks.present(&*id, &driver["nodeID"]) && text(&driver["nodeID"]).len() > NODE_ID_LIMIT {
            checks.invalid(id, &driver["nodeID"], format_args!("must be {NODE_ID_LIMIT} characters or less"));
        }
        let count = &driver["allocatable"]["count"];
        if count.as_i64().is_some_and(|count| count < 0) {
            checks.invalid(format!("{field}.allocatable.count"), count, "must be greater than or equal to 0");
        }
        let keys = list(&driver["topologyKeys"]);
        for (at, key) in keys.iter().enumerate() {
            let field = format!("{field}.topologyKeys");
            if keys[..at].contains(key) {
                checks.duplicate(field, key);
            } else if let Some(problem) = qualified_problem(text(key)) {
                checks.invalid(field, key, problem);
            }
        }
    }
    checks.into_causes()
}

/// A driver comes and goes as a whole; only what its node can hold may change.
fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let before = list(&old["spec"]["drivers"]);
    for (index, driver) in list(&new["spec"]["drivers"]).iter().enumerate() {
        let fixed = |driver: &Value| without(driver, &["/allocatable"]);
        let known = before.iter().find(|other| other["name"] == driver["name"]);
        if known.is_some_and(|known| !same(&fixed(known), &fixed(driver))) {
            checks.invalid(format!("spec.drivers[{index}]"), driver, "field is immutable");
        }
    }
    checks.into_causes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;
    use serde_json::json;

    fn node(drivers: Value) -> Value {
        json!({"metadata": {"name": "n"}, "spec": {"drivers": drivers}})
    }

    #[test]
    fn rules() {
        for (drivers, expected) in [
            (json!([]), vec![]),
            (json!([{"name": "a", "nodeID": "n", "topologyKeys": ["k/n"]}]), vec![]),
            (
                json!([{"name": "", "nodeID": ""}]),
                vec!["spec.drivers[0].name: Required: ", "spec.drivers[0].nodeID: Required: "],
            ),
            (
                json!([{"name": "a", "nodeID": "n"}, {"name": "a", "nodeID": "n"}]),
                vec![r#"spec.drivers[1].name: Duplicate: "a""#],
            ),
            (
                json!([{"name": "a", "nodeID": "n", "allocatable": {"count": -1}}]),
                vec!["spec.drivers[0].allocatable.count: Invalid: -1: must be greater than or equal to 0"],
            ),
            (
                json!([{"name": "a", "nodeID": "n", "topologyKeys": ["k", "k"]}]),
                vec![r#"spec.drivers[0].topologyKeys: Duplicate: "k""#],
            ),
        ] {
            assert_eq!(lines(&validate(&node(drivers))), expected);
        }
        let one = node(json!([{"name": "a", "nodeID": "n"}]));
        assert_eq!(validate_update(&node(json!([])), &one), []);
        assert_eq!(
            validate_update(&node(json!([{"name": "a", "nodeID": "n", "allocatable": {"count": 3}}])), &one),
            []
        );
        let changed = validate_update(&node(json!([{"name": "a", "nodeID": "m"}])), &one);
        assert!(lines(&changed)[0].ends_with(": field is immutable"));
    }
}
