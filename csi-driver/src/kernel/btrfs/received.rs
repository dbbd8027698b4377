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
        raw::subvol_set_received(subvolume.as_fd(), [0; 16])
            .map_err(|error| self.refused("taking the mark off a received subvolume", error))?;
        step::passed("received subvolume unmarked");
        Ok(())
    }

    /// Takes the mark "received" off a read-only snapshot. The kernel copies it from the volume, which had
    /// it put on by its owner or was imported with it: all snapshots of it would pass for one and the
    /// same, and streams be built on the wrong one.
    pub(super) fn disown(&self, folder: &OwnedFd, name: &CStr) -> Result<(), Error> {
        let subvolume = open_subvolume(folder, name)?;
        let refused = |error| self.refused("taking the mark off a snapshot", error);
        let (_, received) = raw::subvol_uuids(subvolume.as_fd()).map_err(refused)?;
        if Uuid::from_bytes(received).is_nil() {
            return Ok(());
        }
        raw::subvol_set_read_only(subvolume.as_fd(), false).map_err(refused)?;
        raw::subvol_set_received(subvolume.as_fd(), [0; 16]).map_err(refused)?;
        raw::subvol_set_read_only(subvolume.as_fd(), true).map_err(refused)?;
        step::passed("snapshot unmarked");
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

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;
    use crate::kernel::btrfs::Counting;

    #[expect(clippy::disallowed_methods, reason = "a file system of its own, once")]
    fn run(program: &str, args: &[&str]) {
        assert!(Command::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
    }

    /// Whoever owns a volume can say of it that it was received; none of its snapshots says so.
    #[test]
    fn no_snapshot_passes_for_another() {
        use holdfast_test_needs::{Need, missing};
        if missing(&[Need::Root, Need::LoopDevices, Need::FileSystem("btrfs"), Need::Program("mkfs.btrfs")]) {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let (image, disk) = (scratch.path().join("image"), scratch.path().join("disk"));
        fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        fs::create_dir(&disk).unwrap();
        run("mkfs.btrfs", &["-q", image.to_str().unwrap()]);
        run("mount", &["-o", "loop", image.to_str().unwrap(), disk.to_str().unwrap()]);
        let looked = std::panic::catch_unwind(|| {
            let open = || OwnedFd::from(fs::File::open(&disk).unwrap());
            let btrfs = FileSystem::of(open(), &disk, Counting::Full).unwrap();
            let folder = open();
            let volume = btrfs.make_subvolume(&folder, c"data").unwrap();
            raw::subvol_set_received(volume.as_fd(), [7; 16]).unwrap();
            assert_eq!(btrfs.lineage(&folder, c"data").unwrap(), Uuid::from_bytes([7; 16]));
            let cut = |name| {
                btrfs.snapshot(&volume, &folder, name, true).unwrap();
                assert!(btrfs.is_read_only_subvolume(&folder, name).unwrap());
                btrfs.lineage(&folder, name).unwrap()
            };
            let (one, other) = (cut(c"one"), cut(c"other"));
            assert!(one != other && one != Uuid::from_bytes([7; 16]));
        });
        run("umount", &["-l", disk.to_str().unwrap()]);
        looked.unwrap();
    }
}
