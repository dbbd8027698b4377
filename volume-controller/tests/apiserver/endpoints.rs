//! What is not about objects: discovery, health, metrics, access, the start itself.

use http::Method;
use serde_json::{Value, json};

use super::harness::{Cluster, MAPS, PATIENCE, PODS, map};

#[tokio::test]
async fn discovery() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.get("/api").await.expect(200)["versions"], json!(["v1"]));
    let core = cluster.get("/api/v1").await.expect(200);
    let find = |list: &Value, name: &str| {
        let all = list["resources"].as_array().unwrap().clone();
        all.into_iter().find(|r| r["name"] == name).unwrap_or_else(|| panic!("no {name}"))
    };
    let claims = find(&core, "persistentvolumeclaims");
    assert_eq!(claims["shortNames"], json!(["pvc"]));
    assert_eq!(claims["namespaced"], true);
    assert_eq!(find(&core, "persistentvolumeclaims/status")["verbs"], json!(["get", "patch", "update"]));
    assert_eq!(find(&core, "pods/binding")["kind"], "Binding");
    let groups = cluster.get("/apis").await.expect(200);
    let names: Vec<&str> =
        groups["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"storage.k8s.io") && names.contains(&"authorization.k8s.io"), "{names:?}");
    let storage = cluster.get("/apis/storage.k8s.io").await.expect(200);
    assert_eq!(storage["preferredVersion"]["groupVersion"], "storage.k8s.io/v1");
    find(&cluster.get("/apis/storage.k8s.io/v1").await.expect(200), "storageclasses");
    for missing in
        ["/apis/none.example.com", "/apis/storage.k8s.io/v9", "/api/v2", "/nothing", "/api/v1/widgets"]
    {
        cluster.get(missing).await.refused(404, "NotFound");
    }
    for version in ["v2", "v2beta1"] {
        let media = format!(
            "application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList,application/json"
        );
        for path in ["/api", "/apis"] {
            let answer = cluster.raw(Method::GET, path, &[("accept", &media)], "").await;
            assert!(answer.headers["content-type"].to_str().unwrap().contains(&format!("v={version};")));
            let list = answer.expect(200);
            assert_eq!(list["apiVersion"], format!("apidiscovery.k8s.io/{version}"));
            assert!(!list["items"][0]["versions"][0]["resources"].as_array().unwrap().is_empty());
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn health_version_metrics() {
    let cluster = Cluster::start().await;
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = cluster.get(path).await;
        assert_eq!((answer.code, answer.text.as_str()), (200, "ok"));
    }
    for (path, expected) in [
        ("/livez?verbose", "[+]ping ok\n[+]etcd ok\nlivez check passed\n"),
        ("/readyz?verbose", "[+]ping ok\n[+]etcd ok\n[+]shutdown ok\nreadyz check passed\n"),
        (
            "/readyz?verbose&exclude=etcd&exclude=no",
            "[+]ping ok\n[+]etcd excluded: ok\n[+]shutdown ok\n\
             warn: some health checks cannot be excluded: no matches for \"no\"\nreadyz check passed\n",
        ),
        ("/readyz/shutdown", "ok"),
        ("/livez/etcd", "ok"),
    ] {
        let answer = cluster.get(path).await;
        assert_eq!((answer.code, answer.text.as_str()), (200, expected), "{path}");
    }
    for path in ["/livez/shutdown", "/readyz/other"] {
        cluster.get(path).await.refused(404, "NotFound");
    }
    for path in ["/version", "/version/"] {
        assert_eq!(cluster.get(path).await.expect(200)["major"], "1");
    }
    cluster.post(MAPS, &map("a")).await.expect(201);
    cluster.get(MAPS).await.expect(200);
    let metrics = cluster.get("/metrics").await.text;
    for expected in [
        r#"apiserver_request_total{verb="POST",group="",version="v1",resource="configmaps",subresource="",scope="namespace",dry_run="",code="201"} 1"#,
        r#"apiserver_request_duration_seconds_count{verb="LIST""#,
    ] {
        assert!(metrics.contains(expected), "{metrics}");
    }
    // Scrapers refuse an answer that describes a metric twice.
    let mut described: Vec<&str> = metrics.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let all = described.len();
    assert!(all >= 4, "{metrics}");
    described.sort_unstable();
    described.dedup_by_key(|line| line.split(' ').nth(2));
    assert_eq!(described.len(), all, "{metrics}");
    // Whoever asks is under way.
    let reading = r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#;
    assert!(metrics.contains(reading), "{metrics}");
    let open = r#"apiserver_longrunning_requests{verb="WATCH",group="",version="v1",resource="configmaps",subresource="",scope="namespace",dry_run=""}"#;
    let watch = super::watching::Events::open(&cluster, MAPS, "").await;
    let metrics = cluster.get("/metrics").await.text;
    assert!(metrics.contains(&format!("{open} 1")), "{metrics}");
    drop(watch);
    let closed = async {
        while !cluster.get("/metrics").await.text.contains(&format!("{open} 0")) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("the watch is still counted");
    let index = cluster.get("/openapi/v3").await;
    assert_eq!(index.code, 200);
    cluster.get("/openapi/v3/apis/none.example.com/v1").await.refused(404, "NotFound");
    cluster.stop().await;
}

#[tokio::test]
async fn reviews_of_oneself() {
    let cluster = Cluster::start().await;
    let who = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let who = cluster.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &who).await.expect(201);
    assert_eq!(who["status"]["userInfo"]["groups"][0], "system:masters");
    let can = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let can = cluster.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &can).await.expect(201);
    assert_eq!(
        (&can["status"]["allowed"], &can["spec"]["resourceAttributes"]["verb"]),
        (&json!(true), &json!("get"))
    );
    cluster
        .get("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
        .await
        .refused(405, "MethodNotAllowed");
    cluster.stop().await;
}

#[tokio::test]
async fn methods() {
    let cluster = Cluster::start().await;
    for (method, path) in [
        (Method::PUT, MAPS),
        (Method::PATCH, MAPS),
        (Method::POST, "/api/v1/configmaps"),
        (Method::POST, "/api/v1/namespaces/default/configmaps/a"),
        (Method::DELETE, "/api/v1/namespaces/default/pods/a/status"),
        (Method::GET, "/api/v1/namespaces/default/pods/a/binding"),
        (Method::POST, "/version"),
    ] {
        let answer = cluster.raw(method.clone(), path, &[], "{}").await;
        assert_eq!(answer.code, 405, "{method} {path}: {}", answer.text);
        assert_eq!(answer.json()["reason"], "MethodNotAllowed");
    }
    cluster.stop().await;
}

/// Over TLS of its own, so that no client adds a token.
pub(crate) async fn without_token(
    cluster: &Cluster,
    path: &str,
    token: Option<&str>,
    headers: &[(&str, &str)],
) -> (u16, Value) {
    let kubeconfig = kube::config::Kubeconfig::read_from(&cluster.kubeconfig).unwrap();
    let mut kubeconfig = kubeconfig;
    for user in &mut kubeconfig.auth_infos {
        user.auth_info = Some(kube::config::AuthInfo {
            token: token.map(|token| token.to_owned().into()),
            ..Default::default()
        });
    }
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let mut request = http::Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(kube::client::Body::empty()).unwrap();
    let response = client.send(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test]
async fn a_lost_store_is_no_health() {
    let cluster = Cluster::start().await;
    cluster.store.close().await;
    for (path, expected) in [
        ("/livez", "[+]ping ok\n[-]etcd failed: reason withheld\nlivez check failed\n"),
        ("/readyz", "[+]ping ok\n[-]etcd failed: reason withheld\n[+]shutdown ok\nreadyz check failed\n"),
        ("/livez/etcd", "internal server error: reason withheld\n"),
    ] {
        let answer = cluster.get(path).await;
        assert_eq!((answer.code, answer.text.as_str()), (500, expected), "{path}");
    }
    assert_eq!(cluster.get("/livez?exclude=etcd").await.text, "ok");
    cluster.stop().await;
}

#[tokio::test]
async fn only_the_token_opens() {
    let cluster = Cluster::start().await;
    for (token, code, reason) in [(None, 403, "Forbidden"), (Some("wrong"), 401, "Unauthorized")] {
        for path in [PODS, "/apis", "/metrics", "/openapi/v2", "/nothing"] {
            let (found, status) = without_token(&cluster, path, token, &[]).await;
            assert_eq!((found, &status["reason"]), (code, &json!(reason)), "{path} {token:?}");
        }
    }
    assert_eq!(without_token(&cluster, "/version", None, &[]).await.0, 200);
    assert_eq!(without_token(&cluster, "/version", Some("wrong"), &[]).await.0, 401);
    cluster.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_the_kubeconfig_good() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::start().await;
    cluster.post(MAPS, &map("a")).await.expect(201);
    let before = std::fs::read(&cluster.kubeconfig).unwrap();
    for file in ["kubeconfig", "pki/admin.token", "pki/ca.key"] {
        let mode = std::fs::metadata(cluster.folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let client = cluster.client.clone();
    let folder = cluster.stop().await;
    let cluster = Cluster::start_in(folder, |_| {}).await;
    assert_eq!(std::fs::read(&cluster.kubeconfig).unwrap(), before);
    // The client of the first time goes on.
    let request = http::Request::get(format!("{MAPS}/a")).body(Vec::new()).unwrap();
    let found: Value = client.request(request).await.unwrap();
    assert_eq!(found["metadata"]["name"], "a");
    // While it runs, its port is taken: another one is chosen.
    let port = cluster.server.address.port();
    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir(other.path().join("pki")).unwrap();
    std::fs::write(other.path().join("pki/port"), port.to_string()).unwrap();
    let other = Cluster::start_in(other, |_| {}).await;
    assert_ne!(other.server.address.port(), port);
    other.get(MAPS).await.expect(200);
    other.stop().await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_taken_address_is_an_error() {
    use holdfast_volume_controller::apiserver::{Config, ServeError, serve};
    let cluster = Cluster::start().await;
    let other = tempfile::tempdir().unwrap();
    let mut config = Config::new(cluster.store.clone(), other.path());
    config.listen = cluster.server.address;
    let error = serve(config, Default::default()).await.unwrap_err();
    assert!(matches!(error, ServeError::Listen { .. }), "{error}");
    assert!(error.to_string().contains("stop what uses it, or choose another address"), "{error}");
    cluster.stop().await;
}

/// Whoever has a token stays connected; strangers do not, whatever they do or leave undone.
#[tokio::test]
async fn strangers_are_not_kept() {
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

    let cluster = Cluster::start().await;
    let mut roots = RootCertStore::empty();
    let authority = cluster.folder.path().join("pki/ca.crt");
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let token = std::fs::read_to_string(cluster.folder.path().join("pki/admin.token")).unwrap();
    let watch = format!(
        "GET /api/v1/pods?watch=1&timeoutSeconds=12 HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let connections = [
        (&b"h2"[..], "", false),
        (b"h2", "PRI", false),
        (b"h2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0", false),
        (b"http/1.1", "", false),
        (b"http/1.1", "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", false),
        (b"http/1.1", watch.as_str(), true),
    ];
    let ends = connections.map(|(protocol, text, stays)| {
        let (address, roots) = (cluster.server.address, roots.clone());
        async move {
            let provider = Arc::new(ring::default_provider());
            let builder = ClientConfig::builder_with_provider(provider);
            let builder = builder.with_safe_default_protocol_versions().unwrap();
            let mut config = builder.with_root_certificates(roots).with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let name = ServerName::IpAddress(address.ip().into());
            let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // How TLS ends, with a goodbye or without, does not matter.
            let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
            assert!(read.await.is_ok(), "{text:?} is still connected");
            // The last chunk of an answer that was not cut.
            assert_eq!(answer.ends_with(b"0\r\n\r\n"), stays, "{text:?}");
        }
    });
    futures::future::join_all(ends).await;
    cluster.stop().await;
}
