//! Server-side apply over HTTP and through kube-rs: owners, conflicts, creation.

use holdfast_volume_controller::store::{Key, Precondition, Write};
use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::harness::{Answer, CLAIMS, CLASSES, Cluster, MAPS, PODS, claim, class, map, pod};

impl Cluster {
    /// Applies YAML or JSON; `query` as in `fieldManager=a&force=true`.
    async fn apply(&self, path: &str, query: &str, body: impl ToString) -> Answer {
        let media = [("content-type", "application/apply-patch+yaml")];
        self.raw(Method::PATCH, &format!("{path}?{query}"), &media, body.to_string()).await
    }
}

/// The fields of a manager.
fn fields(object: &Value, manager: &str, operation: &str, subresource: &str) -> Value {
    let mut entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let entry = entries.find(|entry| {
        entry["manager"] == manager
            && entry["operation"] == operation
            && entry["subresource"].as_str().unwrap_or_default() == subresource
    });
    entry.map(|entry| entry["fieldsV1"].clone()).unwrap_or_default()
}

#[tokio::test]
async fn an_apply_creates_changes_and_repeats() {
    let cluster = Cluster::start().await;
    let path = format!("{CLAIMS}/a");
    let created = cluster.apply(&path, "fieldManager=me", claim("a")).await.expect(201);
    assert_eq!(created["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    assert_eq!(created["spec"]["volumeMode"], "Filesystem");
    // Defaults, and what the server adds, are nobody's.
    let entry = &created["metadata"]["managedFields"];
    assert_eq!(entry.as_array().unwrap().len(), 1, "{entry}");
    assert_eq!(
        (&entry[0]["manager"], &entry[0]["operation"], &entry[0]["apiVersion"], &entry[0]["fieldsType"]),
        (&json!("me"), &json!("Apply"), &json!("v1"), &json!("FieldsV1"))
    );
    assert!(entry[0]["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        entry[0]["fieldsV1"],
        json!({"f:spec": {"f:accessModes": {}, "f:resources": {"f:requests": {"f:storage": {}}}}})
    );
    assert_eq!(cluster.get(&path).await.expect(200), created);

    // The same again writes nothing, in YAML or JSON, also years later.
    let mut aged = created.clone();
    aged["metadata"]["managedFields"][0]["time"] = json!("2020-01-01T00:00:00Z");
    let key = Key::new("persistentvolumeclaims", "default", "a");
    let write = Write { key, precondition: Precondition::Present, body: Some(aged) };
    cluster.store.commit(vec![write]).await.unwrap();
    let created = cluster.get(&path).await.expect(200);
    let before = cluster.store.revision();
    let yaml = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: a}\nspec:\n  accessModes: [ReadWriteOnce]\n  \
                resources: {requests: {storage: 1Gi}}\n";
    assert_eq!(cluster.apply(&path, "fieldManager=me", yaml).await.expect(200), created);
    assert_eq!(cluster.store.revision(), before);
    // As Go's types write it, with what says nothing.
    let mut go = claim("a");
    go["metadata"]["creationTimestamp"] = Value::Null;
    go["status"] = json!({});
    assert_eq!(cluster.apply(&path, "fieldManager=me", &go).await.expect(200), created);
    assert_eq!(cluster.store.revision(), before);
    // One who wants the same owns it as well.
    let shared = cluster.apply(&path, "fieldManager=you", yaml).await.expect(200);
    assert_eq!(fields(&shared, "you", "Apply", ""), entry[0]["fieldsV1"]);
    assert!(cluster.store.revision() > before);

    let mut labelled = claim("a");
    labelled["metadata"]["labels"] = json!({"x": "y"});
    let dry = cluster.apply(&path, "fieldManager=me&dryRun=All", &labelled).await.expect(200);
    assert_eq!(dry["metadata"]["labels"], json!({"x": "y"}));
    assert_eq!(cluster.get(&path).await.expect(200), shared);
    cluster.apply(&path, "fieldManager=me", &labelled).await.expect(200);
    let unlabelled = cluster.apply(&path, "fieldManager=me", yaml).await.expect(200);
    assert!(unlabelled["metadata"]["labels"].is_null(), "{unlabelled}");
    let dry = cluster.apply(&format!("{CLAIMS}/b"), "fieldManager=me&dryRun=All", claim("b")).await;
    assert_eq!(dry.expect(201)["metadata"]["name"], "b");
    cluster.get(&format!("{CLAIMS}/b")).await.refused(404, "NotFound");
    cluster.stop().await;
}

#[tokio::test]
async fn conflicts_are_named_and_can_be_forced() {
    let cluster = Cluster::start().await;
    let path = format!("{PODS}/a");
    let mut wanted = pod("a");
    wanted["metadata"]["labels"] = json!({"app": "one"});
    cluster.apply(&path, "fieldManager=one", &wanted).await.expect(201);
    let media = [("content-type", "application/merge-patch+json"), ("user-agent", "editor/1.0 (linux)")];
    let edit = json!({"metadata": {"labels": {"app": "two", "tier": "gold"}}});
    let edited = cluster.raw(Method::PATCH, &path, &media, edit.to_string()).await.expect(200);
    assert_eq!(
        fields(&edited, "editor", "Update", ""),
        json!({"f:metadata": {"f:labels": {"f:app": {}, "f:tier": {}}}})
    );
    let refused = cluster.apply(&path, "fieldManager=one", &wanted).await;
    let message = r#"Apply failed with 1 conflict: conflict with "editor" using v1: .metadata.labels.app"#;
    assert_eq!(refused.refused(409, "Conflict"), message);
    assert_eq!(
        refused.json()["details"],
        json!({"causes": [{
            "reason": "FieldManagerConflict",
            "message": r#"conflict with "editor" using v1"#,
            "field": ".metadata.labels.app",
        }]})
    );
    let mut other = pod("a");
    other["spec"]["containers"][0]["image"] = json!("other");
    let refused = cluster.apply(&path, "fieldManager=three", &other).await.refused(409, "Conflict");
    assert_eq!(
        refused,
        r#"Apply failed with 1 conflict: conflict with "one": .spec.containers[name="main"].image"#
    );
    let forced = cluster.apply(&path, "fieldManager=one&force=true", &wanted).await.expect(200);
    assert_eq!(forced["metadata"]["labels"], json!({"app": "one", "tier": "gold"}));
    assert_eq!(fields(&forced, "editor", "Update", ""), json!({"f:metadata": {"f:labels": {"f:tier": {}}}}));
    cluster.stop().await;
}

#[tokio::test]
async fn what_cannot_be_applied_is_refused() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a");
    let message = cluster.apply(&path, "", map("a")).await.refused(422, "Invalid");
    assert_eq!(
        message,
        r#"PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch"#
    );
    let media = [("content-type", "application/merge-patch+json")];
    let forced = cluster.raw(Method::PATCH, &format!("{path}?force=true"), &media, "{}").await;
    assert!(
        forced
            .refused(422, "Invalid")
            .ends_with("force: Forbidden: may not be specified for non-apply patch")
    );
    let long = format!("{MAPS}?fieldManager={}", "x".repeat(129));
    let message = cluster.post(&long, &map("a")).await.refused(422, "Invalid");
    assert!(message.starts_with("CreateOptions.meta.k8s.io"), "{message}");

    let me = "fieldManager=me";
    let with = |change: Value| {
        let mut body = map("a");
        json_merge(&mut body, &change);
        body
    };
    for (body, code, reason, expected) in [
        (
            with(json!({"metadata": {"uid": "u"}})),
            409,
            "Conflict",
            "uid mismatch: the provided object specified uid u",
        ),
        (
            with(json!({"metadata": {"resourceVersion": "1"}})),
            409,
            "Conflict",
            "the object has been modified",
        ),
        (
            with(json!({"metadata": {"managedFields": []}})),
            400,
            "BadRequest",
            "metadata.managedFields must be nil",
        ),
        (with(json!({"metadata": {"name": "b"}})), 400, "BadRequest", "does not match the name on the URL"),
        (with(json!({"kind": "Secret"})), 400, "BadRequest", "invalid object type: /v1, Kind=Secret"),
        (
            with(json!({"dta": {"a": "1"}})),
            400,
            "BadRequest",
            "failed to create typed patch object (default/a; /v1, Kind=ConfigMap): .dta: field not declared in schema",
        ),
        (json!([1]), 400, "BadRequest", "error decoding patch"),
    ] {
        let message = cluster.apply(&path, me, &body).await.refused(code, reason);
        assert!(message.contains(expected), "{message}");
    }
    cluster.apply(&path, me, "{\"a").await.refused(400, "BadRequest");
    cluster.apply(&path, me, "a: [").await.refused(400, "BadRequest");
    let mut twice = pod("a");
    twice["spec"]["containers"] = json!([{"name": "m", "image": "a"}, {"name": "m", "image": "b"}]);
    let message = cluster.apply(&format!("{PODS}/a"), me, &twice).await.refused(400, "BadRequest");
    assert!(message.ends_with(r#".spec.containers: duplicate entries for key [name="m"]"#), "{message}");
    // Deep inside a value that is applied as a whole, too.
    let mut deep = claim("a");
    deep["spec"]["selector"] = json!({"matchLabelz": {"a": "b"}});
    let message = cluster.apply(&format!("{CLAIMS}/a"), me, &deep).await.refused(400, "BadRequest");
    assert!(message.contains(".spec.selector.matchLabelz: field not declared in schema"), "{message}");
    let status = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": "Bound"}});
    cluster.apply(&format!("{CLAIMS}/a/status"), me, &status).await.refused(404, "NotFound");

    // The rules on objects hold.
    cluster.apply(&format!("{CLASSES}/a"), me, class("a")).await.expect(201);
    let mut other = class("a");
    other["provisioner"] = json!("other.example.com");
    let message = cluster.apply(&format!("{CLASSES}/a"), me, &other).await.refused(422, "Invalid");
    assert!(message.contains("provisioner"), "{message}");
    // A version that is not the object's, and one that is.
    let created = cluster.apply(&path, me, map("a")).await.expect(201);
    let named = |version: &Value| with(json!({"metadata": {"resourceVersion": version}, "data": {"a": "2"}}));
    cluster.apply(&path, me, named(&json!("1"))).await.refused(409, "Conflict");
    cluster.apply(&path, me, named(&created["metadata"]["resourceVersion"])).await.expect(200);
    cluster.apply(&path, me, with(json!({"metadata": {"uid": "other"}}))).await.refused(409, "Conflict");
    let double = r#"{"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1", "a": "2"}}"#;
    let warned = cluster.apply(&path, me, double).await;
    assert_eq!(warned.code, 200, "{}", warned.text);
    assert!(warned.headers.contains_key("warning"));
    cluster.apply(&path, &format!("{me}&fieldValidation=Strict"), double).await.refused(400, "BadRequest");
    cluster.stop().await;
}

fn json_merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                json_merge(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

#[tokio::test]
async fn the_status_has_owners_of_its_own() {
    let cluster = Cluster::start().await;
    let path = format!("{CLAIMS}/a");
    let mut wanted = claim("a");
    wanted["status"] = json!({"phase": "Lost"});
    let created = cluster.apply(&path, "fieldManager=me", &wanted).await.expect(201);
    assert_eq!(created["status"]["phase"], "Pending");
    assert!(fields(&created, "me", "Apply", "")["f:status"].is_null());
    let status = |phase: &str, class: Value| {
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "a"},
            "spec": {"storageClassName": class}, "status": {"phase": phase},
        })
    };
    let sub = format!("{path}/status");
    // The class is not the status's to set, nor to own.
    let bound =
        cluster.apply(&sub, "fieldManager=me&force=true", status("Bound", json!("fast"))).await.expect(200);
    assert_eq!(
        (&bound["status"]["phase"], &bound["spec"]["storageClassName"]),
        (&json!("Bound"), &Value::Null)
    );
    assert_eq!(fields(&bound, "me", "Apply", "status"), json!({"f:status": {"f:phase": {}}}));
    assert_eq!(fields(&bound, "me", "Apply", ""), fields(&created, "me", "Apply", ""));
    let refused = cluster.apply(&sub, "fieldManager=you", status("Lost", Value::Null)).await;
    assert_eq!(
        refused.refused(409, "Conflict"),
        r#"Apply failed with 1 conflict: conflict with "me" with subresource "status": .status.phase"#
    );
    let put = json!({"status": {"phase": "Lost"}});
    let lost = cluster.merge(&format!("{sub}?fieldManager=binder"), &put).await.expect(200);
    assert_eq!(fields(&lost, "binder", "Update", "status"), json!({"f:status": {"f:phase": {}}}));
    assert_eq!(fields(&lost, "me", "Apply", "status"), Value::Null);
    cluster.stop().await;
}

#[tokio::test]
async fn every_writer_is_recorded() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a");
    let created = cluster.post(&format!("{MAPS}?fieldManager=maker"), &map("a")).await.expect(201);
    assert_eq!(fields(&created, "maker", "Update", ""), json!({"f:data": {".": {}, "f:a": {}}}));
    let mut changed = created.clone();
    changed["data"] = json!({"a": "2", "b": "1"});
    // A client that knows nothing of owners does not take the record away.
    changed["metadata"].as_object_mut().unwrap().remove("managedFields");
    let changed = cluster.put(&format!("{path}?fieldManager=changer"), &changed).await.expect(200);
    assert_eq!(fields(&changed, "changer", "Update", ""), json!({"f:data": {"f:a": {}, "f:b": {}}}));
    assert_eq!(fields(&changed, "maker", "Update", ""), json!({"f:data": {}}));
    let listed = cluster.get(MAPS).await.expect(200);
    assert_eq!(listed["items"][0]["metadata"], changed["metadata"]);
    // As `kubectl` moves the record of client-side applies: a JSON patch with the version.
    let patch = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": [{
            "manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:a": {}}},
        }]},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": changed["metadata"]["resourceVersion"]},
    ]);
    let media = [("content-type", "application/json-patch+json")];
    let moved = cluster.raw(Method::PATCH, &path, &media, patch.to_string()).await.expect(200);
    assert_eq!(moved["metadata"]["managedFields"], patch[0]["value"]);
    let mut reset = moved.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    let reset = cluster.put(&path, &reset).await.expect(200);
    assert!(reset["metadata"]["managedFields"].is_null(), "{reset}");
    // Nothing is recorded from here to the first apply.
    let edited = cluster.merge(&path, &json!({"data": {"c": "1"}})).await.expect(200);
    assert!(edited["metadata"]["managedFields"].is_null(), "{edited}");
    let applied = cluster.apply(&path, "fieldManager=me", map("a")).await;
    let message = r#"Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.a"#;
    assert_eq!(applied.refused(409, "Conflict"), message);
    cluster.stop().await;
}

