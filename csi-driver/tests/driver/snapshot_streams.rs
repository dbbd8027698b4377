//! Snapshots that are written to a stream, whole or as what changed, and received elsewhere.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use holdfast_csi_driver::{
    Error, Order, Outcome, PoolConfig, SnapshotInfo, carry_out_watched, list_snapshots,
};
use holdfast_proto::csi;
use sha2::{Digest as _, Sha256};
use tonic::Code;

use crate::{
    btrfs_streams::{assert_freed, copy, disk, freed, noise, on_two, subvolumes, use_it},
    harness::{Driver, MIB, Scratch, assert_code, command, entries, mounted, needs, until, volume},
    snapshots::from_snapshot,
};

async fn order(driver: &Driver, pool: usize, order: Order, stream: OwnedFd) -> Result<Outcome, Error> {
    carry_out_watched(&driver.config.pools[pool], None, order, Some(stream), Arc::new(|_| ())).await
}

/// Sends a snapshot into a file of the scratch folder.
pub(crate) async fn sent(
    driver: &Driver,
    pool: usize,
    id: &str,
    since: Option<&str>,
) -> Result<PathBuf, Error> {
    let path = PathBuf::from(driver.path(&format!("{id}.sent")));
    let what = Order::Send { snapshot_id: id.to_owned(), since: since.map(str::to_owned) };
    order(driver, pool, what, File::create(&path).unwrap().into()).await.map(|_| path)
}

pub(crate) async fn received(
    driver: &Driver,
    pool: usize,
    from: &Path,
    name: Option<&str>,
) -> Result<SnapshotInfo, Error> {
    let what = Order::Receive { name: name.map(str::to_owned) };
    match order(driver, pool, what, File::open(from).unwrap().into()).await? {
        Outcome::Received(snapshot) => Ok(snapshot),
        other => panic!("{other:?}"),
    }
}

fn said<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

/// The data of a snapshot, as it lies in a pool.
fn data(driver: &Driver, disk: &str, id: &str) -> PathBuf {
    driver.scratch.path().join(disk).join("pool/snapshots").join(id).join("data")
}

