//! Loop devices. They are shared by everything on the machine, so a device is used
//! only when the kernel says that it stands on the very file we mean.
//!
//! To ask a device means to open it, and a device that is detached while somebody has it open lives until
//! they close it. So whoever only looks, of one's own process, does not look while one is detached.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use parking_lot::{RwLock, RwLockReadGuard};
use rustix::{
    fs::{self as rfs, Mode, OFlags},
    io::Errno,
};

use super::{forks, mountinfo, raw};
use crate::{
    error::{Error, Tried as _},
    step,
};

/// How often another process may take the free device before us.
const ATTACH_TRIES: usize = 64;
/// Read by who looks, written by who detaches.
static DETACHING: RwLock<()> = RwLock::new(());
/// Longer than any look takes. A file system that hangs holds up nobody else: without the lock all that can happen is
/// that a device lives a moment longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// An attached loop device, held open: while it is held it cannot be given to
/// another file.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    /// `/dev/loopN`.
    pub(crate) path: PathBuf,
    /// The device number, as `st_rdev` gives it.
    pub(crate) rdev: u64,
    file: File,
}

/// Whether the kernel gives the device back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detach {
    /// When its last user closes it. For mounted devices: the unmount frees it, and
    /// so does the end of this process before the mount.
    WithLastUser,
    /// Only when told. For raw block: between two uses nobody holds it open.
    WhenTold,
}

/// Taken by who opens devices only to see what they are, without holding the volume: none is detached meanwhile.
pub(crate) fn looking() -> Option<RwLockReadGuard<'static, ()>> {
    DETACHING.try_read_for(PATIENCE)
}

/// The loop device of the file, if it has one. `end` is how the file's path ends: it
/// spares opening the devices of all others, the file's identity decides.
pub(crate) fn find(backing: impl AsFd, end: &Path) -> Result<Option<LoopDevice>, Error> {
    let wanted = rfs::fstat(backing).tried(|| "reading the backing file's identity".to_owned())?;
    Ok(scan(|path| path.ends_with(end), |info| is_of(info, &wanted))?.into_iter().next())
}

/// The loop devices of all files that lie in the folder at `path`, opened as `folder`, or lay
/// there when they were deleted. The kernel says only where a file lies and on which file
/// system, and nothing is found that was attached from another root folder.
pub(crate) fn find_below(path: &Path, folder: impl AsFd) -> Result<Vec<LoopDevice>, Error> {
    let wanted = rfs::fstat(folder).tried(|| "reading a folder's identity".to_owned())?;
    scan(|backing| backing.starts_with(path), |info| is_device(info.device, wanted.st_dev))
}

/// What the device with this number stands on; `None` where it is no loop device, or not attached.
pub(crate) fn backing(rdev: u64) -> Result<Option<Backing>, Error> {
    let Some(name) = name_of(rdev)? else { return Ok(None) };
    let Some(path) = backing_path(&name)? else { return Ok(None) };
    let Some((_, info)) = look_at(&name, false)? else { return Ok(None) };
    Ok(Some(Backing { path, info }))
}

/// As [`backing`], where the file is alone: the device is not opened for it.
pub(crate) fn path_of_backing(rdev: u64) -> Result<Option<PathBuf>, Error> {
    name_of(rdev)?.map_or(Ok(None), |name| backing_path(&name))
}

/// What a loop device stands on.
pub(crate) struct Backing {
    /// Where it is, or was when it was deleted: ` (deleted)` follows then.
    pub(crate) path: PathBuf,
    info: raw::LoopInfo,
}

impl Backing {
    /// Whether it is this file.
    pub(crate) fn is(&self, file: &rfs::Stat) -> bool {
        is_of(&self.info, file)
    }

    /// Whether it is on the file system on which this is.
    pub(crate) fn is_beside(&self, file: &rfs::Stat) -> bool {
        is_device(self.info.device, file.st_dev)
    }
}

