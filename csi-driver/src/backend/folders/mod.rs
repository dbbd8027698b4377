//! Volumes as folders of the pool's own file system: on btrfs a subvolume with a limit,
//! on ext4 and xfs a project with a quota. Where neither is possible, a class has to say
//! `enforceSize: "false"`. The backends `directory` and `btrfs` are both of these; they
//! differ in what the file system has to be able to do.

mod census;
mod import;
pub(super) mod sizes;

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{self as rfs, AtFlags, OFlags, StatxFlags, statx};
use uuid::Uuid;

use super::{Abilities, Backend, Cut, Give, Stage, Stands, Take, btrfs::Copies};
use crate::{
    capability::Access,
    clock::Moment,
    command::Runner,
    config::BackendKind,
    error::{Error, Tried as _},
    kernel::{
        compression, flags, mount, mountinfo,
        place::{Place, Seen},
    },
    mutable::Mutable,
    pool::{Appraisal, Import, Meter, Original, VolumeFolder, Watcher, ledger::Promise},
    size::{Bounds, GIB, MIB},
    volume::{Content, Volume},
    volume_id::VolumeId,
};
use sizes::{DATA, Sizes};

/// A backend whose volumes are folders.
#[derive(Debug)]
pub(crate) struct Folders {
    pub(super) kind: BackendKind,
    pub(super) fs_name: String,
    pub(super) runner: Runner,
    pub(super) sizes: Sizes,
    /// What makes snapshots and clones, where the backend has them.
    pub(super) copies: Option<Copies>,
}

impl Folders {
    fn copies(&self, what: &str) -> Result<&Copies, Error> {
        self.copies.as_ref().ok_or_else(|| self.cannot(what))
    }

    /// Whether new files can be compressed.
    fn compresses(&self) -> bool {
        self.fs_name == "btrfs"
    }

    fn no_device(&self, folder: &VolumeFolder) -> Error {
        Error::Invalid(format!(
            "{} lies in a {} pool and is no block device; use a pool with backend = \"image\"",
            folder.path().display(),
            self.kind.as_str()
        ))
    }
}

impl Backend for Folders {
    fn kind(&self) -> BackendKind {
        self.kind
    }

    fn content(&self, access: &Access) -> Result<Content, Error> {
        match access {
            Access::Block => Err(Error::Invalid(format!(
                "a {} pool cannot make raw block volumes; use a pool with backend = \"image\"",
                self.kind.as_str()
            ))),
            Access::Mount { fs_type, .. } if fs_type.is_empty() || *fs_type == self.fs_name => {
                Ok(Content::Folder)
            }
            Access::Mount { fs_type, .. } => Err(Error::Invalid(format!(
                "fs_type {fs_type:?} is not possible in a {} pool on {}; leave it out, or use a pool with \
                 backend = \"image\"",
                self.kind.as_str(),
                self.fs_name
            ))),
        }
    }

    fn bounds(&self, _content: Content) -> Bounds {
        Bounds { min: MIB, max: (1 << 63) - MIB, default: GIB }
    }

    fn can_enforce(&self) -> Result<(), Error> {
        self.sizes.can_enforce()
    }

    fn lacks(&self) -> Vec<String> {
        let mut lacks = self.sizes.lacks();
        lacks.extend(self.copies.iter().flat_map(|copies| copies.lacks(&self.runner)));
        lacks
    }

    fn check(&self, _volume: &Volume) -> Result<(), Error> {
        Ok(())
    }

    fn create(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        self.sizes.make(folder, volume.enforced.then_some(volume.capacity))?;
        self.modify(folder, volume)
    }

    fn destroy(&self, folder: &VolumeFolder) -> Result<(), Error> {
        self.sizes.destroy(folder)
    }

    fn expand(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        if volume.enforced {
            self.sizes.limit(folder, volume.capacity)?;
            self.sizes.commit(folder)?;
        }
        Ok(())
    }

    fn needs_node_expansion(&self) -> bool {
        false
    }

    fn check_mutable(&self, mutable: &Mutable) -> Result<(), Error> {
        if !mutable.limits.is_none() {
            return Err(Error::Invalid(
                "its volumes are folders of one file system, and iops and bandwidth are limited by device; use a pool \
                 with backend = \"image\" and an io_cgroup"
                    .to_owned(),
            ));
        }
        if mutable.compression.is_some() && !self.compresses() {
            return Err(Error::Invalid(format!(
                "it lies on {}, which compresses nothing; use a pool on btrfs with backend = \"directory\" or \
                 \"btrfs\"",
                self.fs_name
            )));
        }
        Ok(())
    }

