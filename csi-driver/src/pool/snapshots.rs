//! The snapshots of a pool: each appears whole, in one rename, or not at all, and those of
//! a group all or none.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self as rfs, OFlags},
    io::Errno,
};

use super::{NEW, Pool, VolumeFolder, folder, make_new, names};
use crate::{
    backend::Cut,
    clock::Moment,
    config::PoolConfig,
    error::{Error, Tried as _},
    snapshot::{Group, GroupId, Member, Snapshot, SnapshotId},
    step,
    volume::Volume,
    volume_id::VolumeId,
};

/// A snapshot that is to be cut.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) id: SnapshotId,
    pub(crate) name: String,
    pub(crate) source: &'a VolumeFolder,
    pub(crate) volume: Volume,
}

/// What a snapshot counts in the ledger; its source is unknown when it is damaged.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) bytes: u64,
    pub(super) source: Option<VolumeId>,
}

impl Pool {
    pub(super) fn snapshots_path(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    fn groups_path(&self) -> PathBuf {
        self.path.join("groups")
    }

    /// The folder of a snapshot; `None` when there is no such snapshot.
    pub(crate) fn find_snapshot(&self, id: &SnapshotId) -> Result<Option<VolumeFolder>, Error> {
        VolumeFolder::open(&self.snapshots, &self.snapshots_path(), id.as_str())
    }

    /// As [`Pool::has`], for a snapshot.
    pub(crate) fn has_snapshot(&self, id: &SnapshotId) -> bool {
        self.ledger.has_snapshot(id)
    }

    /// As [`Pool::has`], for a group.
    pub(crate) fn has_group(&self, id: &GroupId) -> bool {
        self.group_ids.lock().contains(id)
    }

    /// The folder of a snapshot that has to be there.
    pub(crate) fn snapshot_folder(&self, id: &SnapshotId) -> Result<VolumeFolder, Error> {
        self.find_snapshot(id)?.ok_or_else(|| Error::SnapshotNotFound(id.to_string()))
    }

    /// The ids of all snapshots, sorted.
    pub(crate) fn snapshot_ids(&self) -> Result<Vec<SnapshotId>, Error> {
        let mut ids: Vec<SnapshotId> = names(&self.snapshots, &self.snapshots_path())?
            .into_iter()
            .filter_map(|name| SnapshotId::try_from(name).ok())
            .filter(|id| id.pool() == self.name)
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Cuts one snapshot.
    pub(crate) fn cut(&self, wish: Wish<'_>) -> Result<Snapshot, Error> {
        let id = wish.id.clone();
        let mut cut = self.cut_all(&[wish], None)?;
        cut.pop().ok_or_else(|| Error::Lost(format!("snapshot {id} was cut and is not there")))
    }

    /// Cuts a group: the snapshots of all wishes, at one moment.
    pub(crate) fn cut_group(&self, id: &GroupId, name: &str, wishes: &[Wish<'_>]) -> Result<Group, Error> {
        let cut = self.cut_all(wishes, Some((id, name)))?;
        self.find_group(id)?
            .ok_or_else(|| Error::Lost(format!("group {id} of {} snapshots is not there", cut.len())))
    }

    fn cut_all(&self, wishes: &[Wish<'_>], group: Option<(&GroupId, &str)>) -> Result<Vec<Snapshot>, Error> {
        self.expect_in_place()?;
        let promised = wishes
            .iter()
            .map(|wish| {
                let bytes = self.backend.snapshot_bytes(wish.source);
                Ok((wish.id.clone(), bytes.map_err(|error| self.explained(wish.source, error))?))
            })
            .collect::<Result<BTreeMap<_, _>, Error>>()?;
        let room = self.ledger.reserve_snapshots(promised.clone(), &|sizes| self.measure(sizes))?;
        let made = self.make_new_snapshots(wishes, &promised, group.map(|(id, _)| id));
        let committed = made.and_then(|made| {
            let snapshots: Vec<Snapshot> = made.into_iter().map(|(_, snapshot)| snapshot).collect();
            if let Some((id, name)) = group {
                self.commit_group(id, name, &snapshots)?;
            }
            Ok(snapshots)
        });
        let snapshots = match committed {
            Ok(snapshots) => snapshots,
            // Written down, though not provably durable: the repeated call or the next start
            // finishes it. Unknown counts as written.
            Err(error) if group.is_some_and(|(id, _)| !matches!(self.find_group(id), Ok(None))) => {
                room.keep();
                return Err(error);
            }
            Err(error) => {
                if let Some((id, _)) = group {
                    self.group_ids.lock().remove(id);
                }
                self.discard_new_snapshots(wishes.iter().map(|wish| &wish.id));
                return Err(error);
            }
        };
        // The room is theirs from here on: a group that is written down is not undone.
        room.keep();
        for wish in wishes {
            self.ledger.note_sharing(&wish.volume.id);
        }
        let ids: Vec<&SnapshotId> = snapshots.iter().map(|snapshot| &snapshot.id).collect();
        let shown = self.show_new_snapshots(&ids);
        if shown.is_err() && group.is_none() {
            self.discard_new_snapshots(ids.iter().copied());
            for id in ids {
                if self.find_snapshot(id).is_ok_and(|found| found.is_none()) {
                    self.ledger.release_snapshot(id);
                }
            }
        }
        shown.map(|()| snapshots)
    }

    /// Cuts the wishes at one moment, into folders that are called `.new-…`.
    pub(super) fn make_new_snapshots(
        &self,
        wishes: &[Wish<'_>],
        promised: &BTreeMap<SnapshotId, u64>,
        group: Option<&GroupId>,
    ) -> Result<Vec<(VolumeFolder, Snapshot)>, Error> {
        for wish in wishes {
            self.expect_own_data(wish.source)?;
        }
        let path = self.snapshots_path();
        let mut folders = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let new = format!("{NEW}{}", wish.id);
            self.discard_new(&self.snapshots, &path, &new)?;
            folders.push(make_new(&self.snapshots, &path, &new)?);
            step::passed("folder of a new snapshot made");
        }
        let cuts: Vec<Cut<'_>> =
            wishes.iter().zip(&folders).map(|(wish, into)| Cut { source: wish.source, into }).collect();
        let created = self.backend.snapshot(&cuts)?;
        wishes
            .iter()
            .zip(folders)
            .map(|(wish, folder)| {
                let snapshot = Snapshot {
                    id: wish.id.clone(),
                    name: wish.name.clone(),
                    source: wish.volume.id.clone(),
                    created,
                    capacity: wish.volume.capacity,
                    content: wish.volume.content,
                    format: wish.volume.format,
                    promised: promised.get(&wish.id).copied().unwrap_or_default(),
                    group: group.cloned(),
                };
                folder.write_snapshot(&snapshot)?;
                Ok((folder, snapshot))
            })
            .collect()
    }

    /// Gives finished snapshots their names; those that have them already are left.
    pub(super) fn show_new_snapshots(&self, ids: &[&SnapshotId]) -> Result<(), Error> {
        let path = self.snapshots_path();
        for id in ids {
            match rfs::renameat(&self.snapshots, format!("{NEW}{id}"), &self.snapshots, id.as_str()) {
                Ok(()) => step::passed("new snapshot renamed into place"),
                Err(Errno::NOENT) if self.find_snapshot(id)?.is_some() => {}
                Err(error) => {
                    return Err(error).tried(|| format!("renaming to {}", path.join(id.as_str()).display()));
                }
            }
        }
        rfs::fsync(&self.snapshots).tried(|| format!("syncing {}", path.display()))
    }

    pub(super) fn discard_new_snapshots<'a>(&self, ids: impl Iterator<Item = &'a SnapshotId>) {
        for id in ids {
            let new = format!("{NEW}{id}");
            if let Err(error) = self.discard_new(&self.snapshots, &self.snapshots_path(), &new) {
                tracing::warn!(snapshot = %id, %error, "a half-made snapshot stays until the next start");
            }
        }
    }

    /// Moves a snapshot to the trash, as [`Pool::discard`] does with a volume.
    pub(crate) fn discard_snapshot(&self, id: &SnapshotId) -> Result<(), Error> {
        self.expect_in_place()?;
        self.discard_for_good(&self.snapshots, &self.snapshots_path(), id.as_str())?;
        self.ledger.release_snapshot(id);
        Ok(())
    }

    /// The record of a group; `None` when there is no such group.
    pub(crate) fn find_group(&self, id: &GroupId) -> Result<Option<Group>, Error> {
        folder::read_json(&self.groups, &self.groups_path(), &group_file(id))
    }

    /// Written down, the group exists: whatever happens now, its members come to their
    /// names.
    fn commit_group(&self, id: &GroupId, name: &str, snapshots: &[Snapshot]) -> Result<(), Error> {
        let members = snapshots
            .iter()
            .map(|snapshot| Member { snapshot: snapshot.id.clone(), source: snapshot.source.clone() })
            .collect();
        // A group has members, and they were cut at one moment.
        let created = snapshots.first().map_or_else(Moment::now, |snapshot| snapshot.created);
        let group = Group { id: id.clone(), name: name.to_owned(), created, members, deleting: false };
        // What a power cut may take of the members' folders must not be named.
        rfs::fsync(&self.snapshots).tried(|| format!("syncing {}", self.snapshots_path().display()))?;
        self.write_group(&group)
    }

    fn write_group(&self, group: &Group) -> Result<(), Error> {
        self.group_ids.lock().insert(group.id.clone());
        folder::write_json(&self.groups, &self.groups_path(), &group_file(&group.id), group, true)
    }

    /// Brings the members of a group that was written down to their names.
    pub(crate) fn finish_group(&self, group: &Group) -> Result<(), Error> {
        // The one that wrote it down may have failed to make that durable.
        rfs::fsync(&self.groups).tried(|| format!("syncing {}", self.groups_path().display()))?;
        self.show_new_snapshots(&group.members.iter().map(|member| &member.snapshot).collect::<Vec<_>>())
    }

    /// Deletes a group and its members; a crash half-way is finished at the next start.
    pub(crate) fn discard_group(&self, mut group: Group) -> Result<(), Error> {
        self.expect_in_place()?;
        if !group.deleting {
            group.deleting = true;
            self.write_group(&group)?;
        }
        let path = self.snapshots_path();
        for member in &group.members {
            self.discard_new(&self.snapshots, &path, &format!("{NEW}{}", member.snapshot))?;
            self.discard_snapshot(&member.snapshot)?;
        }
        match rfs::unlinkat(&self.groups, group_file(&group.id), rfs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error).tried(|| format!("removing the record of group {}", group.id)),
        }
        self.group_ids.lock().remove(&group.id);
        rfs::fsync(&self.groups).tried(|| format!("syncing {}", self.groups_path().display()))
    }

    /// At the start: finishes what a crash left of groups, and removes snapshots that were
    /// never cut.
    pub(super) fn finish_groups(&self) -> Result<(), Error> {
        let mut all_known = true;
        for name in names(&self.groups, &self.groups_path())? {
            let Some(id) = name.strip_suffix(GROUP_END).and_then(|id| GroupId::try_from(id.to_owned()).ok())
            else {
                continue;
            };
            self.group_ids.lock().insert(id.clone());
            let finished = self.find_group(&id).and_then(|group| match group {
                Some(group) if group.deleting => self.discard_group(group),
                Some(group) => self.finish_group(&group),
                None => Ok(()),
            });
            if let Err(error) = finished {
                all_known = false;
                tracing::error!(group = %id, %error, "this group of snapshots cannot be used");
            }
        }
        self.remove_half_made_snapshots(all_known, &self.snapshots_path())
    }

    fn remove_half_made_snapshots(&self, all_known: bool, path: &Path) -> Result<(), Error> {
        for name in names(&self.snapshots, path)?.iter().filter(|name| name.starts_with(NEW)) {
            if all_known {
                tracing::info!(pool = %self.name, entry = %name, "removing a snapshot that was never finished");
                if let Err(error) = self.discard_new(&self.snapshots, path, name) {
                    // It is nobody's, and keeps nobody from the others.
                    tracing::error!(pool = %self.name, entry = %name, %error, "it stays until the next start");
                }
            } else {
                tracing::error!(pool = %self.name, entry = %name,
                    "this may belong to a group that cannot be read, and stays");
            }
        }
        Ok(())
    }

    /// What each snapshot counts in the ledger.
    pub(super) fn snapshot_promises(&self) -> Result<BTreeMap<SnapshotId, Counted>, Error> {
        let mut promises = BTreeMap::new();
        for id in self.snapshot_ids()? {
            let Some(folder) = self.find_snapshot(&id)? else { continue };
            let counted = match folder.read_snapshot() {
                Ok(snapshot) => Counted { bytes: snapshot.promised, source: Some(snapshot.source) },
                Err(error) => {
                    tracing::error!(snapshot = %id, %error, "this snapshot cannot be used");
                    Counted { bytes: self.backend.snapshot_bytes(&folder).unwrap_or(0), source: None }
                }
            };
            promises.insert(id, counted);
        }
        Ok(promises)
    }
}

/// What can be read of the snapshots of a pool, whoever has it.
pub(crate) fn look(pool: &PoolConfig) -> Result<Vec<Snapshot>, Error> {
    let (path, root) = super::open_root(pool)?;
    let path = path.join("snapshots");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let snapshots = rfs::openat2(&root, "snapshots", flags, rfs::Mode::empty(), folder::inside())
        .tried(|| format!("opening {}", path.display()))?;
    let mut seen = Vec::new();
    for name in names(&snapshots, &path)?.iter().filter(|name| SnapshotId::try_from((*name).clone()).is_ok())
    {
        // Deleted since it was listed.
        let Some(folder) = VolumeFolder::open(&snapshots, &path, name)? else { continue };
        match folder.read_snapshot() {
            Ok(snapshot) => seen.push(snapshot),
            Err(error) => tracing::warn!(snapshot = %name, %error, "this snapshot cannot be used"),
        }
    }
    Ok(seen)
}

/// How the files of groups end.
const GROUP_END: &str = ".json";

fn group_file(id: &GroupId) -> String {
    format!("{id}{GROUP_END}")
}
