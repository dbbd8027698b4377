//! The btrfs pool: volumes as subvolumes, with snapshots and clones.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use holdfast_csi_driver::{Config, PoolConfig, run};
use holdfast_proto::csi;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{
    directory::{a_life_with_a_size, fill},
    harness::{
        Driver, MIB, NODE, Scratch, assert_code, command, entries, filesystem, mounted, needs, parameters,
        until, volume,
    },
    snapshots::{from_snapshot, from_volume},
};

/// A driver with a btrfs pool `default` on a btrfs of its own.
async fn on_btrfs() -> Driver {
    let scratch = Scratch::new();
    let disk = filesystem(&scratch, "btrfs");
    Driver::with(scratch, vec![PoolConfig::btrfs("default", disk.join("pool"))]).await
}

fn pool(driver: &Driver) -> PathBuf {
    driver.scratch.path().join("disk-btrfs/pool")
}

pub(crate) async fn cut(driver: &mut Driver, name: &str, id: &str) -> Result<csi::Snapshot, Status> {
    let request = csi::CreateSnapshotRequest {
        name: name.to_owned(),
        source_volume_id: id.to_owned(),
        ..Default::default()
    };
    Ok(driver.controller.create_snapshot(request).await?.into_inner().snapshot.unwrap())
}

async fn delete_snapshot(driver: &mut Driver, id: &str) {
    let request = csi::DeleteSnapshotRequest { snapshot_id: id.to_owned(), ..Default::default() };
    driver.controller.delete_snapshot(request).await.unwrap();
}

