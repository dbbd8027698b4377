//! Deleting: at once, with grace, with finalizers, many.

use std::time::Duration;

use holdfast_volume_controller::controllers;
use http::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::harness::{CLAIMS, Cluster, MAPS, PATIENCE, PODS, claim, map, pod};

impl Cluster {
    async fn delete_with(&self, path: &str, options: &Value) -> super::harness::Answer {
        self.raw(Method::DELETE, path, &[("content-type", "application/json")], options.to_string()).await
    }
}

#[tokio::test]
async fn what_nothing_holds_goes_at_once() {
    let cluster = Cluster::start().await;
    let created = cluster.post(MAPS, &map("a")).await.expect(201);
    let path = format!("{MAPS}/a");
    let options = json!({"preconditions": {"uid": "other"}});
    let message = cluster.delete_with(&path, &options).await.refused(409, "Conflict");
    assert!(message.contains("Precondition failed: UID in precondition: other"), "{message}");
    let options = json!({"preconditions": {"resourceVersion": "1"}});
    cluster.delete_with(&path, &options).await.refused(409, "Conflict");
    cluster.delete_with(&path, &json!({"propagationPolicy": "Sideways"})).await.refused(422, "Invalid");
    let uid = &created["metadata"]["uid"];
    let options = json!({"preconditions": {"uid": uid}, "propagationPolicy": "Background"});
    let status = cluster.delete_with(&path, &options).await.expect(200);
    assert_eq!((&status["kind"], &status["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(&status["details"]["uid"], uid);
    cluster.delete(&path).await.refused(404, "NotFound");
    cluster.stop().await;
}

#[tokio::test]
async fn finalizers_hold() {
    let cluster = Cluster::start().await;
    cluster.post(CLAIMS, &claim("a")).await.expect(201);
    let path = format!("{CLAIMS}/a");
    let deleted = cluster.delete(&path).await.expect(200);
    assert!(deleted["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(deleted["metadata"]["deletionGracePeriodSeconds"], 0);
    let again = cluster.delete(&path).await.expect(200);
    assert_eq!(again["metadata"]["deletionTimestamp"], deleted["metadata"]["deletionTimestamp"]);
    let more = json!({"metadata": {"finalizers": ["kubernetes.io/pvc-protection", "example.com/late"]}});
    let message = cluster.merge(&path, &more).await.refused(422, "Invalid");
    assert!(message.contains("no new finalizers can be added"), "{message}");
    // Nobody takes a deletion back.
    let back = json!({"metadata": {"deletionTimestamp": null, "labels": {"x": "y"}}});
    let kept = cluster.merge(&path, &back).await.expect(200);
    assert_eq!(kept["metadata"]["deletionTimestamp"], deleted["metadata"]["deletionTimestamp"]);
    let released = cluster.merge(&path, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    assert_eq!(released["metadata"]["name"], "a");
    cluster.get(&path).await.refused(404, "NotFound");
    cluster.stop().await;
}

#[tokio::test]
async fn pods_have_grace() {
    let cluster = Cluster::start().await;
    cluster.post(PODS, &pod("unplaced")).await.expect(201);
    assert_eq!(cluster.delete(&format!("{PODS}/unplaced")).await.expect(200)["kind"], "Pod");
    let mut placed = pod("placed");
    placed["spec"]["nodeName"] = json!("n1");
    let created = cluster.post(PODS, &placed).await.expect(201);
    let path = format!("{PODS}/placed");
    let deleted = cluster.delete(&path).await.expect(200);
    assert_eq!(deleted["metadata"]["deletionGracePeriodSeconds"], 30);
    let longer = cluster.delete(&format!("{path}?gracePeriodSeconds=60")).await.expect(200);
    assert_eq!(longer["metadata"]["deletionGracePeriodSeconds"], 30);
    let shorter = cluster.delete(&format!("{path}?gracePeriodSeconds=5")).await.expect(200);
    assert_eq!(shorter["metadata"]["deletionGracePeriodSeconds"], 5);
    let status = json!({"status": {"phase": "Running"}});
    cluster.merge(&format!("{path}/status"), &status).await.expect(200);
    // As a node agent does when it is done.
    let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": created["metadata"]["uid"]}});
    assert_eq!(cluster.delete_with(&path, &options).await.expect(200)["kind"], "Pod");
    cluster.get(&path).await.refused(404, "NotFound");
    cluster.stop().await;
}

#[tokio::test]
async fn collections() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        let mut body = map(name);
        body["metadata"]["labels"] = json!({"keep": (name == "c").to_string()});
        cluster.post(MAPS, &body).await.expect(201);
    }
    let deleted = cluster.delete(&format!("{MAPS}?labelSelector=keep%3Dfalse")).await.expect(200);
    assert_eq!(deleted["kind"], "ConfigMapList");
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
    let left = cluster.get(MAPS).await.expect(200);
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    cluster.delete("/api/v1/configmaps").await.refused(405, "MethodNotAllowed");
    cluster.stop().await;
}

#[tokio::test]
async fn a_class_of_attributes_stays_while_a_claim_has_it() {
    const CLASSES: &str = "/apis/storage.k8s.io/v1/volumeattributesclasses";
    let cluster = Cluster::start().await;
    let stop = CancellationToken::new();
    let running =
        tokio::spawn(controllers::run(controllers::Config::new(cluster.store.clone()), stop.clone()));
    let gold = json!({"metadata": {"name": "gold"}, "driverName": "a.b", "parameters": {"iops": "1"}});
    let made = cluster.post(CLASSES, &gold).await.expect(201);
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/vac-protection"]));
    let mut golden = claim("golden");
    golden["spec"]["volumeAttributesClassName"] = "gold".into();
    cluster.post(CLAIMS, &golden).await.expect(201);
    let path = format!("{CLASSES}/gold");
    cluster.delete(&path).await.expect(200);
    // By then the controllers have seen the deletion, too: they do things in the order of the store.
    cluster
        .post(CLASSES, &json!({"metadata": {"name": "b"}, "driverName": "a.b", "parameters": {"a": "1"}}))
        .await
        .expect(201);
    cluster.delete(&format!("{CLASSES}/b")).await.expect(200);
    until_gone(&cluster, &format!("{CLASSES}/b")).await;
    assert!(!cluster.get(&path).await.expect(200)["metadata"]["deletionTimestamp"].is_null());
    cluster.delete(&format!("{CLAIMS}/golden")).await.expect(200);
    until_gone(&cluster, &path).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    cluster.stop().await;
}

async fn until_gone(cluster: &Cluster, path: &str) {
    let gone = async {
        while cluster.get(path).await.code != 404 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap_or_else(|_| panic!("{path} stays"));
}

#[tokio::test]
async fn many_are_deleted_together() {
    let cluster = Cluster::start().await;
    for index in 0..40 {
        cluster.post(CLAIMS, &claim(&format!("c{index:02}"))).await.expect(201);
    }
    let before = cluster.store.metrics().batches.get();
    let list = cluster.delete(CLAIMS).await.expect(200);
    let names: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|c| c["metadata"]["name"].clone()).collect();
    let expected: Vec<_> = (0..40).map(|index| json!(format!("c{index:02}"))).collect();
    assert_eq!(names, expected, "in the order of a list");
    let batches = cluster.store.metrics().batches.get() - before;
    assert!(batches < 20, "40 deletions took {batches} SQL transactions");
    let left = cluster.get(CLAIMS).await.expect(200);
    let all = left["items"].as_array().unwrap();
    assert!(all.len() == 40 && all.iter().all(|c| c["metadata"]["deletionTimestamp"].is_string()));
    cluster.stop().await;
}

/// As in Kubernetes: one request too many would be the end of everything.
#[tokio::test]
async fn namespaces_go_one_by_one() {
    let cluster = Cluster::start().await;
    cluster.delete("/api/v1/namespaces").await.refused(405, "MethodNotAllowed");
    let resources = cluster.get("/api/v1").await.expect(200)["resources"].clone();
    let verbs = |name: &str| {
        let found = resources.as_array().unwrap().iter().find(|resource| resource["name"] == name);
        found.unwrap()["verbs"].as_array().unwrap().contains(&json!("deletecollection"))
    };
    assert!(!verbs("namespaces") && verbs("pods"));
    cluster.get("/api/v1/namespaces/kube-system").await.expect(200);
    cluster.stop().await;
}
