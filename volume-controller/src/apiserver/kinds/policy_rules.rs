//! What Role and ClusterRole share: the rules that they are made of.
//!
//! Source: "Using RBAC Authorization" in Kubernetes' documentation, and what its API server refuses.

use serde_json::Value;

use super::check::{Checks, list};
use super::columns::{NAME, column};
use super::kind::{Cause, Column};

/// The group of all four kinds.
pub(crate) const GROUP: &str = "rbac.authorization.k8s.io";

/// Upstream prints no age for roles.
pub(super) const COLUMNS: &[Column] = &[
    NAME,
    column("Created At", "", |role, _| role["metadata"]["creationTimestamp"].clone())
        .typed("date")
        .described("When the object was created."),
];

/// Everything in a role may be changed.
pub(super) fn nothing_fixed(_new: &Value, _old: &Value) -> Vec<Cause> {
    Vec::new()
}

/// What is wrong with the rules. Rules in a namespace cannot be about paths.
pub(super) fn validate(role: &Value, is_namespaced: bool) -> Vec<Cause> {
    let mut checks = Checks::default();
    for (index, rule) in list(&role["rules"]).iter().enumerate() {
        let at = |field: &str| format!("rules[{index}].{field}");
        let is_empty = |field: &str| list(&rule[field]).is_empty();
        if is_empty("verbs") {
            checks.required(at("verbs"), "verbs must contain at least one value");
        }
        if !is_empty("nonResourceURLs") {
            let urls = &rule["nonResourceURLs"];
            if is_namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                checks.invalid(at("nonResourceURLs"), urls, why);
            }
            if !["apiGroups", "resources", "resourceNames"].into_iter().all(is_empty) {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                checks.invalid(at("nonResourceURLs"), urls, why);
            }
            continue;
        }
        if is_empty("apiGroups") {
            checks.required(at("apiGroups"), "resource rules must supply at least one api group");
        }
        if is_empty("resources") {
            checks.required(at("resources"), "resource rules must supply at least one resource");
        }
    }
    checks.into_causes()
}
