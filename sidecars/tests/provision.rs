//! From claim to volume and back, through every place where things go wrong in between.

#![allow(clippy::expect_used, clippy::panic, reason = "a test stops at the first thing that is wrong")]

mod bench;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bench::{Bench, DRIVER, driver::Fault, until};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tonic::Code;

const INTENT: &str = "holdfast.dev/provisioning";
const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";

fn put_class(bench: &Bench, extra: &Value) {
    let mut class = json!({"metadata": {"name": "fast"}, "provisioner": DRIVER, "volumeBindingMode": "Immediate",
        "reclaimPolicy": "Delete"});
    for (key, value) in extra.as_object().into_iter().flatten() {
        class[key] = value.clone();
    }
    bench.api.put("storageclasses", "", class);
}

fn put_claim(bench: &Bench, name: &str, annotations: &Value) {
    let mut all = json!({"volume.kubernetes.io/storage-provisioner": DRIVER});
    for (key, value) in annotations.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    let claim = json!({
        "metadata": {"name": name, "uid": format!("u-{name}"), "annotations": all,
            "finalizers": ["kubernetes.io/pvc-protection"]},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"},
    });
    bench.api.put(CLAIMS, "dev", claim);
}

/// What the binder does.
fn bind(bench: &Bench, name: &str) {
    let volume = format!("pvc-u-{name}");
    bench.api.change(VOLUMES, "", &volume, &json!({"status": {"phase": "Bound"}}));
    let patch =
        json!({"spec": {"volumeName": volume}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    bench.api.change(CLAIMS, "dev", name, &patch);
}

/// What the user and the protection controller do: nobody uses the claim.
fn delete_claim(bench: &Bench, name: &str) {
    bench.api.remove(CLAIMS, "dev", name);
    let claim = bench.api.get(CLAIMS, "dev", name);
    let left: Vec<Value> = claim["metadata"]["finalizers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|finalizer| **finalizer != json!("kubernetes.io/pvc-protection"))
        .cloned()
        .collect();
    bench.api.change(CLAIMS, "dev", name, &json!({"metadata": {"finalizers": left}}));
}

fn saved(bench: &Bench, name: &str) -> bool {
    !bench.api.get(VOLUMES, "", &format!("pvc-u-{name}")).is_null()
}

fn intended(bench: &Bench, name: &str) -> bool {
    bench.api.has_finalizer(CLAIMS, "dev", name, INTENT)
}

#[tokio::test]
async fn a_claim_gets_its_volume_with_few_writes_and_gives_it_back() {
    let mut bench = Bench::new().await;
    put_class(&bench, &json!({}));
    put_claim(&bench, "data", &json!({}));
    bench.start();
    until("the volume is saved", || saved(&bench, "data")).await;
    until("the intent is taken away", || !intended(&bench, "data")).await;
    until("both events are there", || bench.api.events("data").len() == 2).await;
    assert_eq!(
        bench.api.events("data").into_iter().collect::<BTreeSet<_>>(),
        BTreeSet::from(["Provisioning".to_owned(), "ProvisioningSucceeded".to_owned()])
    );
    assert_eq!(bench.api.writes("PATCH persistentvolumeclaims"), 2);
    assert_eq!(bench.api.writes("POST persistentvolumes"), 1);
    assert_eq!(bench.driver.count("CreateVolume"), 1);
    let claim = bench.api.get(CLAIMS, "dev", "data");
    assert_eq!(claim["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));

    bind(&bench, "data");
    delete_claim(&bench, "data");
    assert!(bench.api.get(CLAIMS, "dev", "data").is_null());
    bench.api.change(VOLUMES, "", "pvc-u-data", &json!({"status": {"phase": "Released"}}));
    until("the volume is deleted", || !saved(&bench, "data")).await;
    assert!(bench.driver.volumes().is_empty());
    assert_eq!(bench.driver.count("CreateVolume"), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a_claim_deleted_while_its_volume_is_made_leaves_nothing() {
    let mut bench = Bench::new().await;
    put_class(&bench, &json!({}));
    put_claim(&bench, "data", &json!({}));
    let gate = Arc::new(Semaphore::new(0));
    bench.driver.fault("CreateVolume", Fault::Hold(Arc::clone(&gate)));
    bench.start();
    until("CreateVolume runs", || bench.driver.count("CreateVolume") == 1).await;
    delete_claim(&bench, "data");
    assert!(intended(&bench, "data"), "the intent keeps the claim");
    gate.add_permits(1);
    // The answer comes for a claim whose deletion this look has not seen: its volume is saved,
    // and reclaimed as the volume of a claim that is gone.
    until("the claim is gone", || bench.api.get(CLAIMS, "dev", "data").is_null()).await;
    if saved(&bench, "data") {
        bench.api.change(VOLUMES, "", "pvc-u-data", &json!({"status": {"phase": "Released"}}));
    }
    until("nothing is left", || !saved(&bench, "data") && bench.driver.volumes().is_empty()).await;
    bench.stop().await;
}

#[tokio::test]
async fn killed_after_create_volume_and_the_claim_deleted_meanwhile() {
    let mut bench = Bench::new().await;
    put_class(&bench, &json!({}));
    put_claim(&bench, "data", &json!({}));
    // The driver does it, but its answer never comes: the sidecars die before.
    bench.driver.fault("CreateVolume", Fault::DoneBut(Code::Unavailable, "lost"));
    let gate = Arc::new(Semaphore::new(0));
    bench.driver.fault("CreateVolume", Fault::Hold(gate));
    bench.start();
    until("the second call hangs", || bench.driver.count("CreateVolume") == 2).await;
    bench.kill().await;
    assert_eq!(bench.driver.volumes(), ["pvc-u-data"]);
    delete_claim(&bench, "data");
    bench.start();
    until("the claim is gone", || bench.api.get(CLAIMS, "dev", "data").is_null()).await;
    assert!(bench.driver.volumes().is_empty(), "the volume went before the claim did");
    assert!(!saved(&bench, "data"));
    bench.stop().await;
}

#[tokio::test]
async fn killed_between_create_volume_and_saving_goes_on_afterwards() {
    let mut bench = Bench::new().await;
    put_class(&bench, &json!({}));
    put_claim(&bench, "data", &json!({}));
    for _ in 0..1000 {
        bench.api.fault("POST persistentvolumes", 500);
    }
    bench.start();
    until("saving is tried", || bench.api.writes("POST persistentvolumes") > 0).await;
    bench.kill().await;
    assert!(intended(&bench, "data") && !saved(&bench, "data"));
    bench.api.clear_faults();
    bench.start();
    until("the volume is saved", || saved(&bench, "data") && !intended(&bench, "data")).await;
    assert_eq!(bench.driver.volumes().len(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn an_answer_that_does_not_come_repeats_the_very_same_call() {
    let mut bench = Bench::new().await;
    put_class(&bench, &json!({"parameters": {"pool": "p"}}));
    put_claim(&bench, "data", &json!({}));
    bench.driver.fault("CreateVolume", Fault::Hold(Arc::new(Semaphore::new(0))));
    bench.driver.fault("CreateVolume", Fault::Answer(Code::Aborted, "one operation at a time"));
    let mut config = bench.config();
    config.call_timeout = Duration::from_millis(300);
    bench.start_with(config);
    until("the call was cut off", || bench.driver.count("CreateVolume") >= 2).await;
    // Whatever changes meanwhile, the call stays the same.
    bench.api.remove("storageclasses", "", "fast");
    until("the volume is saved", || saved(&bench, "data")).await;
    let requests = bench.driver.create_requests();
    assert!(requests.len() >= 3);
    assert!(requests.iter().all(|request| *request == requests[0]));
    assert!(bench.api.events("data").contains(&"ProvisioningFailed".to_owned()));
    bench.stop().await;
}

#[tokio::test]
async fn a_final_error_is_told_and_a_deleted_claim_goes_without_another_call() {
    let mut bench = Bench::new().await;
    put_class(&bench, &json!({}));
    put_claim(&bench, "data", &json!({}));
    bench.driver.fault("CreateVolume", Fault::Answer(Code::InvalidArgument, "pool none is not known"));
    let mut config = bench.config();
    config.retry_first = Duration::from_secs(300);
    bench.start_with(config);
    until("the event is there", || bench.api.events("data").contains(&"ProvisioningFailed".to_owned())).await;
    let note = bench.api.event_note("ProvisioningFailed");
    assert!(note.contains("pool none is not known") && note.contains("\"fast\""), "{note}");
    // Nothing exists, and the claim says so: it can go also while no provisioner runs.
    until("the intent is taken away", || !intended(&bench, "data")).await;
    bench.kill().await;
    delete_claim(&bench, "data");
    assert!(bench.api.get(CLAIMS, "dev", "data").is_null());
    assert_eq!(bench.driver.count("CreateVolume"), 1);
}

/// Refusals that a driver may answer before it looks for the volume.
const REFUSALS: [(Code, &str); 4] = [
    (Code::ResourceExhausted, "pool is full"),
    (Code::InvalidArgument, "pool p is not known"),
    (Code::Unauthenticated, "bad credentials"),
    (Code::Internal, "the backend is down"),
];

/// Ends the sidecars between CreateVolume's effect and its answer, and starts them again on a
/// driver that refuses from then on.
async fn killed_before_the_answer(bench: &mut Bench, meanwhile: impl Fn(&Bench)) {
    let never = Arc::new(Semaphore::new(0));
    bench.driver.fault("CreateVolume", Fault::DoneThenHold(never));
    bench.start();
    until("the driver made the volume", || bench.driver.volumes() == ["pvc-u-data"]).await;
    bench.kill().await;
    assert!(intended(bench, "data") && !saved(bench, "data"));
    meanwhile(bench);
    for (code, message) in REFUSALS {
        bench.driver.fault("CreateVolume", Fault::Answer(code, message));
    }
    // Held, so that what the refusals led to can be looked at.
    let gate = Arc::new(Semaphore::new(0));
    bench.driver.fault("CreateVolume", Fault::Hold(Arc::clone(&gate)));
    bench.start();
    until("all refusals are answered", || bench.driver.count("CreateVolume") == 2 + REFUSALS.len()).await;
    assert!(intended(bench, "data"), "a refusal does not mean that nothing exists");
    assert_eq!(bench.driver.volumes(), ["pvc-u-data"]);
    until("the doubt is told", || bench.api.event_note("ProvisioningFailed").contains(INTENT)).await;
    gate.add_permits(1);
}

#[tokio::test]
async fn killed_before_the_answer_and_refused_afterwards_leaks_nothing_of_a_deleted_claim() {
    let mut bench = Bench::new().await;
    put_class(&bench, &json!({}));
    put_claim(&bench, "data", &json!({}));
    killed_before_the_answer(&mut bench, |bench| delete_claim(bench, "data")).await;
    until("the claim is gone", || bench.api.get(CLAIMS, "dev", "data").is_null()).await;
    assert!(bench.driver.volumes().is_empty(), "the volume went before the claim did");
    assert!(!saved(&bench, "data"));
    bench.stop().await;
}

#[tokio::test]
async fn killed_before_the_answer_and_refused_afterwards_stays_with_its_node() {
    let mut bench = Bench::new().await;
    bench.driver.with_topology();
    put_class(&bench, &json!({"volumeBindingMode": "WaitForFirstConsumer"}));
    put_node(&bench, "n1", "a");
    put_node(&bench, "n2", "b");
    put_claim(&bench, "data", &json!({"volume.kubernetes.io/selected-node": "n1"}));
    killed_before_the_answer(&mut bench, |_| {}).await;
    until("the volume is saved", || saved(&bench, "data") && !intended(&bench, "data")).await;
    let claim = bench.api.get(CLAIMS, "dev", "data");
    assert_eq!(claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"], json!("n1"));
    assert_eq!(bench.driver.volumes(), ["pvc-u-data"]);
    bench.stop().await;
}

#[tokio::test]
async fn an_answer_lost_and_refused_afterwards_leaks_nothing() {
    let mut bench = Bench::new().await;
    put_class(&bench, &json!({}));
    put_claim(&bench, "data", &json!({}));
    bench.driver.fault("CreateVolume", Fault::DoneBut(Code::Unavailable, "lost"));
    bench.driver.fault("CreateVolume", Fault::Answer(Code::ResourceExhausted, "pool is full"));
    let gate = Arc::new(Semaphore::new(0));
    let refused = Fault::HoldThenAnswer(Arc::clone(&gate), Code::ResourceExhausted, "pool is full");
    bench.driver.fault("CreateVolume", refused);
    bench.start();
    until("the third call hangs", || bench.driver.count("CreateVolume") == 3).await;
    delete_claim(&bench, "data");
    gate.add_permits(1);
    until("the claim is gone", || bench.api.get(CLAIMS, "dev", "data").is_null()).await;
    assert!(bench.driver.volumes().is_empty(), "the volume went before the claim did");
    assert_eq!(bench.driver.count("CreateVolume"), 4);
    bench.stop().await;
}

fn put_node(bench: &Bench, name: &str, zone: &str) {
    bench.api.put("nodes", "", json!({"metadata": {"name": name, "labels": {"zone": zone}}}));
    let drivers = json!([{"name": DRIVER, "nodeID": name, "topologyKeys": ["zone"]}]);
    bench.api.put("csinodes", "", json!({"metadata": {"name": name}, "spec": {"drivers": drivers}}));
}

#[tokio::test]
async fn no_room_on_the_selected_node_asks_the_scheduler_again() {
    let mut bench = Bench::new().await;
    bench.driver.with_topology();
    put_class(&bench, &json!({"volumeBindingMode": "WaitForFirstConsumer"}));
    put_node(&bench, "n1", "a");
    put_node(&bench, "n2", "b");
    put_claim(&bench, "data", &json!({}));
    bench.driver.fault("CreateVolume", Fault::Answer(Code::ResourceExhausted, "pool is full"));
    bench.start();
    let selected =
        |node: Value| json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}});
    bench.api.change(CLAIMS, "dev", "data", &selected(json!("n1")));
    until("the choice is taken back", || {
        let claim = bench.api.get(CLAIMS, "dev", "data");
        bench.driver.count("CreateVolume") == 1
            && claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"].is_null()
            && !intended(&bench, "data")
    })
    .await;
    bench.api.change(CLAIMS, "dev", "data", &selected(json!("n2")));
    until("the volume is saved", || saved(&bench, "data")).await;
    let volume = bench.api.get(VOLUMES, "", "pvc-u-data");
    let term = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0];
    assert_eq!(*term, json!({"key": "zone", "operator": "In", "values": ["b"]}));
    bench.stop().await;
}

#[tokio::test]
async fn a_claim_waits_for_class_and_node_without_polling() {
    let mut bench = Bench::new().await;
    bench.driver.with_topology();
    put_claim(&bench, "data", &json!({}));
    let mut config = bench.config();
    // Were it polling, it would have to wait for this.
    config.retry_first = Duration::from_secs(300);
    config.retry_longest = Duration::from_secs(300);
    bench.start_with(config);
    put_class(&bench, &json!({}));
    until("it says what it waits for", || {
        bench.api.event_note("ProvisioningFailed").contains("no node has registered")
    })
    .await;
    put_node(&bench, "n1", "a");
    until("the volume is saved", || saved(&bench, "data")).await;
    bench.stop().await;
}

#[tokio::test]
async fn retain_keeps_and_an_attached_volume_waits() {
    let mut bench = Bench::new().await;
    put_class(&bench, &json!({}));
    for name in ["kept", "attached"] {
        put_claim(&bench, name, &json!({}));
    }
    bench.start();
    until("both are saved", || {
        saved(&bench, "kept")
            && saved(&bench, "attached")
            && !intended(&bench, "kept")
            && !intended(&bench, "attached")
    })
    .await;
    bind(&bench, "kept");
    bind(&bench, "attached");
    let policy = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
    bench.api.change(VOLUMES, "", "pvc-u-kept", &policy);
    let source = json!({"persistentVolumeName": "pvc-u-attached"});
    bench.api.put("volumeattachments", "", json!({"metadata": {"name": "va"},
        "spec": {"attacher": "someone.else", "nodeName": "n1", "source": source}, "status": {"attached": true}}));
    for name in ["kept", "attached"] {
        delete_claim(&bench, name);
        bench.api.change(VOLUMES, "", &format!("pvc-u-{name}"), &json!({"status": {"phase": "Released"}}));
    }
    until("the retained one may be deleted by hand", || {
        let finalizer = "external-provisioner.volume.kubernetes.io/finalizer";
        !bench.api.has_finalizer(VOLUMES, "", "pvc-u-kept", finalizer)
    })
    .await;
    assert_eq!(bench.driver.count("DeleteVolume"), 0);
    // The first DeleteVolume fails; the object stays until one succeeds.
    bench.driver.fault("DeleteVolume", Fault::Answer(Code::FailedPrecondition, "busy"));
    bench.api.remove("volumeattachments", "", "va");
    until("the detached one is deleted", || !saved(&bench, "attached")).await;
    assert_eq!(bench.driver.count("DeleteVolume"), 2);
    assert!(bench.api.events("pvc-u-attached").contains(&"VolumeFailedDelete".to_owned()));
    assert_eq!(bench.driver.volumes(), ["pvc-u-kept"]);
    bench.stop().await;
}

#[tokio::test]
async fn a_driver_that_starts_later_is_waited_for() {
    let mut bench = Bench::without_driver();
    put_class(&bench, &json!({}));
    put_claim(&bench, "data", &json!({}));
    bench.start();
    tokio::task::yield_now().await;
    bench.driver.serve(&bench.socket());
    until("the volume is saved", || saved(&bench, "data")).await;
    bench.stop().await;
}

#[tokio::test]
async fn an_api_that_stumbles_costs_nothing() {
    let mut bench = Bench::new().await;
    put_class(&bench, &json!({}));
    for kind in [
        "PATCH persistentvolumeclaims",
        "POST persistentvolumes",
        "DELETE persistentvolumes",
        "PATCH persistentvolumes",
    ] {
        bench.api.fault(kind, 500);
        bench.api.fault(kind, 429);
    }
    put_claim(&bench, "data", &json!({}));
    bench.start();
    until("the volume is saved", || saved(&bench, "data") && !intended(&bench, "data")).await;
    bind(&bench, "data");
    delete_claim(&bench, "data");
    bench.api.change(VOLUMES, "", "pvc-u-data", &json!({"status": {"phase": "Released"}}));
    until("nothing is left", || !saved(&bench, "data")).await;
    assert!(bench.driver.volumes().is_empty());
    assert_eq!(bench.driver.count("CreateVolume"), 1);
    bench.stop().await;
}

#[tokio::test]
async fn many_claims_at_once() {
    let mut bench = Bench::new().await;
    put_class(&bench, &json!({}));
    bench.start();
    for number in 0..200 {
        put_claim(&bench, &format!("c{number}"), &json!({}));
    }
    until("all are saved", || {
        (0..200).all(|n| saved(&bench, &format!("c{n}")) && !intended(&bench, &format!("c{n}")))
    })
    .await;
    assert_eq!(bench.driver.count("CreateVolume"), 200);
    assert_eq!(bench.api.writes("PATCH persistentvolumeclaims"), 400);
    bench.stop().await;
}

/// A claim deleted while another is filled from it goes after that, and not before.
#[tokio::test]
async fn the_source_of_a_clone_is_kept_until_it_is_made() {
    const CLONING: &str = "provisioner.storage.kubernetes.io/cloning-protection";
    let mut bench = Bench::new().await;
    put_class(&bench, &json!({}));
    put_claim(&bench, "data", &json!({}));
    bench.start();
    until("the volume is saved", || saved(&bench, "data")).await;
    until("the intent is taken away", || !intended(&bench, "data")).await;
    bind(&bench, "data");
    let gate = Arc::new(Semaphore::new(0));
    bench.driver.fault("CreateVolume", Fault::DoneBut(Code::DeadlineExceeded, "slow"));
    bench.driver.fault("CreateVolume", Fault::Hold(Arc::clone(&gate)));
    let source = json!({"kind": "PersistentVolumeClaim", "name": "data"});
    let mut copy = bench.api.get(CLAIMS, "dev", "data");
    copy["metadata"]["name"] = json!("copy");
    copy["metadata"]["uid"] = json!("u-copy");
    copy["spec"]["volumeName"] = Value::Null;
    copy["spec"]["dataSource"] = source;
    copy["status"] = json!({"phase": "Pending"});
    bench.api.put(CLAIMS, "dev", copy);
    until("it is asked for again", || bench.driver.count("CreateVolume") >= 3).await;
    assert!(bench.api.has_finalizer(CLAIMS, "dev", "data", CLONING));
    delete_claim(&bench, "data");
    // Killed in between, all is read anew: the source is being deleted, and serves those it is kept for.
    bench.kill().await;
    gate.add_permits(9);
    bench.start();
    until("the copy is saved", || saved(&bench, "copy")).await;
    let asked = bench.driver.create_requests().pop().expect("a request");
    assert!(asked.volume_content_source.is_some(), "it was filled from the source");
    assert!(!bench.api.get(CLAIMS, "dev", "data").is_null(), "kept until the copy is bound");
    until("the intent is taken away", || !intended(&bench, "copy")).await;
    bind(&bench, "copy");
    until("the source goes", || bench.api.get(CLAIMS, "dev", "data").is_null()).await;
    bench.stop().await;
}