/// A second snapshot travels as what changed since the first; what is received is a snapshot like
/// any other, and brings the data back under the old ids when all else is lost.
#[tokio::test(flavor = "multi_thread")]
async fn there_and_back() {
    needs!("btrfs");
    let mut driver = on_two(512 * MIB, "", 512 * MIB).await;
    let id = driver.bring_up("source", 60 * MIB, &mounted(""), "pod").await;
    let pod = PathBuf::from(driver.path("pod"));
    let mut content = noise(20 << 20);
    fs::write(pod.join("file"), &content).unwrap();
    fs::write(pod.join("gone"), "gone").unwrap();
    driver.snapshot("first", &id).await.unwrap();
    content[1 << 20..(1 << 20) + 4096].fill(7);
    fs::write(pod.join("file"), &content).unwrap();
    fs::remove_file(pod.join("gone")).unwrap();
    fs::rename(pod.join("file"), pod.join("renamed")).unwrap();
    let file = File::options().write(true).open(pod.join("renamed")).unwrap();
    file.sync_all().unwrap();
    drop(file);
    driver.snapshot("second", &id).await.unwrap();
    fs::write(pod.join("renamed"), "later").unwrap();

    let first = sent(&driver, 0, "default.first", None).await.unwrap();
    assert!(fs::metadata(&first).unwrap().len() > 20 << 20);
    received(&driver, 1, &first, None).await.unwrap();
    // The second one in place of which only a little was written.
    let pod_file = pod.join("small");
    fs::write(&pod_file, "small").unwrap();
    driver.snapshot("third", &id).await.unwrap();
    let second = sent(&driver, 0, "default.second", Some("default.first")).await.unwrap();
    let third = sent(&driver, 0, "default.third", Some("default.second")).await.unwrap();
    let whole = fs::metadata(&first).unwrap().len();
    assert!(fs::metadata(&third).unwrap().len() < whole / 100, "the changes are as large as all");
    let info = received(&driver, 1, &second, None).await.unwrap();
    assert_eq!(
        (info.snapshot_id.as_str(), info.source_volume_id.as_str()),
        ("other.second", "default.source")
    );
    assert_eq!(info.capacity, 60 << 20);
    received(&driver, 1, &third, Some("under-another-name")).await.unwrap();
    assert!(fs::read(data(&driver, "two", "other.second").join("renamed")).unwrap() == content);
    assert!(!data(&driver, "two", "other.second").join("gone").exists());

    // As any client sees it, before and after a restart.
    for _ in 0..2 {
        let listed = driver.controller.list_snapshots(csi::ListSnapshotsRequest::default()).await.unwrap();
        let listed: Vec<_> =
            listed.into_inner().entries.into_iter().filter_map(|entry| entry.snapshot).collect();
        let ids: Vec<_> = listed.iter().map(|snapshot| snapshot.snapshot_id.as_str()).collect();
        let all = [
            "default.first",
            "default.second",
            "default.third",
            "other.first",
            "other.second",
            "other.under-another-name",
        ];
        assert_eq!(ids, all);
        let [original, copy] = [&listed[1], &listed[4]];
        assert_eq!(original.creation_time, copy.creation_time);
        assert_eq!((original.size_bytes, copy.size_bytes, copy.ready_to_use), (60 * MIB, 60 * MIB, true));
        assert_eq!(copy.source_volume_id, "default.source");
        driver.restart().await;
    }
    assert_eq!(list_snapshots(&driver.config.pools[1]).unwrap()[0].snapshot_id, "other.first");
    let restored = driver.create(copy("other", "restored", 60 * MIB, from_snapshot("other.second"))).await;
    let restored = restored.unwrap().volume_id;
    use_it(&mut driver, &restored, "restored").await;
    let restored_file = PathBuf::from(driver.path("restored")).join("renamed");
    assert!(fs::read(&restored_file).unwrap() == content);
    fs::write(&restored_file, "it can be written to").unwrap();

    // The first pool loses everything, and gets it back from the other: as changes, too.
    driver.take_down(&id, "pod").await;
    for name in ["first", "second", "third"] {
        driver.delete_snapshot(&format!("default.{name}")).await.unwrap();
    }
    let first = sent(&driver, 1, "other.first", None).await.unwrap();
    let second = sent(&driver, 1, "other.second", Some("other.first")).await.unwrap();
    // No driver has the pools: the order is carried out here.
    driver.take_down(&restored, "restored").await;
    driver.end().await;
    received(&driver, 0, &first, None).await.unwrap();
    let info = received(&driver, 0, &second, None).await.unwrap();
    assert_eq!(
        (info.snapshot_id.as_str(), info.source_volume_id.as_str()),
        ("default.second", "default.source")
    );
    driver.restart().await;
    let back =
        driver.create(copy("default", "back", 60 * MIB, from_snapshot("default.second"))).await.unwrap();
    use_it(&mut driver, &back.volume_id, "back").await;
    assert!(fs::read(PathBuf::from(driver.path("back")).join("renamed")).unwrap() == content);
    driver.take_down(&back.volume_id, "back").await;
    for id in ["default.first", "default.second", "other.first", "other.second", "other.under-another-name"] {
        driver.delete_snapshot(id).await.unwrap();
    }
    assert_freed(&driver).await;
    driver.end().await;
}

/// The label and the pieces of a snapshot that was sent.
fn opened(from: &Path) -> (serde_json::Value, Vec<u8>) {
    let all = fs::read(from).unwrap();
    let label_at = all.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let label_end =
        label_at + 4 + u32::from_be_bytes(all[label_at..label_at + 4].try_into().unwrap()) as usize;
    let label = serde_json::from_slice(&all[label_at + 4..label_end]).unwrap();
    (label, all[label_end..all.len() - 32].to_vec())
}

fn closed(label: &serde_json::Value, pieces: &[u8]) -> Vec<u8> {
    let label = serde_json::to_vec(&label).unwrap();
    let mut all = b"holdfast snapshot 1\n".to_vec();
    all.extend((label.len() as u32).to_be_bytes());
    all.extend([&label[..], pieces].concat());
    let digest = Sha256::digest(&all);
    all.extend(digest);
    all
}

