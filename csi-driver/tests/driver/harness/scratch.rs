//! A scratch folder that is cleaned up however a test ends, and the plain tools.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::MIB;

/// A scratch folder. When it goes, so does everything that was mounted or attached
/// below it.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("holdfast-csi-").tempdir_in("/tmp").unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The mount points below, deepest last.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        text.lines()
            .filter_map(|line| line.split(' ').nth(4).map(unescaped))
            .filter(|point| point.starts_with(self.path()))
            .collect()
    }

    /// The loop devices whose files lie below.
    pub(crate) fn loops(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/sys/block").unwrap() {
            let path = entry.unwrap().path();
            if let Ok(backing) = fs::read_to_string(path.join("loop/backing_file"))
                && Path::new(backing.trim()).starts_with(self.path())
            {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
        found
    }
}

impl Scratch {
    pub(crate) fn unmount(&self, point: &Path) {
        assert!(point.starts_with(self.path()));
        rustix::mount::unmount(point, rustix::mount::UnmountFlags::NOFOLLOW).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for point in self.mounts().iter().rev() {
            // A driver that was not ended has the pool open for a moment more: the mount goes now
            // and the file system with its loop device when the driver has let go.
            let flags = rustix::mount::UnmountFlags::NOFOLLOW | rustix::mount::UnmountFlags::DETACH;
            let _ = rustix::mount::unmount(point, flags);
        }
        for name in self.loops() {
            let _ = command("losetup", &["-d", &format!("/dev/{name}")]);
        }
    }
}

/// A path of the mount table, where some characters are written as `\040` (proc_pid_mountinfo(5)).
fn unescaped(field: &str) -> PathBuf {
    let mut parts = field.split('\\');
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(3);
        path.push(char::from(u8::from_str_radix(code, 8).unwrap()));
        path.push_str(rest);
    }
    path.into()
}

/// Runs a tool to prepare or to check something; its stdout, or its stderr as error.
#[expect(clippy::disallowed_methods, reason = "tests prepare the machine with plain tools")]
pub(crate) fn command(program: &str, args: &[&str]) -> Result<String, String> {
    let output = std::process::Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// A file system of its own kind and of 512 MiB, mounted in the scratch folder; where.
pub(crate) fn filesystem(scratch: &Scratch, fs: &str) -> PathBuf {
    filesystem_of(scratch, fs, 512 * MIB)
}

/// As [`filesystem`], of so many bytes.
pub(crate) fn filesystem_of(scratch: &Scratch, fs: &str, bytes: i64) -> PathBuf {
    let image = scratch.path().join(format!("{fs}.img"));
    fs::File::create(&image).unwrap().set_len(bytes as u64).unwrap();
    command(&format!("mkfs.{fs}"), &["-q", image.to_str().unwrap()]).unwrap();
    let disk = scratch.path().join(format!("disk-{fs}"));
    fs::create_dir(&disk).unwrap();
    command("mount", &["-o", "loop", image.to_str().unwrap(), disk.to_str().unwrap()]).unwrap();
    disk
}
