//! The whole controller on a real store: what is written, and in which order things go.

use holdfast_api::snapshot::names::{BEING_DELETED, CLAIM_AS_SOURCE, CONTENT_BOUND};
use serde_json::{Value, json};

use crate::{
    controllers::{
        cluster::Cluster,
        view::{SNAPSHOTS, content_key, fixture::*},
    },
    store::Key,
};

fn of_snapshot() -> Key {
    Key::new(SNAPSHOTS, SPACE, "s")
}

fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What the sidecar does when the driver has answered.
async fn answer(cluster: &Cluster, content: &Key, ready: bool) {
    let status = json!({
        "snapshotHandle": "x", "creationTime": 1_700_000_000_000_000_000_i64, "restoreSize": 1 << 30,
        "readyToUse": ready,
    });
    cluster.edit(content, |body| body["status"] = status.clone()).await;
}

#[tokio::test]
async fn a_snapshot_from_wish_to_nothing() {
    let (a, v) = bound("a", "v");
    let objects = [a, v, snapshot_class("quick"), driver(true), snapshot("s", "a")];
    let mut cluster = Cluster::started(&objects).await;
    let content = content_key("snapcontent-uid-s");
    cluster.until("a content is made", |cluster| cluster.get(&content).is_some()).await;
    let made = cluster.get(&of_snapshot()).unwrap();
    assert_eq!(made["status"]["boundVolumeSnapshotContentName"], "snapcontent-uid-s");
    assert!(finalizers(&cluster.get(&of_claim("a")).unwrap()).contains(&CLAIM_AS_SOURCE));
    assert_eq!(finalizers(&cluster.get(&content).unwrap()), [CONTENT_BOUND]);

    answer(&cluster, &content, false).await;
    let status = |cluster: &Cluster| cluster.get(&of_snapshot()).unwrap_or_default()["status"].clone();
    cluster.until("the size is told", |cluster| status(cluster)["restoreSize"] == "1Gi").await;
    assert!(finalizers(&cluster.get(&of_claim("a")).unwrap()).contains(&CLAIM_AS_SOURCE), "not ready yet");
    answer(&cluster, &content, true).await;
    cluster.until("it is ready", |cluster| status(cluster)["readyToUse"] == true).await;
    cluster
        .until("the claim is free", |cluster| {
            !finalizers(&cluster.get(&of_claim("a")).unwrap()).contains(&CLAIM_AS_SOURCE)
        })
        .await;

    cluster.delete(&of_snapshot()).await;
    cluster
        .until("the content is to be deleted", |cluster| {
            let body = cluster.get(&content).unwrap();
            body["metadata"]["annotations"][BEING_DELETED] == "yes"
                && !body["metadata"]["deletionTimestamp"].is_null()
        })
        .await;
    assert!(cluster.get(&of_snapshot()).is_some(), "it stays until the content is gone");
    cluster.edit(&content, |body| body["metadata"]["finalizers"] = json!([])).await;
    cluster.until("it goes", |cluster| cluster.get(&of_snapshot()).is_none()).await;
    assert!(cluster.get(&content).is_none());
    cluster.stop().await;
}

#[tokio::test]
async fn a_content_that_was_there_is_bound_and_stays() {
    let given = content("s", "v")
        .set("metadata.name", "given")
        .set("spec.source", json!({"snapshotHandle": "x"}))
        .set("spec.deletionPolicy", "Retain")
        .set("spec.volumeSnapshotRef", json!({"namespace": SPACE, "name": "s"}));
    let wish = snapshot("s", "a").set("spec.source", json!({"volumeSnapshotContentName": "given"}));
    let mut cluster = Cluster::started(&[given, wish, driver(true)]).await;
    let content = content_key("given");
    cluster
        .until("it is bound", |cluster| {
            cluster.get(&content).unwrap()["spec"]["volumeSnapshotRef"]["uid"] == "uid-s"
        })
        .await;
    answer(&cluster, &content, true).await;
    cluster
        .until("it is ready", |cluster| cluster.get(&of_snapshot()).unwrap()["status"]["readyToUse"] == true)
        .await;
    cluster.delete(&of_snapshot()).await;
    cluster.until("it goes", |cluster| cluster.get(&of_snapshot()).is_none()).await;
    let body = cluster.get(&content).unwrap();
    assert!(body["metadata"]["deletionTimestamp"].is_null(), "the policy keeps it");
    assert_eq!(body["metadata"]["annotations"][BEING_DELETED], "yes");
    cluster.stop().await;
}
