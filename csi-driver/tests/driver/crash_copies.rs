//! Killed at every step of the calls that copy volumes: snapshots, restores, clones, groups.
//! Afterwards each copy is whole or gone, a group has all its members or none, and nothing
//! is frozen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
};

use holdfast_proto::csi::{self, VolumeCapability, volume_capability::access_mode::Mode};
use tonic::{Code, Status};

use crate::{
    btrfs_streams::{copy, noise},
    crash::{Life, at_every_step, read_json},
    harness::{Driver, MIB, block, command, entries, mounted, needs, volume},
    snapshot_streams::{received, sent},
    snapshots::{filled, from_snapshot, from_volume},
};

const CALLS: &[&str] =
    &["snapshot", "restore", "clone", "stage the restored", "group", "delete group", "delete snapshot"];

impl Life {
    /// After a restart: what is listed of snapshots is what exists, groups are whole, and
    /// nothing stayed frozen.
    pub(crate) async fn look_at_snapshots(&mut self) {
        let folder = self.pool().join("snapshots");
        let mut there: Vec<_> =
            self.pools().iter().flat_map(|pool| entries(&pool.join("snapshots"))).collect();
        there.sort();
        match self.driver.controller.list_snapshots(csi::ListSnapshotsRequest::default()).await {
            Ok(listed) => {
                let ids = listed.into_inner().entries.into_iter().map(|e| e.snapshot.unwrap().snapshot_id);
                assert_eq!(ids.collect::<Vec<_>>(), there);
            }
            Err(status) => assert_eq!((status.code(), there.len()), (Code::Unimplemented, 0), "{status}"),
        }
        let grouped: BTreeSet<String> = entries(&folder)
            .iter()
            .filter(|id| !read_json(&folder.join(id).join("snapshot.json"))["group"].is_null())
            .cloned()
            .collect();
        let groups = self.pool().join("groups");
        let mut members = BTreeSet::new();
        for group in entries(&groups).iter().filter(|name| !name.ends_with(".new")) {
            let group = read_json(&groups.join(group));
            let of_it = group["members"].as_array().unwrap().iter();
            members.extend(of_it.map(|member| member["snapshot"].as_str().unwrap().to_owned()));
        }
        assert_eq!(grouped, members, "groups and their members");
        for id in entries(&self.pool().join("volumes")) {
            let journal = self.pool().join("volumes").join(&id).join("node.json");
            if journal.exists() {
                assert_eq!(read_json(&journal)["frozen"], false, "{id}");
            }
        }
        let staging: Vec<_> = self.driver.scratch.mounts();
        for at in
            staging.iter().filter(|at| at.file_name().is_some_and(|name| name != "disk" && name != "second"))
        {
            // EINVAL: it is not frozen.
            let unfrozen = command("fsfreeze", &["--unfreeze", at.to_str().unwrap()]).unwrap_err();
            assert!(!unfrozen.is_empty(), "{} was frozen", at.display());
        }
    }

    /// The life of a volume that is copied in every way while it is in use.
    async fn be_copied(mut self) -> BTreeMap<&'static str, u64> {
        let (capability, size) = (self.capability.clone(), self.size);
        let is_block = capability == block(Mode::SingleNodeMultiWriter);
        let id = self.driver.bring_up("source", size, &capability, "pod").await;
        let file = |pod: &str, driver: &Driver| {
            driver.path(&if is_block { pod.to_owned() } else { format!("{pod}/file") })
        };
        let mut kept = fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(file("pod", &self.driver))
            .unwrap();
        kept.write_all(b"kept").unwrap();
        kept.sync_all().unwrap();
        drop(kept);

        self.call("snapshot", async |d| d.snapshot("s", &id).await).await;
        let restored = filled("restored", 2 * size, &capability, from_snapshot("default.s"));
        let restored = self.call("restore", async |d| d.create(restored.clone()).await).await.volume_id;
        let clone = filled("clone", size, &capability, from_volume(&id));
        let clone = self.call("clone", async |d| d.create(clone.clone()).await).await.volume_id;

        self.restart(None).await;
        self.driver.attach(&restored, &capability).await.unwrap();
        self.call("stage the restored", async |d| d.stage(&restored, &capability).await).await;
        self.restart(None).await;
        self.driver.publish(&restored, "copy", &capability).await.unwrap();
        let found = fs::read(file("copy", &self.driver)).unwrap();
        assert_eq!(&found[..4], b"kept");
        if !is_block {
            assert!(crate::harness::df(&self.driver.path("copy")) > size, "it was not grown");
        }
        self.driver.take_down(&restored, "copy").await;

        let group = self.call("group", async |d| d.group_snapshot("g", &[&id, &clone]).await).await;
        assert_eq!(group.snapshots.len(), 2);
        self.call("delete group", async |d| d.delete_group(&group).await).await;
        self.call("delete snapshot", async |d| d.delete_snapshot("default.s").await).await;
        self.restart(None).await;
        self.driver.delete(&clone).await.unwrap();
        self.driver.take_down(&id, "pod").await;
        self.end().await
    }
}

