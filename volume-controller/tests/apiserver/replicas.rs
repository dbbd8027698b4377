//! Two servers on one database: who asks one of them sees what the other has just acknowledged. And what they answer
//! while the database is away.

use std::time::Duration;

use holdfast_test_needs::postgres::{self, Durability};
use holdfast_volume_controller::store::Database;
use http::Method;
use serde_json::json;

use super::harness::{Cluster, MAPS, PATIENCE, map};

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

/// Waits until a path is answered with this code.
async fn until_answered(cluster: &Cluster, path: &str, code: u16) {
    let waiting = async {
        while cluster.get(path).await.code != code {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("{path} is never answered with {code}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_what_is_known_is_shown_and_the_present_is_not_made_up() {
    let Some(server) = postgres::Cluster::start(Durability::Full) else { return };
    let url = server.database();
    let one = Cluster::start_with(|limits| limits.location = url.parse::<Database>().unwrap().into()).await;
    one.post(MAPS, &map("a")).await.expect(201);
    let path = format!("{MAPS}/a");
    assert_eq!(one.get("/readyz").await.text, "ok");
    for round in 0..2 {
        server.stop();
        // Nobody has to write for it to be noticed.
        until_answered(&one, "/readyz", 500).await;
        let said = one.get("/readyz?verbose").await.text;
        assert!(said.contains("[-]etcd failed") && said.contains("[+]shutdown ok"), "{said}");
        for path in ["/livez", "/livez/etcd"] {
            let alive = one.get(path).await;
            assert_eq!(alive.code, 200, "a restart would not help: {}", alive.text);
        }
        let known = one.get(&format!("{path}?resourceVersion=0")).await.expect(200);
        assert_eq!(known["metadata"]["name"], "a");
        let list = one.get(&format!("{MAPS}?resourceVersion=0")).await.expect(200);
        assert!(list["items"].as_array().unwrap().iter().any(|item| item["metadata"]["name"] == "a"));
        for asked in [path.as_str(), MAPS] {
            let refused = one.get(asked).await;
            refused.refused(503, "ServiceUnavailable");
            assert_eq!(refused.headers["retry-after"], "1", "{asked}");
        }
        let name = format!("b{round}");
        let refused = one.post(MAPS, &map(&name)).await;
        refused.refused(503, "ServiceUnavailable");
        assert_eq!(refused.headers["retry-after"], "1");

        server.start_again();
        until_answered(&one, "/readyz", 200).await;
        until_answered(&one, &path, 200).await;
        one.get(&format!("{MAPS}/{name}")).await.refused(404, "NotFound");
        one.post(MAPS, &map(&name)).await.expect(201);
    }
    one.stop().await;
}
