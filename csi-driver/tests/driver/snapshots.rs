//! Snapshots, clones and restores of image volumes: what fits, what a copy has, and what
//! becomes of a freeze.

use std::{
    fs::{self, File},
    io::Write as _,
};

use holdfast_csi_driver::PoolConfig;
use holdfast_proto::csi::{
    self, VolumeCapability, VolumeContentSource,
    group_controller_client::GroupControllerClient,
    volume_capability::access_mode::Mode,
    volume_content_source::{SnapshotSource, Type, VolumeSource},
};
use tonic::{Code, Status, transport::Channel};

use crate::harness::{
    Driver, MIB, Scratch, assert_code, block, command, df, entries, filesystem_of, mounted, needs,
    try_channel, until, volume,
};

const GIB: i64 = 1 << 30;

/// A driver with one image pool on a file system of its own, of 4 GiB.
pub(crate) async fn pool_on(fs: &str) -> Driver {
    let scratch = Scratch::new();
    let disk = filesystem_of(&scratch, fs, 4 * GIB);
    // Where the harness looks for a pool.
    std::os::unix::fs::symlink(disk.join("pool"), scratch.path().join("pool")).unwrap();
    let pool = PoolConfig::image("default", disk.join("pool"));
    Driver::with(scratch, vec![pool]).await
}

impl Driver {
    pub(crate) async fn snapshot(&mut self, name: &str, source: &str) -> Result<csi::Snapshot, Status> {
        let request = csi::CreateSnapshotRequest {
            name: name.to_owned(),
            source_volume_id: source.to_owned(),
            ..Default::default()
        };
        Ok(self.controller.create_snapshot(request).await?.into_inner().snapshot.unwrap())
    }

    pub(crate) async fn delete_snapshot(&mut self, id: &str) -> Result<(), Status> {
        let request = csi::DeleteSnapshotRequest { snapshot_id: id.to_owned(), ..Default::default() };
        self.controller.delete_snapshot(request).await.map(drop)
    }

    pub(crate) async fn groups(&self) -> Result<GroupControllerClient<Channel>, Status> {
        Ok(GroupControllerClient::new(try_channel(&self.config.endpoint).await?))
    }

    pub(crate) async fn group_snapshot(
        &self,
        name: &str,
        sources: &[&str],
    ) -> Result<csi::VolumeGroupSnapshot, Status> {
        let request = csi::CreateVolumeGroupSnapshotRequest {
            name: name.to_owned(),
            source_volume_ids: sources.iter().map(|id| (*id).to_owned()).collect(),
            ..Default::default()
        };
        let answer = self.groups().await?.create_volume_group_snapshot(request).await?;
        Ok(answer.into_inner().group_snapshot.unwrap())
    }

    pub(crate) async fn delete_group(&self, group: &csi::VolumeGroupSnapshot) -> Result<(), Status> {
        let request = csi::DeleteVolumeGroupSnapshotRequest {
            group_snapshot_id: group.group_snapshot_id.clone(),
            snapshot_ids: group.snapshots.iter().map(|snapshot| snapshot.snapshot_id.clone()).collect(),
            ..Default::default()
        };
        self.groups().await?.delete_volume_group_snapshot(request).await.map(drop)
    }

    pub(crate) async fn use_volume(&mut self, id: &str, capability: &VolumeCapability, target: &str) {
        self.attach(id, capability).await.unwrap();
        self.stage(id, capability).await.unwrap();
        self.publish(id, target, capability).await.unwrap();
    }
}

