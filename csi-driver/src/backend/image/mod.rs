//! Volumes as image files: a sparse file on a loop device, with a file system of
//! its own or as a raw block device. The file's length is the size, so it cannot
//! be exceeded.

mod cut;
mod device;
mod format;
mod full;
mod grow;
mod identity;
mod import;
mod room;
mod superblock;

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{self as rfs, OFlags};

use super::{Abilities, Backend, Cut, Stage, Stands, Surroundings};
use crate::{
    capability::Access,
    clock::Moment,
    command::{Runner, Tool},
    config::BackendKind,
    error::{Error, Tried as _},
    kernel::{
        flags,
        io_max::IoGroup,
        loopdev::{self, Detach, Sector},
        mount,
        place::{Place, Seen},
        reflink,
    },
    metrics::Metrics,
    mutable::Mutable,
    pool::{Appraisal, Import, Meter, Original, VolumeFolder, Watcher, ledger::Promise},
    size::{Bounds, GIB, MIB},
    volume::{Content, Format, FsType, Identity, Volume},
    volume_id::VolumeId,
};

/// The data of a volume.
const IMAGE: &str = "disk.img";

/// The `image` backend.
#[derive(Debug)]
pub(crate) struct Image {
    pool: String,
    runner: Runner,
    metrics: Metrics,
    /// Whether images of this pool can share their blocks.
    reflink: bool,
    /// Where the users of the volumes run, if that was said.
    io_group: Option<IoGroup>,
}

impl Image {
    pub(crate) fn new(surroundings: Surroundings) -> Self {
        let reflink = reflink::is_possible(&surroundings.root).unwrap_or_else(|error| {
            // A full disk, for one, which must not keep the driver from serving what is there.
            let supposed = ["btrfs", "xfs"].contains(&surroundings.fs_name.as_str());
            tracing::warn!(path = %surroundings.path.display(), %error, supposed, "cannot try whether files share blocks");
            supposed
        });
        let Surroundings { pool, runner, metrics, io_group, .. } = surroundings;
        Self { pool, runner, metrics, reflink, io_group }
    }

    fn open_image(folder: &VolumeFolder) -> Result<OwnedFd, Error> {
        folder.open_child(IMAGE, OFlags::RDWR)
    }

    /// The image to ask what it is, and nothing more: that works where nothing can be written.
    fn look_at_image(folder: &VolumeFolder) -> Result<OwnedFd, Error> {
        folder.open_child(IMAGE, OFlags::PATH)
    }

    fn cut(&self, cuts: &[Cut<'_>]) -> Result<Moment, Error> {
        cut::cut(cuts, self.reflink, &|held| self.metrics.observe_freeze(&self.pool, held))
    }
}

/// The tool that makes a file system.
fn mkfs(fs: FsType) -> Tool {
    match fs {
        FsType::Ext4 => Tool::MKFS_EXT4,
        FsType::Xfs => Tool::MKFS_XFS,
        FsType::Btrfs => Tool::MKFS_BTRFS,
    }
}

impl Backend for Image {
    fn kind(&self) -> BackendKind {
        BackendKind::Image
    }

    fn content(&self, access: &Access) -> Result<Content, Error> {
        match access {
            Access::Block => Ok(Content::Block),
            Access::Mount { fs_type, .. } if fs_type.is_empty() => Ok(Content::Filesystem(FsType::Ext4)),
            Access::Mount { fs_type, .. } => FsType::parse(fs_type)
                .map(Content::Filesystem)
                .ok_or_else(|| Error::Invalid(format!("fs_type {fs_type:?} is not one of ext4, xfs, btrfs"))),
        }
    }

    fn bounds(&self, content: Content) -> Bounds {
        let min = match content {
            Content::Block | Content::Folder => MIB,
            Content::Filesystem(FsType::Ext4) => 8 * MIB,
            // What mkfs.xfs refuses to go below.
            Content::Filesystem(FsType::Xfs) => 300 * MIB,
            // The kernel resizes btrfs to no less; mkfs.btrfs would make smaller ones, which could not grow a little.
            Content::Filesystem(FsType::Btrfs) => 256 * MIB,
        };
        // The largest file on ext4 with blocks of 4 KiB; mkfs refuses nothing below.
        Bounds { min, max: (16 << 40) - GIB, default: GIB }
    }

    fn can_enforce(&self) -> Result<(), Error> {
        Ok(())
    }

