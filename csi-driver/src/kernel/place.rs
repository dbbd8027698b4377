//! A path that came from outside: where something is, or is to be, mounted.
//!
//! The parent folder is opened once, with no symbolic link followed anywhere on the
//! way, and everything else happens relative to it.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        self as rfs, AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags, StatxAttributes,
        StatxFlags,
    },
    io::Errno,
};

use super::mountinfo;
use crate::{
    error::{Error, Tried as _},
    step,
};

/// One name in an opened folder.
#[derive(Debug)]
pub(crate) struct Place {
    /// As [`plain`] has it.
    path: PathBuf,
    parent: OwnedFd,
    name: OsString,
}

/// What is at a place now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    /// The device number, of a device node.
    pub(crate) rdev: u64,
    pub(crate) kind: FileType,
    /// Bytes.
    pub(crate) size: u64,
    /// Whether something is mounted exactly here.
    pub(crate) mount_root: bool,
    pub(crate) mount_id: u64,
}

impl Seen {
    /// Whether both are the same file, whatever path and mount led there.
    pub(crate) fn same_file(&self, other: &Self) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// Whether it is a mount that does not answer, known from the mount table alone.
    pub(crate) fn is_dead(&self) -> bool {
        self.kind == FileType::Unknown
    }
}

/// The one spelling of a path among those that differ in `//`, `/./` and a `/` at the end:
/// under it the journal keeps what is at the path.
pub(crate) fn plain(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}

