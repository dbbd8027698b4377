//! Volumes of a btrfs pool made from what lies in one on another file system: sent and
//! received.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use holdfast_csi_driver::{Config, PoolConfig};
use holdfast_proto::csi;
use tonic::{Code, Status};

use crate::{
    directory::fill,
    harness::{
        Driver, MIB, NODE, Scratch, assert_code, command, entries, mounted, needs, parameters, until, volume,
    },
    snapshots::{from_snapshot, from_volume},
    tools::fake,
};

/// A btrfs of so many bytes, mounted in the scratch folder with these options.
pub(crate) fn disk(scratch: &Scratch, name: &str, bytes: i64, options: &str) -> PathBuf {
    let image = scratch.path().join(format!("{name}.img"));
    fs::File::create(&image).unwrap().set_len(bytes as u64).unwrap();
    command("mkfs.btrfs", &["-q", image.to_str().unwrap()]).unwrap();
    let disk = scratch.path().join(name);
    fs::create_dir(&disk).unwrap();
    let options = format!("loop{options}");
    command("mount", &["-o", &options, image.to_str().unwrap(), disk.to_str().unwrap()]).unwrap();
    disk
}

/// A driver with the pools `default` and `other`, each on a btrfs of its own.
pub(crate) async fn on_two(bytes: i64, options: &str, other_bytes: i64) -> Driver {
    let scratch = Scratch::new();
    let config = config(&scratch, bytes, options, other_bytes);
    Driver::start(scratch, config).await
}

fn config(scratch: &Scratch, bytes: i64, options: &str, other_bytes: i64) -> Config {
    let pools = vec![
        PoolConfig::btrfs("default", disk(scratch, "one", bytes, options).join("pool")),
        PoolConfig::btrfs("other", disk(scratch, "two", other_bytes, "").join("pool")),
    ];
    Config::new(NODE, scratch.path().join("csi.sock"), pools)
}

/// A request for a volume in a pool, filled from a source.
pub(crate) fn copy(
    pool: &str,
    name: &str,
    bytes: i64,
    source: Option<csi::VolumeContentSource>,
) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest {
        volume_content_source: source,
        parameters: parameters(&[("pool", pool)]),
        ..volume(name, bytes, &mounted(""))
    }
}

pub(crate) async fn use_it(driver: &mut Driver, id: &str, target: &str) {
    let capability = mounted("");
    driver.attach(id, &capability).await.unwrap();
    driver.stage(id, &capability).await.unwrap();
    driver.publish(id, target, &capability).await.unwrap();
}

/// Nothing of these pools is left, and no subvolume on their disks.
pub(crate) async fn assert_freed(driver: &Driver) {
    for disk in ["one", "two"] {
        let disk = driver.scratch.path().join(disk);
        until("the trash is empty", || entries(&disk.join("pool/trash")).is_empty()).await;
        for folder in ["volumes", "snapshots"] {
            assert_eq!(entries(&disk.join("pool").join(folder)), Vec::<String>::new());
        }
        assert_eq!(subvolumes(&disk), "");
    }
}

pub(crate) fn subvolumes(disk: &Path) -> String {
    command("btrfs", &["subvolume", "list", disk.to_str().unwrap()]).unwrap()
}

/// Waits for btrfs, which frees deleted subvolumes in the background: from the next commit on,
/// and what was freed is room after the one that follows.
pub(crate) fn freed(disk: &Path) {
    for what in ["filesystem", "subvolume", "filesystem"] {
        command("btrfs", &[what, "sync", disk.to_str().unwrap()]).unwrap();
    }
}

/// Bytes that no two blocks have in common.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).take(length / 8).flatten().collect()
}

