//! `bench driver`: the calls of the CSI driver beside the system calls and commands that they
//! stand for.
#![expect(clippy::disallowed_methods, reason = "a benchmark runs the bare commands, and the driver itself")]

mod bare;
mod disk;
mod plugin;

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use disk::Scratch;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use holdfast_proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use plugin::Plugin;
use rustix::fs::{FallocateFlags, fallocate};

use crate::table::{Table, mebibytes, millis, ratio, resident};

/// How often a single call is measured.
const ROUNDS: usize = 200;
/// How often a volume is brought up; each takes a process or two.
const STAGINGS: usize = 20;
/// Writes a file.
type Write = fn(&Path) -> Result<()>;
/// What is in a volume that is cut.
const CONTENTS: [(&str, Write); 3] = [
    ("1 GiB", |path| fill(path, GIB)),
    ("9 GiB", |path| fill(path, 9 * GIB)),
    ("20,000 scattered blocks", |path| scatter(path, 20_000)),
];
/// How many volumes there are in the end, and how many clients make them.
const MANY: usize = 1000;
const CLIENTS: usize = 64;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// What mkfs.xfs wants at least, rounded up.
const SMALL: u64 = 512 * MIB;

/// Runs it all and prints the tables.
pub(crate) async fn run() -> Result<()> {
    let scratch = Scratch::new()?;
    let btrfs = scratch.disk("btrfs", 40)?;
    let xfs = scratch.disk("xfs", 40)?;
    let pools = [
        ("directory", "directory", btrfs.join("directory")),
        ("btrfs", "btrfs", btrfs.join("btrfs")),
        ("image", "image", scratch.path().join("image")),
        ("reflink", "image", xfs.join("image")),
    ];
    let given: Vec<_> = pools.iter().map(|(name, kind, path)| (*name, *kind, path.as_path())).collect();
    let plugin = Plugin::start(scratch.path(), &given).await?;

    let table = Table::start("The CSI driver");
    for pool in ["directory", "btrfs"] {
        let bare = scratch.folder(&format!("disk-btrfs/bare-{pool}"))?;
        create_and_delete(&plugin, pool, &bare, &table).await?;
    }
    for fs in ["ext4", "xfs"] {
        let bare = scratch.folder(&format!("bare-{fs}"))?;
        bring_up(&plugin, fs, &bare, &table).await?;
    }
    many(&plugin, &scratch, &table).await?;
    snapshots(&plugin, &xfs.join("image/trash"), &table).await?;
    Ok(())
}

/// CreateVolume and DeleteVolume, in turns with the bare calls.
async fn create_and_delete(plugin: &Plugin, pool: &str, folder: &Path, table: &Table) -> Result<()> {
    let (volumes, trash) = (folder.join("volumes"), folder.join("trash"));
    std::fs::create_dir_all(&volumes)?;
    std::fs::create_dir_all(&trash)?;
    let [mut create, mut delete, mut bare_create, mut bare_delete] = [(); 4].map(|()| Vec::new());
    for i in 0..ROUNDS {
        let name = format!("{pool}-{i}");
        let start = Instant::now();
        bare::create(&volumes, &name)?;
        bare_create.push(start.elapsed());
        let start = Instant::now();
        let id = plugin.create(pool, &name, 16 * MIB, "").await?;
        create.push(start.elapsed());
        let start = Instant::now();
        bare::delete(&volumes, &trash, &name)?;
        bare_delete.push(start.elapsed());
        let start = Instant::now();
        plugin.delete(&id).await?;
        delete.push(start.elapsed());
    }
    beside(table, &format!("{pool}: CreateVolume"), create, bare_create, "the bare fsynced calls");
    beside(table, &format!("{pool}: DeleteVolume"), delete, bare_delete, "the bare fsynced calls");
    Ok(())
}

/// NodeStageVolume and NodePublishVolume of an image, in turns with a shell script.
async fn bring_up(plugin: &Plugin, fs: &str, folder: &Path, table: &Table) -> Result<()> {
    let [mut first, mut second, mut bare_first, mut bare_second] = [(); 4].map(|()| Vec::new());
    for i in 0..STAGINGS {
        let id = plugin.create("image", &format!("{fs}-{i}"), SMALL, fs).await?;
        plugin.make_room(&id)?;
        plugin.attach(&id, fs).await?;
        for (is_first, times, bare_times) in
            [(true, &mut first, &mut bare_first), (false, &mut second, &mut bare_second)]
        {
            bare_times.push(bare::shell(folder, fs, SMALL, is_first)?);
            let start = Instant::now();
            plugin.bring_up(&id, fs).await?;
            times.push(start.elapsed());
            plugin.take_down(&id).await?;
        }
        plugin.detach(&id).await?;
        plugin.delete(&id).await?;
    }
    let scripts = ["losetup, mkfs, mount, mount --bind in a shell", "the same without mkfs"];
    beside(table, &format!("image, {fs}: first stage and publish"), first, bare_first, scripts[0]);
    beside(table, &format!("image, {fs}: a later stage and publish"), second, bare_second, scripts[1]);
    Ok(())
}

