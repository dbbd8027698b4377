//! Attaching, detaching and growing, with failures in between.

#![allow(clippy::expect_used, clippy::panic, reason = "a test stops at the first thing that is wrong")]

mod bench;

use bench::{Bench, DRIVER, driver::Fault, until};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tonic::Code;

const ATTACHMENTS: &str = "volumeattachments";
const VOLUMES: &str = "persistentvolumes";
const CLAIMS: &str = "persistentvolumeclaims";
const FINALIZER: &str = "external-attacher/d-example-com";

fn put_volume(bench: &Bench) {
    bench.api.put(
        VOLUMES,
        "",
        json!({
            "metadata": {"name": "pv", "finalizers": ["kubernetes.io/pv-protection"]},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
                "persistentVolumeReclaimPolicy": "Retain",
                "csi": {"driver": DRIVER, "volumeHandle": "h"},
                "claimRef": {"namespace": "dev", "name": "data", "uid": "u"}},
            "status": {"phase": "Bound"},
        }),
    );
}

fn put_attachment(bench: &Bench) {
    bench.api.put(
        ATTACHMENTS,
        "",
        json!({
            "metadata": {"name": "va"},
            "spec": {"attacher": DRIVER, "nodeName": "n1", "source": {"persistentVolumeName": "pv"}},
            "status": {"attached": false},
        }),
    );
}

fn put_node(bench: &Bench) {
    let drivers = json!([{"name": DRIVER, "nodeID": "id1"}]);
    bench.api.put("csinodes", "", json!({"metadata": {"name": "n1"}, "spec": {"drivers": drivers}}));
}

fn status(bench: &Bench) -> Value {
    bench.api.get(ATTACHMENTS, "", "va")["status"].clone()
}

#[tokio::test]
async fn attach_with_errors_on_the_way_and_detach() {
    let mut bench = Bench::new().await;
    put_attachment(&bench);
    bench.start();
    let error =
        |bench: &Bench| status(bench)["attachError"]["message"].as_str().unwrap_or_default().to_owned();
    until("the missing volume is named", || error(&bench).contains("\"pv\" not found")).await;
    put_volume(&bench);
    until("the missing node is named", || error(&bench).contains("not registered on node \"n1\"")).await;
    bench.driver.fault("ControllerPublishVolume", Fault::Answer(Code::Internal, "not now"));
    put_node(&bench);
    until("it is attached", || status(&bench)["attached"] == json!(true)).await;
    assert_eq!(bench.driver.count("ControllerPublishVolume"), 2);
    assert_eq!(status(&bench)["attachmentMetadata"], json!({"device": "x"}));
    assert!(status(&bench)["attachError"].is_null());
    assert_eq!(bench.driver.published(), [("h".to_owned(), "id1".to_owned())]);
    assert!(bench.api.has_finalizer(ATTACHMENTS, "", "va", FINALIZER));
    assert!(bench.api.has_finalizer(VOLUMES, "", "pv", FINALIZER));

    // The volume object and the node go first: both must still serve the detaching.
    bench.api.remove(VOLUMES, "", "pv");
    bench.api.remove("csinodes", "", "n1");
    bench.driver.fault("ControllerUnpublishVolume", Fault::Answer(Code::Unavailable, "not now"));
    bench.api.remove(ATTACHMENTS, "", "va");
    until("the attachment is gone", || bench.api.get(ATTACHMENTS, "", "va").is_null()).await;
    assert!(bench.driver.published().is_empty());
    until("the volume object is let go", || !bench.api.has_finalizer(VOLUMES, "", "pv", FINALIZER)).await;
    assert!(
        bench.api.has_finalizer(VOLUMES, "", "pv", "kubernetes.io/pv-protection"),
        "others' finalizers stay"
    );
    bench.stop().await;
}

#[tokio::test]
async fn an_attachment_begun_and_never_marked_is_detached() {
    let mut bench = Bench::new().await;
    put_volume(&bench);
    put_node(&bench);
    for _ in 0..1000 {
        bench.api.fault("PATCH volumeattachments/status", 500);
    }
    put_attachment(&bench);
    bench.start();
    until("the driver attached it", || !bench.driver.published().is_empty()).await;
    bench.kill().await;
    assert_eq!(status(&bench)["attached"], json!(false));
    bench.api.clear_faults();
    bench.api.remove(ATTACHMENTS, "", "va");
    bench.start();
    until("the attachment is gone", || bench.api.get(ATTACHMENTS, "", "va").is_null()).await;
    assert!(bench.driver.published().is_empty());
    bench.stop().await;
}

fn put_claim(bench: &Bench) {
    bench.api.put(CLAIMS, "dev", json!({
        "metadata": {"name": "data", "uid": "u"},
        "spec": {"volumeName": "pv", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"},
            "conditions": [{"type": "Other", "status": "True"}]},
    }));
}

