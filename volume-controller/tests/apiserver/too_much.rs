//! Too much of everything: of patches, of an object, of a body, of time. Each is refused in words, and
//! soon; others are answered meanwhile.

use std::time::{Duration, Instant};

use holdfast_test_needs::{Need, missing};
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::harness::{Cluster, MAPS, PATIENCE, PODS, map, pod};

const JSON_PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// An answer comes within the harness' patience.
async fn patch(cluster: &Cluster, path: &str, media: &str, body: &Value) -> super::harness::Answer {
    let started = Instant::now();
    let answer = cluster.raw(Method::PATCH, path, &[("content-type", media)], body.to_string()).await;
    let took = started.elapsed();
    println!("{media}: {} bytes, {} after {} ms", body.to_string().len(), answer.code, took.as_millis());
    answer
}

#[tokio::test]
async fn json_patches() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let path = format!("{MAPS}/a");
    let test = json!({"op": "test", "path": "/data/a", "value": "1"});
    patch(&cluster, &path, JSON_PATCH, &json!(vec![&test; 10_000])).await.expect(200);
    let answer = patch(&cluster, &path, JSON_PATCH, &json!(vec![&test; 10_001])).await;
    assert_eq!(
        answer.refused(413, "RequestEntityTooLarge"),
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
    let mut doubling = vec![json!({"op": "add", "path": "/data/b", "value": "x".repeat(1000)})];
    doubling.extend((0..40).map(|n| json!({"op": "copy", "from": "/data", "path": format!("/data/{n}")})));
    let why = patch(&cluster, &path, JSON_PATCH, &json!(doubling)).await.refused(422, "Invalid");
    assert!(why.contains("copy operations"), "{why}");
    // Each insertion moves all the others.
    let mut shifting = vec![json!({"op": "add", "path": "/data/list", "value": vec![0; 1_000_000]})];
    shifting.extend(vec![json!({"op": "add", "path": "/data/list/0", "value": 0}); 9_999]);
    let answer = patch(&cluster, &path, JSON_PATCH, &json!(shifting)).await;
    let why = answer.refused(422, "Invalid");
    assert!(why.contains("elements of lists"), "{why}");
    assert_eq!(cluster.get(&path).await.expect(200)["data"], json!({"a": "1"}));
    cluster.stop().await;
}

/// What one request after another adds ends somewhere, by whatever way it comes; and what is too large can be
/// made smaller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_do_not_grow_without_end() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let path = format!("{MAPS}/a");
    let mut sizes = Vec::new();
    let refused = loop {
        let round = sizes.len();
        assert!(round < 10, "it grows: {sizes:?}");
        let labels: serde_json::Map<_, _> = (0..8000)
            .map(|n| (format!("label-{round}-{n}-{}", "x".repeat(40)), json!("y".repeat(40))))
            .collect();
        let answer = cluster.merge(&path, &json!({"metadata": {"labels": labels}})).await;
        if answer.code != 200 {
            break answer;
        }
        sizes.push(answer.bytes.len());
    };
    assert!(refused.refused(413, "RequestEntityTooLarge").contains("1572864"), "{}", refused.text);
    assert_eq!(cluster.get(&path).await.bytes.len(), *sizes.last().unwrap(), "nothing was written");
    // It can still be changed, made smaller and deleted.
    cluster.merge(&path, &json!({"data": {"a": "2"}})).await.expect(200);
    cluster.merge(&path, &json!({"metadata": {"labels": null}})).await.expect(200);
    let labels: serde_json::Map<_, _> =
        (0..20_000).map(|n| (format!("l-{n}"), json!("y".repeat(60)))).collect();
    let mut large = map("b");
    large["metadata"]["labels"] = json!(labels);
    cluster.post(MAPS, &large).await.refused(413, "RequestEntityTooLarge");
    let apply = [("content-type", "application/apply-patch+yaml")];
    let answer =
        cluster.raw(Method::PATCH, &format!("{MAPS}/b?fieldManager=m"), &apply, large.to_string()).await;
    answer.refused(413, "RequestEntityTooLarge");
    cluster.delete(&path).await.expect(200);
    cluster.stop().await;
}

