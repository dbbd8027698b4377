//! Who is let in to the other servers, and by whom each is known to all.

use std::{fs, path::Path, process::Output, time::Duration};

use anyhow::{Context, Result, ensure};
use holdfast_test_needs::postgres::{Cluster, Durability};
use holdfast_tests::{
    process::binary,
    server::{Server, get},
};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::process::Command;

/// One that is not refused, and serves, is ended after this.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a command on a root to its end.
async fn holdfast(command: &str, root: &Path, arguments: &[&str]) -> Result<Output> {
    let mut process = Command::new(binary());
    process
        .arg(command)
        .arg("--root")
        .arg(root)
        .args(arguments)
        .env_remove("HOLDFAST_STORE")
        .kill_on_drop(true);
    Ok(tokio::time::timeout(PATIENCE, process.output())
        .await
        .with_context(|| format!("{command} goes on"))??)
}

/// The one line with which it is refused.
async fn refused(command: &str, root: &Path, url: &str) -> Result<String> {
    let output = holdfast(command, root, &["--store", url]).await?;
    ensure!(output.status.code() == Some(1), "{command} ended with {}", output.status);
    let said = String::from_utf8(output.stderr)?;
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("holdfast: ")).collect();
    ensure!(lines.len() == 1, "one line is wanted, not: {said}");
    Ok(lines[0].to_owned())
}

