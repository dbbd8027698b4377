//! What makes volumes. One folder a backend, behind one trait; all calls may block
//! and are made with the volume's guard held.

mod btrfs;
mod directory;
mod folders;
mod image;
pub(crate) mod tmpfs;

use std::{
    collections::BTreeMap,
    fmt,
    io::{PipeReader, PipeWriter},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use uuid::Uuid;

use crate::{
    capability::Access,
    clock::Moment,
    command::Runner,
    config::{BackendKind, PoolConfig, ProjectIds},
    error::Error,
    kernel::{
        io_max::IoGroup,
        place::{Place, Seen},
    },
    metrics::Metrics,
    mutable::Mutable,
    pool::{Appraisal, Import, Meter, Original, VolumeFolder, Watcher, ledger::Promise},
    size::Bounds,
    volume::{Content, Format, Identity, Volume},
    volume_id::VolumeId,
};

/// Makes, grows, mounts and removes the data of volumes.
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// Makes good outside of the pool what a former driver left; once, before the first call.
    fn begin(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Its name, as in the configuration.
    fn kind(&self) -> BackendKind;

    /// What a volume for this use would hold, or why it cannot be.
    fn content(&self, access: &Access) -> Result<Content, Error>;

    /// The sizes that are possible.
    fn bounds(&self, content: Content) -> Bounds;

    /// Whether volumes can have an enforced size here; the error says why not and
    /// what to do.
    fn can_enforce(&self) -> Result<(), Error>;

    /// What is missing on this machine for some of the volumes; one line each.
    fn lacks(&self) -> Vec<String>;

    /// Checks everything about a new volume that can be checked before it is made.
    fn check(&self, volume: &Volume) -> Result<(), Error>;

    /// Makes the data in a new folder, durably.
    fn create(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error>;

    /// Removes the data, or as much of it as a plain removal of files cannot do.
    fn destroy(&self, folder: &VolumeFolder) -> Result<(), Error>;

    /// Makes the data as large as `volume.capacity`, durably; nothing if it is.
    fn expand(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error>;

    /// Whether the node has work to do after [`Backend::expand`].
    fn needs_node_expansion(&self) -> bool;

    /// Whether volumes can have these parameters here; the error says why not and what to do.
    fn check_mutable(&self, mutable: &Mutable) -> Result<(), Error>;

    /// Gives the data, used or not, what `volume.mutable` says, durably where it is kept with
    /// the data. Nothing changes where it fails, where it is so already, or for what
    /// `volume.mutable` says nothing about.
    fn modify(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error>;

    /// How many of the promised bytes the volumes do not occupy yet.
    fn unwritten(
        &self,
        path: &Path,
        volumes: &OwnedFd,
        sizes: &BTreeMap<VolumeId, Promise>,
    ) -> Result<u64, Error>;

    /// The size that the data itself shows; 0 where it shows none.
    fn measured_size(&self, folder: &VolumeFolder) -> u64;

    /// Where the size is a quota: sets it to what `volume` says, at the start of the driver. An
    /// expansion that a crash ended before its answer may have raised it.
    fn hold_to_size(&self, _folder: &VolumeFolder, _volume: &Volume) -> Result<(), Error> {
        Ok(())
    }

    /// How many bytes of its size the volume occupies; too few where that is not known.
    fn occupied(&self, folder: &VolumeFolder, volume: &Volume) -> Result<u64, Error>;

    /// What is wrong with the data as the pool shows it, used or not; one line each.
    fn ailments(&self, _folder: &VolumeFolder, _volume: &Volume) -> Vec<String> {
        Vec::new()
    }

    /// What the data of a volume is called in its folder.
    fn data_name(&self) -> &'static str {
        ""
    }

    /// What a volume made of something that is there already would be; refuses what cannot
    /// be one. Changes nothing.
    fn appraise(&self, _original: &Original, _import: &Import) -> Result<Appraisal, Error> {
        Err(self.cannot("volumes from files and folders"))
    }

    /// Makes data that was moved into the folder that of a volume, durably. Can be repeated.
    fn adopt(&self, _folder: &VolumeFolder, _volume: &Volume) -> Result<(), Error> {
        Err(self.cannot("volumes from files and folders"))
    }

    /// Makes the data in a new folder as a copy of something, in place of [`Backend::create`],
    /// durably.
    fn copy_in(
        &self,
        _original: &Original,
        _folder: &VolumeFolder,
        _volume: &Volume,
        _watcher: Watcher<'_>,
    ) -> Result<(), Error> {
        Err(self.cannot("volumes from files and folders"))
    }

    /// Whether the kernel still uses something in the volume's folder, under whatever name: then
    /// it must not be deleted.
    fn is_in_use(&self, folder: &VolumeFolder) -> Result<bool, Error>;

    /// What uses something in the volume's folder that is not its data, or not any more.
    fn user_of_other_data(&self, folder: &VolumeFolder) -> Result<Option<PathBuf>, Error>;

    /// On what a file system or a device node that is mounted somewhere stands.
    fn stands(&self, folder: &VolumeFolder, seen: &Seen) -> Result<Stands, Error>;

    /// Whether what is mounted at a staging path is this volume.
    fn is_staged_at(&self, folder: &VolumeFolder, seen: &Seen) -> Result<bool, Error> {
        Ok(matches!(self.stands(folder, seen)?, Stands::OnData | Stands::OnOther))
    }

    /// Whether what is mounted stands on the volume's data, for looking at many volumes.
    fn shows_data(&self, folder: &VolumeFolder, seen: &Seen) -> Result<bool, Error> {
        Ok(self.stands(folder, seen)? == Stands::OnData)
    }

    /// Brings the volume to the node: for a file system, mounts it at `staging`, an
    /// empty folder. Idempotent up to the mount, which the caller checks.
    fn stage(&self, stage: &Stage<'_>) -> Result<(), Error>;

    /// Takes away what must not outlive the use of the volume, before the unmount.
    fn leave(&self, _folder: &VolumeFolder) -> Result<(), Error> {
        Ok(())
    }

    /// Takes away what [`Backend::stage`] brought, after the unmount.
    fn unstage(&self, folder: &VolumeFolder) -> Result<(), Error>;

    /// The device node of a staged raw block volume.
    fn device(&self, folder: &VolumeFolder) -> Result<PathBuf, Error>;

    /// Makes the node see the new size; `mounted` is where the file system is.
    /// Answers the size in bytes.
    fn node_expand(
        &self,
        folder: &VolumeFolder,
        volume: &Volume,
        mounted: Option<&Place>,
    ) -> Result<u64, Error>;

    /// What this pool can do with snapshots and clones.
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    /// The most bytes that a snapshot taken of the volume now may come to occupy alone.
    fn snapshot_bytes(&self, _source: &VolumeFolder) -> Result<u64, Error> {
        Err(self.cannot("snapshots"))
    }

    /// Fills new folders with what their sources hold, all of them at one moment, which
    /// it answers. Durable when it returns; never through a mount. What a crash leaves is
    /// in the new folders, which are then removed, and in the sources' journals, of which
    /// [`Backend::thaw`] makes good.
    fn snapshot(&self, _cuts: &[Cut<'_>]) -> Result<Moment, Error> {
        Err(self.cannot("snapshots"))
    }

    /// Makes the data of a new volume from that of a volume or a snapshot, in place of
    /// [`Backend::create`], durably. `volume.capacity` is not less than the source's; what takes more room
    /// meanwhile asks the meter.
    fn populate(&self, _cut: &Cut<'_>, _volume: &Volume, _meter: Meter<'_>) -> Result<(), Error> {
        Err(self.cannot("volumes from snapshots and volumes"))
    }

    /// Whether [`Backend::populate`] can copy the data of this volume only while it stands
    /// still: then it is given a snapshot of it.
    fn copies_what_stands_still(&self, _source: &VolumeFolder) -> Result<bool, Error> {
        Ok(false)
    }

    /// By what streams know the data of a snapshot: the same wherever the snapshot was received.
    fn lineage(&self, _snapshot: &VolumeFolder) -> Result<Uuid, Error> {
        Err(self.cannot("streams of snapshots"))
    }

    /// Gives `take` the data of a snapshot as a stream, or what of it differs from the snapshot
    /// `since`, of the same pool. Both stay until this returns.
    fn send(
        &self,
        _snapshot: &VolumeFolder,
        _since: Option<&VolumeFolder>,
        _take: Take<'_>,
    ) -> Result<(), Error> {
        Err(self.cannot("streams of snapshots"))
    }

    /// Makes the data of a new snapshot, of this lineage, from the stream that `give` writes,
    /// durably; answers how many bytes it occupies, where somebody counts. What a stream is built
    /// on has to be in the pool.
    fn receive(&self, _into: &VolumeFolder, _lineage: Uuid, _give: Give<'_>) -> Result<Option<u64>, Error> {
        Err(self.cannot("streams of snapshots"))
    }

    /// Whose UUID the file system of a volume has that [`Backend::populate`] made.
    fn copied_identity(&self, _content: Content, _format: Format) -> Identity {
        Identity::Own
    }

    /// The opened file that holds the blocks of a volume or snapshot, and nothing else.
    fn blocks(&self, _folder: &VolumeFolder) -> Result<OwnedFd, Error> {
        Err(Error::Invalid(format!(
            "a volume of a pool with backend = {:?} is a tree of files and has no blocks of its own; use a pool with \
             backend = \"image\"",
            self.kind().as_str()
        )))
    }

    /// Ends a freeze that a crash left; called for volumes whose journal says `frozen`.
    fn thaw(&self, _folder: &VolumeFolder) -> Result<(), Error> {
        Ok(())
    }

    /// The error of what this kind of pool does not do.
    fn cannot(&self, what: &str) -> Error {
        Error::Unsupported(format!("pools with backend = {:?} do not make {what}", self.kind().as_str()))
    }

    /// What is used of the volume, where its file system does not know it by itself.
    fn quota_usage(&self, folder: &VolumeFolder, volume: &Volume) -> Result<Option<u64>, Error>;
}

/// Reads a stream to its end.
pub(crate) type Take<'a> = Box<dyn FnOnce(PipeReader) -> Result<(), Error> + Send + 'a>;
/// Writes a stream; `false` when its reader went away before the end.
pub(crate) type Give<'a> = Box<dyn FnOnce(PipeWriter) -> Result<bool, Error> + Send + 'a>;

/// On what a mount stands, seen from a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stands {
    /// On the volume's data.
    OnData,
    /// On something else in the volume's folder: what was its data before somebody deleted, moved
    /// or replaced it.
    OnOther,
    /// On something of the pool's file system that lies in no volume's folder: where the driver
    /// recorded that it mounted the volume, data that somebody moved away.
    Astray,
    /// On nothing of the volume's.
    Elsewhere,
}

/// What a pool can do; a capability is declared when one pool at least has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// [`Backend::snapshot`].
    pub(crate) snapshots: bool,
    /// [`Backend::populate`], from volumes as from snapshots.
    pub(crate) clones: bool,
    /// [`Backend::snapshot`] of several volumes at one moment.
    pub(crate) groups: bool,
    /// The blocks of snapshots can be listed.
    pub(crate) block_metadata: bool,
    /// [`Backend::modify`], one of the parameters at least.
    pub(crate) modify: bool,
}

impl Abilities {
    /// What either can do.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            snapshots: self.snapshots || other.snapshots,
            clones: self.clones || other.clones,
            groups: self.groups || other.groups,
            block_metadata: self.block_metadata || other.block_metadata,
            modify: self.modify || other.modify,
        }
    }
}

/// One copy to be made: what the data of `source` is, under the same name in `into`.
#[derive(Debug)]
pub(crate) struct Cut<'a> {
    /// A volume, used or not, or a snapshot.
    pub(crate) source: &'a VolumeFolder,
    /// Empty.
    pub(crate) into: &'a VolumeFolder,
}

