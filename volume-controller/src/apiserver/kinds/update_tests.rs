//! What may change about an object of each kind, and what not: one table. A row is a field,
//! what it becomes, and what is wrong with that; everything else is as in the kind's sample.

use serde_json::{Value, json};

use super::check::lines;
use super::{ALL, Kind, stored};

/// Resource and version, a sample, and the rows.
type Case = (&'static str, Value, Vec<(&'static str, Value, Vec<&'static str>)>);

fn cases() -> Vec<Case> {
    let mut cases = of_storage();
    cases.extend(of_the_core());
    cases.extend(of_roles());
    cases
}

const CLAIM: &str = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
const VOLUME: &str =
    "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation";

fn of_storage() -> Vec<Case> {
    let claim = json!({
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}, "volumeName": "v",
            "storageClassName": "fast", "volumeAttributesClassName": "gold",
            "dataSource": {"kind": "PersistentVolumeClaim", "name": "a"},
            "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "a"},
        },
        "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}},
    });
    let volume = json!({"spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": "fast",
        "volumeAttributesClassName": "gold",
        "csi": {"driver": "a.b", "volumeHandle": "h"}, "claimRef": {"namespace": "n", "name": "c"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]},
        ]}},
    }});
    let other_node = json!({"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "k", "operator": "Exists"}]},
    ]}});
    vec![
        (
            "persistentvolumeclaims v1",
            claim,
            vec![
                ("/metadata/labels", json!({"a": "b"}), vec![]),
                ("/spec/resources/requests/storage", json!("3Gi"), vec![]),
                (
                    "/spec/resources/requests/storage",
                    json!("1Gi"),
                    vec![
                        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity",
                    ],
                ),
                ("/spec/volumeAttributesClassName", json!("silver"), vec![]),
                (
                    "/spec/volumeAttributesClassName",
                    Value::Null,
                    vec![
                        r#"spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden (it was "gold")"#,
                    ],
                ),
                ("/spec/accessModes", json!(["ReadWriteMany"]), vec![CLAIM]),
                ("/spec/storageClassName", json!("slow"), vec![CLAIM]),
                ("/spec/volumeMode", json!("Block"), vec![CLAIM]),
                ("/spec/volumeName", json!("w"), vec![CLAIM]),
                ("/spec/selector", json!({"matchLabels": {"a": "b"}}), vec![CLAIM]),
                ("/spec/dataSource", Value::Null, vec![CLAIM]),
            ],
        ),
        (
            "persistentvolumes v1",
            volume,
            vec![
                ("/spec/capacity/storage", json!("2Gi"), vec![]),
                ("/spec/persistentVolumeReclaimPolicy", json!("Delete"), vec![]),
                ("/spec/claimRef", Value::Null, vec![]),
                ("/spec/mountOptions", json!(["noatime"]), vec![]),
                ("/spec/csi/controllerExpandSecretRef", json!({"name": "s", "namespace": "n"}), vec![]),
                ("/spec/volumeAttributesClassName", json!("silver"), vec![]),
                (
                    "/spec/volumeAttributesClassName",
                    Value::Null,
                    vec![
                        "spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden",
                    ],
                ),
                ("/spec/csi/volumeHandle", json!("i"), vec![VOLUME]),
                ("/spec/csi/volumeAttributes", json!({"a": "b"}), vec![VOLUME]),
                (
                    "/spec/volumeMode",
                    json!("Block"),
                    vec![r#"spec.volumeMode: Invalid: "Block": field is immutable"#],
                ),
                ("/spec/nodeAffinity", other_node, vec!["spec.nodeAffinity: field is immutable"]),
            ],
        ),
        (
            "storageclasses.storage.k8s.io v1",
            json!({"provisioner": "a.b", "parameters": {"pool": "p"}}),
            vec![
                ("/allowVolumeExpansion", json!(true), vec![]),
                ("/mountOptions", json!(["noatime"]), vec![]),
                (
                    "/provisioner",
                    json!("c.d"),
                    vec!["provisioner: Forbidden: updates to provisioner are forbidden."],
                ),
                (
                    "/parameters",
                    json!({}),
                    vec!["parameters: Forbidden: updates to parameters are forbidden."],
                ),
                (
                    "/reclaimPolicy",
                    json!("Retain"),
                    vec!["reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden."],
                ),
                (
                    "/volumeBindingMode",
                    json!("WaitForFirstConsumer"),
                    vec![r#"volumeBindingMode: Invalid: "WaitForFirstConsumer": field is immutable"#],
                ),
            ],
        ),
        (
            "volumeattributesclasses.storage.k8s.io v1",
            json!({"driverName": "a.b", "parameters": {"iops": "1"}}),
            vec![
                ("/metadata/labels", json!({"a": "b"}), vec![]),
                (
                    "/driverName",
                    json!("c.d"),
                    vec!["driverName: Forbidden: updates to driverName are forbidden."],
                ),
                (
                    "/parameters/iops",
                    json!("2"),
                    vec!["parameters: Forbidden: updates to parameters are forbidden."],
                ),
            ],
        ),
        (
            "volumeattachments.storage.k8s.io v1",
            json!({"spec": {"attacher": "a.b", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
            vec![
                ("/status", json!({"attached": true}), vec![]),
                ("/spec/nodeName", json!("m"), vec!["spec: field is immutable"]),
            ],
        ),
        (
            "csidrivers.storage.k8s.io v1",
            json!({"spec": {}}),
            vec![
                ("/spec/podInfoOnMount", json!(true), vec![]),
                ("/spec/storageCapacity", json!(true), vec![]),
                ("/spec/fsGroupPolicy", json!("File"), vec![]),
                ("/spec/requiresRepublish", json!(true), vec![]),
                (
                    "/spec/attachRequired",
                    json!(false),
                    vec!["spec.attachRequired: Invalid: false: field is immutable"],
                ),
                (
                    "/spec/volumeLifecycleModes",
                    json!(["Ephemeral"]),
                    vec![r#"spec.volumeLifecycleModes: Invalid: ["Ephemeral"]: field is immutable"#],
                ),
            ],
        ),
        (
            "csinodes.storage.k8s.io v1",
            json!({"spec": {"drivers": [{"name": "a.b", "nodeID": "n"}]}}),
            vec![
                ("/spec/drivers/0/allocatable", json!({"count": 3}), vec![]),
                ("/spec/drivers", json!([]), vec![]),
                ("/spec/drivers/0/nodeID", json!("m"), vec!["spec.drivers[0]: field is immutable"]),
            ],
        ),
        (
            "csistoragecapacities.storage.k8s.io v1",
            json!({"storageClassName": "fast", "capacity": "1Gi"}),
            vec![
                ("/capacity", json!("2Gi"), vec![]),
                (
                    "/storageClassName",
                    json!("slow"),
                    vec![r#"storageClassName: Invalid: "slow": field is immutable"#],
                ),
            ],
        ),
    ]
}

fn of_the_core() -> Vec<Case> {
    let pod = json!({"spec": {"nodeName": "n", "containers": [{"name": "a", "image": "x"}]}});
    vec![
        (
            "pods v1",
            pod,
            vec![
                ("/spec/containers/0/image", json!("y"), vec![]),
                ("/spec/activeDeadlineSeconds", json!(5), vec![]),
                ("/spec/tolerations", json!([{"operator": "Exists"}]), vec![]),
                ("/spec/nodeName", json!("m"), vec!["spec: Forbidden"]),
                ("/spec/volumes", json!([{"name": "v", "emptyDir": {}}]), vec!["spec: Forbidden"]),
                ("/spec/containers/0/command", json!(["z"]), vec!["spec: Forbidden"]),
                (
                    "/spec/schedulingGates",
                    json!([{"name": "g"}]),
                    vec!["spec.schedulingGates[0].name: Forbidden"],
                ),
            ],
        ),
        (
            "configmaps v1",
            json!({"immutable": true, "data": {"a": "b"}}),
            vec![
                ("/metadata/labels", json!({"a": "b"}), vec![]),
                ("/data/a", json!("c"), vec!["data: Forbidden: field is immutable when `immutable` is set"]),
                (
                    "/immutable",
                    json!(false),
                    vec!["immutable: Forbidden: field is immutable when `immutable` is set"],
                ),
            ],
        ),
        (
            "secrets v1",
            json!({"type": "Opaque", "immutable": true, "data": {"a": "Yg=="}}),
            vec![
                ("/type", json!("other"), vec![r#"type: Invalid: "other": field is immutable"#]),
                (
                    "/data/a",
                    json!("Yw=="),
                    vec!["data: Forbidden: field is immutable when `immutable` is set"],
                ),
            ],
        ),
        (
            "nodes v1",
            json!({"spec": {"providerID": "p", "podCIDRs": ["10.0.0.0/24"]}}),
            vec![
                (
                    "/spec/podCIDRs",
                    json!(["10.1.0.0/24"]),
                    vec![
                        "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
                    ],
                ),
                ("/spec/unschedulable", json!(true), vec![]),
                ("/spec/taints", json!([{"key": "k", "effect": "NoExecute"}]), vec![]),
                (
                    "/spec/providerID",
                    json!("q"),
                    vec![
                        "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
                    ],
                ),
            ],
        ),
        ("namespaces v1", json!({}), vec![("/metadata/labels/a", json!("b"), vec![])]),
        ("serviceaccounts v1", json!({}), vec![("/automountServiceAccountToken", json!(false), vec![])]),
        (
            "resourcequotas v1",
            json!({"spec": {"hard": {"pods": "1"}, "scopes": ["BestEffort"]}}),
            vec![
                ("/spec/hard", json!({"secrets": "2"}), vec![]),
                ("/spec/scopes", json!([]), vec!["spec.scopes: Invalid: []: field is immutable"]),
            ],
        ),
        (
            "limitranges v1",
            json!({"spec": {"limits": []}}),
            vec![("/spec/limits", json!([{"type": "Pod"}]), vec![])],
        ),
        (
            "leases.coordination.k8s.io v1",
            json!({"spec": {"holderIdentity": "a"}}),
            vec![("/spec/holderIdentity", json!("b"), vec![])],
        ),
    ]
}

fn of_roles() -> Vec<Case> {
    let role = json!({"rules": []});
    let rules = || json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    let binding =
        json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "a"}});
    let bindings = || {
        vec![
            (
                "/subjects",
                json!([{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]),
                vec![],
            ),
            ("/roleRef/name", json!("b"), vec!["roleRef: cannot change roleRef"]),
        ]
    };
    vec![
        ("roles.rbac.authorization.k8s.io v1", role.clone(), vec![("/rules", rules(), vec![])]),
        ("clusterroles.rbac.authorization.k8s.io v1", role, vec![("/rules", rules(), vec![])]),
        ("rolebindings.rbac.authorization.k8s.io v1", binding.clone(), bindings()),
        ("clusterrolebindings.rbac.authorization.k8s.io v1", binding, bindings()),
    ]
}

/// Kinds whose table is elsewhere: Events, which have two forms, the snapshot kinds, and those that have
/// another version's rules.
fn has_its_own(kind: &'static Kind) -> bool {
    kind.kind == "Event"
        || kind.group.ends_with("snapshot.storage.k8s.io")
        || !std::ptr::eq(stored(kind), kind)
}

fn known(kind: &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    if object["metadata"]["name"].is_null() {
        object["metadata"]["name"] = "a".into();
    }
    let mut known = (kind.model.check)(&object).unwrap_or_else(|e| panic!("{}: {e}", kind.kind));
    (kind.default)(&mut known);
    known
}

/// Sets a field, making the objects on the way to it.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let at = pointer.split('/').skip(1).fold(object, |at, part| match part.parse::<usize>() {
        Ok(index) => &mut at[index],
        Err(_) => &mut at[part],
    });
    *at = value;
}

#[test]
fn table() {
    let cases = cases();
    for kind in ALL.iter().filter(|kind| !has_its_own(kind)) {
        let name = format!("{} {}", kind.resource(), kind.version);
        let found: Vec<&Case> = cases.iter().filter(|(resource, ..)| *resource == name).collect();
        let [(_, sample, rows)] = found.as_slice() else { panic!("{name} has {} tables", found.len()) };
        let old = known(kind, sample);
        assert_eq!((kind.validate)(&old), [], "the sample of {name}");
        for (pointer, value, expected) in rows {
            let mut changed = old.clone();
            set(&mut changed, pointer, value.clone());
            let changed = known(kind, &changed);
            let lines = lines(&(kind.validate_update)(&changed, &old));
            // A line in the table is the whole, its beginning, or field and reason of a long value.
            let fits = |(line, expected): (&String, &&str)| {
                let (field, why) = expected.split_once(": ").unwrap();
                line.starts_with(*expected)
                    || (line.starts_with(&format!("{field}: Invalid: ")) && line.ends_with(why))
            };
            let is_right = lines.len() == expected.len() && lines.iter().zip(expected).all(fits);
            assert!(is_right, "{name} {pointer} {value}: {lines:?}, not {expected:?}");
        }
    }
    assert_eq!(cases.len(), ALL.iter().filter(|kind| !has_its_own(kind)).count());
}
