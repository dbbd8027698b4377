//! The collector on a real store, with all the other controllers.

use serde_json::{Value, json};

use crate::{
    controllers::{
        cluster::Cluster,
        view::{CLAIMS, fixture::*},
    },
    lifecycle,
    store::{Key, Precondition},
};

fn own(made: Made, kind: &str, owner: &Made) -> Made {
    let reference = json!({
        "apiVersion": "v1", "kind": kind, "name": owner.0["metadata"]["name"], "uid": owner.0["metadata"]["uid"],
        "blockOwnerDeletion": true,
    });
    made.set("metadata.ownerReferences", json!([reference]))
}

/// A deletion that says what becomes of those that the object owns, as the API server begins it.
async fn delete(cluster: &Cluster, key: &Key, propagation: &str) {
    cluster
        .write(key, |revision: Precondition, mut body: Value| {
            lifecycle::propagate(&mut body, propagation);
            lifecycle::delete(key.clone(), revision, body, 0, jiff::Timestamp::now())
        })
        .await;
}

/// A pod's own claim goes with the pod, and one that belongs to it no more stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_a_pod_goes_with_it() {
    let (first, second) = (pod("first", &[]), pod("second", &[]));
    let cluster = Cluster::started(&[first.clone(), second.clone()]).await;
    cluster.create(&[own(claim("a"), "Pod", &first), own(claim("b"), "Pod", &second), claim("c")]).await;
    cluster.delete(&first.key()).await;
    cluster.until_gone(&of_claim("a")).await;
    delete(&cluster, &second.key(), "orphan").await;
    cluster.until_gone(&second.key()).await;
    let left = cluster.get(&of_claim("b")).unwrap();
    assert!(left["metadata"]["deletionTimestamp"].is_null() && left["metadata"]["ownerReferences"].is_null());
    assert!(cluster.get(&of_claim("c")).is_some());
}

/// Foreground: the leaves first, whatever holds them, then what they belong to.
#[tokio::test(flavor = "multi_thread")]
async fn the_leaves_go_first() {
    let root = pod("root", &[]);
    let branch = own(claim("branch"), "Pod", &root);
    let leaf = own(claim("leaf"), "PersistentVolumeClaim", &branch).finalizer("example.com/held");
    let cluster = Cluster::started(&[root.clone(), branch, leaf]).await;
    delete(&cluster, &root.key(), "foregroundDeletion").await;
    let is_going = |cluster: &Cluster, key: &Key| {
        cluster.get(key).is_some_and(|body| !body["metadata"]["deletionTimestamp"].is_null())
    };
    cluster
        .until("all of them go", |c| is_going(c, &of_claim("leaf")) && is_going(c, &of_claim("branch")))
        .await;
    assert!(cluster.get(&root.key()).is_some(), "it did not wait");
    cluster.edit(&of_claim("leaf"), |body| body["metadata"]["finalizers"] = json!([])).await;
    cluster.until_gone(&root.key()).await;
    assert!(cluster.get(&of_claim("leaf")).is_none() && cluster.get(&of_claim("branch")).is_none());
}

/// One that comes after its owner went, one of an owner whose name somebody else has, many at once, and
/// all of it again after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_too_late() {
    let owner = pod("owner", &[]);
    let mut cluster = Cluster::new(&[]).await;
    cluster.create(&[owner.clone().uid("another")]).await;
    let many: Vec<Made> = (0..300).map(|i| own(claim(&format!("c{i}")), "Pod", &owner)).collect();
    cluster.create(&many).await;
    cluster.start();
    for key in many.iter().map(Made::key) {
        cluster.until_gone(&key).await;
    }
    cluster.create(&[own(claim("late"), "Pod", &owner)]).await;
    cluster.until_gone(&of_claim("late")).await;
    // An owner of a kind that is not known here may be there.
    let strange = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "uid": "u"}]);
    cluster.create(&[claim("strange").set("metadata.ownerReferences", strange)]).await;
    cluster.create(&[own(claim("last"), "Pod", &owner)]).await;
    cluster.until_gone(&of_claim("last")).await;
    assert!(cluster.get(&of_claim("strange")).is_some());
    assert!(cluster.get(&owner.key()).is_some());
    assert_eq!(cluster.store.list(CLAIMS, None, None, None).objects.len(), 1);
    cluster.stop().await;
}

/// Two that belong to each other do not wait for each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_circle_goes() {
    let (one, other) = (claim("one"), claim("other"));
    let cluster = Cluster::started(&[
        own(one.clone(), "PersistentVolumeClaim", &other),
        own(other, "PersistentVolumeClaim", &one),
    ])
    .await;
    delete(&cluster, &of_claim("one"), "foregroundDeletion").await;
    cluster.until_gone(&of_claim("one")).await;
    cluster.until_gone(&of_claim("other")).await;
}
