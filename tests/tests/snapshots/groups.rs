//! Group snapshots on real mounts: of one moment, whole or not there at all, whoever is killed.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, anyhow, ensure};
use holdfast_api::snapshot::{
    group::VolumeGroupSnapshotContent,
    names::{DEFAULT_GROUP_CLASS, SNAPSHOT_IN_GROUP},
    volume::VolumeSnapshot,
};
use holdfast_tests::{
    cannot_run,
    objects::{self, NAMESPACE},
    wait::until,
};
use serde_json::{Value, json};

use crate::ground::{Ground, again, from_snapshot, write};

impl Ground {
    async fn group_class(&self, name: &str, policy: &str, is_default: bool) -> Result<()> {
        let mut class = json!({
            "metadata": {"name": name}, "driver": holdfast_api::names::DRIVER, "deletionPolicy": policy,
        });
        if is_default {
            class["metadata"]["annotations"] = json!({ DEFAULT_GROUP_CLASS: "true" });
        }
        objects::create(&self.group_classes, class).await
    }

    async fn group(&self, name: &str, spec: Value) -> Result<()> {
        let group = json!({"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec});
        again("the group snapshot is created", || objects::create(&self.groups, group.clone())).await
    }

    /// Waits until a group snapshot is ready, and gives its content. Until then nobody sees a part of it.
    async fn group_ready(&self, name: &str) -> Result<VolumeGroupSnapshotContent> {
        let status = until("the group snapshot is ready", || async {
            // In this order: what is ready when the snapshots are listed may have become so since.
            let snapshots = self.snapshots.list(&Default::default()).await?.items;
            let status = self.groups.get(name).await?.status.unwrap_or_default();
            let is_ready = status.ready_to_use == Some(true);
            let is_part = |snapshot: &&VolumeSnapshot| {
                let status = snapshot.status.as_ref();
                status.and_then(|status| status.volume_group_snapshot_name.as_deref()) == Some(name)
            };
            let parts: Vec<_> = snapshots.iter().filter(is_part).collect();
            ensure!(is_ready || parts.is_empty(), "a part of what is not ready: {parts:?}");
            Ok(is_ready.then_some(status))
        })
        .await?;
        ensure!(status.creation_time.is_some() && status.error.is_none(), "{status:?}");
        let content = status.bound_volume_group_snapshot_content_name.context("it is bound")?;
        Ok(self.group_contents.get(&content).await?)
    }

    /// The name of a group's snapshot of a claim.
    async fn part_of(&self, claim: &str) -> Result<String> {
        let snapshots = self.snapshots.list(&Default::default()).await?.items;
        let mut of_claim = snapshots
            .into_iter()
            .filter(|snapshot| snapshot.spec.source.persistent_volume_claim_name.as_deref() == Some(claim));
        of_claim.next().and_then(|snapshot| snapshot.metadata.name).context("a snapshot of the claim")
    }

    async fn group_gone(&self, name: &str) -> Result<()> {
        until("the group snapshot and its snapshots are gone", || async {
            let left = self.snapshots.list(&Default::default()).await?.items;
            Ok((self.groups.get_opt(name).await?.is_none() && left.is_empty()).then_some(()))
        })
        .await
    }

    /// Waits until a group snapshot's status and events say these words.
    async fn group_says(&self, name: &str, event: &str, words: &str) -> Result<()> {
        until(&format!("{name} says {words:?}"), || async {
            let status = self.groups.get(name).await?.status.unwrap_or_default();
            ensure!(status.ready_to_use != Some(true), "it is not ready");
            let message = status.error.and_then(|error| error.message).unwrap_or_default();
            let told = self.machine.kubectl(&["describe", "volumegroupsnapshot", name])?;
            ensure!(message.contains(words) && told.contains(event), "it says {message:?} and\n{told}");
            Ok(Some(()))
        })
        .await
    }
}

fn of_claims(names: &[&str]) -> Value {
    let expression = json!({"key": "of", "operator": "In", "values": names});
    json!({"source": {"selector": {"matchExpressions": [expression]}}})
}

/// Counts in two files, in this order: so at any one moment the first is equal to the second, or one ahead.
struct Writer {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Writer {
    fn start(first: &Path, second: &Path) -> Result<Self> {
        let files = [first, second].map(|folder| File::create(folder.join("count")));
        let [first, second] = files;
        let (files, ends) = ([first?, second?], Arc::new(AtomicBool::new(false)));
        let is_over = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let mut count = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                count += 1;
                for file in &files {
                    file.write_all_at(&count.to_be_bytes(), 0)?;
                    file.sync_all()?;
                }
            }
            Ok(count)
        });
        Ok(Self { ends, thread })
    }

