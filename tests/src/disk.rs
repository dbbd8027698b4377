//! A file system of its own, in an image file on a loop device.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use rustix::mount::{UnmountFlags, unmount};

use crate::leftovers;

/// A mounted file system. Dropping it unmounts everything on it and removes the image.
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    /// Makes and mounts one of `bytes`, with the defaults of `mkfs.<kind>`.
    ///
    /// # Errors
    /// When it cannot be made or mounted.
    pub fn new(kind: &str, bytes: u64) -> Result<Self> {
        // Not /tmp: on many machines that is a tmpfs, which has no direct I/O.
        let root = tempfile::Builder::new().prefix("holdfast-disk-").tempdir_in("/var/tmp")?.keep();
        let disk = Self { root: root.canonicalize()? };
        let (image, path) = (disk.root.join("image"), disk.path());
        File::create(&image)?.set_len(bytes)?;
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image))?;
        fs::create_dir(&path)?;
        run(Command::new("mount").args(["-t", kind, "-o", "loop"]).arg(&image).arg(&path))?;
        Ok(disk)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.root.join("mounted")
    }

    /// A folder beside it, on the machine's own disk.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn beside(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// What is mounted or attached below it, itself aside.
    #[must_use]
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let own = self.path();
        let mounts = leftovers::mounts(&self.root).into_iter().filter(|path| *path != own);
        mounts.chain(leftovers::loops(&own)).collect()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for mount in leftovers::mounts(&self.root) {
            unmount(&mount, UnmountFlags::empty()).or_else(|_| unmount(&mount, UnmountFlags::DETACH)).ok();
            for device in leftovers::loops(&self.path()) {
                Command::new("losetup").arg("-d").arg(device).status().ok();
            }
        }
        if leftovers::mounts(&self.root).is_empty() {
            remove(&self.root);
        }
    }
}

fn remove(root: &Path) {
    fs::remove_dir_all(root).ok();
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
