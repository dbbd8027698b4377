//! Removing a whole folder without ever leaving it: no symbolic link is followed
//! and no mount is crossed.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    fs::{self as rfs, AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags},
    io::Errno,
};

use crate::{
    error::{Error, Tried as _},
    step,
};

/// Folders deeper than this are lifted to the top first: whoever wrote the tree must
/// not decide how much stack and how many descriptors removing it takes.
const MAX_DEPTH: usize = 64;

/// Removes `name` in `parent` with everything below. Stops at the first thing that
/// cannot be removed, a mount below for one; what is already gone is fine. What it
/// lifts out of a deep tree lies in `parent` meanwhile, as `<name>.<number>`.
pub(crate) fn remove_tree(parent: impl AsFd, name: &str) -> Result<(), Error> {
    let mut removal = Removal { top: parent.as_fd(), name, number: 0, lifted: Vec::new() };
    let mut next = CString::new(name).ok();
    while let Some(tree) = next {
        removal
            .remove(removal.top, &tree, 0)
            .tried(|| format!("removing {name} (something mounted below it stops this)"))?;
        next = removal.lifted.pop();
    }
    Ok(())
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    name: &'a str,
    number: u64,
    lifted: Vec<CString>,
}

impl Removal<'_> {
    fn remove(&mut self, parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), Errno> {
        match rfs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        if depth >= MAX_DEPTH {
            return self.lift(parent, name);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let folder = match rfs::openat2(parent, name, flags, Mode::empty(), resolve) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut entries = Dir::read_from(&folder)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let child = entry.file_name();
            if child == c"." || child == c".." {
                continue;
            }
            match entry.file_type() {
                FileType::Directory | FileType::Unknown => self.remove(folder.as_fd(), child, depth + 1)?,
                _ => match rfs::unlinkat(&folder, child, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error),
                },
            }
        }
        step::passed("folder emptied");
        match rfs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn lift(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        loop {
            self.number += 1;
            let lifted = CString::new(format!("{}.{}", self.name, self.number)).map_err(|_| Errno::INVAL)?;
            match rfs::renameat_with(parent, name, self.top, &lifted, RenameFlags::NOREPLACE) {
                Ok(()) => {
                    self.lifted.push(lifted);
                    return Ok(());
                }
                // A former removal that did not end.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn links_are_removed_and_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let keep = root.path().join("keep");
        fs::create_dir(&keep).unwrap();
        fs::write(keep.join("data"), "x").unwrap();
        let gone = root.path().join("gone");
        fs::create_dir_all(gone.join("a/b/c")).unwrap();
        fs::write(gone.join("a/b/file"), "x").unwrap();
        symlink(&keep, gone.join("a/link")).unwrap();
        symlink("/nowhere", gone.join("dangling")).unwrap();

        let parent = fs::File::open(root.path()).unwrap();
        remove_tree(&parent, "gone").unwrap();
        assert!(!gone.exists());
        assert_eq!(fs::read_to_string(keep.join("data")).unwrap(), "x");
        remove_tree(&parent, "gone").unwrap();
    }
}