/// CreateSnapshot of a volume that is mounted, and CreateVolume from the snapshot and from the
/// volume, for each of [`CONTENTS`]. Each begins when what was deleted before is
/// freed: the file system frees shared blocks one by one, and takes turns with whoever shares some.
async fn snapshots(plugin: &Plugin, trash: &Path, table: &Table) -> Result<()> {
    let size = 10 * GIB;
    for (nth, (content, write)) in CONTENTS.iter().enumerate() {
        let name = format!("snapshots-{nth}");
        let id = plugin.create("reflink", &name, size, "xfs").await?;
        plugin.make_room(&id)?;
        plugin.attach(&id, "xfs").await?;
        let place = plugin.bring_up(&id, "xfs").await?;
        write(&place.join("data"))?;
        let [mut cut, mut restore, mut clone] = [(); 3].map(|()| Vec::new());
        for i in 0..STAGINGS {
            until_empty(trash).await?;
            let start = Instant::now();
            let snapshot = plugin.snapshot(&id, &format!("{name}-{i}")).await?;
            cut.push(start.elapsed());
            let source = Type::Snapshot(SnapshotSource { snapshot_id: snapshot.clone() });
            let start = Instant::now();
            let restored =
                plugin.create_from("reflink", &format!("{name}-r{i}"), size, "xfs", Some(source)).await?;
            restore.push(start.elapsed());
            let source = Type::Volume(VolumeSource { volume_id: id.clone() });
            let start = Instant::now();
            let cloned =
                plugin.create_from("reflink", &format!("{name}-c{i}"), size, "xfs", Some(source)).await?;
            clone.push(start.elapsed());
            plugin.delete(&restored).await?;
            plugin.delete(&cloned).await?;
            plugin.delete_snapshot(&snapshot).await?;
        }
        let of = format!("a mounted 10 GiB volume with {content} in it");
        for (what, times) in
            [("snapshot of", cut), ("volume from that snapshot of", restore), ("clone of", clone)]
        {
            table.row(
                &format!("image on xfs: {what} {of}, median of {STAGINGS}"),
                &millis(median(times)),
                "",
            );
        }
        plugin.take_down(&id).await?;
        plugin.detach(&id).await?;
        plugin.delete(&id).await?;
    }
    Ok(())
}

async fn until_empty(folder: &Path) -> Result<()> {
    while std::fs::read_dir(folder)?.next().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Many volumes at once, then a page of the list, then the driver's memory.
async fn many(plugin: &Plugin, scratch: &Scratch, table: &Table) -> Result<()> {
    let bare = bare::creates_per_second(&scratch.folder("bare-many")?, CLIENTS, MANY / CLIENTS)?;
    let start = Instant::now();
    let ids: Vec<_> = stream::iter(0..MANY)
        .map(|i| async move { plugin.create("image", &format!("many-{i}"), 8 * MIB, "ext4").await })
        .buffer_unordered(CLIENTS)
        .try_collect()
        .await?;
    let rate = MANY as f64 / start.elapsed().as_secs_f64();
    table.row(
        &format!("image on ext4: {MANY} volumes by {CLIENTS} clients"),
        &format!("{rate:.0}/s"),
        &format!("{:.2} of the bare fsynced calls in {CLIENTS} threads ({bare:.0}/s)", rate / bare),
    );
    let mut pages = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        anyhow::ensure!(plugin.list(100).await? == 100, "a page of 100 has 100 volumes");
        pages.push(start.elapsed());
    }
    table.row(
        &format!("ListVolumes, a page of 100 of {MANY}, median of {ROUNDS}"),
        &millis(median(pages)),
        "",
    );
    table.row(&format!("resident memory with {MANY} volumes"), &mebibytes(resident(plugin.pid())?), "");
    stream::iter(ids)
        .map(Ok)
        .try_for_each_concurrent(CLIENTS, |id| async move { plugin.delete(&id).await })
        .await
}

/// Writes so many bytes that do not compress to nothing, and syncs them.
fn fill(path: &Path, bytes: u64) -> Result<()> {
    let mut file = File::create(path)?;
    let block: Vec<u8> = (0..MIB).map(|i| (i * 31 % 251) as u8).collect();
    for _ in 0..bytes / MIB {
        file.write_all(&block)?;
    }
    Ok(file.sync_all()?)
}

/// Writes single blocks far from one another, so that the image has each in a piece of its own: what a database
/// leaves that was never copied.
fn scatter(path: &Path, blocks: u64) -> Result<()> {
    const APART: u64 = 448 << 10;
    let file = File::create(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, blocks * APART)?;
    let block = [7; 4096];
    for nth in 0..blocks {
        file.write_all_at(&block, nth * APART)?;
    }
    Ok(file.sync_all()?)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// One row: the median of what was measured, and how it compares.
fn beside(table: &Table, what: &str, times: Vec<Duration>, bare: Vec<Duration>, of: &str) {
    let rounds = times.len();
    let (time, bare) = (median(times), median(bare));
    table.row(
        &format!("{what}, median of {rounds}"),
        &millis(time),
        &format!("{:.2} of {of} ({})", ratio(time, bare), &millis(bare)),
    );
}
