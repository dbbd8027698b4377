//! How btrfs compresses the new files of a folder: the property `btrfs.compression`, an
//! extended attribute that files and folders take over when they are made in it
//! (btrfs-property(8)).

use std::os::fd::OwnedFd;

use rustix::{
    fs::{XattrFlags, fgetxattr, fsetxattr},
    io::Errno,
};

use crate::{
    error::{Error, Tried as _},
    mutable::Compression,
    step,
};

const PROPERTY: &str = "btrfs.compression";
/// More than any value that the kernel takes.
const LONGEST: usize = 64;

/// Gives the folder the property; whether there was anything to do. Not durable before the
/// next commit.
pub(crate) fn set(folder: &OwnedFd, wanted: Compression) -> Result<bool, Error> {
    let wanted = wanted.as_str();
    let mut found = [0; LONGEST];
    match fgetxattr(folder, PROPERTY, &mut found[..]) {
        Ok(length) if found.get(..length) == Some(wanted.as_bytes()) => return Ok(false),
        // Another one, none, or a longer one.
        Ok(_) | Err(Errno::NODATA | Errno::RANGE) => {}
        Err(error) => return Err(error).tried(|| format!("reading the property {PROPERTY}")),
    }
    match fsetxattr(folder, PROPERTY, wanted.as_bytes(), XattrFlags::empty()) {
        Err(Errno::INVAL) => {
            return Err(Error::Precondition(format!(
                "btrfs does not take compression {wanted} for the volume: its data is marked not to be copied on write \
                 (chattr +C), or this kernel does not know it"
            )));
        }
        set => set.tried(|| format!("setting the property {PROPERTY} to {wanted}"))?,
    }
    step::passed("compression set");
    Ok(true)
}
