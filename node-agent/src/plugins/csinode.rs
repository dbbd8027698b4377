//! What CSINode and the Node's labels say of a driver. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::api::ObjectMeta;

/// What a driver answered to `NodeGetInfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DriverInfo {
    pub(crate) driver: String,
    pub(crate) node_id: String,
    /// Most volumes on this node; 0 or less: the driver sets no limit.
    pub(crate) max_volumes: i64,
    pub(crate) segments: BTreeMap<String, String>,
}

/// A CSINode without drivers, owned by the Node, so that it goes when the Node goes.
pub(crate) fn fresh(node: &str, node_uid: &str) -> CSINode {
    CSINode {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            owner_references: Some(vec![owner(node, node_uid)]),
            ..ObjectMeta::default()
        },
        spec: CSINodeSpec { drivers: Vec::new() },
    }
}

fn owner(node: &str, node_uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: node_uid.to_owned(),
        ..OwnerReference::default()
    }
}

/// The CSINode with this driver in it; `None` when it says so already.
pub(crate) fn with(csinode: &CSINode, node: &str, node_uid: &str, info: &DriverInfo) -> Option<CSINode> {
    let mut changed = csinode.clone();
    changed.metadata.owner_references = Some(vec![owner(node, node_uid)]);
    changed.spec.drivers.retain(|d| d.name != info.driver);
    changed.spec.drivers.push(CSINodeDriver {
        name: info.driver.clone(),
        node_id: info.node_id.clone(),
        topology_keys: Some(info.segments.keys().cloned().collect()),
        allocatable: (info.max_volumes > 0).then(|| VolumeNodeResources {
            count: Some(i32::try_from(info.max_volumes).unwrap_or(i32::MAX)),
        }),
    });
    changed.spec.drivers.sort_by(|a, b| a.name.cmp(&b.name));
    (changed != *csinode).then_some(changed)
}

/// The CSINode without this driver; `None` when it is not in it.
pub(crate) fn without(csinode: &CSINode, driver: &str) -> Option<CSINode> {
    let mut changed = csinode.clone();
    changed.spec.drivers.retain(|d| d.name != driver);
    (changed != *csinode).then_some(changed)
}

/// The topology labels that the Node lacks.
///
/// # Errors
/// A sentence, when a label is there with another value: volumes may already rely on it.
pub(crate) fn missing_labels(
    present: &BTreeMap<String, String>,
    segments: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut missing = BTreeMap::new();
    for (key, value) in segments {
        match present.get(key) {
            None => {
                missing.insert(key.clone(), value.clone());
            }
            Some(there) if there == value => {}
            Some(there) => {
                return Err(format!(
                    "the driver says {key}={value}, but the node has the label {key}={there}; \
                     remove the label if no volume relies on it"
                ));
            }
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info() -> DriverInfo {
        DriverInfo {
            driver: "d".into(),
            node_id: "id".into(),
            max_volumes: 7,
            segments: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        }
    }

    #[test]
    fn a_driver_comes_and_goes() {
        let empty = fresh("n", "u");
        let one = with(&empty, "n", "u", &info()).unwrap();
        assert_eq!(one.spec.drivers[0].allocatable.as_ref().unwrap().count, Some(7));
        assert_eq!(one.spec.drivers[0].topology_keys, Some(vec!["zone".to_owned()]));
        assert_eq!(with(&one, "n", "u", &info()), None, "nothing to write twice");
        let moved = with(&one, "n", "u2", &info()).unwrap();
        assert_eq!(moved.metadata.owner_references.unwrap()[0].uid, "u2", "a new node owns it");
        assert_eq!(without(&one, "d"), Some(empty.clone()));
        assert_eq!(without(&empty, "d"), None);
    }

    #[test]
    fn labels() {
        let segments = info().segments;
        assert_eq!(missing_labels(&BTreeMap::new(), &segments), Ok(segments.clone()));
        assert_eq!(missing_labels(&segments, &segments), Ok(BTreeMap::new()));
        let other = BTreeMap::from([("zone".to_owned(), "b".to_owned())]);
        assert!(missing_labels(&other, &segments).is_err());
    }
}
