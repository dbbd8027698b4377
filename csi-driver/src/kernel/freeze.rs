//! Holding mounted file systems still while they are copied.
//!
//! A freeze stops every program that writes there, and it outlives the process that made
//! it. So it ends on every way out of here, after [`LONGEST`] at the latest whatever the
//! copying does, and who calls this records it before, for the driver that comes after a
//! crash.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use rustix::{
    fs::{self as rfs, AtFlags, Mode, OFlags, StatxFlags},
    io::Errno,
};

use super::{loopdev::LoopDevice, mountinfo, raw};
use crate::{
    error::{Error, Tried as _},
    step,
    volume::FsType,
};

/// No freeze lasts longer.
const LONGEST: Duration = Duration::from_secs(10);

/// A mounted file system.
#[derive(Debug, Clone)]
pub(crate) struct Mounted {
    /// For messages.
    name: String,
    root: Arc<OwnedFd>,
}

impl Mounted {
    /// Where the file system of a device is mounted in this process's namespace, and can be
    /// reached.
    pub(crate) fn of(fs: FsType, device: &LoopDevice) -> Result<Option<Self>, Error> {
        for mount in mountinfo::all()?.into_iter().filter(|mount| mount.fs_type == fs.as_str()) {
            // btrfs shows a device number of its own; the source names the real one.
            if mount.device_number() != Some(device.rdev) && mount.source != device.path {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let tried = || format!("opening {}", mount.mount_point.display());
            let root = match rfs::open(&mount.mount_point, flags, Mode::empty()) {
                // Something else is mounted over a folder above it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                root => root.tried(tried)?,
            };
            let seen = rfs::statx(&root, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).tried(tried)?;
            // Something else is mounted over it; it may be mounted elsewhere too.
            if seen.stx_mnt_id == mount.id {
                let name = mount.mount_point.display().to_string();
                return Ok(Some(Self { name, root: Arc::new(root) }));
            }
        }
        Ok(None)
    }

    /// One that is mounted nowhere.
    pub(crate) fn nowhere(device: &LoopDevice, mount: &OwnedFd) -> Result<Self, Error> {
        let name = device.path.display().to_string();
        let root =
            rfs::openat(mount, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .tried(|| format!("opening the file system on {name}"))?;
        Ok(Self { name, root: Arc::new(root) })
    }

    /// Writes out what is only in memory, so that a freeze has little left to do.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        rfs::syncfs(&self.root).tried(|| format!("syncing {}", self.name))
    }

    fn freeze(&self) -> Result<(), Error> {
        match raw::fs_freeze(self.root.as_fd()) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(Error::Precondition(format!(
                "the file system at {0} is frozen by someone else; thaw it (fsfreeze --unfreeze {0})",
                self.name
            ))),
            frozen => frozen.tried(|| format!("freezing {}", self.name)),
        }
    }

    /// Ends a freeze; nothing if there is none.
    pub(crate) fn thaw(&self) -> Result<(), Error> {
        match raw::fs_thaw(self.root.as_fd()) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            thawed => thawed.tried(|| format!("thawing {}", self.name)),
        }
    }
}

