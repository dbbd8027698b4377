//! Removing a whole folder without ever leaving it: no symbolic link is followed
//! and no mount is crossed.

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use rustix::{
    fs::{self as rfs, AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags},
    io::Errno,
};

use crate::{error::Error, step};

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
        removal.remove(removal.top, &tree, 0).map_err(|error| Error::Io {
            tried: match error {
                Errno::PERM => {
                    format!(
                        "removing {name} (something in it is marked with chattr +i or +a; the driver needs \
                             CAP_LINUX_IMMUTABLE to take that off)"
                    )
                }
                _ => format!("removing {name} (something mounted below it stops this)"),
            },
            source: error.into(),
        })?;
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
        match self.unlink(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => {}
            done => return done,
        }
        if depth >= MAX_DEPTH {
            return self.lift(parent, name);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let folder = match rfs::openat2(parent, name, flags, Mode::empty(), resolve) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(()),
            // A file, which stays marked.
            Err(Errno::NOTDIR) => return Err(Errno::PERM),
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
                _ => self.unlink(folder.as_fd(), child, AtFlags::empty())?,
            }
        }
        step::passed("folder emptied");
        self.unlink(parent, name, AtFlags::REMOVEDIR)
    }

    fn unlink(&self, parent: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<(), Errno> {
        let unlink = || match rfs::unlinkat(parent, name, flags) {
            Err(Errno::NOENT) => Ok(()),
            done => done,
        };
        match unlink() {
            Err(Errno::PERM) => {
                self.loosen_both(parent, name);
                unlink()
            }
            done => done,
        }
    }

    /// Makes an entry removable that its owner made immutable, or the folder in which it is; what
    /// cannot be is told by the removal.
    fn loosen_both(&self, parent: BorrowedFd<'_>, name: &CStr) {
        // What the tree lies in is not part of it.
        if parent.as_raw_fd() != self.top.as_raw_fd() {
            loosen(parent);
        }
        // To open anything else may have effects, and nothing else can be marked.
        let is_marked = rfs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
            matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory)
        });
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        if is_marked && let Ok(entry) = rfs::openat2(parent, name, flags, Mode::empty(), resolve) {
            loosen(entry);
        }
    }

    fn lift(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        loop {
            self.number += 1;
            let lifted = CString::new(format!("{}.{}", self.name, self.number)).map_err(|_| Errno::INVAL)?;
            let rename = || rfs::renameat_with(parent, name, self.top, &lifted, RenameFlags::NOREPLACE);
            let renamed = match rename() {
                Err(Errno::PERM) => {
                    self.loosen_both(parent, name);
                    rename()
                }
                done => done,
            };
            match renamed {
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

/// Takes the marks off an opened file or folder that keep it from being removed (chattr(1), `i` and
/// `a`). Nothing where it has none, or the file system knows none.
pub(crate) fn loosen(entry: impl AsFd) {
    let marks = rfs::IFlags::IMMUTABLE | rfs::IFlags::APPEND;
    let loosened = rfs::ioctl_getflags(&entry).and_then(|flags| match flags.intersects(marks) {
        true => rfs::ioctl_setflags(&entry, flags - marks),
        false => Ok(()),
    });
    if let Err(error) = loosened {
        tracing::debug!(%error, "what is to be removed may stay immutable");
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
