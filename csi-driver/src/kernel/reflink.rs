//! Files that share their blocks: copies at once, of any size (ioctl_ficlone(2)).

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{self as rfs, Mode, OFlags},
    io::Errno,
};

use crate::error::{Error, Tried as _};

/// Whether the file system of the folder can do it. Tries it with two files that have no
/// name, so that nothing is left whatever happens. Empty ones do: the file system is asked
/// before the bytes are counted.
pub(crate) fn is_possible(folder: &OwnedFd) -> Result<bool, Error> {
    let file = || rfs::openat(folder, c".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR);
    let cloned = (|| rfs::ioctl_ficlone(file()?, file()?))();
    match cloned {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::ROFS) => Ok(false),
        Err(error) => Err(error).tried(|| "trying whether files can share blocks".to_owned()),
    }
}

/// Makes `into` the same as `source` is at one moment: the file system lets nobody write
/// into `source` meanwhile, and writes out first what it has of it in memory. False when
/// the two lie where blocks cannot be shared; then nothing was done.
pub(crate) fn clone_file(source: impl AsFd, into: impl AsFd) -> Result<bool, Error> {
    match rfs::ioctl_ficlone(into, source) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::XDEV) => Ok(false),
        Err(error) => Err(error).tried(|| "sharing the blocks of an image".to_owned()),
    }
}
