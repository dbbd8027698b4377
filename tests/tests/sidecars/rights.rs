//! The roles of `deploy/kubernetes/sidecar-rbac.yaml`: enough, and nothing that is not used.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use holdfast_api::{
    names,
    snapshot::group::{VolumeGroupSnapshot, VolumeGroupSnapshotClass},
};
use holdfast_test_needs::{Need, missing};
use holdfast_tests::{
    disk::Disk,
    objects::{self, NAMESPACE},
    sidecar::Sidecar,
    wait::until,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::Api;
use serde_json::{Value, json};

use crate::{
    life::{Moment, live},
    stage::{Stage, cannot_run},
};

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kubernetes/sidecar-rbac.yaml");
const ACCOUNT: &str = "holdfast-sidecar";
const USER: &str = "system:serviceaccount:default:holdfast-sidecar";

fn kubectl(stage: &Stage, arguments: &[&str]) -> Result<String> {
    #[expect(clippy::disallowed_methods, reason = "the test does what people do")]
    let output = std::process::Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(stage.server.root().join("kubeconfig"))
        .args(["--cache-dir".as_ref(), stage.path.join("kubectl-cache").as_os_str()])
        .args(arguments)
        .output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A kubeconfig with the account's token, and nothing else that opens doors.
fn kubeconfig(stage: &Stage) -> Result<PathBuf> {
    let token = kubectl(stage, &["create", "token", ACCOUNT])?;
    let mut config: Value = serde_json::from_slice(&std::fs::read(stage.server.root().join("kubeconfig"))?)?;
    config["users"][0]["user"] = json!({"token": token.trim()});
    let path = stage.path.join("account.kubeconfig");
    std::fs::write(&path, config.to_string())?;
    Ok(path)
}

/// Verb and resource.
type Right = (String, String);

/// What every request of the account was for, and of those that were refused.
fn asked(log: &Path) -> Result<(BTreeSet<Right>, Vec<String>)> {
    let (mut asked, mut refused) = (BTreeSet::new(), Vec::new());
    for line in std::fs::read_to_string(log)?.lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        if event["user"]["username"] != USER {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut resource = text(&event["objectRef"]["resource"]);
        if let Some(part) = event["objectRef"]["subresource"].as_str() {
            resource = format!("{resource}/{part}");
        }
        let pair = (text(&event["verb"]), resource);
        if event["responseStatus"]["code"] == 403 {
            refused.push(format!("{pair:?}"));
        }
        asked.insert(pair);
    }
    Ok((asked, refused))
}

/// Everything that the manifest allows.
fn allowed(stage: &Stage) -> Result<BTreeSet<Right>> {
    let mut allowed = BTreeSet::new();
    for kind in ["clusterrole", "role"] {
        let role: Value = serde_json::from_str(&kubectl(stage, &["get", kind, ACCOUNT, "-o", "json"])?)?;
        let rules: Vec<PolicyRule> = serde_json::from_value(role["rules"].clone())?;
        for rule in rules {
            for resource in rule.resources.unwrap_or_default() {
                allowed.extend(rule.verbs.iter().map(|verb| (verb.clone(), resource.clone())));
            }
        }
    }
    Ok(allowed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifest_is_enough_and_not_more() -> Result<()> {
    let more = [Need::Program("kubectl"), Need::FileSystem("xfs"), Need::Program("mkfs.xfs")];
    if cannot_run() || missing(&more) {
        return Ok(());
    }
    // Groups are taken where files can share their blocks.
    let disk = Disk::new("xfs", 1 << 30)?;
    let log = tempfile::NamedTempFile::new_in("/var/tmp")?;
    let path = log.path().to_str().context("a path")?.to_owned();
    let stage = Stage::on(Some(&disk.path().join("pool")), &["--audit-log-path", &path]).await?;
    kubectl(&stage, &["apply", "-f", MANIFEST])?;
    let words = stage.flags_as(
        &kubeconfig(&stage)?,
        &[
            "--controllers=provisioner,attacher,resizer,snapshotter,health",
            "--leader-election",
            "--leader-election-namespace=default",
            "--leader-election-retry-period=200ms",
        ],
    );
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut sidecars = [Sidecar::start(&stage.path, "sidecar", &words)?];
    live(&stage, &mut sidecars, Moment::Never).await?;
    // Once more with another life, which finds the leases.
    live(&stage, &mut sidecars, Moment::Attached).await?;
    group(&stage).await?;
    let (asked, refused) = asked(log.path())?;
    ensure!(refused.is_empty(), "{refused:?}");
    let allowed = allowed(&stage)?;
    let unused: Vec<_> = allowed.difference(&asked).filter(|right| !seldom(right)).collect();
    ensure!(unused.is_empty(), "allowed and never used: {unused:?}");
    Ok(())
}

/// A group snapshot from its beginning to its end.
async fn group(stage: &Stage) -> Result<()> {
    let class = json!({"metadata": {"name": "groups"}, "driver": names::DRIVER, "deletionPolicy": "Delete"});
    objects::create(&Api::<VolumeGroupSnapshotClass>::all(stage.client.clone()), class).await?;
    let mut claim = objects::claim("member", "local", "16Mi");
    claim["metadata"]["labels"] = json!({"of": "group"});
    objects::create(&stage.objects.claims, claim).await?;
    stage.bound("member").await?;
    let groups = Api::<VolumeGroupSnapshot>::namespaced(stage.client.clone(), NAMESPACE);
    let source = json!({"selector": {"matchLabels": {"of": "group"}}});
    let group = json!({"metadata": {"name": "monday", "namespace": NAMESPACE},
        "spec": {"volumeGroupSnapshotClassName": "groups", "source": source}});
    objects::create(&groups, group).await?;
    until("the group snapshot is ready", || async {
        let status = groups.get("monday").await?.status;
        Ok(status.and_then(|status| status.ready_to_use).filter(|ready| *ready))
    })
    .await?;
    objects::delete(&groups, "monday").await?;
    objects::delete(&stage.objects.claims, "member").await?;
    stage.is_empty().await
}

/// What is used in lives other than this one.
fn seldom((verb, resource): &Right) -> bool {
    [
        // A decision that another's write came between is made again on what is there.
        ("get", "volumeattachments"),
        ("get", "persistentvolumes"),
        ("get", "volumesnapshotcontents"),
        ("get", "volumegroupsnapshotcontents"),
        // A claim that is filled from a snapshot.
        ("get", "volumesnapshots"),
        // An event that happened again.
        ("patch", "events"),
        // Only drivers with secrets.
        ("get", "secrets"),
    ]
    .contains(&(verb, resource))
}
