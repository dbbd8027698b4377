//! The pool's disk has no block left for an image. A file system in it, and the tools that
//! work on one, only see that their device fails.

use std::io;

use rustix::fs::{fstat, fstatvfs};

use super::Image;
use crate::{
    command::CommandError,
    error::{Error, Tried as _},
    pool::VolumeFolder,
    size::Bytes,
};

/// The error with its reason, where the image cannot become as large as was promised
/// because somebody else took the room.
pub(super) fn explain(error: Error, folder: &VolumeFolder, capacity: u64) -> Error {
    if !may_come_from_it(&error) {
        return error;
    }
    match missing(folder, capacity) {
        Ok(Some((free, unwritten))) => Error::Exhausted(format!(
            "{error}; the file system of {} is full: {} are free and this volume may still write {}; make room \
             there and try again",
            folder.path().display(),
            Bytes(free),
            Bytes(unwritten)
        )),
        // Not known to be the reason: the error as it is.
        Ok(None) | Err(_) => error,
    }
}

fn may_come_from_it(error: &Error) -> bool {
    match error {
        Error::Command(error) => matches!(error, CommandError::Failed { .. }),
        Error::Io { source, .. } => {
            source.kind() == io::ErrorKind::StorageFull || source.raw_os_error() == Some(libc::EIO)
        }
        _ => false,
    }
}

/// The free bytes, and those that the image may still take, where these are more.
fn missing(folder: &VolumeFolder, capacity: u64) -> Result<Option<(u64, u64)>, Error> {
    let image = Image::open_image(folder)?;
    let tried = || format!("looking at {}", folder.path().display());
    let room = fstatvfs(&image).tried(tried)?;
    let occupied = u64::try_from(fstat(&image).tried(tried)?.st_blocks).unwrap_or(0).saturating_mul(512);
    let (free, unwritten) = (room.f_bavail.saturating_mul(room.f_frsize), capacity.saturating_sub(occupied));
    Ok((free < unwritten).then_some((free, unwritten)))
}
