use super::*;
use crate::apiserver::kinds;

/// The table as `kubectl get` prints it: headers in upper case, columns three blanks apart.
fn print(plural: &str, objects: &[Value], wide: bool) -> Vec<String> {
    let kind = kinds::ALL.iter().find(|kind| kind.plural == plural).unwrap();
    let now = "2026-01-01T00:10:00Z".parse().unwrap();
    let table = render(kind, objects, json!({"resourceVersion": "7"}), now, IncludeObject::Metadata);
    assert_eq!(table["metadata"]["resourceVersion"], "7");
    let shown: Vec<usize> = (0..kind.columns.len())
        .filter(|&at| wide || table["columnDefinitions"][at]["priority"] == 0)
        .collect();
    let text = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
    let mut lines = vec![
        shown
            .iter()
            .map(|&at| text(&table["columnDefinitions"][at]["name"]).to_uppercase())
            .collect::<Vec<_>>(),
    ];
    for row in table["rows"].as_array().unwrap() {
        lines.push(shown.iter().map(|&at| text(&row["cells"][at])).collect());
    }
    let width = |at: usize| lines.iter().map(|line| line[at].len()).max().unwrap_or(0) + 3;
    let widths: Vec<usize> = (0..shown.len()).map(width).collect();
    let pad = |line: &Vec<String>| {
        line.iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect::<String>()
            .trim_end()
            .to_owned()
    };
    lines.iter().map(pad).collect()
}

fn named(name: &str, mut rest: Value) -> Value {
    rest["metadata"]["name"] = name.into();
    rest["metadata"]["creationTimestamp"] = "2026-01-01T00:05:00Z".into();
    rest
}

#[test]
fn claims() {
    let bound = named(
        "data",
        json!({
            "spec": {"volumeName": "pvc-1", "storageClassName": "fast", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
        }),
    );
    let pending = named(
        "more",
        json!({"spec": {"storageClassName": "fast", "accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Pending"}}),
    );
    let mut going = bound.clone();
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:09:00Z".into();
    assert_eq!(
        print("persistentvolumeclaims", &[bound, pending, going], false),
        [
            "NAME   STATUS        VOLUME   CAPACITY   ACCESS MODES   STORAGECLASS   VOLUMEATTRIBUTESCLASS   AGE",
            "data   Bound         pvc-1    1Gi        RWO            fast           <unset>                 5m",
            "more   Pending                                          fast           <unset>                 5m",
            "data   Terminating   pvc-1    1Gi        RWO            fast           <unset>                 5m",
        ]
    );
}

#[test]
fn volumes() {
    let volume = named(
        "pvc-1",
        json!({
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "fast", "volumeMode": "Block",
                "claimRef": {"namespace": "dev", "name": "data"},
            },
            "status": {"phase": "Bound"},
        }),
    );
    assert_eq!(
        print("persistentvolumes", &[volume], true),
        [
            "NAME    CAPACITY   ACCESS MODES   RECLAIM POLICY   STATUS   CLAIM      STORAGECLASS   VOLUMEATTRIBUTESCLASS   REASON   AGE   VOLUMEMODE",
            "pvc-1   1Gi        RWO,RWX        Delete           Bound    dev/data   fast           <unset>                          5m    Block",
        ]
    );
}

#[test]
fn classes() {
    let class = |name: &str, annotations: Value| {
        named(
            name,
            json!({
                "metadata": {"annotations": annotations}, "provisioner": "csi.holdfast.dev", "reclaimPolicy": "Delete",
                "volumeBindingMode": "Immediate", "allowVolumeExpansion": true,
            }),
        )
    };
    let default = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    assert_eq!(
        print("storageclasses", &[class("fast", default), class("slow", json!({}))], false),
        [
            "NAME             PROVISIONER        RECLAIMPOLICY   VOLUMEBINDINGMODE   ALLOWVOLUMEEXPANSION   AGE",
            "fast (default)   csi.holdfast.dev   Delete          Immediate           true                   5m",
            "slow             csi.holdfast.dev   Delete          Immediate           true                   5m",
        ]
    );
}

