//! A pool: a folder that holds volumes and their snapshots.
//!
//! ```text
//! <pool>/pool.json            what kind of pool this is
//! <pool>/.lock                held by the driver that uses it
//! <pool>/volumes/<id>/        a volume: volume.json, node.json and its data
//! <pool>/volumes/.new-<id>/   a volume being made; removed at the next start
//! <pool>/volumes/.import-<id>/ a volume being imported by a move; see the file `import`
//! <pool>/snapshots/<id>/      a snapshot: snapshot.json and its data
//! <pool>/snapshots/.new-<id>/ a snapshot being cut; removed at the next start, unless…
//! <pool>/groups/<id>.json     …a group names it: then its cut is finished
//! <pool>/trash/               deleted volumes and snapshots; see the file `trash`
//! <pool>/.admin.sock          where the driver that uses it takes orders from people
//! ```

pub(crate) mod apart;
pub(crate) mod envelope;
mod folder;
mod import;
pub(crate) mod inspect;
pub(crate) mod ledger;
mod meter;
mod opening;
mod snapshots;
mod still;
#[cfg(test)]
mod tests;
mod transfer;
pub(crate) mod trash;
mod usage;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::{
    fs::{self as rfs, AtFlags, Dir, FlockOperation, Mode, OFlags, Stat},
    io::Errno,
};
use tokio::sync::Notify;

pub(crate) use folder::{VolumeFolder, inside};
pub(crate) use import::{Appraisal, Original, Watcher};
pub use import::{Import, Progress};
use ledger::{Free, Ledger, Promise, Reservation};
pub(crate) use meter::Meter;
pub(crate) use opening::open_root;
pub(crate) use snapshots::{Wish, look as look_at_snapshots};
pub(crate) use still::Still;

use crate::{
    backend::{Abilities, Backend, Cut},
    config::Limits,
    error::{Error, Tried as _},
    kernel::removal::remove_tree,
    mutable::Mutable,
    snapshot::GroupId,
    step,
    volume::{Origin, Volume},
    volume_id::VolumeId,
};

/// What the folder of a volume being made begins with; no id does.
const NEW: &str = ".new-";

/// An opened pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) name: String,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) limits: Limits,
    path: PathBuf,
    root: OwnedFd,
    volumes: OwnedFd,
    snapshots: OwnedFd,
    groups: OwnedFd,
    trash: OwnedFd,
    /// Told when something came into the trash.
    deleted: Notify,
    ledger: Ledger,
    /// The groups that are written down.
    group_ids: Mutex<BTreeSet<GroupId>>,
    /// How long deleted volumes are kept.
    retention: Duration,
    /// Whether there were snapshots when it was opened.
    had_snapshots: bool,
    /// Keeps a second driver out for as long as this one has the pool.
    lock: OwnedFd,
}

impl Pool {
    /// What can be done with the pool. One that makes no snapshots any more and has some
    /// still has them listed and deleted.
    pub(crate) fn abilities(&self) -> Abilities {
        let able = self.backend.abilities();
        Abilities { snapshots: able.snapshots || self.had_snapshots, ..able }
    }

