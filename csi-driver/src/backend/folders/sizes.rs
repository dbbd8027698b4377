//! How a pool's file system holds a folder to its size.

use std::{ffi::CStr, os::fd::OwnedFd, path::PathBuf, sync::Arc};

use rustix::{
    fs::{self as rfs, Mode, OFlags},
    io::Errno,
};

use super::super::Surroundings;
use crate::{
    error::{Error, Tried as _},
    kernel::{
        btrfs::{Counting, FileSystem},
        quota::Projects,
    },
    pool::{Original, VolumeFolder, inside, ledger::Promise},
};

/// What a volume's folder holds the data in.
pub(in super::super) const DATA: &str = "data";
pub(in super::super) const DATA_NAME: &CStr = c"data";

/// Makes and removes the data folders of one pool, with their sizes.
#[derive(Debug)]
pub(in super::super) enum Sizes {
    /// Subvolumes with a limit.
    Btrfs(Arc<FileSystem>),
    /// Folders with a project each.
    Projects(Projects),
    /// Plain folders.
    None { pool: PathBuf, fs_name: String },
}

impl Sizes {
    pub(in super::super) fn of(surroundings: Surroundings) -> Result<Self, Error> {
        let Surroundings { path, root, fs_name, device, project_ids, .. } = surroundings;
        Ok(match fs_name.as_str() {
            "btrfs" => Self::Btrfs(Arc::new(FileSystem::of(root, &path, Counting::Simple)?)),
            "ext4" | "xfs" => {
                Self::Projects(Projects::of(root, &path, device.as_os_str(), &fs_name, project_ids)?)
            }
            _ => Self::None { pool: path, fs_name },
        })
    }

    pub(super) fn can_enforce(&self) -> Result<(), Error> {
        let reason = match self {
            Self::Btrfs(_) => return Ok(()),
            Self::Projects(projects) => match projects.check_enforced() {
                Ok(()) => return Ok(()),
                Err(reason) => reason,
            },
            Self::None { pool, fs_name } => {
                format!("the pool at {} lies on {fs_name}, which has no sizes for folders", pool.display())
            }
        };
        Err(Error::Invalid(format!(
            "this directory pool cannot hold a folder to its size: {reason}; or put the pool on btrfs, use a pool \
             with backend = \"image\", or let the class say enforceSize: \"false\""
        )))
    }

    pub(super) fn lacks(&self) -> Vec<String> {
        match self {
            Self::Btrfs(btrfs) => btrfs.lacks(),
            _ => Vec::new(),
        }
    }

    /// Makes the data folder, held to `limit` bytes. A crash in here leaves a folder that
    /// is no volume yet, with data in it or not: who removes it asks [`Sizes::destroy`] first.
    pub(super) fn make(&self, folder: &VolumeFolder, limit: Option<u64>) -> Result<(), Error> {
        match self {
            Self::Btrfs(btrfs) => {
                let data = btrfs.make_subvolume(&open(folder)?, DATA_NAME)?;
                if let Some(bytes) = limit {
                    btrfs.limit(&data, bytes)?;
                }
            }
            Self::Projects(projects) => {
                folder.make_folder(DATA)?;
                if let Some(bytes) = limit {
                    projects.take(&data(folder)?, bytes)?;
                }
            }
            Self::None { .. } => folder.make_folder(DATA)?,
        }
        // A new subvolume goes to the disk with its folder, and its limit with it: btrfs
        // cannot log it and commits. The others log in order.
        folder.sync()
    }

    /// Refuses a folder that cannot be a volume's data as it is, only a copy of it.
    /// `bytes` is how much is in it.
    pub(super) fn expect_adoptable(
        &self,
        original: &Original,
        enforce: bool,
        bytes: u64,
    ) -> Result<(), Error> {
        let why = match self {
            Self::Btrfs(btrfs) => {
                let folder = original.open()?;
                match btrfs.check_writable_subvolume(&folder)? {
                    None if !enforce || btrfs.counts_all(&folder, bytes)? => return Ok(()),
                    None => {
                        "holds more than btrfs would count against the volume's size: simple quotas count nothing that \
                         was written before they were switched on, that is shared or nested, and what is compressed as \
                         what it occupies"
                    }
                    Some(why) => why,
                }
            }
            Self::Projects(_) if enforce => {
                "would keep the projects of its files, which do not count against the volume's size"
            }
            Self::Projects(_) | Self::None { .. } => return Ok(()),
        };
        Err(Error::Precondition(format!("{} {why}: use --copy", original.place.path().display())))
    }