/// Everything that a volume has comes along, byte for byte, from a snapshot and from a volume
/// in use; the copies are held to sizes of their own and can be copied on.
#[tokio::test(flavor = "multi_thread")]
async fn into_a_pool_elsewhere_and_back() {
    needs!("btrfs");
    let mut driver = on_two(512 * MIB, "", 512 * MIB).await;
    let id = driver.bring_up("source", 60 * MIB, &mounted(""), "pod").await;
    let pod = PathBuf::from(driver.path("pod"));
    let data = noise(20 << 20);
    fs::create_dir_all(pod.join("deep/er")).unwrap();
    fs::write(pod.join("deep/er/file"), &data).unwrap();
    fs::hard_link(pod.join("deep/er/file"), pod.join("hard")).unwrap();
    symlink("/etc", pod.join("link")).unwrap();
    fs::File::create(pod.join("sparse")).unwrap().set_len(1 << 30).unwrap();
    command("chown", &["12:34", pod.join("deep").to_str().unwrap()]).unwrap();
    fs::set_permissions(&pod, fs::Permissions::from_mode(0o1777)).unwrap();
    command("btrfs", &["subvolume", "create", pod.join("inner").to_str().unwrap()]).unwrap();
    let snapshot = driver.snapshot("s", &id).await.unwrap().snapshot_id;
    // Not synced, and not in the snapshot.
    fs::write(pod.join("later"), "later").unwrap();

    let restored = copy("other", "restored", 60 * MIB, from_snapshot(&snapshot));
    let restored = driver.create(restored).await.unwrap();
    assert_eq!(restored.content_source, from_snapshot(&snapshot));
    let restored = restored.volume_id;
    let clone = driver.create(copy("other", "clone", 80 * MIB, from_volume(&id))).await.unwrap().volume_id;
    let again = driver.create(copy("other", "clone", 80 * MIB, from_volume(&id))).await.unwrap();
    assert_eq!(again.volume_id, clone);
    fs::write(pod.join("deep/er/file"), "changed").unwrap();
    assert_eq!(entries(&driver.scratch.path().join("one/pool/snapshots")), std::slice::from_ref(&snapshot));
    driver.take_down(&id, "pod").await;
    driver.delete_snapshot(&snapshot).await.unwrap();
    driver.restart().await;

    for (id, target, size) in [(&restored, "restored", 60 * MIB), (&clone, "clone", 80 * MIB)] {
        use_it(&mut driver, id, target).await;
        let pod = PathBuf::from(driver.path(target));
        assert!(fs::read(pod.join("deep/er/file")).unwrap() == data, "{target}: not byte for byte");
        assert_eq!(fs::metadata(pod.join("hard")).unwrap().nlink(), 2);
        assert_eq!(fs::read_link(pod.join("link")).unwrap(), Path::new("/etc"));
        let sparse = fs::metadata(pod.join("sparse")).unwrap();
        assert_eq!((sparse.len(), sparse.blocks()), (1 << 30, 0));
        let deep = fs::metadata(pod.join("deep")).unwrap();
        assert_eq!((deep.uid(), deep.gid()), (12, 34));
        assert_eq!(fs::metadata(&pod).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(pod.join("later").exists(), target == "clone");
        assert!(!pod.join("inner").exists(), "what is nested is not copied");
        let folder = driver.scratch.path().join("two/pool/volumes").join(id).join("data");
        let shown = command("btrfs", &["subvolume", "show", folder.to_str().unwrap()]).unwrap();
        let mark = shown.lines().find_map(|line| line.trim().strip_prefix("Received UUID:")).unwrap();
        assert_eq!(mark.trim(), "-", "it is not what it was received as any more");
        let (written, error) = fill(&driver.path(&format!("{target}/more")));
        assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded, "{error}");
        let room = size - 20 * MIB;
        assert!((room - 5 * MIB..=room).contains(&written), "{target}: {written} of {room}");
        fs::remove_file(pod.join("more")).unwrap();
    }
    let back = driver.create(copy("default", "back", 80 * MIB, from_volume(&clone))).await.unwrap().volume_id;
    use_it(&mut driver, &back, "back").await;
    assert!(fs::read(driver.path("back/deep/er/file")).unwrap() == data);
    for (id, target) in [(&restored, "restored"), (&clone, "clone"), (&back, "back")] {
        driver.take_down(id, target).await;
    }
    assert_freed(&driver).await;
    driver.end().await;
}

