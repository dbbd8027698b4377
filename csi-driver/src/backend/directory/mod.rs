//! Volumes as folders of the pool's own file system: on btrfs a subvolume with a limit,
//! on ext4 and xfs a project with a quota. Where neither is possible, a class has to say
//! `enforceSize: "false"`.

mod sizes;

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{self as rfs, AtFlags, OFlags, StatxFlags, statx};

use super::{Backend, Stage, Surroundings};
use crate::{
    capability::Access,
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
use sizes::{DATA, Sizes};

/// The `directory` backend.
#[derive(Debug)]
pub(crate) struct Directory {
    fs_name: String,
    sizes: Sizes,
}

impl Directory {
    pub(crate) fn new(surroundings: Surroundings) -> Result<Self, Error> {
        Ok(Self { fs_name: surroundings.fs_name.clone(), sizes: Sizes::of(surroundings)? })
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
        self.sizes.can_enforce()
    }

    fn lacks(&self) -> Vec<String> {
        self.sizes.lacks()
    }

    fn check(&self, _volume: &Volume) -> Result<(), Error> {
        Ok(())
    }

    fn create(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        self.sizes.make(folder, volume.enforced.then_some(volume.capacity))
    }

    fn destroy(&self, folder: &VolumeFolder) -> Result<(), Error> {
        self.sizes.destroy(folder)
    }

    fn expand(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        if volume.enforced {
            self.sizes.limit(folder, volume.capacity)?;
            self.sizes.commit(folder)?;
        }
        Ok(())
    }

    fn needs_node_expansion(&self) -> bool {
        false
    }

    fn unwritten(
        &self,
        _path: &Path,
        volumes: &OwnedFd,
        sizes: &BTreeMap<VolumeId, Promise>,
    ) -> Result<u64, Error> {
        sizes.iter().try_fold(0_u64, |sum, (id, promise)| {
            let data = format!("{id}/{DATA}");
            Ok(sum.saturating_add(self.sizes.unwritten(volumes, &data, promise.bytes)?))
        })
    }

    fn measured_size(&self, _folder: &VolumeFolder) -> u64 {
        0
    }

    fn occupied(&self, folder: &VolumeFolder, volume: &Volume) -> Result<u64, Error> {
        Ok(self.quota_usage(folder, volume)?.unwrap_or(0))
    }

    fn is_in_use(&self, folder: &VolumeFolder) -> Result<bool, Error> {
        let data = folder.child(DATA);
        let fd = sizes::open(folder)?;
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
        if stage.volume.enforced {
            // Again, for quotas may have been switched off and on since.
            self.sizes.limit(stage.folder, stage.volume.capacity)?;
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
        if volume.enforced { self.sizes.used(&sizes::data(folder)?) } else { Ok(None) }
    }
}
