//! Storage that is read-only, dead or gone while the driver uses it. An error is never taken
//! for "does not exist", and nothing is made in a place that is not the pool any more.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use holdfast_csi_driver::{Config, PoolConfig, run};
use holdfast_proto::csi;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{
    harness::{
        Driver, MIB, NODE, Scratch, assert_code, command, entries, filesystem, mounted, needs, parameters,
        volume,
    },
    snapshots::pool_on,
};

/// Two pools on one file system, each with a volume; that of folders is published.
async fn two_pools(fs: &str) -> (Driver, PathBuf) {
    let scratch = Scratch::new();
    let disk = filesystem(&scratch, fs);
    let mut images = PoolConfig::image("images", disk.join("images"));
    let mut folders = PoolConfig::directory("folders", disk.join("folders"));
    for pool in [&mut images, &mut folders] {
        fs::create_dir(&pool.path).unwrap();
    }
    let mut driver = Driver::with(scratch, vec![images, folders]).await;
    // From now on a folder that is empty is no pool.
    for pool in &mut driver.config.pools {
        pool.create = false;
    }
    driver.create(request("image", "images", "ext4")).await.unwrap();
    driver.create(request("folder", "folders", "")).await.unwrap();
    let capability = mounted("");
    driver.attach("folders.folder", &capability).await.unwrap();
    driver.stage("folders.folder", &capability).await.unwrap();
    driver.publish("folders.folder", "pod", &capability).await.unwrap();
    fs::write(driver.path("pod/file"), "kept").unwrap();
    (driver, disk)
}

fn request(name: &str, pool: &str, fs_type: &str) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest {
        parameters: parameters(
            &[("pool", pool), ("enforceSize", "false")][..if pool == "images" { 1 } else { 2 }],
        ),
        ..volume(name, 64 * MIB, &mounted(fs_type))
    }
}

async fn listed(driver: &mut Driver) -> Result<Vec<String>, Status> {
    let list = driver.controller.list_volumes(csi::ListVolumesRequest::default()).await?.into_inner();
    Ok(list.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id).collect())
}

const BOTH: [&str; 2] = ["folders.folder", "images.image"];

/// Everything that would change something on the storage.
async fn changes(driver: &mut Driver) -> Vec<(&'static str, Status)> {
    let image = mounted("ext4");
    vec![
        ("create", driver.create(request("new", "images", "ext4")).await.unwrap_err()),
        ("create a folder", driver.create(request("new", "folders", "")).await.unwrap_err()),
        ("attach", driver.attach("images.image", &image).await.unwrap_err()),
        ("expand", driver.expand("images.image", 128 * MIB).await.unwrap_err()),
        ("delete", driver.delete("images.image").await.unwrap_err()),
        ("publish", driver.publish("folders.folder", "pod-2", &mounted("")).await.unwrap_err()),
    ]
}

/// Remounted read-only, by a person or by the kernel after an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_pool() {
    needs!("xfs", "btrfs");
    for fs in ["ext4", "xfs", "btrfs"] {
        let (mut driver, disk) = two_pools(fs).await;
        command("mount", &["-o", "remount,ro", disk.to_str().unwrap()]).unwrap();
        for restart in [false, true] {
            if restart {
                driver.restart().await;
            }
            assert_eq!(listed(&mut driver).await.unwrap(), BOTH, "{fs}");
            for (what, status) in changes(&mut driver).await {
                assert_eq!(status.code(), Code::FailedPrecondition, "{fs}, {what}: {status}");
                assert!(status.message().contains("Read-only"), "{fs}, {what}: {status}");
            }
            assert_eq!(fs::read_to_string(driver.path("pod/file")).unwrap(), "kept");
        }
        // A pod can end; that its volume is detached cannot be written down.
        driver.unpublish("folders.folder", "pod").await.unwrap();
        driver.unstage("folders.folder").await.unwrap();
        assert_code(driver.detach("folders.folder").await, Code::FailedPrecondition, "Read-only");
        assert_eq!(driver.scratch.mounts(), [disk.as_path()]);

        command("mount", &["-o", "remount,rw", disk.to_str().unwrap()]).unwrap();
        driver.publish("folders.folder", "pod", &mounted("")).await.unwrap_err();
        driver.stage("folders.folder", &mounted("")).await.unwrap();
        driver.publish("folders.folder", "pod", &mounted("")).await.unwrap();
        assert_eq!(fs::read_to_string(driver.path("pod/file")).unwrap(), "kept");
        driver.take_down("folders.folder", "pod").await;
        driver.delete("images.image").await.unwrap();
        driver.end().await;
    }
}

