use serde_json::{Value, json};

use super::*;

const GI: i64 = 1 << 30;

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn object<T: serde::de::DeserializeOwned>(mut base: Value, changes: &Value) -> T {
    merge(&mut base, changes);
    serde_json::from_value(base).expect("an object")
}

/// A claim for 1Gi with this source.
fn claim(source: &Value) -> PersistentVolumeClaim {
    let base = json!({
        "metadata": {"name": "new", "namespace": "dev", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"volumeMode": "Filesystem"},
    });
    object(base, &json!({ "spec": source }))
}

fn snapshot_source() -> Value {
    json!({"dataSource": {"apiGroup": GROUP, "kind": "VolumeSnapshot", "name": "monday"}})
}

fn facts() -> DriverFacts {
    DriverFacts { create_snapshot: true, clone: true, ..DriverFacts::new("d".to_owned()) }
}

fn from_snapshot(snapshot: &Value, content: &Value) -> Source {
    let base = json!({
        "metadata": {"name": "monday", "namespace": "dev", "uid": "s"},
        "spec": {"source": {"persistentVolumeClaimName": "data"}},
        "status": {"boundVolumeSnapshotContentName": "c", "readyToUse": true},
    });
    let content_base = json!({
        "metadata": {"name": "c", "annotations": {}},
        "spec": {
            "driver": "d", "volumeSnapshotRef": {"uid": "s"}, "sourceVolumeMode": "Filesystem",
            "source": {"volumeHandle": "h"},
        },
        "status": {"snapshotHandle": "x", "readyToUse": true, "restoreSize": GI},
    });
    Source::Snapshot {
        snapshot: Some(Box::new(object(base, snapshot))),
        content: Some(Box::new(object(content_base, content))),
    }
}