    fn modify(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        match volume.mutable.compression {
            Some(wanted) if compression::set(&sizes::data(folder)?, wanted)? => self.sizes.commit(folder),
            _ => Ok(()),
        }
    }

    fn unwritten(
        &self,
        _path: &Path,
        volumes: &OwnedFd,
        sizes: &BTreeMap<VolumeId, Promise>,
    ) -> Result<u64, Error> {
        sizes.iter().try_fold(0_u64, |sum, (id, promise)| {
            let data = format!("{id}/{DATA}");
            Ok(sum.saturating_add(self.sizes.unwritten(volumes, &data, *promise)?))
        })
    }

    fn measured_size(&self, _folder: &VolumeFolder) -> u64 {
        0
    }

    fn hold_to_size(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        if volume.enforced { self.sizes.limit_if_counted(folder, volume.capacity) } else { Ok(()) }
    }

    fn occupied(&self, folder: &VolumeFolder, volume: &Volume) -> Result<u64, Error> {
        Ok(self.quota_usage(folder, volume)?.unwrap_or(0))
    }

    fn ailments(&self, folder: &VolumeFolder, _volume: &Volume) -> Vec<String> {
        match folder.try_open_child(DATA, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(Some(_)) => Vec::new(),
            Ok(None) => vec![format!("its data is missing: there is no {}", folder.child(DATA).display())],
            Err(error) => vec![error.to_string()],
        }
    }

