//! The root folder: made once, owned by one process at a time.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// A root folder that this process owns while the value lives. The lock is the
/// kernel's, so a process that was killed leaves none behind.
pub(crate) struct Root {
    path: PathBuf,
    _lock: File,
}

/// What an attempt to take a root folder came to.
pub(crate) enum Taken {
    Ours(Root),
    /// Somebody else has it: the words for whom.
    InUse(String),
}

impl Root {
    /// Takes the folder, making it when it is missing.
    pub(crate) fn take(path: &Path) -> Result<Self> {
        match Self::attempt(path)? {
            Taken::Ours(root) => Ok(root),
            Taken::InUse(owner) => bail!(
                "the root folder {} is in use by {owner}: stop that one first, or choose another --root",
                path.display()
            ),
        }
    }

    /// The same, for who can go on without it.
    pub(crate) fn attempt(path: &Path) -> Result<Taken> {
        let shown = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the root folder {shown}"))?;
        // Mount points are compared with the kernel's table, which knows no symlinks and no "..".
        let path = path.canonicalize().with_context(|| format!("cannot resolve the root folder {shown}"))?;

        let lock_path = path.join("holdfast.lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .with_context(|| format!("cannot open {}", lock_path.display()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut owner = String::new();
                lock.read_to_string(&mut owner).ok();
                let owner = match owner.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                return Ok(Taken::InUse(owner));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("cannot lock {}", lock_path.display()));
            }
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .with_context(|| {
                format!("cannot write {}: is the file system full or read-only?", lock_path.display())
            })?;
        Ok(Taken::Ours(Self { path, _lock: lock }))
    }

    /// The folder, absolute and without symlinks.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder directly below, made when missing.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::take(&folder.path().join("a/b")).unwrap();
        let second = Root::take(&folder.path().join("a/../a/b")).err().unwrap().to_string();
        assert!(second.contains(&format!("in use by process {}", std::process::id())), "{second}");
        drop(root);
        Root::take(&folder.path().join("a/b")).unwrap();
    }

    #[test]
    fn not_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let error = format!("{:#}", Root::take(&folder.path().join("file/x")).err().unwrap());
        assert!(error.starts_with("cannot make the root folder"), "{error}");
    }
}
