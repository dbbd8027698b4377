//! Giving a copied file system a UUID of its own, so that it can be mounted beside the one
//! it was copied from.

use std::os::fd::OwnedFd;

use rustix::fs::{self as rfs, OFlags};

use super::{IMAGE, superblock};
use crate::{
    command::{Runner, Tool},
    error::{Error, Tried as _},
    kernel::{
        flags::MountOptions,
        loopdev::{self, Detach},
        mount, reflink,
    },
    pool::VolumeFolder,
    step,
    volume::FsType,
};

/// What the image is called while it is worked on.
const NEW: &str = "disk.img.new";
/// How a tool names the file that is its standard input: whatever happens to the names
/// meanwhile, it works on this file.
const THIS_FILE: &str = "/proc/self/fd/0";
/// e2fsck(8): nothing found, or all of it corrected.
const E2FSCK_FINE: [i32; 2] = [0, 1];

/// Gives the volume's file system its own UUID, on a copy that then takes the image's
/// place. No tool ever works on the image itself: a crash at any point, and a tool that
/// outlives it, leave the image as it was or as it is to be, and it is begun again.
pub(super) fn give_own(runner: &Runner, folder: &VolumeFolder, fs: FsType) -> Result<(), Error> {
    if super::Image::find_device(folder)?.is_some() {
        return Err(Error::Precondition(format!(
            "{} is attached to a loop device and has no UUID of its own yet; detach it (losetup -d)",
            folder.child(IMAGE).display()
        )));
    }
    discard(folder)?;
    let source = folder.open_child(IMAGE, OFlags::RDONLY)?;
    let copy = folder.open_child(NEW, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
    step::passed("file for a new UUID made");
    let done = (|| {
        if !reflink::clone_file(&source, &copy)? {
            return Err(Error::Unsupported(format!(
                "the blocks of {} cannot be shared any more; move the pool back to a file system that can",
                folder.child(IMAGE).display()
            )));
        }
        rewrite(runner, folder, NEW, fs)?;
        folder.rename_child(NEW, IMAGE)
    })();
    if done.is_err()
        && let Err(error) = discard(folder)
    {
        tracing::warn!(folder = %folder.path().display(), %error, "a half-done copy stays until the next try");
    }
    done
}

fn discard(folder: &VolumeFolder) -> Result<(), Error> {
    folder.remove_child(NEW)
}

/// Gives the file system in the file `name` a new UUID, durably. Nobody else uses it.
pub(super) fn rewrite(runner: &Runner, folder: &VolumeFolder, name: &str, fs: FsType) -> Result<(), Error> {
    let image = folder.open_child(name, OFlags::RDWR)?;
    let before = superblock::read(fs, &image)?;
    let run = |tool: Tool, options: &[&str], accepted: &[i32]| {
        let args: Vec<&str> = options.iter().copied().chain([THIS_FILE]).collect();
        let file = image.try_clone().tried(|| "keeping an image open".to_owned())?;
        runner.run_on(tool, &args, accepted, file.into()).map_err(Error::from)
    };
    match fs {
        FsType::Ext4 => {
            // Replays the journal, and does no more where that was all.
            run(Tool::E2FSCK, &["-p"], &E2FSCK_FINE)?;
            // With the seed kept apart, the UUID is in the superblocks only: not every
            // checksum has to be written anew.
            if before.seeds_checksums_with_uuid {
                run(Tool::TUNE2FS, &["-O", "metadata_csum_seed"], &[0])?;
            }
            run(Tool::TUNE2FS, &["-U", "random"], &[0])?;
        }
        FsType::Xfs => {
            // It was copied while it was in use, so its log has to be replayed first, and only
            // the kernel can.
            replay(&image, fs, &["nouuid"])?;
            run(Tool::XFS_ADMIN, &["-f", "-U", "generate"], &[0])?;
        }
        FsType::Btrfs => {
            if before.has_log {
                replay(&image, fs, &[])?;
            }
            run(Tool::BTRFSTUNE, &["-f", "-m"], &[0])?;
        }
    }
    rfs::fsync(&image).tried(|| "syncing a file system with its new UUID".to_owned())?;
    // xfs_admin ends with success when it refused.
    if superblock::read(fs, &image)?.uuid == before.uuid {
        return Err(Error::Precondition(format!(
            "the {fs} file system in {} kept the UUID of its source; mount the source once, unmount it, and make \
             the copy again",
            folder.child(name).display()
        )));
    }
    step::passed("new UUID written");
    Ok(())
}

/// Mounts it where nobody sees it, and unmounts it.
fn replay(image: &OwnedFd, fs: FsType, options: &[&str]) -> Result<(), Error> {
    let device = loopdev::attach(image, superblock::look(fs, image)?.sector, Detach::WithLastUser, false)?;
    let options = MountOptions {
        fs_options: options.iter().map(|name| ((*name).to_owned(), None)).collect(),
        ..MountOptions::default()
    };
    let mount = mount::mount_nowhere(fs, &device.path, &options)?;
    step::passed("log of a copied file system replayed");
    drop(mount);
    // xfs_admin does nothing, and says that it did, while the log is not written back.
    device.wait_unmounted()?;
    // The tools that come next see the file, not the device.
    device.sync()
}