impl Place {
    /// Opens the parent of `path`; `None` when there is no such folder.
    /// `field` is the request's name for it.
    pub(crate) fn open(field: &str, path: &str) -> Result<Option<Self>, Error> {
        let invalid = |reason: &str| Error::Invalid(format!("{field} {path:?} {reason}"));
        if path.is_empty() {
            return Err(Error::Invalid(format!("{field} is required")));
        }
        let full = plain(path);
        if !full.is_absolute() {
            return Err(invalid("is not an absolute path"));
        }
        if path.contains('\0') || full.components().any(|part| part == Component::ParentDir) {
            return Err(invalid("must not contain .. or a null byte"));
        }
        let (Some(parent), Some(name)) = (full.parent(), full.file_name()) else {
            return Err(invalid("is the root folder"));
        };
        let opened = rfs::openat2(
            CWD,
            parent,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        );
        match opened {
            Ok(parent) => Ok(Some(Self { parent, name: name.to_owned(), path: full })),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP) => Err(invalid("goes through a symbolic link; give the path it leads to")),
            Err(Errno::NOTDIR | Errno::NAMETOOLONG) => Err(invalid("is not a usable path")),
            Err(error) => Err(error).tried(|| format!("opening {}", parent.display())),
        }
    }

    /// As [`Place::open`], where the parent has to be there.
    pub(crate) fn required(field: &str, path: &str) -> Result<Self, Error> {
        Self::open(field, path)?.ok_or_else(|| {
            Error::Precondition(format!("{field} {path:?}: its parent folder does not exist; make it first"))
        })
    }

    /// The whole path, for messages and outside commands.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The whole path, as the journal keeps it.
    pub(crate) fn text(&self) -> String {
        // It came as UTF-8, so nothing is lost.
        self.path.to_string_lossy().into_owned()
    }

    /// What is here, if anything. A symbolic link is seen as such.
    pub(crate) fn look(&self) -> Result<Option<Seen>, Error> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        match rfs::statx(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW, mask) {
            Ok(stat) => Ok(Some(Seen {
                dev: rfs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
                ino: stat.stx_ino,
                rdev: rfs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
                kind: FileType::from_raw_mode(stat.stx_mode.into()),
                size: stat.stx_size,
                mount_root: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
                mount_id: stat.stx_mnt_id,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).tried(|| format!("looking at {}", self.path.display())),
        }
    }

    /// Whether something is mounted here, and what.
    pub(crate) fn mounted(&self) -> Result<Option<Seen>, Error> {
        Ok(self.look()?.filter(|seen| seen.mount_root))
    }

    /// As [`Place::mounted`], for taking away what is mounted: also where it answers every
    /// question with an error (xfs after a shutdown, a folder of a dead disk). The mount
    /// table knows it without asking it; what only it knows, inode and kind, stays open.
    pub(crate) fn mounted_even_dead(&self) -> Result<Option<Seen>, Error> {
        self.mounted().or_else(|error| match self.dead_mount() {
            Ok(Some(seen)) => Ok(Some(seen)),
            _ => Err(error),
        })
    }

    fn dead_mount(&self) -> Result<Option<Seen>, Error> {
        // Opening a path asks no file system for anything, and the kernel tells the mount.
        let mount_id = mount_id_of(&self.open_path()?)?;
        if mount_id == mount_id_of(&self.parent)? {
            return Ok(None);
        }
        let device = mountinfo::by_id(mount_id)?.and_then(|mount| mount.device_number());
        Ok(device.map(|dev| Seen {
            dev,
            ino: 0,
            rdev: 0,
            kind: FileType::Unknown,
            size: 0,
            mount_root: true,
            mount_id,
        }))
    }

    /// Refuses a folder that holds something: what is mounted on it would hide that, and
    /// could not be taken away again as [`Place::remove`] does.
    pub(crate) fn expect_empty(&self) -> Result<(), Error> {
        if self.look()?.is_none_or(|seen| seen.kind != FileType::Directory) {
            return Ok(());
        }
        let first = || -> Result<_, Errno> {
            for entry in rfs::Dir::new(self.open_folder_raw()?)? {
                let entry = entry?;
                if ![c".", c".."].contains(&entry.file_name()) {
                    return Ok(Some(entry.file_name().to_owned()));
                }
            }
            Ok(None)
        };
        match first().tried(|| format!("listing {}", self.path.display()))? {
            None => Ok(()),
            Some(name) => Err(Error::Precondition(format!(
                "{} is not empty (it has {name:?}), and what is in it would be hidden; give an empty folder or a \
                 path that does not exist",
                self.path.display()
            ))),
        }
    }

    /// Makes an empty folder, if nothing is here.
    pub(crate) fn make_folder(&self) -> Result<(), Error> {
        match rfs::mkdirat(&self.parent, &self.name, Mode::from_raw_mode(0o750)) {
            Ok(()) => {
                step::passed("target made");
                Ok(())
            }
            Err(Errno::EXIST) => self.expect_kind(FileType::Directory),
            Err(error) => Err(error).tried(|| format!("making the folder {}", self.path.display())),
        }
    }

    /// Makes an empty file, if nothing is here.
    pub(crate) fn make_file(&self) -> Result<(), Error> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        match rfs::openat(&self.parent, &self.name, flags, Mode::from_raw_mode(0o600)) {
            Ok(_) => {
                step::passed("target made");
                Ok(())
            }
            Err(Errno::EXIST) => self.expect_kind(FileType::RegularFile),
            Err(error) => Err(error).tried(|| format!("making the file {}", self.path.display())),
        }
    }

    fn expect_kind(&self, kind: FileType) -> Result<(), Error> {
        match self.look()? {
            Some(seen) if seen.kind == kind => Ok(()),
            seen => Err(Error::Precondition(format!(
                "{} is there already and is not a {}: {:?}",
                self.path.display(),
                if kind == FileType::Directory { "folder" } else { "plain file" },
                seen.map(|seen| seen.kind)
            ))),
        }
    }

    /// Opens what is here as a place to mount on or to clone from, never through a
    /// symbolic link.
    pub(crate) fn open_here(&self) -> Result<OwnedFd, Error> {
        let fd = self.open_path()?;
        let stat = rfs::fstat(&fd).tried(|| format!("looking at {}", self.path.display()))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            return Err(Error::Invalid(format!("{} is a symbolic link", self.path.display())));
        }
        Ok(fd)
    }

    fn open_path(&self) -> Result<OwnedFd, Error> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rfs::openat(&self.parent, &self.name, flags, Mode::empty())
            .tried(|| format!("opening {}", self.path.display()))
    }

    /// Opens the plain file or the folder here to read it, never through a symbolic link.
    pub(crate) fn open_plain(&self) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rfs::openat(&self.parent, &self.name, flags, Mode::empty())
            .tried(|| format!("opening {}", self.path.display()))
    }

    /// Moves what is here into an opened folder, where nothing has the name yet.
    pub(crate) fn move_to(&self, folder: &OwnedFd, name: &str) -> Result<(), Error> {
        rfs::renameat_with(&self.parent, &self.name, folder, name, RenameFlags::NOREPLACE)
            .tried(|| format!("moving {}", self.path.display()))?;
        // The new place first: after a power cut it is in one of the two.
        rfs::fsync(folder)
            .and_then(|()| self.sync_parent())
            .tried(|| format!("moving {}", self.path.display()))
    }

    /// The way back of [`Place::move_to`].
    pub(crate) fn move_from(&self, folder: &OwnedFd, name: &str) -> Result<(), Error> {
        rfs::renameat_with(folder, name, &self.parent, &self.name, RenameFlags::NOREPLACE)
            .and_then(|()| self.sync_parent())
            .and_then(|()| rfs::fsync(folder))
            .tried(|| format!("moving {} back", self.path.display()))
    }

    fn sync_parent(&self) -> Result<(), Errno> {
        // It was opened as a path only.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rfs::fsync(rfs::openat(&self.parent, c".", flags, Mode::empty())?)
    }

    /// Opens the file system that is mounted here, to ask and to command it.
    pub(crate) fn open_folder(&self) -> Result<OwnedFd, Error> {
        self.open_folder_raw().tried(|| format!("opening {}", self.path.display()))
    }

    fn open_folder_raw(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rfs::openat(&self.parent, &self.name, flags, Mode::empty())
    }

    /// Takes away the empty folder or the empty file here. Never what is inside: a
    /// folder that is not empty is an error, for someone else's data may be in it.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let Some(seen) = self.look()? else { return Ok(()) };
        if seen.mount_root {
            return Err(Error::Precondition(format!("{} is still mounted", self.path.display())));
        }
        let flags = match seen.kind {
            FileType::Directory => AtFlags::REMOVEDIR,
            FileType::RegularFile if seen.size == 0 => AtFlags::empty(),
            kind => {
                return Err(Error::Precondition(format!(
                    "{} is no empty folder and no empty file ({kind:?}, {} bytes): it is not this driver's",
                    self.path.display(),
                    seen.size
                )));
            }
        };
        match rfs::unlinkat(&self.parent, &self.name, flags) {
            Ok(()) | Err(Errno::NOENT) => {
                step::passed("target removed");
                Ok(())
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(Error::Precondition(format!(
                "{} is not empty and nothing is mounted on it; its files are not this driver's to delete",
                self.path.display()
            ))),
            Err(error) => Err(error).tried(|| format!("removing {}", self.path.display())),
        }
    }

    /// A path for system calls that know no folder descriptor: it goes through the
    /// opened parent, so no link that appears meanwhile can lead it away.
    pub(crate) fn by_parent(&self) -> PathBuf {
        let parent = self.parent.as_fd().as_raw_fd();
        Path::new("/proc/self/fd").join(parent.to_string()).join::<&OsStr>(&self.name)
    }
}

/// The id of the mount in which an open file lies (proc_pid_fdinfo(5)).
fn mount_id_of(fd: &OwnedFd) -> Result<u64, Error> {
    let path = PathBuf::from(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
    let text = fs::read_to_string(&path).tried(|| format!("reading {}", path.display()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or_else(|| Error::Corrupt { path, reason: "it has no mnt_id".to_owned() })
}