    /// Whether blocks that the data shares with others do not count against its size.
    pub(super) fn leaves_shared_out(&self) -> Result<bool, Error> {
        match self {
            Self::Btrfs(btrfs) => Ok(btrfs.counting()? == Some(Counting::Simple)),
            _ => Ok(false),
        }
    }

    /// Holds the data to so many bytes from now on.
    pub(super) fn limit(&self, folder: &VolumeFolder, bytes: u64) -> Result<(), Error> {
        match self {
            Self::Btrfs(btrfs) => btrfs.limit(&data(folder)?, bytes),
            Self::Projects(projects) => projects.limit(&data(folder)?, bytes),
            Self::None { .. } => self.can_enforce(),
        }
    }

    /// As [`Sizes::limit`] where the file system counts; quotas that somebody switched off stay
    /// off until a volume is made, grown or staged.
    pub(super) fn limit_if_counted(&self, folder: &VolumeFolder, bytes: u64) -> Result<(), Error> {
        match self {
            Self::Btrfs(btrfs) if btrfs.counting()?.is_none() => Ok(()),
            _ => self.limit(folder, bytes),
        }
    }

    /// Makes changed limits outlive a power cut.
    pub(super) fn commit(&self, folder: &VolumeFolder) -> Result<(), Error> {
        match self {
            Self::Btrfs(btrfs) => btrfs.commit(),
            _ => folder.sync(),
        }
    }

    /// How much of what was promised to the data at `path` below `parent` may still need
    /// room, in bytes.
    pub(super) fn unwritten(&self, parent: &OwnedFd, path: &str, promise: Promise) -> Result<u64, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let bytes = promise.bytes;
        let used = match self {
            // Nothing is promised where no size is enforced.
            Self::None { .. } => return Ok(0),
            _ => match rfs::openat2(parent, path, flags, Mode::empty(), inside()) {
                Ok(data) => match self {
                    Self::Btrfs(btrfs) => btrfs.used_alone(&data, promise.shares)?,
                    _ => self.used(&data)?,
                },
                Err(Errno::NOENT) => Some(0),
                Err(error) => return Err(error).tried(|| format!("opening {path}")),
            },
        };
        Ok(match (self, used) {
            (_, Some(used)) => bytes.saturating_sub(used),
            // Without a project there is no limit and so no promise.
            (Self::Projects(_), None) => 0,
            // Quotas are off and may come back: that promises too little rather than too much.
            (_, None) => bytes,
        })
    }

    /// How many bytes the data uses; `None` where nobody counts.
    pub(super) fn used(&self, data: &OwnedFd) -> Result<Option<u64>, Error> {
        match self {
            Self::Btrfs(btrfs) => btrfs.used(data),
            Self::Projects(projects) => projects.used(data),
            Self::None { .. } => Ok(None),
        }
    }

    /// Frees what a plain removal of files would leave, or could not do.
    pub(super) fn destroy(&self, folder: &VolumeFolder) -> Result<(), Error> {
        match self {
            // A stream that was received may have brought others.
            Self::Btrfs(btrfs) => btrfs.delete_subvolumes(&open(folder)?),
            Self::Projects(projects) => {
                match folder.try_open_child(DATA, OFlags::RDONLY | OFlags::DIRECTORY)? {
                    Some(data) => projects.release(&data),
                    None => Ok(()),
                }
            }
            Self::None { .. } => Ok(()),
        }
    }
}

/// The opened data of a volume.
pub(in super::super) fn data(folder: &VolumeFolder) -> Result<OwnedFd, Error> {
    folder.open_child(DATA, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// The opened folder itself.
pub(in super::super) fn open(folder: &VolumeFolder) -> Result<OwnedFd, Error> {
    folder.open_child(".", OFlags::RDONLY | OFlags::DIRECTORY)
}
