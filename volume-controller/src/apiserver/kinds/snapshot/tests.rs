//! The rules of the snapshot kinds, as a table: the object before (none: it is new) and
//! after, and what is wrong with that.

use serde_json::{Value, json};

use super::{
    volume_group_snapshot, volume_group_snapshot_class, volume_group_snapshot_content, volume_snapshot,
    volume_snapshot_class, volume_snapshot_content,
};
use crate::apiserver::kinds::{Kind, check::lines};

/// Sets a field, given as a JSON pointer below the object; null removes it.
fn with(object: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = object.clone();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let at = parent.split('/').skip(1).fold(&mut changed, |at, part| &mut at[part]);
    at[field] = value;
    changed
}

#[track_caller]
fn check(kind: &Kind, old: Option<&Value>, new: &Value, expected: &[&str]) {
    let known = |object: &Value| (kind.model.check)(object).unwrap();
    let new = known(new);
    let mut causes = (kind.validate)(&new);
    if let Some(old) = old {
        causes.extend((kind.validate_update)(&new, &known(old)));
    }
    assert_eq!(lines(&causes), expected, "{new}");
}

#[test]
fn snapshots() {
    const ONE: &str = r#"spec.source: Invalid: "object": exactly one of volumeSnapshotContentName and persistentVolumeClaimName must be set"#;
    let kind = &volume_snapshot::KIND;
    let of_claim = json!({"spec": {"source": {"persistentVolumeClaimName": "a"}}});
    let of_content = json!({"spec": {"source": {"volumeSnapshotContentName": "c"}}});
    check(kind, None, &of_claim, &[]);
    check(kind, None, &of_content, &[]);
    check(kind, None, &json!({}), &[ONE]);
    check(kind, None, &with(&of_claim, "/spec/source/volumeSnapshotContentName", "c".into()), &[ONE]);
    check(
        kind,
        None,
        &with(&of_claim, "/spec/volumeSnapshotClassName", "".into()),
        &[
            r#"spec.volumeSnapshotClassName: Invalid: "string": volumeSnapshotClassName must not be the empty string when set"#,
        ],
    );
    let old = Some(&of_claim);
    check(kind, old, &with(&of_claim, "/spec/volumeSnapshotClassName", "fast".into()), &[]);
    check(
        kind,
        old,
        &with(&of_claim, "/spec/source/persistentVolumeClaimName", "b".into()),
        &[
            r#"spec.source.persistentVolumeClaimName: Invalid: "string": persistentVolumeClaimName is immutable"#,
        ],
    );
    check(
        kind,
        old,
        &of_content,
        &[r#"spec.source: Invalid: "object": persistentVolumeClaimName is required once set"#],
    );
}

#[test]
fn contents() {
    let kind = &volume_snapshot_content::KIND;
    let content = json!({"spec": {
        "deletionPolicy": "Delete", "driver": "a.b", "source": {"volumeHandle": "v"}, "sourceVolumeMode": "Block",
        "volumeSnapshotRef": {"name": "a", "namespace": "n"},
    }});
    let old = Some(&content);
    check(kind, old, &content, &[]);
    check(
        kind,
        None,
        &json!({"spec": {}}),
        &[
            "spec.driver: Required: ",
            "spec.deletionPolicy: Required: ",
            r#"spec.source: Invalid: "object": exactly one of volumeHandle and snapshotHandle must be set"#,
            r#"spec.volumeSnapshotRef: Invalid: "object": both spec.volumeSnapshotRef.name and spec.volumeSnapshotRef.namespace must be set"#,
        ],
    );
    for (pointer, value, expected) in [
        ("/spec/deletionPolicy", json!("Retain"), None),
        ("/spec/volumeSnapshotRef/uid", json!("u"), None),
        ("/status", json!({"restoreSize": 0}), None),
        (
            "/spec/deletionPolicy",
            json!("Keep"),
            Some(r#"spec.deletionPolicy: NotSupported: "Keep": supported values: "Delete", "Retain""#),
        ),
        (
            "/spec/source/volumeHandle",
            json!("w"),
            Some(r#"spec.source.volumeHandle: Invalid: "string": volumeHandle is immutable"#),
        ),
        (
            "/spec/sourceVolumeMode",
            Value::Null,
            Some(r#"spec: Invalid: "object": sourceVolumeMode is required once set"#),
        ),
        (
            "/spec/sourceVolumeMode",
            json!("Filesystem"),
            Some(r#"spec.sourceVolumeMode: Invalid: "string": sourceVolumeMode is immutable"#),
        ),
        (
            "/status",
            json!({"restoreSize": -1}),
            Some(
                "status.restoreSize: Invalid: -1: status.restoreSize in body should be greater than or equal to 0",
            ),
        ),
    ] {
        let expected: Vec<&str> = expected.into_iter().collect();
        check(kind, old, &with(&content, pointer, value), &expected);
    }
}

#[test]
fn classes() {
    let class = json!({"driver": "a.b", "deletionPolicy": "Delete", "parameters": {"a": "b"}});
    let other = json!({"driver": "c.d", "deletionPolicy": "Retain", "parameters": {"a": "c"}});
    check(&volume_snapshot_class::KIND, Some(&class), &other, &[]);
    let required = ["driver: Required: ", "deletionPolicy: Required: "];
    check(&volume_snapshot_class::KIND, None, &json!({}), &required);
    check(&volume_group_snapshot_class::KIND, None, &json!({}), &required);
    check(
        &volume_group_snapshot_class::KIND_BETA,
        Some(&class),
        &other,
        &[
            r#"driver: Invalid: "string": driver is immutable once set"#,
            r#"deletionPolicy: Invalid: "string": deletionPolicy is immutable once set"#,
            r#"parameters: Invalid: "object": parameters are immutable once set"#,
        ],
    );
}

#[test]
fn groups() {
    let kind = &volume_group_snapshot::KIND;
    let group = json!({"spec": {"source": {"selector": {"matchLabels": {"a": "b"}}}}});
    check(kind, Some(&group), &group, &[]);
    check(
        kind,
        Some(&group),
        &with(&group, "/spec/source/selector/matchLabels/a", "c".into()),
        &[r#"spec.source.selector: Invalid: "object": selector is immutable"#],
    );
    let bound = with(&group, "/status", json!({"boundVolumeGroupSnapshotContentName": "c"}));
    check(kind, Some(&group), &bound, &[]);
    check(
        kind,
        Some(&bound),
        &with(&bound, "/status/boundVolumeGroupSnapshotContentName", "d".into()),
        &[
            r#"status.boundVolumeGroupSnapshotContentName: Invalid: "string": boundVolumeGroupSnapshotContentName is immutable once set"#,
        ],
    );
}

#[test]
fn group_contents() {
    let kind = &volume_group_snapshot_content::KIND;
    let content = json!({"spec": {
        "deletionPolicy": "Delete", "driver": "a.b", "source": {"volumeHandles": ["v", "w"]},
        "volumeGroupSnapshotRef": {"name": "a", "namespace": "n", "uid": "u"},
    }});
    check(kind, Some(&content), &content, &[]);
    let there = json!({"groupSnapshotHandles": {"volumeSnapshotHandles": ["s"]}});
    check(
        kind,
        None,
        &with(&content, "/spec/source", there),
        &["spec.source.groupSnapshotHandles.volumeGroupSnapshotHandle: Required: "],
    );
    for (pointer, value, expected) in [
        ("/spec/driver", json!("c.d"), r#"spec.driver: Invalid: "string": driver is immutable once set"#),
        (
            "/spec/source/volumeHandles",
            json!(["v"]),
            r#"spec.source.volumeHandles: Invalid: "array": volumeHandles is immutable"#,
        ),
        (
            "/spec/volumeGroupSnapshotRef/name",
            json!("b"),
            r#"spec.volumeGroupSnapshotRef: Invalid: "object": volumeGroupSnapshotRef.name and volumeGroupSnapshotRef.namespace are immutable"#,
        ),
        (
            "/spec/volumeGroupSnapshotRef/uid",
            Value::Null,
            r#"spec.volumeGroupSnapshotRef: Invalid: "object": volumeGroupSnapshotRef.uid is immutable once set"#,
        ),
    ] {
        check(kind, Some(&content), &with(&content, pointer, value), &[expected]);
    }
}
