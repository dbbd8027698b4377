//! The audit log, as whoever reads it later finds it; and what happens to who asks too much.

use std::path::Path;
use std::time::Duration;

use holdfast_volume_controller::apiserver::{AuditConfig, BACKUP_PATH, CHECK_PATH};
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::endpoints::without_token;
use super::harness::{Cluster, MAPS, PATIENCE, map};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const CODED: &str = "dGhlLXBsYWludGV4dA==";

async fn audited(policy: Option<&str>) -> Cluster {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let policy = policy.map(|text| {
        let path = folder.path().join("policy.yaml");
        std::fs::write(&path, text).unwrap();
        path
    });
    let audit = AuditConfig { path, policy, max_bytes: 1 << 26, max_backups: 3 };
    Cluster::start_as(folder, |_| {}, |config| config.audit = Some(audit)).await
}

/// The events of a server that has stopped.
fn events(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("audit.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn who_did_what() {
    let cluster = audited(None).await;
    let answer = cluster
        .raw(
            Method::POST,
            MAPS,
            &[("content-type", "application/json"), ("audit-id", "mine")],
            map("a").to_string(),
        )
        .await;
    assert_eq!(answer.headers["audit-id"], "mine");
    answer.expect(201);
    cluster.raw(Method::GET, MAPS, &[("impersonate-user", "ann")], "").await.refused(403, "Forbidden");
    cluster.get("/livez").await;
    assert_eq!(without_token(&cluster, MAPS, Some("wrong"), &[]).await.0, 401);
    let secret = json!({"metadata": {"name": "s"}, "data": {"a": CODED}});
    cluster.post(SECRETS, &secret).await.expect(201);
    let folder = cluster.stop().await;
    let events = events(folder.path());
    assert_eq!(events.len(), 4, "{events:#?}");
    let [made, forbidden, stranger, secret] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&made["kind"], &made["apiVersion"]), (&json!("Event"), &json!("audit.k8s.io/v1")));
    assert_eq!((&made["auditID"], &made["level"]), (&json!("mine"), &json!("Metadata")));
    assert_eq!((&made["stage"], &made["verb"]), (&json!("ResponseComplete"), &json!("create")));
    assert_eq!(made["user"]["username"], "admin");
    assert_eq!(
        made["objectRef"],
        json!({"resource": "configmaps", "namespace": "default", "apiVersion": "v1"})
    );
    assert_eq!(made["responseStatus"]["code"], 201);
    assert_eq!(made["sourceIPs"], json!(["127.0.0.1"]));
    assert_eq!(made["annotations"]["authorization.k8s.io/decision"], "allow");
    assert!(made["requestObject"].is_null() && made["responseObject"].is_null());
    let times = ["requestReceivedTimestamp", "stageTimestamp"].map(|field| made[field].as_str().unwrap());
    assert!(times[0] <= times[1] && times[0].len() == "2026-01-01T00:00:00.000000Z".len());

    assert_eq!(forbidden["impersonatedUser"]["username"], "ann");
    assert_eq!(forbidden["user"]["username"], "admin");
    assert_eq!(forbidden["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(forbidden["responseStatus"]["reason"], "Forbidden");
    assert!(forbidden["responseStatus"]["message"].as_str().unwrap().contains("User \"ann\" cannot list"));
    assert_eq!((&stranger["user"], &stranger["responseStatus"]["code"]), (&json!({}), &json!(401)));
    assert_eq!(secret["objectRef"]["resource"], "secrets");
}

/// A backup is noted when it begins, as a watch is: it ends when the client has taken it.
#[tokio::test]
async fn backups_and_checks_are_noted_without_their_bodies() {
    let cluster = audited(Some("rules: [{level: RequestResponse}]")).await;
    cluster.post(MAPS, &map("in-the-backup")).await.expect(201);
    for path in [BACKUP_PATH, CHECK_PATH] {
        assert_eq!(cluster.get(path).await.code, 200);
        cluster.raw(Method::GET, path, &[("impersonate-user", "ann")], "").await.refused(403, "Forbidden");
    }
    let folder = cluster.stop().await;
    let events = events(folder.path());
    let found: Vec<_> = events[1..]
        .iter()
        .map(|event| {
            let text = |field: &str| event[field].as_str().unwrap().to_owned();
            (text("requestURI"), text("stage"), event["responseStatus"]["code"].as_u64().unwrap())
        })
        .collect();
    let expected = [
        (BACKUP_PATH, "ResponseStarted", 200),
        (BACKUP_PATH, "ResponseComplete", 403),
        (CHECK_PATH, "ResponseComplete", 200),
        (CHECK_PATH, "ResponseComplete", 403),
    ];
    assert_eq!(found, expected.map(|(path, stage, code)| (path.to_owned(), stage.to_owned(), code)));
    assert!(events[1]["responseObject"].is_null(), "a backup is larger than memory");
}

#[tokio::test]
async fn bodies_where_the_policy_says_and_never_of_secrets() {
    let cluster = audited(Some("rules: [{level: RequestResponse}]")).await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    cluster.post(MAPS, &map("a")).await.refused(409, "AlreadyExists");
    let secret = json!({"metadata": {"name": "s"}, "data": {"a": CODED}});
    cluster.post(SECRETS, &secret).await.expect(201);
    cluster.get(&format!("{SECRETS}/s")).await.expect(200);
    let account = json!({"metadata": {"name": "robot"}});
    cluster.post("/api/v1/namespaces/default/serviceaccounts", &account).await.expect(201);
    let token = "/api/v1/namespaces/default/serviceaccounts/robot/token";
    let token = cluster.post(token, &json!({})).await.expect(201)["status"]["token"].clone();
    let review = json!({"spec": {"token": token}});
    cluster.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await.expect(201);
    let metrics = cluster.get("/metrics").await.text;
    assert!(metrics.contains("apiserver_audit_event_total 7"), "{metrics}");
    let folder = cluster.stop().await;
    let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    assert!(!text.contains(CODED) && !text.contains(token.as_str().unwrap()));
    let events = events(folder.path());
    assert_eq!(events[0]["requestObject"]["metadata"]["name"], "a");
    assert_eq!(events[0]["responseObject"]["data"], json!({"a": "1"}));
    assert_eq!(events[1]["responseStatus"]["reason"], "AlreadyExists");
    assert_eq!(events[2]["level"], "Metadata");
}

/// Whatever a client speaks: the log has JSON.
#[tokio::test]
async fn bodies_in_other_syntaxes_are_readable() {
    const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
    let cluster =
        audited(Some("rules: [{level: RequestResponse, resources: [{resources: [configmaps]}]}]")).await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let accept = [("accept", PROTOBUF)];
    let mut map = cluster.raw(Method::GET, &format!("{MAPS}/a"), &accept, "").await.bytes;
    let both = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    // It is there already, and names a version.
    let code = cluster.raw(Method::POST, MAPS, &both, map.clone()).await.code;
    assert_eq!(code, 400);
    let name = map.windows(3).position(|part| part == b"\x0a\x01a").unwrap() + 2;
    map[name] = b'b';
    cluster.raw(Method::PUT, &format!("{MAPS}/a"), &both, map).await;
    let yaml = "metadata: {name: c}\ndata: {a: 'yes'}\n";
    let headers = [("content-type", "application/yaml"), ("accept", "application/yaml")];
    assert_eq!(cluster.raw(Method::POST, MAPS, &headers, yaml).await.code, 201);
    let apply = [("content-type", "application/apply-patch+yaml")];
    let config = "apiVersion: v1\nkind: ConfigMap\ndata: {b: 'no'}\n";
    let path = format!("{MAPS}/c?fieldManager=m");
    cluster.raw(Method::PATCH, &path, &apply, config).await.expect(200);
    cluster.raw(Method::GET, MAPS, &accept, "").await;
    let large = json!({"data": {"a": "x".repeat(700_000)}});
    for number in 0..16 {
        let mut map = large.clone();
        map["metadata"] = json!({"name": format!("large-{number}")});
        cluster.post(MAPS, &map).await.expect(201);
    }
    assert_eq!(cluster.get(MAPS).await.code, 200);
    let folder = cluster.stop().await;
    let events = events(folder.path());
    assert_eq!(events[1]["responseObject"]["data"], json!({"a": "1"}), "{}", events[1]);
    assert_eq!(events[2]["requestObject"]["kind"], "ConfigMap");
    assert_eq!(events[2]["responseStatus"]["reason"], "BadRequest");
    let message = events[2]["responseStatus"]["message"].as_str().unwrap();
    assert!(message.contains("resourceVersion"), "{message}");
    assert_eq!(events[3]["requestObject"]["metadata"]["name"], "b");
    assert_eq!(events[4]["requestObject"]["data"], json!({"a": "yes"}));
    assert_eq!(events[4]["responseObject"]["metadata"]["name"], "c");
    assert_eq!(events[5]["requestObject"]["data"], json!({"b": "no"}));
    let items = events[6]["responseObject"]["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{}", events[6]);
    let last = events.last().unwrap();
    assert!(last["responseObject"].is_null());
    assert_eq!(last["annotations"]["audit.k8s.io/truncated"], "true");
}

/// Refusals quote what is wrong, but nothing of a secret or a token.
#[tokio::test]
async fn refusals_do_not_quote_secrets() {
    const HIDDEN: &str = "hunter2";
    let cluster = audited(Some("rules: [{level: RequestResponse}]")).await;
    let secret = json!({"metadata": {"name": "s"}, "data": {"a": CODED}});
    cluster.post(SECRETS, &secret).await.expect(201);
    let path = format!("{SECRETS}/s");
    let mut answers = Vec::new();
    for body in [
        json!({"metadata": {"name": "x"}, "data": HIDDEN}),
        json!({"metadata": {"name": "x"}, "data": {"a": [HIDDEN]}}),
        json!({"metadata": {"name": "x"}, "data": {"a": format!("{HIDDEN}!")}}),
        json!({"metadata": {"name": "x"}, "stringData": [HIDDEN]}),
        json!({"metadata": {"name": "x"}, "immutable": HIDDEN}),
        json!({"metadata": {"name": "x"}, "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": HIDDEN}}),
    ] {
        answers.push(cluster.post(SECRETS, &body).await);
        let yaml = [("content-type", "application/yaml")];
        answers.push(cluster.raw(Method::POST, SECRETS, &yaml, body.to_string()).await);
        let apply = [("content-type", "application/apply-patch+yaml")];
        let config = json!({"apiVersion": "v1", "kind": "Secret", "data": body["data"], "stringData": body["stringData"], "immutable": body["immutable"]});
        let answer =
            cluster.raw(Method::PATCH, &format!("{path}?fieldManager=m"), &apply, config.to_string()).await;
        if answer.code != 200 {
            answers.push(answer);
        }
    }
    for body in [
        json!([{"op": HIDDEN, "path": "/data/a"}]),
        json!([{"op": "test", "path": "/data/a", "value": HIDDEN}]),
    ] {
        let media = [("content-type", "application/json-patch+json")];
        answers.push(cluster.raw(Method::PATCH, &path, &media, body.to_string()).await);
    }
    for body in [json!({"data": {"$patch": HIDDEN}}), json!({"metadata": {"ownerReferences": [HIDDEN]}})] {
        let media = [("content-type", "application/strategic-merge-patch+json")];
        answers.push(cluster.raw(Method::PATCH, &path, &media, body.to_string()).await);
    }
    answers.push(cluster.merge(&path, &json!({"data": {"a": {"b": HIDDEN}}})).await);
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    answers.push(cluster.post(reviews, &json!({"spec": {"token": "x", "audiences": HIDDEN}})).await);
    for answer in &answers {
        assert!(matches!(answer.code, 400 | 422), "{}", answer.text);
        assert!(!answer.text.contains(HIDDEN), "{}", answer.text);
    }
    assert!(answers[3].text.contains("data[a] must be text"), "{}", answers[3].text);
    // A value that is copied to where it is quoted: who asks may see it, who reads the log may not.
    let copy = json!([{"op": "copy", "from": "/data/a", "path": "/metadata/uid"}]);
    let media = [("content-type", "application/json-patch+json")];
    let quoted = cluster.raw(Method::PATCH, &path, &media, copy.to_string()).await;
    assert!(quoted.refused(409, "Conflict").contains(CODED), "{}", quoted.text);
    let count = answers.len();
    let folder = cluster.stop().await;
    let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    assert!(!text.contains(HIDDEN) && !text.contains(CODED) && text.lines().count() > count);
}

