//! Quotas and limits of a namespace, with the controllers where something is given back.

use std::time::Duration;

use futures::future::join_all;
use holdfast_volume_controller::controllers;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::harness::{CLAIMS, CLASSES, Cluster, MAPS, PATIENCE, claim, class, map};
use super::kubectl::with_each;

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const RANGES: &str = "/api/v1/namespaces/default/limitranges";

fn quota(name: &str, hard: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"hard": hard}})
}

fn sized(name: &str, size: &str) -> Value {
    let mut claim = claim(name);
    claim["spec"]["resources"]["requests"]["storage"] = size.into();
    claim
}

async fn used(cluster: &Cluster, name: &str, what: &str) -> String {
    let quota = cluster.get(&format!("{QUOTAS}/{name}")).await.expect(200);
    quota["status"]["used"][what].as_str().unwrap_or_default().to_owned()
}

async fn until_used(cluster: &Cluster, what: &str, expected: &str) {
    let wait = async {
        while used(cluster, "q", what).await != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, wait).await;
    assert!(in_time.is_ok(), "{what} is {}, not {expected}", used(cluster, "q", what).await);
}

#[tokio::test]
async fn nobody_gets_past_one() {
    let cluster = Cluster::start().await;
    cluster
        .post(QUOTAS, &quota("q", json!({"persistentvolumeclaims": "10", "requests.storage": "1Ti"})))
        .await
        .expect(201);
    cluster.post(QUOTAS, &quota("more", json!({"count/persistentvolumeclaims": "40"}))).await.expect(201);
    let names: Vec<String> = (0..64).map(|number| format!("c{number}")).collect();
    let answers = join_all(names.iter().map(|name| {
        let (cluster, body) = (&cluster, claim(name));
        async move { cluster.post(CLAIMS, &body).await }
    }))
    .await;
    let made = answers.iter().filter(|answer| answer.code == 201).count();
    assert_eq!(made, 10);
    for answer in answers.iter().filter(|answer| answer.code != 201) {
        let message = answer.refused(403, "Forbidden");
        assert!(
            message.ends_with("is forbidden: exceeded quota: q, requested: persistentvolumeclaims=1, used: persistentvolumeclaims=10, limited: persistentvolumeclaims=10"),
            "{message}"
        );
    }
    let listed = cluster.get(CLAIMS).await.expect(200)["items"].as_array().unwrap().len();
    assert_eq!(listed, 10);
    assert_eq!(used(&cluster, "q", "persistentvolumeclaims").await, "10");
    assert_eq!(used(&cluster, "q", "requests.storage").await, "10Gi");
    assert_eq!(used(&cluster, "more", "count/persistentvolumeclaims").await, "10");
    cluster.stop().await;
}

