//! Requests that no honest client sends: each is answered, and the server goes on.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use http::Method;
use serde_json::json;

use super::harness::{Cluster, MAPS, PODS, map, pod};

const DEEP: usize = 10_000;
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

#[tokio::test]
async fn bodies_of_ten_thousand_levels() {
    let cluster = Cluster::start().await;
    cluster.post(PODS, &pod("a")).await.expect(201);
    let wrap = |open: &str, close: &str| format!("{}{}", open.repeat(DEEP), close.repeat(DEEP));
    let bodies = [
        wrap("[", "]"),
        wrap("{\"spec\":", "}"),
        "[".repeat(DEEP),
        format!("{{\"spec\":{}}}", wrap("[", "]")),
        format!("[{{\"op\":\"add\",\"path\":\"/metadata/x\",\"value\":{}}}]", wrap("[", "]")),
        "- ".repeat(DEEP),
    ];
    for body in &bodies {
        for media in ["application/json", "application/yaml"] {
            let answer = cluster.raw(Method::POST, PODS, &[("content-type", media)], body.as_str()).await;
            answer.refused(400, "BadRequest");
            assert!(answer.text.len() < 2000, "the answer repeats the body");
        }
        for media in PATCHES {
            let path = format!("{PODS}/a?fieldManager=m");
            let answer = cluster.raw(Method::PATCH, &path, &[("content-type", media)], body.as_str()).await;
            answer.refused(400, "BadRequest");
        }
    }
    // Deep by many steps, each of which is shallow.
    let mut path = "/metadata/annotations".to_owned();
    let mut steps = vec![json!({"op": "add", "path": path, "value": {}})];
    while steps.len() < 1_500 {
        path.push_str("/a");
        steps.push(json!({"op": "add", "path": path, "value": {}}));
    }
    let steps = json!(steps).to_string();
    let media = [("content-type", PATCHES[0])];
    cluster.raw(Method::PATCH, &format!("{PODS}/a"), &media, steps).await.refused(400, "BadRequest");
    cluster.get(&format!("{PODS}/a")).await.expect(200);
    cluster.stop().await;
}

#[tokio::test]
async fn numbers_and_text_out_of_range() {
    let cluster = Cluster::start().await;
    let json = [("content-type", "application/json")];
    for number in ["1e999", "18446744073709551616", "-9223372036854775809", "1e-7", "NaN", "0x1"] {
        let body = pod("a")
            .to_string()
            .replace("\"spec\":{", &format!("\"spec\":{{\"terminationGracePeriodSeconds\":{number},"));
        cluster.raw(Method::POST, PODS, &json, body).await.refused(400, "BadRequest");
    }
    let digits = format!("{{\"metadata\":{{\"generation\":{}}}}}", "9".repeat(1_000_000));
    cluster.raw(Method::POST, PODS, &json, digits).await.refused(400, "BadRequest");
    for size in ["9".repeat(1_000), "1e999999999".to_owned(), "9999999999E".to_owned(), "-1".to_owned()] {
        let mut claim = super::harness::claim("a");
        claim["spec"]["resources"]["requests"]["storage"] = json!(size);
        let answer = cluster.post(super::harness::CLAIMS, &claim).await;
        assert!(matches!(answer.code, 400 | 422), "{size}: {}", answer.code);
    }
    let text = [&b"{\"metadata\":{\"name\":\""[..], b"\xff\xfe", b"\"}}"].concat();
    for media in ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"] {
        let answer = cluster.raw(Method::POST, MAPS, &[("content-type", media)], text.clone()).await;
        answer.refused(400, "BadRequest");
    }
    for query in
        ["limit=99999999999999999999", "limit=-1", "timeoutSeconds=1e9", "labelSelector=%ff", "continue=%00"]
    {
        cluster.get(&format!("{MAPS}?{query}")).await.refused(400, "BadRequest");
    }
    cluster.stop().await;
}

