//! A pool's trash: deleted volumes, for as long as they can be restored.
//!
//! ```text
//! <pool>/trash/<id>.<seconds>-<random>/   deleted at that moment (seconds since 1970), whole
//! <pool>/trash/.gone-<name>/              being removed: no longer whole, never restored
//! <pool>/trash/<anything else>/           kept for nobody; removed
//! ```
//!
//! The moment is in the name, so that one rename deletes a volume, with nothing to
//! write before or after it.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{self as rfs, Mode, OFlags, RenameFlags},
    io::Errno,
};

use super::{Pool, VolumeFolder, folder, ledger::Promise, names, opening::open_root};
use crate::{
    clock::Moment,
    config::PoolConfig,
    error::{Error, Tried as _},
    kernel::removal::remove_tree,
    step,
    volume::Volume,
    volume_id::VolumeId,
};

/// What the folder of a volume being removed begins with; no id does.
const GONE: &str = ".gone-";

/// The name of a deleted volume's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) id: VolumeId,
    /// Seconds since 1970.
    pub(crate) deleted: u64,
}

impl Entry {
    fn new(id: &VolumeId, now: Moment) -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{id}.{}-{}", now.unix(), random.get(..8).unwrap_or(&random));
        Self { name, id: id.clone(), deleted: now.unix() }
    }

    /// `None` for what is there for nobody.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (id, rest) = name.rsplit_once('.')?;
        let (seconds, random) = rest.split_once('-')?;
        (random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit())).then_some(())?;
        let id = VolumeId::try_from(id.to_owned()).ok()?;
        Some(Self { name: name.to_owned(), id, deleted: seconds.parse().ok()? })
    }
}

/// The entries of an opened trash, oldest first.
pub(crate) fn entries(trash: &OwnedFd, path: &Path) -> Result<Vec<Entry>, Error> {
    let mut entries: Vec<Entry> = names(trash, path)?.iter().filter_map(|name| Entry::parse(name)).collect();
    entries.sort_by(|a, b| (a.deleted, &a.name).cmp(&(b.deleted, &b.name)));
    Ok(entries)
}

/// What is in the trash of a pool that someone else may have, with what can be read of it.
pub(crate) fn look(pool: &PoolConfig) -> Result<Vec<(Entry, Option<Volume>)>, Error> {
    let (path, root) = open_root(pool)?;
    let path = path.join("trash");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let trash = match rfs::openat2(&root, "trash", flags, Mode::empty(), folder::inside()) {
        Ok(trash) => trash,
        Err(Errno::NOENT) => {
            return Err(Error::NotFound(format!("{} does not exist: is this a pool?", path.display())));
        }
        Err(error) => return Err(error).tried(|| format!("opening {}", path.display())),
    };
    let mut seen = Vec::new();
    for entry in entries(&trash, &path)? {
        // Restored or freed since it was listed.
        let Some(folder) = VolumeFolder::open(&trash, &path, &entry.name)? else { continue };
        seen.push((entry, folder.read_volume().ok()));
    }
    Ok(seen)
}

impl Pool {
    pub(super) fn trash_path(&self) -> PathBuf {
        self.path.join("trash")
    }

    /// Moves a volume to the trash: from here on it does not exist, whatever happens.
    /// Its space comes free with [`Pool::empty_trash`].
    pub(crate) fn discard(&self, id: &VolumeId) -> Result<(), Error> {
        self.expect_in_place()?;
        let entry = Entry::new(id, Moment::now());
        let moved = self.move_to_trash(&self.volumes, &self.volumes_path(), id.as_str(), &entry.name)?;
        let kept = moved && !self.retention.is_zero();
        // Before the sync, which may fail: a repeated call does not find the volume.
        self.ledger.release(id, kept.then_some(entry.name.as_str()));
        self.sync_moved(&self.volumes, &self.volumes_path())
    }

    /// As [`Pool::discard`], for what cannot be restored.
    pub(super) fn discard_for_good(&self, parent: &OwnedFd, path: &Path, id: &str) -> Result<(), Error> {
        let name = format!("{id}.{}", uuid::Uuid::new_v4().simple());
        self.move_to_trash(parent, path, id, &name)?;
        self.sync_moved(parent, path)
    }

