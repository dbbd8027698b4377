//! What is damaged or missing is never taken for absent, and the error says what to do.

use std::fs;

use holdfast_proto::csi::{self, volume_capability::access_mode::Mode};
use tonic::Code;

use crate::{
    harness::{Driver, MIB, assert_code, block, mounted, needs, volume},
    snapshots::from_volume,
};

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_not_absence() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    let id = driver.create(volume("v", 64 * MIB, &capability)).await.unwrap().volume_id;
    fs::write(driver.volume_folder(&id).join("volume.json"), "{").unwrap();
    for _ in 0..2 {
        assert_code(driver.create(volume("v", 64 * MIB, &capability)).await, Code::Internal, "damaged");
        assert_code(driver.delete(&id).await, Code::Internal, "damaged");
        assert_code(driver.attach(&id, &capability).await, Code::Internal, "damaged");
        let listed = driver.controller.list_volumes(csi::ListVolumesRequest::default()).await.unwrap();
        assert_eq!(listed.into_inner().entries.len(), 1);
        driver.restart().await;
    }
    assert!(driver.volume_folder(&id).join("disk.img").exists());
}

/// No list leaves out a snapshot that is there, and what to do is said in words that fit one.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_not_absent() {
    needs!();
    let mut driver = Driver::image().await;
    let id = driver.create(volume("v", 16 * MIB, &mounted("ext4"))).await.unwrap().volume_id;
    let mut made = Vec::new();
    for name in ["a", "b"] {
        made.push(driver.snapshot(name, &id).await.unwrap().snapshot_id);
    }
    let stored = driver.scratch.path().join("pool/snapshots").join(&made[0]).join("snapshot.json");
    let whole = fs::read(&stored).unwrap();
    let of = |snapshot: &str, source: &str| csi::ListSnapshotsRequest {
        snapshot_id: snapshot.to_owned(),
        source_volume_id: source.to_owned(),
        ..Default::default()
    };
    let advice = "restore it, or move the snapshot's folder out of the pool";
    for damage in [Some("{"), None] {
        match damage {
            Some(text) => fs::write(&stored, text).unwrap(),
            None => fs::remove_file(&stored).unwrap(),
        }
        for restart in [false, true] {
            if restart {
                driver.restart().await;
            }
            for request in [of("", ""), of(&made[0], ""), of("", &id)] {
                let listed = driver.controller.list_snapshots(request).await;
                assert_code(listed, Code::Internal, advice);
            }
            let get = csi::GetSnapshotRequest { snapshot_id: made[0].clone(), ..Default::default() };
            assert_code(driver.controller.get_snapshot(get).await, Code::Internal, advice);
            assert_code(driver.delete_snapshot(&made[0]).await, Code::Internal, advice);
            let listed = driver.controller.list_snapshots(of(&made[1], "")).await.unwrap().into_inner();
            assert_eq!(listed.entries.len(), 1, "the others are found by their ids");
        }
        fs::write(&stored, &whole).unwrap();
    }
    let listed = driver.controller.list_snapshots(of("", "")).await.unwrap().into_inner();
    assert_eq!(listed.entries.len(), 2);
    for snapshot in &made {
        driver.delete_snapshot(snapshot).await.unwrap();
    }
}

/// Whatever needs the data says that it is missing, and nothing counts as absent or unstaged for it.
#[tokio::test(flavor = "multi_thread")]
async fn missing_data_is_named() {
    needs!();
    let mut driver = Driver::image().await;
    for capability in [mounted("ext4"), block(Mode::SingleNodeMultiWriter)] {
        let id = driver.create(volume("v", 16 * MIB, &capability)).await.unwrap().volume_id;
        driver.attach(&id, &capability).await.unwrap();
        let image = driver.volume_folder(&id).join("disk.img");
        let saved = driver.path("saved.img");
        fs::rename(&image, &saved).unwrap();
        let copy = csi::CreateVolumeRequest {
            volume_content_source: from_volume(&id),
            ..volume("copy", 16 * MIB, &capability)
        };
        for (what, answer) in [
            ("stage", driver.stage(&id, &capability).await),
            ("publish", driver.publish(&id, "pod", &capability).await),
            ("node expand", driver.node_expand(&id, "pod").await.map(drop)),
            ("expand", driver.expand(&id, 32 * MIB).await.map(drop)),
            ("snapshot", driver.snapshot("s", &id).await.map(drop)),
            ("clone", driver.create(copy).await.map(drop)),
        ] {
            let status = answer.unwrap_err();
            assert_eq!(status.code(), Code::Internal, "{what}: {status}");
            let said = format!("the data is missing: there is no {}; put it back", image.display());
            assert!(status.message().contains(&said), "{what}: {status}");
        }
        fs::rename(&saved, &image).unwrap();
        driver.stage(&id, &capability).await.unwrap();
        driver.publish(&id, "pod", &capability).await.unwrap();
        driver.take_down(&id, "pod").await;
    }
    driver.assert_nothing_left("pool").await;
}
