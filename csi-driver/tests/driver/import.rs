//! What is there already becomes a volume, and is never lost on the way.

use std::{
    fs,
    io::Write as _,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use holdfast_csi_driver::{Config, Error, Import, Order, Outcome, PoolConfig, carry_out};
use holdfast_proto::csi::{self, volume_capability::access_mode::Mode};
use holdfast_test_needs::cannot_run;

use crate::{
    crash::{killed, listening, start},
    harness::{
        Driver, MIB, NODE, Scratch, block, command, entries, filesystem, mounted, needs, parameters, until,
        volume,
    },
    tools::fake,
};

fn of(path: impl AsRef<Path>) -> Import {
    Import {
        path: path.as_ref().to_owned(),
        name: "v".to_owned(),
        size: None,
        fs_type: None,
        raw_block: false,
        copy: false,
        enforce_size: true,
    }
}

/// An image file with a file system that has one file.
fn image(folder: &Path, fs_type: &str, bytes: i64) -> PathBuf {
    let path = folder.join(format!("old-{fs_type}.img"));
    fs::File::create(&path).unwrap().set_len(bytes as u64).unwrap();
    command(&format!("mkfs.{fs_type}"), &["-q", path.to_str().unwrap()]).unwrap();
    let at = folder.join("filling");
    fs::create_dir(&at).unwrap();
    let at = at.to_str().unwrap();
    command("mount", &["-o", "loop", path.to_str().unwrap(), at]).unwrap();
    fs::write(format!("{at}/file"), "old data").unwrap();
    command("umount", &[at]).unwrap();
    fs::remove_dir(at).unwrap();
    path
}

impl Driver {
    async fn import(&self, pool: usize, import: Import) -> Result<(String, u64), String> {
        match carry_out(&self.config.pools[pool], None, Order::Import(import)).await {
            Ok(Outcome::Imported { volume_id, capacity, .. }) => Ok((volume_id, capacity)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Publishes the volume, and answers what is in its file.
    async fn file(&mut self, id: &str, fs_type: &str) -> String {
        let capability = mounted(fs_type);
        self.attach(id, &capability).await.unwrap();
        self.stage(id, &capability).await.unwrap();
        self.publish(id, "pod", &capability).await.unwrap();
        let text = fs::read_to_string(self.path("pod/file")).unwrap();
        self.unpublish(id, "pod").await.unwrap();
        self.unstage(id).await.unwrap();
        self.detach(id).await.unwrap();
        text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_moved_or_copied_and_found_by_create() {
    needs!("xfs", "btrfs");
    let mut driver = Driver::image().await;
    for (fs_type, bytes) in [("ext4", 32 * MIB), ("xfs", 300 * MIB), ("btrfs", 256 * MIB)] {
        for (copy, running) in [(false, true), (true, true), (false, false), (true, false)] {
            let path = image(driver.scratch.path(), fs_type, bytes);
            let before = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().ino());
            if !running {
                driver.end().await;
            }
            let import = Import { copy, fs_type: Some(fs_type.to_owned()), ..of(&path) };
            let (id, capacity) = driver.import(0, import.clone()).await.unwrap();
            assert_eq!((id.as_str(), capacity), ("default.v", bytes as u64));
            let again = driver.import(0, import).await.unwrap_err();
            assert!(again.contains("default.v exists already"), "{again}");
            if !running {
                driver.restart().await;
            }
            let data = driver.volume_folder(&id).join("disk.img");
            if copy {
                assert!(fs::read(&path).unwrap() == before.0, "the original is as it was");
                let uuid = |path: &Path| {
                    let args = ["-p", "-o", "value", "-s", "UUID", path.to_str().unwrap()];
                    command("blkid", &args).unwrap()
                };
                assert_ne!(uuid(&data), uuid(&path), "both can be mounted at once");
                fs::remove_file(&path).unwrap();
            } else {
                assert!(!path.exists());
                assert_eq!(fs::metadata(&data).unwrap().ino(), before.1, "it was moved");
            }
            let found = driver.create(volume("v", bytes, &mounted(fs_type))).await.unwrap();
            assert_eq!((found.volume_id.as_str(), found.capacity_bytes), ("default.v", bytes));
            assert_eq!(driver.file(&id, fs_type).await, "old data");
            driver.delete(&id).await.unwrap();
        }
    }
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_can_be_a_raw_block_device() {
    needs!();
    let mut driver = Driver::image().await;
    let path = driver.scratch.path().join("old.img");
    // No whole number of MiB: rounded up, in the pool and not before.
    fs::write(&path, vec![7; 3 * MIB as usize + 5]).unwrap();
    let (id, capacity) = driver.import(0, Import { raw_block: true, ..of(&path) }).await.unwrap();
    assert_eq!(capacity, 4 * MIB as u64);
    let capability = block(Mode::SingleNodeMultiWriter);
    driver.attach(&id, &capability).await.unwrap();
    driver.stage(&id, &capability).await.unwrap();
    driver.publish(&id, "raw", &capability).await.unwrap();
    let data = fs::read(driver.path("raw")).unwrap();
    assert_eq!(data.len(), 4 * MIB as usize);
    assert!(data[..3 * MIB as usize + 5].iter().all(|byte| *byte == 7));
    assert!(data[3 * MIB as usize + 5..].iter().all(|byte| *byte == 0));
    driver.take_down(&id, "raw").await;
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_stays_as_it_was() {
    needs!("btrfs");
    let scratch = Scratch::new();
    let disk = filesystem(&scratch, "btrfs");
    let pools = vec![
        PoolConfig::image("default", scratch.path().join("pool")).with_capacity(64 * MIB as u64),
        PoolConfig::directory("dirs", disk.join("pool")),
    ];
    let mut driver = Driver::with(scratch, pools).await;
    let folder = driver.scratch.path().to_owned();
    let path = image(&folder, "ext4", 32 * MIB);
    let text = path.to_str().unwrap().to_owned();
    let before = fs::read(&path).unwrap();
    let other = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    std::os::unix::fs::symlink(&path, folder.join("link")).unwrap();
    let _socket = UnixListener::bind(folder.join("socket")).unwrap();
    let empty = other("empty", b"");
    let zeros = other("zeros", &vec![0; MIB as usize]);
    let cut = other("cut", &before[..16 * MIB as usize]);
    let mut table = vec![0; MIB as usize];
    // One partition, at 2048 for 1024 sectors (the master boot record).
    table[446..462].copy_from_slice(&[0, 0, 2, 0, 0x83, 0, 3, 0, 0, 8, 0, 0, 0, 4, 0, 0]);
    table[510..512].copy_from_slice(&[0x55, 0xaa]);
    let table = other("table", &table);
    let swap = other("swap", &vec![0; MIB as usize]);
    command("mkswap", &[swap.to_str().unwrap()]).unwrap();
    let plain = folder.join("plain");
    fs::create_dir(&plain).unwrap();
    for copy in [false, true] {
        for (import, said) in [
            (of(folder.join("link")), "is a symbolic link"),
            (of(folder.join("socket")), "neither a file nor a folder"),
            (of(folder.join("nothing")), "does not exist"),
            (of("relative"), "not an absolute path"),
            (of(&empty), "is empty"),
            (of(&zeros), "holds nothing that blkid knows"),
            (of(&swap), "holds swap"),
            (of(&cut), "was cut off"),
            (of(&table), "partition table"),
            (of(&plain), "is a folder"),
            (Import { fs_type: Some("xfs".to_owned()), ..of(&path) }, "holds ext4, not xfs"),
            (Import { size: Some(MIB as u64), ..of(&path) }, "less than what"),
            (Import { size: Some(65 * MIB as u64), ..of(&path) }, "is full"),
            (Import { name: "a/b\u{7}".to_owned(), ..of(&path) }, "name"),
            (of(&driver.config.pools[0].path), "is in the pool"),
            (of(driver.config.pools[0].path.join("pool.json")), "is in the pool"),
        ] {
            let refused = driver.import(0, Import { copy, ..import.clone() }).await.unwrap_err();
            assert!(refused.contains(said), "{import:?}: {refused:?} does not say {said:?}");
        }
    }
    let refused = driver.import(1, of(&path)).await.unwrap_err();
    assert!(refused.contains("is a file"), "{refused}");
    let refused = driver.import(0, Import { size: Some(MIB as u64), ..of(&folder) }).await.unwrap_err();
    assert!(refused.contains("holds the pool") || refused.contains("mounted in it"), "{refused}");

    // In use, in every way.
    let open = fs::File::open(&path).unwrap();
    let device = command("losetup", &["-f", "--show", &text]).unwrap().trim().to_owned();
    let refused = driver.import(0, of(&path)).await.unwrap_err();
    assert!(refused.contains(&format!("is attached to {device}")), "{refused}");
    command("losetup", &["-d", &device]).unwrap();
    drop(open);
    // By a name that it has no more.
    let second = folder.join("second");
    fs::hard_link(&path, &second).unwrap();
    let device = command("losetup", &["-f", "--show", second.to_str().unwrap()]).unwrap().trim().to_owned();
    fs::remove_file(&second).unwrap();
    let refused = driver.import(0, of(&path)).await.unwrap_err();
    assert!(refused.contains(&format!("is attached to {device}")), "{refused}");
    command("losetup", &["-d", &device]).unwrap();
    let mut reader = sleeper(&path);
    let refused = driver.import(0, of(&path)).await.unwrap_err();
    assert!(refused.contains(&format!("in use by process {}", reader.id())), "{refused}");
    reader.kill().unwrap();
    reader.wait().unwrap();
    fs::hard_link(&path, folder.join("second")).unwrap();
    let refused = driver.import(0, of(&path)).await.unwrap_err();
    assert!(refused.contains("2 names"), "{refused}");
    fs::remove_file(folder.join("second")).unwrap();

    assert!(fs::read(&path).unwrap() == before, "nothing of all this changed it");
    assert_eq!(entries(&driver.config.pools[0].path.join("volumes")), Vec::<String>::new());
    driver.import(0, of(&path)).await.unwrap();
    assert_eq!(driver.file("default.v", "ext4").await, "old data");
    // The pool's limit counts what was moved in.
    let more = driver.create(volume("more", 40 * MIB, &mounted(""))).await.unwrap_err();
    assert!(more.message().contains("limited to 64Mi"), "{more}");
}

#[expect(clippy::disallowed_methods, reason = "a process that has the file open")]
fn sleeper(path: &Path) -> std::process::Child {
    let file = fs::File::open(path).unwrap();
    std::process::Command::new("sleep").arg("600").stdin(file).spawn().unwrap()
}

/// A folder with some of everything that a folder can have.
fn fill(folder: &Path) {
    fs::create_dir(folder.join("sub")).unwrap();
    fs::write(folder.join("file"), "old data").unwrap();
    fs::hard_link(folder.join("file"), folder.join("sub/same")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("sub/link")).unwrap();
    fs::set_permissions(folder.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(folder.join("file"), Some(1234), Some(5678)).unwrap();
}

fn assert_filled(folder: &Path) {
    let file = fs::symlink_metadata(folder.join("file")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid(), file.nlink()), (0o640, 1234, 5678, 2));
    assert_eq!(fs::metadata(folder.join("sub/same")).unwrap().ino(), file.ino());
    assert_eq!(fs::read_link(folder.join("sub/link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "old data");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders() {
    needs!("btrfs");
    let scratch = Scratch::new();
    let (btrfs, ext4) = (filesystem(&scratch, "btrfs"), filesystem(&scratch, "ext4"));
    let pools = vec![
        PoolConfig::directory("dirs", btrfs.join("pool")),
        PoolConfig::directory("plain", ext4.join("pool")),
        PoolConfig::btrfs("subvolumes", btrfs.join("pool2")),
    ];
    let mut driver = Driver::with(scratch, pools).await;
    let sized = |path: &Path| Import { size: Some(16 * MIB as u64), ..of(path) };
    // Simple quotas, which the first volume switches on, count nothing that was there before.
    let first = csi::CreateVolumeRequest {
        parameters: parameters(&[("pool", "dirs")]),
        ..volume("first", MIB, &mounted(""))
    };
    let first = driver.create(first).await.unwrap().volume_id;
    driver.delete(&first).await.unwrap();
    for pool in [0, 2] {
        let name = driver.config.pools[pool].name.clone();
        // A subvolume is moved, anything else has to be copied.
        let old = btrfs.join("old");
        command("btrfs", &["-q", "subvolume", "create", old.to_str().unwrap()]).unwrap();
        fill(&old);
        let refused = driver.import(pool, of(&old)).await.unwrap_err();
        assert!(refused.contains("--size"), "{refused}");
        let (id, capacity) = driver.import(pool, sized(&old)).await.unwrap();
        assert_eq!(capacity, 16 * MIB as u64);
        assert!(!old.exists());
        let request = csi::CreateVolumeRequest {
            parameters: parameters(&[("pool", &name)]),
            ..volume("v", 16 * MIB, &mounted(""))
        };
        assert_eq!(driver.create(request).await.unwrap().volume_id, id);
        assert_filled(&driver.config.pools[pool].path.join("volumes").join(&id).join("data"));
        assert_eq!(driver.file(&id, "").await, "old data");
        // It is held to its size.
        let capability = mounted("");
        driver.attach(&id, &capability).await.unwrap();
        driver.stage(&id, &capability).await.unwrap();
        assert!(fs::write(format!("{}/large", driver.staging(&id)), vec![1; 20 * MIB as usize]).is_err());
        driver.unstage(&id).await.unwrap();
        driver.detach(&id).await.unwrap();
        driver.delete(&id).await.unwrap();

        fs::create_dir(&old).unwrap();
        fill(&old);
        let refused = driver.import(pool, sized(&old)).await.unwrap_err();
        assert!(refused.contains("is no subvolume") && refused.contains("--copy"), "{refused}");
        let (id, _) = driver.import(pool, Import { copy: true, ..sized(&old) }).await.unwrap();
        assert_filled(&old);
        assert_filled(&driver.config.pools[pool].path.join("volumes").join(&id).join("data"));
        driver.delete(&id).await.unwrap();
        command("rm", &["-r", old.to_str().unwrap()]).unwrap();
    }

    let old = ext4.join("old");
    fs::create_dir(&old).unwrap();
    fill(&old);
    let refused = driver.import(1, sized(&old)).await.unwrap_err();
    assert!(refused.contains("enforceSize"), "{refused}");
    let unenforced = Import { enforce_size: false, ..sized(&old) };
    let (id, _) = driver.import(1, unenforced.clone()).await.unwrap();
    assert!(!old.exists());
    assert_filled(&ext4.join("pool/volumes").join(&id).join("data"));
    driver.delete(&id).await.unwrap();
    // From one file system to another there is no move.
    let old = btrfs.join("old");
    fs::create_dir(&old).unwrap();
    fill(&old);
    let elsewhere = Import { path: old.clone(), ..unenforced };
    let refused = driver.import(1, elsewhere.clone()).await.unwrap_err();
    assert!(refused.contains("is not on the pool's file system"), "{refused}");
    assert_filled(&old);
    assert_eq!(entries(&ext4.join("pool/volumes")), Vec::<String>::new());
    driver.import(1, Import { copy: true, ..elsewhere }).await.unwrap();
    assert_filled(&ext4.join("pool/volumes/plain.v/data"));
    driver.end().await;
}

/// What simple quotas do not count is not held to a size: a subvolume that was there before them.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_quota_counts() {
    needs!("btrfs");
    if !Path::new("/sys/fs/btrfs/features/simple_quota").exists() {
        cannot_run("the kernel has no simple quotas");
        return;
    }
    let scratch = Scratch::new();
    let btrfs = filesystem(&scratch, "btrfs");
    let mut driver = Driver::with(scratch, vec![PoolConfig::directory("dirs", btrfs.join("pool"))]).await;
    let subvolume = |name: &str| {
        let old = btrfs.join(name);
        command("btrfs", &["-q", "subvolume", "create", old.to_str().unwrap()]).unwrap();
        fs::write(old.join("file"), vec![1; 10 * MIB as usize]).unwrap();
        // Counted is what is written, when it is.
        command("sync", &["--file-system", old.to_str().unwrap()]).unwrap();
        old
    };
    let before = subvolume("before");
    let sized = |path: &Path| Import { size: Some(16 * MIB as u64), ..of(path) };
    let refused = driver.import(0, sized(&before)).await.unwrap_err();
    assert!(refused.contains("simple quotas") && refused.contains("use --copy"), "{refused}");
    let capability = mounted("");
    for (name, copy) in [("before", true), ("before", false), ("after", false)] {
        let from = if name == "after" { subvolume(name) } else { before.clone() };
        let done = driver.import(0, Import { copy, ..sized(&from) }).await;
        if !copy && name == "before" {
            // Quotas are on now, and count it as little.
            let refused = done.unwrap_err();
            assert!(refused.contains("use --copy"), "{refused}");
            assert!(driver.import(0, Import { enforce_size: false, ..sized(&from) }).await.is_ok());
            driver.delete("dirs.v").await.unwrap();
            continue;
        }
        let (id, _) = done.unwrap();
        driver.attach(&id, &capability).await.unwrap();
        driver.stage(&id, &capability).await.unwrap();
        let more = fs::File::create(format!("{}/more", driver.staging(&id))).unwrap();
        let written = (&more).write_all(&[2; 10 * MIB as usize]).and_then(|()| more.sync_all());
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::QuotaExceeded, "{name}, copy {copy}");
        drop(more);
        driver.unstage(&id).await.unwrap();
        driver.detach(&id).await.unwrap();
        driver.delete(&id).await.unwrap();
    }
    driver.end().await;
}

/// A copy stays on one file system, so what it would leave out is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_leaves_nothing_out() {
    needs!("btrfs");
    let scratch = Scratch::new();
    let btrfs = filesystem(&scratch, "btrfs");
    let pools = vec![
        PoolConfig::directory("dirs", btrfs.join("pool")),
        PoolConfig::btrfs("subvolumes", btrfs.join("pool2")),
    ];
    let driver = Driver::with(scratch, pools).await;
    let old = btrfs.join("old");
    fs::create_dir(&old).unwrap();
    fill(&old);
    let inner = old.join("sub/inner");
    command("btrfs", &["-q", "subvolume", "create", inner.to_str().unwrap()]).unwrap();
    fs::write(inner.join("file"), "more").unwrap();
    let copy = Import { copy: true, size: Some(16 * MIB as u64), ..of(&old) };
    for pool in [0, 1] {
        let refused = driver.import(pool, copy.clone()).await.unwrap_err();
        let said = format!("{} is a subvolume or a mount in {}", inner.display(), old.display());
        assert!(refused.contains(&said), "{refused}");
        assert_eq!(entries(&driver.config.pools[pool].path.join("volumes")), Vec::<String>::new());
    }
    assert_eq!(fs::read_to_string(inner.join("file")).unwrap(), "more");
    command("btrfs", &["-q", "subvolume", "delete", inner.to_str().unwrap()]).unwrap();
    driver.import(0, copy).await.unwrap();
    assert_filled(&driver.config.pools[0].path.join("volumes/dirs.v/data"));
}

/// A copy of a folder is of one moment, or is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_written_to_while_it_is_copied() {
    needs!();
    let scratch = Scratch::new();
    let pool = PoolConfig::directory("dirs", scratch.path().join("pool"));
    let mut driver = Driver::with(scratch, vec![pool]).await;
    driver.end().await;
    fs::create_dir(driver.scratch.path().join("tools")).unwrap();
    let mut tools = driver.scratch.path().join("tools").into_os_string();
    tools.push(":/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin");
    let old = driver.scratch.path().join("old");
    for (meanwhile, named) in [
        ("printf 'new data' > $old/file", "file"),
        // Neither its size nor its time of modification tell.
        (
            "touch -r $old/file $old.then; printf 'new data' 1<> $old/file; touch -r $old.then $old/file",
            "file",
        ),
        ("chmod u+x $old/file", "file"),
        ("echo > $old/sub/new", "sub"),
        ("rm $old/sub/link", "sub"),
        ("mv $old/sub/link $old/sub/other", "sub"),
        ("true", ""),
    ] {
        fs::create_dir(&old).unwrap();
        fill(&old);
        let script = format!("old={}; /usr/bin/cp \"$@\" || exit 1; {meanwhile}", old.display());
        fake(driver.scratch.path(), "cp", &script);
        let import = Import { copy: true, size: Some(16 * MIB as u64), enforce_size: false, ..of(&old) };
        let copied = carry_out(&driver.config.pools[0], Some(tools.clone()), Order::Import(import)).await;
        let volumes = entries(&driver.config.pools[0].path.join("volumes"));
        if meanwhile == "true" {
            copied.unwrap();
            assert_eq!(volumes, ["dirs.v"]);
            assert_filled(&driver.config.pools[0].path.join("volumes/dirs.v/data"));
        } else {
            let refused = copied.unwrap_err().to_string();
            assert!(refused.contains("was written to while it was copied"), "{meanwhile}: {refused}");
            assert!(refused.contains(&format!("(last in {named})")), "{meanwhile}: {refused}");
            assert_eq!(volumes, Vec::<String>::new(), "{meanwhile}");
        }
        command("rm", &["-r", old.to_str().unwrap()]).unwrap();
    }
}

/// The driver takes orders a moment after it serves CSI, or is gone.
async fn takes_orders(pool: &PoolConfig, process: &mut std::process::Child) {
    let socket = pool.path.join(".admin.sock");
    until("it takes orders", || {
        process.try_wait().unwrap().is_some() || UnixStream::connect(&socket).is_ok()
    })
    .await;
}

/// The driver is killed at every step of an import. The original is where it was, or the
/// volume is there whole; repeated, the import ends.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_step() {
    needs!("btrfs");
    for (backend, copy) in [("image", false), ("image", true), ("directory", false), ("directory", true)] {
        let mut crashes = 0;
        for crash_at in 1.. {
            let scratch = Scratch::new();
            let folder = scratch.path().to_owned();
            let (pool, import) = if backend == "image" {
                fs::create_dir(folder.join("pool")).unwrap();
                let path = image(&folder, "ext4", 16 * MIB);
                (PoolConfig::image("default", folder.join("pool")), of(path))
            } else {
                let disk = filesystem(&scratch, "btrfs");
                fs::rename(&disk, folder.join("disk")).unwrap_or_else(|_| {
                    command("mkdir", &[folder.join("disk").to_str().unwrap()]).unwrap();
                    command(
                        "mount",
                        &["--move", disk.to_str().unwrap(), folder.join("disk").to_str().unwrap()],
                    )
                    .unwrap();
                });
                let disk = folder.join("disk");
                // Simple ones would not count what was there before them.
                command("btrfs", &["quota", "enable", disk.to_str().unwrap()]).unwrap();
                let old = disk.join("old");
                command("btrfs", &["-q", "subvolume", "create", old.to_str().unwrap()]).unwrap();
                fill(&old);
                (
                    PoolConfig::directory("default", disk.join("pool")),
                    Import { size: Some(16 << 20), ..of(old) },
                )
            };
            let import = Import { copy, ..import };
            let order = Order::Import(import.clone());
            // The pool is made, so that only the import is interrupted.
            let mut process = start(&folder, backend, None);
            assert_eq!(listening(&mut process, &folder).await, None);
            process.kill().unwrap();
            process.wait().unwrap();

            let mut process = start(&folder, backend, Some(crash_at));
            let done = if listening(&mut process, &folder).await.is_none() {
                takes_orders(&pool, &mut process).await;
                Some(carry_out(&pool, None, order.clone()).await)
            } else {
                None
            };
            let crashed = match &done {
                Some(Ok(_)) => false,
                Some(Err(error)) => {
                    assert!(matches!(error, Error::Lost(_) | Error::Io { .. }), "{error}");
                    until("the driver is gone", || process.try_wait().unwrap().is_some()).await;
                    assert!(killed(process.wait().unwrap()));
                    true
                }
                None => true,
            };
            let _ = process.kill();
            process.wait().unwrap();
            let mut process = start(&folder, backend, None);
            assert_eq!(listening(&mut process, &folder).await, None);
            takes_orders(&pool, &mut process).await;
            let made = pool.path.join("volumes/default.v").exists();
            let original = import.path.exists();
            assert!(
                if copy { original } else { original != made },
                "{backend} at step {crash_at}: lost or doubled"
            );
            if !made {
                carry_out(&pool, None, order).await.unwrap();
            }
            assert_eq!(entries(&pool.path.join("volumes")), ["default.v"]);
            let config = Config::new(NODE, folder.join("csi.sock"), vec![pool.clone()]);
            let mut driver = Driver::of_process(scratch, config).await;
            assert_eq!(driver.file("default.v", "").await, "old data");
            process.kill().unwrap();
            process.wait().unwrap();
            if !crashed {
                break;
            }
            crashes += 1;
        }
        println!("import, {backend}, copy {copy}: killed {crashes} times");
        assert!(crashes > 2, "{backend}: never killed");
    }
}
