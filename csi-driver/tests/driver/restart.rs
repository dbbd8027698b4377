//! The driver may end between any two calls.

use std::fs;

use holdfast_proto::csi::volume_capability::access_mode::Mode;
use tonic::Code;

use crate::harness::{Driver, MIB, assert_code, block, df, entries, mounted, needs, until, volume};

async fn restarted_after_each_call(capability: holdfast_proto::csi::VolumeCapability) {
    let mut driver = Driver::image().await;
    let is_block = capability == block(Mode::SingleNodeMultiWriter);
    let id = driver.create(volume("again", 64 * MIB, &capability)).await.unwrap().volume_id;
    driver.restart().await;
    driver.attach(&id, &capability).await.unwrap();
    driver.restart().await;
    driver.stage(&id, &capability).await.unwrap();
    driver.restart().await;
    driver.publish(&id, "pod", &capability).await.unwrap();
    driver.restart().await;
    if !is_block {
        fs::write(driver.path("pod/file"), "kept").unwrap();
    }
    driver.expand(&id, 96 * MIB).await.unwrap();
    driver.restart().await;
    driver.grow_on_node(&id, 96 * MIB, "pod", &capability).await;
    driver.restart().await;
    driver.publish(&id, "pod", &capability).await.unwrap();
    if !is_block {
        assert!(df(&driver.path("pod")) > 64 * MIB);
        assert_eq!(fs::read_to_string(driver.path("pod/file")).unwrap(), "kept");
    }
    driver.unpublish(&id, "pod").await.unwrap();
    driver.restart().await;
    driver.unstage(&id).await.unwrap();
    driver.restart().await;
    driver.detach(&id).await.unwrap();
    driver.restart().await;
    driver.delete(&id).await.unwrap();
    driver.restart().await;
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounted_volumes() {
    needs!();
    restarted_after_each_call(mounted("ext4")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_volumes() {
    needs!();
    restarted_after_each_call(block(Mode::SingleNodeMultiWriter)).await;
}

/// What a crash leaves of a volume being made, and of one being deleted, goes at the
/// next start.
#[tokio::test(flavor = "multi_thread")]
async fn leftovers_go_at_the_start() {
    needs!();
    let mut driver = Driver::image().await;
    let id = driver.create(volume("stays", 64 * MIB, &mounted(""))).await.unwrap().volume_id;
    driver.end().await;
    let pool = driver.scratch.path().join("pool");
    for left in ["volumes/.new-default.half", "trash/default.gone.0123"] {
        fs::create_dir(pool.join(left)).unwrap();
        fs::write(pool.join(left).join("disk.img"), "x").unwrap();
    }
    driver.restart().await;
    assert_eq!(entries(&pool.join("volumes")), [id.as_str()]);
    until("the trash is empty", || entries(&pool.join("trash")).is_empty()).await;
}

/// After a reboot nothing is mounted, whatever the journal of the boot before says.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_of_another_boot_says_nothing() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    let id = driver.bring_up("boot", 64 * MIB, &capability, "pod").await;
    let journal = driver.volume_folder(&id).join("node.json");
    // As the machine's end would leave it: no mount, no device, the files as they are.
    let saved = fs::read_to_string(&journal).unwrap();
    driver.unpublish(&id, "pod").await.unwrap();
    driver.unstage(&id).await.unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    fs::write(&journal, saved.replace(boot.trim(), "another-boot")).unwrap();
    driver.restart().await;
    driver.stage(&id, &capability).await.unwrap();
    let single = crate::harness::mounted_as("ext4", &[], Mode::SingleNodeSingleWriter);
    driver.publish(&id, "other", &single).await.unwrap();
    driver.take_down(&id, "other").await;
    driver.assert_nothing_left("pool").await;
}

/// A damaged journal hides no mount: the kernel's table decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_loses_no_mount() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    let id = driver.bring_up("damaged", 64 * MIB, &capability, "pod").await;
    fs::write(driver.volume_folder(&id).join("node.json"), "{").unwrap();
    driver.restart().await;
    driver.stage(&id, &capability).await.unwrap();
    driver.publish(&id, "pod", &capability).await.unwrap();
    driver.take_down(&id, "pod").await;
    driver.assert_nothing_left("pool").await;
}

/// A raw device is not given back while a target of it is mounted, recorded or not: its
/// number would go to another volume.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_frees_no_device_in_use() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = block(Mode::SingleNodeMultiWriter);
    let id = driver.bring_up("damaged", 8 * MIB, &capability, "device").await;
    fs::write(driver.volume_folder(&id).join("node.json"), "{").unwrap();
    assert_code(driver.unstage(&id).await, Code::FailedPrecondition, "still mounted");
    assert_eq!(driver.scratch.loops().len(), 1);
    driver.take_down(&id, "device").await;
    driver.assert_nothing_left("pool").await;
}
