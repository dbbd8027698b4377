//! Backup and check over the network, for administrators only.

use holdfast_volume_controller::apiserver::{BACKUP_PATH, CHECK_PATH};
use holdfast_volume_controller::store::{Backup, Report};
use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::harness::{CLAIMS, Cluster, MAPS, PATIENCE, claim, map};

#[tokio::test]
async fn the_store_is_sent_and_checked() {
    let cluster = Cluster::start().await;
    cluster.post(CLAIMS, &claim("data")).await.expect(201);
    let answer = cluster.get(BACKUP_PATH).await;
    assert_eq!(
        (answer.code, &answer.headers["content-type"]),
        (200, &"application/x-ndjson".parse().unwrap())
    );
    let backup = Backup::read(answer.text.as_bytes()).unwrap();
    assert_eq!(backup.header.revision, cluster.store.revision());
    assert!(
        answer.text.contains(r#""resource":"persistentvolumeclaims","namespace":"default","name":"data""#)
    );
    let answer = cluster.get(CHECK_PATH).await.expect(200);
    let report: Report = serde_json::from_value(answer).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!(report.objects, backup.header.objects);
    cluster.stop().await;
}

/// Both may take long, so neither is limited as short requests are, nor held back to be compressed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_may_take_their_time() {
    const AT_ONCE: usize = 500;
    let cluster = Cluster::start().await;
    cluster.post(CLAIMS, &claim("data")).await.expect(201);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!([{"verbs": ["get"], "nonResourceURLs": ["/holdfast/*"]}]);
    let role = json!({"metadata": {"name": "keeper"}, "rules": rules});
    cluster.post(&format!("{rbac}/clusterroles"), &role).await.expect(201);
    let binding = json!({
        "metadata": {"name": "keeper"},
        "subjects": [{"kind": "User", "name": "keeper", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "keeper"},
    });
    cluster.post(&format!("{rbac}/clusterrolebindings"), &binding).await.expect(201);
    let head = format!(
        "GET {CHECK_PATH} HTTP/1.1\r\nhost: x\r\nimpersonate-user: keeper\r\nconnection: close\r\n\r\n"
    );
    let ask = async |head: &str| {
        let mut stream = UnixStream::connect(&cluster.server.socket).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    // One check after the other is made, so most of them wait.
    let mut waiting = Vec::new();
    for _ in 0..AT_ONCE {
        waiting.push(ask(&head).await);
    }
    for mut stream in waiting {
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"findings\":[]"), "{answer}");
    }
    let mut large = map("large");
    large["data"]["text"] = json!("x".repeat(500_000));
    cluster.post(MAPS, &large).await.expect(201);
    let headers = [("accept-encoding", "gzip"), ("impersonate-user", "keeper")];
    let answer = cluster.raw(Method::GET, BACKUP_PATH, &headers, "").await;
    assert!(answer.code == 200 && !answer.headers.contains_key("content-encoding"), "{:?}", answer.headers);
    assert!(Backup::read(answer.text.as_bytes()).unwrap().header.bytes > 500_000);
    cluster.stop().await;
}

#[tokio::test]
async fn nobody_else_gets_it() {
    let cluster = Cluster::start().await;
    for path in [BACKUP_PATH, CHECK_PATH] {
        let headers = [("impersonate-user", "somebody"), ("impersonate-group", "system:authenticated")];
        cluster.raw(Method::GET, path, &headers, "").await.refused(403, "Forbidden");
        cluster.raw(Method::POST, path, &[], "").await.refused(405, "MethodNotAllowed");
    }
    cluster.stop().await;
}
