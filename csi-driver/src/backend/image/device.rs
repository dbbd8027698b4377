//! The loop device of a volume: where it is, what it is limited to, and its end.

use std::path::{Path, PathBuf};

use rustix::{
    fs::{self as rfs, FileType, OFlags},
    io::Errno,
};

use super::{IMAGE, Image};
use crate::{
    backend::Stands,
    error::{Error, Tried as _},
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

    /// All devices on what is in the volume's folder: on the image, and on what was it before
    /// somebody deleted, moved or replaced it.
    pub(super) fn devices(folder: &VolumeFolder) -> Result<Vec<LoopDevice>, Error> {
        let mut devices = loopdev::find_below(folder.path(), folder.open_child(".", OFlags::PATH)?)?;
        // Attached from another root folder, the kernel shows another path.
        if folder.try_open_child(IMAGE, OFlags::PATH)?.is_some()
            && let Some(device) = Self::find_device(folder)?
            && devices.iter().all(|known| known.rdev != device.rdev)
        {
            devices.push(device);
        }
        Ok(devices)
    }

    /// A device on something in the volume's folder that is not the image, or not any more.
    pub(super) fn device_on_other(folder: &VolumeFolder) -> Result<Option<LoopDevice>, Error> {
        let looking = || format!("looking at {}", folder.path().display());
        let image = folder.try_open_child(IMAGE, OFlags::PATH)?;
        let image = image.map(rfs::fstat).transpose().tried(looking)?;
        for device in Self::devices(folder)? {
            if !image.as_ref().map_or(Ok(false), |image| device.is_on(image))? {
                return Ok(Some(device));
            }
        }
        Ok(None)
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

    /// The number of the device on which what is seen at a path stands.
    fn device_of(seen: &Seen) -> Result<Option<u64>, Error> {
        if seen.kind == FileType::BlockDevice {
            return Ok(Some(seen.rdev));
        }
        if rfs::major(seen.dev) != 0 {
            return Ok(Some(seen.dev));
        }
        // btrfs shows a device number of its own; the mount table names the real one.
        let Some(mount) = mountinfo::by_id(seen.mount_id)?.filter(|mount| mount.source.is_absolute()) else {
            return Ok(None);
        };
        match rfs::stat(&mount.source) {
            Ok(stat) => Ok(Some(stat.st_rdev)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error).tried(|| format!("looking at {}", mount.source.display())),
        }
    }

    pub(super) fn stands_on(folder: &VolumeFolder, seen: &Seen) -> Result<Stands, Error> {
        let Some(backing) = Self::device_of(seen)?.map_or(Ok(None), loopdev::backing)? else {
            return Ok(Stands::Elsewhere);
        };
        let looking = || format!("looking at {}", folder.path().display());
        if let Some(image) = folder.try_open_child(IMAGE, OFlags::PATH)?
            && backing.is(&rfs::fstat(image).tried(looking)?)
        {
            return Ok(Stands::OnData);
        }
        let own = rfs::fstat(folder.open_child(".", OFlags::PATH)?).tried(looking)?;
        Ok(match folder.path().parent() {
            _ if !backing.is_beside(&own) => Stands::Elsewhere,
            _ if backing.path.starts_with(folder.path()) => Stands::OnOther,
            Some(volumes) if backing.path.starts_with(volumes) => Stands::Elsewhere,
            // A node keeps no device: its number may have gone to another file.
            _ if seen.kind == FileType::BlockDevice => Stands::Elsewhere,
            _ => Stands::Astray,
        })
    }

    /// As [`Image::stands_on`], by the path that the kernel shows where that says enough: to open a
    /// device holds up who detaches it.
    pub(super) fn shows_image(folder: &VolumeFolder, seen: &Seen) -> Result<bool, Error> {
        let path = Self::device_of(seen)?.map_or(Ok(None), loopdev::path_of_backing)?;
        Ok(path.is_some_and(|path| path == folder.child(IMAGE))
            || Self::stands_on(folder, seen)? == Stands::OnData)
    }

    /// Ends the devices, which nothing mounts any more.
    pub(super) fn detach(folder: &VolumeFolder) -> Result<(), Error> {
        for device in Self::devices(folder)? {
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
        for device in Self::devices(folder)? {
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
