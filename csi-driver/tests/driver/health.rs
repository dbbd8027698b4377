//! Volumes that are not well are reported as abnormal, and only those.

use std::{fs, path::PathBuf};

use holdfast_csi_driver::PoolConfig;
use holdfast_proto::csi::{self, VolumeCondition, volume_capability::access_mode::Mode};
use holdfast_test_needs::cannot_run;
use prometheus_client::{encoding::text::encode, registry::Registry};
use tonic::{Code, Status};

use crate::harness::{
    Driver, MIB, Scratch, assert_code, block, command, filesystem, filesystem_of, mounted, mounted_as, needs,
    until, volume,
};

impl Driver {
    async fn condition_at(&mut self, id: &str, target: &str) -> Result<(VolumeCondition, usize), Status> {
        let request = csi::NodeGetVolumeStatsRequest {
            volume_id: id.to_owned(),
            volume_path: self.path(target),
            ..Default::default()
        };
        let stats = self.node.node_get_volume_stats(request).await?.into_inner();
        Ok((stats.volume_condition.unwrap(), stats.usage.len()))
    }

    /// As ControllerGetVolume and ListVolumes have it, which have to agree.
    async fn condition(&mut self, id: &str) -> VolumeCondition {
        let request = csi::ControllerGetVolumeRequest { volume_id: id.to_owned() };
        let got = self.controller.controller_get_volume(request).await.unwrap().into_inner();
        let got = got.status.unwrap().volume_condition.unwrap();
        let list =
            self.controller.list_volumes(csi::ListVolumesRequest::default()).await.unwrap().into_inner();
        let listed = list.entries.into_iter().find(|e| e.volume.as_ref().unwrap().volume_id == id).unwrap();
        assert_eq!(listed.status.unwrap().volume_condition.unwrap(), got);
        got
    }

    async fn assert_healthy(&mut self, id: &str, target: &str) {
        let (at, usage) = self.condition_at(id, target).await.unwrap();
        assert!(!at.abnormal && at.message == "healthy" && usage > 0, "{at:?}, {usage} usages");
        let condition = self.condition(id).await;
        assert!(!condition.abnormal, "{condition:?}");
    }

    /// All that can see it say that it is abnormal, and why. Answers how much usage came with it.
    async fn assert_abnormal(&mut self, id: &str, target: &str, said: &str) -> usize {
        let (at, usage) = self.condition_at(id, target).await.unwrap();
        for condition in [at, self.condition(id).await] {
            assert_said(&condition, said);
        }
        usage
    }
}

#[track_caller]
fn assert_said(condition: &VolumeCondition, said: &str) {
    assert!(condition.abnormal, "{condition:?}");
    assert!(condition.message.contains(said), "{:?} does not say {said:?}", condition.message);
}

