//! The controllers together, on a real store.

use std::time::Duration;

use holdfast_api::{attachment::unique_volume_name, names};
use rand::seq::SliceRandom;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Config, attachdetach,
    cluster::{Cluster, status},
    engine::{Controller, Outcome},
    run, scheduler,
    view::{CLUSTER_ROLES, NAMESPACES, fixture::*, node_key},
};
use crate::store::{self, Key, Store};

fn is_bound(body: &Value) -> bool {
    body["status"]["phase"] == "Bound"
}

/// The scheduler decided while the claim was there to stay; it is being deleted when the
/// decision is carried out.
#[tokio::test(flavor = "multi_thread")]
async fn no_pod_comes_to_a_claim_that_changed_since() {
    let bound = bound("a", "v");
    let cluster = Cluster::new(&[pod("p", &["a"]), node("n"), bound.0, bound.1]).await;
    let (io, feeding) = cluster.io().await;
    let decided = io.index.read(|view| scheduler::decide::decide(view, &of_pod("p"))).unwrap();
    assert!(matches!(decided, scheduler::decide::Action::Bind { .. }), "{decided:?}");
    cluster.edit(&of_claim("a"), |claim| claim["metadata"]["finalizers"] = json!(["x"])).await;
    cluster.delete(&of_claim("a")).await;
    assert_eq!(scheduler::apply::apply(&io, &of_pod("p"), decided).await, Outcome::Again);
    assert_eq!(cluster.get(&of_pod("p")).unwrap()["spec"]["nodeName"], Value::Null);
    feeding.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pairs_bind() {
    let cluster = Cluster::started(&[]).await;
    let claims: Vec<Made> = (0..1000).map(|i| claim(&format!("c{i:04}"))).collect();
    let volumes: Vec<Made> = (0..1000).map(|i| volume(&format!("v{i:04}")).phase("Pending")).collect();
    let began = Instant::now();
    // Half of the claims wait for volumes, the other half of the volumes wait for claims.
    for (objects, step) in [(&claims[..500], 100), (&volumes[..], 100), (&claims[500..], 100)] {
        for step in objects.chunks(step) {
            cluster.create(step).await;
        }
    }
    let keys: Vec<Key> = claims.iter().map(Made::key).collect();
    cluster.until_each(&keys, "all claims are bound", is_bound).await;
    println!("1,000 pairs bound in {:?}", began.elapsed());
    assert_eq!(cluster.owners().len(), 1000);
}

/// The fixed point: nobody waits who could be served, whatever the order in which things came.
#[tokio::test(flavor = "multi_thread")]
async fn no_claim_waits_beside_a_volume_that_it_could_have() {
    let cluster = Cluster::started(&[]).await;
    let mut random = rand::rng();
    let mut objects: Vec<Made> = Vec::new();
    for i in 0..150 {
        let size = format!("{}Gi", 1 + i % 7);
        let made = claim(&format!("c{i}")).size(&size);
        objects.push(match i % 5 {
            0 => made.set("spec.selector", json!({"matchLabels": {"disk": "ssd"}})),
            1 => made.modes(&["ReadWriteMany"]),
            _ => made,
        });
        let made = volume(&format!("v{i}")).size(&format!("{}Gi", 1 + i % 6)).phase("Pending");
        objects.push(match i % 4 {
            0 => made.label("disk", "ssd"),
            1 => made.modes(&["ReadWriteOnce", "ReadWriteMany"]),
            _ => made,
        });
    }
    objects.shuffle(&mut random);
    for step in objects.chunks(7) {
        cluster.create(step).await;
    }
    cluster
        .until("nothing is left to be done", |cluster| {
            let (view, underway) = (cluster.view(), std::collections::BTreeSet::new());
            let keys = view.claims.iter().map(|claim| &claim.key).chain(view.volumes.iter().map(|v| &v.key));
            let mut actions = keys.filter_map(|key| super::binder::decide(&view, &underway, key));
            actions.all(|action| super::binder::is_wait(&action))
        })
        .await;
    let owners = cluster.owners();
    assert!(owners.len() > 100, "{}", owners.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_several_claims_race_for_has_one_owner() {
    let cluster = Cluster::started(&[]).await;
    let mut objects: Vec<Made> = Vec::new();
    for i in 0..40 {
        let class = format!("class-{i}");
        objects.extend((0..4).map(|j| claim(&format!("c{i}-{j}")).class(&class)));
        objects.push(volume(&format!("v{i}")).class(&class));
    }
    objects.shuffle(&mut rand::rng());
    cluster.create(&objects).await;
    let volumes: Vec<Key> = (0..40).map(|i| of_volume(&format!("v{i}"))).collect();
    cluster.until_each(&volumes, "the volumes are bound", is_bound).await;
    assert_eq!(cluster.owners().len(), 40);
    // An owner goes: the volume is not the next one's.
    let owner =
        cluster.get(&of_volume("v0")).unwrap()["spec"]["claimRef"]["name"].as_str().unwrap().to_owned();
    cluster.delete(&of_claim(&owner)).await;
    cluster.until_each(&volumes[..1], "it is released", |body| body["status"]["phase"] == "Released").await;
    // Its reference taken off by a person, it is.
    cluster.edit(&volumes[0], |body| drop(body["spec"].as_object_mut().unwrap().remove("claimRef"))).await;
    cluster.until_each(&volumes[..1], "another has it", is_bound).await;
    assert_eq!(cluster.owners().len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_made_again_gets_nothing_of_the_old_volume() {
    let (a, v) = bound("a", "v");
    let cluster = Cluster::started(&[a, v]).await;
    cluster.delete(&of_claim("a")).await;
    cluster.create(&[claim("a").uid("later")]).await;
    cluster.until_told("later", "FailedBinding").await;
    cluster.until_each(&[of_volume("v")], "released", |body| body["status"]["phase"] == "Released").await;
    let (claim, volume) = (cluster.get(&of_claim("a")).unwrap(), cluster.get(&of_volume("v")).unwrap());
    assert!(claim["spec"]["volumeName"].is_null(), "{claim}");
    assert_eq!(volume["spec"]["claimRef"]["uid"], "uid-a");
    // Not even by asking for it by name.
    let named = claim_named("b", "v").uid("uid-b");
    cluster.create(&[named]).await;
    cluster.until_told("uid-b", "FailedBinding").await;
    assert!(cluster.owners().is_empty());
}

fn claim_named(name: &str, volume: &str) -> Made {
    claim(name).set("spec.volumeName", volume)
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_claims_are_woken() {
    let cluster = Cluster::started(&[
        claim("a").class("late"),
        claim("b").class("fast"),
        claim("d").unset("spec.storageClassName"),
        claim_named("e", "v").class("own"),
        claim("f").class("hand").note(names::SELECTED_NODE, "n"),
        volume("w").class("hand").in_zone("x"),
        class("hand").set("provisioner", names::NO_PROVISIONER),
    ])
    .await;
    for (uid, reason) in [
        ("uid-a", "ProvisioningFailed"),
        ("uid-d", "FailedBinding"),
        ("uid-e", "FailedBinding"),
        ("uid-f", "ProvisioningFailed"),
    ] {
        cluster.until_told(uid, reason).await;
    }
    // The class comes, the volume comes, the node comes, the default comes.
    cluster
        .create(&[class("fast"), late_class("late"), volume("v").class("own"), node("n").label("zone", "x")])
        .await;
    let asked = |body: &Value| !body["metadata"]["annotations"][names::STORAGE_PROVISIONER].is_null();
    cluster.until_each(&[of_claim("b")], "a volume is asked for", asked).await;
    cluster.until_each(&[of_claim("e"), of_claim("f")], "bound", is_bound).await;
    cluster.until_told("uid-a", "WaitForFirstConsumer").await;
    cluster.create(&[class("std").note(names::DEFAULT_CLASS, "true")]).await;
    cluster
        .until_each(&[of_claim("d")], "classified", |body| body["spec"]["storageClassName"] == "std")
        .await;
    // A pod comes: the scheduler names its node, the binder asks.
    cluster.create(&[pod("p", &["a"])]).await;
    cluster.until_each(&[of_claim("a")], "a volume is asked for", asked).await;
    // The provisioner makes it: bound, and the pod placed.
    cluster.create(&[volume("pvc-a").class("late").kept_for("a", "uid-a").phase("Pending")]).await;
    cluster.until_each(&[of_claim("a")], "bound", is_bound).await;
    cluster.until_each(&[of_pod("p")], "placed", |body| body["spec"]["nodeName"] == "n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_while_nobody_looked_is_done_at_the_start() {
    let (a, v) = bound("a", "v");
    let mut cluster = Cluster::started(&[a, v, claim("b"), volume("w")]).await;
    cluster.until_each(&[of_claim("b")], "bound", is_bound).await;
    cluster.stop().await;
    cluster.delete(&of_claim("a")).await;
    cluster.create(&[claim("c"), volume("x")]).await;
    cluster.start();
    cluster.until_each(&[of_volume("v")], "released", |body| body["status"]["phase"] == "Released").await;
    cluster.until_each(&[of_claim("c")], "bound", is_bound).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_the_node_uses_stays_attached() {
    let ((a, v), (b, w)) = (bound("a", "v"), bound("b", "w"));
    let cluster = Cluster::started(&[a, v, b, w, node("n"), pod_on("n", "p", &["a"])]).await;
    let attachment_of = |volume: &str| attachment(volume, "n", true).key();
    let listed = |volume: &str| unique_volume_name(DRIVER, &format!("h-{volume}"));
    cluster.until("it is to be attached", |cluster| cluster.get(&attachment_of("v")).is_some()).await;
    cluster.edit(&attachment_of("v"), status("attached", true)).await;
    let lists = |body: &Value| body["status"]["volumesAttached"][0]["name"] == listed("v");
    cluster.until_each(&[node_key("n")], "the node is told", lists).await;
    cluster.edit(&node_key("n"), status("volumesInUse", json!([listed("v")]))).await;
    cluster.delete(&of_pod("p")).await;
    // That the second pod's volume is attached shows that the node was looked at after the first pod had gone.
    cluster.create(&[pod_on("n", "q", &["b"])]).await;
    cluster.until("another is attached", |cluster| cluster.get(&attachment_of("w")).is_some()).await;
    let body = cluster.get(&attachment_of("v")).unwrap();
    assert!(body["metadata"]["deletionTimestamp"].is_null(), "{body}");
    cluster.edit(&node_key("n"), status("volumesInUse", json!([]))).await;
    cluster.until_gone(&attachment_of("v")).await;
    let lists = |body: &Value| body["status"]["volumesAttached"] == json!([]);
    cluster.until_each(&[node_key("n")], "the node is told", lists).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_begins_to_use_a_volume_meanwhile_keeps_it() {
    let (a, v) = bound("a", "v");
    let cluster = Cluster::new(&[a, v, node("n"), attachment("v", "n", true)]).await;
    let (io, feeding) = cluster.io().await;
    let actions = io.index.read(|view| attachdetach::decide(view, &node_key("n")));
    let in_use = json!([unique_volume_name(DRIVER, "h-v")]);
    cluster.edit(&node_key("n"), status("volumesInUse", in_use)).await;
    assert_eq!(attachdetach::apply(&io, actions).await, Outcome::Again);
    let body = cluster.get(&attachment("v", "n", true).key()).unwrap();
    assert!(body["metadata"]["deletionTimestamp"].is_null(), "{body}");
    // And with the node's word in the view nothing is to be done.
    io.index.wait_for(cluster.store.revision()).await;
    assert_eq!(attachdetach::AttachDetach::look(&io, &node_key("n")).await, Outcome::Wrote, "the report");
    assert_eq!(attachdetach::AttachDetach::look(&io, &node_key("n")).await, Outcome::Settled);
    feeding.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_for_one_node_follows_its_pod() {
    let (a, v) = bound("a", "v");
    let cluster = Cluster::started(&[a, v, node("m"), node("n"), pod_on("m", "p", &["a"])]).await;
    let on = |node: &str| attachment("v", node, true).key();
    cluster.until("attached to m", |cluster| cluster.get(&on("m")).is_some()).await;
    cluster.create(&[pod_on("n", "q", &["a"]).uid("uid-q")]).await;
    cluster.until_told("uid-q", "FailedAttachVolume").await;
    assert!(cluster.get(&on("n")).is_none());
    cluster.delete(&of_pod("p")).await;
    cluster.until("attached to n", |cluster| cluster.get(&on("n")).is_some()).await;
    assert!(cluster.get(&on("m")).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_for_one_pod_goes_to_the_next_when_the_first_has_ended() {
    let (a, v) = bound("a", "v");
    let claim = a.modes(&["ReadWriteOncePod"]);
    let cluster = Cluster::started(&[claim, v, node("n"), pod("p", &["a"]), pod("q", &["a"])]).await;
    let placed = |cluster: &Cluster| {
        let pods = ["p", "q"].map(|name| cluster.get(&of_pod(name)).unwrap());
        pods.iter()
            .filter(|pod| pod["spec"]["nodeName"] == "n")
            .map(|pod| pod["metadata"]["name"].clone())
            .collect::<Vec<_>>()
    };
    cluster.until("one is placed", |cluster| !placed(cluster).is_empty()).await;
    let first = placed(&cluster)[0].as_str().unwrap().to_owned();
    let second = if first == "p" { "q" } else { "p" };
    cluster.until_told(&format!("uid-{second}"), "FailedScheduling").await;
    assert_eq!(placed(&cluster).len(), 1);
    cluster.edit(&of_pod(&first), status("phase", "Succeeded")).await;
    cluster.until("both are placed", |cluster| placed(cluster).len() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_claim_goes_when_its_pod_has_gone() {
    let (a, v) = bound("a", "v");
    let claim = a.finalizer(names::PVC_PROTECTION);
    let volume = v.finalizer(names::PV_PROTECTION);
    let cluster = Cluster::started(&[claim, volume, node("n"), pod_on("n", "p", &["a"])]).await;
    cluster.delete(&of_volume("v")).await;
    cluster.delete(&of_claim("a")).await;
    cluster.until("attached", |cluster| cluster.get(&attachment("v", "n", true).key()).is_some()).await;
    assert!(cluster.get(&of_claim("a")).is_some() && cluster.get(&of_volume("v")).is_some());
    cluster.delete(&of_pod("p")).await;
    cluster.until_gone(&of_claim("a")).await;
    cluster.until_gone(&of_volume("v")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_emptied_and_goes() {
    let key = Key::new(NAMESPACES, "", SPACE);
    let mut objects = vec![namespace(SPACE), claim("held").finalizer("example.com/backup"), pod("p", &[])];
    objects.extend((0..50).map(|i| claim(&format!("c{i}"))));
    let cluster = Cluster::started(&objects).await;
    cluster.until_told("uid-c0", "FailedBinding").await;
    cluster.delete(&key).await;
    cluster
        .until("only what is held is left", |cluster| {
            let claims = cluster.store.list("persistentvolumeclaims", Some(SPACE), None, None).objects;
            claims.len() == 1 && cluster.get(&of_pod("p")).is_none()
        })
        .await;
    assert!(cluster.get(&key).is_some());
    cluster.edit(&of_claim("held"), |body| body["metadata"]["finalizers"] = json!([])).await;
    cluster.until_gone(&key).await;
    assert!(cluster.store.list("events", Some(SPACE), None, None).objects.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn they_stop_when_told_and_end_with_the_store() {
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(store::Config::new(folder.path().join("state.db"))).await.unwrap();
    // Even before they have begun.
    timeout(Duration::from_secs(20), run(Config::new(store.clone()), cancelled)).await.unwrap().unwrap();
    let running = tokio::spawn(run(Config::new(store.clone()), CancellationToken::new()));
    store.close().await;
    let ended = timeout(Duration::from_secs(20), running).await.unwrap().unwrap();
    assert!(matches!(ended, Err(super::Error::StoreClosed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_still_uses_a_volume_keeps_it_from_others() {
    let (a, v) = bound("a", "v");
    let in_use = json!([unique_volume_name(DRIVER, "h-v")]);
    // Pod and attachment were forced away; the node has not let go.
    let m = node("m").set("status.volumesInUse", in_use);
    let cluster = Cluster::started(&[a, v, m, node("n"), pod_on("n", "q", &["a"]).uid("uid-q")]).await;
    let on_n = attachment("v", "n", true).key();
    cluster.until_told("uid-q", "FailedAttachVolume").await;
    assert!(cluster.get(&on_n).is_none());
    cluster.edit(&node_key("m"), status("volumesInUse", json!([]))).await;
    cluster.until("attached to n", |cluster| cluster.get(&on_n).is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_hears_that_its_volume_cannot_be_attached() {
    let (a, v) = bound("a", "v");
    let failed = attachment("v", "n", false).set("status.attachError.message", "no such pool");
    let cluster = Cluster::started(&[a, v, node("n"), pod_on("n", "p", &["a"]).uid("uid-p"), failed]).await;
    cluster.until_told("uid-p", "FailedAttachVolume").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_nobody_deletes_says_so() {
    let (a, v) = bound("a", "v");
    let v = v.uid("uid-v").set("spec.persistentVolumeReclaimPolicy", "Delete");
    let cluster = Cluster::started(&[a, v]).await;
    cluster.delete(&of_claim("a")).await;
    cluster.until_each(&[of_volume("v")], "failed", |body| body["status"]["phase"] == "Failed").await;
    cluster.until_told("uid-v", "VolumeFailedDelete").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_others_hold_is_left_in_peace() {
    let held = namespace(SPACE)
        .finalizer("example.com/hold")
        .set("spec.finalizers", json!(["kubernetes", "example.com/content"]));
    let cluster = Cluster::started(&[held]).await;
    let key = Key::new(NAMESPACES, "", SPACE);
    cluster.delete(&key).await;
    let theirs = json!(["example.com/content"]);
    cluster
        .until_each(std::slice::from_ref(&key), "emptied", |body| body["spec"]["finalizers"] == theirs)
        .await;
    // Nothing more is written to it, however often it is looked at.
    let emptied = cluster.store.get(&key).unwrap().revision;
    cluster.create(&[claim("a"), volume("v")]).await;
    cluster.until_each(&[of_claim("a")], "bound", is_bound).await;
    assert_eq!(cluster.store.get(&key).unwrap().revision, emptied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_made_of_others_follows_them() {
    let rule = |resource: &str| json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]});
    let of = |label: &str| json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
    let part = cluster_role("part").set("rules", json!([rule("pods")])).set("metadata.labels.to-one", "true");
    let one = cluster_role("one").set("aggregationRule", of("to-one")).set("metadata.labels.to-two", "true");
    let two = cluster_role("two").set("aggregationRule", of("to-two"));
    let cluster = Cluster::started(&[two, one, part]).await;
    let key = |name: &str| Key::new(CLUSTER_ROLES, "", name);
    let made = [key("one"), key("two")];
    cluster.until_each(&made, "made", |body| body["rules"] == json!([rule("pods")])).await;
    cluster.edit(&key("part"), |body| body["rules"] = json!([rule("nodes")])).await;
    cluster.until_each(&made, "changed", |body| body["rules"] == json!([rule("nodes")])).await;
    cluster.delete(&key("part")).await;
    cluster.until_each(&made, "emptied", |body| body["rules"] == json!([])).await;
}

#[tokio::test]
async fn each_namespace_has_its_account() {
    let mut cluster = Cluster::started(&[namespace(SPACE)]).await;
    let key = account("default").key();
    cluster.until("there is an account", |cluster| cluster.get(&key).is_some()).await;
    let uid = |cluster: &Cluster| cluster.get(&key).map(|body| body["metadata"]["uid"].clone());
    let first = uid(&cluster);
    cluster.delete(&key).await;
    cluster.until("it is made again", |cluster| uid(cluster).is_some_and(|now| Some(now) != first)).await;
    cluster.delete(&namespace(SPACE).key()).await;
    cluster.until_gone(&namespace(SPACE).key()).await;
    assert_eq!(cluster.get(&key), None);
    cluster.stop().await;
}
