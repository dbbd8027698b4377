//! The roles and bindings that a cluster begins with. At each start what is missing of them
//! is added again, unless the object says otherwise by its annotation: so a mistake in them
//! is mended by a restart, and a newer version brings what it needs.
//!
//! Source: "Default roles and role bindings" in Kubernetes' documentation.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use futures::future::try_join_all;
use k8s_openapi::api::rbac::v1::{AggregationRule, PolicyRule};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::kinds::policy_rules::GROUP;
use super::super::kinds::{Kind, cluster_role, cluster_role_binding};
use super::super::route::{self, Target};
use super::super::status::ApiError;
use super::super::verbs::update::Recorded;
use super::super::{apply, reply, verbs};
use super::aggregate::{Source, aggregate};
use super::cover;
use crate::lifecycle;
use crate::store::{CommitError, Object, Precondition, Store};

/// `false` keeps an object as it is.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

#[derive(Deserialize)]
struct Defaults {
    roles: Vec<Role>,
    bindings: Vec<Binding>,
}

#[derive(Deserialize)]
struct Role {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    rules: Vec<PolicyRule>,
    /// The roles labelled `aggregate-to-…` that it is made of.
    #[serde(default)]
    of: Vec<String>,
}

/// Of the role of the same name.
#[derive(Deserialize)]
struct Binding {
    name: String,
    groups: Vec<String>,
}