fn is_of(info: &raw::LoopInfo, file: &rfs::Stat) -> bool {
    is_device(info.device, file.st_dev) && info.inode == file.st_ino
}

/// The kernel's name of the loop device with this number.
fn name_of(rdev: u64) -> Result<Option<String>, Error> {
    let link = format!("/sys/dev/block/{}:{}", rfs::major(rdev), rfs::minor(rdev));
    match fs::read_link(&link) {
        Ok(path) => {
            Ok(path.file_name().and_then(OsStr::to_str).filter(|name| is_loop(name)).map(str::to_owned))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).tried(|| format!("reading {link}")),
    }
}

fn is_loop(name: &str) -> bool {
    name.starts_with("loop")
}

/// Where the file of a loop device lies; `None` where none is attached.
fn backing_path(name: &str) -> Result<Option<PathBuf>, Error> {
    // Only attached devices have this file.
    match fs::read(Path::new("/sys/block").join(name).join("loop/backing_file")) {
        Ok(path) => Ok(Some(OsStr::from_bytes(path.trim_ascii_end()).into())),
        // Not attached, or going away just now.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENXIO | libc::ENODEV)) => {
            Ok(None)
        }
        Err(error) => Err(error).tried(|| format!("asking what {name} stands on")),
    }
}

/// Opens a loop device and asks what it stands on; `None` where it went away.
fn look_at(name: &str, to_write: bool) -> Result<Option<(LoopDevice, raw::LoopInfo)>, Error> {
    let path = Path::new("/dev").join(name);
    let device = match open(path.clone(), to_write) {
        Ok(device) => device,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENXIO)) => return Ok(None),
        Err(error) => return Err(error).tried(|| format!("opening {}", path.display())),
    };
    match raw::loop_status(device.file.as_fd()) {
        Ok(info) => Ok(Some((device, info))),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error).tried(|| format!("asking what {} stands on", path.display())),
    }
}

/// The loop device of the file, whatever its path is now. Every device is opened for it, if only to
/// look: who detaches one at that moment is done a moment later.
pub(crate) fn find_by_any_name(file: impl AsFd) -> Result<Option<PathBuf>, Error> {
    let wanted = rfs::fstat(file).tried(|| "reading a file's identity".to_owned())?;
    let _looking = looking();
    for (name, _) in attached()? {
        if let Some((device, info)) = look_at(&name, false)?
            && is_of(&info, &wanted)
        {
            return Ok(Some(device.path));
        }
    }
    Ok(None)
}

/// The names of the loop devices that have a file, and where it lies.
fn attached() -> Result<Vec<(String, PathBuf)>, Error> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/sys/block").tried(|| "listing /sys/block".to_owned())? {
        let name = entry.tried(|| "listing /sys/block".to_owned())?.file_name();
        if let Some(name) = name.to_str().filter(|name| is_loop(name))
            && let Some(path) = backing_path(name)?
        {
            all.push((name.to_owned(), path));
        }
    }
    Ok(all)
}

/// The devices whose backing file has such a path and such an identity.
fn scan(
    is_path: impl Fn(&Path) -> bool,
    is_file: impl Fn(&raw::LoopInfo) -> bool,
) -> Result<Vec<LoopDevice>, Error> {
    let mut found = Vec::new();
    for (name, path) in attached()? {
        if is_path(&path)
            && let Some((device, info)) = look_at(&name, true)?
            && is_file(&info)
        {
            found.push(device);
        }
    }
    Ok(found)
}

/// Whether loop devices can be made here.
pub(crate) fn check() -> Result<(), Error> {
    control().map(drop)
}

fn control() -> Result<File, Error> {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .tried(|| "opening /dev/loop-control (root and a kernel with loop devices are needed)".to_owned())
}

/// How large the sectors of a device are: fixed by what is on it, for a file system does
/// not mount on larger ones than it was made on.
///
/// Left to the kernel, it follows from the file: from Linux 6.15 on, an xfs file that shares
/// blocks gets other sectors than before it did, and what is on it would not mount again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sector {
    /// What every content takes. Where the file's own blocks are larger, the kernel does
    /// without direct I/O.
    Bytes512,
    /// What direct I/O always takes.
    Bytes4096,
}

