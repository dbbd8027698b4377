//! What is in a folder: how much of it there is, whether it is one file system's, and
//! whether two looks saw the same.

use std::{
    collections::HashSet,
    ffi::CStr,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self as rfs, AtFlags, Dir, FileType, OFlags, Statx, StatxAttributes, StatxFlags},
    io::Errno,
};

use crate::{
    error::{Error, Tried as _},
    pool::Original,
};

/// One look at everything in a folder. Two that are equal saw the same files: every change
/// of a file's bytes, properties or names moves a ctime.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// What the files occupy, those of several names once.
    pub(super) bytes: u64,
    entries: u64,
    /// The sum over all entries, so that the order in which a folder lists them is no matter.
    digest: u64,
    newest: Option<((i64, u32), PathBuf)>,
    /// The first that is found of what a copy would leave out.
    foreign: Option<PathBuf>,
}

impl Census {
    pub(super) fn take(original: &Original) -> Result<Self, Error> {
        let path = original.place.path();
        let root = original.open()?;
        let mut walk = Walk { census: Self::default(), counted: HashSet::new(), device: None };
        walk.all(&root).tried(|| format!("counting what is in {}", path.display()))?;
        Ok(walk.census)
    }

    /// Refuses a folder in which something is mounted or a subvolume lies: a copy stays on
    /// the file system on which it began, and would have an empty folder for it.
    pub(super) fn expect_whole(&self, original: &Original) -> Result<(), Error> {
        let Some(inside) = &self.foreign else { return Ok(()) };
        let path = original.place.path();
        Err(Error::Precondition(format!(
            "{} is a subvolume or a mount in {}, and would not be copied with it; import it by itself and take it \
             out of there, or put a plain folder in its place",
            path.join(inside).display(),
            path.display()
        )))
    }

    /// Refuses what is not as it was at an earlier look.
    pub(super) fn expect_as_before(&self, before: &Self, original: &Original) -> Result<(), Error> {
        if self == before {
            return Ok(());
        }
        let path = original.place.path();
        let newest =
            self.newest.as_ref().map(|(_, inside)| inside).filter(|inside| !inside.as_os_str().is_empty());
        let newest = newest.map(|inside| format!(" (last in {})", inside.display())).unwrap_or_default();
        Err(Error::Precondition(format!(
            "{} was written to while it was copied{newest}; stop who uses it and try again",
            path.display()
        )))
    }
}

struct Walk {
    census: Census,
    /// Files of several names, by device and inode.
    counted: HashSet<(u32, u32, u64)>,
    device: Option<(u32, u32)>,
}

impl Walk {
    /// Depth first: as many folders are open at once as the tree is deep.
    fn all(&mut self, root: &impl std::os::fd::AsFd) -> Result<(), Errno> {
        let seen = look(root, c"", AtFlags::EMPTY_PATH)?;
        self.device = Some(device(&seen));
        self.note(&seen, Path::new(""));
        let mut open = vec![(Dir::read_from(root)?, PathBuf::new())];
        while let Some((folder, path)) = open.last_mut() {
            let Some(entry) = folder.read() else {
                open.pop();
                continue;
            };
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            let path = path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            let seen = look(folder.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_folder = kind(&seen) == FileType::Directory;
            if self.device != Some(device(&seen)) || seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
            {
                self.census.foreign.get_or_insert_with(|| path.clone());
            }
            let is_new = is_folder
                || seen.stx_nlink < 2
                || self.counted.insert((seen.stx_dev_major, seen.stx_dev_minor, seen.stx_ino));
            if is_new {
                self.census.bytes = self.census.bytes.saturating_add(seen.stx_blocks.saturating_mul(512));
            }
            self.note(&seen, &path);
            if is_folder {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = rfs::openat(folder.fd()?, name, flags, rfs::Mode::empty())?;
                open.push((Dir::new(inner)?, path));
            }
        }
        Ok(())
    }

    fn note(&mut self, seen: &Statx, path: &Path) {
        let time = |time: &rfs::StatxTimestamp| (time.tv_sec, time.tv_nsec);
        let changed = time(&seen.stx_ctime);
        let mut hasher = DefaultHasher::new();
        (path, device(seen), seen.stx_ino, seen.stx_mode, seen.stx_size).hash(&mut hasher);
        (time(&seen.stx_mtime), changed).hash(&mut hasher);
        let census = &mut self.census;
        census.entries = census.entries.saturating_add(1);
        census.digest = census.digest.wrapping_add(hasher.finish());
        if census.newest.as_ref().is_none_or(|(newest, _)| *newest < changed) {
            census.newest = Some((changed, path.to_owned()));
        }
    }
}

fn look(folder: impl std::os::fd::AsFd, name: &CStr, flags: AtFlags) -> Result<Statx, Errno> {
    rfs::statx(folder, name, flags | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS)
}

fn device(seen: &Statx) -> (u32, u32) {
    (seen.stx_dev_major, seen.stx_dev_minor)
}

fn kind(seen: &Statx) -> FileType {
    FileType::from_raw_mode(seen.stx_mode.into())
}
