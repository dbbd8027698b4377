//! The directory pool: enforced on btrfs, refused elsewhere unless asked otherwise.

use std::{fs, io::Write as _};

use holdfast_csi_driver::PoolConfig;
use holdfast_proto::csi::{self, volume_capability::access_mode::Mode};
use tonic::Code;

use crate::harness::{
    Driver, MIB, Scratch, assert_code, block, command, mounted, needs, parameters, until, volume,
};

/// A driver with a directory pool `default` on a btrfs of its own.
async fn on_btrfs() -> Driver {
    on_prepared_btrfs(&|_| {}).await
}

/// As [`on_btrfs`], where something was done to the file system before.
async fn on_prepared_btrfs(prepare: &(dyn Fn(&str) + Sync)) -> Driver {
    let scratch = Scratch::new();
    let image = scratch.path().join("btrfs.img");
    fs::File::create(&image).unwrap().set_len(512 * MIB as u64).unwrap();
    command("mkfs.btrfs", &["-q", image.to_str().unwrap()]).unwrap();
    let disk = scratch.path().join("disk");
    fs::create_dir(&disk).unwrap();
    command("mount", &["-o", "loop", image.to_str().unwrap(), disk.to_str().unwrap()]).unwrap();
    prepare(disk.to_str().unwrap());
    let pool = PoolConfig::directory("default", disk.join("pool"));
    Driver::with(scratch, vec![pool]).await
}

async fn on_ext4() -> Driver {
    let scratch = Scratch::new();
    let pool = PoolConfig::directory("default", scratch.path().join("pool"));
    Driver::with(scratch, vec![pool]).await
}