/// Attaches the file to a free device. With direct I/O where its file system can.
pub(crate) fn attach(
    backing: &OwnedFd,
    sector: Sector,
    detach: Detach,
    read_only: bool,
) -> Result<LoopDevice, Error> {
    let sector = match sector {
        Sector::Bytes512 => 512,
        Sector::Bytes4096 => 4096,
    };
    let mut flags = raw::LO_FLAGS_DIRECT_IO;
    if detach == Detach::WithLastUser {
        flags |= raw::LO_FLAGS_AUTOCLEAR;
    }
    if read_only {
        flags |= raw::LO_FLAGS_READ_ONLY;
    }
    let control = control()?;
    for _ in 0..ATTACH_TRIES {
        let number =
            raw::loop_get_free(control.as_fd()).tried(|| "asking for a free loop device".to_owned())?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open(path.clone(), true).tried(|| format!("opening {}", path.display()))?;
        match raw::loop_configure(device.file.as_fd(), backing.as_fd(), sector, flags) {
            Ok(()) => {
                step::passed("loop device attached");
                return Ok(device);
            }
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error).tried(|| format!("attaching the file to {}", path.display())),
        }
    }
    Err(Errno::BUSY).tried(|| format!("attaching to a loop device, {ATTACH_TRIES} times taken by others"))
}

impl LoopDevice {
    /// The open device once more, for a tool that works on it.
    pub(crate) fn handle(&self) -> Result<File, Error> {
        self.file.try_clone().tried(|| format!("keeping {} open", self.path.display()))
    }

    /// Makes the device as large as its file, and says how many bytes that is.
    pub(crate) fn update_size(&self) -> Result<u64, Error> {
        raw::loop_set_capacity(self.file.as_fd()).tried(|| format!("growing {}", self.path.display()))?;
        self.size()
    }

