//! Answers in protobuf, and compressed ones.

use std::io::Read;

use futures::{AsyncBufRead, AsyncReadExt};
use http::{Method, Request};
use serde_json::{Value, json};

use super::harness::{Answer, CLAIMS, Cluster, MAPS, PATIENCE, claim, map};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn ask(cluster: &Cluster, path: &str) -> Answer {
    ask_as(cluster, path, PROTOBUF).await
}

async fn ask_as(cluster: &Cluster, path: &str, media: &str) -> Answer {
    let answer = cluster.raw(Method::GET, path, &[("accept", media)], "").await;
    assert_eq!(answer.headers["content-type"], PROTOBUF, "{}", answer.text);
    answer
}

/// The content of the first field with this number; of any message whose fields are all messages or text.
fn field(mut message: &[u8], number: u8) -> &[u8] {
    loop {
        let (tag, rest) = (message[0], &message[1..]);
        assert_eq!(tag & 7, 2, "{message:?}");
        let (mut length, mut used) = (0, 0);
        for byte in rest {
            length |= usize::from(byte & 0x7f) << (7 * used);
            used += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (content, after) = rest[used..].split_at(length);
        if tag >> 3 == number {
            return content;
        }
        message = after;
    }
}

/// What the server itself reads in bytes that it wrote, as an update that changes nothing.
async fn read_back(cluster: &Cluster, path: &str, bytes: &[u8]) -> Value {
    let path = format!("{path}?dryRun=All");
    cluster.raw(Method::PUT, &path, &[("content-type", PROTOBUF)], bytes).await.expect(200)
}

#[tokio::test]
async fn objects_lists_and_errors_in_protobuf() {
    let cluster = Cluster::start().await;
    let created = cluster.post(CLAIMS, &claim("a")).await.expect(201);
    let path = format!("{CLAIMS}/a");
    let object = ask(&cluster, &path).await;
    assert_eq!(object.bytes[..4], *b"k8s\0");
    // Who owns which field is in it, too.
    assert!(!created["metadata"]["managedFields"].is_null());
    assert_eq!(read_back(&cluster, &path, &object.bytes).await, created);

    let list = ask(&cluster, CLAIMS).await;
    let unknown = &list.bytes[4..];
    assert_eq!(field(field(unknown, 1), 2), b"PersistentVolumeClaimList");
    let raw = field(unknown, 2);
    assert_eq!(field(field(raw, 1), 2), cluster.store.revision().to_string().as_bytes());
    assert_eq!(field(field(raw, 2), 1), field(field(&object.bytes[4..], 2), 1), "the item's metadata");

    let missing = ask(&cluster, &format!("{CLAIMS}/b")).await;
    assert_eq!(missing.code, 404);
    assert_eq!(field(field(&missing.bytes[4..], 1), 2), b"Status");
    assert_eq!(field(field(&missing.bytes[4..], 2), 4), b"NotFound");

    let media = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json");
    let partial = cluster.raw(Method::GET, CLAIMS, &[("accept", &media)], "").await;
    assert_eq!(field(field(&partial.bytes[4..], 1), 2), b"PartialObjectMetadataList");
    assert!(partial.bytes.len() < list.bytes.len());

    let made = cluster.raw(Method::POST, MAPS, &[("accept", PROTOBUF)], map("m").to_string()).await;
    assert_eq!((made.code, &made.bytes[..4]), (201, &b"k8s\0"[..]));
    let deleted = cluster.raw(Method::DELETE, &format!("{MAPS}/m"), &[("accept", PROTOBUF)], "").await;
    assert_eq!(field(field(&deleted.bytes[4..], 2), 2), b"Success");
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    assert_eq!(ask_as(&cluster, MAPS, &table).await.code, 406);
    cluster.stop().await;
}

/// The type of the next event, and the object in its envelope.
async fn next(events: &mut (impl AsyncBufRead + Unpin)) -> (String, Vec<u8>) {
    let read = async {
        let mut length = [0; 4];
        events.read_exact(&mut length).await.unwrap();
        let mut event = vec![0; u32::from_be_bytes(length) as usize];
        events.read_exact(&mut event).await.unwrap();
        event
    };
    let event = tokio::time::timeout(PATIENCE, read).await.expect("no event in time");
    (String::from_utf8(field(&event, 1).to_vec()).unwrap(), field(field(&event, 2), 1).to_vec())
}

#[tokio::test]
async fn watches_in_protobuf() {
    let cluster = Cluster::start_with(|limits| limits.log.changes = 3).await;
    let created = cluster.post(MAPS, &map("a")).await.expect(201);
    let open = async |query: &str, media: &str| {
        let request = Request::get(format!("{MAPS}?watch=1&{query}")).header("accept", media);
        Box::pin(cluster.client.request_stream(request.body(Vec::new()).unwrap()).await.unwrap())
    };
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = open(query, "application/vnd.kubernetes.protobuf,application/json").await;
    let (kind, object) = next(&mut events).await;
    assert_eq!(kind, "ADDED");
    assert_eq!(read_back(&cluster, &format!("{MAPS}/a"), &object).await, created);
    let (kind, object) = next(&mut events).await;
    assert_eq!(kind, "BOOKMARK");
    assert!(String::from_utf8_lossy(&object).contains("k8s.io/initial-events-end"));
    cluster.delete(&format!("{MAPS}/a")).await.expect(200);
    assert_eq!(next(&mut events).await.0, "DELETED");

    let partial = format!("{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1;stream=watch");
    cluster.post(MAPS, &map("b")).await.expect(201);
    let (kind, object) = next(&mut open("", &partial).await).await;
    assert_eq!((kind.as_str(), field(field(&object[4..], 1), 2)), ("ADDED", &b"PartialObjectMetadata"[..]));

    let start = cluster.store.revision();
    for n in 0..6 {
        cluster.merge(&format!("{MAPS}/b"), &json!({"data": {"n": n.to_string()}})).await.expect(200);
    }
    let (kind, object) = next(&mut open(&format!("resourceVersion={start}"), PROTOBUF).await).await;
    assert_eq!((kind.as_str(), field(field(&object[4..], 2), 4)), ("ERROR", &b"Expired"[..]));
    cluster.stop().await;
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_take_it() {
    let cluster = Cluster::start().await;
    let mut big = map("big");
    big["data"]["text"] = json!("all work and no play ".repeat(10_000));
    cluster.post(MAPS, &big).await.expect(201);
    let plain = cluster.get(MAPS).await;
    assert!(!plain.headers.contains_key("content-encoding"));
    for accept in ["application/json", PROTOBUF] {
        let plain = cluster.raw(Method::GET, MAPS, &[("accept", accept)], "").await;
        let headers = [("accept", accept), ("accept-encoding", "gzip")];
        let answer = cluster.raw(Method::GET, MAPS, &headers, "").await;
        assert_eq!(answer.headers["content-encoding"], "gzip");
        assert!(answer.bytes.len() * 10 < plain.bytes.len());
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(answer.bytes.as_slice()).read_to_end(&mut read).unwrap();
        assert!(read == plain.bytes);
    }
    let small = cluster.raw(Method::GET, "/api/v1/nodes", &[("accept-encoding", "gzip")], "").await;
    assert!(!small.headers.contains_key("content-encoding"));
    small.expect(200);
    cluster.stop().await;
}