    /// How far it came.
    fn end(self) -> Result<u64> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the writer panicked"))?
    }
}

fn count(folder: &Path) -> Result<u64> {
    let bytes = fs::read(folder.join("count"))?;
    Ok(u64::from_be_bytes(bytes.as_slice().try_into().context("a whole count")?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_of_one_moment_and_goes_as_a_whole() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let ground = Ground::start().await?;
    ground.group_class("quick", "Delete", true).await?;
    let (first, second) = (ground.used("first", None).await?, ground.used("second", None).await?);
    ground.claim("other", "local", None).await?;
    let writer = Writer::start(&first, &second)?;
    until("something is written", || async {
        Ok((second.join("count").metadata()?.len() > 0).then_some(()))
    })
    .await?;
    ground.group("monday", of_claims(&["first", "second"])).await?;
    let content = ground.group_ready("monday").await?;
    let last = writer.end()?;
    ensure!(content.spec.volume_group_snapshot_class_name.as_deref() == Some("quick"), "the default class");
    ensure!(
        ground.snapshots.list(&Default::default()).await?.items.len() == 2,
        "of the selected claims alone"
    );
    until("the events are told", || async {
        let told = ground.machine.kubectl(&["describe", "vgs", "monday"])?;
        let events = ["CreatingGroupSnapshot", "GroupSnapshotCreated", "GroupSnapshotReady"];
        ensure!(!told.contains("Warning"), "{told}");
        Ok(events.iter().all(|event| told.contains(event)).then_some(()))
    })
    .await?;
    let metrics = http::Request::get("/metrics").body(Vec::new())?;
    let metrics = ground.machine.client().await?.request_text(metrics).await?;
    for operation in ["CreateGroupSnapshot", "CreateGroupSnapshotAndReady"] {
        let line = format!(
            "snapshot_controller_operation_total_seconds_count{{driver_name=\"csi.holdfast.dev\",operation_name=\"\
             {operation}\",snapshot_type=\"dynamic\",operation_status=\"success\"}} 1"
        );
        ensure!(metrics.lines().any(|found| found == line), "no {line} in\n{metrics}");
    }

    let (of_first, of_second) = (ground.part_of("first").await?, ground.part_of("second").await?);
    let restored_first = ground.used("restored-first", from_snapshot(&of_first)).await?;
    let restored_second = ground.used("restored-second", from_snapshot(&of_second)).await?;
    let (ahead, behind) = (count(&restored_first)?, count(&restored_second)?);
    ensure!(ahead == behind || ahead == behind + 1, "of two moments: {ahead} and {behind}");
    ensure!(ahead > 0 && ahead <= last, "{ahead} of {last}");

    // One alone does not go, and stays usable.
    objects::delete(&ground.snapshots, &of_first).await?;
    until("it is told why it stays", || async {
        let told = ground.machine.kubectl(&["describe", "volumesnapshot", &of_first])?;
        Ok((told.contains("SnapshotDeletePending") && told.contains("default/monday")).then_some(()))
    })
    .await?;
    ensure!(ground.in_pool()?.len() == 8, "five volumes, two snapshots and a group: {:?}", ground.in_pool()?);

    objects::delete(&ground.groups, "monday").await?;
    ground.group_gone("monday").await?;
    ensure!(count(&restored_first)? == ahead, "what was restored is as it was");
    for name in ["restored-first", "restored-second", "first", "second"] {
        ground.delete_pod_and_claim(name).await?;
    }
    objects::delete(&ground.objects.claims, "other").await?;
    ground.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_cannot_be_taken_says_why() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let ground = Ground::start().await?;
    ground.group("monday", of_claims(&["first", "second"])).await?;
    ground.group_says("monday", "GroupSnapshotContentCreationFailed", "selects no PVC").await?;
    // Its class is not there yet, so it has no volume.
    ground.claim("first", "late", None).await?;
    ground
        .group_says("monday", "GroupSnapshotContentCreationFailed", "the PVC first is not yet bound")
        .await?;
    ground.claim("second", "local", None).await?;
    objects::create(&ground.objects.classes, objects::growing_class("late")).await?;
    ground.group_says("monday", "SetDefaultGroupSnapshotClassFailed", DEFAULT_GROUP_CLASS).await?;
    ensure!(ground.group_contents.list(&Default::default()).await?.items.is_empty(), "nothing was begun");
    ground.group_class("quick", "Delete", true).await?;
    let content = ground.group_ready("monday").await?;
    ensure!(content.spec.source.volume_handles.is_some_and(|all| all.len() == 2), "both, or nothing");
    objects::delete(&ground.groups, "monday").await?;
    ground.group_gone("monday").await?;
    for name in ["first", "second"] {
        objects::delete(&ground.objects.claims, name).await?;
    }
    ground.end().await
}

/// Volumes of a driver that cannot hold several still: that is said, and nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_without_groups_is_told_of() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let ground = Ground::on("ext4", "directory", &["default"]).await?;
    let mut class = objects::class("plain");
    class["parameters"] = json!({"enforceSize": "false"});
    objects::create(&ground.objects.classes, class).await?;
    ground.group_class("quick", "Delete", true).await?;
    ground.claim("first", "plain", None).await?;
    ground.mounted("first").await?;
    ground.group("monday", of_claims(&["first"])).await?;
    ground
        .group_says("monday", "GroupSnapshotCreationFailed", "CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT")
        .await?;
    objects::delete(&ground.groups, "monday").await?;
    ground.group_gone("monday").await?;
    ground.delete_pod_and_claim("first").await?;
    ground.end().await
}

/// `kill -9` whenever the next step has begun: a group is there as a whole or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_step_of_a_group() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let mut ground = Ground::start().await?;
    ground.group_class("quick", "Delete", true).await?;
    for name in ["first", "second"] {
        let folder = ground.used(name, None).await?;
        write(&folder.join("file"), name)?;
    }
    ground.group("monday", of_claims(&["first", "second"])).await?;
    ground.killed().await?;
    until("the content is made", || async {
        Ok(ground.group_contents.list(&Default::default()).await?.items.pop())
    })
    .await?;
    ground.killed().await?;
    until("the group is cut", || async {
        let content = ground.group_contents.list(&Default::default()).await?.items.pop();
        Ok(content.and_then(|content| content.status?.volume_group_snapshot_handle))
    })
    .await?;
    ground.killed().await?;
    ground.group_ready("monday").await?;
    ensure!(ground.in_pool()?.len() == 5, "two volumes, two snapshots, a group: {:?}", ground.in_pool()?);
    let snapshot = ground.part_of("second").await?;
    let restored = ground.used("restored", from_snapshot(&snapshot)).await?;
    ensure!(fs::read_to_string(restored.join("file"))? == "second", "what was there is restored");

    again("the group is deleted", || objects::delete(&ground.groups, "monday")).await?;
    ground.killed().await?;
    until("its content is gone", || async {
        Ok(ground.group_contents.list(&Default::default()).await?.items.is_empty().then_some(()))
    })
    .await?;
    ground.killed().await?;
    ground.group_gone("monday").await?;

    // Groups that are deleted at once, killed in between.
    for name in ["a", "b", "c"] {
        ground.group(name, of_claims(&["first", "second"])).await?;
        if name != "a" {
            until("it is begun", || async {
                let status = ground.groups.get(name).await?.status;
                Ok(status.and_then(|status| status.bound_volume_group_snapshot_content_name))
            })
            .await?;
        }
        if name == "c" {
            ground.killed().await?;
        }
        again("the group is deleted", || objects::delete(&ground.groups, name)).await?;
        ground.killed().await?;
        ground.group_gone(name).await?;
    }
    for name in ["restored", "first", "second"] {
        ground.delete_pod_and_claim(name).await?;
    }
    ground.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_group_is_taken_up_again_by_hand() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let ground = Ground::start().await?;
    ground.group_class("kept", "Retain", true).await?;
    for name in ["first", "second"] {
        let folder = ground.used(name, None).await?;
        write(&folder.join("file"), name)?;
    }
    ground.group("monday", of_claims(&["first", "second"])).await?;
    let content = ground.group_ready("monday").await?;
    let status = content.status.context("a status")?;
    let group_handle = status.volume_group_snapshot_handle.context("its handle")?;
    let infos = status.volume_snapshot_info_list.context("its snapshots")?;
    let handles: Vec<String> = infos.into_iter().filter_map(|info| info.snapshot_handle).collect();
    objects::delete(&ground.groups, "monday").await?;
    ground.group_gone("monday").await?;
    let contents = ground.contents.list(&Default::default()).await?.items;
    ensure!(contents.len() == 2, "the policy keeps the contents: {contents:?}");
    for content in contents.into_iter().filter_map(|content| content.metadata.name) {
        objects::delete(&ground.contents, &content).await?;
    }
    objects::delete(&ground.group_contents, &content.metadata.name.context("a name")?).await?;
    for name in ["first", "second"] {
        ground.delete_pod_and_claim(name).await?;
    }
    until("the group alone is in the pool", || async { Ok((ground.in_pool()?.len() == 3).then_some(())) })
        .await?;
    until("no content is left", || async {
        let left = ground.group_contents.list(&Default::default()).await?.items;
        Ok((left.is_empty() && ground.contents.list(&Default::default()).await?.items.is_empty())
            .then_some(()))
    })
    .await?;

    // By hand, as for upstream: the content of the group and of each snapshot, and their objects.
    let source = json!({
        "groupSnapshotHandles": {"volumeGroupSnapshotHandle": group_handle, "volumeSnapshotHandles": handles},
    });
    let given = json!({
        "metadata": {"name": "given"},
        "spec": {
            "deletionPolicy": "Delete", "driver": holdfast_api::names::DRIVER, "source": source,
            "volumeGroupSnapshotRef": {"name": "again", "namespace": NAMESPACE},
        },
    });
    ground.group("again", json!({"source": {"volumeGroupSnapshotContentName": "given"}})).await?;
    ground.group_says("again", "GroupSnapshotContentMissing", "given is missing").await?;
    objects::create(&ground.group_contents, given).await?;
    let names = ["one", "two"];
    for (name, handle) in names.iter().zip(&handles) {
        let content = json!({
            "metadata": {"name": name},
            "spec": {
                "deletionPolicy": "Delete", "driver": holdfast_api::names::DRIVER, "sourceVolumeMode": "Filesystem",
                "source": {"snapshotHandle": handle},
                "volumeSnapshotRef": {"name": name, "namespace": NAMESPACE},
            },
        });
        objects::create(&ground.contents, content).await?;
        ground.snapshot(name, json!({"source": {"volumeSnapshotContentName": name}})).await?;
    }
    until("the group and its snapshots are ready", || async {
        let status = ground.groups.get("again").await?.status.unwrap_or_default();
        let mut are_ready = status.ready_to_use == Some(true);
        for name in names {
            let snapshot = ground.snapshots.get(name).await?;
            let status = snapshot.status.unwrap_or_default();
            let finalizers = snapshot.metadata.finalizers.unwrap_or_default();
            are_ready &= status.ready_to_use == Some(true)
                && status.volume_group_snapshot_name.as_deref() == Some("again")
                && finalizers.iter().any(|held| held == SNAPSHOT_IN_GROUP);
        }
        Ok(are_ready.then_some(()))
    })
    .await?;
    let mut restored = Vec::new();
    for name in names {
        let folder = ground.used(&format!("restored-{name}"), from_snapshot(name)).await?;
        restored.push(fs::read_to_string(folder.join("file"))?);
    }
    restored.sort();
    ensure!(restored == ["first", "second"], "what was kept is restored, not {restored:?}");
    objects::delete(&ground.groups, "again").await?;
    ground.group_gone("again").await?;
    for name in names {
        ground.delete_pod_and_claim(&format!("restored-{name}")).await?;
    }
    ground.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_works_as_it_stands() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let ground = Ground::start().await?;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/group-snapshot.yaml");
    ground.machine.kubectl(&["apply", "-f", file])?;
    let content = ground.group_ready("monday").await?;
    ensure!(content.spec.source.volume_handles.is_some_and(|all| all.len() == 2), "of both claims");
    ground.part_of("data").await?;
    ground.part_of("log").await?;
    ground.machine.kubectl(&["delete", "--wait=false", "-f", file])?;
    ground.group_gone("monday").await?;
    ground.end().await
}

/// In a namespace that is deleted everything is deleted at once, in no order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_with_its_groups() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let ground = Ground::start().await?;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/group-snapshot.yaml");
    ground.machine.kubectl(&["create", "namespace", "lab"])?;
    ground.machine.kubectl(&["-n", "lab", "apply", "-f", file])?;
    let ready = ["-n", "lab", "get", "vgs", "monday", "-o", "jsonpath={.status.readyToUse}"];
    until("the group is ready", || async { Ok((ground.machine.kubectl(&ready)? == "true").then_some(())) })
        .await?;
    ground.machine.kubectl(&["delete", "namespace", "lab", "--wait=false"])?;
    until("the namespace is gone", || async {
        let left =
            ground.machine.kubectl(&["get", "namespace", "lab", "--ignore-not-found", "-o", "name"])?;
        Ok(left.is_empty().then_some(()))
    })
    .await?;
    ground.end().await
}