/// Nothing is left in the pool, and no subvolume anywhere.
async fn assert_freed(driver: &Driver) {
    let pool = pool(driver);
    until("the trash is empty", || entries(&pool.join("trash")).is_empty()).await;
    for folder in ["volumes", "snapshots"] {
        assert_eq!(entries(&pool.join(folder)), Vec::<String>::new());
    }
    assert_eq!(command("btrfs", &["subvolume", "list", pool.to_str().unwrap()]).unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_is_enforced() {
    needs!("btrfs");
    let scratch = Scratch::new();
    let disk = filesystem(&scratch, "btrfs");
    fs::create_dir(scratch.path().join("disk")).unwrap();
    let (from, to) = (disk.to_str().unwrap().to_owned(), scratch.path().join("disk"));
    command("mount", &["--bind", &from, to.to_str().unwrap()]).unwrap();
    let driver = Driver::with(scratch, vec![PoolConfig::btrfs("default", to.join("pool"))]).await;
    a_life_with_a_size(driver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_on_btrfs() {
    needs!("btrfs");
    let scratch = Scratch::new();
    let pool = PoolConfig::btrfs("default", filesystem(&scratch, "ext4").join("pool"));
    let config = Config::new(NODE, scratch.path().join("csi.sock"), vec![pool]);
    let error = run(config, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains("lies on ext4; give a path on btrfs") && !error.contains('\n'), "{error}");
}

/// A program that appends numbered records, each synced before the next.
struct Appender {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// One record: its number, as often as it fits.
const RECORD: usize = 4096;

impl Appender {
    fn start(path: PathBuf) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let thread = std::thread::spawn(move || {
            let mut file = fs::File::create(path).unwrap();
            for number in 0_u64.. {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                file.write_all(&number.to_le_bytes().repeat(RECORD / 8)).unwrap();
                file.sync_data().unwrap();
                count.store(number + 1, Ordering::SeqCst);
            }
        });
        Self { stop, acknowledged, thread: Some(thread) }
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// How many whole records the file begins with; anything but a record after them fails, save
/// for the one that was being written.
fn records(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    let whole = bytes.chunks_exact(RECORD);
    let count = whole.len() as u64;
    for (number, record) in (0_u64..).zip(whole) {
        let expected = number.to_le_bytes().repeat(RECORD / 8);
        assert!(
            record == expected || number + 1 == count,
            "record {number} of {count} is not what was written"
        );
    }
    count
}

/// What was acknowledged before the call is in the snapshot, and what was begun after it is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_under_load_is_of_one_moment() {
    needs!("btrfs");
    let mut driver = on_btrfs().await;
    let id = driver.bring_up("busy", 100 * MIB, &mounted(""), "pod").await;
    let mut appender = Appender::start(driver.path("pod/log").into());
    let mut cuts = Vec::new();
    for number in 0..5 {
        let goal = appender.acknowledged() + 20;
        until("some records are written", || appender.acknowledged() >= goal).await;
        let before = appender.acknowledged();
        let snapshot = cut(&mut driver, &format!("s{number}"), &id).await.unwrap();
        cuts.push((snapshot, before, appender.acknowledged() + 1));
    }
    appender.stop();
    let whole = fs::read(driver.path("pod/log")).unwrap();
    for (snapshot, before, after) in &cuts {
        assert!(snapshot.ready_to_use && snapshot.size_bytes == 100 * MIB);
        let log = pool(&driver).join("snapshots").join(&snapshot.snapshot_id).join("data/log");
        let held = records(&log);
        assert!((*before..=*after).contains(&held), "{held} records, not {before} to {after}");
        let bytes = fs::read(&log).unwrap();
        let synced = *before as usize * RECORD;
        assert_eq!(bytes[..synced], whole[..synced], "byte for byte");
        let refused = fs::write(&log, "x").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(30), "a snapshot is read-only: {refused}");
    }
    let fewer = |a: &csi::Snapshot, b: &csi::Snapshot| {
        let at = |s: &csi::Snapshot| s.creation_time.map(|t| (t.seconds, t.nanos));
        at(a) <= at(b)
    };
    assert!(cuts.windows(2).all(|pair| fewer(&pair[0].0, &pair[1].0)));
    driver.take_down(&id, "pod").await;
    for (snapshot, ..) in &cuts {
        delete_snapshot(&mut driver, &snapshot.snapshot_id).await;
    }
    assert_freed(&driver).await;
    driver.end().await;
}

/// What only a snapshot still needs does not count for its volume, and neither changes the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_volume_can_be_written_anew_after_a_snapshot() {
    needs!("btrfs");
    let mut driver = on_btrfs().await;
    let id = driver.bring_up("full", 40 * MIB, &mounted(""), "pod").await;
    let file = driver.path("pod/file");
    fs::write(&file, vec![1_u8; 30 << 20]).unwrap();
    let snapshot = cut(&mut driver, "s", &id).await.unwrap();
    let before = driver.stats(&id, "pod").await.unwrap()[0].used;
    fs::remove_file(&file).unwrap();
    command("btrfs", &["filesystem", "sync", &driver.path("pod")]).unwrap();
    let (written, error) = fill(&file);
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded, "{error}");
    assert!((30 * MIB..=40 * MIB).contains(&written), "{written} after a snapshot of {before}");
    let held = pool(&driver).join("snapshots").join(&snapshot.snapshot_id).join("data/file");
    assert!(fs::read(&held).unwrap() == vec![1_u8; 30 << 20], "the snapshot changed with its volume");
    driver.take_down(&id, "pod").await;
    assert!(fs::read(&held).unwrap() == vec![1_u8; 30 << 20], "the snapshot went with its volume");
    driver.restart().await;
    let list = csi::ListSnapshotsRequest::default();
    let listed = driver.controller.list_snapshots(list).await.unwrap().into_inner().entries;
    assert_eq!(listed.len(), 1);
    delete_snapshot(&mut driver, &snapshot.snapshot_id).await;
    assert_freed(&driver).await;
    driver.end().await;
}

/// To change what a snapshot shares takes new room: that is promised, and not to others.
#[tokio::test(flavor = "multi_thread")]
async fn room_for_changes_after_a_snapshot_is_kept() {
    needs!("btrfs");
    let mut driver = on_btrfs().await;
    let id = driver.bring_up("a", 200 * MIB, &mounted(""), "pod").await;
    fs::write(driver.path("pod/file"), vec![1_u8; 150 << 20]).unwrap();
    command("btrfs", &["filesystem", "sync", &driver.path("pod")]).unwrap();
    let snapshot = cut(&mut driver, "s", &id).await.unwrap();
    let asked = volume("b", 170 * MIB, &mounted(""));
    assert_code(driver.create(asked.clone()).await, Code::ResourceExhausted, "is full");
    delete_snapshot(&mut driver, &snapshot.snapshot_id).await;
    until("the trash is empty", || entries(&pool(&driver).join("trash")).is_empty()).await;
    crate::btrfs_streams::freed(&pool(&driver));
    driver.restart().await;
    driver.create(asked).await.unwrap();
    driver.end().await;
}

/// Subvolumes that users made inside are not in a snapshot: there they are empty folders.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_nested_is_not_in_a_snapshot() {
    needs!("btrfs");
    let mut driver = on_btrfs().await;
    let id = driver.bring_up("nested", 20 * MIB, &mounted(""), "pod").await;
    command("btrfs", &["subvolume", "create", &driver.path("pod/inner")]).unwrap();
    fs::write(driver.path("pod/inner/file"), "x").unwrap();
    fs::write(driver.path("pod/file"), "y").unwrap();
    let snapshot = cut(&mut driver, "s", &id).await.unwrap();
    let data = pool(&driver).join("snapshots").join(&snapshot.snapshot_id).join("data");
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "y");
    assert_eq!(entries(&data.join("inner")), Vec::<String>::new());
    driver.take_down(&id, "pod").await;
    delete_snapshot(&mut driver, &snapshot.snapshot_id).await;
    assert_freed(&driver).await;
    driver.end().await;
}