/// What `btrfs send` says of a new subvolume of this name, as pieces.
fn foreign(disk: &Path, name: &str) -> Vec<u8> {
    let (made, shown) = (disk.join("made"), disk.join(name));
    command("btrfs", &["subvolume", "create", made.to_str().unwrap()]).unwrap();
    fs::write(made.join("file"), "foreign").unwrap();
    let snapshot = ["subvolume", "snapshot", "-r", made.to_str().unwrap(), shown.to_str().unwrap()];
    command("btrfs", &snapshot).unwrap();
    let file = disk.join("stream");
    command("btrfs", &["send", "-q", "-f", file.to_str().unwrap(), shown.to_str().unwrap()]).unwrap();
    for subvolume in [made, shown] {
        command("btrfs", &["subvolume", "delete", subvolume.to_str().unwrap()]).unwrap();
    }
    let stream = fs::read(&file).unwrap();
    fs::remove_file(file).unwrap();
    [&(stream.len() as u32).to_be_bytes(), &stream[..], &[0; 4]].concat()
}

/// What is damaged, hostile, of something else or built on what is not there is refused, and
/// nothing of it is left.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_snapshot_is_refused() {
    needs!("btrfs");
    let mut driver = on_two(512 * MIB, "", 512 * MIB).await;
    let id = driver.bring_up("source", 20 * MIB, &mounted(""), "pod").await;
    fs::write(driver.path("pod/file"), noise(2 << 20)).unwrap();
    driver.snapshot("first", &id).await.unwrap();
    fs::write(driver.path("pod/more"), "more").unwrap();
    driver.snapshot("second", &id).await.unwrap();
    let whole = sent(&driver, 0, "default.first", None).await.unwrap();
    let changes = sent(&driver, 0, "default.second", Some("default.first")).await.unwrap();
    let good = fs::read(&whole).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let (label, pieces) = opened(&whole);
    let relabelled = |pointer: &str, value: serde_json::Value, pieces: &[u8]| {
        let mut label = label.clone();
        *label.pointer_mut(pointer).unwrap() = value;
        closed(&label, pieces)
    };
    let disk = driver.scratch.path().join("one");
    let with = |name: &str| closed(&label, &foreign(&disk, name));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "is no snapshot that"),
        (noise(1 << 20), "is no snapshot that"),
        (good[..good.len() / 2].to_vec(), "ends before the snapshot does"),
        (good[..good.len() - 33].to_vec(), "ends before the snapshot does"),
        (flipped(good.len() - 1), "damaged on its way"),
        (
            fs::read(&changes).unwrap(),
            "the changes since snapshot default.first, of which pool \"other\" has no copy",
        ),
        (relabelled("/lineage", uuid::Uuid::new_v4().to_string().into(), &pieces), "is not the snapshot"),
        // Changes, and the label does not say so: the tool itself finds nothing to build on.
        (closed(&label, &opened(&changes).1), "btrfs receive"),
        (relabelled("/snapshot/name", "".into(), &pieces), "name"),
        (relabelled("/snapshot/capacity", 0.into(), &pieces), "no size of a volume"),
        (relabelled("/snapshot/capacity", u64::MAX.into(), &pieces), "no size of a volume"),
        (relabelled("/snapshot/capacity", "much".into(), &pieces), "label of the snapshot"),
        (relabelled("/snapshot/content", serde_json::json!("block"), &pieces), "what comes holds"),
        // Not the subvolume that it says, or not where it would be.
        (with("data"), "is not the snapshot"),
        (with("snapshot.json"), "is not the snapshot"),
    ];
    for (bytes, expected) in cases {
        let file = driver.path("bad");
        fs::write(&file, bytes).unwrap();
        let refused = said(received(&driver, 1, Path::new(&file), None).await);
        assert!(refused.contains(expected), "{refused:?} does not say {expected:?}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
        assert_eq!(entries(&driver.scratch.path().join("two/pool/snapshots")), Vec::<String>::new());
        assert_eq!(subvolumes(&driver.scratch.path().join("two")), "");
        freed(&driver.scratch.path().join("two"));
    }
    // A flipped byte in the data: the tool or the digest finds it, and nothing is left.
    fs::write(driver.path("bad"), flipped(good.len() / 2)).unwrap();
    received(&driver, 1, Path::new(&driver.path("bad")), None).await.unwrap_err();
    assert_eq!(subvolumes(&driver.scratch.path().join("two")), "");

    received(&driver, 1, &whole, None).await.unwrap();
    let again = said(received(&driver, 1, &whole, None).await);
    assert!(again.contains("other.first exists already"), "{again}");
    let since_itself = said(sent(&driver, 0, "default.first", Some("default.first")).await);
    assert!(since_itself.contains("--since takes another snapshot of the same pool"), "{since_itself}");
    let absent = said(sent(&driver, 0, "default.gone", None).await);
    assert!(absent.contains("snapshot \"default.gone\" does not exist"), "{absent}");
    // The size counts here as everywhere: what no class would get is not got by receiving.
    driver.take_down(&id, "pod").await;
    for id in ["default.first", "default.second", "other.first"] {
        driver.delete_snapshot(id).await.unwrap();
    }
    assert_freed(&driver).await;
    driver.end().await;
}

