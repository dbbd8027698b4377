//! Paths that a caller must not get the driver to mount on or to delete.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use holdfast_proto::csi::{self, VolumeCapability, volume_capability::access_mode::Mode};
use tonic::{Code, Status};

use crate::harness::{Driver, MIB, assert_code, block, entries, mounted, mounted_as, needs, volume};

async fn publish_at(
    driver: &mut Driver,
    id: &str,
    target_path: &str,
    staging_target_path: &str,
    capability: &VolumeCapability,
) -> Result<(), Status> {
    let request = csi::NodePublishVolumeRequest {
        volume_id: id.to_owned(),
        staging_target_path: staging_target_path.to_owned(),
        target_path: target_path.to_owned(),
        volume_capability: Some(capability.clone()),
        ..Default::default()
    };
    driver.node.node_publish_volume(request).await.map(drop)
}

async fn stage_at(
    driver: &mut Driver,
    id: &str,
    path: &str,
    capability: &VolumeCapability,
) -> Result<(), Status> {
    let request = csi::NodeStageVolumeRequest {
        volume_id: id.to_owned(),
        staging_target_path: path.to_owned(),
        volume_capability: Some(capability.clone()),
        ..Default::default()
    };
    driver.node.node_stage_volume(request).await.map(drop)
}

/// Paths that are wrong wherever they stand, and what is said of them.
fn never(driver: &Driver) -> Vec<(String, Code, &'static str)> {
    let link = driver.path("link");
    symlink(driver.path("real"), &link).unwrap();
    fs::create_dir(driver.path("real")).unwrap();
    fs::write(driver.path("file"), "").unwrap();
    let invalid = |path: String, said| (path, Code::InvalidArgument, said);
    vec![
        invalid(String::new(), "is required"),
        invalid("/".to_owned(), ""),
        invalid("relative/path".to_owned(), "absolute"),
        invalid(format!("{}/../escaped", driver.path("real")), ".."),
        invalid(driver.path("nul\0byte"), "null byte"),
        invalid(format!("{link}/target"), "symbolic link"),
        invalid(format!("{}/target", driver.path("file")), "not a usable path"),
        invalid(format!("/{}", "x/".repeat(1 << 19)), ""),
        invalid(driver.path("pool"), "pool \"default\""),
        invalid(driver.path("pool/new"), "pool \"default\""),
        invalid(driver.path("pool/volumes/default.v/new"), "pool \"default\""),
        invalid(driver.path("pool/./volumes//default.v/new/"), "pool \"default\""),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn are_refused_and_nothing_is_mounted() {
    needs!();
    for capability in [mounted("ext4"), block(Mode::SingleNodeMultiWriter)] {
        let mut driver = Driver::image().await;
        let id = driver.create(volume("v", 64 * MIB, &capability)).await.unwrap().volume_id;
        driver.attach(&id, &capability).await.unwrap();
        let never = never(&driver);
        for (path, code, said) in &never {
            assert_code(stage_at(&mut driver, &id, path, &capability).await, *code, said);
        }
        assert_eq!((driver.scratch.mounts().len(), driver.scratch.loops().len()), (0, 0));
        driver.stage(&id, &capability).await.unwrap();
        let mounts = driver.scratch.mounts();
        let staging = driver.staging(&id);
        for (path, code, said) in &never {
            let answer = publish_at(&mut driver, &id, path, &staging, &capability).await;
            assert_code(answer, *code, said);
        }
        let around = driver.scratch.path().to_str().unwrap().to_owned();
        for path in [&staging, &format!("{staging}/"), &format!("{staging}/below"), &around] {
            let answer = publish_at(&mut driver, &id, path, &staging, &capability).await;
            assert_code(answer, Code::InvalidArgument, "lie in one another");
        }
        assert_eq!(driver.scratch.mounts(), mounts);
        assert_eq!(entries(&driver.scratch.path().join("real")), Vec::<String>::new());
        for path in ["", "relative", "/", &driver.path("a/../b"), &driver.path("link/x")] {
            let unpublish =
                csi::NodeUnpublishVolumeRequest { volume_id: id.clone(), target_path: path.to_owned() };
            assert_code(driver.node.node_unpublish_volume(unpublish).await, Code::InvalidArgument, "");
            let unstage =
                csi::NodeUnstageVolumeRequest { volume_id: id.clone(), staging_target_path: path.to_owned() };
            assert_code(driver.node.node_unstage_volume(unstage).await, Code::InvalidArgument, "");
        }
        assert_eq!(driver.scratch.mounts(), mounts, "nothing was taken away either");
        driver.publish(&id, "pod", &capability).await.unwrap();
        driver.take_down(&id, "pod").await;
        driver.assert_nothing_left("pool").await;
    }
}

/// Unpublish takes away the empty folder that was a target; the pool's own stay.
#[tokio::test(flavor = "multi_thread")]
async fn the_pools_empty_folders_stay() {
    needs!();
    let mut driver = Driver::image().await;
    let id = driver.create(volume("v", 64 * MIB, &mounted("ext4"))).await.unwrap().volume_id;
    for name in ["trash", "snapshots", "groups"] {
        let path = driver.scratch.path().join("pool").join(name);
        assert_eq!(entries(&path), Vec::<String>::new());
        let answer = driver.unpublish(&id, &format!("pool/{name}")).await;
        assert_code(answer, Code::InvalidArgument, "is in pool \"default\"");
        assert!(path.is_dir());
    }
    driver.delete(&id).await.unwrap();
    driver.assert_nothing_left("pool").await;
}

/// What is in a folder would be hidden by the mount, and unpublish could never remove it.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_files_is_not_hidden() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    let id = driver.bring_up("v", 64 * MIB, &capability, "pod").await;
    fs::create_dir(driver.path("etc")).unwrap();
    fs::write(driver.path("etc/passwd"), "root").unwrap();
    let answer = driver.publish(&id, "etc", &capability).await;
    assert_code(answer, Code::FailedPrecondition, "it has \"passwd\"");
    assert_eq!(fs::read_to_string(driver.path("etc/passwd")).unwrap(), "root");
    // Where another volume is.
    let other = driver.bring_up("other", 64 * MIB, &capability, "pod-2").await;
    let answer = driver.publish(&id, "pod-2", &capability).await;
    assert_code(answer, Code::FailedPrecondition, "not volume default.v is mounted");
    assert_code(driver.unpublish(&id, "pod-2").await, Code::FailedPrecondition, "left as it is");
    driver.take_down(&id, "pod").await;
    driver.take_down(&other, "pod-2").await;
    driver.assert_nothing_left("pool").await;
}

/// However a path is spelled, what is there is known to the journal once.
#[tokio::test(flavor = "multi_thread")]
async fn one_place_has_one_name() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted_as("ext4", &[], Mode::SingleNodeSingleWriter);
    let id = driver.bring_up("v", 64 * MIB, &capability, "pod").await;
    let mounts = driver.scratch.mounts();
    let staging = driver.staging(&id);
    for spelled in ["pod/", "./pod", ".//pod", "pod/."] {
        let target = driver.path(spelled);
        publish_at(&mut driver, &id, &target, &format!("{staging}/"), &capability).await.unwrap();
        stage_at(&mut driver, &id, &format!("{staging}//"), &capability).await.unwrap();
    }
    assert_eq!(driver.scratch.mounts(), mounts);
    driver.unpublish(&id, "./pod/").await.unwrap();
    let unstage =
        csi::NodeUnstageVolumeRequest { volume_id: id.clone(), staging_target_path: format!("{staging}/.") };
    driver.node.node_unstage_volume(unstage).await.unwrap();
    assert!(!driver.volume_folder(&id).join("node.json").exists(), "the journal has something left to say");
    driver.detach(&id).await.unwrap();
    driver.delete(&id).await.unwrap();
    driver.assert_nothing_left("pool").await;
}

