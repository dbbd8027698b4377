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
use super::cover::{Missing, everything, missing};

/// Refuses a write of a role or binding that grants what its writer does not have. `old` is
/// what is there. A change of nothing but what garbage collection needs grants nothing; every
/// other one may, labels too: by them a role comes into others (`aggregationRule`).
pub(crate) fn check(
    access: &Access,
    user: &User,
    target: &Target,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), ApiError> {
    if target.kind.group != GROUP || user.is_in(MASTERS) || old.is_some_and(|old| grants_the_same(old, new)) {
        return Ok(());
    }
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let refuse = |why: String| ApiError::forbidden(target.kind, name, why);
    if matches!(target.kind.kind, "Role" | "ClusterRole") {
        let asked = attributes("escalate", target, target.kind.plural, &target.name);
        if access.decide(user, &asked).allowed {
            return Ok(());
        }
        // Who takes the rule away could keep what it has brought.
        let is_aggregated =
            [Some(new), old].into_iter().flatten().any(|it| it["aggregationRule"].is_object());
        if is_aggregated && !lacks(access, user, target, &everything())?.is_empty() {
            return Err(refuse("must have cluster-admin privileges to use the aggregationRule".to_owned()));
        }
        let rules = Option::<Vec<PolicyRule>>::deserialize(&new["rules"]);
        let rules = rules.map_err(|error| ApiError::BadRequest(error.to_string()))?.unwrap_or_default();
        return grant(access, user, target, &rules, refuse);
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
    grant(access, user, target, &rules, refuse)
}

/// Fields of the metadata that grant nothing: what garbage collection writes, and the server itself.
const HARMLESS: [&str; 5] =
    ["finalizers", "generation", "managedFields", "ownerReferences", "resourceVersion"];

fn grants_the_same(old: &Value, new: &Value) -> bool {
    is_same_but(&["metadata"], old, new) && is_same_but(&HARMLESS, &old["metadata"], &new["metadata"])
}

/// Whether two objects have the same fields besides these. What is empty is as what is missing.
fn is_same_but(but: &[&str], old: &Value, new: &Value) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    let names =
        |value: &Value| value.as_object().into_iter().flat_map(|map| map.keys()).cloned().collect::<Vec<_>>();
    let mut names = names(old).into_iter().chain(names(new)).filter(|name| !but.contains(&name.as_str()));
    names.all(|name| {
        let (old, new) = (&old[&name], &new[&name]);
        old == new || is_empty(old) && is_empty(new)
    })
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

fn lacks(access: &Access, user: &User, target: &Target, wanted: &[PolicyRule]) -> Result<Missing, ApiError> {
    missing(&access.rules_of(user, &target.namespace).0, wanted)
        .map_err(|error| ApiError::Unprocessable(error.to_string()))
}

fn grant(
    access: &Access,
    user: &User,
    target: &Target,
    wanted: &[PolicyRule],
    refuse: impl Fn(String) -> ApiError,
) -> Result<(), ApiError> {
    let lacking = lacks(access, user, target, wanted)?;
    if lacking.is_empty() {
        return Ok(());
    }
    let groups = user.groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(" ");
    Err(refuse(format!(
        "user {:?} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{lacking}",
        user.name
    )))
}
