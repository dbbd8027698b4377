//! ConfigMap.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use super::check::{Checks, entries};
use super::columns::{AGE, NAME, column};
use super::data;
use super::defaults::nothing;
use super::fields;
use super::kind::{Cause, Column, Kind, Model, Scope};

/// The kind.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<ConfigMap>(),
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
    column("Data", "", |map, _| (entries(&map["data"]).count() + entries(&map["binaryData"]).count()).into())
        .described("How many keys there are."),
    AGE,
];

fn validate(map: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    data::check(&mut checks, map, &["data"], &["binaryData"]);
    for (key, _) in entries(&map["binaryData"]).filter(|(key, _)| !map["data"][key.as_str()].is_null()) {
        checks.invalid_text(
            format!("data[{key}]"),
            key,
            format_args!("duplicate of key present in binaryData"),
        );
    }
    checks.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    data::check_update(&mut checks, new, old, &["data", "binaryData"]);
    checks.into_causes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;
    use serde_json::json;

    #[test]
    fn rules() {
        assert_eq!(validate(&json!({"data": {"a.conf": "x", "..a": "y"}})).len(), 1);
        assert_eq!(
            lines(&validate(&json!({"data": {"a": "x"}, "binaryData": {"a": "eA=="}}))),
            [r#"data[a]: Invalid: "a": duplicate of key present in binaryData"#]
        );
        assert_eq!(
            lines(&validate(&json!({"data": {"a": "x".repeat(1 << 20), "b": "y"}}))),
            ["data: TooLong: may not be more than 1048576 bytes"]
        );
        let fixed = json!({"immutable": true, "data": {"a": "x"}});
        assert_eq!(validate_update(&fixed, &fixed), []);
        assert_eq!(
            lines(&validate_update(&json!({"immutable": true}), &fixed)),
            ["data: Forbidden: field is immutable when `immutable` is set"]
        );
        assert_eq!(validate_update(&json!({"data": {"a": "x"}}), &fixed)[0].field, "immutable");
    }
}
