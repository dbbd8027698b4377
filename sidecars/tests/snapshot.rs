//! From content to snapshot and back, through every place where things go wrong in between.

#![allow(clippy::expect_used, clippy::panic, reason = "a test stops at the first thing that is wrong")]

mod bench;

use std::{collections::BTreeSet, sync::Arc};

use bench::{Bench, DRIVER, driver::Fault, until};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tonic::Code;

const CONTENTS: &str = "volumesnapshotcontents";
const HELD: &str = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
const INTENT: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-created";
const NAME: &str = "snapcontent-s";

/// What the snapshot controller makes for snapshot `s` of class `quick`.
fn put_content(bench: &Bench, changes: &Value) {
    let mut content = json!({
        "metadata": {"name": NAME, "uid": "c", "finalizers": [HELD]},
        "spec": {
            "driver": DRIVER, "deletionPolicy": "Delete", "volumeSnapshotClassName": "quick",
            "source": {"volumeHandle": "h"},
            "volumeSnapshotRef": {"namespace": "dev", "name": "monday", "uid": "s"},
        },
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        content["spec"][key] = value.clone();
    }
    bench.api.put(CONTENTS, "", content);
}

fn put_class(bench: &Bench) {
    let class = json!({"metadata": {"name": "quick"}, "driver": DRIVER, "deletionPolicy": "Delete"});
    bench.api.put("volumesnapshotclasses", "", class);
}

/// What the snapshot controller does when the snapshot object is deleted.
fn delete(bench: &Bench) {
    let annotation = json!({"snapshot.storage.kubernetes.io/volumesnapshot-being-deleted": "yes"});
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

async fn gone(bench: &Bench) {
    until("the content is gone", || content(bench).is_null()).await;
    assert_eq!(bench.driver.snapshots(), Vec::<String>::new(), "nothing is left");
}

#[tokio::test]
async fn a_content_gets_its_snapshot_with_few_writes_and_gives_it_back() {
    let mut bench = Bench::new().await;
    put_class(&bench);
    put_content(&bench, &json!({}));
    bench.start();
    until("the snapshot is ready", || is_ready(&bench)).await;
    until("the intent is taken away", || !is_intended(&bench)).await;
    let status = content(&bench)["status"].clone();
    assert_eq!(
        status,
        json!({
            "snapshotHandle": "id-snapshot-s", "readyToUse": true, "restoreSize": 1 << 30,
            "creationTime": 1_700_000_000_000_000_005_i64,
        })
    );
    assert_eq!(bench.driver.count("CreateSnapshot"), 1);
    assert_eq!(bench.api.writes(&format!("PATCH {CONTENTS}")), 2, "the intent, on and off");
    assert_eq!(bench.api.writes(&format!("PATCH {CONTENTS}/status")), 1);
    delete(&bench);
    gone(&bench).await;
    assert_eq!(bench.driver.count("DeleteSnapshot"), 1);
    bench.stop().await;
}

/// The ways in which a call can be lost; whatever the way, there is one snapshot, and it goes.
#[tokio::test]
async fn a_call_without_an_answer_is_repeated_and_leaves_nothing() {
    for fault in [
        Fault::DoneBut(Code::DeadlineExceeded, "slow"),
        Fault::DoneBut(Code::Unavailable, "lost"),
        Fault::Answer(Code::Aborted, "another is under way"),
    ] {
        let mut bench = Bench::new().await;
        put_class(&bench);
        put_content(&bench, &json!({}));
        bench.driver.fault("CreateSnapshot", fault);
        bench.start();
        until("the snapshot is ready", || is_ready(&bench)).await;
        assert_eq!(bench.driver.snapshots(), ["id-snapshot-s"]);
        assert!(content(&bench)["status"]["error"].is_null(), "what went wrong goes when it goes well");
        delete(&bench);
        gone(&bench).await;
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_refusal_is_told_and_says_that_nothing_is_there() {
    let mut bench = Bench::new().await;
    put_class(&bench);
    put_content(&bench, &json!({}));
    let gate = Arc::new(Semaphore::new(0));
    bench.driver.fault("CreateSnapshot", Fault::Answer(Code::Internal, "no room"));
    bench.driver.fault("CreateSnapshot", Fault::Hold(Arc::clone(&gate)));
    bench.start();
    until("the failure is told", || {
        content(&bench)["status"]["error"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("no room"))
    })
    .await;
    until("it is an event too", || bench.api.events(NAME).contains(&"SnapshotCreationFailed".to_owned()))
        .await;
    until("it is tried again", || bench.driver.count("CreateSnapshot") == 2).await;
    // Off and on again around the refusal, and on since.
    assert_eq!(bench.api.writes(&format!("PATCH {CONTENTS}")), 3);
    gate.add_permits(1);
    until("the snapshot is ready", || is_ready(&bench)).await;
    bench.stop().await;
}

/// Killed with the call under way, and the snapshot object deleted before the next start.
#[tokio::test]
async fn a_snapshot_deleted_while_it_is_taken_leaves_nothing() {
    let mut bench = Bench::new().await;
    put_class(&bench);
    put_content(&bench, &json!({}));
    let gate = Arc::new(Semaphore::new(0));
    bench.driver.fault("CreateSnapshot", Fault::DoneThenHold(Arc::clone(&gate)));
    bench.start();
    until("the snapshot is taken", || bench.driver.snapshots().len() == 1).await;
    bench.kill().await;
    assert!(is_intended(&bench), "the intent says what may be there");
    delete(&bench);
    assert!(!content(&bench).is_null(), "the finalizer keeps the content");
    bench.start();
    gone(&bench).await;
    assert_eq!(bench.driver.count("CreateSnapshot"), 2, "the same call again gave the id");
    bench.stop().await;
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_keeps_the_content() {
    let mut bench = Bench::new().await;
    put_class(&bench);
    put_content(&bench, &json!({}));
    bench.driver.fault("CreateSnapshot", Fault::DoneBut(Code::DeadlineExceeded, "slow"));
    bench.driver.fault("CreateSnapshot", Fault::Answer(Code::Internal, "broken"));
    let gate = Arc::new(Semaphore::new(0));
    bench.driver.fault("CreateSnapshot", Fault::Hold(Arc::clone(&gate)));
    bench.start();
    until("it is in doubt", || {
        let error = content(&bench)["status"]["error"]["message"].clone();
        error.as_str().is_some_and(|message| message.contains("never answered"))
    })
    .await;
    delete(&bench);
    until("it is tried again", || bench.driver.count("CreateSnapshot") == 3).await;
    assert!(is_intended(&bench) && !content(&bench).is_null());
    gate.add_permits(1);
    gone(&bench).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_snapshot_that_takes_its_time_is_asked_about_until_it_is_ready() {
    let mut bench = Bench::new().await;
    put_class(&bench);
    put_content(&bench, &json!({}));
    bench.driver.slow_snapshots(3);
    bench.start();
    until("the snapshot is cut", || content(&bench)["status"]["snapshotHandle"] == "id-snapshot-s").await;
    until("the snapshot is ready", || is_ready(&bench)).await;
    assert_eq!(bench.driver.count("CreateSnapshot"), 4);
    assert_eq!(bench.api.writes(&format!("PATCH {CONTENTS}")), 2, "its id is known: no intent any more");
    bench.stop().await;
}

#[tokio::test]
async fn a_deletion_that_fails_is_told_and_repeated() {
    let mut bench = Bench::new().await;
    put_class(&bench);
    put_content(&bench, &json!({}));
    bench.start();
    until("the snapshot is ready", || is_ready(&bench)).await;
    bench.driver.fault("DeleteSnapshot", Fault::Answer(Code::FailedPrecondition, "in use"));
    bench.driver.fault("DeleteSnapshot", Fault::DoneBut(Code::Unavailable, "lost"));
    delete(&bench);
    gone(&bench).await;
    assert_eq!(bench.driver.count("DeleteSnapshot"), 3);
    until("it was told", || bench.api.events(NAME).contains(&"SnapshotDeleteError".to_owned())).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_snapshot_to_be_retained_stays_when_its_content_goes() {
    let mut bench = Bench::new().await;
    put_class(&bench);
    put_content(&bench, &json!({"deletionPolicy": "Retain"}));
    bench.start();
    until("the snapshot is ready", || is_ready(&bench)).await;
    // Deleted by hand while its snapshot object is there: it stays.
    bench.api.remove(CONTENTS, "", NAME);
    delete(&bench);
    until("the content is gone", || content(&bench).is_null()).await;
    assert_eq!(bench.driver.snapshots(), ["id-snapshot-s"]);
    assert_eq!(bench.driver.count("DeleteSnapshot"), 0);
    bench.stop().await;
}

#[tokio::test]
async fn a_snapshot_that_was_there_is_asked_for() {
    let given = json!({"source": {"snapshotHandle": "given"}, "volumeSnapshotClassName": null});
    for (lists, calls) in [(true, 1), (false, 0)] {
        let mut bench = Bench::new().await;
        bench.driver.put_snapshot("other");
        bench.driver.put_snapshot("given");
        if lists {
            bench.driver.with_lists_of_snapshots();
        }
        put_content(&bench, &given);
        bench.start();
        until("the snapshot is ready", || is_ready(&bench)).await;
        assert_eq!(content(&bench)["status"]["snapshotHandle"], "given");
        assert_eq!(bench.driver.count("ListSnapshots"), calls);
        assert_eq!(bench.driver.count("CreateSnapshot"), 0);
        delete(&bench);
        until("the content is gone", || content(&bench).is_null()).await;
        assert_eq!(bench.driver.snapshots(), ["other"]);
        bench.stop().await;
    }
}

#[tokio::test]
async fn a_snapshot_that_is_not_there_is_not_called_ready() {
    let mut bench = Bench::new().await;
    bench.driver.with_lists_of_snapshots();
    bench.driver.put_snapshot("other");
    put_content(&bench, &json!({"source": {"snapshotHandle": "given"}, "volumeSnapshotClassName": null}));
    bench.start();
    until("it is told", || {
        content(&bench)["status"]["error"]["message"]
            .as_str()
            .is_some_and(|message| message.contains("\"given\""))
    })
    .await;
    assert!(!is_ready(&bench));
    bench.driver.put_snapshot("given");
    until("the snapshot is ready", || is_ready(&bench)).await;
    assert!(content(&bench)["status"]["error"].is_null());
    bench.stop().await;
}

#[tokio::test]
async fn contents_of_other_drivers_are_left_alone() {
    let mut bench = Bench::new().await;
    put_class(&bench);
    put_content(&bench, &json!({"driver": "other.example.com"}));
    let mut ours = content(&bench);
    ours["metadata"] = json!({"name": "ours", "uid": "o", "finalizers": [HELD]});
    ours["spec"]["driver"] = json!(DRIVER);
    bench.api.put(CONTENTS, "", ours);
    bench.start();
    until("ours is ready", || bench.api.get(CONTENTS, "", "ours")["status"]["readyToUse"] == true).await;
    assert!(content(&bench)["status"].is_null());
    let told: BTreeSet<String> = bench.api.events(NAME).into_iter().collect();
    assert_eq!(told, BTreeSet::new());
    bench.stop().await;
}
