//! Admission: what the state of other objects says about a write. Reads the
//! store's memory only.

use holdfast_api::{
    names,
    nodes::{self, NO_EXECUTE},
    quantity,
};
use serde_json::{Value, json};

use super::kinds::Kind;
use super::reply;
use super::route::{self, Target};
use super::status::ApiError;
use crate::store::{Guard, Key, Precondition, Store};

const CLASSES: &str = "storageclasses.storage.k8s.io";
const CLAIMS: &str = "persistentvolumeclaims";
const PODS: &str = "pods";
/// Namespaces that cannot be deleted.
const PERMANENT: [&str; 3] = ["default", "kube-system", "kube-public"];

/// New objects need a namespace that exists and stays (NamespaceLifecycle). The guard
/// says that it is still as it was looked at: a namespace that is emptied and removed in
/// between must not leave an object behind that nobody can reach.
pub(crate) fn namespace(store: &Store, target: &Target, name: &str) -> Result<Option<Guard>, ApiError> {
    if target.namespace.is_empty() {
        return Ok(None);
    }
    let Some(namespaces) = route::find("", "v1", "namespaces") else { return Ok(None) };
    let found = store.get(&Key::new(&namespaces.resource(), "", &target.namespace));
    let found = found.ok_or_else(|| ApiError::not_found(namespaces, &target.namespace))?;
    let body: Value = reply::decode(&found)?;
    if body["metadata"]["deletionTimestamp"].is_null() {
        let precondition = Precondition::Revision(found.revision);
        return Ok(Some(Guard { key: found.key.clone(), precondition }));
    }
    Err(ApiError::Forbidden {
        resource: target.kind.into(),
        name: name.to_owned(),
        why: format!(
            "unable to create new content in namespace {} because it is being terminated",
            target.namespace
        ),
        cause: Some("NamespaceTerminating"),
    })
}

/// Changes a new object as the cluster's state asks (DefaultStorageClass).
pub(crate) fn create(store: &Store, target: &Target, value: &mut Value) -> Result<(), ApiError> {
    if target.stored.resource() == CLAIMS
        && claim_class(value).is_none()
        && let Some(class) = default_class(store)?
    {
        value["spec"]["storageClassName"] = json!(class);
    }
    Ok(())
}

/// Adds what the cluster adds to every object of a kind, old or new (DefaultTolerationSeconds).
pub(crate) fn complete(target: &Target, value: &mut Value) {
    if target.stored.resource() == PODS {
        tolerate(&mut value["spec"]);
    }
}

/// A pod that says nothing of it stays for a while on a node that is not ready or not reachable.
fn tolerate(spec: &mut Value) {
    for key in [nodes::NOT_READY, nodes::UNREACHABLE] {
        let given = spec["tolerations"].as_array();
        let says = |toleration: &Value| {
            let is_or_absent = |field: &str, value: &str| {
                let given = toleration[field].as_str().unwrap_or_default();
                given.is_empty() || given == value
            };
            is_or_absent("key", key) && is_or_absent("effect", NO_EXECUTE)
        };
        if given.is_some_and(|given| given.iter().any(says)) {
            continue;
        }
        let mut tolerations = given.cloned().unwrap_or_default();
        tolerations.push(json!({
            "key": key, "operator": "Exists", "effect": NO_EXECUTE, "tolerationSeconds": nodes::TOLERATION_SECONDS,
        }));
        spec["tolerations"] = json!(tolerations);
    }
}

/// Refuses a change that the cluster's state does not allow (PersistentVolumeClaimResize).
pub(crate) fn update(store: &Store, target: &Target, old: &Value, new: &Value) -> Result<(), ApiError> {
    if target.stored.resource() != CLAIMS || !grows(old, new) {
        return Ok(());
    }
    let refuse = |why| Err(ApiError::forbidden(target.kind, &target.name, why));
    if old["status"]["phase"] != "Bound" {
        return refuse("Only bound persistent volume claims can be expanded");
    }
    let class = claim_class(old).filter(|name| !name.is_empty());
    let class = class.and_then(|name| store.get(&Key::new(CLASSES, "", name)));
    let allowed = match class {
        Some(class) => reply::decode(&class)?["allowVolumeExpansion"] == true,
        None => false,
    };
    if allowed {
        return Ok(());
    }
    refuse(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
         support resize",
    )
}

/// Refuses to delete what the cluster always has.
pub(crate) fn delete(kind: &Kind, name: &str) -> Result<(), ApiError> {
    if kind.kind == "Namespace" && PERMANENT.contains(&name) {
        return Err(ApiError::forbidden(kind, name, "this namespace may not be deleted"));
    }
    Ok(())
}

/// The class that a claim names; `Some("")` asks for volumes without class.
fn claim_class(claim: &Value) -> Option<&str> {
    claim["metadata"]["annotations"][names::CLASS_BETA]
        .as_str()
        .or_else(|| claim["spec"]["storageClassName"].as_str())
}

/// The newest class marked as default; of equally new ones the first by name.
fn default_class(store: &Store) -> Result<Option<String>, ApiError> {
    let mut best: Option<(String, String)> = None;
    for object in store.list(CLASSES, None, None, None).objects {
        let class = reply::decode(&object)?;
        if ![names::DEFAULT_CLASS, names::DEFAULT_CLASS_BETA]
            .iter()
            .any(|key| class["metadata"]["annotations"][*key] == "true")
        {
            continue;
        }
        let created = class["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
        // Times are RFC 3339 in UTC, so their order is that of their text.
        if best.as_ref().is_none_or(|(newest, _)| created > *newest) {
            best = Some((created, object.key.name.to_string()));
        }
    }
    Ok(best.map(|(_, name)| name))
}

fn grows(old: &Value, new: &Value) -> bool {
    let request = |claim: &Value| {
        claim["spec"]["resources"]["requests"]["storage"]
            .as_str()
            .and_then(|text| quantity::parse_bytes(text).ok())
    };
    match (request(old), request(new)) {
        (Some(old), Some(new)) => new > old,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_stay_for_a_while_where_a_node_is_lost() {
        let default = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        let both = || vec![default(nodes::NOT_READY), default(nodes::UNREACHABLE)];
        let own = json!({"key": nodes::UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let other = json!({"key": nodes::UNREACHABLE, "operator": "Exists", "effect": "NoSchedule"});
        let all = json!({"operator": "Exists"});
        for (number, given, expected) in [
            (1, json!({}), both()),
            (2, json!({"tolerations": null}), both()),
            (3, json!({"tolerations": [own]}), vec![own.clone(), default(nodes::NOT_READY)]),
            (4, json!({"tolerations": [other]}), [vec![other.clone()], both()].concat()),
            (5, json!({"tolerations": [all]}), vec![all.clone()]),
        ] {
            let mut spec = given;
            tolerate(&mut spec);
            assert_eq!(spec["tolerations"], json!(expected), "case {number}");
        }
    }
}