#[tokio::test]
async fn applies_that_meet_are_all_done() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a");
    let applies = (0..8).map(|n| {
        let (cluster, path) = (&cluster, &path);
        let mut body = map("a");
        body["data"] = json!({format!("k{n}"): "v"});
        async move { cluster.apply(path, &format!("fieldManager=m{n}"), body).await }
    });
    let answers = futures::future::join_all(applies).await;
    assert_eq!(answers.iter().filter(|answer| answer.code == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.code == 200).count(), 7);
    let all = cluster.get(&path).await.expect(200);
    assert_eq!(all["data"].as_object().unwrap().len(), 8);
    assert_eq!(all["metadata"]["managedFields"].as_array().unwrap().len(), 8);
    cluster.stop().await;
}

#[tokio::test]
async fn through_kube() {
    let cluster = Cluster::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let params = PatchParams::apply("controller");
    let wanted: ConfigMap = serde_json::from_value(map("a")).unwrap();
    let created = maps.patch("a", &params, &Patch::Apply(&wanted)).await.unwrap();
    assert_eq!(created.metadata.managed_fields.as_ref().unwrap()[0].manager.as_deref(), Some("controller"));
    let again = maps.patch("a", &params, &Patch::Apply(&wanted)).await.unwrap();
    assert_eq!(again, created);
    // A whole object sent back as it came, by one that keeps the record.
    let mut replaced = created.clone();
    replaced.data.as_mut().unwrap().insert("b".into(), "1".into());
    let post = PostParams { field_manager: Some("editor".into()), ..PostParams::default() };
    let replaced = maps.replace("a", &post, &replaced).await.unwrap();
    assert_eq!(replaced.metadata.managed_fields.unwrap().len(), 2);
    let mut other = wanted.clone();
    other.data.as_mut().unwrap().insert("b".into(), "2".into());
    let error = maps.patch("a", &params, &Patch::Apply(&other)).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 409), "{error}");
    let forced = maps.patch("a", &params.clone().force(), &Patch::Apply(&other)).await.unwrap();
    assert_eq!(forced.data.unwrap()["b"], "2");

    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(cluster.client.clone());
    claims.patch("a", &params, &Patch::Apply(&claim("a"))).await.unwrap();
    let status = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": "Bound"}});
    let bound = claims.patch_status("a", &params, &Patch::Apply(&status)).await.unwrap();
    assert_eq!(bound.status.unwrap().phase.as_deref(), Some("Bound"));
    cluster.stop().await;
}
