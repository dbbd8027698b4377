//! Client certificates: whom they let in, and whom not.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_test_needs::{Need, missing};
use holdfast_volume_controller::apiserver;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::process::Command;

use super::harness::Cluster;
use super::kubectl::with_each;

struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

/// By the authority in `pki`; what it says is changed first.
fn signed(pki: &Path, folder: &Path, change: impl FnOnce(&mut CertificateParams)) -> Pair {
    let read = |name: &str| std::fs::read_to_string(pki.join(name)).unwrap();
    let authority = KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.crt"), authority).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, "ann");
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut parameters);
    let pair = Pair { certificate: folder.join("client.crt"), key: folder.join("client.key") };
    std::fs::write(&pair.certificate, parameters.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    std::fs::write(&pair.key, key.serialize_pem()).unwrap();
    pair
}

/// The code of the answer, and who the server says it is.
async fn ask(cluster: &Cluster, pair: &Pair, token: Option<&str>) -> (String, Value) {
    let url = format!("https://{}/apis/authentication.k8s.io/v1/selfsubjectreviews", cluster.server.address);
    let mut command = Command::new("curl");
    command.args([
        "-s",
        "-S",
        "--http1.1",
        "--max-time",
        "20",
        "-w",
        "\n%{http_code}",
        "-X",
        "POST",
        "-d",
        "{}",
    ]);
    command.args(["-H", "content-type: application/json", "--cacert"]);
    command.arg(cluster.folder.path().join("pki/ca.crt"));
    command.arg("--cert").arg(&pair.certificate).arg("--key").arg(&pair.key).arg(url);
    if let Some(token) = token {
        command.args(["-H", &format!("authorization: Bearer {token}")]);
    }
    let output = command.output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !complaint.is_empty() {
        println!("curl: {complaint}");
    }
    let (body, code) = text.rsplit_once('\n').unwrap();
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    (code.to_owned(), answer["status"]["userInfo"].clone())
}