fn device_at(path: &str) -> String {
    command("findmnt", &["-n", "-o", "SOURCE", "--mountpoint", path]).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_healthy_are_healthy() {
    needs!("btrfs", "xfs");
    let scratch = Scratch::new();
    let disk = filesystem(&scratch, "btrfs");
    let pools = vec![
        PoolConfig::image("default", scratch.path().join("pool")),
        PoolConfig::directory("dirs", disk.join("pool")),
    ];
    let mut driver = Driver::with(scratch, pools).await;
    let dirs = crate::harness::parameters(&[("pool", "dirs")]);
    for (capability, parameters) in [
        (mounted("ext4"), Default::default()),
        (mounted("xfs"), Default::default()),
        (block(Mode::SingleNodeMultiWriter), Default::default()),
        (mounted(""), dirs),
        // Read-only by request is no damage.
        (mounted_as("ext4", &[], Mode::SingleNodeReaderOnly), Default::default()),
        (mounted_as("ext4", &["noatime,ro"], Mode::SingleNodeMultiWriter), Default::default()),
    ] {
        let request = csi::CreateVolumeRequest { parameters, ..volume("v", 300 * MIB, &capability) };
        let id = driver.create(request).await.unwrap().volume_id;
        assert!(!driver.condition(&id).await.abnormal);
        driver.attach(&id, &capability).await.unwrap();
        driver.stage(&id, &capability).await.unwrap();
        driver.publish(&id, "pod", &capability).await.unwrap();
        driver.assert_healthy(&id, "pod").await;
        driver.take_down(&id, "pod").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_damaged_files() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("");
    let well = driver.create(volume("well", 16 * MIB, &capability)).await.unwrap().volume_id;
    let id = driver.bring_up("v", 16 * MIB, &capability, "pod").await;
    let json = driver.volume_folder(&id).join("volume.json");
    let whole = fs::read(&json).unwrap();
    fs::write(&json, "{").unwrap();
    assert_eq!(driver.assert_abnormal(&id, "pod", "volume.json is damaged").await, 0);
    fs::write(&json, whole).unwrap();
    driver.assert_healthy(&id, "pod").await;

    let image = driver.volume_folder(&id).join("disk.img");
    fs::rename(&image, driver.path("saved.img")).unwrap();
    driver.assert_abnormal(&id, "pod", "its data is missing").await;
    fs::write(&image, "other").unwrap();
    let (at, _) = driver.condition_at(&id, "pod").await.unwrap();
    assert_said(&at, "was cut off");
    assert_said(&at, "is not on this volume's data");
    fs::rename(driver.path("saved.img"), &image).unwrap();
    driver.assert_healthy(&id, "pod").await;
    fs::remove_file(&image).unwrap();
    driver.assert_abnormal(&id, "pod", "was deleted").await;
    assert!(!driver.condition(&well).await.abnormal, "the others are not ill with it");
    // It can be taken away all the same; while it is mounted it is not deleted.
    driver.unpublish(&id, "pod").await.unwrap();
    assert_eq!(driver.scratch.loops().len(), 1, "the deleted image is attached still");
    driver.unstage(&id).await.unwrap();
    assert_eq!(driver.scratch.loops(), Vec::<String>::new());
    driver.detach(&id).await.unwrap();
    driver.delete(&id).await.unwrap();
    driver.delete(&well).await.unwrap();
    driver.assert_nothing_left("pool").await;
}

/// Whatever became of what the driver wrote down, pods end.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_volumes_leave_their_pods() {
    needs!();
    for capability in [mounted("ext4"), block(Mode::SingleNodeMultiWriter)] {
        let mut driver = Driver::image().await;
        let id = driver.bring_up("v", 16 * MIB, &capability, "pod").await;
        let json = driver.volume_folder(&id).join("volume.json");
        let whole = fs::read(&json).unwrap();
        fs::write(&json, "{").unwrap();
        // What nobody can be sure of is not made or deleted.
        assert_code(driver.delete(&id).await, Code::Internal, "damaged");
        driver.unpublish(&id, "pod").await.unwrap();
        driver.unstage(&id).await.unwrap();
        assert_eq!(driver.scratch.mounts(), Vec::<PathBuf>::new());
        assert_eq!(driver.scratch.loops(), Vec::<String>::new());
        fs::write(&json, whole).unwrap();
        driver.detach(&id).await.unwrap();
        driver.delete(&id).await.unwrap();
        driver.assert_nothing_left("pool").await;
    }
}

/// The image is gone while its device, which nothing mounts, is attached: in use all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_image_that_is_attached() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = block(Mode::SingleNodeMultiWriter);
    let id = driver.create(volume("v", 16 * MIB, &capability)).await.unwrap().volume_id;
    driver.attach(&id, &capability).await.unwrap();
    driver.stage(&id, &capability).await.unwrap();
    fs::remove_file(driver.volume_folder(&id).join("disk.img")).unwrap();
    driver.detach(&id).await.unwrap();
    assert_code(driver.delete(&id).await, Code::FailedPrecondition, "still mounted or attached");
    driver.unstage(&id).await.unwrap();
    driver.delete(&id).await.unwrap();
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_writes_any_more() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    let id = driver.bring_up("v", 32 * MIB, &capability, "pod").await;
    let (pod, staging) = (driver.path("pod"), driver.staging(&id));
    command("mount", &["-o", "remount,ro", &staging]).unwrap();
    assert!(driver.assert_abnormal(&id, "pod", "takes no writes any more (ro)").await > 0, "usage is known");
    command("mount", &["-o", "remount,rw", &staging]).unwrap();
    driver.assert_healthy(&id, "pod").await;
    // One mount of it alone.
    command("mount", &["-o", "remount,bind,ro", &pod]).unwrap();
    let (at, _) = driver.condition_at(&id, "pod").await.unwrap();
    assert_said(&at, "mounted read-only at");
    command("mount", &["-o", "remount,bind,rw", &pod]).unwrap();
    driver.assert_healthy(&id, "pod").await;

    // An error as the file system notes it, with what it does then.
    let device = device_at(&staging);
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", device.trim_start_matches("/dev/"));
    if fs::write(&trigger, "test").is_err() {
        cannot_run("the kernel has no trigger_fs_error for ext4");
    } else {
        let count = trigger.replace("trigger_fs_error", "errors_count");
        // The kernel writes it down a moment later.
        until("the error is noted", || fs::read_to_string(&count).unwrap().trim() == "1").await;
        driver.assert_abnormal(&id, "pod", "ext4 noted 1 errors").await;
        command("mount", &["-o", "remount,errors=remount-ro", &staging]).unwrap();
        fs::write(&trigger, "again").unwrap();
        assert!(fs::write(driver.path("pod/file"), "x").is_err());
        driver.assert_abnormal(&id, "pod", "takes no writes any more").await;
    }
    driver.take_down(&id, "pod").await;
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_xfs_that_shut_down() {
    needs!("xfs");
    let mut driver = Driver::image().await;
    let capability = mounted("xfs");
    let id = driver.bring_up("v", 300 * MIB, &capability, "pod").await;
    driver.assert_healthy(&id, "pod").await;
    command("xfs_io", &["-x", "-c", "shutdown", &driver.path("pod")]).unwrap();
    assert!(fs::read_dir(driver.path("pod")).is_err(), "it is shut down");
    assert_eq!(driver.assert_abnormal(&id, "pod", "answers with errors").await, 0);
    driver.take_down(&id, "pod").await;
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_btrfs_finds_changed() {
    needs!("btrfs");
    let mut driver = Driver::image().await;
    let capability = mounted("btrfs");
    let id = driver.bring_up("v", 256 * MIB, &capability, "pod").await;
    let pattern = b"a pattern that is nowhere else ".repeat(4096);
    let file = fs::File::create(driver.path("pod/file")).unwrap();
    std::io::Write::write_all(&mut &file, &pattern).unwrap();
    file.sync_all().unwrap();
    drop(file);
    driver.unpublish(&id, "pod").await.unwrap();
    driver.unstage(&id).await.unwrap();
    let image = driver.volume_folder(&id).join("disk.img");
    let mut bytes = fs::read(&image).unwrap();
    let at = bytes.windows(64).position(|window| window == &pattern[..64]).unwrap();
    bytes[at] ^= 0xff;
    fs::write(&image, bytes).unwrap();
    driver.stage(&id, &capability).await.unwrap();
    driver.publish(&id, "pod", &capability).await.unwrap();
    driver.assert_healthy(&id, "pod").await;
    assert!(fs::read(driver.path("pod/file")).is_err(), "the checksum is wrong");
    driver.assert_abnormal(&id, "pod", "corruption_errs").await;
    driver.take_down(&id, "pod").await;
}

/// Mounts and devices that someone took away under the volume.
#[tokio::test(flavor = "multi_thread")]
async fn what_someone_else_took_away() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("");
    let id = driver.bring_up("v", 16 * MIB, &capability, "pod").await;
    command("umount", &[&driver.staging(&id)]).unwrap();
    driver.assert_abnormal(&id, "pod", "no longer mounted at").await;
    driver.take_down(&id, "pod").await;

    let capability = block(Mode::SingleNodeMultiWriter);
    let id = driver.bring_up("raw", 16 * MIB, &capability, "pod").await;
    driver.assert_healthy(&id, "pod").await;
    let [device] = driver.scratch.loops().try_into().unwrap();
    command("losetup", &["-d", &format!("/dev/{device}")]).unwrap();
    until("the device is gone", || driver.scratch.loops().is_empty()).await;
    driver.assert_abnormal(&id, "pod", "its loop device is gone").await;
    driver.take_down(&id, "pod").await;
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_nearly_full_and_one_that_vanishes() {
    needs!();
    let scratch = Scratch::new();
    let disk = scratch.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let disk = disk.to_str().unwrap().to_owned();
    command("mount", &["-t", "tmpfs", "-o", "size=64m", "none", &disk]).unwrap();
    let mut full = PoolConfig::image("default", format!("{disk}/pool"));
    full.limits.nearly_full_percent = 75;
    let other = PoolConfig::image("other", scratch.path().join("other"));
    let mut driver = Driver::with(scratch, vec![full, other]).await;
    let mut registry = Registry::default();
    driver.config.metrics.register(&mut registry);
    let figure = |name: &str, pool: &str| {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let line = format!("holdfast_pool_{name}{{pool=\"{pool}\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&line)).map(|value| value.parse::<i64>().unwrap())
    };
    let capability = mounted("");
    let id = driver.create(volume("v", 16 * MIB, &capability)).await.unwrap().volume_id;
    let elsewhere = driver
        .create(csi::CreateVolumeRequest {
            parameters: crate::harness::parameters(&[("pool", "other")]),
            ..volume("w", 16 * MIB, &capability)
        })
        .await
        .unwrap()
        .volume_id;
    until("the pools are measured", || {
        figure("healthy", "default") == Some(1) && figure("healthy", "other") == Some(1)
    })
    .await;
    assert_eq!(figure("size_bytes", "default"), Some(64 * MIB));
    assert!(figure("free_bytes", "default").unwrap() > 60 * MIB);

    fs::write(format!("{disk}/ballast"), vec![1; 47 * MIB as usize]).unwrap();
    assert!(!driver.condition(&id).await.abnormal, "74 %");
    fs::write(format!("{disk}/ballast"), vec![1; 48 * MIB as usize]).unwrap();
    assert_said(&driver.condition(&id).await, "is nearly full: 76 % of its file system are used, and 75 %");
    assert!(!driver.condition(&elsewhere).await.abnormal);
    driver.restart().await;
    until("it is measured again", || figure("healthy", "default") == Some(0)).await;
    assert_eq!(figure("promised_bytes", "default"), Some(16 * MIB));
    assert_eq!(figure("healthy", "other"), Some(1));
    fs::remove_file(format!("{disk}/ballast")).unwrap();
    assert!(!driver.condition(&id).await.abnormal);

    command("umount", &["-l", &disk]).unwrap();
    assert_said(&driver.condition(&id).await, "is not at");
    assert!(!driver.condition(&elsewhere).await.abnormal);
    driver.end().await;
}

/// Other data under the name of what is in use: what is in use can be taken away, is not copied in
/// the other's place, and what somebody else mounted stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_image_leaves_its_pod() {
    needs!();
    let mut driver = Driver::image().await;
    let id = driver.bring_up("v", 16 * MIB, &mounted("ext4"), "pod").await;
    let image = driver.volume_folder(&id).join("disk.img");
    fs::copy(&image, image.with_extension("new")).unwrap();
    fs::rename(image.with_extension("new"), &image).unwrap();
    assert_code(driver.snapshot("s", &id).await, Code::FailedPrecondition, "was replaced");
    let target = driver.path("pod");
    command("mount", &["-t", "tmpfs", "tmpfs", &target]).unwrap();
    assert_code(driver.unpublish(&id, "pod").await, Code::FailedPrecondition, "is not volume");
    command("umount", &[&target]).unwrap();
    driver.unpublish(&id, "pod").await.unwrap();
    driver.unstage(&id).await.unwrap();
    assert_eq!(driver.scratch.loops(), Vec::<String>::new());
    driver.detach(&id).await.unwrap();
    driver.delete(&id).await.unwrap();
    driver.assert_nothing_left("pool").await;
}

/// Data that somebody moved aside while it was in use, in the volume's folder or out of it, with a
/// copy in its place.
#[tokio::test(flavor = "multi_thread")]
async fn data_that_was_moved_aside() {
    needs!("btrfs");
    let raw = block(Mode::SingleNodeMultiWriter);
    for (backend, capability, data) in [
        ("image", mounted("ext4"), "disk.img"),
        ("image", mounted("btrfs"), "disk.img"),
        ("image", raw.clone(), "disk.img"),
        ("directory", mounted(""), "data"),
        ("btrfs", mounted(""), "data"),
    ] {
        for (out_of_it, forgotten) in [(false, false), (false, true), (true, false)] {
            if out_of_it && capability == raw {
                // Nothing of it is in the volume's folder, nor does its node keep it.
                continue;
            }
            println!("{backend}, {capability:?}, out of the folder {out_of_it}, journal lost {forgotten}");
            let scratch = Scratch::new();
            let disk = filesystem_of(&scratch, "btrfs", 1024 * MIB);
            let pool = match backend {
                "image" => PoolConfig::image("default", disk.join("pool")),
                "directory" => PoolConfig::directory("default", disk.join("pool")),
                _ => PoolConfig::btrfs("default", disk.join("pool")),
            };
            let mut driver = Driver::with(scratch, vec![pool]).await;
            let id = driver.bring_up("v", 256 * MIB, &capability, "pod").await;
            let folder = disk.join("pool/volumes").join(&id);
            let text = |path: PathBuf| path.to_str().unwrap().to_owned();
            let aside = if out_of_it { disk.join("aside") } else { folder.join("aside") };
            let (now, aside) = (text(folder.join(data)), text(aside));
            command("mv", &[&now, &aside]).unwrap();
            command("cp", &["-r", &aside, &now]).unwrap();
            if forgotten {
                fs::remove_file(folder.join("node.json")).unwrap();
            } else {
                assert_said(&driver.condition(&id).await, "was replaced");
                if capability != raw {
                    driver.assert_abnormal(&id, "pod", "was replaced").await;
                }
            }
            if backend != "directory" {
                assert_code(driver.snapshot("s", &id).await, Code::FailedPrecondition, "was replaced");
                let clone = csi::CreateVolumeRequest {
                    volume_content_source: Some(csi::VolumeContentSource {
                        r#type: Some(csi::volume_content_source::Type::Volume(
                            csi::volume_content_source::VolumeSource { volume_id: id.clone() },
                        )),
                    }),
                    ..volume("clone", 256 * MIB, &capability)
                };
                assert_code(driver.create(clone).await, Code::FailedPrecondition, "was replaced");
            }
            let elsewhere = driver.path("elsewhere");
            fs::create_dir(&elsewhere).unwrap();
            let request = csi::NodeStageVolumeRequest {
                volume_id: id.clone(),
                staging_target_path: elsewhere,
                volume_capability: Some(capability.clone()),
                ..Default::default()
            };
            let staged = driver.node.node_stage_volume(request).await;
            assert_code(staged, Code::FailedPrecondition, "unstage it");
            driver.detach(&id).await.unwrap();
            assert_code(driver.delete(&id).await, Code::FailedPrecondition, "still mounted or attached");
            driver.unpublish(&id, "pod").await.unwrap();
            assert_code(driver.delete(&id).await, Code::FailedPrecondition, "still mounted or attached");
            driver.unstage(&id).await.unwrap();
            assert_eq!(driver.scratch.mounts(), std::slice::from_ref(&disk));
            driver.delete(&id).await.unwrap();
            until("the trash is empty", || fs::read_dir(disk.join("pool/trash")).unwrap().next().is_none())
                .await;
            assert_eq!(fs::exists(&aside).unwrap(), out_of_it);
            assert_eq!(driver.scratch.loops().len(), 1, "that of the disk");
            driver.end().await;
        }
    }
}
