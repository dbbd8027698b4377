//! Volumes as folders of the pool's own file system. On btrfs a folder is a
//! subvolume with a limit (qgroup); other file systems cannot hold a folder to a
//! size here, so there a class has to say `enforceSize: "false"`.

mod btrfs;

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{self as rfs, AtFlags, OFlags, StatxFlags, statx};

use super::{Backend, Stage, Surroundings};
use crate::{
    capability::Access,
    command::Tool,
    config::BackendKind,
    error::{Error, Tried as _},
    kernel::{
        flags, mount, mountinfo,
        place::{Place, Seen},
    },
    pool::{VolumeFolder, ledger::Promise},
    size::{Bounds, GIB, MIB},
    volume::{Content, Volume},
    volume_id::VolumeId,
};

/// The data of a volume.
const DATA: &str = "data";

/// The `directory` backend.
#[derive(Debug)]
pub(crate) struct Directory {
    pool: PathBuf,
    fs_name: String,
    on_btrfs: bool,
    quotas: btrfs::Quotas,
}

impl Directory {
    pub(crate) fn new(surroundings: Surroundings) -> Self {
        Self {
            quotas: btrfs::Quotas::new(surroundings.runner, surroundings.path.clone()),
            pool: surroundings.path,
            fs_name: surroundings.fs_name,
            on_btrfs: surroundings.on_btrfs,
        }
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
        if self.on_btrfs {
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
        if self.on_btrfs { self.quotas.lacks() } else { Vec::new() }
    }

    fn check(&self, _volume: &Volume) -> Result<(), Error> {
        if self.on_btrfs { self.quotas.find_tool() } else { Ok(()) }
    }

    fn create(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        if !self.on_btrfs {
            folder.make_folder(DATA)?;
            return folder.sync();
        }
        self.quotas.make_subvolume(&folder.child(DATA))?;
        if volume.enforced {
            self.quotas.enable()?;
            self.quotas.limit(&folder.child(DATA), volume.capacity)?;
        }
        folder.sync()
    }

    fn destroy(&self, folder: &VolumeFolder) -> Result<(), Error> {
        if self.on_btrfs {
            match rfs::statat(&folder_fd(folder)?, DATA, AtFlags::SYMLINK_NOFOLLOW) {
                // Every subvolume's root has this inode number.
                Ok(stat) if stat.st_ino == 256 => {
                    if let Err(error) = self.quotas.delete_subvolume(&folder.child(DATA)) {
                        // Subvolumes inside it, made by a user: the plain removal takes them.
                        tracing::debug!(%error, "removing the subvolume file by file");
                    }
                }
                Ok(_) | Err(rustix::io::Errno::NOENT) => {}
                Err(error) => {
                    return Err(error).tried(|| format!("looking at {}", folder.child(DATA).display()));
                }
            }
        }
        Ok(())
    }

    fn expand(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        if volume.enforced {
            self.quotas.limit(&folder.child(DATA), volume.capacity)?;
        }
        Ok(())
    }

    fn needs_node_expansion(&self) -> bool {
        false
    }

    fn unwritten(
        &self,
        path: &Path,
        _volumes: &OwnedFd,
        sizes: &BTreeMap<VolumeId, Promise>,
    ) -> Result<u64, Error> {
        if !self.on_btrfs {
            // Nothing is promised where no size is enforced.
            return Ok(0);
        }
        let written = self.quotas.written_below(path)?;
        Ok(sizes.iter().fold(0, |sum: u64, (id, promise)| {
            let written = written.get(id.as_str()).copied().unwrap_or(0);
            sum.saturating_add(promise.bytes.saturating_sub(written))
        }))
    }

    fn measured_size(&self, _folder: &VolumeFolder) -> u64 {
        0
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
        if volume.enforced { self.quotas.written(&folder.child(DATA)).map(Some) } else { Ok(None) }
    }
}

fn folder_fd(folder: &VolumeFolder) -> Result<OwnedFd, Error> {
    folder.open_child(".", OFlags::RDONLY | OFlags::DIRECTORY)
}

/// The tool of this backend, on btrfs.
const TOOL: Tool = Tool::BTRFS;
