//! Snapshots on real mounts: taken, restored and deleted in every order, with `kill -9` of
//! `holdfast up` in between. Whatever the order, what was restored is what was there, and
//! nothing is left.

mod ground;
mod groups;

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use holdfast_test_needs::{Need, missing};
use holdfast_tests::{
    cannot_run,
    objects::{self, NAMESPACE},
    process::binary,
    wait::until,
};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use ground::{Ground, again, from_snapshot, of_claim, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_there_is_restored_whatever_goes_first() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let ground = Ground::start().await?;
    let data = ground.used("data", None).await?;
    write(&data.join("file"), "monday")?;
    ground.snapshot("monday", of_claim("data")).await?;
    let content = ground.ready("monday").await?;
    ensure!(content.spec.volume_snapshot_class_name.as_deref() == Some("quick"), "the default class");
    let told = until("the events are told", || async {
        let told = ground.machine.kubectl(&["describe", "volumesnapshot", "monday"])?;
        Ok(["CreatingSnapshot", "SnapshotCreated", "SnapshotReady"]
            .iter()
            .all(|e| told.contains(e))
            .then_some(told))
    })
    .await?;
    ensure!(!told.contains("Warning"), "{told}");
    write(&data.join("file"), "tuesday")?;

    let metrics = http::Request::get("/metrics").body(Vec::new())?;
    let metrics = ground.machine.client().await?.request_text(metrics).await?;
    for operation in ["CreateSnapshot", "CreateSnapshotAndReady"] {
        let labels = format!(
            "driver_name=\"csi.holdfast.dev\",operation_name=\"{operation}\",snapshot_type=\"dynamic\",\
             operation_status=\"success\""
        );
        let line = format!("snapshot_controller_operation_total_seconds_count{{{labels}}} 1");
        ensure!(metrics.lines().any(|found| found == line), "no {line} in\n{metrics}");
    }

    // Restored beside its source, in use. A claim that is smaller than the snapshot is refused.
    let restored = ground.used("restored", from_snapshot("monday")).await?;
    ensure!(fs::read_to_string(restored.join("file"))? == "monday", "what was there is restored");
    ensure!(fs::read_to_string(data.join("file"))? == "tuesday", "the source is as it was");
    let mut small = objects::claim("small", "local", "256Mi");
    small["spec"]["dataSource"] = from_snapshot("monday").unwrap_or_default();
    objects::create(&ground.objects.claims, small).await?;
    until("the smaller claim is refused", || async {
        let told = ground.machine.kubectl(&["describe", "pvc", "small"])?;
        Ok(told.contains("is less than the size").then_some(()))
    })
    .await?;
    objects::delete(&ground.objects.claims, "small").await?;

    // A clone of the claim itself has what the claim has now.
    let clone = json!({"kind": "PersistentVolumeClaim", "name": "data"});
    let cloned = ground.used("cloned", Some(clone)).await?;
    ensure!(fs::read_to_string(cloned.join("file"))? == "tuesday", "a clone is of now");

    // The source goes first, and the snapshot can still be restored.
    ground.delete_pod_and_claim("data").await?;
    let later = ground.used("later", from_snapshot("monday")).await?;
    ensure!(fs::read_to_string(later.join("file"))? == "monday", "restored without its source");
    // Then the snapshot, and what was made from it is as it was.
    ground.delete_snapshot("monday").await?;
    for path in [&restored, &later] {
        ensure!(
            fs::read_to_string(path.join("file"))? == "monday",
            "{} without the snapshot",
            path.display()
        );
    }
    for name in ["restored", "later", "cloned"] {
        ground.delete_pod_and_claim(name).await?;
    }
    ground.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_snapshot_is_taken_up_again_by_hand() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let ground = Ground::start().await?;
    let data = ground.used("data", None).await?;
    write(&data.join("file"), "monday")?;
    let mut spec = of_claim("data");
    spec["volumeSnapshotClassName"] = json!("kept");
    ground.snapshot("monday", spec).await?;
    let content = ground.ready("monday").await?;
    let name = content.metadata.name.clone().context("it has a name")?;
    let handle = content.status.unwrap_or_default().snapshot_handle.context("its handle")?;
    ground.delete_snapshot("monday").await?;
    let kept = ground.contents.get(&name).await?;
    ensure!(kept.metadata.deletion_timestamp.is_none(), "the policy keeps the content");
    objects::delete(&ground.contents, &name).await?;
    until("the content is gone", || async {
        Ok(ground.contents.get_opt(&name).await?.is_none().then_some(()))
    })
    .await?;
    ground.delete_pod_and_claim("data").await?;
    until("the snapshot alone is in the pool", || async { Ok((ground.in_pool()?.len() == 1).then_some(())) })
        .await?;

    // The form that the driver's own commands print for a snapshot that is there.
    let content = |name: &str, handle: &str, snapshot: &str| {
        json!({
            "metadata": {"name": name},
            "spec": {
                "deletionPolicy": "Delete", "driver": holdfast_api::names::DRIVER,
                "source": {"snapshotHandle": handle}, "sourceVolumeMode": "Filesystem",
                "volumeSnapshotRef": {"name": snapshot, "namespace": NAMESPACE},
            },
        })
    };
    let asked = |content: &str| json!({"source": {"volumeSnapshotContentName": content}});
    // The snapshot object first, which says what it waits for.
    ground.snapshot("again", asked("given")).await?;
    until("it says what is missing", || async {
        let error = ground.snapshots.get("again").await?.status.unwrap_or_default().error;
        Ok(error.and_then(|error| error.message).filter(|message| message.contains("given is missing")))
    })
    .await?;
    objects::create(&ground.contents, content("given", &handle, "again")).await?;
    ground.ready("again").await?;
    let restored = ground.used("restored", from_snapshot("again")).await?;
    ensure!(fs::read_to_string(restored.join("file"))? == "monday", "what was kept is restored");

    // What is not there is not called ready, and what is another's is not taken.
    objects::create(&ground.contents, content("wrong", "default.snapshot-none", "lost")).await?;
    ground.snapshot("lost", asked("wrong")).await?;
    ground.snapshot("thief", asked("given")).await?;
    for (name, words) in [("lost", "has no snapshot"), ("thief", "bound to a different snapshot")] {
        until("it is told why", || async {
            let status = ground.snapshots.get(name).await?.status.unwrap_or_default();
            ensure!(status.ready_to_use != Some(true), "{name} is not ready");
            Ok(status.error.and_then(|error| error.message).filter(|message| message.contains(words)))
        })
        .await?;
    }
    for name in ["thief", "lost", "again"] {
        ground.delete_snapshot(name).await?;
    }
    ground.delete_pod_and_claim("restored").await?;
    ground.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_deleted_while_it_is_restored_waits() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let ground = Ground::start().await?;
    let data = ground.used("data", None).await?;
    write(&data.join("file"), "monday")?;
    ground.snapshot("monday", of_claim("data")).await?;
    ground.ready("monday").await?;
    // No class, so no volume yet: the restore is asked for and not begun.
    ground.claim("restored", "late", from_snapshot("monday")).await?;
    objects::delete(&ground.snapshots, "monday").await?;
    until("it is told why it stays", || async {
        let told = ground.machine.kubectl(&["describe", "volumesnapshot", "monday"])?;
        Ok((told.contains("SnapshotDeletePending") && told.contains("restored")).then_some(()))
    })
    .await?;
    let content =
        ground.contents.list(&Default::default()).await?.items.pop().context("the content is there")?;
    ensure!(content.metadata.deletion_timestamp.is_none(), "the content is not touched");
    objects::create(&ground.objects.classes, objects::growing_class("late")).await?;
    let restored = ground.mounted("restored").await?;
    ensure!(fs::read_to_string(restored.join("file"))? == "monday", "the restore was served");
    ground.snapshot_gone("monday").await?;
    ground.delete_pod_and_claim("restored").await?;
    ground.delete_pod_and_claim("data").await?;
    ground.end().await
}