    /// Whether it was there to be moved. To be called with the guard of `id` held.
    pub(super) fn move_to_trash(
        &self,
        parent: &OwnedFd,
        path: &Path,
        id: &str,
        name: &str,
    ) -> Result<bool, Error> {
        let moved = match rfs::renameat(parent, id, &self.trash, name) {
            Ok(()) => true,
            // It also means that the trash is gone: only that nothing is found says that nothing is there.
            Err(Errno::NOENT) if VolumeFolder::open(parent, path, id)?.is_none() => false,
            Err(error) => {
                return Err(error).tried(|| format!("moving {} to the trash", path.join(id).display()));
            }
        };
        step::passed("volume renamed into the trash");
        if moved {
            self.deleted.notify_one();
        }
        Ok(moved)
    }

    /// The trash first: after a power cut what was moved is in one of the two.
    fn sync_moved(&self, parent: &OwnedFd, path: &Path) -> Result<(), Error> {
        self.sync_trash()?;
        rfs::fsync(parent).tried(|| format!("syncing {}", path.display()))
    }

    /// Makes durable what an earlier call found done and could not sync: before a repeated one is
    /// told so.
    pub(crate) fn settle_volumes(&self) -> Result<(), Error> {
        self.sync_moved(&self.volumes, &self.volumes_path())
    }

    /// The same for snapshots.
    pub(crate) fn settle_snapshots(&self) -> Result<(), Error> {
        self.sync_moved(&self.snapshots, &self.snapshots_path())
    }

    /// Counts what the trash held when the pool was opened.
    pub(super) fn count_trash(&self) -> Result<(), Error> {
        if self.retention.is_zero() {
            return Ok(());
        }
        for entry in entries(&self.trash, &self.trash_path())? {
            if let Some(folder) = self.trashed(&entry)? {
                let size = match folder.read_volume() {
                    Ok(volume) => volume.capacity.max(self.backend.measured_size(&folder)),
                    Err(_) => self.backend.measured_size(&folder),
                };
                self.ledger.hold(&entry.name, size);
            }
        }
        Ok(())
    }

    fn trashed(&self, entry: &Entry) -> Result<Option<VolumeFolder>, Error> {
        VolumeFolder::open(&self.trash, &self.trash_path(), &entry.name)
    }

    /// Waits until something came into the trash since it was waited for last.
    pub(crate) async fn something_deleted(&self) {
        self.deleted.notified().await;
    }

    /// Frees what has been in the trash for as long as the pool keeps it, or until `stop` says
    /// so. What cannot be freed stays there and is named.
    pub(crate) fn empty_trash(&self, stop: &dyn Fn() -> bool) {
        if let Err(error) = self.free_older_than(self.retention, None, stop) {
            tracing::warn!(pool = %self.name, %error, "cannot read the trash");
        }
    }

