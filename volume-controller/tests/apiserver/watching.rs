//! Watches.

use std::pin::Pin;

use futures::{AsyncBufRead, AsyncBufReadExt};
use http::Request;
use serde_json::{Value, json};

use super::harness::{Cluster, MAPS, PATIENCE, PODS, map, pod};

/// The events of one watch.
pub(crate) struct Events(Pin<Box<dyn AsyncBufRead + Send>>);

impl Events {
    pub(crate) async fn open(cluster: &Cluster, path: &str, query: &str) -> Self {
        Self::open_as(cluster, path, query, "application/json").await
    }

    async fn open_as(cluster: &Cluster, path: &str, query: &str, accept: &str) -> Self {
        let request = Request::get(format!("{path}?watch=true&{query}")).header("accept", accept);
        let request = request.body(Vec::new()).unwrap();
        let stream = cluster.client.request_stream(request);
        Self(Box::pin(tokio::time::timeout(PATIENCE, stream).await.unwrap().unwrap()))
    }

    /// The next event; `None` at the end of the watch.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_line(&mut line));
        match read.await.expect("no event in time") {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
        }
    }

    /// Type and name of the next event that is no bookmark.
    async fn told(&mut self) -> (String, String) {
        loop {
            let event = self.next().await.expect("the watch has ended");
            if event["type"] != "BOOKMARK" {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                return (text(&event["type"]), text(&event["object"]["metadata"]["name"]));
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, kind: &str, name: &str) -> impl Future<Output = ()> {
        let expected = (kind.to_owned(), name.to_owned());
        async move { assert_eq!(self.told().await, expected) }
    }
}

#[tokio::test]
async fn from_now_and_from_then() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let start = cluster.store.revision();
    for query in ["", "resourceVersion=0"] {
        let mut events = Events::open(&cluster, MAPS, query).await;
        events.expect("ADDED", "a").await;
    }
    let mut everywhere =
        Events::open(&cluster, "/api/v1/configmaps", &format!("resourceVersion={start}")).await;
    cluster.merge(&format!("{MAPS}/a"), &json!({"data": {"x": "y"}})).await.expect(200);
    cluster.post(MAPS, &map("b")).await.expect(201);
    cluster.delete(&format!("{MAPS}/a")).await.expect(200);
    let mut later = Events::open(&cluster, MAPS, &format!("resourceVersion={start}")).await;
    for events in [&mut everywhere, &mut later] {
        events.expect("MODIFIED", "a").await;
        events.expect("ADDED", "b").await;
        let deleted = events.next().await.unwrap();
        assert_eq!(deleted["type"], "DELETED");
        assert_eq!(deleted["object"]["data"]["x"], "y");
        assert_eq!(deleted["object"]["metadata"]["resourceVersion"], cluster.store.revision().to_string());
    }
    let mut other =
        Events::open(&cluster, "/api/v1/namespaces/kube-system/configmaps", "timeoutSeconds=1").await;
    assert!(other.next().await.is_none());
    cluster.stop().await;
}

#[tokio::test]
async fn objects_enter_and_leave_selectors() {
    let cluster = Cluster::start().await;
    let start = cluster.store.revision();
    let mut gold =
        Events::open(&cluster, PODS, &format!("resourceVersion={start}&labelSelector=tier%3Dgold")).await;
    let mut placed =
        Events::open(&cluster, PODS, &format!("resourceVersion={start}&fieldSelector=spec.nodeName%3Dn1"))
            .await;
    let mut named =
        Events::open(&cluster, PODS, &format!("resourceVersion={start}&fieldSelector=metadata.name%3Db"))
            .await;
    cluster.post(PODS, &pod("a")).await.expect(201);
    let tier = |tier: &str| json!({"metadata": {"labels": {"tier": tier}}});
    cluster.merge(&format!("{PODS}/a"), &tier("gold")).await.expect(200);
    let binding =
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"name": "n1"}});
    cluster.post(&format!("{PODS}/a/binding"), &binding).await.expect(201);
    cluster.merge(&format!("{PODS}/a"), &tier("tin")).await.expect(200);
    cluster.delete(&format!("{PODS}/a?gracePeriodSeconds=0")).await.expect(200);
    cluster.post(PODS, &pod("b")).await.expect(201);
    for kind in ["ADDED", "MODIFIED"] {
        gold.expect(kind, "a").await;
    }
    let left = gold.next().await.unwrap();
    assert_eq!(left["type"], "DELETED");
    assert_eq!(left["object"]["metadata"]["labels"]["tier"], "gold");
    // What happens to it then is nobody's business here.
    let mut late = pod("late");
    late["metadata"]["labels"] = json!({"tier": "gold"});
    cluster.post(PODS, &late).await.expect(201);
    gold.expect("ADDED", "late").await;
    for kind in ["ADDED", "MODIFIED", "DELETED"] {
        placed.expect(kind, "a").await;
    }
    named.expect("ADDED", "b").await;
    cluster.stop().await;
}

