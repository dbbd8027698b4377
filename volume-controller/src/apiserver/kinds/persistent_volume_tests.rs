use super::*;
use crate::apiserver::kinds::check::lines;

fn volume(source: Value) -> Value {
    let mut volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
    });
    for (key, value) in entries(&source) {
        volume["spec"][key.as_str()] = value.clone();
    }
    default(&mut volume);
    volume
}

fn csi() -> Value {
    json!({"csi": {"driver": "csi.holdfast.dev", "volumeHandle": "h"}})
}

fn on_node() -> Value {
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}]}})
}

#[test]
fn defaults_and_creation() {
    let mut new = volume(json!({"hostPath": {"path": "/a"}, "claimRef": {"name": "c", "namespace": "n"}}));
    assert_eq!(new["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(new["spec"]["volumeMode"], "Filesystem");
    assert_eq!(new["spec"]["hostPath"]["type"], "");
    assert_eq!(
        new["spec"]["claimRef"],
        json!({"name": "c", "namespace": "n", "kind": "PersistentVolumeClaim", "apiVersion": "v1"})
    );
    new["status"] = json!({"phase": "Bound"});
    prepare_create(&mut new);
    assert_eq!(new["status"], json!({"phase": "Pending"}));
    assert_eq!(new["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
    let once = new.clone();
    default(&mut new);
    prepare_create(&mut new);
    assert_eq!(new, once);
}

#[test]
fn validation() {
    for (source, expected) in [
        (csi(), vec![]),
        (json!({"hostPath": {"path": "/srv/a"}}), vec![]),
        (json!({"nfs": {"server": "s", "path": "/a"}}), vec![]),
        (json!({"local": {"path": "/a"}, "nodeAffinity": on_node()}), vec![]),
        (json!({}), vec!["spec: Required: must specify a volume type"]),
        (
            json!({"hostPath": {"path": "/a"}, "csi": csi()["csi"]}),
            vec!["spec.hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (json!({"hostPath": {"path": ""}}), vec!["spec.hostPath.path: Required: "]),
        (
            json!({"hostPath": {"path": "/a/../b"}}),
            vec![r#"spec.hostPath.path: Invalid: "/a/../b": must not contain '..'"#],
        ),
        (json!({"hostPath": {"path": "/a..b"}}), vec![]),
        (
            json!({"local": {"path": "/a"}}),
            vec!["spec.nodeAffinity: Required: Local volume requires node affinity"],
        ),
        (
            json!({"csi": {"driver": "", "volumeHandle": ""}}),
            vec!["spec.csi.driver: Required: ", "spec.csi.volumeHandle: Required: "],
        ),
        (
            json!({"csi": csi()["csi"], "capacity": {"storage": "0"}}),
            vec![r#"spec.capacity[storage]: Invalid: "0": must be greater than zero"#],
        ),
        (
            json!({"csi": csi()["csi"], "capacity": {}}),
            vec!["spec.capacity: Required: say how large the volume is, for example storage: 10Gi"],
        ),
        (
            json!({"csi": csi()["csi"], "capacity": {"storage": "1Gi", "memory": "1"}}),
            vec![r#"spec.capacity: NotSupported: "memory": supported values: "storage""#],
        ),
        (json!({"csi": csi()["csi"], "accessModes": []}), vec!["spec.accessModes: Required: "]),
        (
            json!({"csi": csi()["csi"], "persistentVolumeReclaimPolicy": "Keep"}),
            vec![
                r#"spec.persistentVolumeReclaimPolicy: NotSupported: "Keep": supported values: "Delete", "Recycle", "Retain""#,
            ],
        ),
        (
            json!({"csi": csi()["csi"], "nodeAffinity": {}}),
            vec!["spec.nodeAffinity.required: Required: must specify required node constraints"],
        ),
        (
            json!({"csi": csi()["csi"], "nodeAffinity": {"required": {"nodeSelectorTerms": []}}}),
            vec![
                "spec.nodeAffinity.required.nodeSelectorTerms: Required: must have at least one node selector term",
            ],
        ),
    ] {
        assert_eq!(lines(&validate(&volume(source.clone()))), expected, "{source}");
    }
}

#[test]
fn updates() {
    let with_csi = |field: &str, value: Value| {
        let mut source = csi();
        source["csi"][field] = value;
        volume(source)
    };
    let affine = |key: &str| {
        let mut affinity = on_node();
        affinity["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["key"] = key.into();
        volume(json!({"csi": csi()["csi"], "nodeAffinity": affinity}))
    };
    const SOURCE: &str =
        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation";
    let secret = json!({"name": "s", "namespace": "n"});
    let mut larger = volume(csi());
    larger["spec"]["capacity"]["storage"] = "2Gi".into();
    larger["spec"]["persistentVolumeReclaimPolicy"] = "Delete".into();
    for (new, old, expected) in [
        (volume(csi()), volume(csi()), None),
        (larger, volume(csi()), None),
        (with_csi("volumeHandle", "other".into()), volume(csi()), Some(SOURCE)),
        (volume(json!({"hostPath": {"path": "/a"}})), volume(csi()), Some(SOURCE)),
        (with_csi("controllerExpandSecretRef", secret.clone()), volume(csi()), None),
        (volume(csi()), with_csi("controllerExpandSecretRef", secret), Some(SOURCE)),
        (affine("a"), volume(csi()), None),
        (affine("a"), affine("a"), None),
    ] {
        assert_eq!(
            lines(&validate_update(&new, &old)).first().map(String::as_str),
            expected,
            "{old} -> {new}"
        );
    }
    let moved = validate_update(&affine("b"), &affine("a"));
    assert_eq!(moved[0].field, "spec.nodeAffinity");
    assert!(moved[0].message.ends_with(": field is immutable"));
    let mut block = volume(csi());
    block["spec"]["volumeMode"] = "Block".into();
    assert_eq!(
        lines(&validate_update(&block, &volume(csi()))),
        [r#"spec.volumeMode: Invalid: "Block": field is immutable"#]
    );
}
