//! Lists: pages, selectors, shapes.

use http::Method;
use serde_json::{Value, json};

use super::harness::{Cluster, MAPS, PODS, map, pod};

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn pages() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        cluster.post(MAPS, &map(name)).await.expect(201);
    }
    let first = cluster.get(&format!("{MAPS}?limit=2")).await.expect(200);
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    let token = first["metadata"]["continue"].as_str().unwrap();
    // What is written between pages is not in them: all show the moment of the first.
    let moment = first["metadata"]["resourceVersion"].as_str().unwrap();
    cluster.delete(&format!("{MAPS}/b")).await.expect(200);
    cluster.post(MAPS, &map("bb")).await.expect(201);
    cluster.merge(&format!("{MAPS}/c"), &json!({"data": {"a": "2"}})).await.expect(200);
    cluster.delete(&format!("{MAPS}/d")).await.expect(200);
    cluster.post(MAPS, &map("d")).await.expect(201);
    cluster.delete(&format!("{MAPS}/e")).await.expect(200);
    let second = cluster.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["items"][0]["data"]["a"], "1");
    assert_eq!(second["metadata"]["remainingItemCount"], 1);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = cluster.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&third), ["e"]);
    assert!(third["metadata"]["continue"].is_null() && third["metadata"]["remainingItemCount"].is_null());
    let exact = format!("{MAPS}?resourceVersion={moment}&resourceVersionMatch=Exact");
    assert_eq!(names(&cluster.get(&exact).await.expect(200)), ["a", "b", "c", "d", "e"]);
    assert_eq!(names(&cluster.get(MAPS).await.expect(200)), ["a", "bb", "c", "d"]);
    cluster
        .get(&format!("{MAPS}?limit=2&continue={token}&resourceVersion={moment}"))
        .await
        .refused(400, "BadRequest");
    cluster.get(&format!("{MAPS}?sendInitialEvents=true")).await.refused(422, "Invalid");
    cluster.get(&format!("{MAPS}?continue=rubbish")).await.refused(400, "BadRequest");
    cluster.stop().await;
}

#[tokio::test]
async fn tokens_expire_with_the_past() {
    let cluster = Cluster::start_with(|limits| limits.log.changes = 3).await;
    for name in ["a", "b", "c"] {
        cluster.post(MAPS, &map(name)).await.expect(201);
    }
    let first = cluster.get(&format!("{MAPS}?limit=1")).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    for n in 0..10 {
        cluster.merge(&format!("{MAPS}/a"), &json!({"data": {"n": n.to_string()}})).await.expect(200);
    }
    let answer = cluster.get(&format!("{MAPS}?limit=1&continue={token}")).await;
    answer.refused(410, "Expired");
    cluster
        .get(&format!("{MAPS}?resourceVersion=1&resourceVersionMatch=Exact"))
        .await
        .refused(410, "Expired");
    // Who can bear an inconsistent rest gets it, consistent in itself from there on.
    let token = answer.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let second = cluster.get(&format!("{MAPS}?limit=1&continue={token}")).await.expect(200);
    assert_eq!(names(&second), ["b"]);
    assert_eq!(second["metadata"]["resourceVersion"], cluster.store.revision().to_string());
    let token = second["metadata"]["continue"].as_str().unwrap();
    cluster.delete(&format!("{MAPS}/c")).await.expect(200);
    let third = cluster.get(&format!("{MAPS}?limit=1&continue={token}")).await.expect(200);
    assert_eq!(names(&third), ["c"]);
    cluster.stop().await;
}

#[tokio::test]
async fn selectors() {
    let cluster = Cluster::start().await;
    for (name, app, node) in [("a", "db", "n1"), ("b", "web", "n1"), ("c", "db", "")] {
        let mut body = pod(name);
        body["metadata"]["labels"] = json!({"app": app});
        if !node.is_empty() {
            body["spec"]["nodeName"] = json!(node);
        }
        cluster.post(PODS, &body).await.expect(201);
    }
    for (query, expected) in [
        ("", vec!["a", "b", "c"]),
        ("labelSelector=app%3Ddb", vec!["a", "c"]),
        ("labelSelector=app+notin+(db)", vec!["b"]),
        ("labelSelector=!app", vec![]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("fieldSelector=spec.nodeName%3Dn1", vec!["a", "b"]),
        ("fieldSelector=spec.nodeName%3D", vec!["c"]),
        ("fieldSelector=spec.nodeName!%3Dn1", vec!["c"]),
        ("fieldSelector=spec.nodeName%3Dn1&labelSelector=app%3Ddb", vec!["a"]),
        ("fieldSelector=metadata.namespace%3Dother", vec![]),
    ] {
        let list = cluster.get(&format!("{PODS}?{query}")).await.expect(200);
        assert_eq!(names(&list), expected, "{query}");
        let everywhere = cluster.get(&format!("/api/v1/pods?{query}")).await.expect(200);
        assert_eq!(names(&everywhere), expected, "{query}");
    }
    let page = cluster.get(&format!("{PODS}?labelSelector=app%3Ddb&limit=1")).await.expect(200);
    assert_eq!(names(&page), ["a"]);
    assert!(page["metadata"]["remainingItemCount"].is_null());
    assert!(page["metadata"]["continue"].is_string());
    let message =
        cluster.get(&format!("{PODS}?fieldSelector=spec.colour%3Dred")).await.refused(400, "BadRequest");
    assert_eq!(message, "field label not supported: spec.colour");
    cluster.get(&format!("{PODS}?labelSelector=a%3D%3D%3Db")).await.refused(400, "BadRequest");
    cluster.stop().await;
}

#[tokio::test]
async fn shapes() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let ask = |media: &'static str| {
        let cluster = &cluster;
        async move { cluster.raw(Method::GET, MAPS, &[("accept", media)], "").await.expect(200) }
    };
    let list = ask("application/json").await;
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(list["metadata"]["resourceVersion"], cluster.store.revision().to_string());
    for version in ["v1", "v1beta1"] {
        let media = match version {
            "v1" => "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            _ => "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
        };
        let table = ask(media).await;
        assert_eq!(table["kind"], "Table");
        assert_eq!(table["apiVersion"], format!("meta.k8s.io/{version}"));
        assert_eq!(table["columnDefinitions"][0]["name"], "Name");
        assert_eq!(table["rows"][0]["cells"][0], "a");
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    }
    let partial = ask("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").await;
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert_eq!(partial["items"][0]["metadata"]["name"], "a");
    assert!(partial["items"][0]["data"].is_null());
    cluster.stop().await;
}

#[tokio::test]
async fn versions() {
    let cluster = Cluster::start().await;
    let current = cluster.store.revision();
    for (query, code) in [
        ("resourceVersion=0", 200),
        ("resourceVersion=1&resourceVersionMatch=NotOlderThan", 200),
        ("resourceVersion=x", 400),
        ("resourceVersionMatch=Exact", 422),
        ("resourceVersion=1&resourceVersionMatch=Exact", 200),
    ] {
        let answer = cluster.get(&format!("{MAPS}?{query}")).await;
        assert_eq!(answer.code, code, "{query}: {}", answer.text);
    }
    let exact = format!("{MAPS}?resourceVersion={current}&resourceVersionMatch=Exact");
    cluster.get(&exact).await.expect(200);
    cluster.stop().await;
}
