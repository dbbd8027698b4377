//! What objects use of a namespace's quotas.
//!
//! Source of the rules: "Resource Quotas" of Kubernetes' documentation, and of storage in
//! particular "Storage resource quota". Resources are named as in the store: `pods`,
//! `volumesnapshots.snapshot.storage.k8s.io`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::names;
use crate::quantity::{format_bytes, parse_bytes};

/// Amounts by the name of what is limited: objects, or bytes of storage.
pub type Amounts = BTreeMap<String, i64>;

const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";
/// Between a class and what of it is limited.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

/// Resources whose number is limited under their plain name, besides `count/…`.
const PLAIN: [&str; 5] = ["configmaps", CLAIMS, "pods", "resourcequotas", "secrets"];
/// Resources that are not counted: they come and go by themselves.
const UNCOUNTED: [&str; 2] = ["events", "events.events.k8s.io"];

/// Whether an amount is one of storage, in bytes; others are numbers of objects.
#[must_use]
pub fn is_storage(name: &str) -> bool {
    name == STORAGE || (name.contains(OF_CLASS) && name.ends_with(STORAGE))
}

/// An amount as a quantity.
#[must_use]
pub fn printed(name: &str, amount: i64) -> String {
    if is_storage(name) { format_bytes(amount) } else { amount.to_string() }
}

/// The resource that objects must be of to use any of a limited amount; `None` for what is
/// not known here and so not limited (processors, memory).
#[must_use]
pub fn resource_of(name: &str) -> Option<&str> {
    if let Some(counted) = name.strip_prefix("count/") {
        return Some(counted).filter(|counted| !UNCOUNTED.contains(counted));
    }
    if name == STORAGE || name.contains(OF_CLASS) {
        return Some(CLAIMS);
    }
    PLAIN.contains(&name).then_some(name)
}

/// What one object uses.
#[must_use]
pub fn usage(resource: &str, object: &Value) -> Amounts {
    let mut amounts = Amounts::new();
    if UNCOUNTED.contains(&resource) {
        return amounts;
    }
    amounts.insert(format!("count/{resource}"), 1);
    // A pod that has ended holds nothing any more.
    if PLAIN.contains(&resource) && !(resource == "pods" && is_over(object)) {
        amounts.insert(resource.to_owned(), 1);
    }
    if resource == CLAIMS {
        let size = claim_size(object);
        amounts.insert(STORAGE.to_owned(), size);
        let class = claim_class(object);
        if !class.is_empty() {
            amounts.insert(format!("{class}{OF_CLASS}{CLAIMS}"), 1);
            amounts.insert(format!("{class}{OF_CLASS}{STORAGE}"), size);
        }
    }
    amounts
}

/// What a claim asks for, or what was allocated for an earlier and larger wish that it took back.
fn claim_size(claim: &Value) -> i64 {
    let size = |at: &Value| at["storage"].as_str().and_then(|text| parse_bytes(text).ok()).unwrap_or(0);
    size(&claim["spec"]["resources"]["requests"]).max(size(&claim["status"]["allocatedResources"]))
}

fn claim_class(claim: &Value) -> &str {
    let annotated = claim["metadata"]["annotations"][names::CLASS_BETA].as_str();
    annotated.or_else(|| claim["spec"]["storageClassName"].as_str()).unwrap_or_default()
}

fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// Whether a quota's scopes include an object.
#[must_use]
pub fn includes(spec: &Value, resource: &str, object: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let plain = list(&spec["scopes"]).into_iter().map(|scope| (scope, Value::from("Exists"), Vec::new()));
    let selected = list(&spec["scopeSelector"]["matchExpressions"])
        .into_iter()
        .map(|term| (term["scopeName"].clone(), term["operator"].clone(), list(&term["values"])));
    let mut terms = plain.chain(selected);
    terms.all(|(scope, operator, values)| {
        let found = in_scope(scope.as_str().unwrap_or_default(), resource, object);
        let chosen = |names: &[&str]| names.iter().any(|name| values.iter().any(|value| value == name));
        match (found, operator.as_str()) {
            (None, _) => false,
            (Some(names), Some("In")) => chosen(&names),
            (Some(names), Some("NotIn")) => !chosen(&names),
            (Some(names), Some("DoesNotExist")) => names.is_empty(),
            (Some(names), _) => !names.is_empty(),
        }
    })
}

