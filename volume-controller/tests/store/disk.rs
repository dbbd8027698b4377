//! A full disk: writes are refused, reads go on, and it heals.

use std::path::PathBuf;

use super::*;
use holdfast_volume_controller::store::CommitError;

/// A small file system of its own, gone when dropped.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> rustix::io::Result<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        rustix::mount::mount(
            "holdfast-test",
            folder.path(),
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            Some(&*options),
        )?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.folder.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_heals() {
    // How much is left decides what fails: the commit, the checkpoint, the growth of the file.
    for left in [600 << 10, 2 << 20, 5 << 20, 9 << 20] {
        let disk = match SmallDisk::mount("16m") {
            Ok(disk) => disk,
            Err(error) => {
                holdfast_test_needs::cannot_run(&format!("cannot mount a tmpfs ({error})"));
                return;
            }
        };
        fill_and_heal(&disk, left).await;
    }
}

async fn fill_and_heal(disk: &SmallDisk, left: usize) {
    let config = Config::new(disk.path("state.db"));
    let store = Store::open(config.clone()).await.unwrap();
    put(&store, key("first"), body("first", 1)).await;
    std::fs::write(disk.path("ballast"), vec![0u8; (16 << 20) - left]).unwrap();

    let mut acknowledged = Vec::new();
    let mut watch = store.watch(&[], store.revision()).unwrap();
    let text = "x".repeat(100_000);
    let create = |name: &str| vec![write(name, Precondition::Absent, Some(json!({"text": text})))];
    let error = loop {
        let name = format!("claim-{}", acknowledged.len());
        match store.commit(create(&name)).await {
            Ok(done) => acknowledged.push((key(&name), done[0].object.clone())),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 200, "the disk did not fill up");
    };
    println!("{left} bytes left: after {} writes: {error}", acknowledged.len());
    assert!(matches!(error, CommitError::Full(_)), "{error}");
    assert!(error.is_retryable() && error.to_string().contains("make room"), "{error}");
    // Again and again, still the same: nothing gets worse. (One may fit in: a
    // checkpoint that was tried again makes room in the WAL.)
    for attempt in 0..5 {
        let name = format!("again-{attempt}");
        match store.commit(create(&name)).await {
            Ok(done) => acknowledged.push((key(&name), done[0].object.clone())),
            Err(error) => assert!(matches!(error, CommitError::Full(_)), "{error}"),
        }
    }
    let revision = store.revision();
    for (key, object) in &acknowledged {
        assert_eq!(store.get(key).as_ref(), Some(object));
    }
    for (_, object) in &acknowledged {
        assert_eq!(next_change(&mut watch).await.object, *object);
    }
    // A restart in the middle of it: it opens and reads.
    let before = listed(&store, &[CLAIMS]);
    assert_eq!(before.len(), acknowledged.len() + 1);
    store.close().await;
    let store = Store::open(config.clone()).await.unwrap();
    assert_eq!(listed(&store, &[CLAIMS]), before);
    let mut watch = store.watch(&[], revision).unwrap();

    std::fs::remove_file(disk.path("ballast")).unwrap();
    let after = put(&store, key("after"), body("after", 1)).await;
    assert_eq!(after, revision + 1, "a refused write took no revision");
    assert_eq!(next_change(&mut watch).await.revision, after);
    let before = listed(&store, &[CLAIMS]);
    store.close().await;
    let store = Store::open(config).await.unwrap();
    assert_eq!(listed(&store, &[CLAIMS]), before);
    store.close().await;
}
