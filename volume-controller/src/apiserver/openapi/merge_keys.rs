//! What of an object is merged, and how: the `patchStrategy`, `patchMergeKey`,
//! `listType`, `listMapKey` and `mapType` tags of Kubernetes' types. A list that is not
//! named here is one value, replaced as a whole (tolerations, taints, access modes, …).
//!
//! The same tables answer patches and applies and are published in the OpenAPI
//! documents, so clients and server cannot disagree.

use serde_json::{Map, Value, json};

/// How the list in one field is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListRule {
    /// For strategic merge patches: `merge`, `merge,retainKeys`, or empty: they replace it.
    strategy: &'static str,
    /// There, the field that tells the elements apart; empty for lists of plain values.
    key: &'static str,
    /// For server-side apply.
    list: ListType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListType {
    Atomic,
    Set,
    /// The fields that tell the elements apart.
    Map(&'static [&'static str]),
}

/// A list of objects that both kinds of patch tell apart by the same fields.
const fn merge(key: &'static str, keys: &'static [&'static str]) -> ListRule {
    ListRule { strategy: "merge", key, list: ListType::Map(keys) }
}

const fn retain_keys(keys: &'static [&'static str]) -> ListRule {
    ListRule { strategy: "merge,retainKeys", key: "name", list: ListType::Map(keys) }
}

const fn merge_set() -> ListRule {
    ListRule { strategy: "merge", key: "", list: ListType::Set }
}

/// Strategic merge patches replace it.
const fn only(list: ListType) -> ListRule {
    ListRule { strategy: "", key: "", list }
}

const NAME: &[&str] = &["name"];
const TYPE: &[&str] = &["type"];
const PORT: &[&str] = &["containerPort", "protocol"];

/// (type, field, rule); types by the last part of their names.
const LISTS: &[(&str, &str, ListRule)] = &[
    ("ObjectMeta", "finalizers", merge_set()),
    ("ObjectMeta", "ownerReferences", merge("uid", &["uid"])),
    ("PodSpec", "volumes", retain_keys(NAME)),
    ("PodSpec", "resourceClaims", retain_keys(NAME)),
    ("PodSpec", "initContainers", merge("name", NAME)),
    ("PodSpec", "containers", merge("name", NAME)),
    ("PodSpec", "ephemeralContainers", merge("name", NAME)),
    ("PodSpec", "imagePullSecrets", merge("name", NAME)),
    ("PodSpec", "hostAliases", merge("ip", &["ip"])),
    ("PodSpec", "topologySpreadConstraints", merge("topologyKey", &["topologyKey", "whenUnsatisfiable"])),
    ("PodSpec", "schedulingGates", merge("name", NAME)),
    ("Container", "ports", merge("containerPort", PORT)),
    ("Container", "env", merge("name", NAME)),
    ("Container", "volumeMounts", merge("mountPath", &["mountPath"])),
    ("Container", "volumeDevices", merge("devicePath", &["devicePath"])),
    ("EphemeralContainer", "ports", merge("containerPort", PORT)),
    ("EphemeralContainer", "env", merge("name", NAME)),
    ("EphemeralContainer", "volumeMounts", merge("mountPath", &["mountPath"])),
    ("EphemeralContainer", "volumeDevices", merge("devicePath", &["devicePath"])),
    ("ResourceRequirements", "claims", only(ListType::Map(NAME))),
    ("ContainerRestartRuleOnExitCodes", "values", only(ListType::Set)),
    ("ContainerStatus", "volumeMounts", merge("mountPath", &["mountPath"])),
    ("ContainerStatus", "allocatedResourcesStatus", merge("name", NAME)),
    ("ResourceStatus", "resources", only(ListType::Map(&["resourceID"]))),
    ("PodStatus", "conditions", merge("type", TYPE)),
    ("PodStatus", "podIPs", merge("ip", &["ip"])),
    ("PodStatus", "hostIPs", ListRule { strategy: "merge", key: "ip", list: ListType::Atomic }),
    ("PodStatus", "resourceClaimStatuses", retain_keys(NAME)),
    ("ServiceAccount", "secrets", merge("name", NAME)),
    ("NodeSpec", "podCIDRs", merge_set()),
    ("NodeStatus", "conditions", merge("type", TYPE)),
    ("NodeStatus", "addresses", merge("type", TYPE)),
    ("NamespaceStatus", "conditions", merge("type", TYPE)),
    ("PersistentVolumeClaimStatus", "conditions", merge("type", TYPE)),
    ("CSIDriverSpec", "volumeLifecycleModes", only(ListType::Set)),
    ("CSINodeSpec", "drivers", merge("name", NAME)),
];