/// Writes until it is refused; how much went in, and the error.
pub(crate) fn fill(path: &str) -> (i64, std::io::Error) {
    let mut file = fs::File::create(path).unwrap();
    let mut written = 0;
    loop {
        match file.write_all(&[7; 1 << 20]).and_then(|()| file.sync_data()) {
            Ok(()) => written += MIB,
            Err(error) => return (written, error),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_is_enforced_on_btrfs() {
    needs!("btrfs");
    a_life_with_a_size(on_btrfs().await).await;
}

/// Quotas that somebody switched on are used as they are.
#[tokio::test(flavor = "multi_thread")]
async fn full_quotas_enforce_as_well() {
    needs!("btrfs");
    let enable = |disk: &str| {
        command("btrfs", &["quota", "enable", disk]).unwrap();
    };
    a_life_with_a_size(on_prepared_btrfs(&enable).await).await;
}

pub(crate) async fn a_life_with_a_size(mut driver: Driver) {
    let capability = mounted("");
    let id = driver.bring_up("dir", 20 * MIB, &capability, "pod").await;
    let (written, error) = fill(&driver.path("pod/file"));
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded, "{error}");
    assert!((15 * MIB..=20 * MIB).contains(&written), "{written}");
    let usage = driver.stats(&id, "pod").await.unwrap();
    assert_eq!(usage[0].total, 20 * MIB);
    assert!(usage[0].used > 15 * MIB && usage[0].available < 5 * MIB, "{usage:?}");

    let grown = driver.expand(&id, 40 * MIB).await.unwrap();
    assert_eq!((grown.capacity_bytes, grown.node_expansion_required), (40 * MIB, false));
    driver.node_expand(&id, "pod").await.unwrap();
    let (more, error) = fill(&driver.path("pod/file"));
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded, "{error}");
    assert!(more > 30 * MIB, "{more}");

    driver.restart().await;
    driver.publish(&id, "second", &capability).await.unwrap();
    assert!(fs::metadata(driver.path("second/file")).unwrap().len() > 30 * MIB as u64);
    driver.unpublish(&id, "second").await.unwrap();
    assert_code(driver.delete(&id).await, Code::FailedPrecondition, "node-1");
    driver.unpublish(&id, "pod").await.unwrap();
    driver.detach(&id).await.unwrap();
    assert_code(driver.delete(&id).await, Code::FailedPrecondition, "still mounted");
    driver.unstage(&id).await.unwrap();
    driver.delete(&id).await.unwrap();
    let disk = driver.scratch.path().join("disk/pool");
    until("the trash is empty", || crate::harness::entries(&disk.join("trash")).is_empty()).await;
    assert!(crate::harness::entries(&disk.join("volumes")).is_empty());
    let left = command("btrfs", &["subvolume", "list", disk.to_str().unwrap()]).unwrap();
    assert_eq!(left, "");
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promises_on_btrfs_are_covered() {
    needs!("btrfs");
    let mut driver = on_btrfs().await;
    let capability = mounted("");
    driver.create(volume("a", 256 * MIB, &capability)).await.unwrap();
    assert_code(driver.create(volume("b", 300 * MIB, &capability)).await, Code::ResourceExhausted, "is full");
    driver.delete("default.a").await.unwrap();
    driver.end().await;
}

/// Subvolumes and snapshots that a user made inside, in each other, do not keep a volume
/// from being freed.
#[tokio::test(flavor = "multi_thread")]
async fn subvolumes_inside_are_freed() {
    needs!("btrfs");
    let mut driver = on_btrfs().await;
    let capability = mounted("");
    let id = driver.bring_up("nested", 20 * MIB, &capability, "pod").await;
    for inner in ["pod/inner", "pod/inner/deep", "pod/inner/deep/er", "pod/other"] {
        command("btrfs", &["subvolume", "create", &driver.path(inner)]).unwrap();
        fs::write(driver.path(inner) + "/file", "x").unwrap();
    }
    let (pod, snapshot) = (driver.path("pod"), driver.path("pod/other/snapshot"));
    command("btrfs", &["subvolume", "snapshot", "-r", &pod, &snapshot]).unwrap();
    command("btrfs", &["property", "set", "-ts", &pod, "ro", "true"]).unwrap();
    driver.take_down(&id, "pod").await;
    let disk = driver.scratch.path().join("disk");
    until("the trash is empty", || crate::harness::entries(&disk.join("pool/trash")).is_empty()).await;
    assert_eq!(command("btrfs", &["subvolume", "list", disk.to_str().unwrap()]).unwrap(), "");
    driver.end().await;
}

/// What is written into a subvolume that a user made inside counts as well.
#[tokio::test(flavor = "multi_thread")]
async fn no_subvolume_inside_is_outside_of_the_size() {
    needs!("btrfs");
    let mut driver = on_btrfs().await;
    let id = driver.bring_up("nested", 20 * MIB, &mounted(""), "pod").await;
    command("btrfs", &["subvolume", "create", &driver.path("pod/inner")]).unwrap();
    let (written, error) = fill(&driver.path("pod/inner/file"));
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded, "{error}");
    assert!((15 * MIB..=20 * MIB).contains(&written), "{written}");
    assert!(driver.stats(&id, "pod").await.unwrap()[0].used > 15 * MIB);
    let groups = driver.path("disk");
    let shown = || command("btrfs", &["qgroup", "show", "-r", &groups]).unwrap();
    assert!(shown().contains("20.00MiB"), "{}", shown());
    driver.take_down(&id, "pod").await;
    until("the limit is gone", || !shown().contains("20.00MiB")).await;
    driver.end().await;
}

/// A limit that was lost with the quotas comes back when the volume is staged.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_limit_comes_back_at_the_stage() {
    needs!("btrfs");
    let mut driver = on_btrfs().await;
    let capability = mounted("");
    let id = driver.create(volume("dir", 20 * MIB, &capability)).await.unwrap().volume_id;
    command("btrfs", &["quota", "disable", &driver.path("disk")]).unwrap();
    driver.attach(&id, &capability).await.unwrap();
    driver.stage(&id, &capability).await.unwrap();
    driver.publish(&id, "pod", &capability).await.unwrap();
    let (written, error) = fill(&driver.path("pod/file"));
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded, "{error}");
    assert!(written <= 20 * MIB, "{written}");
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_enforcement_it_must_be_said() {
    needs!();
    let mut driver = on_ext4().await;
    let capability = mounted("");
    let refused = driver.create(volume("dir", 20 * MIB, &capability)).await;
    assert_code(refused, Code::InvalidArgument, "enforceSize: \"false\"");
    let request = csi::CreateVolumeRequest {
        parameters: parameters(&[("enforceSize", "false")]),
        ..volume("dir", 20 * MIB, &capability)
    };
    let id = driver.create(request).await.unwrap().volume_id;
    driver.attach(&id, &capability).await.unwrap();
    driver.stage(&id, &capability).await.unwrap();
    driver.publish(&id, "pod", &capability).await.unwrap();
    fs::create_dir_all(driver.path("pod/a/b/c")).unwrap();
    fs::write(driver.path("pod/a/b/c/file"), "x").unwrap();
    assert!(driver.stats(&id, "pod").await.unwrap()[0].total > 20 * MIB);
    driver.detach(&id).await.unwrap();
    assert_code(driver.delete(&id).await, Code::FailedPrecondition, "still mounted");
    driver.take_down(&id, "pod").await;
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_folder_cannot_be() {
    needs!("xfs");
    let mut driver = on_ext4().await;
    let raw = volume("raw", 20 * MIB, &block(Mode::SingleNodeWriter));
    assert_code(driver.create(raw).await, Code::InvalidArgument, "raw block");
    assert_code(driver.create(volume("xfs", 20 * MIB, &mounted("xfs"))).await, Code::InvalidArgument, "xfs");
}

/// What its owner made immutable is freed all the same, once the volume is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn marked_files_are_freed() {
    needs!("btrfs");
    for (mut driver, on) in [(on_btrfs().await, "disk/pool"), (on_ext4().await, "pool")] {
        let capability = mounted("");
        let request = csi::CreateVolumeRequest {
            parameters: parameters(&[("enforceSize", "false")]),
            ..volume("marked", 20 * MIB, &capability)
        };
        let id = driver.create(request).await.unwrap().volume_id;
        driver.attach(&id, &capability).await.unwrap();
        driver.stage(&id, &capability).await.unwrap();
        let at = |name: &str| format!("{}/{name}", driver.staging(&id));
        fs::create_dir_all(at("folder/inner")).unwrap();
        for name in ["folder/inner/file", "only-more", "folder/fixed"] {
            fs::write(at(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("only-more", at("folder/link")).unwrap();
        for (mark, name) in [
            ("+i", "folder/inner"),
            ("+i", "folder/fixed"),
            ("+a", "only-more"),
            ("+a", "folder"),
            ("+i", ""),
        ] {
            command("chattr", &[mark, &at(name)]).unwrap();
        }
        assert!(fs::remove_file(at("only-more")).is_err(), "the marks are of this file system");
        driver.unstage(&id).await.unwrap();
        driver.detach(&id).await.unwrap();
        driver.delete(&id).await.unwrap();
        let trash = driver.scratch.path().join(on).join("trash");
        until("the trash is empty", || crate::harness::entries(&trash).is_empty()).await;
        driver.end().await;
    }
}

/// A tree deeper than any stack is removed all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_very_deep_tree_is_freed() {
    needs!();
    use rustix::fs::{CWD, Mode as FileMode, OFlags, mkdirat, openat};
    let mut driver = on_ext4().await;
    let request = csi::CreateVolumeRequest {
        parameters: parameters(&[("enforceSize", "false")]),
        ..volume("deep", 20 * MIB, &mounted(""))
    };
    let id = driver.create(request).await.unwrap().volume_id;
    let mut folder =
        openat(CWD, driver.volume_folder(&id).join("data"), OFlags::PATH, FileMode::empty()).unwrap();
    for _ in 0..3000 {
        mkdirat(&folder, "d", FileMode::RWXU).unwrap();
        folder = openat(&folder, "d", OFlags::PATH, FileMode::empty()).unwrap();
    }
    drop(folder);
    driver.delete(&id).await.unwrap();
    driver.assert_nothing_left("pool").await;
}
