//! The loop device of a volume: where it is, what it is limited to, and its end.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, OFlags};

use super::{IMAGE, Image};
use crate::{
    error::Error,
    kernel::{
        loopdev::{self, LoopDevice},
        mountinfo,
        place::Seen,
    },
    pool::VolumeFolder,
    volume::Volume,
};

impl Image {
    /// The loop device on which the volume is, if any.
    pub(super) fn find_device(folder: &VolumeFolder) -> Result<Option<LoopDevice>, Error> {
        let end: PathBuf =
            folder.path().file_name().map(Path::new).into_iter().chain([Path::new(IMAGE)]).collect();
        loopdev::find(&Self::look_at_image(folder)?, &end)
    }

    /// As [`Image::find_device`], for taking the volume away: also where someone deleted the
    /// image. That it is not there is certain then, and a device may have it still.
    pub(super) fn find_device_even_deleted(folder: &VolumeFolder) -> Result<Option<LoopDevice>, Error> {
        let there = match folder.try_open_child(IMAGE, OFlags::PATH)? {
            Some(_) => Self::find_device(folder)?,
            None => None,
        };
        match there {
            None => loopdev::find_deleted(&folder.child(IMAGE), folder.open_child(".", OFlags::PATH)?),
            there => Ok(there),
        }
    }

    /// Gives the device the volume's limits and no others: the number may have those of a
    /// volume that had it before.
    pub(super) fn limit(&self, device: &LoopDevice, volume: &Volume) -> Result<(), Error> {
        let limits = &volume.mutable.limits;
        match &self.io_group {
            Some(group) if limits.is_none() => group.clear(device.rdev),
            Some(group) => group.set(device.rdev, limits),
            None if limits.is_none() => Ok(()),
            None => Err(no_io_group().into_exceeded_on_node()),
        }
    }

    pub(super) fn attached(folder: &VolumeFolder) -> Result<LoopDevice, Error> {
        Self::find_device(folder)?.ok_or_else(|| {
            Error::Precondition(format!("{} has no loop device: it is not staged", folder.path().display()))
        })
    }

    /// Whether what is seen at a path is the volume's device or its file system.
    pub(super) fn shows(folder: &VolumeFolder, seen: &Seen) -> Result<bool, Error> {
        let Some(device) = Self::find_device_even_deleted(folder)? else { return Ok(false) };
        if seen.kind == FileType::BlockDevice {
            return Ok(seen.rdev == device.rdev);
        }
        if seen.dev == device.rdev {
            return Ok(true);
        }
        // btrfs shows a device number of its own; the mount table names the real one.
        Ok(mountinfo::by_id(seen.mount_id)?.is_some_and(|mount| mount.source == device.path))
    }

    /// Ends the device, which nothing mounts any more.
    pub(super) fn detach(folder: &VolumeFolder) -> Result<(), Error> {
        if let Some(device) = Self::find_device_even_deleted(folder)? {
            // A target holds the node, not the device: detached, the number would go to
            // another volume, and the target would show that one's data.
            if let Some(target) = device.bound_at()? {
                return Err(Error::Precondition(format!(
                    "{} is still mounted at {}; unpublish it first",
                    device.path.display(),
                    target.display()
                )));
            }
            device.detach()?;
        }
        if let Some(device) = Self::find_device_even_deleted(folder)? {
            // Someone else has it open, another mount namespace for one. It goes when
            // they let go; until then the volume is not deleted (is_in_use).
            tracing::warn!(device = %device.path.display(), folder = %folder.path().display(),
                "the volume is unstaged, but its device is still open elsewhere");
        }
        Ok(())
    }
}

pub(super) fn no_io_group() -> Error {
    Error::Invalid(
        "it has no io_cgroup, the cgroup v2 below which all that use its volumes run; add that to the pool's \
         configuration, or limit no iops and no bandwidth"
            .to_owned(),
    )
}
