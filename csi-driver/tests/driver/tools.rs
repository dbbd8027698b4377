//! Outside tools that fail or never end.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use holdfast_csi_driver::{Config, PoolConfig};
use holdfast_proto::csi;
use tonic::Code;

use crate::harness::{Driver, MIB, NODE, Scratch, assert_code, mounted, needs, until, volume};

/// Puts a script before the system's tools.
pub(crate) fn fake(folder: &Path, tool: &str, script: &str) {
    let path = folder.join("tools").join(tool);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A driver that finds the scripts in `tools` first.
async fn with_tools(timeout: Option<Duration>) -> Driver {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path().join("tools")).unwrap();
    let pool = PoolConfig::image("default", scratch.path().join("pool"));
    let mut config = Config::new(NODE, scratch.path().join("csi.sock"), vec![pool]);
    let mut path = scratch.path().join("tools").into_os_string();
    path.push(":/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin");
    config.tool_path = Some(path);
    config.tool_timeout = timeout;
    Driver::start(scratch, config).await
}

fn stored(driver: &Driver, id: &str) -> String {
    fs::read_to_string(driver.volume_folder(id).join("volume.json")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn mkfs_that_fails_says_why() {
    needs!("xfs");
    for (fs_type, size) in [("ext4", 64 * MIB), ("xfs", 300 * MIB)] {
        let mut driver = with_tools(None).await;
        let capability = mounted(fs_type);
        let tool = format!("mkfs.{fs_type}");
        // It wrote something before it failed, as one that ran out of something would.
        let script =
            "for last; do :; done; echo half >\"$last\"; echo first >&2; echo 'the disk sings' >&2; exit 1";
        fake(driver.scratch.path(), &tool, script);
        let id = driver.create(volume("v", size, &capability)).await.unwrap().volume_id;
        driver.attach(&id, &capability).await.unwrap();
        for _ in 0..2 {
            assert_code(driver.stage(&id, &capability).await, Code::Internal, "first; the disk sings");
            assert!(!stored(&driver, &id).contains("\"done\""));
            assert_eq!((driver.scratch.loops().len(), driver.scratch.mounts().len()), (0, 0));
        }
        driver.restart().await;
        fs::remove_file(driver.scratch.path().join("tools").join(&tool)).unwrap();
        driver.stage(&id, &capability).await.unwrap();
        assert!(stored(&driver, &id).contains("\"done\""));
        driver.unstage(&id).await.unwrap();
        driver.detach(&id).await.unwrap();
        driver.delete(&id).await.unwrap();
        driver.assert_nothing_left("pool").await;
    }
}

/// blkid that cannot tell what is on a device is no proof that it is empty.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_formatted_on_a_doubt() {
    needs!();
    let mut driver = with_tools(None).await;
    let capability = mounted("ext4");
    let id = driver.create(volume("v", 64 * MIB, &capability)).await.unwrap().volume_id;
    driver.attach(&id, &capability).await.unwrap();
    fake(driver.scratch.path(), "mkfs.ext4", "touch \"$(dirname \"$0\")/formatted\"; exit 1");
    for script in ["echo no >&2; exit 1", "exit 8", "kill -9 $$"] {
        fake(driver.scratch.path(), "blkid", script);
        assert_code(driver.stage(&id, &capability).await, Code::Internal, "blkid");
    }
    assert!(!driver.scratch.path().join("tools/formatted").exists());
    assert!(stored(&driver, &id).contains("\"never\""));
    assert_eq!(driver.scratch.loops(), Vec::<String>::new());
}

/// One that hangs is killed with everything it started; meanwhile its volume answers ABORTED
/// and nobody else waits.
#[tokio::test(flavor = "multi_thread")]
async fn mkfs_that_never_ends() {
    needs!();
    let mut driver = with_tools(Some(Duration::from_secs(4))).await;
    let capability = mounted("ext4");
    let (pid, tool) = (driver.scratch.path().join("pid"), driver.scratch.path().join("tools/mkfs.ext4"));
    for name in ["hangs", "other"] {
        let id = driver.create(volume(name, 64 * MIB, &capability)).await.unwrap().volume_id;
        driver.attach(&id, &capability).await.unwrap();
    }
    driver.stage("default.other", &capability).await.unwrap();
    // The one it starts holds the device open, too.
    let script = format!("sleep 600 & echo $! >'{0}.new'; mv '{0}.new' '{0}'; wait", pid.display());
    fake(driver.scratch.path(), "mkfs.ext4", &script);
    let started = Instant::now();
    let mut node = driver.node.clone();
    fs::create_dir(driver.staging("default.hangs")).unwrap();
    let request = csi::NodeStageVolumeRequest {
        volume_id: "default.hangs".to_owned(),
        staging_target_path: driver.staging("default.hangs"),
        volume_capability: Some(capability.clone()),
        ..Default::default()
    };
    let hung = tokio::spawn(async move { node.node_stage_volume(request).await });
    until("mkfs runs", || pid.exists()).await;

    assert_code(driver.stage("default.hangs", &capability).await, Code::Aborted, "still running");
    assert_code(driver.detach("default.hangs").await, Code::Aborted, "still running");
    assert_code(driver.delete("default.hangs").await, Code::Aborted, "still running");
    driver.publish("default.other", "pod", &capability).await.unwrap();
    driver.take_down("default.other", "pod").await;
    let listed = driver.controller.list_volumes(csi::ListVolumesRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().entries.len(), 1);
    assert!(!hung.is_finished(), "the others were served while it hung");

    assert_code(hung.await.unwrap(), Code::Internal, "was killed after 4 s");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let proc = format!("/proc/{}/comm", fs::read_to_string(&pid).unwrap().trim());
    until("what it started is gone", || !fs::read_to_string(&proc).is_ok_and(|name| name.trim() == "sleep"))
        .await;
    until("the device is given back", || driver.scratch.loops().is_empty()).await;
    assert!(stored(&driver, "default.hangs").contains("\"started\""));
    fs::remove_file(tool).unwrap();
    driver.restart().await;
    driver.stage("default.hangs", &capability).await.unwrap();
    driver.unstage("default.hangs").await.unwrap();
    driver.detach("default.hangs").await.unwrap();
    driver.delete("default.hangs").await.unwrap();
    driver.assert_nothing_left("pool").await;
}

/// The driver ends while a tool hangs: it waits for it, so that its successor finds a volume
/// on which nothing works any more.
#[tokio::test(flavor = "multi_thread")]
async fn the_driver_ends_while_mkfs_hangs() {
    needs!();
    let mut driver = with_tools(Some(Duration::from_secs(3))).await;
    let capability = mounted("ext4");
    let id = driver.create(volume("v", 64 * MIB, &capability)).await.unwrap().volume_id;
    driver.attach(&id, &capability).await.unwrap();
    let marker = driver.scratch.path().join("runs");
    fake(driver.scratch.path(), "mkfs.ext4", &format!("echo >'{}'; exec sleep 600", marker.display()));
    let mut node = driver.node.clone();
    fs::create_dir(driver.staging(&id)).unwrap();
    let request = csi::NodeStageVolumeRequest {
        volume_id: id.clone(),
        staging_target_path: driver.staging(&id),
        volume_capability: Some(capability.clone()),
        ..Default::default()
    };
    let hung = tokio::spawn(async move { node.node_stage_volume(request).await });
    until("mkfs runs", || marker.exists()).await;
    driver.end().await;
    assert_eq!(driver.scratch.loops(), Vec::<String>::new());
    assert!(hung.await.unwrap().is_err());
    fs::remove_file(driver.scratch.path().join("tools/mkfs.ext4")).unwrap();
    driver.restart().await;
    driver.stage(&id, &capability).await.unwrap();
    driver.unstage(&id).await.unwrap();
}