/// Runs `work` while nothing can change in any of the file systems, and says how long they
/// were held. Where that took too long, what `work` did is worth nothing and is an error.
pub(crate) fn while_frozen<T>(
    all: &[Mounted],
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<(T, Duration), Error> {
    within(LONGEST, all, work)
}

fn within<T>(
    longest: Duration,
    all: &[Mounted],
    work: impl FnOnce() -> Result<T, Error>,
) -> Result<(T, Duration), Error> {
    let began = Instant::now();
    let hold = Hold::begin(began + longest)?;
    for mounted in all {
        hold.add(mounted)?;
    }
    step::passed("file systems frozen");
    let done = work();
    hold.end()?;
    step::passed("file systems thawed");
    Ok((done?, began.elapsed()))
}

/// What is frozen now. Thaws it when dropped.
struct Hold(Arc<(Mutex<State>, Condvar)>);

enum State {
    Holding(Vec<(String, Arc<OwnedFd>)>),
    /// The watch has ended it.
    TooLong,
    Over,
}

impl State {
    /// Thaws everything. Nothing stays in the list.
    fn thaw(&mut self, after: Self) -> io::Result<()> {
        let Self::Holding(all) = std::mem::replace(self, after) else { return Ok(()) };
        let thawed: Vec<_> = all.into_iter().map(|(name, root)| (name, raw::fs_thaw(root.as_fd()))).collect();
        // Only now: the log may lie where nothing could be written before.
        let mut result = Ok(());
        for (name, thawed) in thawed {
            if let Err(error) = thawed {
                tracing::error!(%name, %error, "a frozen file system cannot be thawed");
                result = Err(error);
            }
        }
        result
    }
}

impl Hold {
    fn begin(until: Instant) -> Result<Self, Error> {
        let shared = Arc::new((Mutex::new(State::Holding(Vec::new())), Condvar::new()));
        let watched = shared.clone();
        // A thread of its own, made before the first freeze: it depends on nothing that a
        // frozen file system may hold.
        thread::Builder::new()
            .name("freeze-watch".to_owned())
            .spawn(move || watch(&watched, until))
            .tried(|| "starting the watch over a freeze".to_owned())?;
        Ok(Self(shared))
    }

    /// Freezes one more.
    fn add(&self, mounted: &Mounted) -> Result<(), Error> {
        // Without the lock: while this one waits for its writers, the watch can end the others.
        mounted.freeze()?;
        let mut state = self.0.0.lock();
        if let State::Holding(all) = &mut *state {
            all.push((mounted.name.clone(), mounted.root.clone()));
            return Ok(());
        }
        drop(state);
        mounted.thaw()?;
        Err(too_long())
    }

    fn end(self) -> Result<(), Error> {
        let mut state = self.0.0.lock();
        if matches!(*state, State::TooLong) {
            return Err(too_long());
        }
        state.thaw(State::Over).tried(|| "thawing what was frozen for a snapshot".to_owned())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // What cannot be thawed is in the log already, and in the volumes' journals.
        let _ = self.0.0.lock().thaw(State::Over);
        self.0.1.notify_all();
    }
}

fn watch(shared: &(Mutex<State>, Condvar), until: Instant) {
    let (state, over) = shared;
    let mut state = state.lock();
    while matches!(*state, State::Holding(_)) {
        if over.wait_until(&mut state, until).timed_out() && matches!(*state, State::Holding(_)) {
            let thawed = state.thaw(State::TooLong);
            tracing::error!(thawed = thawed.is_ok(), "a freeze was ended because it took too long");
        }
    }
}

fn too_long() -> Error {
    Error::Io {
        tried: "cutting a snapshot while its file systems are frozen".to_owned(),
        source: io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "it took longer than {} s, and nothing was cut: the pool's disk is too slow now (try again), or an image lies \
                 in hundreds of thousands of pieces (`filefrag` counts them; copy its data into a new volume)",
                LONGEST.as_secs()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use holdfast_test_needs::{Need, missing};

    use super::*;
    use crate::kernel::{
        flags::MountOptions,
        loopdev::{self, Detach, Sector},
        mount,
    };

    /// A mounted ext4 that nobody else sees; it goes with the answer.
    #[expect(clippy::disallowed_methods, reason = "a test makes a real file system with the plain tool")]
    fn scratch() -> (LoopDevice, OwnedFd, Mounted) {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(32 << 20).unwrap();
        let made =
            std::process::Command::new("mkfs.ext4").args(["-q", "-b", "4096"]).arg(image.path()).status();
        assert!(made.unwrap().success());
        let backing = OwnedFd::from(image.reopen().unwrap());
        let device = loopdev::attach(&backing, Sector::Bytes4096, Detach::WithLastUser, false).unwrap();
        let mount = mount::mount_nowhere(FsType::Ext4, &device.path, &MountOptions::default()).unwrap();
        let mounted = Mounted::nowhere(&device, &mount).unwrap();
        (device, mount, mounted)
    }

    fn write(mount: &OwnedFd, text: &str) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let mut file = File::from(rfs::openat(mount, "file", flags, Mode::RUSR).unwrap());
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn it_ends_on_every_way_out() {
        if missing(&[Need::Root, Need::LoopDevices, Need::FileSystem("ext4")]) {
            return;
        }
        let (_device, mount, mounted) = scratch();
        let all = [mounted.clone()];
        let frozen = || matches!(mounted.freeze(), Err(Error::Precondition(_)));
        assert!(while_frozen(&all, || Ok(frozen())).unwrap().0, "it was not frozen");
        write(&mount, "after success");
        assert!(while_frozen(&all, || Err::<(), _>(Error::Lost("on purpose".to_owned()))).is_err());
        write(&mount, "after an error");
        // The second of two cannot be frozen: the first is thawed.
        assert!(while_frozen(&[mounted.clone(), mounted.clone()], || Ok(())).is_err());
        write(&mount, "after half of it");
        let panicked = thread::scope(|scope| {
            scope.spawn(|| while_frozen(&all, || -> Result<(), Error> { panic!("on purpose") })).join()
        });
        assert!(panicked.is_err());
        write(&mount, "after a panic");
    }

    /// What is copied waits for what is frozen: only the watch can end that.
    #[test]
    fn the_watch_ends_what_takes_too_long() {
        if missing(&[Need::Root, Need::LoopDevices, Need::FileSystem("ext4")]) {
            return;
        }
        let (_device, mount, mounted) = scratch();
        let result = within(Duration::from_millis(200), &[mounted], || {
            write(&mount, "waits");
            Ok(())
        });
        let error = result.unwrap_err();
        assert!(error.to_string().contains("took longer"), "{error}");
        write(&mount, "after it");
    }
}