    /// The pool's folder.
    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Gives the pool to the next driver; for the end, when nothing is done in it any more.
    /// Said aloud, for the lock's descriptor may live on: in a connection that a client keeps,
    /// or for a moment in a command that another thread is just starting.
    pub(crate) fn let_go(&self) {
        if let Err(error) = rfs::flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(pool = %self.name, error = %std::io::Error::from(error), "cannot unlock the pool");
        }
    }

    /// Where the pool is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `path` is in the pool, or the pool in it.
    pub(crate) fn meets(&self, path: &Path) -> bool {
        path.starts_with(&self.path) || self.path.starts_with(path)
    }

    /// Refuses to change anything where the pool's folder, or one of those in it, is not what
    /// is at its path any more: its file system was unmounted, something was mounted over it, or
    /// somebody moved or removed it. What the driver holds open still is the pool, but nobody else
    /// finds it, and at the next start it is gone.
    pub(crate) fn expect_in_place(&self) -> Result<(), Error> {
        let is_still = |opened: &OwnedFd, seen: Result<Stat, Errno>, path: &Path| {
            let opened = rfs::fstat(opened).tried(|| format!("looking at pool {:?}", self.name))?;
            match seen {
                Ok(seen) => Ok((seen.st_dev, seen.st_ino) == (opened.st_dev, opened.st_ino)),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
                Err(error) => Err(error).tried(|| format!("looking at {}", path.display())),
            }
        };
        if !is_still(&self.root, rfs::stat(&self.path), &self.path)? {
            return Err(Error::Precondition(format!(
                "pool {:?} is not at {} any more; mount its file system there again and restart the driver",
                self.name,
                self.path.display()
            )));
        }
        let folders = [
            ("volumes", &self.volumes),
            ("snapshots", &self.snapshots),
            ("groups", &self.groups),
            ("trash", &self.trash),
        ];
        for (name, opened) in folders {
            let path = self.path.join(name);
            let seen = rfs::statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW);
            if !is_still(opened, seen, &path)? {
                return Err(Error::Precondition(format!(
                    "{} is not the folder any more that pool {:?} had there; put it back and restart the driver",
                    path.display(),
                    self.name
                )));
            }
        }
        Ok(())
    }

    fn volumes_path(&self) -> PathBuf {
        self.path.join("volumes")
    }

    /// Whether volumes can have these parameters here.
    pub(crate) fn check_mutable(&self, mutable: &Mutable) -> Result<(), Error> {
        let here = |why: String| format!("mutable_parameters cannot be had in pool {:?}: {why}", self.name);
        self.backend.check_mutable(mutable).map_err(|error| match error {
            Error::Invalid(why) => Error::Invalid(here(why)),
            Error::Precondition(why) => Error::Precondition(here(why)),
            other => other,
        })
    }

    /// The folder of a volume; `None` when there is no such volume.
    pub(crate) fn find(&self, id: &VolumeId) -> Result<Option<VolumeFolder>, Error> {
        VolumeFolder::open(&self.volumes, &self.volumes_path(), id.as_str())
    }

    /// The folder of a volume that has to be there.
    pub(crate) fn folder(&self, id: &VolumeId) -> Result<VolumeFolder, Error> {
        self.find(id)?.ok_or_else(|| Error::VolumeNotFound(id.to_string()))
    }

    /// The ids of all volumes, sorted.
    pub(crate) fn ids(&self) -> Result<Vec<VolumeId>, Error> {
        let mut ids: Vec<VolumeId> = names(&self.volumes, &self.volumes_path())?
            .into_iter()
            .filter_map(|name| VolumeId::try_from(name).ok())
            .filter(|id| id.pool() == self.name)
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// How many bytes can still be promised.
    pub(crate) fn available(&self) -> Result<u64, Error> {
        self.ledger.available(&|sizes| self.measure(sizes))
    }

    /// How many bytes are promised.
    pub(crate) fn promised(&self) -> u64 {
        self.ledger.promised()
    }

    /// Promises a new volume its size.
    pub(crate) fn promise(&self, volume: &Volume) -> Result<Reservation, Error> {
        self.expect_in_place()?;
        self.ledger.reserve(&volume.id, volume.capacity, &|sizes| self.measure(sizes))
    }

    /// Makes a volume, with the data of `source` if there is one. It appears whole, in one
    /// rename, or not at all: what a crash leaves under the name `.new-…` is removed by the
    /// next try or the next start.
    pub(crate) fn create(
        &self,
        volume: &Volume,
        source: Option<&VolumeFolder>,
        promise: Reservation,
    ) -> Result<(), Error> {
        source.map_or(Ok(()), |source| self.expect_own_data(source))?;
        let made = self.make_volume(volume, &|folder| match source {
            Some(source) => {
                self.backend.populate(&Cut { source, into: folder }, volume, &self.meter(volume.capacity))
            }
            None => self.backend.create(folder, volume),
        });
        if made.is_err() && !self.may_exist(&volume.id) {
            return made;
        }
        promise.keep();
        match &volume.origin {
            Some(Origin::Volume(origin)) => {
                self.ledger.note_sharing(origin);
                self.ledger.note_sharing(&volume.id);
            }
            Some(Origin::Snapshot(_)) => self.ledger.note_sharing(&volume.id),
            None => {}
        }
        made
    }

    /// Whether the making of a volume, failed as it is, may have come to an end: the rename that
    /// makes it appear was done, and the sync after it was not. Unknown counts as there.
    fn may_exist(&self, id: &VolumeId) -> bool {
        !matches!(self.find(id), Ok(None))
    }

    /// Whether a volume is here or being made, from memory: a pool that does not answer holds
    /// up nobody who asks.
    pub(crate) fn has(&self, id: &VolumeId) -> bool {
        self.ledger.has(id)
    }

    /// Makes a volume whose room is promised; `fill` makes its data.
    fn make_volume(
        &self,
        volume: &Volume,
        fill: &dyn Fn(&VolumeFolder) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let new = format!("{NEW}{}", volume.id);
        self.discard_new_volume(&new)?;
        let made = self.fill(&new, volume, fill);
        if made.is_err()
            && let Err(error) = self.discard_new_volume(&new)
        {
            tracing::warn!(volume = %volume.id, %error, "a half-made volume stays until the next start");
        }
        made
    }

    fn fill(
        &self,
        new: &str,
        volume: &Volume,
        fill: &dyn Fn(&VolumeFolder) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let path = self.volumes_path();
        let folder = make_new(&self.volumes, &path, new)?;
        step::passed("folder of a new volume made");
        fill(&folder)?;
        folder.write_volume(volume)?;
        rfs::renameat(&self.volumes, new, &self.volumes, volume.id.as_str())
            .tried(|| format!("renaming to {}", path.join(volume.id.as_str()).display()))?;
        step::passed("new volume renamed into place");
        rfs::fsync(&self.volumes).tried(|| format!("syncing {}", path.display()))
    }

    fn discard_new_volume(&self, new: &str) -> Result<(), Error> {
        self.discard_new(&self.volumes, &self.volumes_path(), new)
    }

    fn discard_new(&self, parent: &OwnedFd, path: &Path, new: &str) -> Result<(), Error> {
        if let Some(folder) = VolumeFolder::open(parent, path, new)? {
            self.backend.destroy(&folder)?;
            remove_tree(parent, new)?;
        }
        Ok(())
    }

    /// A volume with the size that its data shows, where that is more than was written down: an expansion
    /// that failed half-way. What copies it must have all that can be written to it.
    pub(crate) fn read_grown(&self, folder: &VolumeFolder) -> Result<Volume, Error> {
        let volume = folder.read_volume()?;
        let capacity = volume.capacity.max(self.backend.measured_size(folder));
        Ok(Volume { capacity, ..volume })
    }

    /// Gives a volume, as it is written down in `volume`, the size that `grown` says, with the promise
    /// made before. The data grows before the metadata says so: a crash between leaves more room than
    /// promised, and the repeated call or the next start ends it.
    pub(crate) fn grow(&self, folder: &VolumeFolder, volume: &Volume, grown: &Volume) -> Result<(), Error> {
        self.expect_in_place()?;
        let promise = self.ledger.reserve(&grown.id, grown.capacity, &|sizes| self.measure(sizes))?;
        let done = self
            .backend
            .expand(folder, grown)
            .and_then(|()| if grown == volume { Ok(()) } else { folder.write_volume(grown) });
        // What may have grown before it failed can be written to, so it keeps the room, until the
        // repeated call or the next start.
        if !done.as_ref().is_err_and(Error::changed_nothing) {
            promise.keep();
        }
        done.map_err(|error| self.explained(folder, error))
    }

    fn measure(&self, sizes: &BTreeMap<VolumeId, Promise>) -> Result<Free, Error> {
        // In this order: what is written in between is then missing in both, not in neither.
        let unwritten = self.backend.unwritten(&self.volumes_path(), &self.volumes, sizes)?;
        let stat =
            rfs::fstatvfs(&self.volumes).tried(|| format!("asking {} for room", self.path.display()))?;
        Ok(Free { free: stat.f_bavail.saturating_mul(stat.f_frsize), unwritten })
    }
}