    fn data_name(&self) -> &'static str {
        DATA
    }

    fn appraise(&self, original: &Original, import: &Import) -> Result<Appraisal, Error> {
        self.appraise_folder(original, import)
    }

    fn adopt(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        self.adopt_folder(folder, volume)
    }

    fn copy_in(
        &self,
        original: &Original,
        folder: &VolumeFolder,
        volume: &Volume,
        watcher: Watcher<'_>,
    ) -> Result<(), Error> {
        self.copy_folder(original, folder, volume, watcher)
    }

    fn is_in_use(&self, folder: &VolumeFolder) -> Result<bool, Error> {
        let (root, device) = place_of(folder)?;
        Ok(mountinfo::all()?.iter().any(|mount| mount.device == device && mount.root.starts_with(&root)))
    }

    fn user_of_other_data(&self, folder: &VolumeFolder) -> Result<Option<PathBuf>, Error> {
        let (root, device) = place_of(folder)?;
        let mut mounts = mountinfo::all()?.into_iter();
        Ok(mounts
            .find(|mount| {
                mount.device == device
                    && (is_deleted_data(&mount.root, &root)
                        || mount.root.starts_with(&root) && !mount.root.starts_with(root.join(DATA)))
            })
            .map(|mount| mount.mount_point))
    }

    fn stands(&self, folder: &VolumeFolder, seen: &Seen) -> Result<Stands, Error> {
        if let Some(data) = folder.try_open_child(DATA, OFlags::PATH)? {
            let stat = rfs::fstat(&data).tried(|| format!("looking at {}", folder.child(DATA).display()))?;
            if (stat.st_dev, stat.st_ino) == (seen.dev, seen.ino) {
                return Ok(Stands::OnData);
            }
        }
        // Somebody deleted the data, or moved it away, and may have put other in its place: the kernel
        // says where it is, or was.
        let (root, device) = place_of(folder)?;
        let Some(mount) = mountinfo::by_id(seen.mount_id)?.filter(|mount| mount.device == device) else {
            return Ok(Stands::Elsewhere);
        };
        Ok(match root.parent() {
            _ if is_deleted_data(&mount.root, &root) => Stands::OnOther,
            // A part of the data is not the volume.
            _ if mount.root.starts_with(root.join(DATA)) => Stands::Elsewhere,
            _ if mount.root.starts_with(&root) => Stands::OnOther,
            Some(volumes) if mount.root.starts_with(volumes) => Stands::Elsewhere,
            _ => Stands::Astray,
        })
    }

    fn stage(&self, stage: &Stage<'_>) -> Result<(), Error> {
        let options = flags::check(stage.volume.content, stage.flags)?;
        if stage.volume.enforced {
            // Again, for quotas may have been switched off and on since.
            self.sizes.limit(stage.folder, stage.volume.capacity)?;
        }
        // Its owner can change it from within. A full volume takes no property, and its data
        // is not to be withheld for that.
        if let Err(error) = self.modify(stage.folder, &stage.volume) {
            tracing::warn!(volume = %stage.volume.id, %error, "new files of this volume may be compressed otherwise");
        }
        let data = stage.folder.open_child(DATA, OFlags::PATH | OFlags::DIRECTORY)?;
        mount::bind(&data, options.attributes, stage.staging)
    }

    fn unstage(&self, _folder: &VolumeFolder) -> Result<(), Error> {
        Ok(())
    }

    fn device(&self, folder: &VolumeFolder) -> Result<PathBuf, Error> {
        Err(self.no_device(folder))
    }

    fn node_expand(
        &self,
        _folder: &VolumeFolder,
        volume: &Volume,
        _mounted: Option<&Place>,
    ) -> Result<u64, Error> {
        Ok(volume.capacity)
    }

    fn quota_usage(&self, folder: &VolumeFolder, volume: &Volume) -> Result<Option<u64>, Error> {
        if volume.enforced { self.sizes.used(&sizes::data(folder)?) } else { Ok(None) }
    }

    fn abilities(&self) -> Abilities {
        let copies = self.copies.as_ref().map_or_else(Abilities::default, Copies::abilities);
        Abilities { modify: self.compresses(), ..copies }
    }

    fn snapshot_bytes(&self, source: &VolumeFolder) -> Result<u64, Error> {
        self.copies("snapshots")?;
        match self.sizes.used(&sizes::data(source)?)? {
            Some(used) => Ok(used),
            // Nobody counts: it may have as much as it was promised.
            None => Ok(source.read_volume()?.capacity),
        }
    }

    fn snapshot(&self, cuts: &[Cut<'_>]) -> Result<Moment, Error> {
        self.copies("snapshots")?.snapshot(cuts)
    }

    fn populate(&self, cut: &Cut<'_>, volume: &Volume, meter: Meter<'_>) -> Result<(), Error> {
        let copies = self.copies("volumes from snapshots and volumes")?;
        if copies.share_with(cut.source)? {
            copies.copy(cut)?;
        } else {
            copies.receive(&self.runner, cut, volume, meter)?;
        }
        self.expand(cut.into, volume)?;
        self.modify(cut.into, volume)?;
        cut.into.sync()
    }

    fn lineage(&self, snapshot: &VolumeFolder) -> Result<Uuid, Error> {
        self.copies("streams of snapshots")?.lineage(snapshot)
    }

    fn send(
        &self,
        snapshot: &VolumeFolder,
        since: Option<&VolumeFolder>,
        take: Take<'_>,
    ) -> Result<(), Error> {
        self.copies("streams of snapshots")?.send(&self.runner, snapshot, since, take)
    }

    fn receive(&self, into: &VolumeFolder, lineage: Uuid, give: Give<'_>) -> Result<Option<u64>, Error> {
        self.copies("streams of snapshots")?.receive_snapshot(&self.runner, into, lineage, give)
    }

    fn copies_what_stands_still(&self, source: &VolumeFolder) -> Result<bool, Error> {
        Ok(!self.copies("volumes from volumes")?.share_with(source)?)
    }
}

/// Whether `mounted` is how the kernel shows data that was in the folder at `root` and was deleted.
fn is_deleted_data(mounted: &Path, root: &Path) -> bool {
    let mut deleted = root.join(DATA);
    deleted.as_mut_os_string().push("//deleted");
    // As paths they would be the same as that of a folder of this name.
    mounted.as_os_str() == deleted.as_os_str()
}

/// Where the volume's folder is within its file system, as mounts of it show it, and on which
/// device.
fn place_of(folder: &VolumeFolder) -> Result<(PathBuf, String), Error> {
    let path = folder.path();
    let fd = sizes::open(folder)?;
    let stat = statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .tried(|| format!("looking at {}", path.display()))?;
    let place = mountinfo::by_id(stat.stx_mnt_id)?.and_then(|pool| {
        let inside = path.strip_prefix(&pool.mount_point).ok()?;
        Some((pool.root.join(inside), pool.device))
    });
    place.ok_or_else(|| Error::Corrupt {
        path: path.to_owned(),
        reason: "its file system is not in this process's mount table".to_owned(),
    })
}
