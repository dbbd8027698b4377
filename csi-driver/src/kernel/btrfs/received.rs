//! Subvolumes that came out of a stream (btrfs-receive(8)).

use std::{
    ffi::CStr,
    os::fd::{AsFd as _, OwnedFd},
};

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
}