/// Owners of the same fields, each with a list of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_of_fields_have_an_end() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("b")).await.expect(201);
    let labels: serde_json::Map<_, _> =
        (0..8_000).map(|n| (format!("l-{n}"), json!("v".repeat(60)))).collect();
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"labels": labels}});
    let mut refused = None;
    for round in 0..100 {
        let path = format!("{MAPS}/b?fieldManager=m{round}");
        let answer = patch(&cluster, &path, "application/apply-patch+yaml", &config).await;
        if answer.code != 200 {
            refused = Some(answer.refused(413, "RequestEntityTooLarge"));
            break;
        }
    }
    refused.expect("owners have no end");
    cluster.stop().await;
}

/// Every value is looked for among the others.
#[tokio::test]
async fn lists() {
    const MANY: usize = 20_000;
    let cluster = Cluster::start().await;
    cluster.post(PODS, &pod("a")).await.expect(201);
    let path = format!("{PODS}/a");
    let names: Vec<String> = (0..MANY).map(|n| format!("example.com/f{n}")).collect();
    let turned: Vec<&String> = names.iter().rev().collect();
    for body in [
        json!({"metadata": {"finalizers": names}}),
        json!({"metadata": {"finalizers": turned, "$setElementOrder/finalizers": turned}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": turned}}),
        json!({"spec": {"containers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>(),
            "$setElementOrder/containers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()}}),
    ] {
        let answer = patch(&cluster, &path, STRATEGIC, &body).await;
        assert!(matches!(answer.code, 200 | 413 | 422), "{}", answer.code);
    }
    cluster.stop().await;
}

/// A body may take its time; half of one does nothing.
#[tokio::test]
async fn slow_bodies() {
    let cluster = Cluster::start().await;
    let connect = async |name: &str| {
        let body = map(name).to_string();
        let mut stream = UnixStream::connect(&cluster.server.socket).await.unwrap();
        let head = format!(
            "POST {MAPS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        (stream, body)
    };
    let (mut half, body) = connect("half").await;
    half.write_all(&body.as_bytes()[..body.len() / 2]).await.unwrap();
    let (mut slow, body) = connect("slow").await;
    for byte in body.as_bytes() {
        slow.write_all(&[*byte]).await.unwrap();
        slow.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.post(MAPS, &map("meanwhile")).await.expect(201);
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, slow.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    drop(half);
    cluster.get(&format!("{MAPS}/slow")).await.expect(200);
    cluster.get(&format!("{MAPS}/half")).await.refused(404, "NotFound");
    cluster.stop().await;
}

/// Who is refused in the middle of sending is told why, over both versions of HTTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_before_the_end_of_a_body() {
    if missing(&[Need::Program("curl")]) {
        return;
    }
    let cluster = Cluster::start().await;
    let file = cluster.folder.path().join("body.json");
    let mut body = map("a");
    body["data"]["x"] = json!("x".repeat(900_000));
    std::fs::write(&file, body.to_string()).unwrap();
    for version in ["--http2", "--http1.1"] {
        for (path, wanted) in [(MAPS, "401"), ("/api/v1/nothing", "401")] {
            for round in 0..20 {
                let output = Command::new("curl")
                    .args([
                        "-s",
                        "-S",
                        "-k",
                        "--max-time",
                        "20",
                        "-o",
                        "/dev/null",
                        "-w",
                        "%{http_code} %{http_version}",
                    ])
                    .args([
                        version,
                        "-H",
                        "content-type: application/json",
                        "-H",
                        "authorization: Bearer wrong",
                    ])
                    .arg("--data-binary")
                    .arg(format!("@{}", file.display()))
                    .arg(format!("https://{}{path}", cluster.server.address))
                    .output()
                    .await
                    .unwrap();
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{version} {path}, round {round}: {said} {why}");
                assert!(said.starts_with(wanted), "{version} {path}: {said}");
            }
        }
    }
    cluster.stop().await;
}
