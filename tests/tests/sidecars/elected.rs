//! Several processes that could work, and one that does.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use holdfast_tests::{process::binary, sidecar::Sidecar, wait::until};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::stage::{Stage, cannot_run};

const LEASE: &str = "csi-holdfast-dev";
/// As short as a lease may be with sensible pauses: others take it 3 s after a crash.
const SHORT: [&str; 5] = [
    "--leader-election",
    "--leader-election-namespace=default",
    "--leader-election-lease-duration=3s",
    "--leader-election-renew-deadline=2s",
    "--leader-election-retry-period=500ms",
];

async fn holder(stage: &Stage) -> Result<Option<String>> {
    Ok(stage
        .leases()
        .get_opt(LEASE)
        .await?
        .and_then(|lease| lease.spec)
        .and_then(|spec| spec.holder_identity))
}

/// Waits for a holder other than `not`, and gives it.
async fn led_by_other(stage: &Stage, not: Option<&str>) -> Result<String> {
    until("somebody leads", || async {
        Ok(holder(stage).await?.filter(|holder| Some(holder.as_str()) != not))
    })
    .await
}

fn start(stage: &Stage, name: &str, kubeconfig: &Path) -> Result<Sidecar> {
    let mut words = vec!["--controllers=provisioner,attacher"];
    words.extend(SHORT);
    let words = stage.flags_as(kubeconfig, &words);
    Sidecar::start(&stage.path, name, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Whether the process has said that it leads the provisioner's lease, in all its lives so often.
fn led(sidecar: &Sidecar) -> usize {
    let led = format!("leading lease=\"{LEASE}\"");
    sidecar.log().lines().filter(|line| line.contains(&led)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_works_and_another_takes_over() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let stage = Stage::new().await?;
    let kubeconfig = stage.server.root().join("kubeconfig");
    let mut sidecars = vec![start(&stage, "a", &kubeconfig)?];
    let first = led_by_other(&stage, None).await?;
    sidecars.push(start(&stage, "b", &kubeconfig)?);
    until("the other one waits", || async {
        Ok(sidecars[1].log().contains("somebody else leads").then_some(()))
    })
    .await?;
    stage.claim("one").await?;
    let one = stage.bound("one").await?;
    ensure!(led(&sidecars[1]) == 0, "{}", sidecars[1].log());

    sidecars[0].kill()?;
    let killed = Instant::now();
    let second = led_by_other(&stage, Some(&first)).await?;
    println!("another one led {:?} after kill -9", killed.elapsed());
    stage.claim("two").await?;
    let two = stage.bound("two").await?;

    // Ended in order, it leaves a lease that nobody holds, and nobody waits for it.
    sidecars[0].start_again()?;
    let ended = Instant::now();
    ensure!(sidecars[1].terminate().await?.success(), "it ends in order:\n{}", sidecars[1].log());
    let took = ended.elapsed();
    let third = led_by_other(&stage, Some(&second)).await?;
    println!("it ended in {took:?}, and another one led {:?} after its end was asked for", ended.elapsed());
    let lease = stage.leases().get(LEASE).await?.spec.context("a spec")?;
    ensure!(lease.lease_transitions >= Some(2) && third != first, "{lease:?}: every life is another");
    stage.without("one", &one).await?;
    stage.without("two", &two).await?;
    sidecars[0].terminate().await?;
    ensure!(holder(&stage).await?.is_none(), "given back at the end");
    stage.is_empty().await
}

/// A user of the API with all rights, whose requests can be told from others' in the audit log.
async fn user(stage: &Stage, name: &str) -> Result<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "the test starts what people start")]
    let made = std::process::Command::new(binary())
        .args(["certificate", "--user", name, "--root"])
        .arg(stage.server.root())
        .output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let path = stage.path.join(format!("{name}.kubeconfig"));
    std::fs::write(&path, made.stdout)?;
    let group = "rbac.authorization.k8s.io";
    let binding = json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": name}]});
    let bindings = Api::<ClusterRoleBinding>::all(stage.client.clone());
    holdfast_tests::objects::create(&bindings, binding).await?;
    Ok(path)
}

/// What the user wrote besides Leases, as the audit log has it: when the request came, verb and resource.
fn writes(log: &Path, user: &str) -> Result<Vec<(String, String, String)>> {
    let mut found = Vec::new();
    for line in std::fs::read_to_string(log)?.lines() {
        // The last line may be half written.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let verb = event["verb"].as_str().unwrap_or_default();
        if event["user"]["username"] == user && !["get", "list", "watch"].contains(&verb) {
            let at = event["requestReceivedTimestamp"].as_str().context("a time")?.to_owned();
            let resource = event["objectRef"]["resource"].as_str().unwrap_or_default().to_owned();
            // It may take the lease of the attacher again, which nobody has.
            if resource != "leases" {
                found.push((at, verb.to_owned(), resource));
            }
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_stopped_writes_nothing_afterwards() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let log = tempfile::NamedTempFile::new_in("/var/tmp")?;
    let path = log.path().to_str().context("a path")?.to_owned();
    let stage = Stage::with(&["--audit-log-path", &path]).await?;
    let (ann, bob) = (user(&stage, "ann").await?, user(&stage, "bob").await?);
    let first = start(&stage, "ann", &ann)?;
    let ann_holds = led_by_other(&stage, None).await?;
    let _second = start(&stage, "bob", &bob)?;
    // In the middle of much work.
    let names: Vec<String> = (0..60).map(|number| format!("claim-{number}")).collect();
    for name in &names[..30] {
        stage.claim(name).await?;
    }
    stage.bound("claim-3").await?;
    first.signal(Signal::STOP)?;
    for name in &names[30..] {
        stage.claim(name).await?;
    }
    led_by_other(&stage, Some(&ann_holds)).await?;
    let taken = stage.leases().get(LEASE).await?.spec.and_then(|spec| spec.acquire_time).context("a time")?;
    first.signal(Signal::CONT)?;
    until("it has seen that it lost the lease", || async {
        Ok(first.log().contains("the lease was lost").then_some(()))
    })
    .await?;
    for name in &names {
        stage.bound(name).await?;
    }
    // Time for what it might still have under way.
    let begun = Instant::now();
    until("it is a candidate again", || async {
        let waits = first.log().matches("somebody else leads").count() >= 1;
        Ok((waits && begun.elapsed() > Duration::from_secs(1)).then_some(()))
    })
    .await?;
    let taken = taken.0.to_string();
    let late: Vec<_> =
        writes(log.path(), "ann")?.into_iter().filter(|(at, ..)| at.as_str() > &taken[..19]).collect();
    // What was on its way into a socket when it was stopped is a patch of a version, which conflicts with what others did.
    ensure!(
        late.iter().all(|(_, verb, kind)| verb == "patch" || kind == "events"),
        "taken at {taken}, and then: {late:?}\n{}",
        first.log()
    );
    ensure!(!writes(log.path(), "ann")?.is_empty() && !writes(log.path(), "bob")?.is_empty(), "both wrote");
    Ok(())
}