#[tokio::test]
async fn sizes_classes_growth_and_what_is_given_back() {
    let cluster = Cluster::start().await;
    let stop = CancellationToken::new();
    let running =
        tokio::spawn(controllers::run(controllers::Config::new(cluster.store.clone()), stop.clone()));
    // Counted, though it was there before.
    cluster.post(CLAIMS, &sized("first", "1Gi")).await.expect(201);
    let gold = "gold.storageclass.storage.k8s.io/requests.storage";
    let limits = json!({"requests.storage": "10Gi", gold: "2Gi", "configmaps": "1", "cpu": "1"});
    cluster.post(QUOTAS, &quota("q", limits)).await.expect(201);
    until_used(&cluster, "requests.storage", "1Gi").await;
    let refused = cluster.post(CLAIMS, &sized("big", "10Gi")).await.refused(403, "Forbidden");
    assert_eq!(
        refused,
        r#"persistentvolumeclaims "big" is forbidden: exceeded quota: q, requested: requests.storage=10Gi, used: requests.storage=1Gi, limited: requests.storage=10Gi"#
    );
    let dry = format!("{CLAIMS}?dryRun=All");
    cluster.post(&dry, &sized("big", "10Gi")).await.refused(403, "Forbidden");
    cluster.post(&dry, &sized("fits", "9Gi")).await.expect(201);
    assert_eq!(used(&cluster, "q", "requests.storage").await, "1Gi");
    let mut golden = sized("golden", "3Gi");
    golden["spec"]["storageClassName"] = "gold".into();
    let refused = cluster.post(CLAIMS, &golden).await.refused(403, "Forbidden");
    assert!(
        refused.contains(&format!("requested: {gold}=3Gi, used: {gold}=0, limited: {gold}=2Gi")),
        "{refused}"
    );
    cluster.post(MAPS, &map("a")).await.expect(201);
    cluster.post(MAPS, &map("b")).await.refused(403, "Forbidden");

    // A claim that grows, as it may once it is bound.
    let mut growable = class("gold");
    growable["allowVolumeExpansion"] = true.into();
    cluster.post(CLASSES, &growable).await.expect(201);
    golden["spec"]["resources"]["requests"]["storage"] = "1Gi".into();
    cluster.post(CLAIMS, &golden).await.expect(201);
    let path = format!("{CLAIMS}/golden");
    let volume = json!({
        "metadata": {"name": "v"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": "gold",
            "csi": {"driver": "csi.holdfast.dev", "volumeHandle": "v"},
            "claimRef": {"namespace": "default", "name": "golden"},
        },
    });
    cluster.post("/api/v1/persistentvolumes", &volume).await.expect(201);
    let bound = async {
        while cluster.get(&path).await.expect(200)["status"]["phase"] != "Bound" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, bound).await.unwrap();
    let grow = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let refused = cluster.merge(&path, &grow("3Gi")).await.refused(403, "Forbidden");
    assert!(
        refused.contains(&format!("requested: {gold}=2Gi, used: {gold}=1Gi, limited: {gold}=2Gi")),
        "{refused}"
    );
    cluster.merge(&path, &grow("2Gi")).await.expect(200);
    assert_eq!(used(&cluster, "q", gold).await, "2Gi");
    assert_eq!(used(&cluster, "q", "requests.storage").await, "3Gi");

    cluster.delete(&format!("{MAPS}/a")).await.expect(200);
    until_used(&cluster, "configmaps", "0").await;
    cluster.post(MAPS, &map("b")).await.expect(201);
    cluster.delete(&format!("{CLAIMS}/first")).await.expect(200);
    until_used(&cluster, "requests.storage", "2Gi").await;
    // Other limits hold at once.
    cluster.merge(&format!("{QUOTAS}/q"), &json!({"spec": {"hard": {"secrets": "0"}}})).await.expect(200);
    cluster
        .post("/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "s"}}))
        .await
        .refused(403, "Forbidden");
    until_used(&cluster, "secrets", "0").await;
    stop.cancel();
    running.await.unwrap().unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn ranges_of_sizes() {
    let cluster = Cluster::start().await;
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [
        {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"}},
    ]}});
    cluster.post(RANGES, &range).await.expect(201);
    cluster.post(CLAIMS, &sized("fits", "5Gi")).await.expect(201);
    assert_eq!(
        cluster.post(CLAIMS, &sized("c", "6Gi")).await.refused(403, "Forbidden"),
        r#"persistentvolumeclaims "c" is forbidden: maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 6Gi"#
    );
    assert_eq!(
        cluster.post(CLAIMS, &sized("c", "500Mi")).await.refused(403, "Forbidden"),
        r#"persistentvolumeclaims "c" is forbidden: minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"#
    );
    cluster
        .merge(
            &format!("{RANGES}/r"),
            &json!({"spec": {"limits": [
                {"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}},
            ]}}),
        )
        .await
        .expect(200);
    // What is there may stay as large as it is.
    cluster.merge(&format!("{CLAIMS}/fits"), &json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200);
    cluster.stop().await;
}

#[tokio::test]
async fn kubectl_shows_them() {
    with_each(async |kubectl| {
        kubectl
            .ok(&["create", "quota", "q", "--hard=persistentvolumeclaims=2,requests.storage=3Gi"], "")
            .await;
        kubectl.cluster.post(CLAIMS, &claim("a")).await.expect(201);
        let table = kubectl.ok(&["get", "quota"], "").await;
        assert!(table.starts_with("NAME   REQUEST"), "{table}");
        assert!(table.contains("persistentvolumeclaims: 1/2, requests.storage: 1Gi/3Gi"), "{table}");
        let told = kubectl.ok(&["describe", "quota", "q"], "").await;
        let rows: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(rows.contains(&vec!["requests.storage", "1Gi", "3Gi"]), "{told}");
        let range = json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "r"},
            "spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"storage": "2Gi"}}]},
        });
        kubectl.ok(&["apply", "-f", "-"], &range.to_string()).await;
        assert!(kubectl.ok(&["get", "limits"], "").await.starts_with("NAME   CREATED AT"));
        let told = kubectl.ok(&["describe", "limitrange", "r"], "").await;
        assert!(told.contains("PersistentVolumeClaim") && told.contains("2Gi"), "{told}");
        kubectl.ok(&["explain", "resourcequota.spec.scopeSelector"], "").await;
        let many = kubectl.fails(&["create", "quota", "n", "--hard=pods=-1"], "").await;
        assert!(many.contains("greater than or equal to 0"), "{many}");
    })
    .await;
}