/// `kill -9` whenever the next step has begun: nothing is lost, nothing is made twice, nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_step() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let mut ground = Ground::start().await?;
    let data = ground.used("data", None).await?;
    write(&data.join("file"), "monday")?;

    ground.snapshot("monday", of_claim("data")).await?;
    ground.killed().await?;
    until("the content is made", || async {
        Ok(ground.contents.list(&Default::default()).await?.items.pop())
    })
    .await?;
    ground.killed().await?;
    until("the snapshot is cut", || async {
        let content = ground.contents.list(&Default::default()).await?.items.pop();
        Ok(content.and_then(|content| content.status?.snapshot_handle))
    })
    .await?;
    ground.killed().await?;
    ground.ready("monday").await?;

    ground.claim("restored", "local", from_snapshot("monday")).await?;
    ground.killed().await?;
    let restored = ground.mounted("restored").await?;
    ensure!(fs::read_to_string(restored.join("file"))? == "monday", "what was there is restored");
    ensure!(ground.in_pool()?.len() == 3, "two volumes and a snapshot: {:?}", ground.in_pool()?);

    again("the snapshot is deleted", || objects::delete(&ground.snapshots, "monday")).await?;
    ground.killed().await?;
    ground.snapshot_gone("monday").await?;

    // Snapshots that are deleted at once, killed in between.
    for name in ["a", "b", "c"] {
        ground.snapshot(name, of_claim("data")).await?;
        if name != "a" {
            until("it is begun", || async {
                let status = ground.snapshots.get(name).await?.status;
                Ok(status.and_then(|status| status.bound_volume_snapshot_content_name))
            })
            .await?;
        }
        if name == "c" {
            ground.killed().await?;
        }
        again("the snapshot is deleted", || objects::delete(&ground.snapshots, name)).await?;
        ground.killed().await?;
        ground.snapshot_gone(name).await?;
    }
    for name in ["restored", "data"] {
        ground.delete_pod_and_claim(name).await?;
    }
    ground.end().await
}

