//! Targets: the table of NodePublishVolume, read-only, and what must not be touched.

use std::{fs, os::unix::fs::symlink, path::Path};

use holdfast_csi_driver::PoolConfig;
use holdfast_proto::csi::{self, volume_capability::access_mode::Mode};
use tonic::Code;

use crate::harness::{
    Driver, MIB, Scratch, assert_code, block, command, filesystem, mounted, mounted_as, needs, parameters,
    volume,
};

/// CSI v1.12, NodePublishVolume: T1 = T2 or not, P1 = P2 or not.
#[tokio::test(flavor = "multi_thread")]
async fn the_second_publish() {
    needs!();
    let cases = [
        (Mode::SingleNodeSingleWriter, Some(Code::FailedPrecondition)),
        (Mode::SingleNodeWriter, Some(Code::FailedPrecondition)),
        (Mode::SingleNodeReaderOnly, Some(Code::FailedPrecondition)),
        (Mode::SingleNodeMultiWriter, None),
    ];
    let mut driver = Driver::image().await;
    for (number, (mode, second)) in cases.into_iter().enumerate() {
        let capability = mounted_as("ext4", &[], mode);
        let id = driver.bring_up(&format!("v{number}"), 64 * MIB, &capability, "t1").await;
        driver.publish(&id, "t1", &capability).await.unwrap();
        let mut other = driver.publish_request(&id, "t1", &capability);
        other.readonly = true;
        assert_code(driver.node.node_publish_volume(other).await, Code::AlreadyExists, "other arguments");
        match second {
            Some(code) => {
                assert_code(driver.publish(&id, "t2", &capability).await, code, "t1");
                assert!(!Path::new(&driver.path("t2")).exists());
            }
            None => {
                driver.publish(&id, "t2", &capability).await.unwrap();
                fs::write(driver.path("t1/shared"), "x").unwrap();
                assert_eq!(fs::read_to_string(driver.path("t2/shared")).unwrap(), "x");
                assert_code(driver.unstage(&id).await, Code::FailedPrecondition, "still published");
                driver.unpublish(&id, "t2").await.unwrap();
            }
        }
        driver.take_down(&id, "t1").await;
    }
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_is_read_only() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    let id = driver.bring_up("ro", 64 * MIB, &capability, "rw").await;
    let mut request = driver.publish_request(&id, "ro", &capability);
    request.readonly = true;
    driver.node.node_publish_volume(request).await.unwrap();
    fs::write(driver.path("rw/file"), "x").unwrap();
    assert_eq!(fs::read_to_string(driver.path("ro/file")).unwrap(), "x");
    let refused = fs::write(driver.path("ro/file"), "y").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    driver.unpublish(&id, "ro").await.unwrap();
    driver.take_down(&id, "rw").await;

    let raw = block(Mode::SingleNodeWriter);
    let id = driver.bring_up("raw", 8 * MIB, &raw, "dev").await;
    driver.unpublish(&id, "dev").await.unwrap();
    let mut request = driver.publish_request(&id, "dev", &raw);
    request.readonly = true;
    assert_code(
        driver.node.node_publish_volume(request).await,
        Code::InvalidArgument,
        "SINGLE_NODE_READER_ONLY",
    );
    driver.take_down(&id, "dev").await;
    driver.assert_nothing_left("pool").await;
}

/// A device is read-only or not for all who have its node: the access modes of stage and publish agree.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_published_as_it_was_staged() {
    needs!();
    let mut driver = Driver::image().await;
    let (writer, reader) = (block(Mode::SingleNodeWriter), block(Mode::SingleNodeReaderOnly));
    let id = driver.create(volume("raw", 8 * MIB, &writer)).await.unwrap().volume_id;
    for (staged, other, said, writes) in [
        (&writer, &reader, "is staged to be written to", true),
        (&reader, &writer, "is staged with SINGLE_NODE_READER_ONLY", false),
    ] {
        driver.attach(&id, staged).await.unwrap();
        driver.stage(&id, staged).await.unwrap();
        assert_code(driver.publish(&id, "dev", other).await, Code::FailedPrecondition, said);
        assert!(!Path::new(&driver.path("dev")).exists(), "a refused call left something");
        for _ in 0..2 {
            driver.publish(&id, "dev", staged).await.unwrap();
        }
        assert_code(driver.publish(&id, "dev", other).await, Code::AlreadyExists, "other arguments");
        let written = fs::write(driver.path("dev"), [7_u8; 4096]);
        assert_eq!(written.is_ok(), writes, "{written:?}");
        driver.unpublish(&id, "dev").await.unwrap();
        assert_code(driver.publish(&id, "dev", other).await, Code::FailedPrecondition, said);
        driver.unstage(&id).await.unwrap();
        driver.detach(&id).await.unwrap();
    }
    driver.delete(&id).await.unwrap();
    driver.assert_nothing_left("pool").await;
}

