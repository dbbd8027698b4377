//! Emptying an `emptyDir` when its pod is gone: the one place that deletes content. It goes by
//! file descriptors, follows no link, and stops at the first mount (openat2(2)). A crash leaves
//! a part, which the next try takes.

use std::{ffi::CStr, path::Path};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, openat2, renameat_with,
        unlinkat,
    },
    io::Errno,
};

use crate::error::Error;

/// Folders nested deeper than this are lifted to the top first: each level holds descriptors
/// open, and whoever wrote the tree must not decide how many.
const DEPTH: usize = 64;

/// Removes everything in a folder; the folder itself stays. Not there: nothing to do.
pub(crate) fn remove(folder: &Path) -> Result<(), Error> {
    let failed = |e: Errno| Error::io("empty the folder", folder)(e.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(CWD, folder, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        Ok(top) => {
            let mut lifted = Lifted { top: &top, number: 0, any: true };
            while std::mem::take(&mut lifted.any) {
                empty(&top, 0, &mut lifted).map_err(failed)?;
            }
            Ok(())
        }
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// What was too deep and lies in the top folder now, to be removed from there.
struct Lifted<'a> {
    top: &'a OwnedFd,
    number: u64,
    any: bool,
}

impl Lifted<'_> {
    fn lift(&mut self, folder: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        self.any = true;
        loop {
            self.number += 1;
            let new = format!(".lifted-{}", self.number);
            match renameat_with(folder, name, self.top, new, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                done => return done,
            }
        }
    }
}

fn empty(folder: &OwnedFd, depth: usize, lifted: &mut Lifted<'_>) -> Result<(), Errno> {
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
        if is_folder && depth >= DEPTH {
            lifted.lift(folder, name)?;
        } else if is_folder {
            let inner = openat2(
                folder.as_fd(),
                name,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
            )?;
            empty(&inner, depth + 1, lifted)?;
            unlinkat(folder, name, AtFlags::REMOVEDIR)?;
        } else {
            unlinkat(folder, name, AtFlags::empty())?;
        }
    }
    Ok(())
}