    /// Writes out what was written into the device.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().tried(|| format!("syncing {}", self.path.display()))
    }

    /// Waits until no file system is mounted from the device any more. One that was mounted nowhere ends with the
    /// last file of it, which a command that is just being started may hold for a moment.
    pub(crate) fn wait_unmounted(&self) -> Result<(), Error> {
        let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
        let claim = || rfs::open(&self.path, flags, Mode::empty());
        match forks::outlast(claim, |error| *error == Errno::BUSY) {
            Ok(_) => Ok(()),
            Err(Errno::BUSY) => Err(Error::Busy(format!(
                "{} is still mounted by somebody; it is tried again",
                self.path.display()
            ))),
            Err(error) => Err(error).tried(|| format!("asking whether {} is mounted", self.path.display())),
        }
    }

    /// The device's size in bytes.
    pub(crate) fn size(&self) -> Result<u64, Error> {
        device_size(self.rdev)
    }

    /// Whether the device refuses writes.
    pub(crate) fn is_read_only(&self) -> Result<bool, Error> {
        Ok(self.info()?.flags & raw::LO_FLAGS_READ_ONLY != 0)
    }

    /// Whether the device stands on this file.
    pub(crate) fn is_on(&self, file: &rfs::Stat) -> Result<bool, Error> {
        match self.info() {
            Ok(info) => Ok(is_of(&info, file)),
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::ENXIO) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn info(&self) -> Result<raw::LoopInfo, Error> {
        raw::loop_status(self.file.as_fd()).tried(|| format!("asking what {} stands on", self.path.display()))
    }

    /// Sees to it that the device stays until it is told to go, as [`Detach::WhenTold`] has it: one that was told to
    /// go while somebody had it open goes when they close it, whatever it is used for by then. As long as it is held here it cannot go.
    pub(crate) fn keep(&self) -> Result<(), Error> {
        let info = self.info()?;
        if info.flags & raw::LO_FLAGS_AUTOCLEAR == 0 {
            return Ok(());
        }
        raw::loop_set_flags(self.file.as_fd(), &info, info.flags & !raw::LO_FLAGS_AUTOCLEAR)
            .tried(|| format!("keeping {} attached", self.path.display()))?;
        if self.info()?.flags & raw::LO_FLAGS_AUTOCLEAR == 0 {
            return Ok(());
        }
        // It would be taken from under who uses it.
        Err(Error::Busy(format!("{}, which is going away", self.path.display())))
    }

    /// Gives the device back. Whoever still has it open keeps it until they close it.
    pub(crate) fn detach(self) -> Result<(), Error> {
        let _detaching = DETACHING.try_write_for(PATIENCE);
        // It ends when it is closed, which is before the lock is let go.
        let Self { path, file, .. } = self;
        match raw::loop_clear(file.as_fd()) {
            Err(error) if error.raw_os_error() != Some(libc::ENXIO) => {
                Err(error).tried(|| format!("detaching {}", path.display()))
            }
            _ => {
                drop(file);
                step::passed("loop device detached");
                Ok(())
            }
        }
    }

    /// A place where the device's node is mounted by itself, as a raw volume is published.
    pub(crate) fn bound_at(&self) -> Result<Option<PathBuf>, Error> {
        for mount in mountinfo::all()? {
            if mount.root.file_name() != self.path.file_name() || mount.mount_point == self.path {
                continue;
            }
            let node = rfs::stat(&mount.mount_point)
                .tried(|| format!("looking at {}", mount.mount_point.display()))?;
            if rfs::FileType::from_raw_mode(node.st_mode) == rfs::FileType::BlockDevice
                && node.st_rdev == self.rdev
            {
                return Ok(Some(mount.mount_point));
            }
        }
        Ok(None)
    }

    /// Whether a file system or a program holds the device for itself alone: what
    /// mount and mkfs do.
    pub(crate) fn is_claimed(&self) -> Result<bool, Error> {
        match File::options().read(true).custom_flags(libc::O_EXCL).open(&self.path) {
            Ok(_) => Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(true),
            Err(error) => Err(error).tried(|| format!("opening {} exclusively", self.path.display())),
        }
    }

    /// Reads from the device at `offset` until `buffer` is full or the device ends.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        use std::os::unix::fs::FileExt as _;
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let read = self
                .file
                .read_at(rest, offset + done as u64)
                .tried(|| format!("reading {}", self.path.display()))?;
            if read == 0 {
                break;
            }
            done += read;
        }
        Ok(done)
    }
}

/// The size in bytes of the block device with this number.
pub(crate) fn device_size(rdev: u64) -> Result<u64, Error> {
    let path = format!("/sys/dev/block/{}:{}/size", rfs::major(rdev), rfs::minor(rdev));
    let text = fs::read_to_string(&path).tried(|| format!("reading {path}"))?;
    // sysfs counts in units of 512 bytes, whatever the device's blocks are.
    text.trim()
        .parse::<u64>()
        .map(|sectors| sectors * 512)
        .map_err(|_| Error::Corrupt { path: path.into(), reason: format!("{text:?} is not a number") })
}

fn open(path: PathBuf, to_write: bool) -> io::Result<LoopDevice> {
    let file = match File::options().read(true).write(to_write).open(&path) {
        // A device that refuses writes can still be asked and detached.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EROFS | libc::EACCES)) => {
            File::options().read(true).open(&path)?
        }
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.file_type().is_block_device() {
        return Err(io::Error::other("not a block device"));
    }
    Ok(LoopDevice { path, rdev: metadata.rdev(), file })
}

/// The kernel reports the backing file's device in the old 16-bit or the new 32-bit
/// encoding, by version; both carry the same major and minor.
fn is_device(reported: u64, st_dev: u64) -> bool {
    let (major, minor) = (u64::from(rfs::major(st_dev)), u64::from(rfs::minor(st_dev)));
    let new = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
    reported == new || reported == (major << 8 | minor) || reported == st_dev
}
