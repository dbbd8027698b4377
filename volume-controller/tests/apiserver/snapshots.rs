//! The snapshot kinds: with kubectl as people use them, and as upstream's controllers do.

use futures::StreamExt;
use holdfast_api::snapshot::{group::VolumeGroupSnapshot, volume::VolumeSnapshot};
use http::Method;
use http_body_util::BodyExt;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::client::Body;
use serde_json::{Value, json};

use super::harness::Cluster;
use super::kubectl::with_each;

const SNAPSHOTS: &str = "/apis/snapshot.storage.k8s.io/v1/namespaces/default/volumesnapshots";
const CONTENTS: &str = "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents";
const GROUPS: &str = "/apis/groupsnapshot.storage.k8s.io/v1/namespaces/default/volumegroupsnapshots";
const GROUPS_BETA: &str =
    "/apis/groupsnapshot.storage.k8s.io/v1beta2/namespaces/default/volumegroupsnapshots";

const MANIFEST: &str = "
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshotClass
metadata:
  name: quick
driver: csi.holdfast.dev
deletionPolicy: Delete
---
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshot
metadata:
  name: monday
spec:
  volumeSnapshotClassName: quick
  source:
    persistentVolumeClaimName: data
---
apiVersion: groupsnapshot.storage.k8s.io/v1beta2
kind: VolumeGroupSnapshot
metadata:
  name: all
spec:
  source:
    selector:
      matchLabels:
        app: db
";

#[tokio::test]
async fn kubectl_knows_them() {
    with_each(async |kubectl| {
        let created = kubectl.ok(&["apply", "-f", "-"], MANIFEST).await;
        assert_eq!(created.matches("created").count(), 3, "{created}");
        let again = kubectl.ok(&["apply", "-f", "-"], MANIFEST).await;
        assert_eq!(again.matches("unchanged").count(), 3, "{again}");
        let changed = MANIFEST.replace("volumeSnapshotClassName: quick", "volumeSnapshotClassName: slow");
        let applied = kubectl.ok(&["apply", "-f", "-"], &changed).await;
        assert!(applied.contains("monday configured"), "{applied}");
        let moved = MANIFEST.replace("ClaimName: data", "ClaimName: other");
        let error = kubectl.fails(&["apply", "-f", "-"], &moved).await;
        assert!(error.contains("persistentVolumeClaimName is immutable"), "{error}");

        let status = json!({"status": {"readyToUse": true, "restoreSize": "1Gi", "boundVolumeSnapshotContentName": "c"}});
        kubectl.cluster.merge(&format!("{SNAPSHOTS}/monday/status"), &status).await.expect(200);
        let table = kubectl.ok(&["get", "vs"], "").await;
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows[0],
            [
                "NAME",
                "READYTOUSE",
                "SOURCEPVC",
                "SOURCESNAPSHOTCONTENT",
                "RESTORESIZE",
                "SNAPSHOTCLASS",
                "SNAPSHOTCONTENT",
                "CREATIONTIME",
                "AGE"
            ]
        );
        assert_eq!(rows[1][..6], ["monday", "true", "data", "1Gi", "slow", "c"], "{table}");
        for (short, name) in [("vsclass", "quick"), ("vgs", "all")] {
            assert!(kubectl.ok(&["get", short], "").await.contains(name), "{short}");
        }
        let beta = "volumegroupsnapshots.v1beta2.groupsnapshot.storage.k8s.io";
        let group = kubectl.ok(&["get", beta, "all", "-o", "jsonpath={.apiVersion}"], "").await;
        assert_eq!(group, "groupsnapshot.storage.k8s.io/v1beta2");
        let explained = kubectl.ok(&["explain", "volumesnapshot.spec.source"], "").await;
        assert!(explained.contains("persistentVolumeClaimName"), "{explained}");
        let explained = kubectl.ok(&["explain", "volumesnapshotcontents.spec"], "").await;
        assert!(explained.contains("-required-"), "{explained}");
        kubectl.ok(&["annotate", "vs", "monday", "a=b"], "").await;
        kubectl.ok(&["label", "vgs", "all", "a=b"], "").await;
        let mut forced = vec!["apply", "--server-side", "--force-conflicts", "-f", "-"];
        assert_eq!(kubectl.ok(&forced, MANIFEST).await.matches("serverside-applied").count(), 3);
        forced.retain(|argument| *argument != "--force-conflicts");
        assert_eq!(kubectl.ok(&forced, MANIFEST).await.matches("serverside-applied").count(), 3);
        kubectl.ok(&["delete", "vs", "monday"], "").await;
        kubectl.ok(&["delete", beta, "all"], "").await;
    })
    .await;
}

