//! Subvolumes of btrfs and the sizes they are held to.
//!
//! A size is a limit on a quota group, and which group depends on how the file system
//! counts (`/sys/fs/btrfs/<id>/qgroups/mode`):
//!
//! - simple quotas (`squota`): the group `18502/<subvolume>`, of which the subvolume's
//!   own group is a member. What a user makes inside the volume, a nested subvolume or
//!   snapshot, becomes a member of it by the kernel's doing, so it counts as well.
//! - full quotas (`qgroup`): the subvolume's own group, `0/<subvolume>`. What is nested
//!   inside has a group of its own and is not counted.
//!
//! Calls that change anything need CAP_SYS_ADMIN.

pub(crate) mod received;

use std::{
    ffi::CStr,
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::{
    fs::{self as rfs, AtFlags, Mode, OFlags, ResolveFlags},
    thread::{CapabilitySet, capabilities},
};

use super::{raw::btrfs as raw, removal::loosen};
use crate::{
    error::{Error, Tried as _},
    step,
};

/// The level of this driver's own quota groups ("HF"), so that they meet nobody's.
const LEVEL: u64 = 0x4846;
/// Where in a group's number its level begins.
const LEVEL_SHIFT: u32 = 48;

/// There where the kernel knows simple quotas (Documentation/ABI/testing/sysfs-fs-btrfs).
const SIMPLE_QUOTAS: &str = "/sys/fs/btrfs/features/simple_quota";

/// How a file system counts what subvolumes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counting {
    /// By the subvolume that wrote a block first, for as long as anybody has it.
    Simple,
    /// By what a subvolume refers to, shared or not.
    Full,
}

/// One btrfs, by an open folder in it.
#[derive(Debug)]
pub(crate) struct FileSystem {
    root: OwnedFd,
    path: PathBuf,
    groups: PathBuf,
    /// What is switched on when nothing is.
    preferred: Counting,
    /// Held while quotas are switched on.
    enabling: Mutex<()>,
}

impl FileSystem {
    /// The file system in which the folder lies; `path` is where the folder is.
    pub(crate) fn of(root: OwnedFd, path: &Path, preferred: Counting) -> Result<Self, Error> {
        let id = raw::fs_id(root.as_fd())
            .tried(|| format!("asking for the id of the btrfs at {}", path.display()))?;
        let id = uuid::Uuid::from_bytes(id);
        let groups = PathBuf::from(format!("/sys/fs/btrfs/{id}/qgroups"));
        Ok(Self { root, path: path.to_owned(), groups, preferred, enabling: Mutex::new(()) })
    }

    /// What this process may not do of what volumes need; one line each.
    pub(crate) fn lacks(&self) -> Vec<String> {
        if may_administer() {
            return Vec::new();
        }
        vec!["CAP_SYS_ADMIN: no size is enforced and no subvolume removed without it".to_owned()]
    }

