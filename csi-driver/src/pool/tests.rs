//! System calls that fail in the middle, on a real pool whose opened folders were exchanged: one
//! opened as a path only cannot be synced, and in one that was removed nothing can be made.

use std::{fs, os::fd::OwnedFd, path::Path};

use holdfast_test_needs::{Need, missing};
use rustix::fs::{self as rfs, Mode, OFlags};
use tokio::runtime::Handle;

use super::{Pool, make_and_open};
use crate::{
    command::Runner,
    config::PoolConfig,
    kernel::removal::remove_tree,
    metrics::Metrics,
    size::MIB,
    volume::{Content, Format, Identity, Volume},
    volume_id::VolumeId,
};

pub(super) fn open(path: &Path) -> Pool {
    let config = PoolConfig::image("p", path.join("pool")).with_capacity(100 * MIB);
    let config = config.with_retention(std::time::Duration::from_secs(60));
    Pool::open(&config, &Runner::new(None, Handle::current()), &Metrics::default()).unwrap()
}

fn without_sync(path: &Path) -> OwnedFd {
    rfs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn removed(pool: &Pool) -> OwnedFd {
    let opened = make_and_open(&pool.root, &pool.path, "removed").unwrap();
    fs::remove_dir(pool.path.join("removed")).unwrap();
    opened
}

fn volume() -> Volume {
    Volume {
        id: VolumeId::derive("p", "v"),
        name: "v".to_owned(),
        capacity: 8 * MIB,
        content: Content::Block,
        enforced: true,
        format: Format::Never,
        identity: Identity::Own,
        origin: None,
        mutable: Default::default(),
        attachments: Default::default(),
    }
}

#[tokio::test]
async fn a_volume_that_appeared_keeps_its_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut pool = open(folder.path());
    let volume = volume();
    let promise = pool.promise(&volume).unwrap();
    let unsynced = without_sync(&pool.volumes_path());
    let opened = std::mem::replace(&mut pool.volumes, unsynced);
    pool.create(&volume, None, promise).unwrap_err();
    assert!(pool.find(&volume.id).unwrap().is_some(), "this test is about one that appeared");
    assert_eq!(pool.promised(), 8 * MIB);

    // Gone it is too, though its way into the trash is not durable.
    pool.volumes = opened;
    pool.trash = without_sync(&pool.trash_path());
    pool.discard(&volume.id).unwrap_err();
    assert!(pool.find(&volume.id).unwrap().is_none());
    assert_eq!((pool.promised(), pool.available().unwrap()), (0, 92 * MIB));
}

#[tokio::test]
async fn a_volume_that_did_not_appear_gives_its_room_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut pool = open(folder.path());
    let promise = pool.promise(&volume()).unwrap();
    pool.volumes = removed(&pool);
    pool.create(&volume(), None, promise).unwrap_err();
    assert_eq!(pool.promised(), 0);
}

#[tokio::test]
async fn a_trash_that_is_gone_is_no_volume_that_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut pool = open(folder.path());
    let volume = volume();
    pool.create(&volume, None, pool.promise(&volume).unwrap()).unwrap();
    pool.trash = removed(&pool);
    let moving = |id| pool.move_to_trash(&pool.volumes, &pool.volumes_path(), id, "entry");
    moving(volume.id.as_str()).unwrap_err();
    assert!(!moving("p.other").unwrap());
    assert!(pool.discard(&volume.id).unwrap_err().to_string().contains("trash is not the folder any more"));
    assert!(pool.find(&volume.id).unwrap().is_some());
    assert_eq!(pool.promised(), 8 * MIB);
}

#[tokio::test]
async fn what_left_the_trash_is_not_counted_there() {
    let folder = tempfile::tempdir().unwrap();
    let pool = open(folder.path());
    let volume = volume();
    pool.create(&volume, None, pool.promise(&volume).unwrap()).unwrap();
    pool.discard(&volume.id).unwrap();
    let entry = pool.find_entry(volume.id.as_str()).unwrap();
    assert!(!pool.hold_again(&entry, volume.capacity));
    assert_eq!(pool.available().unwrap(), 92 * MIB);
    remove_tree(&pool.trash, &entry.name).unwrap();
    assert!(pool.hold_again(&entry, volume.capacity));
    assert_eq!(pool.available().unwrap(), 100 * MIB);
}

#[tokio::test]
async fn a_volume_that_grew_keeps_its_room() {
    let folder = tempfile::tempdir().unwrap();
    let pool = open(folder.path());
    let volume = volume();
    pool.create(&volume, None, pool.promise(&volume).unwrap()).unwrap();
    let grown = Volume { capacity: 16 * MIB, ..volume.clone() };
    // The image grows; what says so cannot be written.
    let there = pool.folder(&volume.id).unwrap();
    fs::create_dir(there.child("volume.json.new")).unwrap();
    pool.grow(&there, &volume, &grown).unwrap_err();
    assert_eq!(pool.backend.measured_size(&there), 16 * MIB, "this test is about one that grew");
    assert_eq!(pool.promised(), 16 * MIB);
    // What was refused takes nothing.
    let vast = Volume { capacity: 1 << 62, ..volume.clone() };
    pool.grow(&there, &volume, &vast).unwrap_err();
    assert_eq!(pool.promised(), 16 * MIB);
    // Nor is what can be written to promised again by the driver that comes next.
    drop(pool);
    assert_eq!(open(folder.path()).promised(), 16 * MIB);
}

/// What was never finished, and cannot be removed, keeps nobody from the pool.
#[tokio::test]
async fn what_cannot_be_removed_does_not_stop_the_start() {
    if missing(&[Need::Root]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let halves =
        ["volumes", "snapshots"].map(|kind| folder.path().join("pool").join(kind).join(".new-p.half"));
    for half in &halves {
        fs::create_dir_all(half.join("mounted")).unwrap();
        rustix::mount::mount_bind(folder.path(), half.join("mounted")).unwrap();
    }
    let pool = open(folder.path());
    for half in &halves {
        rustix::mount::unmount(half.join("mounted"), rustix::mount::UnmountFlags::DETACH).unwrap();
        assert!(half.exists(), "this test is about one that stayed");
    }
    pool.promise(&volume()).unwrap();
    drop(pool);
    open(folder.path());
    assert!(halves.iter().all(|half| !half.exists()));
}