/// What snapshot-controller and csi-snapshotter send, in its order.
#[tokio::test]
async fn the_life_of_a_snapshot() {
    let cluster = Cluster::start().await;
    let snapshot = json!({
        "kind": "VolumeSnapshot", "apiVersion": "snapshot.storage.k8s.io/v1",
        "metadata": {"name": "a", "creationTimestamp": null},
        "spec": {"source": {"persistentVolumeClaimName": "data"}},
        "status": {"readyToUse": true},
    });
    let made = cluster.post(SNAPSHOTS, &snapshot).await.expect(201);
    assert_eq!((&made["status"], &made["metadata"]["generation"]), (&Value::Null, &json!(1)));
    let content = json!({
        "metadata": {"name": "snapcontent-1", "creationTimestamp": null},
        "spec": {
            "volumeSnapshotRef": {
                "kind": "VolumeSnapshot", "namespace": "default", "name": "a", "uid": made["metadata"]["uid"],
                "apiVersion": "snapshot.storage.k8s.io/v1", "resourceVersion": made["metadata"]["resourceVersion"],
            },
            "deletionPolicy": "Delete", "driver": "csi.holdfast.dev", "source": {"volumeHandle": "v"},
            "sourceVolumeMode": "Filesystem",
        },
    });
    let content = cluster.post(CONTENTS, &content).await.expect(201);
    let patch = |path: String, patch: Value| {
        let cluster = &cluster;
        async move {
            let media = [("content-type", "application/json-patch+json")];
            cluster.raw(Method::PATCH, &path, &media, patch.to_string()).await
        }
    };
    let mut bound = content.clone();
    bound["status"] = json!({"snapshotHandle": "s", "creationTime": 1_767_225_600_000_000_000_i64, "restoreSize": 1024, "readyToUse": false});
    bound["spec"]["driver"] = json!("somebody.else");
    let one = format!("{CONTENTS}/snapcontent-1");
    let bound = cluster.put(&format!("{one}/status"), &bound).await.expect(200);
    assert_eq!(bound["spec"]["driver"], "csi.holdfast.dev");
    assert_eq!(bound["metadata"]["generation"], 1);
    let ready = json!([{"op": "replace", "path": "/status/readyToUse", "value": true}]);
    assert_eq!(patch(format!("{one}/status"), ready).await.expect(200)["status"]["readyToUse"], true);
    let hold = json!([{"op": "add", "path": "/metadata/finalizers", "value": ["snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection"]}]);
    patch(one.clone(), hold).await.expect(200);
    let policy = json!([{"op": "replace", "path": "/spec/deletionPolicy", "value": "Retain"}]);
    assert_eq!(patch(one.clone(), policy).await.expect(200)["metadata"]["generation"], 2);
    let elsewhere = json!([{"op": "replace", "path": "/spec/source/volumeHandle", "value": "w"}]);
    let refused = patch(one.clone(), elsewhere).await.refused(422, "Invalid");
    assert_eq!(
        refused,
        r#"VolumeSnapshotContent.snapshot.storage.k8s.io "snapcontent-1" is invalid: spec.source.volumeHandle: Invalid value: "string": volumeHandle is immutable"#
    );
    // As custom resources have it.
    let media = [("content-type", "application/strategic-merge-patch+json")];
    cluster.raw(Method::PATCH, &one, &media, "{}").await.refused(415, "UnsupportedMediaType");
    let both = json!({"metadata": {"name": "b"}, "spec": {"source": {"persistentVolumeClaimName": "x", "volumeSnapshotContentName": "y"}}});
    let refused = cluster.post(SNAPSHOTS, &both).await.refused(422, "Invalid");
    assert!(refused.contains("exactly one of"), "{refused}");
    cluster.stop().await;
}

#[tokio::test]
async fn versions_are_one_resource() {
    let cluster = Cluster::start().await;
    let group = |name: &str| json!({"metadata": {"name": name}, "spec": {"source": {"selector": {}}}});
    let (v1, beta) = ("groupsnapshot.storage.k8s.io/v1", "groupsnapshot.storage.k8s.io/v1beta2");
    assert_eq!(cluster.post(GROUPS_BETA, &group("a")).await.expect(201)["apiVersion"], beta);
    assert_eq!(cluster.post(GROUPS, &group("b")).await.expect(201)["apiVersion"], v1);
    cluster.post(GROUPS, &group("a")).await.refused(409, "AlreadyExists");
    for (path, version) in [(GROUPS, v1), (GROUPS_BETA, beta)] {
        let list = cluster.get(path).await.expect(200);
        let versions: Vec<&Value> =
            list["items"].as_array().unwrap().iter().map(|item| &item["apiVersion"]).collect();
        assert_eq!(versions, [version, version], "{path}");
        assert_eq!(list["apiVersion"], version);
    }
    let request = http::Request::get(format!("{GROUPS_BETA}?watch=1&resourceVersion=0"));
    let response = cluster.client.send(request.body(Body::empty()).unwrap()).await.unwrap();
    let mut events = response.into_body().into_data_stream();
    let first = tokio::time::timeout(super::harness::PATIENCE, events.next()).await.unwrap();
    let line = String::from_utf8(first.unwrap().unwrap().to_vec()).unwrap();
    let event: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert_eq!(event["object"]["apiVersion"], beta);
    let discovered = cluster.get("/apis/groupsnapshot.storage.k8s.io").await.expect(200);
    assert_eq!(discovered["preferredVersion"]["version"], "v1");
    cluster.stop().await;
}

/// As a program in Rust speaks of them.
#[tokio::test]
async fn typed() {
    let cluster = Cluster::start().await;
    let api: Api<VolumeSnapshot> = Api::default_namespaced(cluster.client.clone());
    let mut snapshot = VolumeSnapshot::default();
    snapshot.metadata.name = Some("a".to_owned());
    snapshot.spec.source.persistent_volume_claim_name = Some("data".to_owned());
    let made = api.create(&PostParams::default(), &snapshot).await.unwrap();
    assert_eq!(made.spec, snapshot.spec);
    let status = json!({"status": {"readyToUse": true, "restoreSize": "1Gi"}});
    let ready = api.patch_status("a", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    assert_eq!(ready.status.as_ref().unwrap().ready_to_use, Some(true));
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items, [ready]);
    let groups: Api<VolumeGroupSnapshot> = Api::all(cluster.client.clone());
    assert!(groups.list(&ListParams::default()).await.unwrap().items.is_empty());
    cluster.stop().await;
}
