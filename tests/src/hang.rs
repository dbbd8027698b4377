//! Storage that hangs: every open on a file system waits for leave that nobody gives.

#![expect(unsafe_code, reason = "fanotify has no safe binding")]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use anyhow::{Context as _, Result};

/// As long as it is held, what is opened waits; a kill ends that, as with NFS. Then all goes on.
#[derive(Debug)]
pub struct Hang {
    /// Who is asked for leave, while it is open.
    _group: OwnedFd,
}

impl Hang {
    /// Makes the file system at `path` hang (fanotify(7), permission events).
    ///
    /// # Errors
    /// When the kernel does not let this process, or has no such events.
    pub fn everything_opened_on(path: &Path) -> Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: two numbers; the answer is a new file descriptor, or an error.
        let fd = unsafe { libc::fanotify_init(libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("fanotify_init");
        }
        // SAFETY: it is open, and nobody else's.
        let group = unsafe { OwnedFd::from_raw_fd(fd) };
        let (flags, mask) =
            (libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM, libc::FAN_OPEN_PERM | libc::FAN_ONDIR);
        // SAFETY: `path` ends with a zero and lives through the call, which only reads it.
        let marked =
            unsafe { libc::fanotify_mark(group.as_raw_fd(), flags, mask, libc::AT_FDCWD, path.as_ptr()) };
        if marked < 0 {
            return Err(io::Error::last_os_error()).context("fanotify_mark");
        }
        Ok(Self { _group: group })
    }
}
