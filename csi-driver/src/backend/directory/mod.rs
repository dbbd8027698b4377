//! Volumes as folders of the pool's own file system. On btrfs a folder is a
//! subvolume with a limit; other file systems cannot hold a folder to a size here, so
//! there a class has to say `enforceSize: "false"`.

use std::{
    collections::BTreeMap,
    ffi::CStr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self as rfs, AtFlags, Mode, OFlags, StatxFlags, openat2, statx},
    io::Errno,
};

use super::{Backend, Stage, Surroundings};
use crate::{
    capability::Access,
    config::BackendKind,
    error::{Error, Tried as _},
    kernel::{
        btrfs::{Counting, FileSystem},
        flags, mount, mountinfo,
        place::{Place, Seen},
    },
    pool::{VolumeFolder, inside, ledger::Promise},
    size::{Bounds, GIB, MIB},
    volume::{Content, Volume},
    volume_id::VolumeId,
};

/// The data of a volume.
const DATA: &str = "data";
const DATA_NAME: &CStr = c"data";

/// The `directory` backend.
#[derive(Debug)]
pub(crate) struct Directory {
    pool: PathBuf,
    fs_name: String,
    /// Where the pool lies on btrfs.
    btrfs: Option<FileSystem>,
}

impl Directory {
    pub(crate) fn new(surroundings: Surroundings) -> Result<Self, Error> {
        let Surroundings { path, root, fs_name, .. } = surroundings;
        let btrfs = match fs_name.as_str() {
            "btrfs" => Some(FileSystem::of(root, &path, Counting::Simple)?),
            _ => None,
        };
        Ok(Self { pool: path, fs_name, btrfs })
    }

    fn data(&self, folder: &VolumeFolder) -> Result<OwnedFd, Error> {
        folder.open_child(DATA, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    fn no_device(&self, folder: &VolumeFolder) -> Error {
        Error::Invalid(format!(
            "{} lies in a directory pool and is no block device; use a pool with backend = \"image\"",
            folder.path().display()
        ))
    }
}

impl Backend for Directory {
    fn kind(&self) -> BackendKind {
        BackendKind::Directory
    }

    fn content(&self, access: &Access) -> Result<Content, Error> {
        match access {
            Access::Block => Err(Error::Invalid(
                "a directory pool cannot make raw block volumes; use a pool with backend = \"image\""
                    .to_owned(),
            )),
            Access::Mount { fs_type, .. } if fs_type.is_empty() || *fs_type == self.fs_name => {
                Ok(Content::Folder)
            }
            Access::Mount { fs_type, .. } => Err(Error::Invalid(format!(
                "fs_type {fs_type:?} is not possible in a directory pool on {}; leave it out, or use a pool with \
                 backend = \"image\"",
                self.fs_name
            ))),
        }
    }

    fn bounds(&self, _content: Content) -> Bounds {
        Bounds { min: MIB, max: (1 << 63) - MIB, default: GIB }
    }

    fn can_enforce(&self) -> Result<(), Error> {
        if self.btrfs.is_some() {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "the pool at {} lies on {}, where this driver cannot hold a folder to its size; put the pool on btrfs, \
             use a pool with backend = \"image\", or let the class say enforceSize: \"false\"",
            self.pool.display(),
            self.fs_name
        )))
    }

    fn lacks(&self) -> Vec<String> {
        self.btrfs.as_ref().map(FileSystem::lacks).unwrap_or_default()
    }

    fn check(&self, _volume: &Volume) -> Result<(), Error> {
        Ok(())
    }

    /// A crash in here leaves a folder that is no volume yet, with a subvolume in it or
    /// not: whoever removes the folder asks [`Backend::destroy`] first.
    fn create(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        match &self.btrfs {
            None => folder.make_folder(DATA)?,
            Some(btrfs) => {
                let data = btrfs.make_subvolume(&folder_fd(folder)?, DATA_NAME)?;
                if volume.enforced {
                    btrfs.limit(&data, volume.capacity)?;
                }
            }
        }
        // A new subvolume goes to the disk with its folder, and its limit with it: btrfs
        // cannot log it and commits.
        folder.sync()
    }

    fn destroy(&self, folder: &VolumeFolder) -> Result<(), Error> {
        if let Some(btrfs) = &self.btrfs {
            btrfs.delete_subvolume(&folder_fd(folder)?, DATA_NAME)?;
        }
        Ok(())
    }