/// What would stop the machine where a volume is damaged is not for a claim to ask.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_done_on_errors() {
    needs!();
    let mut driver = Driver::image().await;
    let with = |flag: &str| mounted_as("ext4", &[flag], Mode::SingleNodeWriter);
    let good = with("errors=remount-ro");
    let id = driver.create(volume("v", 16 * MIB, &good)).await.unwrap().volume_id;
    driver.attach(&id, &good).await.unwrap();
    let panics = driver.stage(&id, &with("errors=panic")).await.unwrap_err();
    assert!(panics.message().contains("use errors=remount-ro"), "{panics}");
    assert_eq!(driver.scratch.mounts(), Vec::<std::path::PathBuf>::new());
    driver.stage(&id, &good).await.unwrap();
    driver.publish(&id, "pod", &good).await.unwrap();
    driver.take_down(&id, "pod").await;
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mount_flags_take_effect() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted_as("ext4", &["noatime", "commit=30", "nosuid"], Mode::SingleNodeWriter);
    let id = driver.bring_up("flags", 64 * MIB, &capability, "pod").await;
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = table.lines().find(|line| line.contains(&driver.path("pod"))).unwrap();
    assert!(["noatime", "commit=30", "nosuid"].iter().all(|flag| line.contains(flag)), "{line}");
    let other = mounted_as("ext4", &["noexec"], Mode::SingleNodeWriter);
    assert_code(driver.stage(&id, &other).await, Code::AlreadyExists, "mount flags");
    driver.take_down(&id, "pod").await;
    driver.assert_nothing_left("pool").await;
}

/// Unpublish never deletes through a mount, and never what is not empty.
#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_files_stay() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    let id = driver.bring_up("mine", 64 * MIB, &capability, "pod").await;
    fs::write(driver.path("pod/file"), "kept").unwrap();

    // A folder with files, nothing mounted.
    fs::create_dir(driver.path("folder")).unwrap();
    fs::write(driver.path("folder/file"), "x").unwrap();
    driver.unpublish(&id, "folder").await.unwrap();
    fs::write(driver.path("plain"), "x").unwrap();
    driver.unpublish(&id, "plain").await.unwrap();
    assert!(fs::exists(driver.path("folder/file")).unwrap() && fs::exists(driver.path("plain")).unwrap());
    // Where it was published, someone unmounted it and wrote into the folder below.
    command("umount", &[&driver.path("pod")]).unwrap();
    fs::write(driver.path("pod/below"), "x").unwrap();
    assert_code(driver.unpublish(&id, "pod").await, Code::FailedPrecondition, "not empty");
    fs::remove_file(driver.path("pod/below")).unwrap();
    driver.publish(&id, "pod", &capability).await.unwrap();
    // Something else that is mounted.
    fs::create_dir(driver.path("tmpfs")).unwrap();
    command("mount", &["-t", "tmpfs", "none", &driver.path("tmpfs")]).unwrap();
    assert_code(driver.unpublish(&id, "tmpfs").await, Code::FailedPrecondition, "not volume");
    assert_code(driver.publish(&id, "tmpfs", &capability).await, Code::FailedPrecondition, "unmount it");
    // Symbolic links, at the end and on the way.
    symlink(driver.path("folder"), driver.path("link")).unwrap();
    assert_code(driver.publish(&id, "link", &capability).await, Code::FailedPrecondition, "is not a folder");
    assert_code(driver.unpublish(&id, "link").await, Code::FailedPrecondition, "not this driver's");
    assert_code(driver.publish(&id, "link/sub", &capability).await, Code::InvalidArgument, "symbolic link");
    assert!(Path::new(&driver.path("folder/file")).exists());
    // In use.
    let open = fs::File::open(driver.path("pod/file")).unwrap();
    assert_code(driver.unpublish(&id, "pod").await, Code::FailedPrecondition, "in use");
    drop(open);

    driver.unpublish(&id, "pod").await.unwrap();
    driver.publish(&id, "pod", &capability).await.unwrap();
    assert_eq!(fs::read_to_string(driver.path("pod/file")).unwrap(), "kept");
    driver.take_down(&id, "pod").await;
    driver.assert_nothing_left("pool").await;
}