/// What an object has of a scope: nothing, a mark, or names. `None` where the scope is not
/// one of the resource.
fn in_scope<'a>(scope: &str, resource: &str, object: &'a Value) -> Option<Vec<&'a str>> {
    let mark = |is: bool| Some(if is { vec![""] } else { Vec::new() });
    let named = |values: &[&'a Value]| {
        Some(values.iter().filter_map(|v| v.as_str()).filter(|name| !name.is_empty()).collect())
    };
    let (spec, status) = (&object["spec"], &object["status"]);
    match (resource, scope) {
        ("pods", "Terminating") => mark(spec["activeDeadlineSeconds"].is_number()),
        ("pods", "NotTerminating") => mark(!spec["activeDeadlineSeconds"].is_number()),
        ("pods", "BestEffort") => mark(status["qosClass"] == "BestEffort"),
        ("pods", "NotBestEffort") => mark(status["qosClass"] != "BestEffort"),
        ("pods", "PriorityClass") => named(&[&spec["priorityClassName"]]),
        ("pods", "CrossNamespacePodAffinity") => mark(reaches_other_namespaces(&spec["affinity"])),
        (CLAIMS, "VolumeAttributesClass") => named(&[
            &spec["volumeAttributesClassName"],
            &status["currentVolumeAttributesClassName"],
            &status["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
        ]),
        _ => None,
    }
}

fn reaches_other_namespaces(affinity: &Value) -> bool {
    match affinity {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            (name == "namespaces" && value.as_array().is_some_and(|list| !list.is_empty()))
                || (name == "namespaceSelector" && !value.is_null())
                || reaches_other_namespaces(value)
        }),
        Value::Array(list) => list.iter().any(reaches_other_namespaces),
        _ => false,
    }
}

/// The limits of a quota that are known here.
#[must_use]
pub fn limits(spec: &Value) -> Amounts {
    let hard = spec["hard"].as_object().into_iter().flatten();
    let known = hard.filter(|(name, _)| resource_of(name).is_some());
    known.filter_map(|(name, value)| Some((name.clone(), parse_bytes(value.as_str()?).ok()?))).collect()
}

/// What a quota's status says is used; what it does not say is not known yet.
#[must_use]
pub fn used(quota: &Value) -> Amounts {
    let used = quota["status"]["used"].as_object().into_iter().flatten();
    used.filter_map(|(name, value)| Some((name.clone(), parse_bytes(value.as_str()?).ok()?))).collect()
}

/// What objects use together of what a quota limits.
pub fn total<'a>(spec: &Value, objects: impl Iterator<Item = (&'a str, &'a Value)>) -> Amounts {
    let mut sum: Amounts = limits(spec).into_keys().map(|name| (name, 0)).collect();
    for (resource, object) in objects.filter(|(resource, object)| includes(spec, resource, object)) {
        for (name, amount) in usage(resource, object) {
            if let Some(sum) = sum.get_mut(&name) {
                *sum = sum.saturating_add(amount);
            }
        }
    }
    sum
}