    /// How subvolumes are counted now; `None` when quotas are off.
    pub(crate) fn counting(&self) -> Result<Option<Counting>, Error> {
        let path = self.groups.join("mode");
        match fs::read_to_string(&path) {
            Ok(mode) => match mode.trim() {
                "squota" => Ok(Some(Counting::Simple)),
                "qgroup" => Ok(Some(Counting::Full)),
                _ => Ok(None),
            },
            // A kernel before 6.7 knows full quotas only and has no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(self.groups.is_dir().then_some(Counting::Full))
            }
            Err(error) => Err(error).tried(|| format!("reading {}", path.display())),
        }
    }

    /// Switches quotas on if they are off. What is on stays as it is: somebody chose it.
    pub(crate) fn counting_enabled(&self) -> Result<Counting, Error> {
        let _enabling = self.enabling.lock();
        if let Some(counting) = self.counting()? {
            return Ok(counting);
        }
        let mut chosen = self.preferred;
        let mut done = raw::quota_enable(self.root.as_fd(), chosen == Counting::Simple);
        let unknown = |error: &io::Error| {
            matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOTTY))
        };
        if chosen == Counting::Simple && done.as_ref().is_err_and(unknown) {
            chosen = Counting::Full;
            done = raw::quota_enable(self.root.as_fd(), false);
        }
        done.map_err(|error| self.refused("switching quotas on", error))?;
        tracing::info!(path = %self.path.display(), counting = ?chosen, "switched btrfs quotas on");
        Ok(chosen)
    }

    /// Makes the empty subvolume `name` in the folder, open to everybody who can reach it.
    /// Not durable before the folder is synced.
    pub(crate) fn make_subvolume(&self, folder: &OwnedFd, name: &CStr) -> Result<OwnedFd, Error> {
        raw::subvol_create(folder.as_fd(), name)
            .map_err(|error| self.refused(&format!("making the subvolume {name:?}"), error))?;
        step::passed("subvolume made");
        let subvolume = open_subvolume(folder, name)?;
        // Whatever the process's umask is.
        rfs::fchmod(&subvolume, Mode::from_raw_mode(0o755))
            .tried(|| format!("opening the subvolume {name:?} to others"))?;
        Ok(subvolume)
    }

    /// Holds a subvolume to so many bytes, from now on. Not durable before a commit, or a
    /// sync of the folder of a subvolume that is new.
    pub(crate) fn limit(&self, subvolume: &OwnedFd, bytes: u64) -> Result<(), Error> {
        let id = self.id(subvolume)?;
        let fd = self.root.as_fd();
        let set = |group: u64| {
            raw::qgroup_limit(fd, group, Some(bytes))
                .map_err(|error| self.refused(&format!("limiting subvolume {id} to {bytes} bytes"), error))
        };
        match self.counting_enabled()? {
            Counting::Full => set(id),
            Counting::Simple => {
                let group = own_group(id);
                let prepared = |done: io::Result<()>| match done {
                    Err(error) if error.raw_os_error() != Some(libc::EEXIST) => {
                        Err(self.refused(&format!("making the quota group of subvolume {id}"), error))
                    }
                    _ => Ok(()),
                };
                prepared(raw::qgroup_create(fd, group))?;
                step::passed("quota group made");
                // The limit first: at no moment is the subvolume a member of a group without.
                set(group)?;
                prepared(raw::qgroup_assign(fd, id, group, true))
            }
        }
    }

    /// Makes limits and subvolumes outlive a power cut.
    pub(crate) fn commit(&self) -> Result<(), Error> {
        raw::commit(self.root.as_fd()).tried(|| format!("committing the btrfs at {}", self.path.display()))
    }

    /// How many bytes count for the subvolume now, those on their way to the disk
    /// included; `None` when nobody counts them.
    pub(crate) fn used(&self, subvolume: &OwnedFd) -> Result<Option<u64>, Error> {
        let id = self.id(subvolume)?;
        for group in [own_group(id), id] {
            if let Some(referenced) = self.counted(group, "referenced")? {
                let reserved = self.counted(group, "rsv_data")?;
                return Ok(Some(referenced.saturating_add(reserved.unwrap_or(0))));
            }
        }
        Ok(None)
    }

    /// Whether all the `bytes` in a subvolume would count against a limit. Full quotas count what it
    /// refers to; simple quotas, nothing that was written before they were switched on, that
    /// another subvolume wrote, or that lies in one nested in it.
    pub(crate) fn counts_all(&self, subvolume: &OwnedFd, bytes: u64) -> Result<bool, Error> {
        let simple = match self.counting()? {
            Some(counting) => counting == Counting::Simple,
            None => self.preferred == Counting::Simple && Path::new(SIMPLE_QUOTAS).exists(),
        };
        if !simple {
            return Ok(true);
        }
        // What is in memory only is counted when it is written.
        rfs::syncfs(subvolume).tried(|| format!("syncing the btrfs at {}", self.path.display()))?;
        Ok(self.used(subvolume)?.unwrap_or(0) >= bytes)
    }

    /// How many bytes of those that count for the subvolume will not need room anew when it
    /// changes them, as those do that it shares; too few where nobody knows, and `None` where
    /// nobody counts.
    pub(crate) fn used_alone(&self, subvolume: &OwnedFd, may_share: bool) -> Result<Option<u64>, Error> {
        match self.counting()? {
            // Whoever it shares with: another pool, for one.
            Some(Counting::Full) => Ok(Some(self.counted(self.id(subvolume)?, "exclusive")?.unwrap_or(0))),
            Some(Counting::Simple) | None if may_share => Ok(Some(0)),
            Some(Counting::Simple) | None => self.used(subvolume),
        }
    }

    fn counted(&self, group: u64, what: &str) -> Result<Option<u64>, Error> {
        let folder = format!("{}_{}", group >> LEVEL_SHIFT, group & !(u64::MAX << LEVEL_SHIFT));
        number(&self.groups.join(folder).join(what))
    }

    /// Makes the snapshot `name` of a subvolume in the folder. It is durable, and of one
    /// moment not before the call. What is nested in the subvolume is not in it: there the
    /// snapshot has empty folders.
    pub(crate) fn snapshot(
        &self,
        source: &OwnedFd,
        folder: &OwnedFd,
        name: &CStr,
        read_only: bool,
    ) -> Result<(), Error> {
        raw::snap_create(folder.as_fd(), name, source.as_fd(), read_only).map_err(|error| {
            if error.raw_os_error() == Some(libc::ETXTBSY) {
                return Error::Precondition(
                    "a swap file is active in the volume, and btrfs makes no snapshot of it; switch that off first"
                        .to_owned(),
                );
            }
            self.refused("making a snapshot", error)
        })?;
        step::passed("snapshot made");
        if read_only {
            self.disown(folder, name)?;
        }
        Ok(())
    }

    /// A folder in the file system.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the subvolume `name` of the folder with all that are nested in it, and its
    /// limit. Nothing if there is no such entry; `false` when it is no subvolume.
    pub(crate) fn delete_subvolume(&self, folder: &OwnedFd, name: &CStr) -> Result<bool, Error> {
        match rfs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_ino == raw::SUBVOLUME_INODE => {}
            Ok(_) => return Ok(false),
            Err(rustix::io::Errno::NOENT) => return Ok(true),
            Err(error) => return Err(error).tried(|| format!("looking at the subvolume {name:?}")),
        }
        let subvolume = open_subvolume(folder, name)?;
        let id = self.id(&subvolume)?;
        // Its owner may have made it so; nothing could be taken out of it then.
        if raw::subvol_is_read_only(subvolume.as_fd()).unwrap_or(false) {
            when_not_sent(|| raw::subvol_set_read_only(subvolume.as_fd(), false))
                .map_err(|error| self.refused(&format!("making subvolume {id} writable"), error))?;
        }
        loosen(&subvolume);
        let nested = self.nested(id)?;
        // First: in a volume that is full nothing can be removed either (EDQUOT).
        self.forget_limits(id);
        for nested in nested.iter().copied().rev() {
            match raw::snap_destroy_by_id(self.root.as_fd(), nested) {
                Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                    return Err(self.refused(&format!("removing subvolume {nested}, nested in {id}"), error));
                }
                _ => step::passed("nested subvolume removed"),
            }
        }
        drop(subvolume);
        when_not_sent(|| raw::snap_destroy(folder.as_fd(), name))
            .map_err(|error| self.refused(&format!("removing the subvolume {name:?}"), error))?;
        step::passed("subvolume removed");
        self.remove_group(id, &nested);
        Ok(true)
    }

    /// What keeps an opened folder from being a volume's subvolume as it is, if anything.
    pub(crate) fn check_writable_subvolume(&self, folder: &OwnedFd) -> Result<Option<&'static str>, Error> {
        let stat = rfs::fstat(folder).tried(|| "looking at a folder".to_owned())?;
        if stat.st_ino != raw::SUBVOLUME_INODE {
            return Ok(Some("is no subvolume, and only those can be held to a size"));
        }
        let read_only = raw::subvol_is_read_only(folder.as_fd())
            .tried(|| "asking whether a subvolume is read-only".to_owned())?;
        Ok(read_only.then_some("is a read-only subvolume"))
    }

    /// What lies in the subvolume, each after what it lies in.
    fn nested(&self, id: u64) -> Result<Vec<u64>, Error> {
        let mut found = vec![id];
        let mut at = 0;
        while let Some(id) = found.get(at).copied() {
            found.extend(raw::subvol_children(self.root.as_fd(), id).map_err(|error| {
                self.refused(&format!("listing what is nested in subvolume {id}"), error)
            })?);
            at += 1;
        }
        found.remove(0);
        Ok(found)
    }

    /// Takes the limits off. A subvolume's number may come again with another one after a
    /// new mount, and must not bring this one's limit.
    fn forget_limits(&self, id: u64) {
        for group in [id, own_group(id)] {
            note(id, raw::qgroup_limit(self.root.as_fd(), group, None));
        }
    }

    /// Removes the group that [`FileSystem::limit`] made. A crash before leaves a group
    /// without a limit and without members: it holds nobody.
    fn remove_group(&self, id: u64, nested: &[u64]) {
        let (fd, group) = (self.root.as_fd(), own_group(id));
        for member in nested.iter().chain([&id]) {
            note(id, raw::qgroup_assign(fd, *member, group, false));
        }
        note(id, raw::qgroup_remove(fd, group));
    }

    fn id(&self, subvolume: &OwnedFd) -> Result<u64, Error> {
        raw::subvol_id(subvolume.as_fd())
            .tried(|| format!("asking for a subvolume's id below {}", self.path.display()))
    }

    fn refused(&self, what: &str, source: io::Error) -> Error {
        let hint = match source.raw_os_error() {
            Some(libc::EPERM) => " (the driver needs CAP_SYS_ADMIN for it)",
            Some(libc::EROFS) => " (it is read-only, or lies in a subvolume that is)",
            _ => "",
        };
        Error::Io { tried: format!("{what} on the btrfs at {}{hint}", self.path.display()), source }
    }
}

