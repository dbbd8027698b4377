//! The whole controller on a real store: what is written, what is seen of it, and in which order things go.

use holdfast_api::snapshot::{
    member_names,
    names::{CLAIM_AS_SOURCE, GROUP_BEING_DELETED, GROUP_BOUND, GROUP_CONTENT_BOUND},
};
use serde_json::{Value, json};

use super::{
    super::decide::{Action, decide as decide_snapshot},
    apply::apply,
    decide::decide,
};
use crate::{
    controllers::{
        cluster::Cluster,
        engine::{Io, Outcome},
        view::{GROUPS, SNAPSHOTS, content_key, fixture::*, group_content_key},
    },
    store::{Key, Next},
};

fn of_group() -> Key {
    Key::new(GROUPS, SPACE, "g")
}

fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn objects(more: impl IntoIterator<Item = Made>) -> Vec<Made> {
    let of = |name: &str, volume_name: &str| {
        let (claim, volume) = bound(name, volume_name);
        [claim.label("app", "db"), volume]
    };
    let ground = [group_class("quick"), driver(true)];
    ground.into_iter().chain(of("a", "v")).chain(of("b", "w")).chain(more).collect()
}

/// What the sidecar does when the driver has answered.
async fn answer(cluster: &Cluster, content: &Key, ready: bool) {
    let info = |volume: &str| {
        json!({
            "volumeHandle": format!("h-{volume}"), "snapshotHandle": format!("x-{volume}"), "readyToUse": true,
            "creationTime": 1_700_000_000_000_000_000_i64, "restoreSize": 1 << 30,
        })
    };
    let status = json!({
        "volumeGroupSnapshotHandle": "gx", "creationTime": "2023-11-14T22:13:20Z", "readyToUse": ready,
        "volumeSnapshotInfoList": [info("v"), info("w")],
    });
    cluster.edit(content, |body| body["status"] = status.clone()).await;
}

struct Members {
    snapshots: [Key; 2],
    contents: [Key; 2],
}

impl Members {
    fn new() -> Self {
        let names = ["h-v", "h-w"].map(|handle| member_names("uid-g", handle));
        let snapshots = names.each_ref().map(|[name, _]| Key::new(SNAPSHOTS, SPACE, name));
        Self { snapshots, contents: names.each_ref().map(|[_, name]| content_key(name)) }
    }

    fn ready(&self, cluster: &Cluster) -> [Value; 2] {
        self.snapshots
            .each_ref()
            .map(|key| cluster.get(key).unwrap_or_default()["status"]["readyToUse"].clone())
    }
}

