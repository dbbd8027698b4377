use super::*;
use crate::apiserver::kinds::check::lines;

fn claim() -> Value {
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "namespace": "dev"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    default(&mut claim);
    claim
}

fn with(pointer: &str, value: Value) -> Value {
    let mut claim = claim();
    let parts: Vec<&str> = pointer.split('/').collect();
    set(&mut claim, &parts, value);
    claim
}

#[test]
fn defaults_and_creation() {
    let mut new = claim();
    assert_eq!(new["spec"]["volumeMode"], "Filesystem");
    new["status"] = json!({"phase": "Bound", "capacity": {"storage": "9Gi"}});
    new["spec"]["dataSourceRef"] = json!({"kind": "PersistentVolumeClaim", "name": "old"});
    prepare_create(&mut new);
    assert_eq!(new["status"], json!({"phase": "Pending"}));
    assert_eq!(new["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    assert_eq!(new["spec"]["dataSource"], json!({"kind": "PersistentVolumeClaim", "name": "old"}));
    let once = new.clone();
    default(&mut new);
    prepare_create(&mut new);
    assert_eq!(new, once);
}

#[test]
fn valid() {
    assert_eq!(validate(&claim()), []);
    assert_eq!(validate(&with("spec/resources/requests/storage", "9223372036854775807".into())), []);
}

#[test]
fn refused() {
    for (changed, expected) in [
        (
            with("spec/accessModes", json!([])),
            "spec.accessModes: Required: at least 1 access mode is required",
        ),
        (
            with("spec/accessModes", json!(["RWO"])),
            r#"spec.accessModes: NotSupported: "RWO": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod""#,
        ),
        (
            with("spec/accessModes", json!(["ReadWriteOncePod", "ReadOnlyMany"])),
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
        ),
        (
            with("spec/resources", json!({})),
            "spec.resources.requests[storage]: Required: say how much storage the claim needs, for example 10Gi",
        ),
        (
            with("spec/resources/requests/storage", "0".into()),
            r#"spec.resources.requests[storage]: Invalid: "0": must be greater than zero"#,
        ),
        (
            with("spec/resources/requests/storage", "-1Gi".into()),
            r#"spec.resources.requests[storage]: Invalid: "-1Gi": must be greater than zero"#,
        ),
        (
            with("spec/resources/requests/storage", "8Ei".into()),
            r#"spec.resources.requests[storage]: Invalid: "8Ei": must be no more than 9223372036854775807 bytes (8Ei - 1)"#,
        ),
        (
            with("spec/resources/requests/storage", "1GiB".into()),
            r#"spec.resources.requests[storage]: Invalid: "1GiB": must be a number with an optional suffix (Ki Mi Gi Ti Pi Ei, k M G T P E), such as 10Gi"#,
        ),
        (
            with("spec/resources/limits/storage", "1Mi".into()),
            r#"spec.resources.requests: Invalid: "1Gi": must be less than or equal to storage limit of 1Mi"#,
        ),
        (
            with("spec/volumeMode", "Tape".into()),
            r#"spec.volumeMode: NotSupported: "Tape": supported values: "Block", "Filesystem""#,
        ),
        (
            with("spec/dataSource", json!({"kind": "VolumeSnapshot", "name": "s"})),
            r#"spec.dataSource: Invalid: "VolumeSnapshot": must be 'PersistentVolumeClaim' when referencing the default apiGroup"#,
        ),
    ] {
        assert_eq!(lines(&validate(&changed)), [expected]);
    }
    assert!(
        lines(&validate(&with("spec/storageClassName", "Fast".into())))[0]
            .starts_with("spec.storageClassName: Invalid: \"Fast\": ")
    );
}

#[test]
fn updates() {
    const IMMUTABLE: &str = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    const SMALLER: &str =
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity";
    let bound = |size: &str, has: &str| {
        let mut claim = with("spec/resources/requests/storage", size.into());
        claim["spec"]["volumeName"] = "pv".into();
        claim["status"] = json!({"phase": "Bound", "capacity": {"storage": has}});
        claim
    };
    let edit = |base: &Value, path: &str, value: Value| {
        let mut copy = base.clone();
        set(&mut copy, &path.split('/').collect::<Vec<_>>(), value);
        copy
    };
    let two = bound("2Gi", "2Gi");
    for (new, old, expected) in [
        (claim(), claim(), vec![]),
        (bound("3Gi", "2Gi"), two.clone(), vec![]),
        (bound("2048Mi", "2Gi"), two.clone(), vec![]),
        (bound("1Gi", "2Gi"), two.clone(), vec![SMALLER]),
        // Back from an expansion that failed: to more than the claim has, but not to what it has.
        (bound("3Gi", "2Gi"), bound("5Gi", "2Gi"), vec![]),
        (bound("2Gi", "2Gi"), bound("5Gi", "2Gi"), vec![SMALLER]),
        (with("spec/resources/requests/storage", "2Gi".into()), claim(), vec![IMMUTABLE]),
        // One line for one mistake: that 0 is no size is said already.
        (with("spec/resources/requests/storage", "0".into()), claim(), vec![]),
        (bound("0", "2Gi"), two.clone(), vec![]),
        (with("spec/volumeName", "pv".into()), claim(), vec![]),
        (edit(&two, "spec/volumeName", "other".into()), two.clone(), vec![IMMUTABLE]),
        (edit(&two, "spec/accessModes", json!(["ReadWriteMany"])), two.clone(), vec![IMMUTABLE]),
        (edit(&two, "spec/volumeMode", "Block".into()), two.clone(), vec![IMMUTABLE]),
        (edit(&two, "spec/storageClassName", "slow".into()), two.clone(), vec![IMMUTABLE]),
        (claim(), edit(&claim(), "spec/storageClassName", Value::Null), vec![]),
        (edit(&two, "spec/volumeAttributesClassName", "gold".into()), two.clone(), vec![]),
        (edit(&two, "metadata/labels", json!({"a": "b"})), two.clone(), vec![]),
    ] {
        assert_eq!(lines(&validate_update(&new, &old)), expected, "{old} -> {new}");
    }
    let gold = edit(&two, "spec/volumeAttributesClassName", "gold".into());
    assert_eq!(validate_update(&two, &gold)[0].field, "spec.volumeAttributesClassName");
    let causes = validate_update(&edit(&two, "spec/volumeMode", "Block".into()), &two);
    assert!(causes[0].message.ends_with("(changed: spec.volumeMode)"), "{}", causes[0].message);
}