/// Makes an empty folder for what is not finished yet.
fn make_new(parent: &OwnedFd, path: &Path, new: &str) -> Result<VolumeFolder, Error> {
    rfs::mkdirat(parent, new, Mode::from_raw_mode(0o700))
        .tried(|| format!("making {}", path.join(new).display()))?;
    VolumeFolder::open(parent, path, new)?.ok_or_else(|| Error::Corrupt {
        path: path.join(new),
        reason: "it went away while it was made".to_owned(),
    })
}

/// The names in an opened folder.
fn names(folder: &OwnedFd, path: &Path) -> Result<Vec<String>, Error> {
    let list = || -> Result<Vec<String>, Errno> {
        let mut dir = Dir::read_from(folder)?;
        let mut names = Vec::new();
        while let Some(entry) = dir.read() {
            let entry = entry?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    };
    list().tried(|| format!("listing {}", path.display()))
}

/// Makes a folder if it is not there, and opens it.
fn make_and_open(parent: &OwnedFd, path: &Path, name: &str) -> Result<OwnedFd, Error> {
    match rfs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error).tried(|| format!("making {}", path.join(name).display())),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rfs::openat2(parent, name, flags, Mode::empty(), inside())
        .tried(|| format!("opening {}", path.join(name).display()))
}

/// The bytes that a file occupies; 0 when it is not there (yet).
pub(crate) fn allocated(folder: &OwnedFd, path: &str) -> Result<u64, Error> {
    match rfs::statat(folder, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)),
        Err(Errno::NOENT) => Ok(0),
        Err(error) => Err(error).tried(|| format!("looking at {path}")),
    }
}