/// What was compressed where it was sent may be more than there is room for.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_leaves_nothing() {
    needs!("btrfs");
    let mut driver = on_two(512 * MIB, ",compress-force=zstd", 192 * MIB).await;
    let id = driver.bring_up("source", 40 * MIB, &mounted(""), "pod").await;
    fs::write(driver.path("pod/file"), vec![7; 180 << 20]).unwrap();
    driver.snapshot("s", &id).await.unwrap();
    let whole = sent(&driver, 0, "default.s", None).await.unwrap();
    let refused = said(received(&driver, 1, &whole, None).await);
    assert!(refused.contains("is full"), "{refused}");
    assert_eq!(entries(&driver.scratch.path().join("two/pool/snapshots")), Vec::<String>::new());
    freed(&driver.scratch.path().join("two"));
    // There is as much room as before.
    driver.create(copy("other", "volume", 100 * MIB, None)).await.unwrap();
    driver.delete("other.volume").await.unwrap();
    driver.take_down(&id, "pod").await;
    driver.delete_snapshot("default.s").await.unwrap();
    assert_freed(&driver).await;
    driver.end().await;
}

/// What comes, however large, takes nothing that a volume was promised.
#[tokio::test(flavor = "multi_thread")]
async fn promises_of_others_hold_meanwhile() {
    needs!("btrfs");
    let mut driver = on_two(512 * MIB, ",compress-force=zstd", 512 * MIB).await;
    let id = driver.bring_up("source", 40 * MIB, &mounted(""), "pod").await;
    // A repeated block: a few megabytes, as compressed as they are.
    fs::write(driver.path("pod/file"), vec![7; 400 << 20]).unwrap();
    driver.snapshot("s", &id).await.unwrap();
    let whole = sent(&driver, 0, "default.s", None).await.unwrap();
    let db = driver.create(copy("other", "db", 200 * MIB, None)).await.unwrap().volume_id;
    use_it(&mut driver, &db, "db").await;
    let refused = said(received(&driver, 1, &whole, None).await);
    assert!(refused.contains("pool \"other\" is full"), "{refused}");
    let copied = driver.create(copy("other", "copy", 40 * MIB, from_snapshot("default.s"))).await;
    assert_code(copied, Code::ResourceExhausted, "pool \"other\" is full");
    fs::write(PathBuf::from(driver.path("db")).join("file"), noise(190 << 20)).unwrap();
    driver.take_down(&db, "db").await;
    driver.take_down(&id, "pod").await;
    driver.delete_snapshot("default.s").await.unwrap();
    assert_freed(&driver).await;
    driver.end().await;
}

