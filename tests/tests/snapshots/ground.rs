//! What the tests of snapshots stand on.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use holdfast_api::snapshot::{
    group::{VolumeGroupSnapshot, VolumeGroupSnapshotClass, VolumeGroupSnapshotContent},
    volume::{VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent},
};
use holdfast_tests::{
    disk::Disk,
    leftovers,
    machine::Machine,
    objects::{self, NAMESPACE, Objects, bound_volume, is_published, volume_path},
    wait::until,
};
use kube::Api;
use serde_json::{Value, json};

/// A machine with one pool, on an xfs of its own.
pub(crate) struct Ground {
    pub(crate) machine: Machine,
    pub(crate) disk: Disk,
    pub(crate) objects: Objects,
    pub(crate) snapshots: Api<VolumeSnapshot>,
    pub(crate) contents: Api<VolumeSnapshotContent>,
    pub(crate) classes: Api<VolumeSnapshotClass>,
    pub(crate) groups: Api<VolumeGroupSnapshot>,
    pub(crate) group_contents: Api<VolumeGroupSnapshotContent>,
    pub(crate) group_classes: Api<VolumeGroupSnapshotClass>,
}

impl Ground {
    pub(crate) async fn start() -> Result<Self> {
        Self::on("xfs", "image", &["default"]).await
    }

    /// The same with several pools of another backend.
    pub(crate) async fn on(file_system: &str, backend: &str, names: &[&str]) -> Result<Self> {
        let disk = Disk::new(file_system, 4 << 30)?;
        let pools = disk.beside("config")?.join("pools.toml");
        let mut text = String::new();
        for name in names {
            let path = disk.path().join("pool").join(name);
            fs::create_dir_all(&path)?;
            writeln!(
                text,
                "[[pool]]\nname = {name:?}\nbackend = {backend:?}\npath = {path:?}\ncreate = true"
            )?;
        }
        fs::write(&pools, text)?;
        let machine = Machine::start(&["--pools", pools.to_str().context("a path of UTF-8")?]).await?;
        let client = machine.client().await?;
        let ground = Self {
            machine,
            disk,
            objects: Objects::new(&client),
            snapshots: Api::namespaced(client.clone(), NAMESPACE),
            contents: Api::all(client.clone()),
            classes: Api::all(client.clone()),
            groups: Api::namespaced(client.clone(), NAMESPACE),
            group_contents: Api::all(client.clone()),
            group_classes: Api::all(client),
        };
        objects::create(&ground.objects.classes, objects::growing_class("local")).await?;
        ground.class("quick", "Delete", true).await?;
        ground.class("kept", "Retain", false).await?;
        Ok(ground)
    }

    pub(crate) async fn class(&self, name: &str, policy: &str, is_default: bool) -> Result<()> {
        let mut class = json!({
            "metadata": {"name": name}, "driver": holdfast_api::names::DRIVER, "deletionPolicy": policy,
        });
        if is_default {
            class["metadata"]["annotations"] =
                json!({ holdfast_api::snapshot::names::DEFAULT_CLASS: "true" });
        }
        objects::create(&self.classes, class).await
    }

    /// A claim, filled from `source` where there is one, and a pod of the same name that uses it; the
    /// folder that the pod sees.
    pub(crate) async fn used(&self, name: &str, source: Option<Value>) -> Result<PathBuf> {
        self.claim(name, "local", source).await?;
        self.mounted(name).await
    }

    pub(crate) async fn claim(&self, name: &str, class: &str, source: Option<Value>) -> Result<()> {
        let mut claim = objects::claim(name, class, "512Mi");
        claim["metadata"]["labels"] = json!({"of": name});
        if let Some(source) = source {
            claim["spec"]["dataSource"] = source;
        }
        again("the claim is created", || objects::create(&self.objects.claims, claim.clone())).await
    }

    pub(crate) async fn mounted(&self, name: &str) -> Result<PathBuf> {
        again("the pod is created", || objects::create(&self.objects.pods, objects::pod(name, name))).await?;
        let pod = until("the pod's volumes are published", || async {
            Ok(self.objects.pods.get_opt(name).await?.filter(is_published))
        })
        .await?;
        let claim = self.objects.claims.get(name).await?;
        let volume = bound_volume(&claim).context("the claim is bound")?;
        volume_path(self.machine.root(), &pod, &volume)
    }