/// What another machine's snapshot becomes here: received into a pool, applied, restored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_received_snapshot_is_restored_by_what_was_printed_for_it() -> Result<()> {
    if cannot_run() || missing(&[Need::FileSystem("btrfs"), Need::Program("btrfs")]) {
        return Ok(());
    }
    let ground = Ground::on("btrfs", "btrfs", &["default", "copies"]).await?;
    let mut class = objects::class("elsewhere");
    class["parameters"] = json!({"pool": "copies"});
    objects::create(&ground.objects.classes, class).await?;
    objects::create(&ground.objects.classes, objects::class("here")).await?;
    ground.claim("data", "here", None).await?;
    let data = ground.mounted("data").await?;
    write(&data.join("file"), "monday")?;
    ground.snapshot("monday", of_claim("data")).await?;
    let handle = ground.ready("monday").await?.status.unwrap_or_default().snapshot_handle;
    let handle = handle.context("its handle")?;

    let folder = ground.disk.beside("config")?;
    let (config, yaml) = (folder.join("pools.toml"), folder.join("received.yaml"));
    let command = format!(
        "{bin} driver snapshot send {handle} --config {config} \
         | {bin} driver snapshot receive --pool copies -o yaml -n {NAMESPACE} --config {config} >{yaml}",
        bin = binary().display(),
        config = config.display(),
        yaml = yaml.display(),
    );
    #[expect(clippy::disallowed_methods, reason = "the test starts what people start")]
    let sent = Command::new("bash").args(["-o", "pipefail", "-c", &command]).output()?;
    ensure!(sent.status.success(), "{command}: {}", String::from_utf8_lossy(&sent.stderr));
    let applied = ground.machine.kubectl(&["apply", "-o", "name", "-f", yaml.to_str().context("UTF-8")?])?;
    let name = applied.lines().find_map(|line| line.strip_prefix("volumesnapshot.snapshot.storage.k8s.io/"));
    let name = name.with_context(|| format!("no snapshot in {applied}"))?;
    let content = ground.ready(name).await?;
    ground.claim("restored", "elsewhere", from_snapshot(name)).await?;
    let restored = ground.mounted("restored").await?;
    ensure!(fs::read_to_string(restored.join("file"))? == "monday", "what was received is restored");

    for name in ["restored", "data"] {
        ground.delete_pod_and_claim(name).await?;
    }
    ground.delete_snapshot("monday").await?;
    // What was printed says Retain: the snapshot object goes alone.
    ground.delete_snapshot(name).await?;
    let content = content.metadata.name.context("a name")?;
    let patch = json!({"spec": {"deletionPolicy": "Delete"}});
    ground.contents.patch(&content, &PatchParams::default(), &Patch::Merge(patch)).await?;
    objects::delete(&ground.contents, &content).await?;
    ground.end().await
}