/// Amounts as they are told: `pods=1,requests.storage=2Gi`.
#[must_use]
pub fn sentence(amounts: &Amounts) -> String {
    let parts: Vec<String> =
        amounts.iter().map(|(name, at)| format!("{name}={}", printed(name, *at))).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claim(size: &str, class: Option<&str>) -> Value {
        json!({"spec": {"resources": {"requests": {"storage": size}}, "storageClassName": class}})
    }

    #[test]
    fn what_objects_use() {
        let amounts = |pairs: &[(&str, i64)]| -> Amounts {
            pairs.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect()
        };
        let gi = 1 << 30;
        let plain = [("count/persistentvolumeclaims", 1), ("persistentvolumeclaims", 1), (STORAGE, gi)];
        assert_eq!(usage(CLAIMS, &claim("1Gi", None)), amounts(&plain));
        let of_class = [
            ("fast.storageclass.storage.k8s.io/persistentvolumeclaims", 1),
            ("fast.storageclass.storage.k8s.io/requests.storage", gi),
        ];
        assert_eq!(usage(CLAIMS, &claim("1Gi", Some("fast"))), amounts(&[&plain[..], &of_class].concat()));
        let mut taken_back = claim("1Gi", None);
        taken_back["status"] = json!({"allocatedResources": {"storage": "3Gi"}});
        assert_eq!(usage(CLAIMS, &taken_back)[STORAGE], 3 * gi);
        assert_eq!(usage("pods", &json!({})), amounts(&[("count/pods", 1), ("pods", 1)]));
        let over = json!({"status": {"phase": "Failed"}});
        assert_eq!(usage("pods", &over), amounts(&[("count/pods", 1)]));
        assert_eq!(
            usage("leases.coordination.k8s.io", &json!({})),
            amounts(&[("count/leases.coordination.k8s.io", 1)])
        );
        assert_eq!(usage("events", &json!({})), amounts(&[]));
    }

    #[test]
    fn scopes() {
        let gold = json!({"spec": {"volumeAttributesClassName": "gold"}});
        let becoming = json!({"spec": {}, "status": {"modifyVolumeStatus": {"targetVolumeAttributesClassName": "gold"}}});
        let none = json!({"spec": {}});
        let select = |operator: &str, values: &[&str]| {
            json!({"scopeSelector": {"matchExpressions": [
                {"scopeName": "VolumeAttributesClass", "operator": operator, "values": values},
            ]}})
        };
        for (spec, expected) in [
            (json!({}), [true, true, true]),
            (select("In", &["gold", "silver"]), [true, true, false]),
            (select("In", &["silver"]), [false, false, false]),
            (select("NotIn", &["gold"]), [false, false, true]),
            (select("Exists", &[]), [true, true, false]),
            (select("DoesNotExist", &[]), [false, false, true]),
            (json!({"scopes": ["VolumeAttributesClass"]}), [true, true, false]),
            (json!({"scopes": ["BestEffort"]}), [false, false, false]),
        ] {
            let found = [&gold, &becoming, &none].map(|claim| includes(&spec, CLAIMS, claim));
            assert_eq!(found, expected, "{spec}");
        }
        let batch = json!({"spec": {"activeDeadlineSeconds": 9}, "status": {"qosClass": "Burstable"}});
        for (scopes, expected) in [
            (["Terminating", "NotBestEffort"], true),
            (["NotTerminating", "NotBestEffort"], false),
            (["Terminating", "BestEffort"], false),
            (["Terminating", "PriorityClass"], false),
        ] {
            assert_eq!(includes(&json!({"scopes": scopes}), "pods", &batch), expected, "{scopes:?}");
        }
        let affinity = json!({"spec": {"affinity": {"podAffinity": {"x": [{"namespaces": ["other"]}]}}}});
        assert!(includes(&json!({"scopes": ["CrossNamespacePodAffinity"]}), "pods", &affinity));
    }

    #[test]
    fn sums_of_what_is_limited() {
        let spec =
            json!({"hard": {"requests.storage": "10Gi", "pods": "4", "cpu": "2", "count/events": "1"}});
        let (a, b) = (claim("1Gi", None), claim("512Mi", None));
        let sum = total(
            &spec,
            [(CLAIMS, &a), (CLAIMS, &b), ("pods", &json!({})), ("secrets", &json!({}))].into_iter(),
        );
        assert_eq!(sentence(&sum), "pods=1,requests.storage=1536Mi");
        assert_eq!(sentence(&limits(&spec)), "pods=4,requests.storage=10Gi");
        assert_eq!(resource_of("count/jobs.batch"), Some("jobs.batch"));
        assert_eq!(resource_of("a.storageclass.storage.k8s.io/requests.storage"), Some(CLAIMS));
    }
}
