//! What may change about a pod.

use serde_json::Value;

use super::super::check::{Checks, entries, list, same, text};
use super::super::defaults::each;
use super::super::kind::Cause;

/// Upstream's sentence, which tools look for.
const ONLY: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let (spec, before) = (&new["spec"], &old["spec"]);
    check_containers(&mut checks, spec, before);
    check_deadline(&mut checks, &spec["activeDeadlineSeconds"], &before["activeDeadlineSeconds"]);
    let kept = list(&before["tolerations"]).iter().all(|t| list(&spec["tolerations"]).contains(t));
    if !kept {
        checks.forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
    let gates = list(&before["schedulingGates"]);
    for (index, gate) in list(&spec["schedulingGates"]).iter().enumerate() {
        if !gates.contains(gate) {
            checks.forbidden(format!("spec.schedulingGates[{index}].name"), "only deletion is allowed");
        }
    }
    let mut expected = fixed(before);
    let mut found = fixed(spec);
    // Binding chooses the node, once.
    if text(&before["nodeName"]).is_empty() {
        for side in [&mut expected, &mut found] {
            side.as_object_mut().map(|fields| fields.remove("nodeName"));
        }
    }
    let changed: Vec<String> = entries(&expected)
        .chain(entries(&found))
        .filter(|(field, _)| !same(&expected[field.as_str()], &found[field.as_str()]))
        .map(|(field, _)| format!("spec.{field}"))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    if !changed.is_empty() {
        checks.forbidden("spec", format_args!("{ONLY}\n(changed: {})", changed.join(", ")));
    }
    checks.into_causes()
}

/// A spec without what may change.
fn fixed(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for containers in ["/containers", "/initContainers"] {
        for container in each(&mut spec, containers) {
            container.as_object_mut().map(|fields| fields.remove("image"));
        }
    }
    if let Some(fields) = spec.as_object_mut() {
        for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates", "ephemeralContainers"] {
            fields.remove(field);
        }
        if fields.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|s| s < 0) {
            fields.insert("terminationGracePeriodSeconds".to_owned(), 1.into());
        }
    }
    spec
}

fn check_containers(checks: &mut Checks, spec: &Value, before: &Value) {
    for kind in ["containers", "initContainers"] {
        if list(&spec[kind]).len() != list(&before[kind]).len() {
            checks.forbidden(format!("spec.{kind}"), "pod updates may not add or remove containers");
        }
    }
}

/// A deadline may come, and come nearer.
fn check_deadline(checks: &mut Checks, new: &Value, old: &Value) {
    match (new.as_i64(), old.as_i64()) {
        (None, Some(_)) => {
            checks.invalid(
                "spec.activeDeadlineSeconds",
                new,
                "must not update from a positive integer to nil value",
            );
        }
        (Some(new_seconds), Some(old_seconds)) if new_seconds > old_seconds => {
            checks.invalid(
                "spec.activeDeadlineSeconds",
                new,
                format_args!("must be less than or equal to previous value {old_seconds}"),
            );
        }
        _ => {}
    }
}