    fn lacks(&self) -> Vec<String> {
        let mut lacks = self.runner.missing(&[
            Tool::BLKID,
            Tool::MKFS_EXT4,
            Tool::E2FSCK,
            Tool::RESIZE2FS,
            Tool::MKFS_XFS,
            Tool::XFS_GROWFS,
            Tool::MKFS_BTRFS,
            Tool::BTRFS,
            Tool::TUNE2FS,
            Tool::XFS_ADMIN,
            Tool::BTRFSTUNE,
        ]);
        if !self.reflink {
            lacks.push(
                "this file system cannot share blocks between files (use xfs or btrfs): snapshots and clones are \
                 full copies, of volumes that are not staged, and there are no group snapshots"
                    .to_owned(),
            );
        }
        lacks.extend(loopdev::check().err().map(|error| error.to_string()));
        if let Ok(false) = grow::may_grow_mounted_ext4() {
            lacks.push(
                "without CAP_SYS_RESOURCE an ext4 volume grows only when it is staged next, not while mounted"
                    .to_owned(),
            );
        }
        lacks
    }

    fn check(&self, volume: &Volume) -> Result<(), Error> {
        if let Content::Filesystem(fs) = volume.content {
            self.runner.find(mkfs(fs))?;
            self.runner.find(Tool::BLKID)?;
        }
        Ok(())
    }

    fn create(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        let image = folder.open_child(IMAGE, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        // The folder itself is synced with volume.json, which comes next.
        room::resize(&image, volume.capacity)
    }

    fn destroy(&self, _folder: &VolumeFolder) -> Result<(), Error> {
        Ok(())
    }

    fn expand(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        let image = Self::open_image(folder)?;
        let length = rfs::fstat(&image).tried(|| "reading the image's size".to_owned())?.st_size;
        // Never shorter: a crash between here and volume.json leaves a longer file.
        if u64::try_from(length).unwrap_or(0) < volume.capacity {
            room::resize(&image, volume.capacity)?;
        }
        Ok(())
    }

    fn needs_node_expansion(&self) -> bool {
        true
    }

    fn check_mutable(&self, mutable: &Mutable) -> Result<(), Error> {
        if mutable.compression.is_some() {
            return Err(Error::Invalid(
                "its volumes have file systems of their own, which it does not change; use a pool on btrfs with backend \
                 = \"directory\" or \"btrfs\" for compression"
                    .to_owned(),
            ));
        }
        if mutable.limits.is_none() {
            return Ok(());
        }
        self.io_group.as_ref().ok_or_else(device::no_io_group)?.check()
    }

    fn modify(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        match Self::find_device(folder)? {
            Some(device) => self.limit(&device, volume),
            // It is limited when it is staged.
            None => Ok(()),
        }
    }

    fn unwritten(
        &self,
        _path: &Path,
        volumes: &OwnedFd,
        sizes: &BTreeMap<VolumeId, Promise>,
    ) -> Result<u64, Error> {
        room::unwritten(volumes, sizes, self.reflink)
    }

    fn measured_size(&self, folder: &VolumeFolder) -> u64 {
        room::length(folder)
    }

    fn occupied(&self, folder: &VolumeFolder, _volume: &Volume) -> Result<u64, Error> {
        room::occupied(folder)
    }

    fn ailments(&self, folder: &VolumeFolder, volume: &Volume) -> Vec<String> {
        room::ailments(folder, volume)
    }

    fn data_name(&self) -> &'static str {
        IMAGE
    }

    fn appraise(&self, original: &Original, import: &Import) -> Result<Appraisal, Error> {
        import::appraise(&self.runner, original, import)
    }

    fn adopt(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        self.expand(folder, volume)
    }

    fn copy_in(
        &self,
        original: &Original,
        folder: &VolumeFolder,
        volume: &Volume,
        watcher: Watcher<'_>,
    ) -> Result<(), Error> {
        import::copy_in(&self.runner, original, folder, volume, watcher)
    }

    fn is_in_use(&self, folder: &VolumeFolder) -> Result<bool, Error> {
        Ok(!Self::devices(folder)?.is_empty())
    }

    fn user_of_other_data(&self, folder: &VolumeFolder) -> Result<Option<PathBuf>, Error> {
        Ok(Self::device_on_other(folder)?.map(|device| device.path))
    }

    fn stands(&self, folder: &VolumeFolder, seen: &Seen) -> Result<Stands, Error> {
        Self::stands_on(folder, seen)
    }

    fn shows_data(&self, folder: &VolumeFolder, seen: &Seen) -> Result<bool, Error> {
        Self::shows_image(folder, seen)
    }

