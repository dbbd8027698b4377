//! From a group's content to its snapshots and back, through every place where things go wrong in between.

#![allow(clippy::expect_used, clippy::panic, reason = "a test stops at the first thing that is wrong")]

mod bench;

use std::sync::Arc;

use bench::{Bench, DRIVER, driver::Fault, until};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tonic::Code;

const CONTENTS: &str = "volumegroupsnapshotcontents";
const HELD: &str = "groupsnapshot.storage.kubernetes.io/volumegroupsnapshotcontent-bound-protection";
const INTENT: &str = "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-created";
const NAME: &str = "groupsnapcontent-s";

/// What the snapshot controller makes for group snapshot `s` of class `quick`.
fn put_content(bench: &Bench, changes: &Value) {
    let mut content = json!({
        "metadata": {"name": NAME, "uid": "c", "finalizers": [HELD]},
        "spec": {
            "driver": DRIVER, "deletionPolicy": "Delete", "volumeGroupSnapshotClassName": "quick",
            "source": {"volumeHandles": ["h", "i"]},
            "volumeGroupSnapshotRef": {"namespace": "dev", "name": "monday", "uid": "s"},
        },
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        content["spec"][key] = value.clone();
    }
    bench.api.put(CONTENTS, "", content);
}

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.driver.with_groups();
    let class = json!({"metadata": {"name": "quick"}, "driver": DRIVER, "deletionPolicy": "Delete"});
    bench.api.put("volumegroupsnapshotclasses", "", class);
    bench
}

/// What the snapshot controller does when the group snapshot object is deleted.
fn delete(bench: &Bench) {
    let annotation = json!({"groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-deleted": "yes"});
    bench.api.change(CONTENTS, "", NAME, &json!({"metadata": {"annotations": annotation}}));
    bench.api.remove(CONTENTS, "", NAME);
}

fn content(bench: &Bench) -> Value {
    bench.api.get(CONTENTS, "", NAME)
}

fn is_ready(bench: &Bench) -> bool {
    content(bench)["status"]["readyToUse"] == true
}

fn is_intended(bench: &Bench) -> bool {
    !content(bench)["metadata"]["annotations"][INTENT].is_null()
}

fn error(bench: &Bench) -> String {
    content(bench)["status"]["error"]["message"].as_str().unwrap_or_default().to_owned()
}

async fn gone(bench: &Bench) {
    until("the content is gone", || content(bench).is_null()).await;
    assert_eq!(bench.driver.groups(), Vec::<String>::new(), "nothing is left");
}

#[tokio::test]
async fn a_content_gets_its_group_with_few_writes_and_gives_it_back() {
    let mut bench = bench().await;
    put_content(&bench, &json!({}));
    bench.start();
    until("the group is ready", || is_ready(&bench)).await;
    until("the intent is taken away", || !is_intended(&bench)).await;
    let info = |volume: &str| {
        json!({
            "volumeHandle": volume, "snapshotHandle": format!("id-groupsnapshot-s-{volume}"), "readyToUse": true,
            "restoreSize": 1 << 30, "creationTime": 1_700_000_000_000_000_005_i64,
        })
    };
    assert_eq!(
        content(&bench)["status"],
        json!({
            "volumeGroupSnapshotHandle": "id-groupsnapshot-s", "readyToUse": true,
            "creationTime": "2023-11-14T22:13:20Z", "volumeSnapshotInfoList": [info("h"), info("i")],
        })
    );
    assert_eq!(bench.driver.count("CreateVolumeGroupSnapshot"), 1);
    assert_eq!(bench.api.writes(&format!("PATCH {CONTENTS}")), 2, "the intent, on and off");
    assert_eq!(bench.api.writes(&format!("PATCH {CONTENTS}/status")), 1);
    delete(&bench);
    gone(&bench).await;
    assert_eq!(bench.driver.count("DeleteVolumeGroupSnapshot"), 1);
    bench.stop().await;
}

/// The ways in which a call can be lost; whatever the way, there is one group, and it goes.
#[tokio::test]
async fn a_call_without_an_answer_is_repeated_and_leaves_nothing() {
    for fault in [
        Fault::DoneBut(Code::DeadlineExceeded, "slow"),
        Fault::DoneBut(Code::Unavailable, "lost"),
        Fault::Answer(Code::Aborted, "another is under way"),
    ] {
        let mut bench = bench().await;
        put_content(&bench, &json!({}));
        bench.driver.fault("CreateVolumeGroupSnapshot", fault);
        bench.driver.fault("DeleteVolumeGroupSnapshot", Fault::DoneBut(Code::Unavailable, "lost"));
        bench.start();
        until("the group is ready", || is_ready(&bench)).await;
        assert_eq!(bench.driver.groups(), ["id-groupsnapshot-s"]);
        assert!(error(&bench).is_empty(), "what went wrong goes when it goes well");
        delete(&bench);
        gone(&bench).await;
        assert_eq!(bench.driver.count("DeleteVolumeGroupSnapshot"), 2);
        until("it was told", || bench.api.events(NAME).contains(&"GroupSnapshotDeleteError".to_owned()))
            .await;
        bench.stop().await;
    }
}