/// A path names one object or none: no way of writing it leads elsewhere.
#[tokio::test]
async fn paths_lead_nowhere_else() {
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    for path in [
        "/api/v1/namespaces/default/configmaps/..",
        "/api/v1/namespaces/default/configmaps/%2e%2e",
        "/api/v1/namespaces/default/configmaps/b%2f..%2fa",
        "/api/v1/namespaces/default/configmaps/a%00",
        "/api/v1/namespaces/default%2fconfigmaps/a",
        "/api/v1/namespaces/other/../default/configmaps/a",
        "/api/v1/namespaces/default/configmaps/a/../a",
        "/api/v1/namespaces/default/configmaps/A",
    ] {
        cluster.get(path).await.refused(404, "NotFound");
    }
    for path in ["/api/v1/namespaces/default/configmaps/%ff", "/api/v1/namespaces/default/configmaps/%zz"] {
        cluster.get(path).await.refused(400, "BadRequest");
    }
    for name in ["..", "a/b", "a\u{0}", "", "a b", "%2e"] {
        let answer = cluster.post(MAPS, &map(name)).await;
        assert_eq!(answer.code, 422, "{name:?}: {}", answer.text);
    }
    cluster.stop().await;
}

/// How much memory this process has in use, in bytes.
pub(crate) fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

const ADDRESS: &str = "HOLDFAST_TEST_ADDRESS";
const IDLE: usize = 10_000;
/// Opened one after the other, a connection for which the server's queue is full is tried again after a second, and
/// those behind it wait: the first would be shown the door before the last is there.
const THREADS: usize = 20;

/// The other side of the next tests, in a process of its own: a process may open 20,000 files. Over the
/// unix socket each connection says something first, and so has a user.
#[test]
#[ignore = "run by ten_thousand_idle_connections and ten_thousand_users"]
fn idle_connections_client() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    raise_limit();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let address = address.clone();
            std::thread::spawn(move || (0..IDLE / THREADS).map(|_| connect(&address)).collect::<Vec<_>>())
        })
        .collect();
    let open: Vec<OwnedFd> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    println!("\nopen {}", open.len());
    // Until the server's side has seen enough.
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn connect(address: &str) -> OwnedFd {
    if let Ok(address) = address.parse::<SocketAddr>() {
        return TcpStream::connect(address).unwrap().into();
    }
    let mut stream = UnixStream::connect(address).unwrap();
    stream.write_all(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    stream.into()
}

/// As many files as the machine allows.
fn raise_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.unwrap_or(u64::MAX)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections() {
    idle(|cluster| cluster.server.address.to_string()).await;
}

/// Also those who did say who they are are let go when they are silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_users() {
    idle(|cluster| cluster.server.socket.display().to_string()).await;
}

#[allow(clippy::disallowed_methods, reason = "the other side is this very program")]
async fn idle(address: impl Fn(&Cluster) -> String) {
    // Both together would be more files than a process may open.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = ALONE.lock().await;
    if raise_limit() < IDLE as u64 + 500 {
        holdfast_test_needs::cannot_run("it needs 10,500 open files in a process");
        return;
    }
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let before = memory();
    let mut client = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "hostile::idle_connections_client"])
        .env(ADDRESS, address(&cluster))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let opened = tokio::task::spawn_blocking(move || {
        let is_open = lines.any(|line| line.unwrap() == format!("open {IDLE}"));
        (is_open, lines)
    });
    // In between, others are answered.
    while !opened.is_finished() {
        cluster.get(&format!("{MAPS}/a")).await.expect(200);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (is_open, _lines) = opened.await.unwrap();
    assert!(is_open, "the client could not open its connections");
    let grown = memory().saturating_sub(before);
    println!("{IDLE} idle connections: {} MiB", grown >> 20);
    assert!(grown < IDLE * 32 * 1024, "{grown} bytes for {IDLE} connections");
    cluster.get(&format!("{MAPS}/a")).await.expect(200);
    // Who says nothing is shown the door.
    let sockets = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let all_gone = async {
        while sockets() > 500 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(super::harness::PATIENCE, all_gone).await.expect("they stay connected");
    client.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(client.wait().unwrap().success());
    cluster.stop().await;
}