/// ext4 that gave up after an error, with a volume in use on it.
#[tokio::test(flavor = "multi_thread")]
async fn ext4_that_aborted() {
    needs!();
    let scratch = Scratch::new();
    let disk = filesystem(&scratch, "ext4");
    let mut driver = Driver::with(scratch, vec![PoolConfig::image("default", disk.join("pool"))]).await;
    let capability = mounted("ext4");
    let id = driver.bring_up("v", 64 * MIB, &capability, "pod").await;
    command("mount", &["-o", "remount,abort", disk.to_str().unwrap()]).unwrap();
    assert_eq!(listed(&mut driver).await.unwrap(), [id.as_str()]);
    for answer in [driver.expand(&id, 128 * MIB).await.map(drop), driver.detach(&id).await] {
        let status = answer.unwrap_err();
        assert!(matches!(status.code(), Code::FailedPrecondition | Code::Internal), "{status}");
    }
    assert_code(driver.delete(&id).await, Code::FailedPrecondition, "still published");
    // The pod can end.
    driver.unpublish(&id, "pod").await.unwrap();
    driver.unstage(&id).await.unwrap();
    assert_eq!(driver.scratch.mounts(), [disk.as_path()]);
    assert_eq!(driver.scratch.loops().len(), 1, "the disk's own alone");
    driver.end().await;
}

/// A file system that answers everything with an error: nothing is "not found", nothing is
/// deleted, and the list is an error, not empty.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_disk() {
    needs!("xfs");
    for fs in ["ext4", "xfs"] {
        let (mut driver, disk) = two_pools(fs).await;
        command("xfs_io", &["-x", "-c", "shutdown", disk.to_str().unwrap()]).unwrap();
        let list = listed(&mut driver).await;
        println!("{fs}: list after the shutdown: {list:?}");
        match list {
            Ok(ids) => assert_eq!(ids, BOTH, "{fs}"),
            Err(status) => assert_eq!(status.code(), Code::Internal, "{fs}: {status}"),
        }
        for (what, status) in changes(&mut driver).await {
            assert!(
                matches!(status.code(), Code::Internal | Code::FailedPrecondition),
                "{fs}, {what}: {status}"
            );
            assert!(!status.message().contains("does not exist"), "{fs}, {what}: {status}");
        }
        let stage = driver.stage("images.image", &mounted("ext4")).await.unwrap_err();
        assert_ne!(stage.code(), Code::NotFound, "{stage}");
        driver.end().await;
    }
}

