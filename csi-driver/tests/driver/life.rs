//! The whole life of a volume.

use std::{fs, io::Write as _};

use holdfast_proto::csi::{volume_capability::access_mode::Mode, volume_usage::Unit};

use crate::harness::{Driver, MIB, block, command, df, mounted, needs, volume};

async fn whole_life(fs_type: &str, bytes: i64, larger: i64) {
    let mut driver = Driver::image().await;
    let capability = mounted(fs_type);
    let made = driver.create(volume("pvc-1", bytes, &capability)).await.unwrap();
    assert_eq!(made.volume_id, "default.pvc-1");
    assert_eq!(made.capacity_bytes, bytes);
    assert_eq!(made.accessible_topology[0].segments["topology.csi.holdfast.dev/node"], "node-1");
    let id = made.volume_id;
    let image = driver.volume_folder(&id).join("disk.img");
    assert_eq!(fs::metadata(&image).unwrap().len(), bytes as u64);

    driver.attach(&id, &capability).await.unwrap();
    driver.stage(&id, &capability).await.unwrap();
    driver.publish(&id, "pod-a", &capability).await.unwrap();
    let file = driver.path("pod-a/file");
    fs::write(&file, "kept").unwrap();
    let before = df(&driver.path("pod-a"));
    assert!(before <= bytes && before > bytes / 2, "{before} of {bytes}");

    let grown = driver.expand(&id, larger).await.unwrap();
    assert_eq!((grown.capacity_bytes, grown.node_expansion_required), (larger, true));
    assert_eq!(df(&driver.path("pod-a")), before, "grows only when the node is asked");
    driver.grow_on_node(&id, larger, "pod-a", &capability).await;
    let after = df(&driver.path("pod-a"));
    assert!(after > before && after > larger / 2, "{before} -> {after}");

    let usage = driver.stats(&id, "pod-a").await.unwrap();
    let bytes_used = usage.iter().find(|usage| usage.unit() == Unit::Bytes).unwrap();
    assert_eq!(bytes_used.total, after);
    assert!(bytes_used.used > 0 && bytes_used.available > 0);
    let inodes = usage.iter().find(|usage| usage.unit() == Unit::Inodes);
    assert_eq!(inodes.is_some(), fs_type != "btrfs");

    driver.unpublish(&id, "pod-a").await.unwrap();
    assert!(!std::path::Path::new(&driver.path("pod-a")).exists());
    driver.unstage(&id).await.unwrap();
    assert!(driver.scratch.mounts().is_empty() && driver.scratch.loops().is_empty());
    driver.detach(&id).await.unwrap();

    // A second pod, later: the same data, the new size.
    driver.attach(&id, &capability).await.unwrap();
    driver.stage(&id, &capability).await.unwrap();
    driver.publish(&id, "pod-b", &capability).await.unwrap();
    assert_eq!(fs::read_to_string(driver.path("pod-b/file")).unwrap(), "kept");
    assert_eq!(df(&driver.path("pod-b")), after);
    driver.take_down(&id, "pod-b").await;
    driver.assert_nothing_left("pool").await;
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ext4() {
    needs!();
    whole_life("ext4", 64 * MIB, 128 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xfs() {
    needs!("xfs");
    whole_life("xfs", 300 * MIB, 600 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn btrfs() {
    needs!("btrfs");
    whole_life("btrfs", 256 * MIB, 384 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_block() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = block(Mode::SingleNodeMultiWriter);
    let id = driver.bring_up("raw", 8 * MIB, &capability, "device").await;
    let device = driver.path("device");
    let size = |device: &str| command("blockdev", &["--getsize64", device]).unwrap().trim().to_owned();
    assert_eq!(size(&device), (8 * MIB).to_string());
    write_at(&device, 5 * MIB as u64, b"kept");

    driver.expand(&id, 16 * MIB).await.unwrap();
    assert_eq!(driver.node_expand(&id, "device").await.unwrap(), 16 * MIB);
    assert_eq!(size(&device), (16 * MIB).to_string());
    let usage = driver.stats(&id, "device").await.unwrap();
    assert_eq!((usage.len(), usage[0].total), (1, 16 * MIB));

    driver.unpublish(&id, "device").await.unwrap();
    assert!(!std::path::Path::new(&device).exists());
    driver.unstage(&id).await.unwrap();
    assert!(driver.scratch.loops().is_empty());

    // Data that is no file system is not touched by staging again.
    driver.stage(&id, &capability).await.unwrap();
    driver.publish(&id, "device", &capability).await.unwrap();
    assert_eq!(read_at(&device, 5 * MIB as u64), *b"kept");
    driver.take_down(&id, "device").await;
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_device_refuses_writes() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = block(Mode::SingleNodeReaderOnly);
    let id = driver.bring_up("raw", 8 * MIB, &capability, "device").await;
    let device = driver.path("device");
    assert_eq!(command("blockdev", &["--getro", &device]).unwrap().trim(), "1");
    let written = fs::File::options().write(true).open(&device).and_then(|mut file| file.write_all(b"x"));
    assert!(written.is_err());
    driver.take_down(&id, "device").await;
    driver.assert_nothing_left("pool").await;
}

/// A file system that gave up (its disk failed, the pool's disk ran full) answers nothing
/// but errors. It can be taken away all the same, and is whole when it is mounted again.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_file_system_can_be_taken_away() {
    needs!("xfs");
    let mut driver = Driver::image().await;
    let capability = mounted("xfs");
    let id = driver.bring_up("dead", 300 * MIB, &capability, "pod").await;
    let file = fs::File::create(driver.path("pod/file")).unwrap();
    (&file).write_all(b"kept").unwrap();
    file.sync_all().unwrap();
    drop(file);
    command("xfs_io", &["-x", "-c", "shutdown", &driver.path("pod")]).unwrap();
    assert!(fs::metadata(driver.path("pod")).is_err());

    driver.unpublish(&id, "pod").await.unwrap();
    driver.unstage(&id).await.unwrap();
    assert!(driver.scratch.mounts().is_empty() && driver.scratch.loops().is_empty());
    driver.stage(&id, &capability).await.unwrap();
    driver.publish(&id, "pod", &capability).await.unwrap();
    assert_eq!(fs::read_to_string(driver.path("pod/file")).unwrap(), "kept");
    driver.take_down(&id, "pod").await;
    driver.assert_nothing_left("pool").await;
}

fn write_at(device: &str, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::options().write(true).open(device).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    file.sync_all().unwrap();
}

fn read_at(device: &str, offset: u64) -> [u8; 4] {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = [0; 4];
    fs::File::open(device).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    bytes
}
