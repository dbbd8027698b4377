//! Lists that nobody reads: they take up their reader's room, and next to nothing of the memory.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::harness::{Cluster, MAPS, PATIENCE, map};

/// Bytes of each of the large objects.
const SIZE: usize = 700_000;
const OBJECTS: usize = 8;
/// Lists at once of one user.
const LISTS: usize = 200;

const METRIC: &str = r#"apiserver_current_inflight_requests{request_kind="readOnly"}"#;

async fn may_read(cluster: &Cluster, users: &[&str]) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["configmaps"]}]);
    let role = json!({"metadata": {"name": "r"}, "rules": rules});
    cluster.post(&format!("{rbac}/clusterroles"), &role).await.expect(201);
    let user = |name: &&str| json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"});
    let binding = json!({
        "metadata": {"name": "r"}, "subjects": users.iter().map(user).collect::<Vec<Value>>(),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
    });
    cluster.post(&format!("{rbac}/clusterrolebindings"), &binding).await.expect(201);
}

async fn large_objects(cluster: &Cluster) {
    for number in 0..OBJECTS {
        let mut map = map(&format!("m{number}"));
        map["data"]["a"] = json!("x".repeat(SIZE));
        cluster.post(MAPS, &map).await.expect(201);
    }
}

/// Asks over a connection of its own, and reads the first line of the answer only.
async fn ask(cluster: &Cluster, user: &str, accept: &str) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(&cluster.server.socket).await.unwrap();
    let head =
        format!("GET {MAPS} HTTP/1.1\r\nhost: x\r\nimpersonate-user: {user}\r\naccept: {accept}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("no answer").unwrap());
    }
    (stream, String::from_utf8(line).unwrap())
}

async fn until(cluster: &Cluster, under_way: usize) {
    let seen = async {
        // Whoever asks for the metrics reads.
        while !cluster.get("/metrics").await.text.contains(&format!("{METRIC} {}\n", under_way + 1)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("not {under_way} are under way"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_nobody_reads_take_up_their_readers_room() {
    let cluster = Cluster::start().await;
    may_read(&cluster, &["greedy", "other"]).await;
    large_objects(&cluster).await;
    let before = super::hostile::memory();
    let mut unread = Vec::new();
    for _ in 0..LISTS {
        let (stream, line) = ask(&cluster, "greedy", "application/json").await;
        assert_eq!(line, "HTTP/1.1 200 OK\r\n");
        unread.push(stream);
    }
    until(&cluster, LISTS).await;
    let grown = super::hostile::memory().saturating_sub(before);
    println!("{LISTS} unread lists of {} MB: {} MB", SIZE * OBJECTS / 1_000_000, grown / 1_000_000);
    assert!(grown < LISTS * SIZE, "{grown} bytes for lists that have none of their own");
    let (_, line) = ask(&cluster, "greedy", "application/json").await;
    assert_eq!(line, "HTTP/1.1 429 Too Many Requests\r\n");
    let path = format!("{MAPS}/m0");
    cluster.raw(Method::GET, &path, &[("impersonate-user", "other")], "").await.expect(200);
    // What is read to its end is over, and what nobody reads any more.
    let mut one = unread.pop().unwrap();
    let rest = async {
        let (mut buffer, mut read) = (vec![0; 1 << 16], 0);
        while read < SIZE * OBJECTS {
            read += one.read(&mut buffer).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, rest).await.expect("the list does not come");
    until(&cluster, LISTS - 1).await;
    drop(unread);
    until(&cluster, 0).await;
    cluster.stop().await;
}

#[tokio::test]
async fn lists_that_are_converted_have_an_end() {
    const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";
    const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
    let cluster = Cluster::start_as(
        tempfile::tempdir().unwrap(),
        |_| {},
        |config| config.max_converted_list = SIZE * OBJECTS,
    )
    .await;
    large_objects(&cluster).await;
    for media in [TABLE, PROTOBUF, "application/yaml"] {
        let answer = cluster.raw(Method::GET, MAPS, &[("accept", media)], "").await;
        assert_eq!(answer.code, 413, "{media}: {}", answer.text);
        let part = format!("{MAPS}?limit=4");
        assert_eq!(cluster.raw(Method::GET, &part, &[("accept", media)], "").await.code, 200, "{media}");
    }
    let why = cluster.raw(Method::GET, MAPS, &[("accept", TABLE)], "").await;
    let why = why.refused(413, "RequestEntityTooLarge");
    assert!(why.contains("limit and continue"), "{why}");
    assert_eq!(cluster.get(MAPS).await.expect(200)["items"].as_array().unwrap().len(), OBJECTS);
    // A deletion that could not be answered is not begun.
    let answer = cluster.raw(Method::DELETE, MAPS, &[("accept", TABLE)], "").await;
    answer.refused(413, "RequestEntityTooLarge");
    assert_eq!(cluster.get(MAPS).await.expect(200)["items"].as_array().unwrap().len(), OBJECTS);
    // All together have an end, too: an unread list keeps its room.
    cluster.delete(&format!("{MAPS}/m0")).await.expect(200);
    may_read(&cluster, &["a"]).await;
    let mut unread = Vec::new();
    for _ in 0..4 {
        let (stream, line) = ask(&cluster, "a", "application/yaml").await;
        assert_eq!(line, "HTTP/1.1 200 OK\r\n");
        unread.push(stream);
    }
    let (_, line) = ask(&cluster, "a", TABLE).await;
    assert_eq!(line, "HTTP/1.1 429 Too Many Requests\r\n");
    drop(unread);
    until(&cluster, 0).await;
    let (_, line) = ask(&cluster, "a", TABLE).await;
    assert_eq!(line, "HTTP/1.1 200 OK\r\n");
    cluster.stop().await;
}