/// A disk that takes no more writes, as one that breaks, or that was promised more than its storage has: a sync
/// fails, and what was not made durable is not said to be. Once the disk is well again, all is there that was
/// acknowledged, and what was refused can be asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_whose_writes_fail() {
    needs!("xfs");
    for (fs, mend) in [("ext4", "e2fsck -fy"), ("xfs", "")] {
        let scratch = Scratch::new();
        let thin = scratch.path().join("thin");
        fs::create_dir(&thin).unwrap();
        command("mount", &["-t", "tmpfs", "-o", "size=192m", "tmpfs", thin.to_str().unwrap()]).unwrap();
        let image = thin.join("disk.img");
        fs::File::create(&image).unwrap().set_len(1 << 30).unwrap();
        command(&format!("mkfs.{fs}"), &["-q", image.to_str().unwrap()]).unwrap();
        let disk = scratch.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let mount = || {
            command("mount", &["-o", "loop", image.to_str().unwrap(), disk.to_str().unwrap()]).unwrap();
        };
        mount();
        let mut driver = Driver::with(scratch, vec![PoolConfig::image("default", disk.join("pool"))]).await;
        let create = |name: String| volume(&name, 20 * MIB, &mounted("ext4"));
        let mut acknowledged = vec![driver.create(create("first".to_owned())).await.unwrap().volume_id];
        rustix::fs::syncfs(fs::File::open(&disk).unwrap()).unwrap();
        // From now on there is room for what was written already, and for nothing else.
        let filler = thin.join("filler");
        {
            let mut full = fs::File::create(&filler).unwrap();
            while full.write_all(&[1; 65536]).is_ok() {}
        }
        let mut refused = None;
        for number in 0..20 {
            match driver.create(create(format!("v{number}"))).await {
                Ok(made) => acknowledged.push(made.volume_id),
                Err(status) => {
                    refused = Some((format!("v{number}"), status));
                    break;
                }
            }
        }
        let (name, status) = refused.expect("a volume was made of nothing");
        println!("{fs}: {} made, then: {status}", acknowledged.len());
        let codes = [Code::Internal, Code::FailedPrecondition, Code::ResourceExhausted];
        assert!(codes.contains(&status.code()), "{fs}: {status}");
        if let Ok(ids) = listed(&mut driver).await {
            assert!(acknowledged.iter().all(|id| ids.contains(id)), "{fs}: {ids:?}");
        }

        driver.end().await;
        fs::remove_file(&filler).unwrap();
        driver.scratch.unmount(&disk);
        if let Some((program, option)) = mend.split_once(' ') {
            // 1: errors were mended.
            let _ = command(program, &[option, image.to_str().unwrap()]);
        }
        mount();
        driver.restart().await;
        let ids = listed(&mut driver).await.unwrap();
        assert!(acknowledged.iter().all(|id| ids.contains(id)), "{fs}: {ids:?}, of {acknowledged:?}");
        let again = driver.create(create(name)).await.unwrap().volume_id;
        for id in acknowledged.iter().chain([&again]) {
            let capability = mounted("ext4");
            driver.attach(id, &capability).await.unwrap();
            driver.stage(id, &capability).await.unwrap();
            driver.publish(id, "pod", &capability).await.unwrap();
            fs::write(driver.path("pod/file"), "written").unwrap();
            driver.take_down(id, "pod").await;
        }
        driver.end().await;
    }
}

/// What a crash or a person may make of the pool's path while the driver runs.
async fn is_refused_where_the_pool_was(driver: &mut Driver, underneath: &[PathBuf]) {
    for (what, status) in changes(driver).await {
        // To publish once more is to use what is staged already.
        assert_eq!(status.code(), Code::FailedPrecondition, "{what}: {status}");
        assert!(status.message().contains("any more"), "{what}: {status}");
    }
    for path in underneath {
        assert_eq!(entries(path), Vec::<String>::new(), "{} was written to", path.display());
    }
}

/// Unmounted under the driver, lazily, as `umount -l` and some orchestrators do.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_was_unmounted() {
    needs!();
    let (mut driver, disk) = two_pools("ext4").await;
    // What somebody sees at the path afterwards.
    command("umount", &["-l", disk.to_str().unwrap()]).unwrap();
    for name in ["images", "folders"] {
        fs::create_dir(disk.join(name)).unwrap();
    }
    let underneath = [disk.join("images"), disk.join("folders")];
    assert_eq!(listed(&mut driver).await.unwrap(), BOTH);
    is_refused_where_the_pool_was(&mut driver, &underneath).await;
    driver.unpublish("folders.folder", "pod").await.unwrap();
    assert_eq!(listed(&mut driver).await.unwrap(), BOTH);
    driver.end().await;
    // Not in place of it either, after a restart.
    is_no_pool(&driver.config).await;
    assert!(underneath.iter().all(|path| entries(path).iter().all(|name| name == ".lock")));
    for path in &underneath {
        drop(fs::remove_file(path.join(".lock")));
        fs::remove_dir(path).unwrap();
    }
    let image = driver.path("ext4.img");
    // The staged volume's mount keeps the file system alive.
    driver.scratch.unmount(Path::new(&driver.staging("folders.folder")));
    crate::harness::until("the file system is mounted again", || {
        command("mount", &["-o", "loop", &image, disk.to_str().unwrap()]).is_ok()
    })
    .await;
    driver.restart().await;
    assert_eq!(listed(&mut driver).await.unwrap(), BOTH);
    driver.stage("folders.folder", &mounted("")).await.unwrap();
    assert_eq!(fs::read_to_string(driver.path("staging-folders.folder/file")).unwrap(), "kept");
    driver.unstage("folders.folder").await.unwrap();
    driver.end().await;
}