async fn copied(backend: &'static str, capability: VolumeCapability, size: i64) {
    at_every_step(backend, capability, size, Life::be_copied, CALLS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xfs_images_on_xfs() {
    needs!("xfs");
    copied("image on xfs", mounted("xfs"), 300 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ext4_images_on_btrfs() {
    needs!("btrfs");
    copied("image on btrfs", mounted("ext4"), 64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_images_on_xfs() {
    needs!("xfs");
    copied("image on xfs", block(Mode::SingleNodeMultiWriter), 16 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn btrfs_trees() {
    needs!("btrfs");
    let calls = ["snapshot", "restore", "clone", "stage the restored", "delete snapshot"];
    at_every_step("btrfs", mounted(""), 16 * MIB, Life::be_copied_as_a_tree, &calls).await;
}

/// Between two file systems: neither pool keeps a part of a copy, nor what it was made from.
#[tokio::test(flavor = "multi_thread")]
async fn btrfs_trees_between_pools() {
    needs!("btrfs");
    let calls = ["restore elsewhere", "clone elsewhere", "delete the clone"];
    at_every_step("two btrfs", mounted(""), 16 * MIB, Life::be_sent, &calls).await;
}

/// A snapshot that is received, and the changes since: each is there whole, or not.
#[tokio::test(flavor = "multi_thread")]
async fn btrfs_snapshots_received() {
    needs!("btrfs");
    let calls = ["receive", "receive the changes", "delete the received"];
    at_every_step("two btrfs", mounted(""), 16 * MIB, Life::be_received, &calls).await;
}

/// Where blocks are not shared, a copy takes its time, and is as often half-done.
#[tokio::test(flavor = "multi_thread")]
async fn images_copied_byte_by_byte() {
    needs!();
    let calls = ["snapshot", "restore", "stage the restored", "delete snapshot"];
    at_every_step("image", mounted("ext4"), 64 * MIB, Life::be_copied_at_rest, &calls).await;
}

impl Life {
    /// The same where volumes are subvolumes, and their copies snapshots: none is left over.
    async fn be_copied_as_a_tree(mut self) -> BTreeMap<&'static str, u64> {
        let (capability, size) = (self.capability.clone(), self.size);
        let id = self.driver.bring_up("source", size, &capability, "pod").await;
        let mut file = fs::File::create(self.driver.path("pod/file")).unwrap();
        file.write_all(b"kept").unwrap();
        file.sync_all().unwrap();
        drop(file);
        self.call("snapshot", async |d| d.snapshot("s", &id).await).await;
        let restored = filled("restored", 2 * size, &capability, from_snapshot("default.s"));
        let restored = self.call("restore", async |d| d.create(restored.clone()).await).await.volume_id;
        let clone = filled("clone", size, &capability, from_volume(&id));
        let clone = self.call("clone", async |d| d.create(clone.clone()).await).await.volume_id;
        self.restart(None).await;
        self.driver.attach(&restored, &capability).await.unwrap();
        self.call("stage the restored", async |d| d.stage(&restored, &capability).await).await;
        self.restart(None).await;
        self.driver.publish(&restored, "copy", &capability).await.unwrap();
        assert_eq!(fs::read(self.driver.path("copy/file")).unwrap(), b"kept");
        assert_eq!(self.driver.stats(&restored, "copy").await.unwrap()[0].total, 2 * size);
        self.driver.take_down(&restored, "copy").await;
        self.call("delete snapshot", async |d| d.delete_snapshot("default.s").await).await;
        self.restart(None).await;
        self.driver.delete(&clone).await.unwrap();
        self.driver.take_down(&id, "pod").await;
        let trash = self.pool().join("trash");
        crate::harness::until("the trash is empty", || entries(&trash).is_empty()).await;
        let disk = self.driver.path("disk");
        assert_eq!(command("btrfs", &["subvolume", "list", &disk]).unwrap(), "", "subvolumes are left");
        self.end().await
    }

    /// The life of a volume that is copied into a pool on another file system.
    async fn be_sent(mut self) -> BTreeMap<&'static str, u64> {
        let (capability, size) = (self.capability.clone(), self.size);
        let id = self.driver.bring_up("source", size, &capability, "pod").await;
        // Some pieces of the stream.
        let kept: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        let mut file = fs::File::create(self.driver.path("pod/file")).unwrap();
        file.write_all(&kept).unwrap();
        file.sync_all().unwrap();
        drop(file);
        self.driver.snapshot("s", &id).await.unwrap();
        let restored = copy("other", "restored", size, from_snapshot("default.s"));
        let restored =
            self.call("restore elsewhere", async |d| d.create(restored.clone()).await).await.volume_id;
        let clone = copy("other", "clone", size, from_volume(&id));
        let clone = self.call("clone elsewhere", async |d| d.create(clone.clone()).await).await.volume_id;
        self.restart(None).await;
        let disk = self.driver.path("disk");
        let listed = command("btrfs", &["subvolume", "list", &disk]).unwrap();
        assert_eq!(listed.lines().count(), 2, "more than the volume and its snapshot: {listed}");
        for (id, target) in [(&restored, "restored"), (&clone, "clone")] {
            self.driver.attach(id, &capability).await.unwrap();
            self.driver.stage(id, &capability).await.unwrap();
            self.driver.publish(id, target, &capability).await.unwrap();
            assert!(fs::read(self.driver.path(&format!("{target}/file"))).unwrap() == kept, "{target}");
            assert_eq!(self.driver.stats(id, target).await.unwrap()[0].total, size);
            self.driver.unpublish(id, target).await.unwrap();
            self.driver.unstage(id).await.unwrap();
            self.driver.detach(id).await.unwrap();
        }
        self.driver.delete(&restored).await.unwrap();
        self.call("delete the clone", async |d| d.delete(&clone).await).await;
        self.restart(None).await;
        self.driver.delete_snapshot("default.s").await.unwrap();
        self.driver.take_down(&id, "pod").await;
        self.expect_no_subvolumes().await;
        self.end().await
    }

    /// The life of snapshots that are sent to a pool on another file system.
    async fn be_received(mut self) -> BTreeMap<&'static str, u64> {
        let (capability, size) = (self.capability.clone(), self.size);
        let id = self.driver.bring_up("source", size, &capability, "pod").await;
        let pod = self.driver.path("pod");
        fs::write(format!("{pod}/file"), noise(600_000)).unwrap();
        self.driver.snapshot("first", &id).await.unwrap();
        fs::write(format!("{pod}/more"), "more").unwrap();
        self.driver.snapshot("second", &id).await.unwrap();
        let whole = sent(&self.driver, 0, "default.first", None).await.unwrap();
        let changes = sent(&self.driver, 0, "default.second", Some("default.first")).await.unwrap();
        let receive =
            async |driver: &mut Driver, from: &std::path::Path| match received(driver, 1, from, None)
                .await
                .map_err(|error| error.to_string())
            {
                Err(said) if said.contains("exists already") => Ok(()),
                Err(said) if said.contains("still running") => Err(Status::aborted(said)),
                Err(said) => Err(Status::unavailable(said)),
                Ok(_) => Ok(()),
            };
        self.call("receive", async |d| receive(d, &whole).await).await;
        self.restart(None).await;
        self.call("receive the changes", async |d| receive(d, &changes).await).await;
        self.restart(None).await;
        let restored = copy("other", "restored", size, from_snapshot("other.second"));
        let restored = self.driver.create(restored).await.unwrap().volume_id;
        let data = self.driver.path(&format!("second/pool/volumes/{restored}/data"));
        assert!(fs::read(format!("{data}/file")).unwrap() == noise(600_000));
        assert_eq!(fs::read_to_string(format!("{data}/more")).unwrap(), "more");
        self.driver.delete(&restored).await.unwrap();
        self.call("delete the received", async |d| d.delete_snapshot("other.first").await).await;
        self.restart(None).await;
        for id in ["other.second", "default.first", "default.second"] {
            self.driver.delete_snapshot(id).await.unwrap();
        }
        self.driver.take_down(&id, "pod").await;
        self.expect_no_subvolumes().await;
        self.end().await
    }

    /// Nothing of pools on two disks is left on them.
    async fn expect_no_subvolumes(&self) {
        for disk in ["disk", "second"].map(|name| self.driver.path(name)) {
            let trash = std::path::Path::new(&disk).join("pool/trash");
            crate::harness::until("the trash is empty", || entries(&trash).is_empty()).await;
            assert_eq!(command("btrfs", &["subvolume", "list", &disk]).unwrap(), "", "subvolumes are left");
        }
    }

    /// The same where only a volume that nobody uses is copied.
    async fn be_copied_at_rest(mut self) -> BTreeMap<&'static str, u64> {
        let (capability, size) = (self.capability.clone(), self.size);
        let id = self.driver.create(volume("source", size, &capability)).await.unwrap().volume_id;
        self.driver.attach(&id, &capability).await.unwrap();
        self.driver.stage(&id, &capability).await.unwrap();
        fs::write(format!("{}/file", self.driver.staging(&id)), "kept").unwrap();
        self.driver.unstage(&id).await.unwrap();
        self.call("snapshot", async |d| d.snapshot("s", &id).await).await;
        let restored = filled("restored", 2 * size, &capability, from_snapshot("default.s"));
        let restored = self.call("restore", async |d| d.create(restored.clone()).await).await.volume_id;
        self.call("delete snapshot", async |d| d.delete_snapshot("default.s").await).await;
        self.restart(None).await;
        self.driver.stage(&id, &capability).await.unwrap();
        self.driver.attach(&restored, &capability).await.unwrap();
        self.call("stage the restored", async |d| d.stage(&restored, &capability).await).await;
        self.restart(None).await;
        self.driver.publish(&restored, "copy", &capability).await.unwrap();
        assert_eq!(fs::read_to_string(self.driver.path("copy/file")).unwrap(), "kept");
        self.driver.take_down(&restored, "copy").await;
        self.driver.unstage(&id).await.unwrap();
        self.driver.detach(&id).await.unwrap();
        self.driver.delete(&id).await.unwrap();
        self.end().await
    }
}
