//! Making a file system, and never on anything that may hold data.
//!
//! `volume.json` says how far it came, durably: `never` → `started` → `done`.
//! mkfs runs only on a file that is one hole, that is, into which nothing was ever
//! written. After a crash in mkfs (`started`) the file is emptied first, which is
//! safe because nothing is mounted before `done` is on disk.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{self as rfs, SeekFrom},
    io::Errno,
};

use super::{Image, mkfs, superblock};
use crate::{
    backend::Stage,
    command::{Runner, Tool},
    error::{Error, Tried as _},
    kernel::loopdev::{self, Detach, LoopDevice, Sector},
    volume::{Format, FsType},
};

/// The exit code with which blkid says that it read the device and knows nothing
/// of what is on it (blkid(8)).
pub(super) const BLKID_NOTHING: i32 = 2;

/// The volume's loop device with its file system on it, made now if it never was.
pub(super) fn formatted_device(runner: &Runner, stage: &Stage<'_>, fs: FsType) -> Result<LoopDevice, Error> {
    let image = Image::open_image(stage.folder)?;
    let mut attached = Image::find_device(stage.folder)?;

    if stage.volume.format == Format::Started {
        if let Some(device) = attached.take() {
            // A mkfs that outlived its driver claims the device while it works.
            if device.is_claimed()? {
                return Err(Error::Busy(stage.volume.id.to_string()));
            }
            device.detach()?;
            if Image::find_device(stage.folder)?.is_some() {
                return Err(Error::Busy(stage.volume.id.to_string()));
            }
        }
        empty(&image, stage.volume.capacity)?;
    }

    let shown = match stage.volume.format {
        Format::Done => Some(superblock::look(fs, &image)?),
        Format::Never | Format::Started => None,
    };
    let device = match attached {
        Some(device) => {
            device.update_size()?;
            device
        }
        // As large as the file from the first moment on.
        None => {
            let sector = shown.map_or(Sector::Bytes4096, |shown| shown.sector);
            loopdev::attach(&image, sector, Detach::WithLastUser, false)?
        }
    };
    // Nothing is made here any more, and the mount names this file system and no other: what
    // looks right needs no tool to say so, and what does not is told by its name.
    if shown.is_some_and(|shown| shown.is_it) {
        return Ok(device);
    }

    let found = probe(runner, &device)?;
    match (stage.volume.format, found.as_deref()) {
        (_, Some(found)) if found == fs.as_str() => Ok(device),
        (_, Some(found)) => Err(Error::Precondition(format!(
            "volume {} should hold {fs} but holds {found}; it is left as it is",
            stage.volume.id
        ))),
        (Format::Done, None) => Err(Error::Precondition(format!(
            "volume {} had {fs} and nothing is found on it now; it is not made anew, restore or delete it",
            stage.volume.id
        ))),
        (Format::Never | Format::Started, None) => {
            if !is_one_hole(&image)? {
                return Err(Error::Precondition(format!(
                    "volume {} was never given a file system, and yet something is written in it; it is not \
                     formatted, copy what is in it or delete it",
                    stage.volume.id
                )));
            }
            make(runner, stage, fs, &device)?;
            Ok(device)
        }
    }
}

fn make(runner: &Runner, stage: &Stage<'_>, fs: FsType, device: &LoopDevice) -> Result<(), Error> {
    let tool = mkfs(fs);
    runner.find(tool)?;
    let mut volume = stage.volume.clone();
    volume.format = Format::Started;
    stage.folder.write_volume(&volume)?;

    // The file is one hole and reads as zeros: nothing has to be discarded or zeroed.
    let options: &[&str] = match fs {
        FsType::Ext4 => &["-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"],
        FsType::Xfs => &["-q", "-f", "-K"],
        FsType::Btrfs => &["-q", "-f", "-K"],
    };
    let device_path = device.path.to_string_lossy();
    let args: Vec<&str> = options.iter().copied().chain([device_path.as_ref()]).collect();
    tracing::info!(volume = %volume.id, %fs, device = %device_path, "making the file system");
    runner.run_on(tool, &args, &[0], device.handle()?)?;

    rfs::fsync(&Image::open_image(stage.folder)?).tried(|| "syncing the new file system".to_owned())?;
    volume.format = Format::Done;
    stage.folder.write_volume(&volume)
}

/// The name of what is on the device; `None` only when it could be read and nothing
/// known is there.
fn probe(runner: &Runner, device: &LoopDevice) -> Result<Option<String>, Error> {
    let path = device.path.to_string_lossy();
    let args = ["-p", "-o", "value", "-s", "TYPE", "-s", "PTTYPE", path.as_ref()];
    let probed = runner.run_on(Tool::BLKID, &args, &[0, BLKID_NOTHING], device.handle()?)?;
    if probed.code == BLKID_NOTHING {
        // blkid says the same of a device that it cannot read.
        let mut first = [0_u8; 4096];
        device.read_at(&mut first, 0)?;
        return Ok(None);
    }
    Ok(Some(probed.stdout.lines().next().unwrap_or("something without a name").trim().to_owned()))
}

/// Whether nothing was ever written into the file (lseek(2), SEEK_DATA). A file
/// system that knows no holes reports data, and then it is not provably empty.
fn is_one_hole(image: &OwnedFd) -> Result<bool, Error> {
    match rfs::seek(image, SeekFrom::Data(0)) {
        Err(Errno::NXIO) => Ok(true),
        Ok(_) => Ok(false),
        Err(error) => Err(error).tried(|| "looking for data in the image".to_owned()),
    }
}

fn empty(image: &OwnedFd, size: u64) -> Result<(), Error> {
    rfs::ftruncate(image, 0)
        .and_then(|()| rfs::ftruncate(image, size))
        .and_then(|()| rfs::fsync(image))
        .tried(|| "emptying the image after a mkfs that did not end".to_owned())
}