/// A restore and a clone have what their source had, sizes of their own, and go on without it.
#[tokio::test(flavor = "multi_thread")]
async fn restores_and_clones_have_sizes_of_their_own() {
    needs!("btrfs");
    let mut driver = on_btrfs().await;
    let capability = mounted("");
    let id = driver.bring_up("source", 40 * MIB, &capability, "pod").await;
    fs::write(driver.path("pod/file"), vec![1_u8; 30 << 20]).unwrap();
    fs::set_permissions(driver.path("pod"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let snapshot = cut(&mut driver, "s", &id).await.unwrap().snapshot_id;
    fs::write(driver.path("pod/file"), "later").unwrap();
    let clone = csi::CreateVolumeRequest {
        volume_content_source: from_volume(&id),
        ..volume("clone", 40 * MIB, &capability)
    };
    let clone = driver.create(clone).await.unwrap();
    assert_eq!(clone.content_source, from_volume(&id));
    let restored = csi::CreateVolumeRequest {
        volume_content_source: from_snapshot(&snapshot),
        ..volume("restored", 60 * MIB, &capability)
    };
    let smaller = csi::CreateVolumeRequest {
        volume_content_source: from_snapshot(&snapshot),
        ..volume("smaller", 20 * MIB, &capability)
    };
    assert_code(
        driver
            .create(csi::CreateVolumeRequest {
                capacity_range: Some(csi::CapacityRange { required_bytes: 20 * MIB, limit_bytes: 20 * MIB }),
                ..smaller
            })
            .await,
        Code::OutOfRange,
        "",
    );
    let restored = driver.create(restored.clone()).await.unwrap().volume_id;
    driver.take_down(&id, "pod").await;
    delete_snapshot(&mut driver, &snapshot).await;
    driver.restart().await;
    for (id, target) in [(&clone.volume_id, "clone"), (&restored, "restored")] {
        driver.attach(id, &capability).await.unwrap();
        driver.stage(id, &capability).await.unwrap();
        driver.publish(id, target, &capability).await.unwrap();
    }
    assert_eq!(fs::read_to_string(driver.path("clone/file")).unwrap(), "later");
    assert!(fs::read(driver.path("restored/file")).unwrap() == vec![1_u8; 30 << 20]);
    for (target, held, size) in [("clone", 0, 40 * MIB), ("restored", 30 * MIB, 60 * MIB)] {
        let usage = driver.stats(if held == 0 { &clone.volume_id } else { &restored }, target).await.unwrap();
        assert!(usage[0].total == size && usage[0].used >= held, "{usage:?}");
        let (written, error) = fill(&driver.path(&format!("{target}/more")));
        assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded, "{target}: {error}");
        let room = size - held;
        assert!((room - 5 * MIB..=room).contains(&written), "{target}: {written} of {room}");
    }
    driver.take_down(&clone.volume_id, "clone").await;
    driver.take_down(&restored, "restored").await;
    assert_freed(&driver).await;
    driver.end().await;
}

/// What the Controller service declares of snapshots and clones.
async fn declares_copies(driver: &mut Driver) -> bool {
    use csi::controller_service_capability::{Type, rpc};
    let request = csi::ControllerGetCapabilitiesRequest {};
    let able = driver.controller.controller_get_capabilities(request).await.unwrap().into_inner();
    let has = |wanted: rpc::Type| {
        able.capabilities.iter().any(|able| match &able.r#type {
            Some(Type::Rpc(able)) => able.r#type == i32::from(wanted),
            None => false,
        })
    };
    let both = [rpc::Type::CreateDeleteSnapshot, rpc::Type::CloneVolume].map(has);
    assert_eq!(both[0], both[1]);
    both[0]
}

