//! Watches at their edges: too slow, too old, at their end.

use std::time::Instant;

use serde_json::{Value, json};

use super::harness::{Cluster, MAPS, PODS, map, pod};
use super::watching::Events;

fn revision(event: &Value) -> u64 {
    event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// Who does not read is told so in the end, and what the server kept for it meanwhile is no more than
/// buffers: all that it can still get then is what was kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_watchers_are_dropped() {
    const CHANGES: usize = 250;
    const SIZE: usize = 200_000;
    let cluster = Cluster::start_with(|limits| limits.log.changes = 8).await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let mut slow = Events::open(&cluster, MAPS, "").await;
    let mut fast = Events::open(&cluster, MAPS, "").await;
    slow.expect("ADDED", "a").await;
    fast.expect("ADDED", "a").await;
    let start = cluster.store.revision();
    for number in 0..CHANGES {
        let data = json!({"data": {"n": number.to_string(), "x": "x".repeat(SIZE)}});
        cluster.merge(&format!("{MAPS}/a"), &data).await.expect(200);
        let event = fast.next().await.unwrap();
        assert_eq!(event["object"]["data"]["n"], number.to_string(), "others are served");
    }
    let mut kept = 0;
    let last = loop {
        let event = slow.next().await.unwrap();
        if event["type"] == "ERROR" {
            break event;
        }
        kept += 1;
        assert_eq!(revision(&event), start + kept, "a gap");
    };
    assert_eq!((&last["object"]["code"], &last["object"]["reason"]), (&json!(410), &json!("Expired")));
    assert!(last["object"]["message"].as_str().unwrap().contains("too slowly"), "{last}");
    assert!(slow.next().await.is_none(), "nothing comes after the error");
    println!("{kept} of {CHANGES} changes were kept for the slow watcher");
    assert!(kept < 100, "{kept} changes of {SIZE} bytes were kept");
    let metrics = cluster.get("/metrics").await.text;
    let dropped = r#"apiserver_terminated_watchers_total{group="",version="v1",resource="configmaps"} 1"#;
    assert!(metrics.contains(dropped), "{metrics}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bookmarks_never_pass_an_event() {
    let cluster = Cluster::start_as(
        tempfile::tempdir().unwrap(),
        |limits| limits.progress = std::time::Duration::from_millis(1),
        |config| config.bookmark_interval = std::time::Duration::from_millis(2),
    )
    .await;
    let query = format!("resourceVersion={}&allowWatchBookmarks=true", cluster.store.revision());
    let mut events = Events::open(&cluster, MAPS, &query).await;
    let write = async {
        for number in 0..150 {
            let name = format!("a{number}");
            let (map, pod) = (map(&name), pod(&name));
            let (map, pod) = tokio::join!(cluster.post(MAPS, &map), cluster.post(PODS, &pod));
            map.expect(201);
            pod.expect(201);
        }
    };
    let read = async {
        let (mut seen, mut marked, mut marks) = (0, 0, 0);
        let mut last = 0;
        while seen < 150 {
            let event = events.next().await.unwrap();
            let revision = revision(&event);
            assert!(revision >= last, "revisions go back from {last}: {event}");
            last = revision;
            if event["type"] == "BOOKMARK" {
                marked = revision;
                marks += 1;
                continue;
            }
            assert!(revision > marked, "a bookmark at {marked} came before {event}");
            assert_eq!(event["object"]["metadata"]["name"], format!("a{seen}"));
            seen += 1;
        }
        marks
    };
    let ((), marks) = tokio::join!(write, read);
    println!("{marks} bookmarks between 150 events");
    assert!(marks > 5, "hardly any bookmarks between the events");
    cluster.stop().await;
}

#[tokio::test]
async fn the_exact_edge_of_the_past() {
    let cluster = Cluster::start_with(|limits| limits.log.changes = 3).await;
    for number in 0..10 {
        cluster.post(MAPS, &map(&format!("a{number}"))).await.expect(201);
    }
    let Err(expired) = cluster.store.watch(&["configmaps"], 1) else { panic!("nothing is compacted") };
    let oldest = expired.oldest;
    assert_eq!(oldest, cluster.store.revision() - 3);
    let mut events = Events::open(&cluster, MAPS, &format!("resourceVersion={oldest}")).await;
    for number in 7..10 {
        let event = events.next().await.unwrap();
        assert_eq!((&event["type"], revision(&event)), (&json!("ADDED"), oldest + number - 6));
        assert_eq!(event["object"]["metadata"]["name"], format!("a{number}"));
    }
    for query in ["", "&allowWatchBookmarks=true", "&labelSelector=a"] {
        let query = format!("resourceVersion={}{query}", oldest - 1);
        let mut events = Events::open(&cluster, MAPS, &query).await;
        let error = events.next().await.unwrap();
        assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)), "{query}");
        assert_eq!(
            error["object"]["message"],
            format!("too old resource version: {} ({oldest})", oldest - 1)
        );
        assert!(events.next().await.is_none());
    }
    cluster.stop().await;
}

