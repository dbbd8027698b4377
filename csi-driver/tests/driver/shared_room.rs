//! The room that is kept for what an image shares with its snapshots and clones.

use std::{fs::File, os::unix::fs::FileExt as _};

use holdfast_csi_driver::PoolConfig;
use holdfast_proto::csi::{self, volume_capability::access_mode::Mode};
use tonic::Code;

use crate::harness::{Driver, MIB, Scratch, assert_code, block, command, filesystem_of, needs, volume};

/// Writes so many mebibytes from the beginning.
fn write(driver: &Driver, mebibytes: u64, byte: u8) {
    let device = File::options().write(true).open(driver.path("pod")).unwrap();
    for at in 0..mebibytes {
        device.write_all_at(&[byte; MIB as usize], at << 20).unwrap();
    }
    device.sync_all().unwrap();
    // Its blocks have to have their places before anybody asks whose they are.
    command("sync", &["-f", driver.scratch.path().join("disk").to_str().unwrap()]).unwrap();
}

async fn left(driver: &mut Driver) -> i64 {
    // One that was just started has measured nothing before.
    driver.restart().await;
    let asked = csi::GetCapacityRequest::default();
    driver.controller.get_capacity(asked).await.unwrap().into_inner().available_capacity
}

/// To change what is shared takes the room that was kept for it, and no more.
async fn kept_once(fs: &str) {
    let scratch = Scratch::new();
    let disk = filesystem_of(&scratch, fs, 1024 * MIB);
    std::os::unix::fs::symlink(&disk, scratch.path().join("disk")).unwrap();
    let mut driver = Driver::with(scratch, vec![PoolConfig::image("default", disk.join("pool"))]).await;
    let capability = block(Mode::SingleNodeMultiWriter);
    let id = driver.bring_up("v", 300 * MIB, &capability, "pod").await;
    write(&driver, 200, 1);
    let alone = left(&mut driver).await;
    driver.snapshot("s", &id).await.unwrap();
    let shared = left(&mut driver).await;
    let near = |a: i64, b: i64| (a - b).abs() < 24 * MIB;
    assert!(near(shared, alone - 200 * MIB), "{fs}: {alone} before the snapshot, {shared} after it");
    write(&driver, 100, 2);
    let half = left(&mut driver).await;
    assert!(near(half, shared), "{fs}: {shared} with all shared, {half} with half of it");
    write(&driver, 200, 3);
    let none = left(&mut driver).await;
    assert!(near(none, shared), "{fs}: {shared} with all shared, {none} with nothing");
    let larger = driver.create(volume("larger", none + 32 * MIB, &capability)).await;
    assert_code(larger, Code::ResourceExhausted, "is full");
    driver.create(volume("fits", none - 32 * MIB, &capability)).await.unwrap();
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_xfs() {
    needs!("xfs");
    kept_once("xfs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_btrfs() {
    needs!("btrfs");
    kept_once("btrfs").await;
}