    fn stage(&self, stage: &Stage<'_>) -> Result<(), Error> {
        match stage.volume.content {
            Content::Block => {
                let device = match Self::find_device(stage.folder)? {
                    Some(device) => {
                        // Somebody had it open when the volume was unstaged.
                        device.keep()?;
                        device
                    }
                    None => {
                        let image = Self::open_image(stage.folder)?;
                        // Whatever was put on it was put on these.
                        loopdev::attach(&image, Sector::Bytes512, Detach::WhenTold, stage.read_only)?
                    }
                };
                if device.is_read_only()? != stage.read_only {
                    return Err(Error::Exists(format!(
                        "{} is staged with another access mode; unstage it first",
                        stage.volume.id
                    )));
                }
                self.limit(&device, &stage.volume)?;
                device.update_size().map(|_| ())
            }
            Content::Filesystem(fs) => {
                let options = flags::check(stage.volume.content, stage.flags)?;
                let mount = || {
                    if stage.volume.identity == Identity::Inherited {
                        identity::give_own(&self.runner, stage.folder, fs)?;
                        stage
                            .folder
                            .write_volume(&Volume { identity: Identity::Own, ..stage.volume.clone() })?;
                    }
                    let device = format::formatted_device(&self.runner, stage, fs)?;
                    grow::before_mount(&self.runner, fs, &device)?;
                    self.limit(&device, &stage.volume)?;
                    // Dropping the device afterwards leaves it to the mount: the unmount frees it.
                    match mount::mount_device(fs, &device.path, &options, stage.staging) {
                        // A tool that outlived the driver that started it still has the device.
                        Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {
                            Err(Error::Busy(stage.volume.id.to_string()))
                        }
                        mounted => mounted,
                    }
                };
                mount().map_err(|error| full::explain(error, stage.folder, stage.volume.capacity))
            }
            Content::Folder => Err(Error::Corrupt {
                path: stage.folder.path().to_owned(),
                reason: "an image volume cannot be a folder".to_owned(),
            }),
        }
    }

    fn begin(&self) -> Result<(), Error> {
        self.io_group.as_ref().map_or(Ok(()), IoGroup::clear_unused)
    }

    fn leave(&self, folder: &VolumeFolder) -> Result<(), Error> {
        let Some(group) = &self.io_group else { return Ok(()) };
        // While a device is held here, nobody else is on it.
        Self::devices(folder)?.iter().try_for_each(|device| group.clear(device.rdev))
    }

    fn unstage(&self, folder: &VolumeFolder) -> Result<(), Error> {
        Self::detach(folder)
    }

    fn device(&self, folder: &VolumeFolder) -> Result<PathBuf, Error> {
        Ok(Self::attached(folder)?.path)
    }

    fn node_expand(
        &self,
        folder: &VolumeFolder,
        volume: &Volume,
        mounted: Option<&Place>,
    ) -> Result<u64, Error> {
        let device = Self::attached(folder)?;
        let size = device.update_size()?;
        let (Content::Filesystem(fs), Some(mounted)) = (volume.content, mounted) else { return Ok(size) };
        grow::mounted(&self.runner, fs, &device, mounted)
            .map_err(|error| full::explain(error, folder, volume.capacity))?;
        Ok(size)
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            snapshots: true,
            clones: true,
            groups: self.reflink,
            block_metadata: self.reflink,
            modify: self.io_group.as_ref().is_some_and(|group| group.check().is_ok()),
        }
    }

    fn blocks(&self, folder: &VolumeFolder) -> Result<OwnedFd, Error> {
        folder.open_child(IMAGE, OFlags::RDONLY)
    }

    fn snapshot_bytes(&self, source: &VolumeFolder) -> Result<u64, Error> {
        room::occupied(source)
    }

    fn snapshot(&self, cuts: &[Cut<'_>]) -> Result<Moment, Error> {
        self.cut(cuts)
    }

    fn populate(&self, cut: &Cut<'_>, volume: &Volume, _meter: Meter<'_>) -> Result<(), Error> {
        self.cut(std::slice::from_ref(cut))?;
        if let Content::Filesystem(fs) = volume.content
            && volume.format == Format::Done
            && self.copied_identity(volume.content, volume.format) == Identity::Own
        {
            // Not to be seen by anybody yet, so a crash in it leaves nothing.
            identity::rewrite(&self.runner, cut.into, IMAGE, fs)?;
        }
        self.expand(cut.into, volume)
    }

    fn copied_identity(&self, content: Content, format: Format) -> Identity {
        match (content, format) {
            // Where a second copy costs nothing, the new UUID can wait for the first stage.
            (Content::Filesystem(_), Format::Done) if self.reflink => Identity::Inherited,
            _ => Identity::Own,
        }
    }

    fn thaw(&self, folder: &VolumeFolder) -> Result<(), Error> {
        cut::thaw(folder)
    }

    fn quota_usage(&self, _folder: &VolumeFolder, _volume: &Volume) -> Result<Option<u64>, Error> {
        Ok(None)
    }
}
