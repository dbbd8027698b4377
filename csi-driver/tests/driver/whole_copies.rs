//! Image volumes of a pool in which files cannot share blocks: copied whole.

use std::fs;

use holdfast_proto::csi::{VolumeCapability, volume_capability::access_mode::Mode};
use tonic::{Code, Status};

use crate::{
    harness::{MIB, assert_code, block, mounted, needs},
    snapshots::{assert_gone, filled, from_snapshot, from_volume, pool_on},
    writer::{RECORD, SECTOR, Writer, is_block, log_of, open_for_writing, records},
};

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
    copied_on_ext4(mounted("btrfs"), 256 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_is_copied_on_ext4() {
    needs!();
    copied_on_ext4(block(Mode::SingleNodeMultiWriter), 64 * MIB).await;
}
