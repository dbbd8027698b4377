//! Backup and check over the network, for administrators only.

use holdfast_volume_controller::apiserver::{BACKUP_PATH, CHECK_PATH};
use holdfast_volume_controller::store::{Backup, Report};
use http::Method;

use crate::harness::{CLAIMS, Cluster, claim};

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
