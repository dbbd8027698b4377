//! ResourceQuota.

use holdfast_api::quota;
use k8s_openapi::api::core::v1::ResourceQuota;
use serde_json::{Value, json};

use super::check::{Checks, entries, list, same, text};
use super::columns::{AGE, NAME, column, quantity};
use super::defaults::{nothing, set};
use super::fields;
use super::kind::{Cause, Column, Kind, Model, Scope};
use super::names::qualified_problem;
use super::quantities;

/// The kind.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<ResourceQuota>(),
    has_status: true,
    is_graceful: false,
    returns_deleted: true,
    columns: COLUMNS,
    fields: fields::NONE,
    default: nothing,
    prepare_create,
    validate,
    validate_update,
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Request", "", |quota, _| used(quota, false).into())
        .described("What is used of what may be, of everything that is not a limit of a container."),
    column("Limit", "", |quota, _| used(quota, true).into())
        .described("What is used of what may be, of the limits of containers."),
    AGE,
];

fn used(quota: &Value, limits: bool) -> String {
    let status = &quota["status"];
    let hard = entries(&status["hard"]).filter(|(name, _)| name.starts_with("limits") == limits);
    let part = |(name, hard): (&String, &Value)| {
        let used = match quantity(&status["used"][name.as_str()]) {
            nothing if nothing.is_empty() => "0".to_owned(),
            used => used,
        };
        format!("{name}: {used}/{}", quantity(hard))
    };
    hard.map(part).collect::<Vec<_>>().join(", ")
}

fn prepare_create(quota: &mut Value) {
    set(quota, &["status"], json!({}));
}

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
const OPERATORS: [&str; 4] = ["DoesNotExist", "Exists", "In", "NotIn"];
/// Scopes that objects are in or not, without a name.
const MARKS: [&str; 4] = ["BestEffort", "NotBestEffort", "NotTerminating", "Terminating"];

fn validate(object: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let spec = &object["spec"];
    for (name, amount) in entries(&spec["hard"]) {
        let field = format!("spec.hard[{name}]");
        if let Some(problem) = qualified_problem(name) {
            checks.invalid_text(&field, name, problem);
        }
        quantities::check_not_negative(&mut checks, &field, amount);
        let written = quantity(amount);
        if quota::resource_of(name).is_some() && !quota::is_storage(name) && is_part(&written) {
            checks.invalid_text(field, &written, "must be an integer");
        }
    }
    let scopes = list(&spec["scopes"]);
    for scope in scopes {
        if !SCOPES.contains(&text(scope)) {
            checks.invalid("spec.scopes", &spec["scopes"], "unsupported scope");
        }
    }
    let has = |scope: &str| scopes.iter().any(|other| other == scope);
    if (has("BestEffort") && has("NotBestEffort")) || (has("Terminating") && has("NotTerminating")) {
        checks.invalid("spec.scopes", &spec["scopes"], "conflicting scopes");
    }
    for term in list(&spec["scopeSelector"]["matchExpressions"]) {
        check_term(&mut checks, term);
    }
    checks.into_causes()
}

/// Whether a quantity is no whole number.
fn is_part(written: &str) -> bool {
    written.ends_with(['m', 'u', 'n'])
        || written.split_once('.').is_some_and(|(_, part)| part.contains(|c| matches!(c, '1'..='9')))
}

fn check_term(checks: &mut Checks, term: &Value) {
    const FIELD: &str = "spec.scopeSelector.matchExpressions";
    let (scope, operator, values) = (text(&term["scopeName"]), text(&term["operator"]), &term["values"]);
    if !SCOPES.contains(&scope) {
        checks.invalid(format!("{FIELD}.scopeName"), &term["scopeName"], "unsupported scope");
    }
    if MARKS.contains(&scope) && operator != "Exists" {
        checks.invalid(
            format!("{FIELD}.operator"),
            &term["operator"],
            "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
             ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
             ResourceQuotaScopeCrossNamespacePodAffinity",
        );
    }
    match operator {
        "In" | "NotIn" if list(values).is_empty() => checks.required(
            format!("{FIELD}.values"),
            "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
        ),
        "Exists" | "DoesNotExist" if !list(values).is_empty() => checks.invalid(
            format!("{FIELD}.values"),
            values,
            "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
        ),
        known if OPERATORS.contains(&known) => {}
        _ => checks.invalid(format!("{FIELD}.operator"), &term["operator"], "not a valid selector operator"),
    }
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    if !same(&new["spec"]["scopes"], &old["spec"]["scopes"]) {
        checks.invalid("spec.scopes", &new["spec"]["scopes"], "field is immutable");
    }
    for (part, amounts) in [("hard", &new["status"]["hard"]), ("used", &new["status"]["used"])] {
        for (name, amount) in entries(amounts) {
            quantities::check_not_negative(&mut checks, &format!("status.{part}[{name}]"), amount);
        }
    }
    checks.into_causes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;

    #[test]
    fn rules() {
        let hard = |name: &str, amount: &str| json!({"spec": {"hard": {name: amount}}});
        let term = |scope: &str, operator: &str, values: &[&str]| {
            json!({"spec": {"scopeSelector": {"matchExpressions": [
                {"scopeName": scope, "operator": operator, "values": values},
            ]}}})
        };
        for (quota, expected) in [
            (json!({}), vec![]),
            (hard("requests.storage", "1.5Gi"), vec![]),
            (hard("pods", "10"), vec![]),
            (hard("count/volumesnapshots.snapshot.storage.k8s.io", "5"), vec![]),
            (
                hard("pods", "-1"),
                vec![r#"spec.hard[pods]: Invalid: "-1": must be greater than or equal to 0"#],
            ),
            (hard("pods", "500m"), vec![r#"spec.hard[pods]: Invalid: "500m": must be an integer"#]),
            (
                json!({"spec": {"scopes": ["BestEffort", "NotBestEffort"]}}),
                vec![r#"spec.scopes: Invalid: ["BestEffort","NotBestEffort"]: conflicting scopes"#],
            ),
            (
                json!({"spec": {"scopes": ["Other"]}}),
                vec![r#"spec.scopes: Invalid: ["Other"]: unsupported scope"#],
            ),
            (term("VolumeAttributesClass", "In", &["gold"]), vec![]),
            (
                term("VolumeAttributesClass", "In", &[]),
                vec![
                    "spec.scopeSelector.matchExpressions.values: Required: must be at least one value when `operator` \
                     is 'In' or 'NotIn' for scope selector",
                ],
            ),
            (
                term("PriorityClass", "Near", &[]),
                vec![
                    r#"spec.scopeSelector.matchExpressions.operator: Invalid: "Near": not a valid selector operator"#,
                ],
            ),
        ] {
            assert_eq!(lines(&validate(&quota)), expected, "{quota}");
        }
        let scoped = json!({"spec": {"scopes": ["BestEffort"]}});
        assert_eq!(validate_update(&scoped, &scoped), []);
        assert_eq!(
            lines(&validate_update(&json!({}), &scoped)),
            ["spec.scopes: Invalid: null: field is immutable"]
        );
    }

    #[test]
    fn cells() {
        let quota = json!({"status": {
            "hard": {"limits.cpu": "2", "pods": "4", "requests.storage": "1Gi"}, "used": {"pods": "1"},
        }});
        assert_eq!(used(&quota, false), "pods: 1/4, requests.storage: 0/1Gi");
        assert_eq!(used(&quota, true), "limits.cpu: 0/2");
    }
}
