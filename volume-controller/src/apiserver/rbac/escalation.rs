//! Nobody grants what they do not have: who writes a role or a binding must have all that
//! it grants, or the verb `escalate` on roles, or `bind` on the role that is bound.
//!
//! Source: "Privilege escalation prevention and bootstrapping" in Kubernetes' documentation.

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};
use serde::Deserialize;
use serde_json::Value;

use super::super::kinds::policy_rules::GROUP;
use super::super::kinds::{cluster_role, role};
use super::super::route::Target;
use super::super::status::ApiError;
use super::super::user::{MASTERS, User};
use super::Access;
use super::attributes::{Attributes, Resource};
use super::cover::{everything, missing};

/// Refuses a write of a role or binding that grants what its writer does not have. `old` is
/// what is there; a change of anything but what is granted grants nothing.
pub(crate) fn check(
    access: &Access,
    user: &User,
    target: &Target,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), ApiError> {
    if target.kind.group != GROUP || user.is_in(MASTERS) {
        return Ok(());
    }
    let fields: &[&str] = match target.kind.kind {
        "Role" | "ClusterRole" => &["rules", "aggregationRule"],
        _ => &["roleRef", "subjects"],
    };
    let none = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let is_same = |old: &Value| {
        let mut fields = fields.iter();
        fields.all(|&field| old[field] == new[field] || none(&old[field]) && none(&new[field]))
    };
    if old.is_some_and(is_same) {
        return Ok(());
    }
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let refuse = |why: String| ApiError::forbidden(target.kind, name, why);
    if fields[0] == "rules" {
        let asked = attributes("escalate", target, target.kind.plural, &target.name);
        if access.decide(user, &asked).allowed {
            return Ok(());
        }
        if new["aggregationRule"].is_object() && !lacks(access, user, target, &everything()).is_empty() {
            return Err(refuse("must have cluster-admin privileges to use the aggregationRule".to_owned()));
        }
        let rules = Option::<Vec<PolicyRule>>::deserialize(&new["rules"]);
        let rules = rules.map_err(|error| ApiError::BadRequest(error.to_string()))?.unwrap_or_default();
        return grant(access, user, target, &rules).map_err(refuse);
    }
    let bound = RoleRef::deserialize(&new["roleRef"]);
    let bound = bound.map_err(|error| ApiError::BadRequest(error.to_string()))?;
    let kind = if bound.kind == "Role" { &role::KIND } else { &cluster_role::KIND };
    if access.decide(user, &attributes("bind", target, kind.plural, &bound.name)).allowed {
        return Ok(());
    }
    // Of a role that is not there it is not known what it will grant.
    let rules = access.rules_in(&bound, &target.namespace);
    let rules = rules.ok_or_else(|| ApiError::not_found(kind, &bound.name))?;
    grant(access, user, target, &rules).map_err(refuse)
}

fn attributes(verb: &str, target: &Target, resource: &str, name: &str) -> Attributes {
    Attributes::resource(
        verb,
        Resource {
            namespace: target.namespace.clone(),
            group: GROUP.to_owned(),
            resource: resource.to_owned(),
            subresource: String::new(),
            name: name.to_owned(),
        },
    )
}

fn lacks(access: &Access, user: &User, target: &Target, wanted: &[PolicyRule]) -> Vec<String> {
    missing(&access.rules_of(user, &target.namespace).0, wanted)
}

fn grant(access: &Access, user: &User, target: &Target, wanted: &[PolicyRule]) -> Result<(), String> {
    let lacking = lacks(access, user, target, wanted);
    if lacking.is_empty() {
        return Ok(());
    }
    let groups = user.groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(" ");
    Err(format!(
        "user {:?} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        lacking.join("\n")
    ))
}
