//! Many who watch the same large object: none of them costs its bytes.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::harness::{Cluster, MAPS, PATIENCE, map};
use super::hostile::memory;

const WATCHERS: usize = 300;
const SIZE: usize = 1 << 20;

/// Watches over a connection of its own, of which only the first line is read for now.
async fn watch(cluster: &Cluster, query: &str, accept: &str) -> UnixStream {
    let mut stream = UnixStream::connect(&cluster.server.socket).await.unwrap();
    let head = format!("GET {MAPS}?watch=1&{query} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("no answer").unwrap());
    }
    assert_eq!(line, b"HTTP/1.1 200 OK\r\n");
    stream
}

async fn told(cluster: &Cluster, events: usize) {
    let metric = "apiserver_watch_events_total{group=\"\",version=\"v1\",resource=\"configmaps\"}";
    let all = async {
        while !cluster.get("/metrics").await.text.contains(&format!("{metric} {events}\n")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("not all are told");
}

/// The whole event arrives, in whatever pieces it is sent.
async fn hear(mut stream: UnixStream, size: usize) {
    let (mut buffer, mut read) = (vec![0; 1 << 16], 0);
    let rest = async {
        while read < size {
            let more = stream.read(&mut buffer).await.unwrap();
            assert_ne!(more, 0, "the watch ended after {read} bytes");
            read += buffer[..more].iter().filter(|byte| **byte == b'x').count();
        }
    };
    tokio::time::timeout(PATIENCE, rest).await.expect("the event does not come");
    assert_eq!(read, size);
}

async fn cost_no_copies(accept: &str) {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let query = format!("resourceVersion={}", cluster.store.revision());
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        watchers.push(watch(&cluster, &query, accept).await);
    }
    let data = json!({"data": {"a": "x".repeat(SIZE)}});
    let before = memory();
    cluster.merge(&format!("{MAPS}/a"), &data).await.expect(200);
    told(&cluster, WATCHERS).await;
    for _ in 0..WATCHERS {
        // The same again, as the state at the start.
        watchers.push(watch(&cluster, "resourceVersion=0", accept).await);
    }
    told(&cluster, 2 * WATCHERS).await;
    let grown = memory().saturating_sub(before);
    println!("{accept}: {} KiB for each of 2 × {WATCHERS} watchers", grown / WATCHERS / 2048);
    assert!(grown < WATCHERS * SIZE / 2, "{grown} bytes for 2 × {WATCHERS} watchers of one object");
    for _ in 0..3 {
        hear(watchers.pop().unwrap(), SIZE).await;
        hear(watchers.remove(0), SIZE).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_share_what_is_stored() {
    cost_no_copies("application/json").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_share_what_is_converted() {
    cost_no_copies("application/vnd.kubernetes.protobuf").await;
}
