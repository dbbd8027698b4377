//! How long images are, and how much of the pool they take.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use rustix::{
    fs::{self as rfs, Mode, OFlags},
    io::Errno,
};

use super::{IMAGE, Image};
use crate::{
    error::{Error, Tried as _},
    kernel::fiemap,
    pool::{VolumeFolder, allocated, inside, ledger::Promise},
    step,
    volume::Volume,
    volume_id::VolumeId,
};

/// How much of what volumes were promised they have not written.
pub(super) fn unwritten(
    volumes: &OwnedFd,
    sizes: &BTreeMap<VolumeId, Promise>,
    reflink: bool,
) -> Result<u64, Error> {
    sizes.iter().try_fold(0_u64, |sum, (id, promise)| {
        let image = format!("{id}/{IMAGE}");
        let written = match promise.shares && reflink {
            true => own(volumes, &image, promise.bytes)?,
            false => allocated(volumes, &image)?,
        };
        Ok(sum.saturating_add(promise.bytes.saturating_sub(written)))
    })
}

/// The length of an image in bytes; 0 when it cannot be read.
pub(super) fn length(folder: &VolumeFolder) -> u64 {
    Image::look_at_image(folder)
        .ok()
        .and_then(|image| rfs::fstat(&image).ok())
        .and_then(|stat| u64::try_from(stat.st_size).ok())
        .unwrap_or(0)
}

/// What is wrong with an image, as its file shows.
pub(super) fn ailments(folder: &VolumeFolder, volume: &Volume) -> Vec<String> {
    let image = folder.child(IMAGE);
    let length = match folder.try_open_child(IMAGE, OFlags::PATH).and_then(|image| {
        image.map(|image| rfs::fstat(image).tried(|| "reading the image's size".to_owned())).transpose()
    }) {
        Ok(Some(stat)) => u64::try_from(stat.st_size).unwrap_or(0),
        Ok(None) => return vec![format!("its data is missing: there is no {}", image.display())],
        Err(error) => return vec![error.to_string()],
    };
    (length < volume.capacity)
        .then(|| {
            format!("its data was cut off: {} has {length} of {} bytes", image.display(), volume.capacity)
        })
        .into_iter()
        .collect()
}

/// How much of an image need not find new room when it is written anew: what it shares does.
fn own(volumes: &OwnedFd, image: &str, bytes: u64) -> Result<u64, Error> {
    match rfs::openat2(volumes, image, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), inside()) {
        Ok(file) => fiemap::own(&file, bytes),
        Err(Errno::NOENT) => Ok(0),
        Err(error) => Err(error).tried(|| format!("opening {image}")),
    }
}

/// The bytes that an image occupies.
pub(super) fn occupied(folder: &VolumeFolder) -> Result<u64, Error> {
    let stat = rfs::fstat(Image::look_at_image(folder)?)
        .tried(|| format!("looking at {}", folder.child(IMAGE).display()))?;
    Ok(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
}

/// Gives an image its length, durably.
pub(super) fn resize(image: &OwnedFd, size: u64) -> Result<(), Error> {
    match rfs::ftruncate(image, size) {
        Ok(()) => {}
        Err(Errno::FBIG) => {
            return Err(Error::OutOfRange(format!(
                "the pool's file system cannot hold one file of {size} bytes"
            )));
        }
        Err(error) => return Err(error).tried(|| format!("making an image of {size} bytes")),
    }
    step::passed("image resized");
    rfs::fsync(image).tried(|| "syncing the image".to_owned())
}
