//! Two servers on one database: who asks one of them sees what the other has just acknowledged.

use holdfast_test_needs::postgres;
use holdfast_volume_controller::store::Database;
use http::Method;
use serde_json::json;

use super::harness::{Cluster, MAPS, map};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_has_acknowledged_the_other_shows() {
    let Some(server) = postgres::Cluster::shared() else { return };
    let url = server.database();
    let start = async || {
        let shared = |limits: &mut holdfast_volume_controller::store::Config| {
            limits.location = url.parse::<Database>().unwrap().into();
            limits.allow_fsync_off = true;
        };
        Cluster::start_with(shared).await
    };
    let (one, other) = (start().await, start().await);
    let merge = [("content-type", "application/merge-patch+json")];
    for number in 0..50 {
        let (name, path) = (format!("m{number}"), format!("{MAPS}/m{number}"));
        let made = one.post(MAPS, &map(&name)).await.expect(201);
        let found = other.get(&path).await.expect(200);
        assert_eq!(found["metadata"]["uid"], made["metadata"]["uid"]);
        let change = json!({"data": {"number": name}}).to_string();
        let changed = other.raw(Method::PATCH, &path, &merge, change).await.expect(200);
        let at = changed["metadata"]["resourceVersion"].as_str().unwrap();
        let list = one.get(MAPS).await.expect(200);
        assert_eq!(list["items"][0]["data"]["number"], name.as_str(), "{list}");
        // A revision that this one has not heard of yet is no other history.
        let again = json!({"data": {"number": "2"}}).to_string();
        other.raw(Method::PATCH, &path, &merge, again).await.expect(200);
        one.get(&format!("{MAPS}?resourceVersion={at}&resourceVersionMatch=Exact")).await.expect(200);
        one.raw(Method::DELETE, &path, &[], "").await.expect(200);
        other.get(&path).await.refused(404, "NotFound");
    }
    one.stop().await;
    other.stop().await;
}
