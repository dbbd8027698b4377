//! Volumes without a driver on real mounts: folders of the node and scratch space.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use holdfast_test_needs::{Need, missing};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use super::effects::Place;
use crate::volumes::{local, mountinfo::Mounts, view::*};

fn host(path: &Path, check: &str, read_only: bool) -> LocalVolume {
    LocalVolume {
        plugin: Plugin::HostPath,
        name: "v".into(),
        source: LocalSource::Path { path: path.to_string_lossy().into_owned(), check: check.into() },
        block: false,
        read_only,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_paths() {
    if missing(&[Need::Root]) {
        return;
    }
    let place = Place::new().await;
    let layout = &place.io.layout;
    let at = PublicationId { pod: "u".into(), plugin: Plugin::HostPath, name: "v".into() };
    let target = layout.pod_volume("u", Plugin::HostPath.folder(), "v");
    let folder = place.folder.path().join("backing");
    let file = folder.join("hello");
    let missing = |n: u32| place.folder.path().join(format!("missing-{n}"));
    symlink("nowhere", place.folder.path().join("dangling")).unwrap();
    for (n, path, check, works) in [
        (1, folder.clone(), "", true),
        (2, folder.clone(), "Directory", true),
        (3, file.clone(), "Directory", false),
        (4, file.clone(), "File", true),
        (5, folder.clone(), "File", false),
        (6, missing(6), "Directory", false),
        (7, missing(7), "DirectoryOrCreate", true),
        (8, missing(8), "FileOrCreate", true),
        (9, missing(9), "", true),
        (10, missing(10), "Exists", false),
        (11, folder.join("../csi.sock"), "Socket", true),
        (12, PathBuf::from("/dev/null"), "CharDevice", true),
        (13, PathBuf::from("relative"), "", false),
        (14, folder.clone(), "Nonsense", false),
    ] {
        let volume = host(&path, check, false);
        assert_eq!(local::mount_local(layout, &volume, "u").is_ok(), works, "case {n}");
        assert_eq!(Mounts::read().unwrap().is_mounted(&target), works, "case {n}");
        if works {
            local::mount_local(layout, &volume, "u").unwrap();
            assert_eq!(place.mounts(), 1, "case {n}: mounted once");
        }
        assert_eq!(local::unmount(layout, &at, false).unwrap(), Vec::<PathBuf>::new(), "case {n}");
        assert_eq!((place.mounts(), place.left()), (0, Vec::new()), "case {n}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "there", "the source is never touched");

    // Read-only, completed after a crash between the two mount calls.
    fs::create_dir_all(&target).unwrap();
    mount_bind(&folder, &target).unwrap();
    local::mount_local(layout, &host(&folder, "", true), "u").unwrap();
    assert!(fs::write(target.join("x"), "").is_err());
    assert_eq!(place.mounts(), 1);
    local::unmount(layout, &at, false).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn scratch_space_goes_with_its_pod_and_stops_at_mounts() {
    if missing(&[Need::Root]) {
        return;
    }
    let place = Place::new().await;
    let layout = &place.io.layout;
    let at = PublicationId { pod: "u".into(), plugin: Plugin::EmptyDir, name: "v".into() };
    let target = layout.pod_volume("u", Plugin::EmptyDir.folder(), "v");
    let mut volume = host(Path::new("/"), "", false);
    volume.plugin = Plugin::EmptyDir;
    volume.source = LocalSource::Scratch;

    local::mount_local(layout, &volume, "u").unwrap();
    fs::create_dir_all(target.join("deep/er")).unwrap();
    fs::write(target.join("deep/er/file"), "x").unwrap();
    // As deep as a path can be: its depth must not decide whether a pod can go.
    fs::create_dir_all(target.join("d/".repeat(1500))).unwrap();
    symlink(place.folder.path().join("backing"), target.join("link")).unwrap();
    let inner = target.join("mounted");
    fs::create_dir(&inner).unwrap();
    mount_bind(place.folder.path().join("backing"), &inner).unwrap();
    assert!(local::unmount(layout, &at, false).is_err(), "a mount inside stops it");
    assert!(
        place.folder.path().join("backing/hello").exists(),
        "nothing is deleted through a mount or a link"
    );
    unmount(&inner, UnmountFlags::NOFOLLOW).unwrap();
    assert_eq!(local::unmount(layout, &at, false).unwrap(), Vec::<PathBuf>::new());
    assert!(place.folder.path().join("backing/hello").exists());
    assert_eq!(place.left(), Vec::<PathBuf>::new());

    volume.source = LocalSource::Memory { limit: Some(1 << 20) };
    local::mount_local(layout, &volume, "u").unwrap();
    local::mount_local(layout, &volume, "u").unwrap();
    assert_eq!(place.mounts(), 1);
    assert_eq!(Mounts::read().unwrap().at(&target).unwrap().fs_type, "tmpfs");
    assert!(fs::write(target.join("big"), vec![0; 2 << 20]).is_err(), "the limit holds");
    local::unmount(layout, &at, false).unwrap();
    assert_eq!((place.mounts(), place.left()), (0, Vec::new()));
}