/// Swaps `parent` with a link to `outside` and back, until told to stop.
fn swap(parent: &Path, outside: &Path, stop: &AtomicBool) -> u64 {
    let aside = parent.with_extension("aside");
    let link = parent.with_extension("link");
    let mut swaps = 0;
    while !stop.load(Ordering::Relaxed) {
        fs::rename(parent, &aside).unwrap();
        symlink(outside, &link).unwrap();
        fs::rename(&link, parent).unwrap();
        fs::remove_file(parent).unwrap();
        fs::rename(&aside, parent).unwrap();
        swaps += 1;
    }
    swaps
}

/// A workload that owns the folder above its target swaps it with a link to another place,
/// while the driver publishes and unpublishes there. Calls may fail; outside of the folder
/// nothing is mounted, made or removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_parent_leads_nowhere_else() {
    needs!();
    for capability in [mounted("ext4"), block(Mode::SingleNodeMultiWriter)] {
        let mut driver = Driver::image().await;
        let id = driver.create(volume("v", 64 * MIB, &capability)).await.unwrap().volume_id;
        driver.attach(&id, &capability).await.unwrap();
        driver.stage(&id, &capability).await.unwrap();
        let (parent, outside) = (driver.scratch.path().join("pods"), driver.scratch.path().join("outside"));
        // What publish would mount on and unpublish would remove, if it got there.
        for folder in [&parent, &outside, &outside.join("target")] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(outside.join("empty-file"), "").unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, from, to) = (stop.clone(), parent.clone(), outside.clone());
        let swapping = tokio::task::spawn_blocking(move || swap(&from, &to, &seen));
        let (mut done, mut refused) = (0, 0);
        for round in 0..300 {
            let name = ["pods/target", "pods/empty-file", "pods/new"][round % 3];
            for answer in [driver.publish(&id, name, &capability).await, driver.unpublish(&id, name).await] {
                match answer {
                    Ok(()) => done += 1,
                    Err(status) => {
                        let expected = [Code::InvalidArgument, Code::FailedPrecondition];
                        assert!(expected.contains(&status.code()), "{status}");
                        refused += 1;
                    }
                }
            }
            assert!(!driver.scratch.mounts().iter().any(|point| point.starts_with(&outside)));
        }
        stop.store(true, Ordering::Relaxed);
        let swaps = swapping.await.unwrap();
        println!("{swaps} swaps, {done} calls done, {refused} refused");
        let mut left = entries(&outside);
        left.sort();
        assert_eq!(left, ["empty-file", "target"]);
        assert_eq!(entries(&outside.join("target")), Vec::<String>::new());
        for name in ["pods/target", "pods/empty-file", "pods/new"] {
            driver.unpublish(&id, name).await.unwrap();
        }
        driver.unstage(&id).await.unwrap();
        driver.detach(&id).await.unwrap();
        driver.delete(&id).await.unwrap();
        driver.assert_nothing_left("pool").await;
    }
}