/// The changes of a large snapshot need the room of the changes, and the pool's limit counts all of it,
/// also in a pool that has no volume yet.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shared_needs_no_room_and_counts() {
    needs!("btrfs");
    let scratch = Scratch::new();
    let mut limited = PoolConfig::btrfs("other", disk(&scratch, "two", 512 * MIB, "").join("pool"));
    limited.limits.capacity = Some(250 << 20);
    let pools =
        vec![PoolConfig::btrfs("default", disk(&scratch, "one", 1024 * MIB, "").join("pool")), limited];
    let mut driver = Driver::with(scratch, pools).await;
    let id = driver.bring_up("source", 200 * MIB, &mounted(""), "pod").await;
    fs::write(driver.path("pod/file"), noise(100 << 20)).unwrap();
    driver.snapshot("first", &id).await.unwrap();
    fs::write(driver.path("pod/more"), "more").unwrap();
    driver.snapshot("second", &id).await.unwrap();
    let first = sent(&driver, 0, "default.first", None).await.unwrap();
    let second = sent(&driver, 0, "default.second", Some("default.first")).await.unwrap();
    received(&driver, 1, &first, None).await.unwrap();
    received(&driver, 1, &second, None).await.unwrap();
    let refused = said(received(&driver, 1, &second, Some("third")).await);
    assert!(refused.contains("limited to 250Mi"), "{refused}");
    driver.take_down(&id, "pod").await;
    for id in ["default.first", "default.second", "other.first", "other.second"] {
        driver.delete_snapshot(id).await.unwrap();
    }
    assert_freed(&driver).await;
    driver.end().await;
}

/// Nobody deletes what is being sent; whoever reads nothing more ends it.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_held_as_long_as_it_is_read() {
    needs!("btrfs");
    let mut driver = on_two(512 * MIB, "", 512 * MIB).await;
    let id = driver.bring_up("source", 60 * MIB, &mounted(""), "pod").await;
    fs::write(driver.path("pod/file"), noise(20 << 20)).unwrap();
    driver.snapshot("s", &id).await.unwrap();
    let pool = driver.config.pools[0].clone();
    let begin = || {
        let (reader, writer) = std::io::pipe().unwrap();
        let pool = pool.clone();
        let what = Order::Send { snapshot_id: "default.s".to_owned(), since: None };
        let sending = tokio::spawn(async move {
            carry_out_watched(&pool, None, what, Some(writer.into()), Arc::new(|_| ())).await
        });
        (reader, sending)
    };
    for read_it in [true, false] {
        let (mut reader, sending) = begin();
        let mut begun = [0; 100];
        reader.read_exact(&mut begun).unwrap();
        assert_code(driver.delete_snapshot("default.s").await, Code::Aborted, "still running");
        // It holds the snapshot, and nothing else.
        driver.create(volume("meanwhile", 20 * MIB, &mounted(""))).await.unwrap();
        driver.delete("default.meanwhile").await.unwrap();
        if read_it {
            let rest = tokio::task::spawn_blocking(move || {
                let mut rest = Vec::new();
                reader.read_to_end(&mut rest).unwrap();
                rest
            });
            sending.await.unwrap().unwrap();
            let file = driver.path("piped");
            fs::write(&file, [&begun[..], &rest.await.unwrap()].concat()).unwrap();
            received(&driver, 1, Path::new(&file), None).await.unwrap();
        } else {
            drop(reader);
            let refused = said(sending.await.unwrap());
            assert!(refused.contains("Broken pipe"), "{refused}");
        }
    }
    driver.take_down(&id, "pod").await;
    // The sender is killed, and the kernel lets go.
    until("it is free", || entries(&driver.scratch.path().join("one/pool/snapshots")).len() == 1).await;
    driver.delete_snapshot("default.s").await.unwrap();
    driver.delete_snapshot("other.s").await.unwrap();
    assert_freed(&driver).await;
    driver.end().await;
}