    /// Frees what was deleted so long ago, of one volume or of all. Answers the names of
    /// the freed entries; what cannot be freed stays there and is named in the log. `stop` is
    /// asked between two of them.
    pub(crate) fn free_older_than(
        &self,
        age: Duration,
        only: Option<&VolumeId>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<String>, Error> {
        let now = Moment::now().unix();
        let mut freed = Vec::new();
        for name in names(&self.trash, &self.trash_path())? {
            match Entry::parse(&name) {
                // A clock that was put back makes entries stay longer, never shorter.
                Some(entry) if now.saturating_sub(entry.deleted) < age.as_secs() => continue,
                Some(entry) if only.is_some_and(|only| *only != entry.id) => continue,
                None if only.is_some() => continue,
                _ => {}
            }
            if stop() {
                break;
            }
            match self.free(&name) {
                Ok(()) => freed.push(name),
                Err(error) => {
                    tracing::warn!(pool = %self.name, entry = %name, %error, "cannot free a deleted volume yet");
                }
            }
        }
        self.ledger.forget_measurement();
        Ok(freed)
    }

    /// Removes one entry. From the rename on it cannot be restored; a crash after it
    /// leaves a folder that the next emptying removes.
    fn free(&self, name: &str) -> Result<(), Error> {
        let gone = if name.starts_with(GONE) { name.to_owned() } else { format!("{GONE}{name}") };
        if gone != name {
            match rfs::renameat(&self.trash, name, &self.trash, &gone) {
                // Restored or freed by someone else meanwhile.
                Err(Errno::NOENT) => return Ok(()),
                moved => moved.tried(|| format!("giving up {name} in the trash"))?,
            }
            self.ledger.let_go(name);
            step::passed("entry of the trash given up");
        }
        if let Some(folder) = VolumeFolder::open(&self.trash, &self.trash_path(), &gone)? {
            self.backend.destroy(&folder)?;
            step::passed("deleted volume's data destroyed");
        }
        remove_tree(&self.trash, &gone)
    }

    /// The entry that `what` names: by its own name, or by a volume's id if that was
    /// deleted once only.
    pub(crate) fn find_entry(&self, what: &str) -> Result<Entry, Error> {
        let found: Vec<Entry> = entries(&self.trash, &self.trash_path())?
            .into_iter()
            .filter(|entry| entry.name == what || entry.id.as_str() == what)
            .collect();
        match found.as_slice() {
            [entry] => Ok(entry.clone()),
            [] => Err(Error::NotFound(format!("there is no {what:?} in the trash of pool {:?}", self.name))),
            several => Err(Error::Invalid(format!(
                "{what} was deleted {} times; name one of {}",
                several.len(),
                several.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// Brings a deleted volume back under its old id, in one rename. To be called with
    /// the volume's guard held.
    pub(crate) fn restore(&self, entry: &Entry) -> Result<Volume, Error> {
        let taken = || {
            Error::Exists(format!(
                "volume {} exists again; delete that one first, or copy what you need out of {}",
                entry.id,
                self.trash_path().join(&entry.name).display()
            ))
        };
        self.expect_in_place()?;
        if self.find(&entry.id)?.is_some() {
            return Err(taken());
        }
        let gone = || Error::NotFound(format!("{} is no longer in the trash", entry.name));
        let folder = self.trashed(entry)?.ok_or_else(gone)?;
        let volume = folder.read_volume()?;
        let shares = volume.origin.is_some()
            || self.snapshot_promises()?.values().any(|snapshot| snapshot.source.as_ref() == Some(&entry.id));
        // What it shares it has to be able to change.
        let occupied = if shares { 0 } else { self.backend.occupied(&folder, &volume)? };
        // As it was counted in the trash.
        let bytes = volume.capacity.max(self.backend.measured_size(&folder));
        let promise = Promise { bytes, shares };
        let promise = self
            .ledger
            .reserve_back(&entry.id, &entry.name, promise, occupied, &|sizes| self.measure(sizes))?;
        let id = entry.id.as_str();
        let moved = rfs::renameat_with(&self.trash, &entry.name, &self.volumes, id, RenameFlags::NOREPLACE);
        if let Err(error) = moved {
            let is_gone = self.hold_again(entry, bytes);
            return match error {
                Errno::EXIST => Err(taken()),
                Errno::NOENT if is_gone => Err(gone()),
                error => Err(error).tried(|| format!("moving {} out of the trash", entry.name)),
            };
        }
        step::passed("volume renamed out of the trash");
        promise.keep();
        self.ledger.forget_measurement();
        // As in a deletion: after a power cut the volume is in one of the two.
        rfs::fsync(&self.volumes).tried(|| format!("syncing {}", self.volumes_path().display()))?;
        self.sync_trash()?;
        Ok(volume)
    }

    /// Counts an entry that did not come back, unless it is gone; whether it is.
    pub(super) fn hold_again(&self, entry: &Entry, bytes: u64) -> bool {
        // Held first: whoever frees it meanwhile lets go after the rename that is seen here.
        self.ledger.hold(&entry.name, bytes);
        let is_gone = matches!(self.trashed(entry), Ok(None));
        if is_gone {
            self.ledger.let_go(&entry.name);
        }
        is_gone
    }

    fn sync_trash(&self) -> Result<(), Error> {
        rfs::fsync(&self.trash).tried(|| format!("syncing the trash of pool {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_nothing_else_does() {
        for name in ["a", "a.b.c", "Ö", "1.2-3"] {
            let entry = Entry::new(&VolumeId::derive("p", name), Moment::now());
            assert_eq!(Entry::parse(&entry.name), Some(entry));
        }
        for foreign in [
            "p.a",
            "p.a.0123456789abcdef0123456789abcdef",
            ".gone-p.a.1700000000-01234567",
            "p.a.1700000000-01234567.1",
            "p.a.x-01234567",
            "p.a.1700000000-0123456",
        ] {
            assert_eq!(Entry::parse(foreign), None, "{foreign}");
        }
    }
}