#[tokio::test]
async fn bookmarks_tell_of_progress_elsewhere() {
    let cluster = Cluster::start().await;
    let start = cluster.store.revision();
    let query = format!("resourceVersion={start}&allowWatchBookmarks=true");
    let mut events = Events::open(&cluster, MAPS, &query).await;
    let mut silent = Events::open(&cluster, MAPS, &format!("resourceVersion={start}")).await;
    cluster.post(PODS, &pod("a")).await.expect(201);
    let target = cluster.store.revision().to_string();
    loop {
        let event = events.next().await.unwrap();
        assert_eq!(event["type"], "BOOKMARK");
        assert_eq!(
            (&event["object"]["kind"], &event["object"]["apiVersion"]),
            (&json!("ConfigMap"), &json!("v1"))
        );
        if event["object"]["metadata"]["resourceVersion"] == *target {
            break;
        }
    }
    cluster.post(MAPS, &map("a")).await.expect(201);
    assert_eq!(silent.next().await.unwrap()["type"], "ADDED");
    cluster.stop().await;
}

#[tokio::test]
async fn the_state_can_be_streamed() {
    let cluster = Cluster::start().await;
    for name in ["a", "b"] {
        cluster.post(MAPS, &map(name)).await.expect(201);
    }
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = Events::open(&cluster, MAPS, query).await;
    events.expect("ADDED", "a").await;
    events.expect("ADDED", "b").await;
    let end = events.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(end["object"]["metadata"]["resourceVersion"], cluster.store.revision().to_string());
    cluster.post(MAPS, &map("c")).await.expect(201);
    events.expect("ADDED", "c").await;
    for query in ["sendInitialEvents=true", "resourceVersionMatch=NotOlderThan"] {
        cluster.get(&format!("{MAPS}?watch=true&{query}")).await.refused(422, "Invalid");
    }
    let query = "sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
    let mut events = Events::open(&cluster, MAPS, query).await;
    cluster.post(MAPS, &map("d")).await.expect(201);
    events.expect("ADDED", "d").await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_past_that_is_gone_is_said_to_be_gone() {
    let cluster = Cluster::start_with(|limits| limits.log.changes = 3).await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let start = cluster.store.revision();
    for n in 0..10 {
        cluster.merge(&format!("{MAPS}/a"), &json!({"data": {"n": n.to_string()}})).await.expect(200);
    }
    for version in [start, cluster.store.revision() + 1000] {
        let mut events = Events::open(&cluster, MAPS, &format!("resourceVersion={version}")).await;
        let error = events.next().await.unwrap();
        assert_eq!(error["type"], "ERROR");
        assert_eq!((&error["object"]["code"], &error["object"]["reason"]), (&json!(410), &json!("Expired")));
        assert!(events.next().await.is_none());
    }
    cluster.stop().await;
}

#[tokio::test]
async fn watches_end() {
    let cluster = Cluster::start().await;
    let mut timed = Events::open(&cluster, MAPS, "timeoutSeconds=1").await;
    assert!(timed.next().await.is_none());
    let mut open = Events::open(&cluster, MAPS, "").await;
    cluster.stop.cancel();
    assert!(open.next().await.is_none());
    cluster.stop().await;
}

#[tokio::test]
async fn tables() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let media = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut events = Events::open_as(&cluster, MAPS, "", media).await;
    let event = events.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(event["object"]["rows"][0]["cells"][0], "a");
    assert_eq!(event["object"]["rows"][0]["object"]["metadata"]["name"], "a");
    cluster.stop().await;
}