/// Every default as an object; what is made of others is made already, so that it is whole
/// before a controller runs.
fn objects() -> Result<Vec<(&'static Kind, Value)>, String> {
    static READ: LazyLock<Result<Defaults, String>> = LazyLock::new(|| {
        serde_saphyr::from_str(include_str!("defaults.yaml")).map_err(|error| error.to_string())
    });
    let defaults = READ.as_ref().map_err(Clone::clone)?;
    let mut made: BTreeMap<&str, (&BTreeMap<String, String>, Vec<PolicyRule>)> = BTreeMap::new();
    let mut objects = Vec::new();
    for role in &defaults.roles {
        let mut object = object(&cluster_role::KIND, &role.name, &role.labels);
        let mut rules = role.rules.clone();
        if !role.of.is_empty() {
            let selector =
                |part: &String| json!({"matchLabels": {format!("{GROUP}/aggregate-to-{part}"): "true"}});
            let selectors: Vec<Value> = role.of.iter().map(selector).collect();
            object["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
            let aggregation = AggregationRule::deserialize(&object["aggregationRule"]);
            let aggregation = aggregation.map_err(|error| error.to_string())?;
            // The file has each role after those that it is made of; by name, as the
            // controller reads them, so that it finds nothing to do.
            let sources: Vec<Source<'_>> = made
                .iter()
                .map(|(&name, (labels, rules))| Source { name, labels: Some(labels), rules })
                .collect();
            rules = aggregate(&role.name, &aggregation, &sources).unwrap_or_default();
        }
        object["rules"] = json!(rules);
        made.insert(&role.name, (&role.labels, rules));
        objects.push((&cluster_role::KIND, object));
    }
    for Binding { name, groups } in &defaults.bindings {
        let mut object = object(&cluster_role_binding::KIND, name, &BTreeMap::new());
        let subject = |group| json!({"apiGroup": GROUP, "kind": "Group", "name": group});
        object["roleRef"] = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": name});
        object["subjects"] = groups.iter().map(subject).collect();
        objects.push((&cluster_role_binding::KIND, object));
    }
    Ok(objects)
}

fn object(kind: &Kind, name: &str, labels: &BTreeMap<String, String>) -> Value {
    let mut labels = labels.clone();
    labels.insert("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".to_owned());
    let metadata = json!({"name": name, "labels": labels, "annotations": {AUTOUPDATE: "true"}});
    json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": metadata})
}

/// Creates what is missing and adds what is missing in what is there. Each is a write of its
/// own: a crash in between leaves some, and the next start adds the others.
pub(crate) async fn reconcile(store: &Store) -> Result<(), ApiError> {
    let objects = objects().map_err(ApiError::Internal)?;
    // At once, so that the store commits them together.
    try_join_all(objects.into_iter().map(|(kind, wanted)| ensure(store, kind, wanted))).await?;
    Ok(())
}

async fn ensure(store: &Store, kind: &'static Kind, wanted: Value) -> Result<(), ApiError> {
    let target = route::parse(&format!("/apis/{}/{}/{}", kind.group, kind.version, kind.plural))?;
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let Some(found) = store.get(&target.key_of(&name)) else {
        return match verbs::create::insert(store, &target, wanted, Recorded::By(apply::SERVER)).await {
            Ok(_) | Err(ApiError::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error),
        };
    };
    mend(store, &target, &found, &wanted).await
}

async fn mend(store: &Store, target: &Target, found: &Object, wanted: &Value) -> Result<(), ApiError> {
    let before = reply::decode(found)?;
    if before["metadata"]["annotations"][AUTOUPDATE] != "true" {
        return Ok(());
    }
    let Some(mut new) = mended(&before, wanted) else { return Ok(()) };
    apply::track_server(&found.key.resource, &before, &mut new, jiff::Timestamp::now());
    let write = lifecycle::update(found.key.clone(), Precondition::Revision(found.revision), new);
    match store.commit(vec![write]).await {
        // Another replica begins as well, or a user was faster: the next start looks again.
        Ok(_) | Err(CommitError::Conflict { .. } | CommitError::Missing { .. }) => Ok(()),
        Err(error) => Err(ApiError::from_commit(error, target.kind, &found.key.name)),
    }
}

/// An object with what was missing; `None` when nothing was. What users added stays.
fn mended(before: &Value, wanted: &Value) -> Option<Value> {
    let mut new = before.clone();
    for (name, value) in wanted["metadata"]["labels"].as_object().into_iter().flatten() {
        if new["metadata"]["labels"][name].is_null() {
            new["metadata"]["labels"][name] = value.clone();
        }
    }
    if wanted["aggregationRule"].is_object() {
        // Its rules are the controller's.
        if before["aggregationRule"].is_null() {
            new["aggregationRule"] = wanted["aggregationRule"].clone();
        }
    } else if wanted["rules"].is_array() {
        let read = |rules: &Value| Option::<Vec<PolicyRule>>::deserialize(rules).ok().flatten();
        let owned = read(&before["rules"]).unwrap_or_default();
        let wanted = wanted["rules"].as_array().into_iter().flatten();
        let lacking = wanted.filter(|&rule| {
            PolicyRule::deserialize(rule)
                .is_ok_and(|rule| cover::missing(&owned, &[rule]).is_ok_and(|missing| !missing.is_empty()))
        });
        append(&mut new, "rules", lacking);
    }
    let has = |subject: &&Value| before["subjects"].as_array().is_some_and(|list| list.contains(subject));
    let lacking = wanted["subjects"].as_array().into_iter().flatten().filter(|subject| !has(subject));
    append(&mut new, "subjects", lacking);
    (new != *before).then_some(new)
}

fn append<'a>(object: &mut Value, field: &str, more: impl Iterator<Item = &'a Value>) {
    let more: Vec<Value> = more.cloned().collect();
    if more.is_empty() {
        return;
    }
    let mut list = object[field].as_array().cloned().unwrap_or_default();
    list.extend(more);
    object[field] = Value::Array(list);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default(kind: &str, name: &str) -> Value {
        let found = objects().unwrap().into_iter().map(|(_, object)| object);
        found.into_iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name).unwrap()
    }

    #[test]
    fn defaults_are_sound() {
        for (kind, object) in objects().unwrap() {
            assert_eq!((kind.validate)(&object), [], "{object}");
            assert_eq!(mended(&object, &object), None);
        }
        // Each role has at least what those have that it is made of.
        let rules = |name: &str| -> Vec<PolicyRule> {
            serde_json::from_value(default("ClusterRole", name)["rules"].clone()).unwrap()
        };
        for (more, less) in [("admin", "edit"), ("edit", "view"), ("cluster-admin", "admin")] {
            assert!(!rules(less).is_empty());
            assert!(cover::missing(&rules(more), &rules(less)).unwrap().is_empty());
            assert!(!cover::missing(&rules(less), &rules(more)).unwrap().is_empty());
        }
    }

    #[test]
    fn what_is_missing_is_added_and_the_rest_stays() {
        let wanted = default("ClusterRoleBinding", "system:public-info-viewer");
        let mut found = wanted.clone();
        found["subjects"] = json!([{"kind": "Group", "name": "x"}, wanted["subjects"][0]]);
        let new = mended(&found, &wanted).unwrap();
        assert_eq!(
            new["subjects"],
            json!([{"kind": "Group", "name": "x"}, wanted["subjects"][0], wanted["subjects"][1]])
        );
        let wanted = default("ClusterRole", "system:basic-user");
        let mut found = wanted.clone();
        found["rules"] = json!([wanted["rules"][1], {"verbs": ["get"], "nonResourceURLs": ["/x"]}]);
        let new = mended(&found, &wanted).unwrap();
        assert_eq!(new["rules"].as_array().unwrap().len(), 3);
        found["rules"] = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
        assert_eq!(mended(&found, &wanted), None, "more than what is wanted is enough");
    }
}