#[test]
fn snapshots() {
    let none = json!({});
    let named = || "monday".to_owned();
    let going = |at: &str| json!({"metadata": {"deletionTimestamp": at}});
    let block = json!({"volumeMode": "Block"});
    let allowed = json!({"metadata": {"annotations": {ALLOW_MODE_CHANGE: "true"}}});
    let absent = Source::Snapshot { snapshot: None, content: None };
    let unbound = json!({"status": {"boundVolumeSnapshotContentName": null}});
    let too_small =
        SourceError::TooSmall { asked: GI, least: 2 * GI, source_name: "snapshot monday".to_owned() };
    let table: Vec<(u32, Source, &Value, Result<(), SourceError>)> = vec![
        (1, from_snapshot(&none, &none), &none, Ok(())),
        (2, absent, &none, Err(SourceError::NoSnapshot(named()))),
        (3, Source::NotAsked, &none, Err(SourceError::NoSnapshot(named()))),
        (4, from_snapshot(&unbound, &none), &none, Err(SourceError::NotBound(named()))),
        (
            5,
            from_snapshot(&none, &json!({"spec": {"volumeSnapshotRef": {"uid": "earlier"}}})),
            &none,
            Err(SourceError::NoContent(named())),
        ),
        (
            6,
            from_snapshot(&none, &json!({"spec": {"volumeSnapshotRef": {"uid": null}}})),
            &none,
            Err(SourceError::NoContent(named())),
        ),
        (
            7,
            from_snapshot(&none, &json!({"spec": {"driver": "e"}})),
            &none,
            Err(SourceError::OtherDriver(named(), "e".to_owned())),
        ),
        (
            8,
            from_snapshot(&json!({"status": {"readyToUse": false}}), &none),
            &none,
            Err(SourceError::NotReady(named())),
        ),
        (
            9,
            from_snapshot(&none, &json!({"status": {"readyToUse": false}})),
            &none,
            Err(SourceError::NotReady(named())),
        ),
        (
            10,
            from_snapshot(&none, &json!({"status": {"snapshotHandle": null}})),
            &none,
            Err(SourceError::NotReady(named())),
        ),
        (11, from_snapshot(&none, &json!({"status": {"restoreSize": 2 * GI}})), &none, Err(too_small)),
        (12, from_snapshot(&none, &json!({"status": {"restoreSize": null}})), &none, Ok(())),
        (13, from_snapshot(&none, &none), &block, Err(SourceError::SnapshotMode("c".to_owned()))),
        (14, from_snapshot(&none, &allowed), &block, Ok(())),
        // Its deletion was asked for before the claim was made, in the same second, and after.
        (
            15,
            from_snapshot(&going("2025-12-31T23:59:59Z"), &none),
            &none,
            Err(SourceError::SnapshotGoing(named())),
        ),
        (16, from_snapshot(&going("2026-01-01T00:00:00Z"), &none), &none, Ok(())),
        (17, from_snapshot(&going("2026-01-01T00:00:01Z"), &none), &none, Ok(())),
    ];
    for (number, source, changes, wanted) in table {
        let mut spec = snapshot_source();
        merge(&mut spec, changes);
        let found = content_source(&facts(), &claim(&spec), GI, &source);
        let snapshot_id = "x".to_owned();
        let made = VolumeContentSource { r#type: Some(Type::Snapshot(SnapshotSource { snapshot_id })) };
        assert_eq!(found, wanted.map(|()| Some(made)), "row {number}");
    }
    let cannot = DriverFacts { create_snapshot: false, ..facts() };
    let found = content_source(&cannot, &claim(&snapshot_source()), GI, &from_snapshot(&none, &none));
    assert_eq!(found, Err(SourceError::NotSupported("snapshot")));
}

fn from_claim(other: &Value, volume: &Value) -> Source {
    let base = json!({
        "metadata": {"name": "data", "namespace": "dev", "uid": "u"},
        "spec": {"volumeMode": "Filesystem", "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Bound"},
    });
    let volume_base = json!({
        "metadata": {"name": "pv"},
        "spec": {"csi": {"driver": "d", "volumeHandle": "h"}, "claimRef": {"uid": "u"}},
    });
    Source::Claim {
        claim: Some(Box::new(object(base, other))),
        volume: Some(Box::new(object(volume_base, volume))),
    }
}

#[test]
fn claims() {
    let none = json!({});
    let named = || "data".to_owned();
    let unbound = || Err(SourceError::ClaimUnbound(named()));
    let two = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let too_small = SourceError::TooSmall { asked: GI, least: 2 * GI, source_name: "claim data".to_owned() };
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let kept_and_going =
        |since: &str| json!({"metadata": {"deletionTimestamp": since, "finalizers": [cloning::CLONING]}});
    let table: Vec<(u32, Source, Result<(), SourceError>)> = vec![
        (1, from_claim(&none, &none), Ok(())),
        (2, Source::Claim { claim: None, volume: None }, Err(SourceError::NoClaim(named()))),
        (3, from_claim(&going, &none), Err(SourceError::ClaimGoing(named()))),
        (4, from_claim(&json!({"status": {"phase": "Pending"}}), &none), unbound()),
        (5, from_claim(&none, &json!({"spec": {"claimRef": {"uid": "other"}}})), unbound()),
        (6, from_claim(&none, &json!({"spec": {"csi": {"driver": "e"}}})), unbound()),
        (7, from_claim(&none, &json!({"spec": {"csi": null}})), unbound()),
        (
            8,
            from_claim(&json!({"spec": {"volumeMode": "Block"}}), &none),
            Err(SourceError::ClaimMode(named())),
        ),
        (9, from_claim(&two, &none), Err(too_small)),
        (10, from_claim(&kept_and_going("2026-01-01T00:00:00Z"), &none), Ok(())),
        (
            11,
            from_claim(&kept_and_going("2025-12-31T23:59:59Z"), &none),
            Err(SourceError::ClaimGoing(named())),
        ),
    ];
    let source = json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "data"}});
    for (number, found, wanted) in table {
        let found = content_source(&facts(), &claim(&source), GI, &found);
        let volume_id = "h".to_owned();
        let made = VolumeContentSource { r#type: Some(Type::Volume(VolumeSource { volume_id })) };
        assert_eq!(found, wanted.map(|()| Some(made)), "row {number}");
    }
    let cannot = DriverFacts { clone: false, ..facts() };
    let found = content_source(&cannot, &claim(&source), GI, &from_claim(&none, &none));
    assert_eq!(found, Err(SourceError::NotSupported("claim")));
}

#[test]
fn what_is_wanted() {
    let reference = |namespace: &str| json!({"dataSourceRef": {"apiGroup": GROUP, "kind": "VolumeSnapshot", "name": "monday", "namespace": namespace}});
    assert_eq!(wanted(&claim(&json!({}))), Wanted::Nothing);
    assert_eq!(wanted(&claim(&snapshot_source())), Wanted::Snapshot("monday"));
    assert_eq!(wanted(&claim(&reference("dev"))), Wanted::Snapshot("monday"));
    assert_eq!(wanted(&claim(&reference("prod"))), Wanted::Elsewhere { namespace: "prod" });
    let populated = json!({"dataSourceRef": {"apiGroup": "x.example.com", "kind": "Image", "name": "i"}});
    assert_eq!(wanted(&claim(&populated)), Wanted::Populator { kind: "Image", name: "i" });
    let elsewhere = content_source(&facts(), &claim(&reference("prod")), GI, &Source::NotAsked);
    assert_eq!(elsewhere, Err(SourceError::Elsewhere("prod".to_owned())));
    assert_eq!(content_source(&facts(), &claim(&json!({})), GI, &Source::NotAsked), Ok(None));
}