    pub(crate) async fn snapshot(&self, name: &str, spec: Value) -> Result<()> {
        let snapshot = json!({"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec});
        again("the snapshot is created", || objects::create(&self.snapshots, snapshot.clone())).await
    }

    /// Waits until a snapshot is ready, and gives its content.
    pub(crate) async fn ready(&self, name: &str) -> Result<VolumeSnapshotContent> {
        let status = until("the snapshot is ready", || async {
            let status = self.snapshots.get(name).await?.status.unwrap_or_default();
            Ok((status.ready_to_use == Some(true)).then_some(status))
        })
        .await?;
        ensure!(status.creation_time.is_some() && status.error.is_none(), "{status:?}");
        ensure!(status.restore_size.as_ref().is_some_and(|size| size.0 == "512Mi"), "{status:?}");
        let content = status.bound_volume_snapshot_content_name.context("it is bound")?;
        Ok(self.contents.get(&content).await?)
    }

    pub(crate) async fn delete_pod_and_claim(&self, name: &str) -> Result<()> {
        again("the pod is deleted", || objects::delete(&self.objects.pods, name)).await?;
        again("the claim is deleted", || objects::delete(&self.objects.claims, name)).await?;
        until("the claim is gone", || async {
            Ok(self.objects.claims.get_opt(name).await?.is_none().then_some(()))
        })
        .await
    }

    pub(crate) async fn delete_snapshot(&self, name: &str) -> Result<()> {
        again("the snapshot is deleted", || objects::delete(&self.snapshots, name)).await?;
        self.snapshot_gone(name).await
    }

    pub(crate) async fn snapshot_gone(&self, name: &str) -> Result<()> {
        until("the snapshot is gone", || async {
            Ok(self.snapshots.get_opt(name).await?.is_none().then_some(()))
        })
        .await
    }

    /// `kill -9`, and started again.
    pub(crate) async fn killed(&mut self) -> Result<()> {
        self.machine.kill()?;
        self.machine.restart().await
    }

    /// The volumes, snapshots and groups that the pools hold, the trash included.
    pub(crate) fn in_pool(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for pool in fs::read_dir(self.disk.path().join("pool"))? {
            let pool = pool?.path();
            for kind in ["volumes", "snapshots", "groups", "trash"] {
                for entry in fs::read_dir(pool.join(kind))? {
                    found.push(entry?.path());
                }
            }
        }
        Ok(found)
    }

    /// Waits until no object, mount, device or file is left, and ends in order.
    pub(crate) async fn end(mut self) -> Result<()> {
        let all = Default::default();
        until("no object is left", || async {
            let mut left = self.objects.left().await?;
            left.extend(self.snapshots.list(&all).await?.items.into_iter().filter_map(|o| o.metadata.name));
            left.extend(self.contents.list(&all).await?.items.into_iter().filter_map(|o| o.metadata.name));
            left.extend(self.groups.list(&all).await?.items.into_iter().filter_map(|o| o.metadata.name));
            left.extend(
                self.group_contents.list(&all).await?.items.into_iter().filter_map(|o| o.metadata.name),
            );
            ensure!(left.is_empty(), "still there: {left:?}");
            Ok(Some(()))
        })
        .await?;
        until("nothing is left on the machine", || async {
            let left = [leftovers::all(self.machine.root()), self.disk.leftovers(), self.in_pool()?].concat();
            ensure!(left.is_empty(), "still there: {left:?}");
            Ok(Some(()))
        })
        .await?;
        let status = self.machine.interrupt().await?;
        ensure!(status.success(), "holdfast up ended with {status}");
        Ok(())
    }
}

/// Asks until it is done: the server may just be starting again.
pub(crate) async fn again<F: Future<Output = Result<()>>>(what: &str, ask: impl Fn() -> F) -> Result<()> {
    until(what, || async { ask().await.map(Some) }).await
}

pub(crate) fn of_claim(name: &str) -> Value {
    json!({"source": {"persistentVolumeClaimName": name}})
}

pub(crate) fn from_snapshot(name: &str) -> Option<Value> {
    Some(json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name}))
}

pub(crate) fn write(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content)?;
    Ok(fs::File::open(path)?.sync_all()?)
}