/// A client that leaves before the answer has done what it did.
#[tokio::test]
async fn who_hangs_up_is_noted_too() {
    let cluster = audited(Some("rules: [{level: Metadata, verbs: [create]}]")).await;
    for number in 0..20 {
        let mut stream = UnixStream::connect(&cluster.server.socket).await.unwrap();
        let body = map(&format!("m{number}")).to_string();
        let head = format!(
            "POST {MAPS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        drop(stream);
    }
    let store = cluster.store.clone();
    let made = || store.list("configmaps", None, None, None).objects.len();
    let some = async {
        while made() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, some).await.expect("none was done");
    // Some are gone before they are read; what is there is in the log.
    let folder = cluster.stop().await;
    let made = made();
    let created = events(folder.path()).iter().filter(|event| event["responseStatus"]["code"] == 201).count();
    assert_eq!(created, made);
}

#[tokio::test]
async fn too_much_of_one_user_leaves_others_alone() {
    let cluster = Cluster::start().await;
    let rule =
        json!([{"verbs": ["create", "list", "delete"], "apiGroups": [""], "resources": ["configmaps"]}]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    cluster
        .post(&format!("{rbac}/roles"), &json!({"metadata": {"name": "r"}, "rules": rule}))
        .await
        .expect(201);
    let user = |name: &str| json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"});
    let binding = json!({
        "metadata": {"name": "r"}, "subjects": [user("greedy"), user("other")],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
    });
    cluster.post(&format!("{rbac}/rolebindings"), &binding).await.expect(201);
    // Each announces a body that does not come.
    let mut open = Vec::new();
    // Whoever asks for the metrics reads.
    let metric = r#"apiserver_current_inflight_requests{request_kind="mutating"}"#;
    for _ in 0..100 {
        let mut stream = UnixStream::connect(&cluster.server.socket).await.unwrap();
        let head = format!(
            "POST {MAPS} HTTP/1.1\r\nhost: x\r\nimpersonate-user: greedy\r\ncontent-length: 9\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        open.push(stream);
    }
    let full = async {
        while !cluster.get("/metrics").await.text.contains(&format!("{metric} 100")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, full).await.expect("not all of them are under way");
    let make = async |who: &str, name: &str| {
        let headers = [("impersonate-user", who), ("content-type", "application/json")];
        cluster.raw(Method::POST, MAPS, &headers, map(name).to_string()).await
    };
    // Plainly: a client that knows of 429 would ask again and again.
    let mut stream = UnixStream::connect(&cluster.server.socket).await.unwrap();
    let head = format!(
        "DELETE {MAPS}/a HTTP/1.1\r\nhost: x\r\nimpersonate-user: greedy\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut refused = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut refused)).await.unwrap().unwrap();
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
    assert!(refused.contains(r#""reason":"TooManyRequests""#), "{refused}");
    cluster.raw(Method::GET, MAPS, &[("impersonate-user", "greedy")], "").await.expect(200);
    make("other", "b").await.expect(201);
    cluster.post(MAPS, &map("c")).await.expect(201);
    let metrics = cluster.get("/metrics").await.text;
    assert!(metrics.contains(r#"apiserver_dropped_requests_total{request_kind="mutating"} 1"#), "{metrics}");
    drop(open);
    let empty = async {
        while !cluster.get("/metrics").await.text.contains(&format!("{metric} 0")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, empty).await.expect("room is not given back");
    make("greedy", "d").await.expect(201);
    cluster.stop().await;
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let cluster = Cluster::start().await;
    let mut stream = UnixStream::connect(&cluster.server.socket).await.unwrap();
    let head = format!("GET /version HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(300 * 1024));
    // The server may close before it has read everything.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = vec![0; 12];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap();
    assert!(read.is_err() || answer == b"HTTP/1.1 431", "{}", String::from_utf8_lossy(&answer));
    cluster.get("/version").await.expect(200);
    cluster.stop().await;
}

/// What is copied for the log is in memory until the client has read its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_that_nobody_reads_are_left_out() {
    const OBJECTS: usize = 8;
    const SIZE: usize = 700_000;
    const LISTS: usize = 60;
    let cluster = audited(Some("rules: [{level: RequestResponse, verbs: [list]}]")).await;
    for number in 0..OBJECTS {
        let mut map = map(&format!("m{number}"));
        map["data"]["a"] = json!("x".repeat(SIZE));
        cluster.post(MAPS, &map).await.expect(201);
    }
    let before = super::hostile::memory();
    let mut unread = Vec::new();
    for _ in 0..LISTS {
        let mut stream = UnixStream::connect(&cluster.server.socket).await.unwrap();
        stream.write_all(format!("GET {MAPS} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut start = [0; 15];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut start)).await.expect("no answer").unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        unread.push(stream);
    }
    let grown = super::hostile::memory().saturating_sub(before);
    println!("{LISTS} unread lists of {} MB: {} MB", OBJECTS * SIZE / 1_000_000, grown / 1_000_000);
    assert!(grown < LISTS * OBJECTS * SIZE / 2, "{grown} bytes for copies");
    drop(unread);
    // Once they are gone there is room again.
    let whole =
        |events: &[Value]| events.iter().filter(|event| event["responseObject"]["items"].is_array()).count();
    let again = async {
        loop {
            cluster.get(MAPS).await.expect(200);
            let text = std::fs::read_to_string(cluster.folder.path().join("audit.log")).unwrap();
            let last = text.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
            if last.is_some_and(|event| whole(&[event]) == 1) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("there is no room any more");
    let folder = cluster.stop().await;
    let events = events(folder.path());
    let cut = |event: &&Value| event["annotations"]["audit.k8s.io/truncated"] == "true";
    let left_out = events[..LISTS].iter().filter(cut).count();
    assert_eq!(whole(&events[..LISTS]) + left_out, LISTS, "each is whole or says that it is not");
    assert!((1..=8).contains(&whole(&events[..LISTS])), "{left_out} were left out");
}
