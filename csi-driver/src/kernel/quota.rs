//! Project quotas of ext4 and xfs: a folder and all that is made in it belong to one
//! project, and the project is held to a size.
//!
//! Which project a volume is, only its folder says: the number is an attribute of the
//! inode. So nothing can come apart from it, and a number is in use exactly when the
//! file system counts something for it.

use std::{
    ffi::{CString, OsStr},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use super::raw::quota::{self as raw, Of, XFLAG_PROJINHERIT};
use crate::{
    config::ProjectIds,
    error::{Error, Tried as _},
    step,
};

/// The projects of one ext4 or xfs.
#[derive(Debug)]
pub(crate) struct Projects {
    root: OwnedFd,
    device: CString,
    path: PathBuf,
    fs_name: String,
    ids: ProjectIds,
    /// Where the search for a free number goes on. Held while one is taken.
    next: Mutex<u32>,
}

impl Projects {
    /// The projects of the file system on `device` in which the folder lies; `path` is
    /// where the folder is.
    pub(crate) fn of(
        root: OwnedFd,
        path: &Path,
        device: &OsStr,
        fs_name: &str,
        ids: ProjectIds,
    ) -> Result<Self, Error> {
        let device = CString::new(device.as_bytes()).map_err(|_| Error::Corrupt {
            path: path.to_owned(),
            reason: "its device has a name with a null byte".to_owned(),
        })?;
        let next = Mutex::new(ids.first);
        Ok(Self { root, device, path: path.to_owned(), fs_name: fs_name.to_owned(), ids, next })
    }

    fn quotas(&self) -> Of<'_> {
        Of { fd: self.root.as_fd(), device: &self.device }
    }

    /// Whether limits are enforced now; else why not and what to do.
    pub(crate) fn check_enforced(&self) -> Result<(), String> {
        let prepare = match self.fs_name.as_str() {
            "ext4" => "prepare it unmounted with tune2fs -O project,quota and mount it with -o prjquota",
            _ => "unmount it and mount it with -o prjquota (a remount does not switch it on)",
        };
        let (fs, path) = (&self.fs_name, self.path.display());
        match self.quotas().is_enforced() {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("the {fs} at {path} does not enforce project quotas; {prepare}")),
            Err(error) => Err(match error.raw_os_error() {
                Some(libc::ENOSYS) => format!("this kernel has no quotas, so the {fs} at {path} has none"),
                Some(libc::EINVAL | libc::ESRCH | libc::EOPNOTSUPP) => {
                    format!("the {fs} at {path} has no project quotas; {prepare}")
                }
                Some(libc::EPERM) => format!("asking for the quotas of {path} needs CAP_SYS_ADMIN"),
                _ => format!("asking for the quotas of the {fs} at {path}: {error}"),
            }),
        }
    }

    /// Gives the empty folder a project of its own, held to so many bytes, which all that
    /// is made in it joins. Durable with the next sync of a folder of the file system.
    ///
    /// A crash in between leaves a folder whose project has no limit yet, in a volume that
    /// is not there yet: [`Projects::release`] and the folder's removal end it.
    pub(crate) fn take(&self, folder: &OwnedFd, bytes: u64) -> Result<(), Error> {
        let mut next = self.next.lock();
        let mut candidate = *next;
        loop {
            let following = if candidate == self.ids.last { self.ids.first } else { candidate + 1 };
            if self.try_take(folder, candidate)? {
                *next = following;
                break;
            }
            candidate = following;
            if candidate == *next {
                return Err(Error::Exhausted(format!(
                    "all project ids from {} to {} are in use on {}; widen project_ids of the pool",
                    self.ids.first,
                    self.ids.last,
                    self.path.display()
                )));
            }
        }
        drop(next);
        step::passed("project taken");
        self.limit(folder, bytes)
    }

    /// Another process may take the same number at the same time, so it is counted after
    /// it was taken: it is ours when the folder is the only thing that has it.
    fn try_take(&self, folder: &OwnedFd, project: u32) -> Result<bool, Error> {
        if self.usage(project)? != raw::Usage::default() {
            return Ok(false);
        }
        self.set_project(folder, project)?;
        let alone = raw::Usage { inodes: 1, ..raw::Usage::default() };
        // The folder itself may have a block.
        if (raw::Usage { space: 0, ..self.usage(project)? }) == alone {
            return Ok(true);
        }
        self.set_project(folder, 0)?;
        Ok(false)
    }

    fn set_project(&self, folder: &OwnedFd, project: u32) -> Result<(), Error> {
        let mut attributes = self.attributes(folder)?;
        attributes.project = project;
        attributes.flags |= XFLAG_PROJINHERIT;
        raw::set_attributes(folder.as_fd(), attributes)
            .tried(|| format!("giving a folder on {} to project {project}", self.path.display()))
    }

    fn attributes(&self, folder: &OwnedFd) -> Result<raw::FileAttributes, Error> {
        raw::attributes(folder.as_fd())
            .tried(|| format!("asking for the project of a folder on {}", self.path.display()))
    }

    /// Holds the folder's project to so many bytes.
    pub(crate) fn limit(&self, folder: &OwnedFd, bytes: u64) -> Result<(), Error> {
        let Some(project) = self.project(folder)? else {
            return Err(Error::Precondition(format!(
                "a volume's folder on {} belongs to no project of {} to {}, so its size cannot be enforced; \
                 correct project_ids of the pool, or set the folder's project again with chattr -p",
                self.path.display(),
                self.ids.first,
                self.ids.last
            )));
        };
        self.set_limit(project, bytes)
    }

    fn set_limit(&self, project: u32, bytes: u64) -> Result<(), Error> {
        self.quotas()
            .limit(project, bytes)
            .tried(|| format!("limiting project {project} on {} to {bytes} bytes", self.path.display()))
    }

    /// How many bytes the folder's project uses; `None` where it has none of ours.
    pub(crate) fn used(&self, folder: &OwnedFd) -> Result<Option<u64>, Error> {
        let Some(project) = self.project(folder)? else { return Ok(None) };
        Ok(Some(self.usage(project)?.space))
    }

    /// Takes the limit off, of a folder that is about to be removed. The number comes free
    /// with its last file.
    pub(crate) fn release(&self, folder: &OwnedFd) -> Result<(), Error> {
        let Some(project) = self.project(folder)? else { return Ok(()) };
        match self.quotas().limit(project, 0) {
            // The quotas were switched off: there is no limit to take off.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::ESRCH | libc::EINVAL)) => {
                Ok(())
            }
            done => done.tried(|| format!("freeing project {project} on {}", self.path.display())),
        }
    }

    /// The folder's project, if it is of this pool's numbers: others are somebody else's.
    fn project(&self, folder: &OwnedFd) -> Result<Option<u32>, Error> {
        let supported = match raw::attributes(folder.as_fd()) {
            Err(error) if is_unsupported(&error) => return Ok(None),
            done => {
                done.tried(|| format!("asking for the project of a folder on {}", self.path.display()))?
            }
        };
        Ok(Some(supported.project).filter(|project| self.ids.contains(*project)))
    }

    fn usage(&self, project: u32) -> Result<raw::Usage, Error> {
        self.quotas()
            .usage(project)
            .tried(|| format!("asking for the usage of project {project} on {}", self.path.display()))
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EOPNOTSUPP))
}
