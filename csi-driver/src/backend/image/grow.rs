//! Making a file system as large as its device.

use rustix::thread::{CapabilitySet, capabilities};

use super::superblock;
use crate::{
    command::{CommandError, Runner, Tool},
    error::{Error, Tried as _},
    kernel::{loopdev::LoopDevice, place::Place},
    volume::FsType,
};

/// What xfs_growfs says (xfsprogs, growfs/xfs_growfs.c) when the kernel has another at work.
const XFS_GROWS_ALREADY: &str = "growfs operation in progress";
/// e2fsck(8): nothing found, or all of it corrected.
const E2FSCK_FINE: [i32; 2] = [0, 1];

/// Grows a mounted file system, if it does not fill its device yet.
pub(super) fn mounted(
    runner: &Runner,
    fs: FsType,
    device: &LoopDevice,
    mounted: &Place,
) -> Result<(), Error> {
    if fills_device(fs, device)? {
        return Ok(());
    }
    let folder = mounted.path().as_os_str();
    match fs {
        FsType::Ext4 if !may_grow_mounted_ext4()? => {
            return Err(Error::Precondition(
                "this kernel grows a mounted ext4 only for CAP_SYS_RESOURCE, which the driver does not have: the \
                 file system will grow when the volume is staged next (stop its pods and start them again), or give \
                 the driver that capability"
                    .to_owned(),
            ));
        }
        FsType::Ext4 => runner.run_on(Tool::RESIZE2FS, &[device.path.as_os_str()], &[0], device.handle()?)?,
        FsType::Xfs => match runner.run(Tool::XFS_GROWFS, &["-d".as_ref(), folder]) {
            // One that outlived its driver still works on it.
            Err(CommandError::Failed { stderr, .. }) if stderr.contains(XFS_GROWS_ALREADY) => {
                return Err(Error::Busy(device.path.display().to_string()));
            }
            grown => grown?,
        },
        FsType::Btrfs => {
            runner.run(Tool::BTRFS, &["filesystem".as_ref(), "resize".as_ref(), "max".as_ref(), folder])?
        }
    };
    Ok(())
}

/// Grows an ext4 that cannot be grown later, when it is mounted. xfs and btrfs grow
/// only when they are.
pub(super) fn before_mount(runner: &Runner, fs: FsType, device: &LoopDevice) -> Result<(), Error> {
    if fs != FsType::Ext4 || may_grow_mounted_ext4()? || device.is_claimed()? || fills_device(fs, device)? {
        return Ok(());
    }
    let path = device.path.as_os_str();
    tracing::info!(device = %device.path.display(), "growing the file system before it is mounted");
    // resize2fs refuses a file system that was not checked just before.
    runner.run_on(Tool::E2FSCK, &["-f".as_ref(), "-p".as_ref(), path], &E2FSCK_FINE, device.handle()?)?;
    runner.run_on(Tool::RESIZE2FS, &[path], &[0], device.handle()?)?;
    Ok(())
}

fn fills_device(fs: FsType, device: &LoopDevice) -> Result<bool, Error> {
    let size = device.size()?;
    Ok(superblock::size(fs, device)?.is_some_and(|filled| filled.fills(size)))
}

/// The kernel's condition (fs/ext4/resize.c, `ext4_resize_begin`).
pub(super) fn may_grow_mounted_ext4() -> Result<bool, Error> {
    let sets = capabilities(None).tried(|| "reading this process's capabilities".to_owned())?;
    Ok(sets.effective.contains(CapabilitySet::SYS_RESOURCE))
}
