//! Creating, replacing and patching.

use holdfast_volume_controller::store::{Key, Precondition, Write};
use serde_json::{Value, json};

use super::harness::{CLAIMS, CLASSES, Cluster, MAPS, PODS, claim, class, map, pod};

#[tokio::test]
async fn the_server_decides_identity() {
    let cluster = Cluster::start().await;
    let mut body = map("a");
    body["metadata"]["uid"] = json!("mine");
    body["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
    let created = cluster.post(MAPS, &body).await.expect(201);
    let metadata = &created["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert!(metadata["creationTimestamp"].as_str().unwrap().ends_with('Z'));
    assert!(metadata["deletionTimestamp"].is_null());
    assert_eq!(metadata["resourceVersion"], cluster.store.revision().to_string());
    assert_eq!(cluster.get(&format!("{MAPS}/a")).await.expect(200), created);

    let message = cluster.post(MAPS, &map("a")).await.refused(409, "AlreadyExists");
    assert_eq!(message, r#"configmaps "a" already exists"#);
    let message = cluster.get(&format!("{MAPS}/b")).await.refused(404, "NotFound");
    assert_eq!(message, r#"configmaps "b" not found"#);
    let message = cluster.get(&format!("{CLASSES}/b")).await.refused(404, "NotFound");
    assert_eq!(message, r#"storageclasses.storage.k8s.io "b" not found"#);
    cluster.stop().await;
}

#[tokio::test]
async fn names_are_made_up_on_demand() {
    let cluster = Cluster::start().await;
    let mut body = map("");
    body["metadata"] = json!({"generateName": "x-"});
    let mut names = Vec::new();
    for _ in 0..3 {
        let created = cluster.post(MAPS, &body).await.expect(201);
        names.push(created["metadata"]["name"].as_str().unwrap().to_owned());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| name.starts_with("x-") && name.len() == 7), "{names:?}");

    body["metadata"] = json!({});
    let message = cluster.post(MAPS, &body).await.refused(422, "Invalid");
    assert_eq!(
        message,
        r#"ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required"#
    );
    let message = cluster.post(MAPS, &map("Not_A_Name")).await.refused(422, "Invalid");
    assert!(
        message.starts_with(r#"ConfigMap "Not_A_Name" is invalid: metadata.name: Invalid value: "#),
        "{message}"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn namespaces_must_be_there() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/dev/configmaps";
    let message = cluster.post(path, &map("a")).await.refused(404, "NotFound");
    assert_eq!(message, r#"namespaces "dev" not found"#);
    let dev = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dev"}});
    let created = cluster.post("/api/v1/namespaces", &dev).await.expect(201);
    assert_eq!(created["status"]["phase"], "Active");
    cluster.post(path, &map("a")).await.expect(201);
    let mut other = map("b");
    other["metadata"]["namespace"] = json!("default");
    let message = cluster.post(path, &other).await.refused(400, "BadRequest");
    assert!(message.contains("does not match the namespace"), "{message}");

    // A manifest that does not know of the finalizer does not take it off.
    let replaced = cluster.put("/api/v1/namespaces/dev", &dev).await.expect(200);
    assert_eq!(replaced["spec"]["finalizers"], json!(["kubernetes"]));
    // Its content is somebody else's to remove, so it stays, terminating.
    let deleted = cluster.delete("/api/v1/namespaces/dev").await.expect(200);
    assert_eq!(deleted["status"]["phase"], "Terminating");
    let message = cluster.post(path, &map("c")).await.refused(403, "Forbidden");
    assert!(message.contains("because it is being terminated"), "{message}");
    let mut finalize = cluster.get("/api/v1/namespaces/dev").await.expect(200);
    finalize["spec"]["finalizers"] = json!([]);
    cluster.put("/api/v1/namespaces/dev/finalize", &finalize).await.expect(200);
    cluster.get("/api/v1/namespaces/dev").await.refused(404, "NotFound");
    let message = cluster.delete("/api/v1/namespaces/default").await.refused(403, "Forbidden");
    assert_eq!(message, r#"namespaces "default" is forbidden: this namespace may not be deleted"#);
    cluster.stop().await;
}

/// A namespace that goes away while objects are made in it leaves none of them behind:
/// nobody could reach them any more.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_in_a_namespace_that_is_gone() {
    let cluster = Cluster::start().await;
    let key = Key::new("namespaces", "", "dev");
    let (mut made, mut refused) = (0, 0);
    for round in 0..20 {
        let dev = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "dev"}});
        cluster.post("/api/v1/namespaces", &dev).await.expect(201);
        let creates = (0..32).map(|number| {
            let cluster = &cluster;
            async move {
                let object = map(&format!("m-{round}-{number}"));
                cluster.post("/api/v1/namespaces/dev/configmaps", &object).await
            }
        });
        let remove = async {
            // Somewhere in the middle of the creates.
            cluster.get("/version").await;
            let write = Write { key: key.clone(), precondition: Precondition::Present, body: None };
            cluster.store.commit(vec![write]).await.unwrap().remove(0).revision
        };
        let (answers, gone) = tokio::join!(futures::future::join_all(creates), remove);
        for answer in answers {
            match answer.code {
                201 => made += 1,
                404 => refused += 1,
                code => panic!("{code}: {}", answer.text),
            }
        }
        for object in cluster.store.list("configmaps", Some("dev"), None, None).objects {
            assert!(object.revision < gone, "{} was made after its namespace had gone", object.key);
            let write = Write { key: object.key.clone(), precondition: Precondition::Present, body: None };
            cluster.store.commit(vec![write]).await.unwrap();
        }
    }
    assert!(made > 0 && refused > 0, "{made} made, {refused} refused: nothing was contended");
    cluster.stop().await;
}

#[tokio::test]
async fn versions_guard_updates() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a");
    let first = cluster.post(MAPS, &map("a")).await.expect(201);
    let mut second = first.clone();
    second["data"]["a"] = json!("2");
    let second = cluster.put(&path, &second).await.expect(200);
    assert_ne!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(second["metadata"]["uid"], first["metadata"]["uid"]);

    let mut stale = first.clone();
    stale["data"]["a"] = json!("3");
    let message = cluster.put(&path, &stale).await.refused(409, "Conflict");
    assert_eq!(
        message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
         changes to the latest version and try again"
    );
    let stale =
        json!({"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"a": "3"}});
    cluster.merge(&path, &stale).await.refused(409, "Conflict");
    let other = json!({"metadata": {"uid": "other"}, "data": {"a": "3"}});
    cluster.merge(&path, &other).await.refused(409, "Conflict");
    // Without a version the last writer wins.
    let mut unconditional = map("a");
    unconditional["data"]["a"] = json!("4");
    assert_eq!(cluster.put(&path, &unconditional).await.expect(200)["data"]["a"], "4");
    // What changes nothing writes nothing.
    let before = cluster.store.revision();
    cluster.put(&path, &unconditional).await.expect(200);
    cluster.merge(&path, &json!({"data": {"a": "4"}})).await.expect(200);
    assert_eq!(cluster.store.revision(), before);
    let message = cluster.put(&path, &map("b")).await.refused(400, "BadRequest");
    assert!(message.contains("does not match the name on the URL"), "{message}");
    cluster.put(&format!("{MAPS}/none"), &map("none")).await.refused(404, "NotFound");
    cluster.stop().await;
}

#[tokio::test]
async fn patches_that_meet_are_all_applied() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let path = format!("{MAPS}/a");
    let patches = (0..8).map(|n| {
        let (cluster, path) = (&cluster, &path);
        async move { cluster.merge(path, &json!({"data": {format!("k{n}"): "v"}})).await.expect(200) }
    });
    futures::future::join_all(patches).await;
    let all = cluster.get(&path).await.expect(200);
    assert_eq!(all["data"].as_object().unwrap().len(), 9);
    cluster.stop().await;
}

#[tokio::test]
async fn status_is_written_apart() {
    let cluster = Cluster::start().await;
    let mut body = claim("a");
    body["status"] = json!({"phase": "Bound"});
    let created = cluster.post(CLAIMS, &body).await.expect(201);
    assert_eq!(created["status"]["phase"], "Pending");
    assert_eq!(created["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let path = format!("{CLAIMS}/a");
    let patched = cluster
        .merge(&path, &json!({"status": {"phase": "Bound"}, "metadata": {"labels": {"x": "y"}}}))
        .await
        .expect(200);
    assert_eq!(patched["status"]["phase"], "Pending");
    assert_eq!(patched["metadata"]["labels"]["x"], "y");
    let status = json!({"status": {"phase": "Bound"}, "spec": {"volumeName": "stolen"}});
    let patched = cluster.merge(&format!("{path}/status"), &status).await.expect(200);
    assert_eq!(patched["status"]["phase"], "Bound");
    assert!(patched["spec"]["volumeName"].is_null());
    assert_eq!(cluster.get(&format!("{path}/status")).await.expect(200), patched);
    for wrong in [
        json!({"status": {"capacity": {"storage": "much"}}}),
        json!({"metadata": {"labels": {"not a key!": "x"}}}),
    ] {
        cluster.merge(&format!("{path}/status"), &wrong).await.refused(422, "Invalid");
    }
    cluster.get(&format!("{CLASSES}/a/status")).await.refused(404, "NotFound");
    cluster.stop().await;
}

#[tokio::test]
async fn dry_runs_write_nothing() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let before = cluster.store.revision();
    let created = cluster.post(&format!("{MAPS}?dryRun=All"), &map("b")).await.expect(201);
    assert_eq!(created["metadata"]["uid"].as_str().unwrap().len(), 36);
    cluster.post(&format!("{MAPS}?dryRun=All"), &map("a")).await.refused(409, "AlreadyExists");
    let path = format!("{MAPS}/a?dryRun=All");
    assert_eq!(cluster.merge(&path, &json!({"data": {"a": "9"}})).await.expect(200)["data"]["a"], "9");
    cluster.put(&path, &map("a")).await.expect(200);
    cluster.delete(&path).await.expect(200);
    cluster.post(&format!("{MAPS}?dryRun=Some"), &map("c")).await.refused(422, "Invalid");
    assert_eq!(cluster.store.revision(), before);
    cluster.stop().await;
}

#[tokio::test]
async fn claims_get_the_default_class_and_grow_only_where_allowed() {
    let cluster = Cluster::start().await;
    let unclassed = cluster.post(CLAIMS, &claim("none")).await.expect(201);
    assert!(unclassed["spec"]["storageClassName"].is_null());
    let mut fixed = class("fixed");
    fixed["metadata"]["annotations"] = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    cluster.post(CLASSES, &fixed).await.expect(201);
    let mut elastic = class("elastic");
    elastic["allowVolumeExpansion"] = json!(true);
    cluster.post(CLASSES, &elastic).await.expect(201);
    let defaulted = cluster.post(CLAIMS, &claim("fixed")).await.expect(201);
    assert_eq!(defaulted["spec"]["storageClassName"], "fixed");
    let mut explicit = claim("elastic");
    explicit["spec"]["storageClassName"] = json!("elastic");
    cluster.post(CLAIMS, &explicit).await.expect(201);
    let mut nobody = claim("nobody");
    nobody["spec"]["storageClassName"] = json!("");
    let nobody = cluster.post(CLAIMS, &nobody).await.expect(201);
    assert_eq!(nobody["spec"]["storageClassName"], "");

    let grow = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    for name in ["fixed", "elastic"] {
        let volume = json!({"spec": {"volumeName": format!("pv-{name}")}});
        cluster.merge(&format!("{CLAIMS}/{name}"), &volume).await.expect(200);
        cluster.merge(&format!("{CLAIMS}/{name}/status"), &bound).await.expect(200);
    }
    let message = cluster.merge(&format!("{CLAIMS}/fixed"), &grow).await.refused(403, "Forbidden");
    assert_eq!(
        message,
        "persistentvolumeclaims \"fixed\" is forbidden: only dynamically provisioned pvc can be resized and the \
         storageclass that provisions the pvc must support resize"
    );
    let grown = cluster.merge(&format!("{CLAIMS}/elastic"), &grow).await.expect(200);
    assert_eq!(grown["spec"]["resources"]["requests"]["storage"], "2Gi");
    let shrink = json!({"spec": {"resources": {"requests": {"storage": "1Mi"}}}});
    cluster.merge(&format!("{CLAIMS}/elastic"), &shrink).await.refused(422, "Invalid");
    cluster.stop().await;
}

#[tokio::test]
async fn pods_are_bound_once() {
    let cluster = Cluster::start().await;
    let created = cluster.post(PODS, &pod("a")).await.expect(201);
    let path = format!("{PODS}/a/binding");
    let binding = |uid: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": "a", "uid": uid, "annotations": {"x": "y"}},
            "target": {"kind": "Node", "name": "n1"},
        })
    };
    cluster.post(&path, &binding("other")).await.refused(409, "Conflict");
    let uid = created["metadata"]["uid"].as_str().unwrap();
    assert_eq!(cluster.post(&path, &binding(uid)).await.expect(201)["status"], "Success");
    let bound = cluster.get(&format!("{PODS}/a")).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["metadata"]["annotations"]["x"], "y");
    let message = cluster.post(&path, &binding(uid)).await.refused(409, "Conflict");
    assert!(message.contains(r#"already assigned to node "n1""#), "{message}");
    cluster.stop().await;
}

/// By owners the rest is found that must go: one that nobody could find would never go, or at once.
#[tokio::test]
async fn owners_and_finalizers_are_ones_that_can_be() {
    let cluster = Cluster::start().await;
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "1", "controller": true});
    let mut owned = map("a");
    owned["metadata"]["ownerReferences"] = json!([owner]);
    cluster.post(MAPS, &owned).await.expect(201);
    let path = format!("{MAPS}/a");
    let change = |field: &str, value: Value| {
        let mut owner = owner.clone();
        owner[field] = value;
        json!({"metadata": {"ownerReferences": [owner]}})
    };
    for (change, expected) in [
        (change("uid", json!("")), "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"),
        (
            change("apiVersion", json!("")),
            "metadata.ownerReferences.apiVersion: Invalid value: \"\": version must not be empty",
        ),
        (
            json!({"metadata": {"finalizers": ["mine"]}}),
            "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it \
             fully qualified",
        ),
    ] {
        let why = cluster.merge(&path, &change).await.refused(422, "Invalid");
        assert_eq!(why, format!("ConfigMap \"a\" is invalid: {expected}"));
    }
    let twice = json!({"metadata": {"ownerReferences": [owner, owner]}});
    let why = cluster.merge(&path, &twice).await.refused(422, "Invalid");
    assert!(why.contains("Only one reference can have Controller set to true"), "{why}");
    cluster.merge(&path, &json!({"metadata": {"ownerReferences": null}})).await.expect(200);
    cluster.stop().await;
}

/// Which kinds have it, and when it counts, is as upstream has it.
#[tokio::test]
async fn generations() {
    let cluster = Cluster::start().await;
    let drivers = "/apis/storage.k8s.io/v1/csidrivers";
    let driver = json!({"metadata": {"name": "d.example.com"}, "spec": {"attachRequired": false}});
    let attachment = json!({"metadata": {"name": "a"}, "spec": {
        "attacher": "d.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"},
    }});
    for (path, object, expected) in [
        (PODS, pod("a"), json!(1)),
        (drivers, driver, json!(1)),
        (CLAIMS, claim("a"), Value::Null),
        (CLASSES, class("a"), Value::Null),
        ("/apis/storage.k8s.io/v1/volumeattachments", attachment, Value::Null),
        ("/api/v1/namespaces", json!({"metadata": {"name": "n"}}), Value::Null),
    ] {
        let mut object = object;
        object["metadata"]["generation"] = json!(7);
        let made = cluster.post(path, &object).await.expect(201);
        assert_eq!(made["metadata"]["generation"], expected, "{path}");
        let path = format!("{path}/{}", made["metadata"]["name"].as_str().unwrap());
        let label = json!({"metadata": {"labels": {"a": "b"}, "generation": 9}});
        let labelled = cluster.merge(&path, &label).await.expect(200);
        assert_eq!(labelled["metadata"]["generation"], expected, "{path}");
    }
    let wanted = json!({"spec": {"requiresRepublish": true}});
    let newer = cluster.merge(&format!("{drivers}/d.example.com"), &wanted).await.expect(200);
    assert_eq!(newer["metadata"]["generation"], 2);
    let volume = json!({"spec": {"volumeName": "v"}});
    let newer = cluster.merge(&format!("{CLAIMS}/a"), &volume).await.expect(200);
    assert_eq!(newer["metadata"]["generation"], Value::Null);
    cluster.stop().await;
}
