//! Snapshots, clones and restores of image volumes: what was written before is in them,
//! what was written after is not, while somebody writes.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use holdfast_csi_driver::PoolConfig;
use holdfast_proto::csi::{
    self, VolumeCapability, VolumeContentSource,
    group_controller_client::GroupControllerClient,
    volume_capability::access_mode::Mode,
    volume_content_source::{SnapshotSource, Type, VolumeSource},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
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

    async fn use_volume(&mut self, id: &str, capability: &VolumeCapability, target: &str) {
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

/// How long a record of the writers is: no whole number of blocks, so that one lies in two.
const RECORD: usize = 1000;
/// The same for a raw device, whose blocks are its unit.
const SECTOR: usize = 4096;

fn record(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![(number % 251) as u8; length];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Writes numbered records, each synced before the next, into one file or into several, one
/// after the other.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    /// The records that were begun, and those that are safe in every file.
    begun: Arc<AtomicU64>,
    safe: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(files: Vec<File>, length: usize) -> Self {
        Self::writing(files, move |file, number| {
            file.write_all_at(&record(number, length), number * length as u64).unwrap();
            file.sync_data().unwrap();
        })
    }

    /// One that syncs nothing: it writes the number of its round over that of the last one, as fast
    /// as it can, so that what is not held still while it is copied differs.
    fn counting(files: Vec<File>) -> Self {
        Self::writing(files, |file, number| {
            file.write_all_at(&(number + 1).to_le_bytes(), 0).unwrap();
            std::thread::yield_now();
        })
    }

    fn writing(files: Vec<File>, write: impl Fn(&File, u64) + Send + 'static) -> Self {
        let (stop, begun, safe) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stopped, begins, saves) = (stop.clone(), begun.clone(), safe.clone());
        let thread = std::thread::spawn(move || {
            for number in 0.. {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                begins.store(number + 1, Ordering::SeqCst);
                for file in &files {
                    write(file, number);
                }
                saves.store(number + 1, Ordering::SeqCst);
            }
        });
        Self { stop, begun, safe, thread: Some(thread) }
    }

    async fn goes_on(&self) {
        let now = self.safe.load(Ordering::SeqCst);
        until("the writer goes on", || self.safe.load(Ordering::SeqCst) > now + 20).await;
    }

    fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// How far a counting writer had come in a file.
fn counted(file: &str) -> u64 {
    fs::read(file).unwrap().try_into().map_or(0, u64::from_le_bytes)
}

/// How many whole records there are. What comes after them must be nothing at all.
fn records(file: &Path, length: usize) -> u64 {
    let bytes = fs::read(file).unwrap();
    let whole = |number: &u64| {
        let at = *number as usize * length;
        bytes.get(at..at + length).is_some_and(|found| found == record(*number, length))
    };
    let count = (0..).take_while(whole).count();
    assert!(bytes[count * length..].iter().all(|byte| *byte == 0), "something after {count} whole records");
    count as u64
}

fn open_for_writing(path: &str) -> File {
    File::options().write(true).create(true).truncate(false).open(path).unwrap()
}

/// Where the writer writes in a published volume.
fn log_of(driver: &Driver, target: &str, capability: &VolumeCapability) -> PathBuf {
    let path = PathBuf::from(driver.path(target));
    if is_block(capability) { path } else { path.join("log") }
}

fn is_block(capability: &VolumeCapability) -> bool {
    *capability == block(Mode::SingleNodeMultiWriter)
}

/// Cuts snapshots and a clone of a volume that is being written to, and looks into volumes
/// made from them, beside the source.
async fn under_load(pool_fs: &str, capability: VolumeCapability, bytes: i64) {
    let mut driver = pool_on(pool_fs).await;
    let length = if is_block(&capability) { SECTOR } else { RECORD };
    let id = driver.bring_up("source", bytes, &capability, "source").await;
    let log = log_of(&driver, "source", &capability);
    if !is_block(&capability) {
        fs::write(driver.path("source/unsynced"), vec![7; 3 << 20]).unwrap();
    }
    let mut registry = Registry::default();
    driver.config.metrics.register(&mut registry);
    let writer = Writer::start(vec![open_for_writing(log.to_str().unwrap())], length);
    writer.goes_on().await;
    for round in 0..4 {
        let before = writer.safe.load(Ordering::SeqCst);
        let source = if round < 3 {
            let snapshot = driver.snapshot(&format!("s{round}"), &id).await.unwrap();
            assert!(snapshot.ready_to_use && snapshot.size_bytes == bytes && snapshot.source_volume_id == id);
            from_snapshot(&snapshot.snapshot_id)
        } else {
            from_volume(&id)
        };
        let name = format!("copy{round}");
        let copy = driver.create(filled(&name, bytes, &capability, source.clone())).await.unwrap();
        assert_eq!(copy.content_source, source);
        let after = writer.begun.load(Ordering::SeqCst);
        writer.goes_on().await;

        driver.use_volume(&copy.volume_id, &capability, &name).await;
        let found = records(&log_of(&driver, &name, &capability), length);
        assert!(before <= found && found <= after, "round {round}: {before} <= {found} <= {after}");
        if !is_block(&capability) {
            assert_eq!(fs::read(driver.path(&format!("{name}/unsynced"))).unwrap(), vec![7; 3 << 20]);
            // Beside one another, each for itself.
            fs::write(driver.path(&format!("{name}/own")), "x").unwrap();
            assert!(!Path::new(&driver.path("source/own")).exists());
        }
    }
    writer.goes_on().await;
    writer.end();
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let figure = |name: &str| {
        let line = format!("holdfast_snapshot_freeze_seconds_{name}{{pool=\"default\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&line)).map(|value| value.parse::<f64>().unwrap())
    };
    if is_block(&capability) {
        assert_eq!(figure("count"), None, "nothing was frozen");
    } else {
        assert_eq!(figure("count"), Some(4.0), "{text}");
        assert!(figure("sum").is_some_and(|sum| 0.0 < sum && sum < 40.0), "{text}");
    }
    for round in 0..4 {
        driver.take_down(&format!("default.copy{round}"), &format!("copy{round}")).await;
    }
    driver.take_down(&id, "source").await;
    for round in 0..3 {
        driver.delete_snapshot(&format!("default.s{round}")).await.unwrap();
    }
    assert_gone(&driver).await;
}

/// Nothing is left but the pool's own disk.
async fn assert_gone(driver: &Driver) {
    let pool = driver.scratch.path().join("pool");
    for folder in ["volumes", "snapshots", "groups"] {
        assert_eq!(entries(&pool.join(folder)), Vec::<String>::new(), "{folder}");
    }
    until("the trash is empty", || entries(&pool.join("trash")).is_empty()).await;
    assert_eq!(driver.scratch.loops().len(), 1, "loop devices are left");
    assert_eq!(driver.scratch.mounts().len(), 1, "mounts are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn ext4_on_xfs_under_load() {
    needs!("xfs");
    under_load("xfs", mounted("ext4"), 64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xfs_on_xfs_under_load() {
    needs!("xfs");
    under_load("xfs", mounted("xfs"), 300 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn btrfs_on_xfs_under_load() {
    needs!("xfs", "btrfs");
    under_load("xfs", mounted("btrfs"), 128 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_on_xfs_under_load() {
    needs!("xfs");
    under_load("xfs", block(Mode::SingleNodeMultiWriter), 64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xfs_on_btrfs_under_load() {
    needs!("xfs", "btrfs");
    under_load("btrfs", mounted("xfs"), 300 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_on_btrfs_under_load() {
    needs!("btrfs");
    under_load("btrfs", block(Mode::SingleNodeMultiWriter), 64 * MIB).await;
}

/// Where blocks cannot be shared, a volume in use is not copied, and one that is not is
/// copied whole, without its holes.
async fn copied_on_ext4(capability: VolumeCapability, bytes: i64) {
    let mut driver = pool_on("ext4").await;
    let id = driver.bring_up("source", bytes, &capability, "source").await;
    let log = log_of(&driver, "source", &capability);
    let length = if is_block(&capability) { SECTOR } else { RECORD };
    let writer = Writer::start(vec![open_for_writing(log.to_str().unwrap())], length);
    writer.goes_on().await;
    assert_code(driver.snapshot("s", &id).await, Code::FailedPrecondition, "unstage it first");
    let clone = filled("copy", bytes, &capability, from_volume(&id));
    assert_code(driver.create(clone.clone()).await, Code::FailedPrecondition, "unstage it first");
    writer.end();
    let written = records(&log, length);
    driver.unpublish(&id, "source").await.unwrap();
    driver.unstage(&id).await.unwrap();
    let snapshot = driver.snapshot("s", &id).await.unwrap().snapshot_id;
    let restored = driver.create(filled("restored", 2 * bytes, &capability, from_snapshot(&snapshot))).await;
    let restored = restored.unwrap().volume_id;
    let copy = driver.create(clone).await.unwrap().volume_id;
    let pool = driver.scratch.path().join("pool");
    let image = fs::metadata(pool.join("snapshots").join(&snapshot).join("disk.img")).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(image.len(), bytes as u64);
    assert!(image.blocks() * 512 < image.len() / 2, "the holes were filled: {} blocks", image.blocks());
    for (volume, target) in [(&id, "source"), (&restored, "restored"), (&copy, "copy")] {
        // All three at once.
        driver.stage(volume, &capability).await.or_else(|_| Ok::<_, Status>(())).unwrap();
        driver.use_volume(volume, &capability, target).await;
        assert_eq!(records(&log_of(&driver, target, &capability), length), written, "{target}");
    }
    for (volume, target) in [(&id, "source"), (&restored, "restored"), (&copy, "copy")] {
        driver.take_down(volume, target).await;
    }
    driver.delete_snapshot(&snapshot).await.unwrap();
    assert_gone(&driver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ext4_is_copied_on_ext4() {
    needs!();
    copied_on_ext4(mounted("ext4"), 64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xfs_is_copied_on_ext4() {
    needs!("xfs");
    copied_on_ext4(mounted("xfs"), 300 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn btrfs_is_copied_on_ext4() {
    needs!("btrfs");
    copied_on_ext4(mounted("btrfs"), 128 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_is_copied_on_ext4() {
    needs!();
    copied_on_ext4(block(Mode::SingleNodeMultiWriter), 64 * MIB).await;
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
    larger_copy("btrfs", 128 * MIB).await;
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
    for missing in [from_snapshot("default.nothing"), from_volume("default.nothing")] {
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

/// Of two files written one after the other, the second is never ahead, nor more than one
/// behind; both have what was written before the copy, and not what was written after.
#[track_caller]
fn assert_in_step(before: u64, found: &[u64], after: u64) {
    let [a, b] = *found else { panic!("two files") };
    assert!(b <= a && a <= b + 1, "A has {a} and B {b}");
    assert!(before <= b && a <= after, "{before} <= {b}, {a} <= {after}");
}

/// Nobody syncs, and two file systems are copied at one moment all the same.
async fn counting_group(pool_fs: &str, [a, b]: [&str; 2], bytes: i64) {
    let mut driver = pool_on(pool_fs).await;
    let sources = [("a", mounted(a)), ("b", mounted(b))];
    let mut files = Vec::new();
    for (name, capability) in &sources {
        driver.bring_up(name, bytes, capability, name).await;
        files.push(open_for_writing(&driver.path(&format!("{name}/count"))));
    }
    let writer = Writer::counting(files);
    let mut cut = Vec::new();
    for round in 0..6 {
        writer.goes_on().await;
        let before = writer.safe.load(Ordering::SeqCst);
        let mut ids = ["default.a", "default.b"];
        ids.rotate_left(round % 2);
        let group = driver.group_snapshot(&format!("g{round}"), &ids).await.unwrap();
        cut.push((before, writer.begun.load(Ordering::SeqCst), group));
    }
    writer.end();
    for (before, after, group) in &cut {
        let mut found = Vec::new();
        for (name, capability) in &sources {
            let of_it = |snapshot: &&csi::Snapshot| snapshot.source_volume_id == format!("default.{name}");
            let member = group.snapshots.iter().find(of_it).unwrap();
            let copy = filled("copy", bytes, capability, from_snapshot(&member.snapshot_id));
            let copy = driver.create(copy).await.unwrap().volume_id;
            driver.use_volume(&copy, capability, "copy").await;
            found.push(counted(&driver.path("copy/count")));
            driver.take_down(&copy, "copy").await;
        }
        assert_in_step(*before, &found, *after);
        driver.delete_group(group).await.unwrap();
    }
    for (name, _) in &sources {
        driver.take_down(&format!("default.{name}"), name).await;
    }
    assert_gone(&driver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsynced_group_on_xfs() {
    needs!("xfs");
    counting_group("xfs", ["ext4", "xfs"], 300 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsynced_group_on_btrfs() {
    needs!("btrfs");
    counting_group("btrfs", ["btrfs", "ext4"], 128 * MIB).await;
}

/// Nobody syncs, and one file system is copied at one moment: of two files the second is
/// not ahead.
async fn counting_alone(fs_type: &str, bytes: i64) {
    let mut driver = pool_on("xfs").await;
    let capability = mounted(fs_type);
    let id = driver.bring_up("source", bytes, &capability, "source").await;
    let files = ["a", "b"].map(|name| open_for_writing(&driver.path(&format!("source/{name}"))));
    let writer = Writer::counting(files.into());
    let mut cut = Vec::new();
    for round in 0..6 {
        writer.goes_on().await;
        let before = writer.safe.load(Ordering::SeqCst);
        let snapshot = driver.snapshot(&format!("s{round}"), &id).await.unwrap().snapshot_id;
        cut.push((before, writer.begun.load(Ordering::SeqCst), snapshot));
    }
    writer.end();
    for (before, after, snapshot) in &cut {
        if fs_type == "ext4" {
            let image = driver.scratch.path().join("pool/snapshots").join(snapshot).join("disk.img");
            let mut flags = [0; 4];
            // s_feature_incompat; EXT4_FEATURE_INCOMPAT_RECOVER is 4.
            File::open(image).unwrap().read_exact_at(&mut flags, 1024 + 0x60).unwrap();
            assert_eq!(u32::from_le_bytes(flags) & 4, 0, "its journal has to be replayed: it was not frozen");
        }
        let copy = filled("copy", bytes, &capability, from_snapshot(snapshot));
        let copy = driver.create(copy).await.unwrap().volume_id;
        driver.use_volume(&copy, &capability, "copy").await;
        let found = ["a", "b"].map(|name| counted(&driver.path(&format!("copy/{name}"))));
        assert_in_step(*before, &found, *after);
        driver.take_down(&copy, "copy").await;
        driver.delete_snapshot(snapshot).await.unwrap();
    }
    driver.take_down(&id, "source").await;
    assert_gone(&driver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsynced_ext4() {
    needs!("xfs");
    counting_alone("ext4", 64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsynced_xfs() {
    needs!("xfs");
    counting_alone("xfs", 300 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsynced_btrfs() {
    needs!("xfs", "btrfs");
    counting_alone("btrfs", 128 * MIB).await;
}

/// Writes go to A and then to B: at no moment is B ahead of A, and so in no group snapshot.
async fn group_under_load(pool_fs: &str, capabilities: [VolumeCapability; 2], bytes: i64) {
    let mut driver = pool_on(pool_fs).await;
    let [a, b] = &capabilities;
    let one = driver.bring_up("a", bytes, a, "a").await;
    let two = driver.bring_up("b", bytes, b, "b").await;
    let files = [("a", a), ("b", b)]
        .map(|(target, capability)| open_for_writing(log_of(&driver, target, capability).to_str().unwrap()));
    let writer = Writer::start(files.into(), SECTOR);
    let mut cut = Vec::new();
    for round in 0..8 {
        writer.goes_on().await;
        let before = writer.safe.load(Ordering::SeqCst);
        // Whichever is named first.
        let sources = if round % 2 == 0 { [&one, &two] } else { [&two, &one] };
        let group = driver.group_snapshot(&format!("g{round}"), &sources.map(String::as_str)).await.unwrap();
        let after = writer.begun.load(Ordering::SeqCst);
        assert!(group.ready_to_use && group.snapshots.len() == 2);
        cut.push((before, after, group));
    }
    writer.end();
    for (before, after, group) in &cut {
        let mut found = Vec::new();
        for (source, capability) in [(&one, a), (&two, b)] {
            let member =
                group.snapshots.iter().find(|snapshot| snapshot.source_volume_id == **source).unwrap();
            assert_eq!(member.group_snapshot_id, group.group_snapshot_id);
            assert_eq!(member.creation_time, group.creation_time);
            let request = filled("copy", bytes, capability, from_snapshot(&member.snapshot_id));
            let copy = driver.create(request).await.unwrap().volume_id;
            driver.use_volume(&copy, capability, "copy").await;
            found.push(records(&log_of(&driver, "copy", capability), SECTOR));
            driver.take_down(&copy, "copy").await;
        }
        assert_in_step(*before, &found, *after);
    }
    for (_, _, group) in &cut {
        driver.delete_group(group).await.unwrap();
    }
    driver.take_down(&one, "a").await;
    driver.take_down(&two, "b").await;
    assert_gone(&driver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_file_systems_on_xfs() {
    needs!("xfs");
    group_under_load("xfs", [mounted("ext4"), mounted("xfs")], 300 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_file_systems_on_btrfs() {
    needs!("btrfs");
    group_under_load("btrfs", [mounted("ext4"), mounted("btrfs")], 128 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_one_raw_device() {
    needs!("xfs");
    let raw = block(Mode::SingleNodeMultiWriter);
    group_under_load("xfs", [raw.clone(), mounted("ext4")], 128 * MIB).await;
    group_under_load("xfs", [mounted("ext4"), raw], 128 * MIB).await;
}

/// What cannot be in a group, and what a group is.
#[tokio::test(flavor = "multi_thread")]
async fn groups_that_do_not_fit() {
    needs!("xfs");
    let mut driver = pool_on("xfs").await;
    let raw = block(Mode::SingleNodeMultiWriter);
    let one = driver.bring_up("one", 8 * MIB, &raw, "one").await;
    let two = driver.bring_up("two", 8 * MIB, &raw, "two").await;
    let three = driver.create(volume("three", 64 * MIB, &mounted("ext4"))).await.unwrap().volume_id;
    let both = driver.group_snapshot("g", &[&one, &two]).await;
    assert_code(both, Code::FailedPrecondition, "raw devices in use");
    assert_eq!(entries(&driver.scratch.path().join("pool/snapshots")), Vec::<String>::new());
    for (sources, code, said) in [
        (vec![], Code::InvalidArgument, "at least one"),
        (vec![one.as_str(), &one], Code::InvalidArgument, "twice"),
        (vec![one.as_str(), "default.nothing"], Code::NotFound, "does not exist"),
        (vec![one.as_str(), ""], Code::InvalidArgument, "required"),
    ] {
        assert_code(driver.group_snapshot("g", &sources).await, code, said);
    }
    let group = driver.group_snapshot("g", &[&one, &three]).await.unwrap();
    assert_eq!(driver.group_snapshot("g", &[&three, &one]).await.unwrap(), group);
    assert_code(driver.group_snapshot("g", &[&one]).await, Code::AlreadyExists, "is of volumes");
    let member = &group.snapshots[0].snapshot_id;
    assert_code(driver.delete_snapshot(member).await, Code::InvalidArgument, "part of group");
    let mut fewer = group.clone();
    fewer.snapshots.pop();
    assert_code(driver.delete_group(&fewer).await, Code::InvalidArgument, "are not those");
    driver.restart().await;
    let get = csi::GetVolumeGroupSnapshotRequest {
        group_snapshot_id: group.group_snapshot_id.clone(),
        snapshot_ids: group.snapshots.iter().rev().map(|snapshot| snapshot.snapshot_id.clone()).collect(),
        ..Default::default()
    };
    let got =
        driver.groups().await.unwrap().get_volume_group_snapshot(get.clone()).await.unwrap().into_inner();
    assert_eq!(got.group_snapshot.as_ref(), Some(&group));
    for _ in 0..2 {
        driver.delete_group(&group).await.unwrap();
    }
    assert_code(
        driver.groups().await.unwrap().get_volume_group_snapshot(get).await,
        Code::NotFound,
        "does not exist",
    );
    driver.take_down(&one, "one").await;
    driver.take_down(&two, "two").await;
    driver.delete(&three).await.unwrap();
    assert_gone(&driver).await;
}

/// Where blocks cannot be shared, no group is promised.
#[tokio::test(flavor = "multi_thread")]
async fn no_groups_on_ext4() {
    needs!();
    let mut driver = pool_on("ext4").await;
    let able = driver.identity.get_plugin_capabilities(csi::GetPluginCapabilitiesRequest {}).await.unwrap();
    assert_eq!(able.into_inner().capabilities.len(), 3);
    assert_code(driver.group_snapshot("g", &["default.v"]).await, Code::Unimplemented, "GROUP_SNAPSHOT");
}