pub(crate) fn from_snapshot(id: &str) -> Option<VolumeContentSource> {
    Some(VolumeContentSource { r#type: Some(Type::Snapshot(SnapshotSource { snapshot_id: id.to_owned() })) })
}

pub(crate) fn from_volume(id: &str) -> Option<VolumeContentSource> {
    Some(VolumeContentSource { r#type: Some(Type::Volume(VolumeSource { volume_id: id.to_owned() })) })
}

pub(crate) fn filled(
    name: &str,
    bytes: i64,
    capability: &VolumeCapability,
    source: Option<VolumeContentSource>,
) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest { volume_content_source: source, ..volume(name, bytes, capability) }
}

/// Nothing is left but the pool's own disk.
pub(crate) async fn assert_gone(driver: &Driver) {
    let pool = driver.scratch.path().join("pool");
    for folder in ["volumes", "snapshots", "groups"] {
        assert_eq!(entries(&pool.join(folder)), Vec::<String>::new(), "{folder}");
    }
    until("the trash is empty", || entries(&pool.join("trash")).is_empty()).await;
    assert_eq!(driver.scratch.loops().len(), 1, "loop devices are left");
    assert_eq!(driver.scratch.mounts().len(), 1, "mounts are left");
}

/// A larger copy has a larger file system from its first stage on, and a UUID of its own.
async fn larger_copy(fs_type: &str, bytes: i64) {
    let mut driver = pool_on("xfs").await;
    let capability = mounted(fs_type);
    let id = driver.bring_up("source", bytes, &capability, "source").await;
    fs::write(driver.path("source/file"), "kept").unwrap();
    let snapshot = driver.snapshot("s", &id).await.unwrap().snapshot_id;
    let request = filled("copy", 2 * bytes, &capability, from_snapshot(&snapshot));
    let copy = driver.create(request.clone()).await.unwrap();
    assert_eq!(copy.capacity_bytes, 2 * bytes);
    driver.use_volume(&copy.volume_id, &capability, "copy").await;
    assert_eq!(fs::read_to_string(driver.path("copy/file")).unwrap(), "kept");
    let (small, large) = (df(&driver.path("source")), df(&driver.path("copy")));
    assert!(large > small + bytes * 3 / 4, "{small} and {large}");
    let uuid = |id: &str| {
        let image = driver.volume_folder(id).join("disk.img");
        command("blkid", &["-p", "-o", "value", "-s", "UUID", image.to_str().unwrap()]).unwrap()
    };
    let (of_source, of_copy) = (uuid(&id), uuid(&copy.volume_id));
    assert!(of_source.trim().len() == 36 && of_source != of_copy, "{of_source} {of_copy}");
    // It keeps it.
    driver.unpublish(&copy.volume_id, "copy").await.unwrap();
    driver.unstage(&copy.volume_id).await.unwrap();
    driver.stage(&copy.volume_id, &capability).await.unwrap();
    let image = driver.volume_folder(&copy.volume_id).join("disk.img");
    let again = command("blkid", &["-p", "-o", "value", "-s", "UUID", image.to_str().unwrap()]).unwrap();
    assert_eq!(again, of_copy);
    driver.take_down(&copy.volume_id, "copy").await;
    driver.take_down(&id, "source").await;
    driver.delete_snapshot(&snapshot).await.unwrap();
    assert_gone(&driver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_ext4() {
    needs!("xfs");
    larger_copy("ext4", 64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_xfs() {
    needs!("xfs");
    larger_copy("xfs", 300 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_btrfs() {
    needs!("xfs", "btrfs");
    larger_copy("btrfs", 256 * MIB).await;
}

/// What cannot be, by the spec's codes.
#[tokio::test(flavor = "multi_thread")]
async fn sources_that_do_not_fit() {
    needs!("xfs");
    let mut driver = pool_on("xfs").await;
    let ext4 = mounted("ext4");
    let id = driver.create(volume("source", 64 * MIB, &ext4)).await.unwrap().volume_id;
    let other = driver.create(volume("other", 64 * MIB, &ext4)).await.unwrap().volume_id;
    let snapshot = driver.snapshot("s", &id).await.unwrap().snapshot_id;
    let (of_snapshot, of_volume) = (from_snapshot(&snapshot), from_volume(&id));

    for elsewhere in [from_snapshot("x.y"), from_volume("x.y")] {
        let request = filled("v", 64 * MIB, &ext4, elsewhere);
        assert_code(driver.create(request).await, Code::FailedPrecondition, "not configured here");
    }
    for missing in
        [from_snapshot("default.nothing"), from_volume("default.nothing"), from_volume("default.v")]
    {
        assert_code(
            driver.create(filled("v", 64 * MIB, &ext4, missing)).await,
            Code::NotFound,
            "does not exist",
        );
    }
    let nothing = Some(VolumeContentSource { r#type: None });
    for source in [&of_snapshot, &of_volume] {
        let smaller = filled("v", 32 * MIB, &ext4, source.clone());
        assert_code(driver.create(smaller).await, Code::OutOfRange, "64Mi");
        for wrong in [block(Mode::SingleNodeMultiWriter), mounted("btrfs")] {
            let request = filled("v", 128 * MIB, &wrong, source.clone());
            assert_code(driver.create(request).await, Code::InvalidArgument, "holds an ext4 file system");
        }
    }
    assert_code(driver.create(filled("v", MIB, &ext4, nothing)).await, Code::InvalidArgument, "neither");
    assert_eq!(entries(&driver.scratch.path().join("pool/volumes")).len(), 2, "nothing was made");

    // Without a size, that of the source.
    let mut unsized_request = filled("v", 0, &ext4, of_snapshot.clone());
    unsized_request.capacity_range = None;
    let made = driver.create(unsized_request.clone()).await.unwrap();
    assert_eq!((made.capacity_bytes, &made.content_source), (64 * MIB, &of_snapshot));
    assert_eq!(driver.create(unsized_request).await.unwrap(), made);
    for different in [of_volume, from_snapshot("default.nothing"), None] {
        let request = filled("v", 64 * MIB, &ext4, different);
        assert_code(driver.create(request).await, Code::AlreadyExists, "was made from snapshot");
    }
    let request = filled("source", 64 * MIB, &ext4, of_snapshot.clone());
    assert_code(driver.create(request).await, Code::AlreadyExists, "was made empty");
    let listed =
        driver.controller.list_volumes(csi::ListVolumesRequest::default()).await.unwrap().into_inner();
    let listed =
        listed.entries.into_iter().filter_map(|entry| entry.volume).find(|v| v.volume_id == "default.v");
    assert_eq!(listed.unwrap().content_source, of_snapshot);

    // The same name for another volume, and again.
    assert_code(driver.snapshot("s", &other).await, Code::AlreadyExists, "is of volume");
    assert_eq!(driver.snapshot("s", &id).await.unwrap().snapshot_id, snapshot);
    assert_code(driver.snapshot("t", "default.nothing").await, Code::NotFound, "does not exist");
    // Copies outlive what they were made from, and are made from what outlived its source.
    driver.delete(&id).await.unwrap();
    let late = driver.create(filled("late", 64 * MIB, &ext4, of_snapshot)).await.unwrap().volume_id;
    for _ in 0..2 {
        driver.delete_snapshot(&snapshot).await.unwrap();
    }
    driver.use_volume(&late, &ext4, "late").await;
    driver.take_down(&late, "late").await;
    driver.use_volume("default.v", &ext4, "v").await;
    driver.take_down("default.v", "v").await;
    driver.delete(&other).await.unwrap();
    assert_gone(&driver).await;
}

/// A file system that someone else froze is left frozen.
#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_of_someone_else_stays() {
    needs!("xfs");
    let mut driver = pool_on("xfs").await;
    let capability = mounted("ext4");
    let id = driver.bring_up("source", 64 * MIB, &capability, "source").await;
    let at = driver.path("source");
    command("fsfreeze", &["--freeze", &at]).unwrap();
    let refused = driver.snapshot("s", &id).await;
    let still = command("fsfreeze", &["--unfreeze", &at]);
    assert_code(refused, Code::FailedPrecondition, "frozen by someone else");
    still.unwrap();
    assert_eq!(entries(&driver.scratch.path().join("pool/snapshots")), Vec::<String>::new());
    driver.snapshot("s", &id).await.unwrap();
    assert!(command("fsfreeze", &["--unfreeze", &at]).is_err(), "it was left frozen");
    driver.delete_snapshot("default.s").await.unwrap();
    driver.take_down(&id, "source").await;
    assert_gone(&driver).await;
}

/// What a crash in a freeze leaves is thawed before anything else, even where it was
/// unmounted meanwhile, or one of its mounts is hidden below another file system.
#[tokio::test(flavor = "multi_thread")]
async fn left_frozen_and_thawed_at_the_start() {
    needs!("xfs");
    for left in ["mounted", "unmounted", "hidden"] {
        let unmounted = left == "unmounted";
        let mut driver = pool_on("xfs").await;
        let capability = mounted("xfs");
        let id = driver.bring_up("source", 300 * MIB, &capability, "source").await;
        driver.end().await;
        let journal = driver.volume_folder(&id).join("node.json");
        let text = fs::read_to_string(&journal).unwrap();
        fs::write(&journal, text.replace("\"frozen\": false", "\"frozen\": true")).unwrap();
        assert!(fs::read_to_string(&journal).unwrap().contains("\"frozen\": true"));
        let (staging, target) = (driver.staging(&id), driver.path("source"));
        let (over, below) = (driver.path("over"), driver.path("over/below"));
        if left == "hidden" {
            // The first in the mount table is the one that cannot be reached.
            fs::create_dir_all(&below).unwrap();
            command("mount", &["--bind", &staging, &below]).unwrap();
            for at in [&target, &staging] {
                command("umount", &[at]).unwrap();
            }
            for at in [&staging, &target] {
                command("mount", &["--bind", &below, at]).unwrap();
            }
            command("mount", &["-t", "tmpfs", "over", &over]).unwrap();
        }
        command("fsfreeze", &["--freeze", &staging]).unwrap();
        if unmounted {
            command("umount", &[&target]).unwrap();
            command("umount", &[&staging]).unwrap();
        }
        driver.restart().await;
        assert!(fs::read_to_string(&journal).unwrap().contains("\"frozen\": false"));
        if unmounted {
            until("the device is free", || driver.scratch.loops().len() == 1).await;
        } else {
            let mut file = File::create(driver.path("source/file")).unwrap();
            file.write_all(b"written").unwrap();
            file.sync_all().unwrap();
        }
        if left == "hidden" {
            command("umount", &[&over]).unwrap();
            command("umount", &[&below]).unwrap();
        }
        driver.take_down(&id, "source").await;
        assert_gone(&driver).await;
    }
}

/// Between two pools nothing can be shared; what is not in use is copied.
#[tokio::test(flavor = "multi_thread")]
async fn into_another_pool() {
    needs!("xfs");
    let scratch = Scratch::new();
    let (one, two) = (filesystem_of(&scratch, "xfs", GIB), filesystem_of(&scratch, "ext4", GIB));
    let pools = vec![PoolConfig::image("one", one.join("pool")), PoolConfig::image("two", two.join("pool"))];
    let mut driver = Driver::with(scratch, pools).await;
    let capability = mounted("xfs");
    let within = |pool: &str, request: csi::CreateVolumeRequest| csi::CreateVolumeRequest {
        parameters: crate::harness::parameters(&[("pool", pool)]),
        ..request
    };
    for (from, to) in [("one", "two"), ("two", "one")] {
        let id =
            driver.create(within(from, volume("source", 300 * MIB, &capability))).await.unwrap().volume_id;
        driver.use_volume(&id, &capability, "source").await;
        fs::write(driver.path("source/file"), "kept").unwrap();
        let clone = within(to, filled("copy", 300 * MIB, &capability, from_volume(&id)));
        assert_code(driver.create(clone.clone()).await, Code::FailedPrecondition, "unstage it first");
        driver.unpublish(&id, "source").await.unwrap();
        driver.unstage(&id).await.unwrap();
        let copy = driver.create(clone).await.unwrap().volume_id;
        driver.use_volume(&id, &capability, "source").await;
        driver.use_volume(&copy, &capability, "copy").await;
        assert_eq!(fs::read_to_string(driver.path("copy/file")).unwrap(), "kept", "{from} to {to}");
        driver.take_down(&copy, "copy").await;
        driver.take_down(&id, "source").await;
    }
    driver.end().await;
}
