//! Growing, and what cannot be grown.

use holdfast_proto::csi::{self, CapacityRange};
use tonic::Code;

use crate::harness::{Driver, MIB, assert_code, df, mounted, needs, volume};

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
    for (fs_type, size) in [("ext4", 64 * MIB), ("xfs", 300 * MIB), ("btrfs", 128 * MIB)] {
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

/// A crash after the image grew and before the metadata did.
#[tokio::test(flavor = "multi_thread")]
async fn a_longer_image_is_taken_up() {
    needs!();
    let mut driver = Driver::image().await;
    let id = driver.bring_up("v", 64 * MIB, &mounted("ext4"), "pod").await;
    let image = driver.volume_folder(&id).join("disk.img");
    std::fs::File::options().write(true).open(&image).unwrap().set_len(96 * MIB as u64).unwrap();
    assert_eq!(driver.expand(&id, 96 * MIB).await.unwrap().capacity_bytes, 96 * MIB);
    driver.grow_on_node(&id, 96 * MIB, "pod", &mounted("ext4")).await;
    driver.take_down(&id, "pod").await;
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