/// A killed driver's `btrfs send` ends when it has nobody to write to, and until then the
/// kernel lets nobody change what it sends (EPERM).
const SENT_FOR: Duration = Duration::from_secs(10);

fn when_not_sent(change: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match change() {
            Err(error)
                if error.raw_os_error() == Some(libc::EPERM)
                    && may_administer()
                    && began.elapsed() < SENT_FOR =>
            {
                thread::park_timeout(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

fn may_administer() -> bool {
    // Not known: the call itself says what is wrong.
    capabilities(None).map_or(true, |sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// What cannot be removed of a quota group holds nobody, and is only named.
fn note(subvolume: u64, removed: io::Result<()>) {
    if let Err(error) = removed
        // No such group, no such member, or quotas are off.
        && !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTCONN | libc::EINVAL))
    {
        tracing::debug!(subvolume, %error, "a part of its quota group stays");
    }
}

fn own_group(id: u64) -> u64 {
    LEVEL << LEVEL_SHIFT | id
}

fn open_subvolume(folder: &OwnedFd, name: &CStr) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rfs::openat2(folder, name, flags, Mode::empty(), resolve)
        .tried(|| format!("opening the subvolume {name:?}"))
}

/// A number from sysfs; `None` when there is no such file.
fn number(path: &Path) -> Result<Option<u64>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| Error::Corrupt {
            path: path.to_owned(),
            reason: format!("{text:?} is not a number"),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).tried(|| format!("reading {}", path.display())),
    }
}