/// Who somebody is to a server whose address is in another kubeconfig.
async fn name_at(server: &Server, mut credentials: Kubeconfig) -> Result<String> {
    let mut theirs = Kubeconfig::read_from(server.root().join("kubeconfig"))?;
    // Its address, and whom the other one believes.
    let address =
        theirs.clusters.remove(0).cluster.and_then(|cluster| cluster.server).context("an address")?;
    let cluster = credentials.clusters[0].cluster.as_mut().context("a cluster")?;
    cluster.server = Some(address);
    let config = Config::from_custom_kubeconfig(credentials, &KubeConfigOptions::default()).await?;
    let reviews = Api::<SelfSubjectReview>::all(Client::try_from(config)?);
    let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let user = review.status.and_then(|status| status.user_info).context("a user")?;
    user.username.context("a name")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_one_server_knows_all_know() -> Result<()> {
    let Some(cluster) = Cluster::start(Durability::Full) else { return Ok(()) };
    let mut servers = super::servers(&cluster, 2).await?;
    let [one, other] = &servers[..] else { unreachable!() };
    for (from, to) in [(one, other), (other, one)] {
        let admin = Kubeconfig::read_from(from.root().join("kubeconfig"))?;
        ensure!(name_at(to, admin.clone()).await? == "admin", "its kubeconfig is known to the other");
        let certificate = holdfast("certificate", from.root(), &["--user", "ann"]).await?;
        ensure!(certificate.status.success(), "{certificate:?}");
        let certificate = Kubeconfig::from_yaml(std::str::from_utf8(&certificate.stdout)?)?;
        ensure!(name_at(to, certificate).await? == "ann", "its certificate is known to the other");
        let request = http::Request::post("/api/v1/namespaces/default/serviceaccounts/default/token")
            .header("content-type", "application/json")
            .body(br#"{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}"#.to_vec())?;
        let token: serde_json::Value = from.client().await?.request(request).await?;
        let mut bearer = admin;
        let info = bearer.auth_infos[0].auth_info.as_mut().context("a user")?;
        info.token = Some(token["status"]["token"].as_str().context("a token")?.to_owned().into());
        let name = name_at(to, bearer).await?;
        ensure!(name == "system:serviceaccount:default:default", "{name}");
    }
    let keys = get("/openid/v1/jwks")?;
    let keys = one.client().await?.request_text(keys.clone()).await?
        == other.client().await?.request_text(keys).await?;
    ensure!(keys, "both publish the same keys");
    for server in &mut servers {
        ensure!(server.interrupt().await?.success(), "it ends in order:\n{}", server.log());
    }
    Ok(())
}

/// What was lost, or may be in wrong hands, is replaced by one server, alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_keys_take_the_place_of_the_old_ones() -> Result<()> {
    let Some(cluster) = Cluster::start(Durability::Full) else { return Ok(()) };
    let url = cluster.database();
    let mut servers = super::servers_on(&url, 2).await?;
    let [one, other] = &mut servers[..] else { unreachable!() };
    ensure!(one.interrupt().await?.success(), "it ends in order:\n{}", one.log());
    for file in ["admin.token", "ca.crt", "ca.key"] {
        fs::remove_file(one.root().join("pki").join(file))?;
    }
    let said = refused("server", one.root(), &url).await?;
    ensure!(said.contains("has not their pki/admin.token, pki/ca.crt. "), "{said}");
    let replace = &["--replace-keys", "--store", &url];
    let output = holdfast("server", one.root(), replace).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("is in use by holdfast process"), "{said}");

    ensure!(other.interrupt().await?.success(), "it ends in order:\n{}", other.log());
    one.spawn_with(&["--replace-keys"])?;
    one.ready().await?;
    let said = refused("server", other.root(), &url).await?;
    ensure!(said.contains("is in use by holdfast process"), "{said}");
    ensure!(one.interrupt().await?.success(), "it ends in order:\n{}", one.log());
    one.spawn()?;
    one.ready().await?;
    let said = refused("server", other.root(), &url).await?;
    ensure!(said.contains("has not their pki/admin.token, pki/ca.crt. "), "{said}");
    let mut joining = Server::joining(one)?;
    joining.spawn()?;
    joining.ready().await?;
    let admin = Kubeconfig::read_from(one.root().join("kubeconfig"))?;
    ensure!(name_at(&joining, admin).await? == "admin", "the new token is known to all");
    for server in [one, &mut joining] {
        ensure!(server.interrupt().await?.success(), "it ends in order:\n{}", server.log());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_other_keys_is_told_what_to_copy() -> Result<()> {
    let Some(cluster) = Cluster::start(Durability::Full) else { return Ok(()) };
    let url = cluster.database();
    let mut first = Server::new(&url)?;
    first.spawn()?;
    first.ready().await?;

    let stranger = Server::new(&url)?;
    let said = refused("server", stranger.root(), &url).await?;
    ensure!(said.contains("copy store, encryption.keys and pki/ from the root of one of them"), "{said}");
    ensure!(!stranger.root().join("pki").exists(), "no keys were made");
    // Who only says to be of them.
    fs::copy(first.root().join("store"), stranger.root().join("store"))?;
    let said = refused("server", stranger.root(), &url).await?;
    let files = "encryption.keys, pki/admin.token, pki/ca.crt, pki/sa.key";
    ensure!(said.contains(&format!("has not their {files}. Copy encryption.keys and pki/")), "{said}");
    ensure!(!stranger.root().join("encryption.keys").exists(), "no keys were made");
    ensure!(!stranger.root().join("pki").exists(), "no keys were made");
    // Each file by itself.
    for (file, missing) in [
        ("pki/sa.key", "pki/sa.key"),
        ("pki/admin.token", "pki/admin.token"),
        ("encryption.keys", "encryption.keys"),
    ] {
        let joining = Server::joining(&first)?;
        fs::remove_file(joining.root().join(file))?;
        let said = refused("server", joining.root(), &url).await?;
        ensure!(said.contains(&format!("has not their {missing}. ")), "{said}");
    }
    if rustix::process::geteuid().is_root() {
        let up = refused("up", stranger.root(), &url).await?;
        ensure!(up.contains("is in use by holdfast process"), "{up}");
    }
    // Beside those that run a root whose server does not is looked at, too.
    let idle = Server::joining(&first)?;
    let checked = holdfast("check", idle.root(), &["--store", &url]).await?;
    ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    let mut second = idle;
    second.spawn()?;
    second.ready().await?;
    ensure!(first.interrupt().await?.success(), "it ends in order:\n{}", first.log());
    // The first is nothing special.
    let said = refused("server", stranger.root(), &url).await?;
    ensure!(said.contains("has not their"), "{said}");
    ensure!(second.interrupt().await?.success(), "it ends in order:\n{}", second.log());
    Ok(())
}