    fn expand(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        match &self.btrfs {
            Some(btrfs) if volume.enforced => {
                btrfs.limit(&self.data(folder)?, volume.capacity)?;
                btrfs.commit()
            }
            _ => Ok(()),
        }
    }

    fn needs_node_expansion(&self) -> bool {
        false
    }

    fn unwritten(
        &self,
        path: &Path,
        volumes: &OwnedFd,
        sizes: &BTreeMap<VolumeId, Promise>,
    ) -> Result<u64, Error> {
        // Nothing is promised where no size is enforced.
        let Some(btrfs) = &self.btrfs else { return Ok(0) };
        let mut sum = 0_u64;
        for (id, promise) in sizes {
            let data = format!("{id}/{DATA}");
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            // What is being made, or not counted, is as good as unwritten: that promises
            // too little rather than too much.
            let written = match openat2(volumes, data.as_str(), flags, Mode::empty(), inside()) {
                Ok(data) => btrfs.used(&data)?.unwrap_or(0),
                Err(Errno::NOENT) => 0,
                Err(error) => return Err(error).tried(|| format!("opening {}", path.join(data).display())),
            };
            sum = sum.saturating_add(promise.bytes.saturating_sub(written));
        }
        Ok(sum)
    }

    fn measured_size(&self, _folder: &VolumeFolder) -> u64 {
        0
    }

    fn occupied(&self, folder: &VolumeFolder, volume: &Volume) -> Result<u64, Error> {
        Ok(self.quota_usage(folder, volume)?.unwrap_or(0))
    }

    fn is_in_use(&self, folder: &VolumeFolder) -> Result<bool, Error> {
        let data = folder.child(DATA);
        let fd = folder_fd(folder)?;
        let stat = statx(&fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .tried(|| format!("looking at {}", folder.path().display()))?;
        // Where the data is within its file system, as mounts of it show it.
        let place = mountinfo::by_id(stat.stx_mnt_id)?.and_then(|pool| {
            let inside = data.strip_prefix(&pool.mount_point).ok()?;
            Some((pool.root.join(inside), pool.device))
        });
        let Some((root, device)) = place else {
            return Err(Error::Corrupt {
                path: data,
                reason: "its file system is not in this process's mount table".to_owned(),
            });
        };
        Ok(mountinfo::all()?.iter().any(|mount| mount.device == device && mount.root.starts_with(&root)))
    }

    fn is_staged_at(&self, folder: &VolumeFolder, seen: &Seen) -> Result<bool, Error> {
        let data = folder.open_child(DATA, OFlags::PATH)?;
        let stat = rfs::fstat(&data).tried(|| format!("looking at {}", folder.child(DATA).display()))?;
        Ok((stat.st_dev, stat.st_ino) == (seen.dev, seen.ino))
    }

    fn stage(&self, stage: &Stage<'_>) -> Result<(), Error> {
        let options = flags::check(stage.volume.content, stage.flags)?;
        if let Some(btrfs) = self.btrfs.as_ref().filter(|_| stage.volume.enforced) {
            // Again, for quotas may have been switched off and on since.
            btrfs.limit(&self.data(stage.folder)?, stage.volume.capacity)?;
        }
        let data = stage.folder.open_child(DATA, OFlags::PATH | OFlags::DIRECTORY)?;
        mount::bind(&data, options.attributes, stage.staging)
    }

    fn unstage(&self, _folder: &VolumeFolder) -> Result<(), Error> {
        Ok(())
    }

    fn device(&self, folder: &VolumeFolder) -> Result<PathBuf, Error> {
        Err(self.no_device(folder))
    }

    fn node_expand(
        &self,
        _folder: &VolumeFolder,
        volume: &Volume,
        _mounted: Option<&Place>,
    ) -> Result<u64, Error> {
        Ok(volume.capacity)
    }

    fn quota_usage(&self, folder: &VolumeFolder, volume: &Volume) -> Result<Option<u64>, Error> {
        match &self.btrfs {
            Some(btrfs) if volume.enforced => btrfs.used(&self.data(folder)?),
            _ => Ok(None),
        }
    }
}

fn folder_fd(folder: &VolumeFolder) -> Result<OwnedFd, Error> {
    folder.open_child(".", OFlags::RDONLY | OFlags::DIRECTORY)
}
