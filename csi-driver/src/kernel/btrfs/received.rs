//! Subvolumes that came out of a stream (btrfs-receive(8)).

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::fs::{self as rfs, Dir};
use uuid::Uuid;

use super::{FileSystem, open_subvolume, raw};
use crate::{
    error::{Error, Tried as _},
    step,
};

impl FileSystem {
    /// Whether the folder lies in this very file system.
    pub(crate) fn has(&self, folder: &OwnedFd) -> Result<bool, Error> {
        let id = |fd: &OwnedFd| raw::fs_id(fd.as_fd()).tried(|| "asking for the id of a btrfs".to_owned());
        Ok(id(&self.root)? == id(folder)?)
    }

    /// Makes the received subvolume `name` of the folder one like any other: writable, and
    /// without the mark that it is the same as another one, by which a later stream would
    /// be built on what it is not any more.
    pub(crate) fn adopt_received(&self, folder: &OwnedFd, name: &CStr) -> Result<(), Error> {
        let subvolume = open_subvolume(folder, name)?;
        raw::subvol_set_read_only(subvolume.as_fd(), false)
            .map_err(|error| self.refused("making a received subvolume writable", error))?;
        step::passed("received subvolume made writable");
        raw::subvol_forget_received(subvolume.as_fd())
            .map_err(|error| self.refused("taking the mark off a received subvolume", error))?;
        step::passed("received subvolume unmarked");
        Ok(())
    }

    /// By what streams know the subvolume `name` of the folder: the UUID of the one of which it
    /// is a received copy, or its own.
    pub(crate) fn lineage(&self, folder: &OwnedFd, name: &CStr) -> Result<Uuid, Error> {
        let subvolume = open_subvolume(folder, name)?;
        let (own, received) = raw::subvol_uuids(subvolume.as_fd())
            .map_err(|error| self.refused("asking for the UUID of a subvolume", error))?;
        let received = Uuid::from_bytes(received);
        Ok(if received.is_nil() { Uuid::from_bytes(own) } else { received })
    }

    /// Whether the folder's `name` is a read-only subvolume, and so as it was received.
    pub(crate) fn is_read_only_subvolume(&self, folder: &OwnedFd, name: &CStr) -> Result<bool, Error> {
        let subvolume = open_subvolume(folder, name)?;
        let stat = rfs::fstat(&subvolume).tried(|| format!("looking at {name:?}"))?;
        if stat.st_ino != raw::SUBVOLUME_INODE {
            return Ok(false);
        }
        raw::subvol_is_read_only(subvolume.as_fd())
            .map_err(|error| self.refused("asking whether a subvolume is read-only", error))
    }

    /// Removes all subvolumes of a folder, with what [`FileSystem::delete_subvolume`] removes.
    pub(crate) fn delete_subvolumes(&self, folder: &OwnedFd) -> Result<(), Error> {
        for name in entries(folder)? {
            self.delete_subvolume(folder, &name)?;
        }
        Ok(())
    }
}

/// The names in an opened folder, whatever they are.
pub(crate) fn entries(folder: &OwnedFd) -> Result<Vec<CString>, Error> {
    let list = || -> Result<Vec<CString>, rustix::io::Errno> {
        let mut names = Vec::new();
        let mut entries = Dir::read_from(folder)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            if ![c".", c".."].contains(&entry.file_name()) {
                names.push(entry.file_name().to_owned());
            }
        }
        Ok(names)
    };
    list().tried(|| "listing a folder".to_owned())
}