/// Where somebody chose simple quotas, sizes would not hold after a snapshot: none is made,
/// and none is promised after the next start.
#[tokio::test(flavor = "multi_thread")]
async fn simple_quotas_allow_no_snapshot() {
    needs!("btrfs");
    let scratch = Scratch::new();
    let disk = filesystem(&scratch, "btrfs");
    // A directory pool switches them on.
    let pools = vec![
        PoolConfig::directory("simple", disk.join("simple")),
        PoolConfig::btrfs("default", disk.join("pool")),
    ];
    let mut driver = Driver::with(scratch, pools).await;
    let first = csi::CreateVolumeRequest {
        parameters: parameters(&[("pool", "simple")]),
        ..volume("first", 20 * MIB, &mounted(""))
    };
    driver.create(first).await.unwrap();
    let id = driver.create(volume("second", 20 * MIB, &mounted(""))).await.unwrap().volume_id;
    assert_code(cut(&mut driver, "s", &id).await, Code::FailedPrecondition, "btrfs quota disable");
    assert!(declares_copies(&mut driver).await, "what is declared does not change meanwhile");
    driver.restart().await;
    assert!(!declares_copies(&mut driver).await);
    assert_code(cut(&mut driver, "s", &id).await, Code::Unimplemented, "CREATE_DELETE_SNAPSHOT");
    let clone = csi::CreateVolumeRequest {
        volume_content_source: from_volume(&id),
        ..volume("clone", 20 * MIB, &mounted(""))
    };
    assert_code(driver.create(clone).await, Code::InvalidArgument, "check-config");
    let reports = holdfast_csi_driver::inspect(&driver.config).await.unwrap();
    let lacks = &reports.iter().find(|pool| pool.name == "default").unwrap().found.as_ref().unwrap().lacks;
    assert!(lacks.iter().any(|line| line.contains("no snapshots and clones")), "{lacks:?}");

    command("btrfs", &["quota", "disable", disk.to_str().unwrap()]).unwrap();
    driver.restart().await;
    assert!(declares_copies(&mut driver).await);
    let snapshot = cut(&mut driver, "s", &id).await.unwrap().snapshot_id;
    assert_code(cut(&mut driver, "t", "simple.first").await, Code::FailedPrecondition, "directory");
    // Snapshots that are there can be deleted, whoever chose what since.
    command("btrfs", &["quota", "disable", disk.to_str().unwrap()]).unwrap();
    driver.expand("simple.first", 30 * MIB).await.unwrap();
    driver.restart().await;
    let refused = cut(&mut driver, "u", &id).await;
    assert_code(refused, Code::FailedPrecondition, "btrfs quota disable");
    delete_snapshot(&mut driver, &snapshot).await;
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_refused_for_what_btrfs_cannot() {
    needs!("btrfs");
    let scratch = Scratch::new();
    let disk = filesystem(&scratch, "btrfs");
    let pools = vec![
        PoolConfig::btrfs("default", disk.join("pool")),
        // Makes the driver declare groups.
        PoolConfig::image("images", disk.join("images")),
    ];
    let mut driver = Driver::with(scratch, pools).await;
    let id = driver.create(volume("v", 20 * MIB, &mounted(""))).await.unwrap().volume_id;
    let refused = driver.group_snapshot("g", &[&id]).await;
    assert_code(refused, Code::FailedPrecondition, "btrfs makes one snapshot at a time");
    driver.end().await;
}
