//! Removing a whole folder without ever leaving it: no symbolic link is followed
//! and no mount is crossed.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::{
    fs::{self as rfs, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
    path::Arg,
};

use crate::error::{Error, Tried as _};

/// Removes `name` in `parent` with everything below. Stops at the first thing that
/// cannot be removed, a mount below for one; what is already gone is fine.
pub(crate) fn remove_tree<P: Arg + Copy>(parent: impl AsFd, name: P) -> Result<(), Error> {
    remove(parent.as_fd(), name).tried(|| {
        format!("removing {} (something mounted below it stops this)", name.to_string_lossy())
    })
}

fn remove<P: Arg + Copy>(parent: BorrowedFd<'_>, name: P) -> Result<(), Errno> {
    match rfs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
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
            FileType::Directory | FileType::Unknown => remove(folder.as_fd(), child)?,
            _ => match rfs::unlinkat(&folder, child, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            },
        }
    }
    match rfs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
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