#[tokio::test]
async fn what_may_be_streamed() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let then = cluster.store.revision();
    cluster.post(MAPS, &map("b")).await.expect(201);
    let now = cluster.store.revision();
    let wanted = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    for version in
        ["", "&resourceVersion=0", &format!("&resourceVersion={then}"), &format!("&resourceVersion={now}")]
    {
        let query = format!("{wanted}{version}&allowWatchBookmarks=true");
        let mut events = Events::open(&cluster, MAPS, &query).await;
        for name in ["a", "b"] {
            events.expect("ADDED", name).await;
        }
        let end = events.next().await.unwrap();
        assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true", "{query}");
        assert!(revision(&end) >= now, "{end}");
    }
    // Without bookmarks there is no end to be told of.
    let mut events = Events::open(&cluster, MAPS, wanted).await;
    for name in ["a", "b"] {
        events.expect("ADDED", name).await;
    }
    cluster.post(MAPS, &map("c")).await.expect(201);
    assert_eq!(events.next().await.unwrap()["object"]["metadata"]["name"], "c");
    // No state, and what came after a version.
    let query = format!("sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion={then}");
    let mut events = Events::open(&cluster, MAPS, &query).await;
    for name in ["b", "c"] {
        events.expect("ADDED", name).await;
    }
    for query in [
        "sendInitialEvents=true",
        "sendInitialEvents=false",
        "resourceVersionMatch=NotOlderThan",
        "sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=1",
    ] {
        let path = format!("{MAPS}?watch=true&allowWatchBookmarks=true&{query}");
        let message = cluster.get(&path).await.refused(422, "Invalid");
        assert!(message.contains("resourceVersionMatch"), "{message}");
    }
    cluster.get(&format!("{MAPS}?{wanted}")).await.refused(422, "Invalid");
    cluster.stop().await;
}

#[tokio::test]
async fn watches_end_in_time() {
    let cluster = Cluster::start().await;
    let started = Instant::now();
    let query =
        format!("timeoutSeconds=2&allowWatchBookmarks=true&resourceVersion={}", cluster.store.revision());
    let mut events = Events::open(&cluster, MAPS, &query).await;
    cluster.post(PODS, &pod("a")).await.expect(201);
    let (now, mut told) = (cluster.store.revision(), 0);
    while let Some(event) = events.next().await {
        assert_eq!(event["type"], "BOOKMARK");
        told = revision(&event);
    }
    assert_eq!(told, now, "the client goes on from as late as possible");
    let took = started.elapsed().as_millis();
    assert!((2000..12_000).contains(&took), "it took {took} ms");
    for wrong in ["timeoutSeconds=x", "timeoutSeconds=1.5"] {
        cluster.get(&format!("{MAPS}?watch=true&{wrong}")).await.refused(400, "BadRequest");
    }
    cluster.stop().await;
}
