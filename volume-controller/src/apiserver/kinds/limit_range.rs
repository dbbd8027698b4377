//! LimitRange.

use k8s_openapi::api::core::v1::LimitRange;
use serde_json::Value;

use super::check::{Checks, entries, list, text};
use super::columns::{NAME, column, quantity};
use super::defaults::nothing;
use super::fields;
use super::kind::{Cause, Column, Kind, Model, Scope};
use super::names::qualified_problem;
use super::quantities;

/// The kind.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<LimitRange>(),
    has_status: false,
    is_graceful: false,
    returns_deleted: false,
    columns: COLUMNS,
    fields: fields::NONE,
    default: nothing,
    prepare_create: nothing,
    validate,
    validate_update: |_, _| Vec::new(),
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Created At", "", |range, _| range["metadata"]["creationTimestamp"].clone())
        .typed("date")
        .described("When the object was created."),
];

const TYPES: [&str; 3] = ["Container", "PersistentVolumeClaim", "Pod"];

fn validate(range: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let mut seen: Vec<&str> = Vec::new();
    for (index, item) in list(&range["spec"]["limits"]).iter().enumerate() {
        let field = format!("spec.limits[{index}]");
        let kind = text(&item["type"]);
        if !TYPES.contains(&kind) && (!kind.contains('/') || qualified_problem(kind).is_some()) {
            checks.invalid_text(
                format!("{field}.type"),
                kind,
                "must be a standard limit type or fully qualified",
            );
        }
        if seen.contains(&kind) {
            checks.duplicate(format!("{field}.type"), &item["type"]);
        }
        seen.push(kind);
        check_item(&mut checks, &field, kind, item);
    }
    checks.into_causes()
}

fn check_item(checks: &mut Checks, field: &str, kind: &str, item: &Value) {
    for part in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        for (name, amount) in entries(&item[part]) {
            quantities::check_not_negative(checks, &format!("{field}.{part}[{name}]"), amount);
        }
    }
    if kind == "Pod" {
        for part in ["default", "defaultRequest"] {
            if entries(&item[part]).next().is_some() {
                checks.forbidden(format!("{field}.{part}"), "may not be specified when `type` is 'Pod'");
            }
        }
    }
    let is_given = |part: &str| !item[part]["storage"].is_null();
    if kind == "PersistentVolumeClaim" && !is_given("min") && !is_given("max") {
        checks.required(
            format!("{field}.limits"),
            "either minimum or maximum storage value is required, but neither was provided",
        );
    }
    let not_above = |checks: &mut Checks, low: &str, high: &str, said: [&str; 2]| {
        for (name, amount) in entries(&item[low]) {
            let limit = &item[high][name.as_str()];
            if let (Ok(a), Ok(b)) = (quantities::bytes(amount), quantities::bytes(limit))
                && a > b
            {
                let (shown, limit) = (quantity(amount), quantity(limit));
                let [low_name, high_name] = said;
                let detail = format!("{low_name} value {shown} is greater than {high_name} value {limit}");
                checks.invalid_text(format!("{field}.{low}[{name}]"), &shown, detail);
            }
        }
    };
    not_above(checks, "min", "max", ["min", "max"]);
    not_above(checks, "min", "defaultRequest", ["min", "default request"]);
    not_above(checks, "min", "default", ["min", "default"]);
    not_above(checks, "defaultRequest", "max", ["default request", "max"]);
    not_above(checks, "defaultRequest", "default", ["default request", "default limit"]);
    not_above(checks, "default", "max", ["default", "max"]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;
    use serde_json::json;

    #[test]
    fn rules() {
        let range = |limits: Value| json!({"spec": {"limits": limits}});
        let of = |kind: &str, part: &str, size: &str| json!({"type": kind, part: {"storage": size}});
        for (limits, expected) in [
            (json!([]), vec![]),
            (json!([of("PersistentVolumeClaim", "max", "2Gi")]), vec![]),
            (json!([{"type": "example.com/thing"}]), vec![]),
            (
                json!([{"type": "PersistentVolumeClaim"}]),
                vec![
                    "spec.limits[0].limits: Required: either minimum or maximum storage value is required, but neither \
                     was provided",
                ],
            ),
            (
                json!([{"type": "PersistentVolumeClaim", "min": {"storage": "2Gi"}, "max": {"storage": "1Gi"}}]),
                vec![
                    r#"spec.limits[0].min[storage]: Invalid: "2Gi": min value 2Gi is greater than max value 1Gi"#,
                ],
            ),
            (
                json!([of("PersistentVolumeClaim", "min", "1Gi"), of("PersistentVolumeClaim", "max", "2Gi")]),
                vec![r#"spec.limits[1].type: Duplicate: "PersistentVolumeClaim""#],
            ),
            (
                json!([of("Pod", "default", "1Gi")]),
                vec!["spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"],
            ),
            (
                json!([{"type": "Thing"}]),
                vec![
                    r#"spec.limits[0].type: Invalid: "Thing": must be a standard limit type or fully qualified"#,
                ],
            ),
        ] {
            assert_eq!(lines(&validate(&range(limits.clone()))), expected, "{limits}");
        }
    }
}
