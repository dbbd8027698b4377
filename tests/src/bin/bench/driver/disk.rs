//! File systems of the benchmark's own, on loop devices.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// A folder that goes with everything mounted and attached below it.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Not in /tmp: on many machines that is a tmpfs, which has no direct I/O.
    pub(super) fn new() -> Result<Self> {
        Ok(Self(tempfile::Builder::new().prefix("holdfast-bench-").tempdir_in("/var/tmp")?.keep()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// A folder in it.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// A new file system of so many GiB, mounted; where.
    pub(super) fn disk(&self, fs: &str, gibibytes: u64) -> Result<PathBuf> {
        let image = self.0.join(format!("{fs}.img"));
        fs::File::create(&image)?.set_len(gibibytes << 30)?;
        let place = self.folder(&format!("disk-{fs}"))?;
        run(&format!("mkfs.{fs}"), &[Path::new("-q"), &image])?;
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_path(), &place])?;
        Ok(place)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4).map(PathBuf::from))
            .filter(|path| path.starts_with(&self.0));
        for path in below.collect::<Vec<_>>().iter().rev() {
            let _ = run("umount", &[path.as_path()]);
            let _ = detach_below(&self.0);
        }
        let _ = run("rm", &["-rf".as_ref(), "--one-file-system".as_ref(), self.0.as_path()]);
    }
}

/// Detaches the loop devices whose files lie in the folder.
fn detach_below(folder: &Path) -> Result<()> {
    for entry in fs::read_dir("/sys/block")? {
        let path = entry?.path();
        let Ok(backing) = fs::read_to_string(path.join("loop/backing_file")) else { continue };
        if Path::new(backing.trim()).starts_with(folder)
            && let Some(name) = path.file_name()
        {
            run("losetup", &["-d".as_ref(), Path::new("/dev").join(name).as_path()])?;
        }
    }
    Ok(())
}

/// Runs a program to its end.
pub(super) fn run(program: &str, arguments: &[&Path]) -> Result<()> {
    let mut command = Command::new(program);
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        bail!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
