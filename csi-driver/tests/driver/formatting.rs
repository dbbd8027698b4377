//! Nothing is formatted that may hold data.

use std::fs;

use tonic::Code;

use crate::harness::{Driver, MIB, assert_code, command, mounted, needs, volume};

/// A volume that was made and attached and never staged.
async fn fresh(driver: &mut Driver) -> (String, String) {
    let id = driver.create(volume("data", 64 * MIB, &mounted("ext4"))).await.unwrap().volume_id;
    driver.attach(&id, &mounted("ext4")).await.unwrap();
    let image = driver.volume_folder(&id).join("disk.img").to_str().unwrap().to_owned();
    (id, image)
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_nobody_knows_is_left() {
    needs!();
    use std::os::unix::fs::FileExt as _;
    let mut driver = Driver::image().await;
    let (id, image) = fresh(&mut driver).await;
    let file = fs::File::options().write(true).open(&image).unwrap();
    file.write_all_at(b"precious", 40 * MIB as u64).unwrap();
    file.sync_all().unwrap();

    assert_code(driver.stage(&id, &mounted("ext4")).await, Code::FailedPrecondition, "not formatted");
    assert!(driver.scratch.mounts().is_empty() && driver.scratch.loops().is_empty());
    let mut read = [0; 8];
    fs::File::open(&image).unwrap().read_exact_at(&mut read, 40 * MIB as u64).unwrap();
    assert_eq!(&read, b"precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_system_is_left() {
    needs!();
    let mut driver = Driver::image().await;
    let (id, image) = fresh(&mut driver).await;
    command("mkfs.ext2", &["-q", "-F", &image]).unwrap();
    assert_code(driver.stage(&id, &mounted("ext4")).await, Code::FailedPrecondition, "ext2");
    assert!(command("blkid", &["-p", &image]).unwrap().contains("ext2"));
    assert!(driver.scratch.loops().is_empty());
}

/// In place of the one that it had. Those of which the kernel would mount one as the other, too.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_took_its_place_is_left() {
    needs!("btrfs");
    let mut driver = Driver::image().await;
    let (id, image) = fresh(&mut driver).await;
    driver.stage(&id, &mounted("ext4")).await.unwrap();
    driver.unstage(&id).await.unwrap();
    for other in ["ext2", "ext3", "btrfs"] {
        command("wipefs", &["--all", &image]).unwrap();
        if other == "btrfs" {
            fs::File::options().write(true).open(&image).unwrap().set_len(128 * MIB as u64).unwrap();
        }
        command(&format!("mkfs.{other}"), &["-q", &image]).unwrap();
        let refused = driver.stage(&id, &mounted("ext4")).await;
        assert_code(refused, Code::FailedPrecondition, &format!("should hold ext4 but holds {other}"));
        assert!(driver.scratch.mounts().is_empty() && driver.scratch.loops().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_file_system_is_not_made_anew() {
    needs!();
    let mut driver = Driver::image().await;
    let (id, image) = fresh(&mut driver).await;
    driver.stage(&id, &mounted("ext4")).await.unwrap();
    driver.unstage(&id).await.unwrap();
    // All of it gone: as empty as a new one, and yet it held a file system.
    let file = fs::File::options().write(true).open(&image).unwrap();
    file.set_len(0).unwrap();
    file.set_len(64 * MIB as u64).unwrap();
    assert_code(driver.stage(&id, &mounted("ext4")).await, Code::FailedPrecondition, "not made anew");
    assert!(driver.scratch.loops().is_empty());
}

/// mkfs that was killed half-way: nothing was mounted yet, so it is begun again.
#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_mkfs_is_begun_again() {
    needs!();
    use std::os::unix::fs::FileExt as _;
    let mut driver = Driver::image().await;
    let (id, image) = fresh(&mut driver).await;
    let metadata = driver.volume_folder(&id).join("volume.json");
    let text = fs::read_to_string(&metadata).unwrap();
    fs::write(&metadata, text.replace("\"never\"", "\"started\"")).unwrap();
    let file = fs::File::options().write(true).open(&image).unwrap();
    file.write_all_at(&[7; 4096], 0).unwrap();
    driver.stage(&id, &mounted("ext4")).await.unwrap();
    assert!(fs::read_to_string(&metadata).unwrap().contains("\"done\""));
    driver.unstage(&id).await.unwrap();
}

/// A mkfs that outlived its driver holds the device for itself: it is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_mkfs_is_not_disturbed() {
    needs!();
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut driver = Driver::image().await;
    let (id, image) = fresh(&mut driver).await;
    let metadata = driver.volume_folder(&id).join("volume.json");
    let text = fs::read_to_string(&metadata).unwrap();
    fs::write(&metadata, text.replace("\"never\"", "\"started\"")).unwrap();
    let device = command("losetup", &["-f", "--show", &image]).unwrap().trim().to_owned();
    // What mkfs does with the device (O_EXCL).
    let held = fs::File::options().read(true).custom_flags(0o200).open(&device).unwrap();
    assert_code(driver.stage(&id, &mounted("ext4")).await, Code::Aborted, "running");
    drop(held);
    driver.stage(&id, &mounted("ext4")).await.unwrap();
    driver.unstage(&id).await.unwrap();
    assert!(driver.scratch.loops().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_tool_is_named() {
    needs!("xfs");
    let scratch = crate::harness::Scratch::new();
    let pool = holdfast_csi_driver::PoolConfig::image("default", scratch.path().join("pool"));
    let mut config = holdfast_csi_driver::Config::new("node-1", scratch.path().join("csi.sock"), vec![pool]);
    config.tool_path = Some(scratch.path().into());
    let mut driver = Driver::start(scratch, config).await;
    let answer = driver.create(volume("a", 300 * MIB, &mounted("xfs"))).await;
    assert_code(answer, Code::FailedPrecondition, "mkfs.xfs is not installed");
    driver.assert_nothing_left("pool").await;
}
