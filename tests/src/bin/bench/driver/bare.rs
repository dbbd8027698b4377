//! The bare limits: what a driver cannot do without, done with nothing around it.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::disk;

/// What is written of a volume.
const METADATA: [u8; 300] = [b'x'; 300];

/// The fsynced calls of a new volume: a folder with a file in it, which comes to its name in
/// one rename. No quota is set.
pub(super) fn create(pool: &Path, name: &str) -> Result<()> {
    let new = pool.join(format!(".new-{name}"));
    fs::create_dir(&new)?;
    make_data(&new)?;
    let part = new.join("volume.json.new");
    let mut file = File::create(&part)?;
    file.write_all(&METADATA)?;
    file.sync_all()?;
    fs::rename(&part, new.join("volume.json"))?;
    sync_folder(&new)?;
    fs::rename(&new, pool.join(name))?;
    sync_folder(pool)
}

/// The fsynced calls of a deletion: a rename to another folder.
pub(super) fn delete(pool: &Path, trash: &Path, name: &str) -> Result<()> {
    fs::rename(pool.join(name), trash.join(name))?;
    sync_folder(pool)?;
    sync_folder(trash)
}

fn sync_folder(path: &Path) -> Result<()> {
    File::open(path)?.sync_all().with_context(|| format!("syncing {}", path.display()))
}

/// An empty subvolume, synced with its folder, or nothing where the file system has none.
fn make_data(folder: &Path) -> Result<()> {
    let folder = File::open(folder)?;
    if rustix::fs::fstatfs(&folder)?.f_type == BTRFS_MAGIC {
        subvolume::create(&folder, c"data")?;
        folder.sync_all()?;
    }
    Ok(())
}

/// `BTRFS_SUPER_MAGIC` of linux/magic.h.
const BTRFS_MAGIC: rustix::fs::FsWord = 0x9123_683E;

/// The one call that has no safe binding and no quick command.
mod subvolume {
    #![expect(unsafe_code, reason = "an ioctl without a safe binding")]

    use std::{ffi::CStr, fs::File, io};

    use rustix::ioctl::{Setter, ioctl, opcode};

    /// `struct btrfs_ioctl_vol_args`.
    #[repr(C)]
    struct VolArgs {
        fd: i64,
        name: [u8; 4088],
    }

    /// BTRFS_IOC_SUBVOL_CREATE.
    const CREATE: rustix::ioctl::Opcode = opcode::write::<VolArgs>(0x94, 14);

    pub(super) fn create(folder: &File, name: &CStr) -> io::Result<()> {
        let mut args = VolArgs { fd: 0, name: [0; 4088] };
        let bytes = name.to_bytes();
        args.name.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidFilename)?.copy_from_slice(bytes);
        // SAFETY: the request belongs to this structure, which the kernel only reads.
        Ok(unsafe { ioctl(folder, Setter::<CREATE, VolArgs>::new(args)) }?)
    }
}

/// How many volumes a second so many threads create at once.
pub(super) fn creates_per_second(pool: &Path, threads: usize, each: usize) -> Result<f64> {
    let start = Instant::now();
    let made: Result<Vec<()>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || (0..each).try_for_each(|i| create(pool, &format!("bare-{thread}-{i}"))))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| anyhow::bail!("a thread died"))).collect()
    });
    made?;
    Ok((threads * each) as f64 / start.elapsed().as_secs_f64())
}

/// `losetup`, `mkfs` if asked for, `mount` and `mount --bind`, as a shell script that sets up
/// an image file runs them; how long that took.
pub(super) fn shell(folder: &Path, fs: &str, bytes: u64, first: bool) -> Result<Duration> {
    let (image, staging, target) = (folder.join("bare.img"), folder.join("staging"), folder.join("target"));
    if first {
        File::create(&image)?.set_len(bytes)?;
    }
    fs::create_dir_all(&staging)?;
    fs::create_dir_all(&target)?;
    let mkfs = if first { format!("mkfs.{fs} -q $loop;") } else { String::new() };
    let script = format!(
        "set -e; loop=$(losetup --find --show --direct-io=on $0); {mkfs} mount $loop $1; mount --bind $1 $2"
    );
    let start = Instant::now();
    disk::run("sh", &["-c".as_ref(), script.as_ref(), &image, &staging, &target])?;
    let took = start.elapsed();
    disk::run("umount", &[target.as_path()])?;
    // The device goes with its last mount only when it was told so.
    let device = device_of(&staging)?;
    disk::run("umount", &[staging.as_path()])?;
    disk::run("losetup", &["-d".as_ref(), Path::new(&device)])?;
    Ok(took)
}

fn device_of(mounted: &Path) -> Result<String> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let line = mounts.lines().find(|line| line.split(' ').nth(1).map(Path::new) == Some(mounted));
    let device = line.and_then(|line| line.split(' ').next()).context("the staging path is mounted")?;
    ensure!(device.starts_with("/dev/loop"), "{device} is no loop device");
    Ok(device.to_owned())
}