#[tokio::test]
async fn who_is_let_in() {
    if missing(&[Need::Program("curl")]) {
        return;
    }
    let (cluster, other) = (Cluster::start().await, Cluster::start().await);
    let (own, foreign) = (cluster.folder.path().join("pki"), other.folder.path().join("pki"));
    let folder = tempfile::tempdir().unwrap();
    let past = rcgen::date_time_ymd(2020, 1, 1);
    let good = signed(&own, folder.path(), |_| {});
    let (code, user) = ask(&cluster, &good, None).await;
    assert_eq!((code.as_str(), &user["username"]), ("201", &json!("ann")));
    assert_eq!(user["groups"], json!(["system:authenticated"]));
    let credential = user["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().unwrap();
    assert!(credential.starts_with("X509SHA256=") && credential.len() == 11 + 64, "{credential}");
    // Kubernetes takes the certificate before the token, even a wrong one.
    assert_eq!(ask(&cluster, &good, Some("wrong")).await.1["username"], "ann");

    type Change = fn(&mut CertificateParams);
    let refused: [(&str, &Path, Change); 5] = [
        ("foreign", &foreign, |_| {}),
        ("not yet good", &own, |p| p.not_before = rcgen::date_time_ymd(2200, 1, 1)),
        ("a server's", &own, |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ("nobody's", &own, |p| p.distinguished_name = rcgen::DistinguishedName::new()),
        ("an authority's", &own, |p| p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
    ];
    for (why, pki, change) in refused {
        let bad = signed(pki, folder.path(), change);
        assert_eq!(ask(&cluster, &bad, None).await.0, "401", "{why}");
        assert_eq!(ask(&cluster, &bad, Some("wrong")).await.0, "401", "{why}");
    }
    let expired = signed(&own, folder.path(), |p| p.not_after = past);
    assert_eq!(ask(&cluster, &expired, None).await.0, "401");
    let token = std::fs::read_to_string(own.join("admin.token")).unwrap();
    assert_eq!(ask(&cluster, &expired, Some(&token)).await.1["username"], "admin", "it has another proof");
    // A certificate is no secret: without its key there is not even a connection.
    let stolen = Pair { certificate: good.certificate.clone(), key: foreign.join("ca.key") };
    assert_eq!(ask(&cluster, &stolen, None).await.0, "000");
    cluster.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn it_ends_while_a_connection_is_open() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir().unwrap();
    let end = std::time::SystemTime::from(jiff::Timestamp::now()) + std::time::Duration::from_secs(3);
    let pair = signed(&cluster.folder.path().join("pki"), folder.path(), |p| p.not_after = end.into());
    let mut config = kube::config::Kubeconfig::read_from(&cluster.kubeconfig).unwrap();
    let encoded = |path: &Path| STANDARD.encode(std::fs::read(path).unwrap());
    config.auth_infos[0].auth_info = Some(kube::config::AuthInfo {
        client_certificate_data: Some(encoded(&pair.certificate)),
        client_key_data: Some(encoded(&pair.key).into()),
        ..Default::default()
    });
    let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let code = async || {
        let request = http::Request::get("/version").body(kube::client::Body::empty()).unwrap();
        client.send(request).await.unwrap().status().as_u16()
    };
    assert_eq!(code().await, 200);
    tokio::time::timeout(super::harness::PATIENCE, async {
        while code().await != 401 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("a certificate that has expired still opens");
    cluster.stop().await;
}

#[tokio::test]
async fn kubectl_with_a_certificate() {
    if missing(&[Need::Program("openssl")]) {
        return;
    }
    with_each(async |kubectl| {
        let root = kubectl.cluster.folder.path();
        let given = apiserver::kubeconfig_for(root, "ann", "dev", 1).unwrap();
        let path = root.join("ann.kubeconfig");
        std::fs::write(&path, given).unwrap();
        // The later one counts.
        let mine = ["--kubeconfig", path.to_str().unwrap()];
        let pods = [&["get", "pods"], &mine[..]].concat();
        let refused = kubectl.fails(&pods, "").await;
        assert!(refused.contains(r#"User "ann" cannot list resource "pods""#), "{refused}");
        kubectl.ok(&["create", "rolebinding", "dev", "--clusterrole=view", "--group=dev"], "").await;
        kubectl.ok(&pods, "").await;
        if kubectl.is_current() {
            let who = kubectl.ok(&[&["auth", "whoami"], &mine[..]].concat(), "").await;
            assert!(who.contains("ann") && who.contains("[dev system:authenticated]"), "{who}");
        }
        if kubectl.minor < 21 {
            // Debian's 1.20 crashes where it is to write such a kubeconfig.
            return;
        }
        // As docs/access.md has it, with openssl, for several groups.
        let script = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout joe.key \
             -subj /O=ops/O=dev/CN=joe -out joe.csr && \
             printf 'extendedKeyUsage = clientAuth' > client.ext && \
             openssl x509 -req -in joe.csr -CA pki/ca.crt -CAkey pki/ca.key -CAcreateserial -days 1 \
             -extfile client.ext -out joe.crt";
        let done = Command::new("sh").args(["-c", script]).current_dir(root).output().await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let (certificate, key) = (root.join("joe.crt"), root.join("joe.key"));
        let flags =
            ["--client-certificate", certificate.to_str().unwrap(), "--client-key", key.to_str().unwrap()];
        // As a user without a token: that of the file would be sent as well.
        let own = ["--kubeconfig", path.to_str().unwrap(), "--user", "joe"];
        kubectl.ok(&[&["config", "set-credentials", "joe"], &flags[..], &mine[..]].concat(), "").await;
        kubectl.ok(&[&["get", "pods"], &own[..]].concat(), "").await;
        if kubectl.is_current() {
            let who = kubectl.ok(&[&["auth", "whoami"], &own[..]].concat(), "").await;
            assert!(who.contains("joe") && who.contains("[ops dev system:authenticated]"), "{who}");
        }
    })
    .await;
}

/// Whether a client that looks for this name believes the server.
async fn is_believed(cluster: &Cluster, name: &str) -> bool {
    let config = kube::config::Kubeconfig::read_from(&cluster.kubeconfig).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
    config.default_retry = false;
    config.tls_server_name = Some(name.to_owned());
    let client = kube::Client::try_from(config).unwrap();
    client.apiserver_version().await.is_ok()
}

#[tokio::test]
async fn a_server_is_known_by_the_names_that_it_was_given() {
    let given = ["api.example", "192.0.2.7", "127.0.0.1"].map(str::to_owned).to_vec();
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_as(folder, |_| {}, |config| config.names.clone_from(&given)).await;
    for (name, expected) in [
        ("api.example", true),
        ("192.0.2.7", true),
        ("127.0.0.1", true),
        ("localhost", true),
        ("other.example", false),
        ("192.0.2.8", false),
    ] {
        assert_eq!(is_believed(&cluster, name).await, expected, "{name}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn what_cannot_be_a_name_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = holdfast_volume_controller::store::Config::new(folder.path().join("state.db"));
    let store = holdfast_volume_controller::store::Store::open(config).await.unwrap();
    let mut config = apiserver::Config::new(store.clone(), folder.path());
    config.names = vec!["bücher.example".to_owned()];
    let error = apiserver::serve(config, Default::default()).await.unwrap_err().to_string();
    assert!(error.contains("\"bücher.example\" is neither a host's name"), "{error}");
    store.close().await;
}