/// Something was mounted over the pool, or an empty folder is in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_was_replaced() {
    needs!();
    let (mut driver, disk) = two_pools("ext4").await;
    let underneath = [disk.join("images"), disk.join("folders")];
    for path in &underneath {
        fs::rename(path, path.with_extension("aside")).unwrap();
        fs::create_dir(path).unwrap();
    }
    is_refused_where_the_pool_was(&mut driver, &underneath).await;
    assert_eq!(listed(&mut driver).await.unwrap(), BOTH);
    driver.end().await;
    is_no_pool(&driver.config).await;
    for path in &underneath {
        drop(fs::remove_file(path.join(".lock")));
        fs::remove_dir(path).unwrap();
        fs::rename(path.with_extension("aside"), path).unwrap();
    }
    driver.restart().await;
    assert_eq!(listed(&mut driver).await.unwrap(), BOTH);
    driver.take_down("folders.folder", "pod").await;
    driver.delete("images.image").await.unwrap();
    driver.end().await;
}

/// Somebody tidied up in the pool: what cannot be moved to the trash is not gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_the_pool_that_is_gone() {
    needs!("xfs");
    let mut driver = pool_on("xfs").await;
    let capability = mounted("xfs");
    let id = driver.bring_up("v", 300 * MIB, &capability, "pod").await;
    let snapshot = driver.snapshot("s", &id).await.unwrap().snapshot_id;
    let group = driver.group_snapshot("g", &[&id]).await.unwrap();
    driver.unpublish(&id, "pod").await.unwrap();
    driver.unstage(&id).await.unwrap();
    driver.detach(&id).await.unwrap();
    for name in ["trash", "volumes", "snapshots", "groups"] {
        let (folder, aside) =
            (driver.path(&format!("pool/{name}")), driver.path(&format!("pool/{name}.aside")));
        fs::rename(&folder, &aside).unwrap();
        for replaced in [false, true] {
            if replaced {
                fs::create_dir(&folder).unwrap();
            }
            for answer in [
                driver.delete(&id).await,
                driver.delete("default.none").await,
                driver.delete_snapshot(&snapshot).await,
                driver.delete_snapshot("default.none").await,
                driver.delete_group(&group).await,
                driver.create(volume("new", 300 * MIB, &capability)).await.map(drop),
                driver.snapshot("new", &id).await.map(drop),
            ] {
                assert_code(answer, Code::FailedPrecondition, &format!("{name} is not the folder any more"));
            }
            assert!(!replaced || entries(folder.as_ref()).is_empty(), "{name} was written to");
        }
        fs::remove_dir(&folder).unwrap();
        fs::rename(&aside, &folder).unwrap();
    }
    // As they were: all is there, and goes.
    for (folder, count) in [("volumes", 1), ("snapshots", 2), ("groups", 1), ("trash", 0)] {
        assert_eq!(entries(driver.path(&format!("pool/{folder}")).as_ref()).len(), count, "{folder}");
    }
    driver.delete_group(&group).await.unwrap();
    driver.delete_snapshot(&snapshot).await.unwrap();
    driver.delete(&id).await.unwrap();
    for folder in ["volumes", "snapshots", "groups"] {
        assert_eq!(entries(driver.path(&format!("pool/{folder}")).as_ref()), Vec::<String>::new());
    }
    driver.end().await;
}