/// Pools on one file system share blocks, and each keeps the room for its own changes.
#[tokio::test(flavor = "multi_thread")]
async fn pools_on_one_file_system_share() {
    needs!("btrfs");
    let scratch = Scratch::new();
    let disk = disk(&scratch, "one", 512 * MIB, "");
    let pools = vec![
        PoolConfig::btrfs("default", disk.join("pool")),
        PoolConfig::btrfs("other", disk.join("second")),
    ];
    let mut driver = Driver::with(scratch, pools).await;
    let id = driver.bring_up("source", 150 * MIB, &mounted(""), "pod").await;
    fs::write(driver.path("pod/file"), noise(120 << 20)).unwrap();
    command("sync", &["-f", &driver.path("pod")]).unwrap();
    let free = || rustix::fs::statvfs(&disk).map(|stat| (stat.f_bavail * stat.f_frsize) as i64).unwrap();
    let before = free();
    let copied = driver.create(copy("other", "copy", 150 * MIB, from_volume(&id))).await.unwrap().volume_id;
    assert!(before - free() < 20 * MIB, "nothing was copied");
    driver.restart().await;
    // Each may come to change all that they share: what is free is promised to them.
    let asked = csi::GetCapacityRequest::default();
    let left = driver.controller.get_capacity(asked).await.unwrap().into_inner().available_capacity;
    assert!(left <= before - 150 * MIB + 10 * MIB, "{left} of {before} are left");
    use_it(&mut driver, &copied, "copy").await;
    assert!(fs::read(driver.path("copy/file")).unwrap() == noise(120 << 20));
    driver.take_down(&copied, "copy").await;
    driver.take_down(&id, "pod").await;
    driver.end().await;
}

/// What was compressed at the source may be too large for the volume, or for the disk.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_leaves_nothing() {
    needs!("btrfs");
    for (other_bytes, code, said) in [
        (512 * MIB, Code::OutOfRange, "not as compressed here"),
        (192 * MIB, Code::ResourceExhausted, "is full"),
    ] {
        let mut driver = on_two(512 * MIB, ",compress-force=zstd", other_bytes).await;
        let id = driver.bring_up("source", 40 * MIB, &mounted(""), "pod").await;
        // One repeated block: as compressed as can be.
        fs::write(driver.path("pod/file"), vec![7; 180 << 20]).unwrap();
        let snapshot = driver.snapshot("s", &id).await.unwrap().snapshot_id;
        for source in [from_snapshot(&snapshot), from_volume(&id)] {
            let refused = driver.create(copy("other", "copy", 40 * MIB, source)).await;
            assert_code(refused, code, said);
            assert_eq!(entries(&driver.scratch.path().join("two/pool/volumes")), Vec::<String>::new());
            assert_eq!(subvolumes(&driver.scratch.path().join("two")), "");
            freed(&driver.scratch.path().join("two"));
            assert_eq!(
                entries(&driver.scratch.path().join("one/pool/snapshots")),
                std::slice::from_ref(&snapshot)
            );
        }
        // More than the disk has is not even begun.
        let refused = driver.create(copy("other", "copy", 600 * MIB, from_snapshot(&snapshot))).await;
        assert_code(refused, Code::ResourceExhausted, "is full");
        if other_bytes > 192 * MIB {
            let enough = copy("other", "copy", 200 * MIB, from_snapshot(&snapshot));
            let copied = driver.create(enough).await.unwrap().volume_id;
            use_it(&mut driver, &copied, "copy").await;
            assert!(fs::read(driver.path("copy/file")).unwrap() == vec![7; 180 << 20]);
            driver.take_down(&copied, "copy").await;
        }
        driver.take_down(&id, "pod").await;
        driver.delete_snapshot(&snapshot).await.unwrap();
        assert_freed(&driver).await;
        driver.end().await;
    }
}