/// The record of a path says nothing about what someone mounted there later.
#[tokio::test(flavor = "multi_thread")]
async fn other_peoples_mounts_stay() {
    needs!("btrfs");
    let scratch = Scratch::new();
    let disk = filesystem(&scratch, "btrfs");
    let pools = vec![
        PoolConfig::image("default", scratch.path().join("pool")),
        PoolConfig::directory("dirs", disk.join("pool")),
    ];
    let mut driver = Driver::with(scratch, pools).await;
    let raw = block(Mode::SingleNodeWriter);
    for (pool, capability) in [("default", mounted("ext4")), ("default", raw.clone()), ("dirs", mounted(""))]
    {
        let request = csi::CreateVolumeRequest {
            parameters: parameters(&[("pool", pool)]),
            ..volume("mine", 64 * MIB, &capability)
        };
        let id = driver.create(request).await.unwrap().volume_id;
        driver.attach(&id, &capability).await.unwrap();
        driver.stage(&id, &capability).await.unwrap();
        driver.publish(&id, "pod", &capability).await.unwrap();
        let (pod, staging) = (driver.path("pod"), driver.staging(&id));
        let theirs = driver.path("theirs");
        fs::write(&theirs, "theirs").unwrap();
        let put = |at: &str| {
            if Path::new(at).is_dir() {
                command("mount", &["-t", "tmpfs", "theirs", at]).unwrap();
            } else {
                command("mount", &["--bind", &theirs, at]).unwrap();
            }
        };
        let named = if capability == raw { "is not volume" } else { "(tmpfs from theirs) is not volume" };
        // Over it, and in its place.
        put(&pod);
        assert_code(driver.unpublish(&id, "pod").await, Code::FailedPrecondition, named);
        command("umount", &[&pod]).unwrap();
        command("umount", &[&pod]).unwrap();
        put(&pod);
        assert_code(driver.unpublish(&id, "pod").await, Code::FailedPrecondition, named);
        command("umount", &[&pod]).unwrap();
        driver.unpublish(&id, "pod").await.unwrap();

        put(&staging);
        assert_code(driver.unstage(&id).await, Code::FailedPrecondition, "(tmpfs from theirs) is not volume");
        command("umount", &[&staging]).unwrap();
        driver.unstage(&id).await.unwrap();
        driver.detach(&id).await.unwrap();
        driver.delete(&id).await.unwrap();
    }
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_in_use_is_not_deleted() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    let id = driver.bring_up("used", 64 * MIB, &capability, "pod").await;
    assert_code(driver.delete(&id).await, Code::FailedPrecondition, "node-1");
    driver.detach(&id).await.unwrap();
    assert_code(driver.delete(&id).await, Code::FailedPrecondition, "still mounted");
    driver.take_down(&id, "pod").await;
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_kept() {
    needs!("xfs");
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    let id = driver.create(volume("order", 64 * MIB, &capability)).await.unwrap().volume_id;
    assert_code(driver.stage(&id, &capability).await, Code::FailedPrecondition, "ControllerPublishVolume");
    driver.attach(&id, &capability).await.unwrap();
    assert_code(driver.publish(&id, "pod", &capability).await, Code::FailedPrecondition, "NodeStageVolume");
    assert_code(driver.stats(&id, "pod").await, Code::NotFound, "not mounted");
    assert_code(driver.node_expand(&id, "pod").await, Code::NotFound, "not mounted");
    let nowhere = csi::NodeStageVolumeRequest {
        volume_id: id.clone(),
        staging_target_path: driver.path("not/there"),
        volume_capability: Some(capability.clone()),
        ..Default::default()
    };
    assert_code(driver.node.node_stage_volume(nowhere).await, Code::FailedPrecondition, "not/there");
    assert_code(driver.stage(&id, &mounted("xfs")).await, Code::FailedPrecondition, "holds");
    // Another path while staged here.
    driver.stage(&id, &capability).await.unwrap();
    fs::create_dir(driver.path("second")).unwrap();
    let second = csi::NodeStageVolumeRequest {
        volume_id: id.clone(),
        staging_target_path: driver.path("second"),
        volume_capability: Some(capability),
        ..Default::default()
    };
    assert_code(driver.node.node_stage_volume(second).await, Code::FailedPrecondition, "is staged at");
    let elsewhere =
        csi::NodeUnstageVolumeRequest { volume_id: id.clone(), staging_target_path: driver.path("second") };
    driver.node.node_unstage_volume(elsewhere).await.unwrap();
    assert_eq!(driver.scratch.mounts().len(), 1, "unstaging another path takes nothing away");
    driver.unstage(&id).await.unwrap();
}

/// An empty folder or file goes only where the volume was published.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_published_stays() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("");
    let id = driver.bring_up("v", 16 * MIB, &capability, "pod").await;
    fs::create_dir(driver.path("folder")).unwrap();
    fs::write(driver.path("file"), "").unwrap();
    for name in ["folder", "file"] {
        driver.unpublish(&id, name).await.unwrap();
        assert!(fs::exists(driver.path(name)).unwrap(), "{name} is somebody's");
    }
    // The journal may be lost: what is mounted shows.
    let journal = driver.volume_folder(&id).join("node.json");
    fs::remove_file(&journal).unwrap();
    driver.unpublish(&id, "pod").await.unwrap();
    assert!(!fs::exists(driver.path("pod")).unwrap());

    // After a power cut the folder is there, without a mount, and the journal is of the boot before.
    driver.publish(&id, "pod", &capability).await.unwrap();
    command("umount", &[&driver.path("pod")]).unwrap();
    let mut written: serde_json::Value = serde_json::from_slice(&fs::read(&journal).unwrap()).unwrap();
    written["boot"] = "another".into();
    fs::write(&journal, written.to_string()).unwrap();
    driver.unpublish(&id, "pod").await.unwrap();
    assert!(!fs::exists(driver.path("pod")).unwrap());
    driver.unstage(&id).await.unwrap();
    driver.detach(&id).await.unwrap();
    driver.delete(&id).await.unwrap();
    driver.assert_nothing_left("pool").await;
}
