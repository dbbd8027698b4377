//! Snapshots and clones of an image volume while somebody writes: what was written before is
//! in them, what was written after is not.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::atomic::Ordering,
};

use holdfast_proto::csi::{VolumeCapability, volume_capability::access_mode::Mode};
use prometheus_client::{encoding::text::encode, registry::Registry};

use crate::{
    harness::{MIB, block, mounted, needs},
    snapshots::{assert_gone, filled, from_snapshot, from_volume, pool_on},
    writer::{RECORD, SECTOR, Writer, assert_in_step, counted, is_block, log_of, open_for_writing, records},
};

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
    under_load("xfs", mounted("btrfs"), 256 * MIB).await;
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
    counting_alone("btrfs", 256 * MIB).await;
}
