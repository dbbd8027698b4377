//! Every call may come twice, and two may come at once.

use holdfast_proto::csi::volume_capability::access_mode::Mode;
use tonic::Code;

use crate::harness::{Driver, MIB, block, mounted, needs, volume};

async fn each_call_twice(capability: holdfast_proto::csi::VolumeCapability) {
    let mut driver = Driver::image().await;
    let first = driver.create(volume("twice", 64 * MIB, &capability)).await.unwrap();
    assert_eq!(driver.create(volume("twice", 64 * MIB, &capability)).await.unwrap(), first);
    let id = first.volume_id;
    for _ in 0..2 {
        driver.attach(&id, &capability).await.unwrap();
    }
    for _ in 0..2 {
        driver.stage(&id, &capability).await.unwrap();
    }
    assert_eq!(driver.scratch.loops().len(), 1, "the device is used again");
    for _ in 0..2 {
        driver.publish(&id, "pod", &capability).await.unwrap();
    }
    let mounts = driver.scratch.mounts().len();
    for _ in 0..2 {
        assert_eq!(driver.expand(&id, 96 * MIB).await.unwrap().capacity_bytes, 96 * MIB);
        driver.grow_on_node(&id, 96 * MIB, "pod", &capability).await;
    }
    driver.publish(&id, "pod", &capability).await.unwrap();
    assert_eq!(driver.scratch.mounts().len(), mounts, "nothing is mounted twice");
    for _ in 0..2 {
        driver.unpublish(&id, "pod").await.unwrap();
    }
    for _ in 0..2 {
        driver.unstage(&id).await.unwrap();
    }
    for _ in 0..2 {
        driver.detach(&id).await.unwrap();
    }
    for _ in 0..2 {
        driver.delete(&id).await.unwrap();
    }
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounted_volumes() {
    needs!();
    each_call_twice(mounted("ext4")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_volumes() {
    needs!();
    each_call_twice(block(Mode::SingleNodeMultiWriter)).await;
}

/// Of many calls at once for one volume each succeeds or is told to come back, and
/// the end is one volume.
#[tokio::test(flavor = "multi_thread")]
async fn at_once() {
    needs!();
    let driver = Driver::image().await;
    let capability = mounted("ext4");
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut controller = driver.controller.clone();
        let request = volume("race", 64 * MIB, &capability);
        calls.spawn(async move { controller.create_volume(request).await });
    }
    let mut made = 0;
    while let Some(answer) = calls.join_next().await {
        match answer.unwrap() {
            Ok(_) => made += 1,
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status}"),
        }
    }
    assert!(made >= 1);
    assert_eq!(crate::harness::entries(&driver.scratch.path().join("pool/volumes")), ["default.race"]);
}

/// A caller that goes away does not stop what it began.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_outlives_its_caller() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    let id = driver.create(volume("left", 512 * MIB, &capability)).await.unwrap().volume_id;
    driver.attach(&id, &capability).await.unwrap();
    let staging = driver.staging(&id);
    std::fs::create_dir(&staging).unwrap();
    let request = holdfast_proto::csi::NodeStageVolumeRequest {
        volume_id: id.clone(),
        staging_target_path: staging.clone(),
        volume_capability: Some(capability),
        ..Default::default()
    };
    let mut node = driver.node.clone();
    let call = tokio::spawn(async move { node.node_stage_volume(request).await });
    // As soon as the work is seen to have begun, its caller goes.
    let journal = driver.volume_folder(&id).join("node.json");
    crate::harness::until("the work began", || journal.exists()).await;
    call.abort();
    crate::harness::until("it is mounted all the same", || !driver.scratch.mounts().is_empty()).await;
    crate::harness::until("the volume is free again", || {
        std::fs::read_to_string(driver.volume_folder(&id).join("volume.json")).unwrap().contains("done")
    })
    .await;
    while let Err(status) = driver.unstage(&id).await {
        assert_eq!(status.code(), Code::Aborted, "{status}");
    }
    driver.detach(&id).await.unwrap();
    driver.delete(&id).await.unwrap();
    driver.assert_nothing_left("pool").await;
}
