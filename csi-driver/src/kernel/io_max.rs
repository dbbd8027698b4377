//! Limits on what a block device may read and write in a second: the file `io.max` of a
//! cgroup v2 (Linux, Documentation/admin-guide/cgroup-v2.rst, "IO Interface Files"). A limit
//! holds for everything that runs in the cgroup and below it, together.
//!
//! The kernel keeps a limit under the device's number, whatever is attached to that later:
//! who leaves a loop device takes the limit away first.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self as rfs, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{
    error::{Error, Tried as _},
    mutable::IoLimits,
    step,
};

/// linux/magic.h, CGROUP2_SUPER_MAGIC.
const CGROUP2: u64 = 0x6367_7270;
const IO_MAX: &str = "io.max";
/// The major number of loop devices (Documentation/admin-guide/devices.txt).
const LOOP_MAJOR: u32 = 7;

/// The cgroup below which all users of a pool's volumes run.
#[derive(Debug)]
pub(crate) struct IoGroup {
    path: PathBuf,
}

impl IoGroup {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Whether limits can be set here; the error says what is missing.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.open(OFlags::WRONLY).map(drop)
    }

    /// Sets all four limits of a device at once; those that are `None` are taken away.
    pub(crate) fn set(&self, device: u64, limits: &IoLimits) -> Result<(), Error> {
        let (major, minor) = (rfs::major(device), rfs::minor(device));
        let line = line(major, minor, limits);
        // One write is one change, all or nothing.
        self.open(OFlags::WRONLY)?
            .write_all(line.as_bytes())
            .tried(|| format!("writing {line:?} to {}", self.path.join(IO_MAX).display()))?;
        step::passed("io limits set");
        Ok(())
    }

    /// Takes all limits of a device away; where there is no cgroup there are none.
    pub(crate) fn clear(&self, device: u64) -> Result<(), Error> {
        match self.set(device, &IoLimits::default()) {
            Err(Error::Precondition(_)) => Ok(()),
            cleared => cleared,
        }
    }

    /// Takes away the limits of loop devices that stand on no file: left by a crash or by
    /// somebody's unmount, they would hold for whatever is attached there next.
    pub(crate) fn clear_unused(&self) -> Result<(), Error> {
        let mut text = String::new();
        match self.open(OFlags::RDONLY) {
            Ok(mut file) => file
                .read_to_string(&mut text)
                .tried(|| format!("reading {}", self.path.join(IO_MAX).display()))?,
            Err(Error::Precondition(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        for minor in limited_loops(&text) {
            let backing = format!("/sys/dev/block/{LOOP_MAJOR}:{minor}/loop/backing_file");
            // Only that it is not there says so.
            if std::fs::symlink_metadata(backing).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
                self.clear(rfs::makedev(LOOP_MAJOR, minor))?;
            }
        }
        Ok(())
    }

    fn open(&self, mode: OFlags) -> Result<File, Error> {
        let shown = self.path.display();
        let absent =
            |what: String| Err(Error::Precondition(format!("{what}; correct io_cgroup of the pool")));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let folder: OwnedFd = match rfs::openat2(rfs::CWD, &self.path, flags, Mode::empty(), resolve) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR) => return absent(format!("there is no cgroup {shown}")),
            Err(Errno::LOOP) => return absent(format!("{shown} leads over a symbolic link")),
            Err(error) => return Err(error).tried(|| format!("opening {shown}")),
        };
        let fs = rfs::fstatfs(&folder).tried(|| format!("looking at {shown}"))?;
        if u64::try_from(fs.f_type) != Ok(CGROUP2) {
            return absent(format!("{shown} is no cgroup v2"));
        }
        match rfs::openat(&folder, IO_MAX, mode | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => Ok(file.into()),
            Err(Errno::NOENT) => Err(Error::Precondition(format!(
                "the io controller is not there in {shown} (no file {IO_MAX}): enable it with `echo +io > \
                 cgroup.subtree_control` in the cgroup above, where its cgroup.controllers names io"
            ))),
            Err(error) => Err(error).tried(|| format!("opening {}", self.path.join(IO_MAX).display())),
        }
    }
}

/// What is written to set the limits of one device.
fn line(major: u32, minor: u32, limits: &IoLimits) -> String {
    let text = |limit: Option<u64>| limit.map_or_else(|| "max".to_owned(), |limit| limit.to_string());
    format!(
        "{major}:{minor} rbps={} wbps={} riops={} wiops={}",
        text(limits.bandwidth_read),
        text(limits.bandwidth_write),
        // The kernel has 32 bits for these; that many nobody does in a second.
        text(limits.iops_read.filter(|iops| *iops < u64::from(u32::MAX))),
        text(limits.iops_write.filter(|iops| *iops < u64::from(u32::MAX)))
    )
}

/// The loop devices that `text`, the content of `io.max`, has limits for, by minor number.
fn limited_loops(text: &str) -> impl Iterator<Item = u32> {
    text.lines().filter_map(|line| {
        let (major, minor) = line.split_whitespace().next()?.split_once(':')?;
        (major.parse() == Ok(LOOP_MAJOR)).then_some(())?;
        minor.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_sets_and_takes_away() {
        let limits = IoLimits { iops_read: Some(100), bandwidth_write: Some(1 << 20), ..IoLimits::default() };
        assert_eq!(line(7, 3, &limits), "7:3 rbps=max wbps=1048576 riops=100 wiops=max");
        assert_eq!(line(7, 300, &IoLimits::default()), "7:300 rbps=max wbps=max riops=max wiops=max");
        let many = IoLimits { iops_write: Some(1 << 40), ..IoLimits::default() };
        assert_eq!(line(7, 0, &many), line(7, 0, &IoLimits::default()));
    }

    #[test]
    fn only_loop_devices_are_looked_at() {
        let text = "8:0 rbps=1 wbps=max riops=max wiops=max\n7:12 rbps=max wbps=2 riops=3 wiops=max\n\n259:7 x\n7:0 y\n";
        assert_eq!(limited_loops(text).collect::<Vec<_>>(), [12, 0]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let said = |path: &Path| match IoGroup::new(path).check() {
            Err(Error::Precondition(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(said(Path::new("/nowhere/x")).contains("there is no cgroup /nowhere/x"));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(IO_MAX), "").unwrap();
        assert!(said(folder.path()).contains("is no cgroup v2"));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/sys/fs/cgroup", &link).unwrap();
        assert!(said(&link).contains("symbolic link"));
        // Nothing is there, so nothing is limited.
        IoGroup::new(folder.path()).clear(rfs::makedev(7, 0)).unwrap();
        IoGroup::new(folder.path()).clear_unused().unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join(IO_MAX)).unwrap(), "");
    }
}
