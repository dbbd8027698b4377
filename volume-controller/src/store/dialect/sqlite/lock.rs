//! One process at a time. SQLite's own locks let several processes in, one after
//! the other; the store's memory would then be wrong. So a lock file next to the
//! database is held for as long as the store is open. The kernel lets go of it
//! when the process dies, however it dies; the file itself stays, and is harmless.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::store::OpenError;

/// The lock, held until dropped.
#[derive(Debug)]
pub(crate) struct ProcessLock {
    _file: File,
}

impl ProcessLock {
    /// Takes the lock for the database at `database`, or says who has it.
    pub(crate) fn take(database: &Path) -> Result<Self, OpenError> {
        let path = lock_path(database);
        let failed = |doing| {
            let path = path.clone();
            move |source| OpenError::File { doing, path, source }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open the lock file"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(OpenError::InUse { store: database.into(), holder: holder(&mut file) });
            }
            Err(errno) => return Err(failed("lock")(errno.into())),
        }
        // The number is for people only. A full disk must not keep the store from
        // opening (that is how space gets freed), so a failure here is no failure.
        if let Err(error) = note_pid(&mut file) {
            tracing::debug!(path = %path.display(), %error, "cannot note the process id in the lock file");
        }
        Ok(Self { _file: file })
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn note_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn holder(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    let pid: u32 = text.trim().parse().ok()?;
    Some(format!("process {pid}"))
}
