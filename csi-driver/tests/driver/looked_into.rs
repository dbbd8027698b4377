//! Snapshots that a person looks into, with the system's own tools beside the driver.

use std::path::Path;

use holdfast_proto::csi::volume_capability::access_mode::Mode;
use tonic::Code;

use crate::{
    harness::{MIB, assert_code, block, command, needs, volume},
    snapshots::{filled, from_snapshot, pool_on},
};

fn attach(image: &Path, how: &[&str]) -> String {
    let args = [how, &["--find", "--show", image.to_str().unwrap()]].concat();
    command("losetup", &args).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn stay_while_they_are_attached() {
    needs!("xfs");
    let mut driver = pool_on("xfs").await;
    let capability = block(Mode::SingleNodeMultiWriter);
    let id = driver.create(volume("v", 16 * MIB, &capability)).await.unwrap().volume_id;
    let snapshot = driver.snapshot("s", &id).await.unwrap().snapshot_id;
    let group = driver.group_snapshot("g", &[&id]).await.unwrap();
    let image = |snapshot: &str| driver.scratch.path().join("pool/snapshots").join(snapshot).join("disk.img");
    let (alone, member) = (image(&snapshot), image(&group.snapshots[0].snapshot_id));

    let device = attach(&member, &["--read-only"]);
    assert_code(driver.delete_group(&group).await, Code::FailedPrecondition, "mounted or attached");
    command("losetup", &["--detach", &device]).unwrap();
    driver.delete_group(&group).await.unwrap();

    // Who only reads changes nothing.
    let device = attach(&alone, &["--read-only"]);
    assert_code(driver.delete_snapshot(&snapshot).await, Code::FailedPrecondition, "mounted or attached");
    let restored = filled("a", 16 * MIB, &capability, from_snapshot(&snapshot));
    let restored = driver.create(restored).await.unwrap().volume_id;
    command("losetup", &["--detach", &device]).unwrap();

    let device = attach(&alone, &[]);
    let refused = driver.create(filled("b", 16 * MIB, &capability, from_snapshot(&snapshot))).await;
    assert_code(refused, Code::FailedPrecondition, "losetup --detach");
    command("losetup", &["--detach", &device]).unwrap();
    driver.delete_snapshot(&snapshot).await.unwrap();
    for id in [restored, id] {
        driver.delete(&id).await.unwrap();
    }
}
