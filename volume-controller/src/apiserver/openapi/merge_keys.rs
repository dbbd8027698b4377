//! How lists are merged by a strategic merge patch: the `patchStrategy` and
//! `patchMergeKey` tags of Kubernetes' types. A list that is not named here is
//! replaced as a whole (tolerations, taints, access modes, …).
//!
//! The same table answers patches and is published in the OpenAPI documents, so
//! clients and server cannot disagree.

/// How one field is patched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strategy {
    /// `merge` or `merge,retainKeys`
    pub(crate) strategy: &'static str,
    /// The field that tells the elements of a list of objects apart; empty for lists of plain values.
    pub(crate) key: &'static str,
}

const fn merge(key: &'static str) -> Strategy {
    Strategy { strategy: "merge", key }
}

const fn retain_keys(key: &'static str) -> Strategy {
    Strategy { strategy: "merge,retainKeys", key }
}

/// (type, field, strategy); types by the last part of their names.
const TABLE: &[(&str, &str, Strategy)] = &[
    ("ObjectMeta", "finalizers", merge("")),
    ("ObjectMeta", "ownerReferences", merge("uid")),
    ("PodSpec", "volumes", retain_keys("name")),
    ("PodSpec", "resourceClaims", retain_keys("name")),
    ("PodSpec", "initContainers", merge("name")),
    ("PodSpec", "containers", merge("name")),
    ("PodSpec", "ephemeralContainers", merge("name")),
    ("PodSpec", "imagePullSecrets", merge("name")),
    ("PodSpec", "hostAliases", merge("ip")),
    ("PodSpec", "topologySpreadConstraints", merge("topologyKey")),
    ("PodSpec", "schedulingGates", merge("name")),
    ("Container", "ports", merge("containerPort")),
    ("Container", "env", merge("name")),
    ("Container", "volumeMounts", merge("mountPath")),
    ("Container", "volumeDevices", merge("devicePath")),
    ("EphemeralContainer", "ports", merge("containerPort")),
    ("EphemeralContainer", "env", merge("name")),
    ("EphemeralContainer", "volumeMounts", merge("mountPath")),
    ("EphemeralContainer", "volumeDevices", merge("devicePath")),
    ("ContainerStatus", "volumeMounts", merge("mountPath")),
    ("PodStatus", "conditions", merge("type")),
    ("PodStatus", "podIPs", merge("ip")),
    ("PodStatus", "hostIPs", merge("ip")),
    ("PodStatus", "resourceClaimStatuses", retain_keys("name")),
    ("ServiceAccount", "secrets", merge("name")),
    ("NodeSpec", "podCIDRs", merge("")),
    ("NodeStatus", "conditions", merge("type")),
    ("NodeStatus", "addresses", merge("type")),
    ("NamespaceStatus", "conditions", merge("type")),
    ("PersistentVolumeClaimStatus", "conditions", merge("type")),
    ("CSINodeSpec", "drivers", merge("name")),
];

/// The strategy of a field of a type, `io.k8s.api.core.v1.PodSpec`.
pub(crate) fn strategy(type_name: &str, field: &str) -> Option<Strategy> {
    let short = type_name.rsplit('.').next().unwrap_or(type_name);
    TABLE.iter().find(|(owner, name, _)| *owner == short && *name == field).map(|(_, _, strategy)| *strategy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::openapi::schemas;

    #[test]
    fn every_entry_names_a_list_that_exists() {
        for (owner, field, strategy) in TABLE {
            let (name, schema) = schemas::all()
                .definitions
                .iter()
                .find(|(name, _)| name.rsplit('.').next() == Some(owner))
                .unwrap_or_else(|| panic!("no type {owner}"));
            let property = &schema["properties"][field];
            assert_eq!(property["type"], "array", "{name}.{field}");
            assert_eq!(property["x-kubernetes-patch-strategy"], strategy.strategy, "{name}.{field}");
            if !strategy.key.is_empty() {
                let item = property["items"]["$ref"].as_str().unwrap();
                let element = &schemas::all().definitions[item.rsplit('/').next().unwrap()];
                assert!(
                    element["properties"].get(strategy.key).is_some(),
                    "{name}.{field} has no {}",
                    strategy.key
                );
            }
        }
    }
}
