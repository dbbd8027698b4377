//! What a body may be, and what is said about one that it may not be.

use http::Method;
use serde_json::json;

use super::harness::{CLAIMS, Cluster, MAPS, claim, map};

#[tokio::test]
async fn malformed_bodies_get_one_clear_line() {
    let cluster = Cluster::start().await;
    let json = [("content-type", "application/json")];
    for body in ["", "{", "[]", "{\"kind\": }", "null", "{\"metadata\": 3}"] {
        let message = cluster.raw(Method::POST, MAPS, &json, body).await.refused(400, "BadRequest");
        assert!(!message.contains('\n') && !message.is_empty(), "{body}: {message}");
    }
    let mut wrong = claim("a");
    wrong["spec"]["accessModes"] = json!("ReadWriteOnce");
    let message = cluster.post(CLAIMS, &wrong).await.refused(400, "BadRequest");
    assert!(
        message.starts_with(
            r#"PersistentVolumeClaim in version "v1" cannot be handled as a PersistentVolumeClaim: "#
        ),
        "{message}"
    );
    let message = cluster.post(CLAIMS, &map("a")).await.refused(400, "BadRequest");
    assert!(message.contains("kind in the data (ConfigMap)"), "{message}");
    let empty = json!({"kind": "PersistentVolumeClaim", "metadata": {"name": "a"}, "spec": {}});
    let message = cluster.post(CLAIMS, &empty).await.refused(422, "Invalid");
    assert!(message.contains("spec.accessModes: Required value"), "{message}");
    cluster.stop().await;
}

#[tokio::test]
async fn media_types() {
    let cluster = Cluster::start().await;
    let send = |media: &'static str, body: &'static str| {
        let cluster = &cluster;
        async move { cluster.raw(Method::POST, MAPS, &[("content-type", media)], body).await }
    };
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: from-yaml\ndata:\n  a: b\n";
    assert_eq!(send("application/yaml", yaml).await.expect(201)["data"]["a"], "b");
    send("application/yaml", "a: [").await.refused(400, "BadRequest");
    let message = send("text/html", "<p>").await.refused(415, "UnsupportedMediaType");
    assert!(message.contains("accepted media types include: application/json"), "{message}");
    send("application/vnd.kubernetes.protobuf", "k8s").await.refused(400, "BadRequest");
    send("application/vnd.kubernetes.protobuf", "k8s\0").await.refused(415, "UnsupportedMediaType");
    let path = format!("{MAPS}/from-yaml");
    let patch = |media: &'static str, body: &'static str| {
        let (cluster, path) = (&cluster, path.clone());
        async move { cluster.raw(Method::PATCH, &path, &[("content-type", media)], body).await }
    };
    let message = patch("application/apply-patch+cbor", "{}").await.refused(415, "UnsupportedMediaType");
    assert!(message.contains("application/apply-patch+yaml"), "{message}");
    patch("application/json", "{}").await.refused(415, "UnsupportedMediaType");
    let added = r#"[{"op": "add", "path": "/data/c", "value": "d"}]"#;
    assert_eq!(patch("application/json-patch+json", added).await.expect(200)["data"]["c"], "d");
    let failing = r#"[{"op": "test", "path": "/data/c", "value": "z"}]"#;
    patch("application/json-patch+json", failing).await.refused(422, "Invalid");
    patch("application/json-patch+json", "{").await.refused(400, "BadRequest");
    let strategic = r#"{"data": {"c": null, "e": "f"}}"#;
    let patched = patch("application/strategic-merge-patch+json", strategic).await.expect(200);
    assert_eq!(patched["data"], json!({"a": "b", "e": "f"}));

    let accept = |media: &'static str| {
        let (cluster, path) = (&cluster, path.clone());
        async move { cluster.raw(Method::GET, &path, &[("accept", media)], "").await }
    };
    accept("text/html").await.refused(406, "NotAcceptable");
    let answer = accept("application/yaml").await;
    assert_eq!(answer.headers["content-type"], "application/yaml");
    assert!(answer.text.contains("kind: ConfigMap"), "{}", answer.text);
    let partial = accept("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").await.expect(200);
    assert_eq!(partial["kind"], "PartialObjectMetadata");
    assert_eq!(partial["metadata"]["name"], "from-yaml");
    assert!(partial["data"].is_null());
    cluster.stop().await;
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let cluster = Cluster::start().await;
    let mut big = map("big");
    big["data"]["a"] = json!("x".repeat(3 * 1024 * 1024));
    let message = cluster.post(MAPS, &big).await.refused(413, "RequestEntityTooLarge");
    assert!(message.contains("limit is 3145728"), "{message}");
    cluster.stop().await;
}

#[tokio::test]
async fn unknown_and_duplicate_fields() {
    let cluster = Cluster::start().await;
    let json = [("content-type", "application/json")];
    let body = |name: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"dta":{{"a":"b"}},"data":{{"k":"1","k":"2"}}}}"#
        )
    };
    let send = |query: &'static str, name: &'static str| {
        let (cluster, body) = (&cluster, body(name));
        async move { cluster.raw(Method::POST, &format!("{MAPS}{query}"), &json, body).await }
    };
    let message = send("?fieldValidation=Strict", "a").await.refused(400, "BadRequest");
    assert_eq!(
        message,
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \
         \"data.k\", unknown field \"dta\""
    );
    let warned = send("", "b").await;
    assert_eq!(warned.expect(201)["data"]["k"], "2");
    let warnings: Vec<&str> =
        warned.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(warnings, [r#"299 - "duplicate field \"data.k\"""#, r#"299 - "unknown field \"dta\"""#]);
    let ignored = send("?fieldValidation=Ignore", "c").await;
    assert!(ignored.expect(201)["dta"].is_null());
    assert!(!ignored.headers.contains_key("warning"));
    send("?fieldValidation=Maybe", "d").await.refused(400, "BadRequest");
    cluster.stop().await;
}
