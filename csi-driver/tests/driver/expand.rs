//! Growing, and what cannot be grown.

use std::os::unix::fs::FileExt as _;

use holdfast_proto::csi::{self, CapacityRange, volume_capability::access_mode::Mode};
use tonic::Code;

use crate::{
    btrfs::cut,
    harness::{Driver, MIB, assert_code, block, df, mounted, needs, volume},
    snapshots::from_volume,
};

#[tokio::test(flavor = "multi_thread")]
async fn sizes_that_cannot_be() {
    needs!();
    let mut driver = Driver::image().await;
    let id = driver.create(volume("v", 64 * MIB, &mounted("ext4"))).await.unwrap().volume_id;
    assert_eq!(driver.expand(&id, 32 * MIB).await.unwrap().capacity_bytes, 64 * MIB, "large enough already");
    assert_code(driver.expand(&id, i64::MAX).await, Code::OutOfRange, "largest");
    assert_code(driver.expand("default.none", MIB).await, Code::NotFound, "does not exist");
    let ask = |range: Option<CapacityRange>| csi::ControllerExpandVolumeRequest {
        volume_id: "default.v".to_owned(),
        capacity_range: range,
        ..Default::default()
    };
    let smaller = CapacityRange { required_bytes: 0, limit_bytes: 32 * MIB };
    assert_code(
        driver.controller.controller_expand_volume(ask(Some(smaller))).await,
        Code::OutOfRange,
        "smaller",
    );
    for range in [None, Some(CapacityRange::default())] {
        let answer = driver.controller.controller_expand_volume(ask(range)).await;
        assert_code(answer, Code::InvalidArgument, "capacity_range");
    }
}

/// Grown while nobody uses it: the next staging and node expansion bring it.
#[tokio::test(flavor = "multi_thread")]
async fn offline() {
    needs!("xfs", "btrfs");
    let mut driver = Driver::image().await;
    for (fs_type, size) in [("ext4", 64 * MIB), ("xfs", 300 * MIB), ("btrfs", 256 * MIB)] {
        let capability = mounted(fs_type);
        let id = driver.bring_up(fs_type, size, &capability, "pod").await;
        driver.unpublish(&id, "pod").await.unwrap();
        driver.unstage(&id).await.unwrap();
        driver.expand(&id, 2 * size).await.unwrap();
        driver.stage(&id, &capability).await.unwrap();
        driver.publish(&id, "pod", &capability).await.unwrap();
        driver.node_expand(&id, "pod").await.unwrap();
        assert!(df(&driver.path("pod")) > size, "{fs_type}");
        driver.take_down(&id, "pod").await;
    }
    driver.assert_nothing_left("pool").await;
}

/// A crash, or a full disk, after the image grew and before the metadata did: the next call writes the size
/// down, and so does the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_longer_image_is_taken_up() {
    needs!();
    for restart in [false, true] {
        let mut driver = Driver::image().await;
        let id = driver.bring_up("v", 64 * MIB, &mounted("ext4"), "pod").await;
        let folder = driver.volume_folder(&id);
        let written_down = || {
            let text = std::fs::read_to_string(folder.join("volume.json")).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["capacity"].as_i64()
        };
        let image = std::fs::File::options().write(true).open(folder.join("disk.img")).unwrap();
        image.set_len(96 * MIB as u64).unwrap();
        assert_eq!(written_down(), Some(64 * MIB));
        if restart {
            driver.restart().await;
            assert_eq!(written_down(), Some(96 * MIB));
        }
        for _ in 0..2 {
            assert_eq!(driver.expand(&id, 96 * MIB).await.unwrap().capacity_bytes, 96 * MIB);
            assert_eq!(written_down(), Some(96 * MIB));
        }
        driver.grow_on_node(&id, 96 * MIB, "pod", &mounted("ext4")).await;
        driver.take_down(&id, "pod").await;
        driver.end().await;
    }
}

/// What was written behind the size that is written down is in a snapshot, and in a clone.
#[tokio::test(flavor = "multi_thread")]
async fn copies_have_all_of_a_longer_image() {
    needs!();
    let mut driver = Driver::image().await;
    let raw = block(Mode::SingleNodeWriter);
    let id = driver.create(volume("v", 32 * MIB, &raw)).await.unwrap().volume_id;
    let image =
        std::fs::File::options().write(true).open(driver.volume_folder(&id).join("disk.img")).unwrap();
    image.set_len(64 * MIB as u64).unwrap();
    image.write_all_at(b"behind", 48 * MIB as u64).unwrap();
    let snapshot = cut(&mut driver, "s", &id).await.unwrap();
    assert_eq!(snapshot.size_bytes, 64 * MIB);
    let clone = |bytes| csi::CreateVolumeRequest {
        volume_content_source: from_volume(&id),
        ..volume("clone", bytes, &raw)
    };
    // It would have to be cut off.
    assert_code(driver.create(clone(32 * MIB)).await, Code::OutOfRange, "ask for as much");
    let clone = driver.create(clone(64 * MIB)).await.unwrap();
    assert_eq!(clone.capacity_bytes, 64 * MIB);
    driver.end().await;
}

/// The kernel resizes btrfs to no less than 256 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn small_btrfs_can_grow_a_little() {
    needs!("btrfs");
    let mut driver = Driver::image().await;
    let capability = mounted("btrfs");
    let id = driver.bring_up("v", MIB, &capability, "pod").await;
    let size = driver.expand(&id, 1).await.unwrap().capacity_bytes;
    assert_eq!(driver.expand(&id, size + 16 * MIB).await.unwrap().capacity_bytes, size + 16 * MIB);
    driver.grow_on_node(&id, size + 16 * MIB, "pod", &capability).await;
    driver.take_down(&id, "pod").await;
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_gives_no_more_than_the_controller() {
    needs!();
    let mut driver = Driver::image().await;
    let id = driver.bring_up("v", 64 * MIB, &mounted("ext4"), "pod").await;
    let request = csi::NodeExpandVolumeRequest {
        volume_id: id.clone(),
        volume_path: driver.path("pod"),
        capacity_range: Some(CapacityRange { required_bytes: 128 * MIB, limit_bytes: 0 }),
        ..Default::default()
    };
    assert_code(driver.node.node_expand_volume(request).await, Code::OutOfRange, "ControllerExpandVolume");
    driver.take_down(&id, "pod").await;
}