/// What [`Backend::stage`] works on.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) folder: &'a VolumeFolder,
    pub(crate) volume: Volume,
    pub(crate) staging: &'a Place,
    /// Mount flags as they were asked for.
    pub(crate) flags: &'a [String],
    /// Whether nobody will write: a raw device is then attached read-only.
    pub(crate) read_only: bool,
}

/// Where a backend works.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// The pool's name.
    pub(crate) pool: String,
    pub(crate) kind: BackendKind,
    pub(crate) path: PathBuf,
    /// The opened folder at `path`.
    pub(crate) root: OwnedFd,
    /// The name of the pool's file system, for messages.
    pub(crate) fs_name: String,
    /// What is mounted there, as the kernel names it: a device's path for most.
    pub(crate) device: PathBuf,
    pub(crate) project_ids: ProjectIds,
    /// Where the users of the pool's volumes run, if that was said.
    pub(crate) io_group: Option<IoGroup>,
    pub(crate) runner: Runner,
    pub(crate) metrics: Metrics,
}

impl Surroundings {
    /// Looks at the pool's file system.
    pub(crate) fn of(
        config: &PoolConfig,
        path: &Path,
        root: &OwnedFd,
        runner: Runner,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        use crate::error::Tried as _;
        use rustix::fs::{AtFlags, StatxFlags, statx};
        let stat = statx(root, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .tried(|| format!("looking at {}", path.display()))?;
        let (fs_name, device) = crate::kernel::mountinfo::by_id(stat.stx_mnt_id)?
            .map_or_else(|| ("unknown".to_owned(), PathBuf::new()), |mount| (mount.fs_type, mount.source));
        let root = root.try_clone().tried(|| format!("keeping {} open", path.display()))?;
        Ok(Self {
            pool: config.name.clone(),
            kind: config.backend,
            path: path.to_owned(),
            root,
            fs_name,
            device,
            project_ids: config.project_ids,
            io_group: config.io_cgroup.as_deref().map(IoGroup::new),
            runner,
            metrics,
        })
    }
}

/// The backend for a pool.
pub(crate) fn make(surroundings: Surroundings) -> Result<Arc<dyn Backend>, Error> {
    Ok(match surroundings.kind {
        BackendKind::Image => Arc::new(image::Image::new(surroundings)),
        BackendKind::Directory => Arc::new(directory::new(surroundings)?),
        BackendKind::Btrfs => Arc::new(btrfs::new(surroundings)?),
        // The driver keeps them apart: there is no folder to look at.
        BackendKind::Tmpfs => {
            return Err(Error::Invalid("a tmpfs pool has no folder and nothing that is kept".to_owned()));
        }
    })
}