fn ask(bench: &Bench, size: &str) {
    bench.api.change(CLAIMS, "dev", "data", &json!({"spec": {"resources": {"requests": {"storage": size}}}}));
}

fn claim(bench: &Bench) -> Value {
    bench.api.get(CLAIMS, "dev", "data")
}

fn conditions(bench: &Bench) -> Vec<String> {
    let claim = claim(bench);
    let all = claim["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.iter().map(|c| c["type"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn grow_without_the_node() {
    let mut bench = Bench::new().await;
    put_volume(&bench);
    put_claim(&bench);
    bench.start();
    ask(&bench, "2Gi");
    until("the claim has more", || claim(&bench)["status"]["capacity"]["storage"] == json!("2Gi")).await;
    assert_eq!(bench.api.get(VOLUMES, "", "pv")["spec"]["capacity"]["storage"], json!("2Gi"));
    assert!(claim(&bench)["status"]["allocatedResourceStatuses"]["storage"].is_null());
    assert_eq!(conditions(&bench), ["Other"]);
    until("it is told", || bench.api.events("data").contains(&"VolumeResizeSuccessful".to_owned())).await;
    assert_eq!(bench.driver.count("ControllerExpandVolume"), 1);
    bench.stop().await;
}

#[tokio::test]
async fn grow_hands_the_rest_to_the_node() {
    let mut bench = Bench::new().await;
    bench.driver.with_node_expansion();
    put_volume(&bench);
    put_claim(&bench);
    // Twice no answer in between: the same size is asked for again.
    bench.driver.fault("ControllerExpandVolume", Fault::DoneBut(Code::DeadlineExceeded, "slow"));
    bench.start();
    ask(&bench, "2Gi");
    let state = |bench: &Bench| claim(bench)["status"]["allocatedResourceStatuses"]["storage"].clone();
    until("it is the node's turn", || state(&bench) == json!("NodeResizePending")).await;
    assert_eq!(
        claim(&bench)["status"]["capacity"]["storage"],
        json!("1Gi"),
        "the node says when it has more"
    );
    assert_eq!(claim(&bench)["status"]["allocatedResources"]["storage"], json!("2Gi"));
    assert_eq!(bench.api.get(VOLUMES, "", "pv")["spec"]["capacity"]["storage"], json!("2Gi"));
    assert!(conditions(&bench).contains(&"FileSystemResizePending".to_owned()));
    assert_eq!(bench.driver.count("ControllerExpandVolume"), 2);
    until("it is told", || bench.api.events("data").contains(&"FileSystemResizeRequired".to_owned())).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_size_that_cannot_be_is_said_once_and_a_smaller_one_comes_at_once() {
    let mut bench = Bench::new().await;
    put_volume(&bench);
    put_claim(&bench);
    bench.driver.fault("ControllerExpandVolume", Fault::Answer(Code::OutOfRange, "at most 5Gi"));
    bench.start();
    ask(&bench, "9Gi");
    let state = |bench: &Bench| claim(bench)["status"]["allocatedResourceStatuses"]["storage"].clone();
    until("it is called impossible", || state(&bench) == json!("ControllerResizeInfeasible")).await;
    assert!(conditions(&bench).contains(&"ControllerResizeError".to_owned()));
    until("it is told", || bench.api.event_note("VolumeResizeFailed").contains("at most 5Gi")).await;
    ask(&bench, "3Gi");
    until("the claim has more", || claim(&bench)["status"]["capacity"]["storage"] == json!("3Gi")).await;
    assert_eq!(
        bench.driver.count("ControllerExpandVolume"),
        2,
        "the impossible size was not asked for again"
    );
    bench.stop().await;
}

#[tokio::test]
async fn a_node_that_cannot_grow_is_asked_again_slowly_and_at_once_for_another_size() {
    let mut bench = Bench::new().await;
    bench.driver.with_node_expansion();
    put_volume(&bench);
    put_claim(&bench);
    bench.start();
    ask(&bench, "2Gi");
    // A node that says at once, each time, that it never will.
    let (api, stop) = (bench.api.clone(), CancellationToken::new());
    let node = tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
        let infeasible =
            json!({"status": {"allocatedResourceStatuses": {"storage": "NodeResizeInfeasible"}}});
        loop {
            until("it is the node's turn", || {
                let claim = api.get(CLAIMS, "dev", "data");
                claim["status"]["allocatedResourceStatuses"]["storage"] == json!("NodeResizePending")
            })
            .await;
            api.change(CLAIMS, "dev", "data", &infeasible);
        }
    }));
    until("the pause is told", || bench.api.event_note("VolumeResizeFailed").contains("on its node")).await;
    assert_eq!(bench.driver.count("ControllerExpandVolume"), 2, "one more attempt, then a pause");
    ask(&bench, "3Gi");
    until("another size is tried at once", || bench.driver.count("ControllerExpandVolume") == 3).await;
    stop.cancel();
    node.await.expect("the node ran");
    bench.stop().await;
}