/// Types whose objects are one value for server-side apply.
const ATOMIC_TYPES: &[&str] = &[
    "ConfigMapKeySelector",
    "FileKeySelector",
    "LabelSelector",
    "LocalObjectReference",
    "NodeSelector",
    "NodeSelectorTerm",
    "ObjectFieldSelector",
    "ObjectReference",
    "OwnerReference",
    "ResourceFieldSelector",
    "RoleRef",
    "ScopeSelector",
    "SecretKeySelector",
    "SecretReference",
    "Subject",
    "TopologySelectorTerm",
    "TypedLocalObjectReference",
];

/// Fields that differ from their types: (type, field, `mapType`).
const MAPS: &[(&str, &str, &str)] =
    &[("PersistentVolumeSpec", "claimRef", "granular"), ("PodSpec", "nodeSelector", "atomic")];

/// What a field that tells elements apart is when it is not given.
const DEFAULTS: &[(&str, &str, &str)] = &[("ContainerPort", "protocol", "TCP")];

/// The last part of a type's name, `io.k8s.api.core.v1.PodSpec`.
fn short(type_name: &str) -> &str {
    type_name.rsplit('.').next().unwrap_or(type_name)
}

fn of_field<T: Copy>(table: &[(&str, &str, T)], type_name: &str, field: &str) -> Option<T> {
    let found = table.iter().find(|(owner, name, _)| *owner == short(type_name) && *name == field);
    found.map(|(_, _, value)| *value)
}

/// Notes in a type's schema how it and its fields are merged.
pub(super) fn note(type_name: &str, schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    if ATOMIC_TYPES.contains(&short(type_name)) {
        schema.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (field, property) in properties.into_iter().flatten() {
        let Value::Object(property) = property else { continue };
        if property.get("type").is_some_and(|kind| kind == "array") {
            note_list(property, of_field(LISTS, type_name, field));
        }
        if let Some(map_type) = of_field(MAPS, type_name, field) {
            property.insert("x-kubernetes-map-type".to_owned(), json!(map_type));
        }
        if let Some(default) = of_field(DEFAULTS, type_name, field) {
            property.insert("default".to_owned(), json!(default));
        }
    }
}

fn note_list(property: &mut Map<String, Value>, rule: Option<ListRule>) {
    let rule = rule.unwrap_or(only(ListType::Atomic));
    let (list_type, keys) = match rule.list {
        ListType::Atomic => ("atomic", None),
        ListType::Set => ("set", None),
        ListType::Map(keys) => ("map", Some(keys)),
    };
    property.insert("x-kubernetes-list-type".to_owned(), json!(list_type));
    if let Some(keys) = keys {
        property.insert("x-kubernetes-list-map-keys".to_owned(), json!(keys));
    }
    if !rule.strategy.is_empty() {
        property.insert("x-kubernetes-patch-strategy".to_owned(), json!(rule.strategy));
    }
    if !rule.key.is_empty() {
        property.insert("x-kubernetes-patch-merge-key".to_owned(), json!(rule.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::openapi::schemas;

    fn schema(owner: &str) -> &'static Value {
        let definitions = &schemas::all().definitions;
        let found = definitions.iter().find(|(name, _)| short(name) == owner);
        found.map(|(_, schema)| schema).unwrap_or_else(|| panic!("no type {owner}"))
    }

    #[test]
    fn every_entry_names_a_list_that_exists() {
        for (owner, field, rule) in LISTS {
            let property = &schema(owner)["properties"][field];
            assert_eq!(property["type"], "array", "{owner}.{field}");
            if !rule.strategy.is_empty() {
                assert_eq!(property["x-kubernetes-patch-strategy"], rule.strategy, "{owner}.{field}");
            }
            let ListType::Map(keys) = rule.list else { continue };
            assert_eq!(property["x-kubernetes-list-map-keys"], json!(keys), "{owner}.{field}");
            let item = property["items"]["$ref"].as_str().unwrap();
            let element = &schemas::all().definitions[item.rsplit('/').next().unwrap()];
            for key in keys.iter().chain([&rule.key]).filter(|key| !key.is_empty()) {
                assert!(element["properties"].get(*key).is_some(), "{owner}.{field} has no {key}");
            }
        }
    }

    #[test]
    fn every_type_that_is_named_exists() {
        for owner in ATOMIC_TYPES {
            assert_eq!(schema(owner)["x-kubernetes-map-type"], "atomic", "{owner}");
        }
        for (owner, field, map_type) in MAPS {
            assert_eq!(
                schema(owner)["properties"][field]["x-kubernetes-map-type"],
                *map_type,
                "{owner}.{field}"
            );
        }
        for (owner, field, default) in DEFAULTS {
            assert_eq!(schema(owner)["properties"][field]["default"], *default, "{owner}.{field}");
        }
    }
}