/// Killed with the call under way, and the group snapshot object deleted before the next start.
#[tokio::test]
async fn a_group_deleted_while_it_is_taken_leaves_nothing() {
    let mut bench = bench().await;
    put_content(&bench, &json!({}));
    let gate = Arc::new(Semaphore::new(0));
    bench.driver.fault("CreateVolumeGroupSnapshot", Fault::DoneThenHold(Arc::clone(&gate)));
    bench.start();
    until("the group is taken", || bench.driver.groups().len() == 1).await;
    bench.kill().await;
    assert!(is_intended(&bench), "the intent says what may be there");
    delete(&bench);
    assert!(!content(&bench).is_null(), "the finalizer keeps the content");
    bench.start();
    gone(&bench).await;
    assert_eq!(bench.driver.count("CreateVolumeGroupSnapshot"), 2, "the same call again gave the id");
    bench.stop().await;
}

#[tokio::test]
async fn a_group_that_takes_its_time_is_asked_about_until_it_is_ready() {
    let mut bench = bench().await;
    put_content(&bench, &json!({}));
    bench.driver.slow_snapshots(3);
    bench.start();
    until("the group is cut", || content(&bench)["status"]["volumeGroupSnapshotHandle"].is_string()).await;
    until("the group is ready", || is_ready(&bench)).await;
    assert_eq!(bench.driver.count("CreateVolumeGroupSnapshot"), 1, "never a second time");
    assert_eq!(bench.driver.count("GetVolumeGroupSnapshot"), 3);
    bench.stop().await;
}

#[tokio::test]
async fn a_group_that_was_there_is_asked_for() {
    let mut bench = bench().await;
    let handles = json!({"volumeGroupSnapshotHandle": "id-given", "volumeSnapshotHandles": ["id-given-h"]});
    let source = json!({"groupSnapshotHandles": handles});
    put_content(&bench, &json!({"source": source, "volumeGroupSnapshotClassName": null}));
    bench.start();
    until("it is told that it is not there", || error(&bench).contains("\"id-given\"")).await;
    assert!(!is_ready(&bench));
    bench.driver.put_group("given");
    until("the group is ready", || is_ready(&bench)).await;
    assert!(error(&bench).is_empty());
    assert_eq!(bench.driver.count("CreateVolumeGroupSnapshot"), 0);
    delete(&bench);
    gone(&bench).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_driver_without_groups_is_told_of() {
    let mut bench = Bench::new().await;
    put_content(&bench, &json!({}));
    bench.start();
    until("it is told", || error(&bench).contains("CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT")).await;
    until("it is an event too", || {
        bench.api.events(NAME).contains(&"GroupSnapshotCreationFailed".to_owned())
    })
    .await;
    assert!(!is_intended(&bench));
    delete(&bench);
    until("the content is gone", || content(&bench).is_null()).await;
    bench.stop().await;
}

/// A member's content is written by the snapshot controller alone: nothing is ever asked for it.
#[tokio::test]
async fn a_snapshot_of_a_group_is_neither_taken_nor_deleted_alone() {
    let mut bench = bench().await;
    let kept = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
    let member = json!({
        "metadata": {
            "name": "snapcontent-m", "uid": "m", "finalizers": [kept],
            "annotations": {"groupsnapshot.storage.k8s.io/volumeGroupSnapshotHandle": "g"},
        },
        "spec": {
            "driver": DRIVER, "deletionPolicy": "Delete", "source": {"volumeHandle": "h"},
            "volumeSnapshotRef": {"namespace": "dev", "name": "m", "uid": "x"},
        },
    });
    bench.api.put("volumesnapshotcontents", "", member);
    bench.start();
    put_content(&bench, &json!({}));
    until("the group is ready", || is_ready(&bench)).await;
    assert_eq!(bench.driver.count("CreateSnapshot"), 0);
    let annotation = json!({"snapshot.storage.kubernetes.io/volumesnapshot-being-deleted": "yes"});
    bench.api.change(
        "volumesnapshotcontents",
        "",
        "snapcontent-m",
        &json!({"metadata": {"annotations": annotation}}),
    );
    bench.api.remove("volumesnapshotcontents", "", "snapcontent-m");
    until("the member's content is gone", || {
        bench.api.get("volumesnapshotcontents", "", "snapcontent-m").is_null()
    })
    .await;
    assert_eq!(bench.driver.count("DeleteSnapshot"), 0);
    assert_eq!(bench.driver.groups(), ["id-groupsnapshot-s"], "the group is as it was");
    bench.stop().await;
}