/// A transfer at whose other end nobody does anything ends when the one who ordered it is gone, and
/// when the driver is to stop; and leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_ends_with_its_caller_and_with_the_driver() {
    needs!("btrfs");
    let mut driver = on_two(512 * MIB, "", 512 * MIB).await;
    let id = driver.bring_up("source", 60 * MIB, &mounted(""), "pod").await;
    fs::write(driver.path("pod/file"), noise(20 << 20)).unwrap();
    driver.snapshot("s", &id).await.unwrap();
    driver.take_down(&id, "pod").await;
    let stream = fs::read(sent(&driver, 0, "default.s", None).await.unwrap()).unwrap();
    let begin = |pool: usize, what: Order, end: OwnedFd| {
        let pool = driver.config.pools[pool].clone();
        tokio::spawn(async move { carry_out_watched(&pool, None, what, Some(end), Arc::new(|_| ())).await })
    };
    let half_made = driver.scratch.path().join("two/pool/snapshots/.new-other.s");
    let hang = async || {
        let (reader, mut to_nobody) = std::io::pipe().unwrap();
        let receiving = begin(1, Order::Receive { name: None }, reader.into());
        let half = stream[..stream.len() / 2].to_vec();
        let fed = tokio::task::spawn_blocking(move || {
            to_nobody.write_all(&half).unwrap();
            to_nobody
        });
        let (mut from_nobody, writer) = std::io::pipe().unwrap();
        let what = Order::Send { snapshot_id: "default.s".to_owned(), since: None };
        let sending = begin(0, what, writer.into());
        from_nobody.read_exact(&mut [0; 100]).unwrap();
        let to_nobody = fed.await.unwrap();
        until("it has begun", || half_made.exists()).await;
        (receiving, sending, to_nobody, from_nobody)
    };

    let (receiving, sending, mut to_nobody, mut from_nobody) = hang().await;
    receiving.abort();
    sending.abort();
    until("what came is gone", || !half_made.exists()).await;
    assert_eq!(to_nobody.write(&[0]).unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    from_nobody.read_to_end(&mut Vec::new()).unwrap();

    let (receiving, sending, _to_nobody, _from_nobody) = hang().await;
    tokio::time::timeout(Duration::from_secs(10), driver.end()).await.expect("it waits for the other ends");
    for ended in [receiving, sending] {
        let ended = said(ended.await.unwrap());
        assert!(ended.contains("is stopping"), "{ended}");
    }
    assert_eq!(entries(&driver.scratch.path().join("two/pool/snapshots")), Vec::<String>::new());
    assert_eq!(driver.scratch.mounts().len(), 2, "the pools' own");
}

/// Peers that say nothing, however many, take no turn of the pool's, and end when they go.
#[tokio::test(flavor = "multi_thread")]
async fn silent_peers_hold_up_nobody() {
    needs!("btrfs");
    let mut driver = on_two(512 * MIB, "", 512 * MIB).await;
    let mut peers = Vec::new();
    for _ in 0..70 {
        let (reader, writer) = std::io::pipe().unwrap();
        let pool = driver.config.pools[0].clone();
        let receiving = tokio::spawn(async move {
            let what = Order::Receive { name: None };
            carry_out_watched(&pool, None, what, Some(reader.into()), Arc::new(|_| ())).await
        });
        peers.push((receiving, writer));
    }
    let id = driver.bring_up("source", 20 * MIB, &mounted(""), "pod").await;
    driver.take_down(&id, "pod").await;
    // All at once: in which order they have their turns, nobody knows.
    let (receiving, writers): (Vec<_>, Vec<_>) = peers.into_iter().unzip();
    drop(writers);
    for receiving in receiving {
        let ended = said(receiving.await.unwrap());
        assert!(ended.contains("is no snapshot"), "{ended}");
    }
    assert_freed(&driver).await;
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_pools_send_nothing() {
    needs!("btrfs", "xfs");
    let scratch = Scratch::new();
    let disk = disk(&scratch, "one", 512 * MIB, "");
    let pools = vec![
        PoolConfig::image("default", disk.join("images")),
        PoolConfig::directory("folders", disk.join("folders")),
    ];
    let mut driver = Driver::with(scratch, pools).await;
    let id = driver.create(volume("source", 40 * MIB, &mounted(""))).await.unwrap().volume_id;
    driver.snapshot("s", &id).await.unwrap();
    let refused = said(sent(&driver, 0, "default.s", None).await);
    assert!(refused.contains("pools with backend = \"image\" do not make streams of snapshots"), "{refused}");
    driver.delete_snapshot("default.s").await.unwrap();
    driver.delete(&id).await.unwrap();
    driver.end().await;
}
