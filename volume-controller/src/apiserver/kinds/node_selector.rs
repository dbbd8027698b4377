//! The rules on node selectors, in volumes and pods.

use serde_json::Value;

use super::check::{Checks, list, text};
use super::names::qualified_problem;

/// A selector that must hold: at least one term, each with sound requirements.
pub(crate) fn check(checks: &mut Checks, field: &str, selector: &Value) {
    let terms = list(&selector["nodeSelectorTerms"]);
    if terms.is_empty() {
        checks.required(format!("{field}.nodeSelectorTerms"), "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        let field = format!("{field}.nodeSelectorTerms[{index}]");
        for (at, requirement) in list(&term["matchExpressions"]).iter().enumerate() {
            let field = format!("{field}.matchExpressions[{at}]");
            check_requirement(checks, &field, requirement);
            if let Some(problem) = qualified_problem(text(&requirement["key"])) {
                checks.invalid(format!("{field}.key"), &requirement["key"], problem);
            }
        }
        for (at, requirement) in list(&term["matchFields"]).iter().enumerate() {
            let field = format!("{field}.matchFields[{at}]");
            checks.one_of(format!("{field}.operator"), &requirement["operator"], &["In", "NotIn"]);
            if requirement["key"] != "metadata.name" {
                checks.invalid(format!("{field}.key"), &requirement["key"], "not a valid field selector key");
            }
            if list(&requirement["values"]).len() != 1 {
                checks.required(
                    format!("{field}.values"),
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                );
            }
        }
    }
}

fn check_requirement(checks: &mut Checks, field: &str, requirement: &Value) {
    let operator = &requirement["operator"];
    let values = list(&requirement["values"]).len();
    let at = format!("{field}.values");
    match text(operator) {
        "In" | "NotIn" if values == 0 => {
            checks.required(at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if values > 0 => {
            checks.forbidden(at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values != 1 => {
            checks.required(at, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => checks.invalid(format!("{field}.operator"), operator, "not a valid selector operator"),
    }
}