/// The same name in two pools at once is made in one of them at most; and one pool that is dead
/// keeps nobody from the other.
#[tokio::test(flavor = "multi_thread")]
async fn one_name_in_two_pools_of_which_one_dies() {
    needs!("xfs");
    let (scratch, elsewhere) = (Scratch::new(), Scratch::new());
    let disks = [filesystem(&elsewhere, "xfs"), filesystem(&scratch, "xfs")];
    let names = ["dying", "well"];
    let pools = [0, 1].map(|one| PoolConfig::image(names[one], disks[one].join("pool")));
    let mut driver = Driver::with(scratch, pools.to_vec()).await;
    let in_pool = |pool: &str, name: &str| csi::CreateVolumeRequest {
        parameters: parameters(&[("pool", pool)]),
        ..volume(name, 4 * MIB, &mounted("ext4"))
    };
    let sources = [0, 1].map(|one| format!("{}.v{one}", names[one]));
    for (one, pool) in names.iter().enumerate() {
        driver.create(in_pool(pool, &format!("v{one}"))).await.unwrap();
    }
    let assert_one = |what: &str, codes: [Code; 2]| {
        let made = codes.iter().filter(|code| **code == Code::Ok).count();
        assert!(made < 2, "{what} was made twice");
        let refused = |code: &Code| matches!(code, Code::Ok | Code::AlreadyExists | Code::Aborted);
        assert!(codes.iter().all(refused), "{what}: {codes:?}");
        made
    };
    let code = |answer: Option<Status>| answer.map_or(Code::Ok, |status| status.code());
    let mut made = 0;
    for round in 0..15 {
        let name = format!("twice-{round}");
        let (mut one, mut two) = (driver.controller.clone(), driver.controller.clone());
        let answers = tokio::join!(
            one.create_volume(in_pool("dying", &name)),
            two.create_volume(in_pool("well", &name))
        );
        made += assert_one("a volume", [code(answers.0.err()), code(answers.1.err())]);
        let cut = |source: &str| csi::CreateSnapshotRequest {
            name: name.clone(),
            source_volume_id: source.to_owned(),
            ..Default::default()
        };
        let answers =
            tokio::join!(one.create_snapshot(cut(&sources[0])), two.create_snapshot(cut(&sources[1])));
        made += assert_one("a snapshot", [code(answers.0.err()), code(answers.1.err())]);
        let (group_0, group_1) = ([sources[0].as_str()], [sources[1].as_str()]);
        let answers =
            tokio::join!(driver.group_snapshot(&name, &group_0), driver.group_snapshot(&name, &group_1));
        made += assert_one("a group", [code(answers.0.err()), code(answers.1.err())]);
    }
    // Each may have found the other at it and neither be made, but not always.
    assert!(made > 0);

    driver.group_snapshot("kept", &[sources[0].as_str()]).await.unwrap();
    driver.snapshot("kept", &sources[0]).await.unwrap();
    driver.restart().await;
    command("xfs_io", &["-x", "-c", "shutdown", disks[0].to_str().unwrap()]).unwrap();
    assert!(driver.create(in_pool("dying", "new")).await.is_err(), "the pool is not dead");
    driver.create(in_pool("well", "new")).await.unwrap();
    driver.snapshot("new", "well.new").await.unwrap();
    driver.group_snapshot("new", &["well.v1", "well.new"]).await.unwrap();
    for answer in [
        driver.create(in_pool("well", "v0")).await.map(drop),
        driver.snapshot("kept", "well.new").await.map(drop),
        driver.group_snapshot("kept", &["well.new"]).await.map(drop),
    ] {
        assert_code(answer, Code::AlreadyExists, "in pool \"dying\"");
    }
    driver.end().await;
}

/// A driver does not start where a pool was and is not.
async fn is_no_pool(config: &Config) {
    let config = Config::new(NODE, config.endpoint.with_extension("second"), config.pools.clone());
    let error = run(config, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains("is empty, so no pool yet"), "{error}");
}