#[tokio::test]
async fn a_group_from_wish_to_nothing() {
    let mut cluster = Cluster::started(&objects([group("g")])).await;
    let (content, members) = (group_content_key("groupsnapcontent-uid-g"), Members::new());
    cluster.until("a content is made", |cluster| cluster.get(&content).is_some()).await;
    let status = |cluster: &Cluster| cluster.get(&of_group()).unwrap_or_default()["status"].clone();
    assert_eq!(status(&cluster)["boundVolumeGroupSnapshotContentName"], "groupsnapcontent-uid-g");
    assert_eq!(finalizers(&cluster.get(&of_group()).unwrap()), [GROUP_BOUND]);
    assert_eq!(finalizers(&cluster.get(&content).unwrap()), [GROUP_CONTENT_BOUND]);
    let is_held = |cluster: &Cluster, name: &str| {
        finalizers(&cluster.get(&of_claim(name)).unwrap()).contains(&CLAIM_AS_SOURCE)
    };
    assert!(is_held(&cluster, "a") && is_held(&cluster, "b"));

    answer(&cluster, &content, false).await;
    cluster.until("it is cut", |cluster| !status(cluster)["creationTime"].is_null()).await;
    assert_eq!(members.ready(&cluster), [json!(false), json!(false)], "all are there, and none is ready");
    assert!(is_held(&cluster, "a") && is_held(&cluster, "b"), "not ready yet");
    for (snapshot, content) in members.snapshots.iter().zip(&members.contents) {
        let (snapshot, content) = (cluster.get(snapshot).unwrap(), cluster.get(content).unwrap());
        assert_eq!(content["spec"]["volumeSnapshotRef"]["uid"], snapshot["metadata"]["uid"]);
        assert_eq!(snapshot["status"]["boundVolumeSnapshotContentName"], content["metadata"]["name"]);
        assert_eq!(snapshot["metadata"]["ownerReferences"][0]["uid"], "uid-g");
    }
    answer(&cluster, &content, true).await;
    cluster.until("it is ready", |cluster| status(cluster)["readyToUse"] == true).await;
    assert_eq!(members.ready(&cluster), [json!(true), json!(true)], "ready with its group");
    cluster.until("the claims are free", |cluster| !is_held(cluster, "a") && !is_held(cluster, "b")).await;

    // One alone does not go.
    let uid = cluster.get(&members.snapshots[0]).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    cluster.delete(&members.snapshots[0]).await;
    cluster.until_told(&uid, "SnapshotDeletePending").await;
    assert!(cluster.get(&members.contents[0]).unwrap()["metadata"]["deletionTimestamp"].is_null());

    cluster.delete(&of_group()).await;
    cluster
        .until("the content is to be deleted", |cluster| {
            let body = cluster.get(&content).unwrap();
            body["metadata"]["annotations"][GROUP_BEING_DELETED] == "yes"
                && !body["metadata"]["deletionTimestamp"].is_null()
        })
        .await;
    assert!(cluster.get(&of_group()).is_some(), "it stays until the content is gone");
    for (snapshot, content) in members.snapshots.iter().zip(&members.contents) {
        assert!(!cluster.get(snapshot).unwrap()["metadata"]["deletionTimestamp"].is_null());
        assert!(
            cluster.get(content).unwrap()["metadata"]["deletionTimestamp"].is_null(),
            "told of until then"
        );
    }
    cluster.edit(&content, |body| body["metadata"]["finalizers"] = json!([])).await;
    cluster.until("it goes", |cluster| cluster.get(&of_group()).is_none()).await;
    for (snapshot, content) in members.snapshots.iter().zip(&members.contents) {
        cluster
            .until("the snapshot's content is to be deleted", |cluster| {
                !cluster.get(content).unwrap_or_default()["metadata"]["deletionTimestamp"].is_null()
            })
            .await;
        cluster.edit(content, |body| body["metadata"]["finalizers"] = json!([])).await;
        cluster.until("the snapshot goes", |cluster| cluster.get(snapshot).is_none()).await;
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_group_waits_for_its_claims_and_says_so() {
    let mut cluster = Cluster::started(&[group("g"), group_class("quick"), driver(true)]).await;
    let said = |cluster: &Cluster| {
        let status = cluster.get(&of_group()).unwrap_or_default()["status"].clone();
        status["error"]["message"].as_str().unwrap_or_default().to_owned()
    };
    cluster
        .until("it says that nothing is selected", |cluster| said(cluster).contains("selects no PVC"))
        .await;
    cluster.create(&[claim("a").label("app", "db")]).await;
    cluster
        .until("it says which claim is not bound", |cluster| said(cluster).contains("the PVC a is not yet"))
        .await;
    cluster.create(&[volume("v").kept_for("a", "uid-a")]).await;
    let content = group_content_key("groupsnapcontent-uid-g");
    cluster.until("a content is made", |cluster| cluster.get(&content).is_some()).await;
    cluster.until("what was wrong is told no more", |cluster| said(cluster).is_empty()).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_retained_group_stays_without_its_objects() {
    let mut cluster = Cluster::started(&objects([group("g")])).await;
    let (content, members) = (group_content_key("groupsnapcontent-uid-g"), Members::new());
    cluster.until("a content is made", |cluster| cluster.get(&content).is_some()).await;
    cluster.edit(&content, |body| body["spec"]["deletionPolicy"] = json!("Retain")).await;
    answer(&cluster, &content, true).await;
    cluster.until("it is ready", |cluster| members.ready(cluster) == [json!(true), json!(true)]).await;
    cluster.delete(&of_group()).await;
    cluster.until("it goes", |cluster| cluster.get(&of_group()).is_none()).await;
    for snapshot in &members.snapshots {
        cluster.until("its snapshots go", |cluster| cluster.get(snapshot).is_none()).await;
    }
    for key in members.contents.iter().chain([&content]) {
        assert!(
            cluster.get(key).unwrap()["metadata"]["deletionTimestamp"].is_null(),
            "the policy keeps {key}"
        );
    }
    cluster.stop().await;
}

/// Does what is to be done for the group, and looks at these keys after every single write of it: what
/// is decided then rests on what is no more, or is nothing.
async fn step(cluster: &Cluster, io: &Io, keys: &[Key]) {
    let (mut view, revision) = (cluster.view(), cluster.store.revision());
    let action = decide(&view, &of_group()).unwrap();
    let mut watch = cluster.store.watch(&[], revision).unwrap();
    assert_eq!(apply(io, action).await, Outcome::Wrote);
    let last = cluster.store.revision();
    while view.revision < last {
        let Ok(Next::Change(change)) = watch.next().await else { continue };
        view.apply(change.kind, change.revision, &change.object);
        for key in keys {
            let Some(action) = decide_snapshot(&view, key) else { continue };
            let seen =
                [view.snapshots.at(key).map(|it| it.revision), view.claims.at(key).map(|it| it.revision)];
            let now = cluster.store.get(key).map(|object| object.revision);
            let is_void = matches!(action, Action::Wait { .. }) || !seen.contains(&now);
            assert!(is_void, "after revision {} of {last}: {action:?}", change.revision);
        }
    }
}

#[tokio::test]
async fn what_is_seen_between_two_writes_misleads_nobody() {
    let cluster = Cluster::new(&objects([group("g")])).await;
    let (io, feeding) = cluster.io().await;
    let (content, members) = (group_content_key("groupsnapcontent-uid-g"), Members::new());
    let held: Vec<Key> = members.snapshots.iter().cloned().chain([of_claim("a"), of_claim("b")]).collect();
    step(&cluster, &io, &held).await;
    answer(&cluster, &content, false).await;
    step(&cluster, &io, &held).await;
    answer(&cluster, &content, true).await;
    step(&cluster, &io, &members.snapshots).await;
    assert_eq!(members.ready(&cluster), [json!(true), json!(true)]);
    feeding.abort();
}