/// As [`on_two`], with a script in place of `btrfs`.
async fn with_script(script: &str, timeout: Option<Duration>) -> Driver {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path().join("tools")).unwrap();
    fake(scratch.path(), "btrfs", script);
    let mut config = config(&scratch, 512 * MIB, "", 512 * MIB);
    let mut path = scratch.path().join("tools").into_os_string();
    path.push(":/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin");
    config.tool_path = Some(path);
    config.tool_timeout = timeout;
    Driver::start(scratch, config).await
}

type Creating = tokio::task::JoinHandle<Result<(), Status>>;

fn begin(driver: &Driver, request: csi::CreateVolumeRequest) -> Creating {
    let mut controller = driver.controller.clone();
    tokio::spawn(async move { controller.create_volume(request).await.map(|_| ()) })
}

/// A copy takes its time; its source is used, changed and deleted meanwhile, and a snapshot
/// that is being copied is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_copy_does_not_hold_its_source() {
    needs!("btrfs");
    // Each end waits for leave.
    let script = "touch \"$(dirname \"$0\")/began-$1\"; while [ ! -e \"$(dirname \"$0\")/go\" ]; do sleep 0.05; done; \
                  exec /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin btrfs \"$@\"";
    let mut driver = with_script(script, None).await;
    let tools = driver.scratch.path().join("tools");
    let id = driver.bring_up("source", 40 * MIB, &mounted(""), "pod").await;
    fs::write(driver.path("pod/file"), "at the moment").unwrap();
    let creating = begin(&driver, copy("other", "copy", 40 * MIB, from_volume(&id)));
    until("it is sent", || tools.join("began-send").exists()).await;
    fs::write(driver.path("pod/file"), "later").unwrap();
    let snapshot = driver.snapshot("s", &id).await.unwrap().snapshot_id;
    let again = driver.create(copy("other", "copy", 40 * MIB, from_volume(&id))).await;
    assert_code(again, Code::Aborted, "still running");
    let restoring = begin(&driver, copy("other", "restored", 40 * MIB, from_snapshot(&snapshot)));
    let taken = driver.scratch.path().join("two/pool/volumes/.new-other.restored");
    until("it is restored", || taken.exists()).await;
    assert_code(driver.delete_snapshot(&snapshot).await, Code::Aborted, "still running");
    driver.take_down(&id, "pod").await;
    assert!(!creating.is_finished() && !restoring.is_finished());
    fs::write(tools.join("go"), "").unwrap();
    creating.await.unwrap().unwrap();
    restoring.await.unwrap().unwrap();
    for (name, text) in [("copy", "at the moment"), ("restored", "later")] {
        use_it(&mut driver, &format!("other.{name}"), name).await;
        assert_eq!(fs::read_to_string(driver.path(&format!("{name}/file"))).unwrap(), text);
        driver.take_down(&format!("other.{name}"), name).await;
    }
    driver.delete_snapshot(&snapshot).await.unwrap();
    assert_freed(&driver).await;
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_is_killed() {
    needs!("btrfs");
    let mut driver = with_script("sleep 600 & wait", Some(Duration::from_secs(2))).await;
    let id = driver.create(volume("source", 40 * MIB, &mounted(""))).await.unwrap().volume_id;
    let hung = driver.create(copy("other", "copy", 40 * MIB, from_volume(&id))).await;
    assert_code(hung, Code::Internal, "was killed after 2 s");
    driver.delete(&id).await.unwrap();
    assert_freed(&driver).await;
    driver.end().await;
}

/// What is in a pool of another kind is not to be had.
#[tokio::test(flavor = "multi_thread")]
async fn not_from_another_backend() {
    needs!("btrfs");
    let scratch = Scratch::new();
    let disk = disk(&scratch, "one", 512 * MIB, "");
    let pools = vec![
        PoolConfig::btrfs("default", disk.join("pool")),
        PoolConfig::image("images", disk.join("images")),
    ];
    let mut driver = Driver::with(scratch, pools).await;
    let id = driver.create(volume("source", 40 * MIB, &mounted(""))).await.unwrap().volume_id;
    let refused = driver.create(copy("images", "copy", 40 * MIB, from_volume(&id))).await;
    assert_code(refused, Code::InvalidArgument, "use a class whose pool has the same backend");
    driver.end().await;
}