#[test]
fn attachments_and_drivers() {
    let attachment = named(
        "csi-1",
        json!({"spec": {"attacher": "csi.holdfast.dev", "nodeName": "n", "source": {"persistentVolumeName": "pvc-1"}}, "status": {"attached": true}}),
    );
    assert_eq!(
        print("volumeattachments", &[attachment], false),
        [
            "NAME    ATTACHER           PV      NODE   ATTACHED   AGE",
            "csi-1   csi.holdfast.dev   pvc-1   n      true       5m",
        ]
    );
    assert_eq!(
        print("csinodes", &[named("n", json!({"spec": {"drivers": [{"name": "a"}]}}))], false),
        ["NAME   DRIVERS   AGE", "n      1         5m"]
    );
    let driver =
        named("a.b", json!({"spec": {"attachRequired": true, "volumeLifecycleModes": ["Persistent"]}}));
    assert_eq!(
        print("csidrivers", &[driver], false),
        [
            "NAME   ATTACHREQUIRED   PODINFOONMOUNT   STORAGECAPACITY   TOKENREQUESTS   REQUIRESREPUBLISH   MODES        AGE",
            "a.b    true             false            false             <unset>         false               Persistent   5m",
        ]
    );
    let capacity = named("c", json!({"storageClassName": "fast", "capacity": "9Gi"}));
    assert_eq!(
        print("csistoragecapacities", &[capacity], false),
        ["NAME   STORAGECLASSNAME   CAPACITY", "c      fast               9Gi"]
    );
    assert_eq!(
        print("volumeattributesclasses", &[named("gold", json!({"driverName": "a.b"}))], false),
        ["NAME   DRIVERNAME   AGE", "gold   a.b          5m"]
    );
}

#[test]
fn pods_and_nodes() {
    let pod = named(
        "p",
        json!({"spec": {"containers": [{"name": "c"}], "nodeName": "n"}, "status": {"phase": "Pending"}}),
    );
    assert_eq!(
        print("pods", &[pod], true),
        [
            "NAME   READY   STATUS    RESTARTS   AGE   IP       NODE   NOMINATED NODE   READINESS GATES",
            "p      0/1     Pending   0          5m    <none>   n      <none>           <none>",
        ]
    );
    let node = named(
        "n",
        json!({"status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"}}}),
    );
    assert_eq!(
        print("nodes", &[node], false),
        ["NAME   STATUS   ROLES    AGE   VERSION", "n      Ready    <none>   5m    v1"]
    );
}

#[test]
fn small_kinds() {
    for (plural, object, expected) in [
        ("namespaces", json!({"status": {"phase": "Active"}}), ["NAME   STATUS   AGE", "a      Active   5m"]),
        (
            "secrets",
            json!({"type": "Opaque", "data": {"k": ""}}),
            ["NAME   TYPE     DATA   AGE", "a      Opaque   1      5m"],
        ),
        ("configmaps", json!({"data": {"k": ""}}), ["NAME   DATA   AGE", "a      1      5m"]),
        ("serviceaccounts", json!({}), ["NAME   SECRETS   AGE", "a      0         5m"]),
        ("leases", json!({"spec": {"holderIdentity": "h"}}), ["NAME   HOLDER   AGE", "a      h        5m"]),
        (
            "events",
            json!({
                "type": "Normal", "reason": "R", "message": "m", "lastTimestamp": "2026-01-01T00:09:00Z",
                "involvedObject": {"kind": "Pod", "name": "p"},
            }),
            ["LAST SEEN   TYPE     REASON   OBJECT   MESSAGE", "60s         Normal   R        pod/p    m"],
        ),
    ] {
        assert_eq!(print(plural, &[named("a", object)], false), expected);
    }
}

#[test]
fn included_objects() {
    let kind = kinds::ALL[0];
    let now = Timestamp::UNIX_EPOCH;
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let row =
        |include| render(kind, std::slice::from_ref(&object), json!({}), now, include)["rows"][0].clone();
    assert!(row(IncludeObject::None).get("object").is_none());
    assert_eq!(
        row(IncludeObject::Metadata)["object"],
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "a"}})
    );
    assert_eq!(row(IncludeObject::Object)["object"], object);
}
