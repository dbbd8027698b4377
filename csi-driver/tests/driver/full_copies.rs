//! Snapshots, clones and restores where the pool's file system is full to the last block: what
//! is refused says so and leaves nothing, what was made is whole, and the source is used on.

use std::{fs, path::Path};

use holdfast_proto::csi::{self, VolumeCapability};

use crate::{
    full::{fill, is_refused, make_room, on_disk},
    harness::{Driver, MIB, command, entries, mounted, needs},
    snapshots::{filled, from_snapshot, from_volume},
};

const DATA: usize = 8 << 20;

/// What lies in a folder of the pool, half-made things too.
fn there(disk: &Path, folder: &str) -> Vec<String> {
    let mut names = entries(&disk.join("pool").join(folder));
    names.sort();
    names
}

async fn copies_on_a_full_disk(fs: &str, backend: &str, fs_type: &str) {
    let (mut driver, disk) = on_disk(fs, backend).await;
    let capability = mounted(fs_type);
    let id = driver.bring_up("v", 32 * MIB, &capability, "pod").await;
    let file = driver.path("pod/file");
    fs::write(&file, vec![7; DATA]).unwrap();
    command("sync", &["-f", &file]).unwrap();
    let early = driver.snapshot("early", &id).await.unwrap().snapshot_id;
    fill(&disk);

    let (mut volumes, mut snapshots) = (vec![id.clone()], vec![early.clone()]);
    for (name, source) in [("restored", from_snapshot(&early)), ("cloned", from_volume(&id))] {
        let made = driver.create(filled(name, 32 * MIB, &capability, source)).await.map(drop);
        assert!(is_refused(name, made), "{name}: 32 MiB were promised on a full disk");
    }
    // A snapshot may need less than there is.
    let cut = driver.snapshot("late", &id).await;
    println!("{backend} on {fs}: snapshot: {:?}", cut.as_ref().map(|snapshot| &snapshot.snapshot_id));
    match cut {
        Ok(cut) => snapshots.push(cut.snapshot_id),
        refused => assert!(is_refused("snapshot", refused.map(drop))),
    }
    if backend == "image" {
        match driver.group_snapshot("g", &[&id]).await {
            Ok(group) => snapshots.extend(group.snapshots.into_iter().map(|member| member.snapshot_id)),
            refused => assert!(is_refused("group", refused.map(drop))),
        }
    }
    volumes.sort();
    snapshots.sort();
    for restarted in [false, true] {
        assert_eq!(there(&disk, "volumes"), volumes, "restarted: {restarted}");
        assert_eq!(there(&disk, "snapshots"), snapshots, "restarted: {restarted}");
        assert_eq!(fs::read(&file).unwrap(), vec![7; DATA]);
        if backend == "image" {
            assert!(command("fsfreeze", &["--unfreeze", &driver.path("pod")]).is_err(), "it stayed frozen");
        }
        if !restarted {
            driver.restart().await;
        }
    }

    make_room(&disk).await;
    driver.restart().await;
    // What was refused is made now, under the same names.
    for (name, source) in [("restored", from_snapshot(&early)), ("cloned", from_volume(&id))] {
        check_copy(&mut driver, filled(name, 32 * MIB, &capability, source), &capability).await;
    }
    let late = driver.snapshot("late", &id).await.unwrap().snapshot_id;
    let of_late = filled("of-late", 32 * MIB, &capability, from_snapshot(&late));
    check_copy(&mut driver, of_late, &capability).await;
    if backend == "image" {
        let group = driver.group_snapshot("g", &[&id]).await.unwrap();
        driver.delete_group(&group).await.unwrap();
    }
    for snapshot in [early, late] {
        driver.delete_snapshot(&snapshot).await.unwrap();
    }
    driver.take_down(&id, "pod").await;
    for folder in ["volumes", "snapshots", "groups"] {
        assert_eq!(there(&disk, folder), Vec::<String>::new());
    }
    driver.end().await;
    command("umount", &[disk.to_str().unwrap()]).unwrap();
    assert_eq!(driver.scratch.loops(), Vec::<String>::new());
}

async fn check_copy(driver: &mut Driver, request: csi::CreateVolumeRequest, capability: &VolumeCapability) {
    let name = request.name.clone();
    let copy = driver.create(request).await.unwrap().volume_id;
    driver.use_volume(&copy, capability, "copy").await;
    assert_eq!(fs::read(driver.path("copy/file")).unwrap(), vec![7; DATA], "{name}");
    driver.take_down(&copy, "copy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_on_xfs() {
    needs!("xfs");
    copies_on_a_full_disk("xfs", "image", "ext4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn images_on_btrfs() {
    needs!("btrfs");
    copies_on_a_full_disk("btrfs", "image", "ext4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subvolumes() {
    needs!("btrfs");
    copies_on_a_full_disk("btrfs", "btrfs", "").await;
}
