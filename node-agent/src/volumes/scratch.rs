//! Emptying an `emptyDir` when its pod is gone: the one place that deletes content. It goes by
//! file descriptors, follows no link, and stops at the first mount (openat2(2)).

use std::path::Path;

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, unlinkat},
    io::Errno,
};

use crate::error::Error;

/// Folders nested deeper than this are left: each level holds a descriptor open.
const DEPTH: usize = 200;

/// Removes everything in a folder; the folder itself stays. Not there: nothing to do.
pub(crate) fn remove(folder: &Path) -> Result<(), Error> {
    let failed = |e: Errno| Error::io("empty the folder", folder)(e.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(CWD, folder, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        Ok(fd) => empty(&fd, 0).map_err(failed),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn empty(folder: &OwnedFd, depth: usize) -> Result<(), Errno> {
    if depth > DEPTH {
        return Err(Errno::LOOP);
    }
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let is_folder = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            known => known == FileType::Directory,
        };
        if is_folder {
            let inner = openat2(
                folder.as_fd(),
                name,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
            )?;
            empty(&inner, depth + 1)?;
            unlinkat(folder, name, AtFlags::REMOVEDIR)?;
        } else {
            unlinkat(folder, name, AtFlags::empty())?;
        }
    }
    Ok(())
}
