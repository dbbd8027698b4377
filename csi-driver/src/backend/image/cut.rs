//! Copies of images at one moment: for snapshots, clones and restores.
//!
//! An image is copied while it may be in use. What its file system has in memory only is
//! written out by freezing it; a raw device has nothing above it that could be asked, so
//! its copy is what a power cut at that moment would have left.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    fs::{self as rfs, OFlags},
    io::Errno,
};

use super::{IMAGE, Image};
use crate::{
    backend::Cut,
    clock::Moment,
    error::{Error, Tried as _},
    kernel::{
        flags::MountOptions,
        freeze::{self, Mounted},
        loopdev::LoopDevice,
        mount, reflink, sparse,
    },
    pool::VolumeFolder,
    size::Bytes,
    step,
    volume::{Content, FsType},
};

/// How often a long copy says how far it is.
const WORD_EVERY: Duration = Duration::from_secs(5);

/// How a source is used now.
#[derive(Debug)]
enum Use {
    /// By nobody: nothing is in memory only, and nothing changes it.
    Idle,
    Mounted(Mounted),
    /// Attached and not mounted. Whether somebody can write is known.
    Attached {
        device: LoopDevice,
        writable: bool,
    },
}

/// One image that is being copied.
struct Copying<'a> {
    source: &'a VolumeFolder,
    from: OwnedFd,
    to: OwnedFd,
    used: Use,
}

/// Told for how long file systems were frozen.
type Observe<'a> = &'a dyn Fn(Duration);

/// Makes all copies at one moment, durably but for the folders they are in, which the
/// caller syncs.
pub(super) fn cut(cuts: &[Cut<'_>], share: bool, observe: Observe<'_>) -> Result<Moment, Error> {
    let all = cuts.iter().map(begin).collect::<Result<Vec<_>, Error>>()?;
    let moment = if share && shareable(&all)? { cut_shared(&all, observe)? } else { copy_idle(&all)? };
    for copying in &all {
        rfs::fsync(&copying.to).tried(|| "syncing the copy of an image".to_owned())?;
    }
    step::passed("image copied");
    Ok(moment)
}

fn begin<'a>(cut: &Cut<'a>) -> Result<Copying<'a>, Error> {
    let from = Image::open_image(cut.source)?;
    let to = cut.into.open_child(IMAGE, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
    Ok(Copying { source: cut.source, from, to, used: used(cut.source)? })
}

/// Whether source and copy lie on the same file system: between two pools they may not.
fn shareable(all: &[Copying<'_>]) -> Result<bool, Error> {
    let device = |file: &OwnedFd| rfs::fstat(file).map(|stat| stat.st_dev);
    all.iter()
        .try_fold(true, |all, copying| Ok(all && device(&copying.from)? == device(&copying.to)?))
        .map_err(|error: Errno| Error::Io { tried: "looking at an image".to_owned(), source: error.into() })
}

fn used(source: &VolumeFolder) -> Result<Use, Error> {
    let Some(device) = Image::find_device(source)? else { return Ok(Use::Idle) };
    // The driver attaches no snapshot, so somebody else did.
    if source.is_snapshot()? {
        return match device.is_read_only()? {
            true => Ok(Use::Idle),
            false => Err(Error::Precondition(format!(
                "{} is a snapshot, and {} is attached to it and can be written to, not by this driver; detach that \
                 (losetup --detach)",
                source.path().display(),
                device.path.display()
            ))),
        };
    }
    match source.read_volume()?.content {
        Content::Filesystem(fs) => match Mounted::of(fs, &device)? {
            Some(mounted) => Ok(Use::Mounted(mounted)),
            None if device.is_claimed()? => Err(Error::Precondition(format!(
                "{} is in use where this driver does not see it (another mount namespace, or a mkfs that is not \
                 done): it cannot be frozen there; unmount it there, or try again later",
                source.path().display()
            ))),
            None => Ok(Use::Attached { device, writable: false }),
        },
        Content::Block | Content::Folder => {
            let writable = !device.is_read_only()?;
            Ok(Use::Attached { device, writable })
        }
    }
}

/// Copies images that nobody uses, byte by byte.
fn copy_idle(all: &[Copying<'_>]) -> Result<Moment, Error> {
    if let Some(copying) = all.iter().find(|copying| !matches!(copying.used, Use::Idle)) {
        return Err(Error::Precondition(format!(
            "{} is staged, and between these file systems blocks cannot be shared: copying takes too long to hold \
             it still; unstage it first (stop its pods), or keep such volumes in a pool on xfs or btrfs",
            copying.source.path().display()
        )));
    }
    let moment = Moment::now();
    for copying in all {
        let total = sparse::data(&copying.from)?;
        let mut last_word = Instant::now();
        sparse::copy(&copying.from, &copying.to, |copied| {
            step::passed("piece of an image copied");
            if last_word.elapsed() >= WORD_EVERY {
                last_word = Instant::now();
                tracing::info!(source = %copying.source.path().display(), copied = %Bytes(copied), of = %Bytes(total),
                    "copying");
            }
        })?;
    }
    Ok(moment)
}

/// Lets the copies share the blocks of their sources, while nothing changes in these.
fn cut_shared(all: &[Copying<'_>], observe: Observe<'_>) -> Result<Moment, Error> {
    let mut mounted = Vec::new();
    let mut writable = 0;
    for copying in all {
        match &copying.used {
            Use::Idle => {}
            Use::Mounted(at) => {
                at.sync()?;
                mounted.push((copying.source, at.clone()));
            }
            Use::Attached { device, writable: true } => {
                device.sync()?;
                writable += 1;
            }
            Use::Attached { device, writable: false } => device.sync()?,
        }
        // What the device wrote without direct I/O is not to be waited for in the freeze.
        rfs::fdatasync(&copying.from).tried(|| "syncing an image before it is copied".to_owned())?;
    }
    // The file system copies one file at one moment, and nothing holds a raw device still
    // between the first and the second: one of them at most, with all others frozen.
    if writable > 1 {
        return Err(Error::Precondition(format!(
            "{writable} of the volumes are raw devices in use: they cannot be cut at one moment; unstage all but \
             one of them, or snapshot them one by one"
        )));
    }
    let share = || {
        let moment = Moment::now();
        for copying in all {
            if !reflink::clone_file(&copying.from, &copying.to)? {
                return Err(Error::Unsupported(format!(
                    "the file system of the pool does not share the blocks of {}",
                    copying.source.path().display()
                )));
            }
        }
        Ok(moment)
    };
    if mounted.is_empty() {
        return share();
    }
    let journals = Journals::mark(mounted.iter().map(|(source, _)| *source))?;
    let at: Vec<Mounted> = mounted.into_iter().map(|(_, at)| at).collect();
    let began = Instant::now();
    let cut = freeze::while_frozen(&at, share);
    // One that was ended because it took too long held them up as well.
    observe(cut.as_ref().map_or_else(|_| began.elapsed(), |(_, held)| *held));
    journals.unmark();
    let (moment, held) = cut?;
    tracing::info!(volumes = all.len(), frozen_ms = held.as_secs_f64() * 1000.0, "copied while frozen");
    Ok(moment)
}

/// The journals that say that their volumes are frozen.
struct Journals<'a>(Vec<&'a VolumeFolder>);

impl<'a> Journals<'a> {
    /// A crash from here on leaves what [`thaw`] is called for at the next start.
    fn mark(sources: impl Iterator<Item = &'a VolumeFolder>) -> Result<Self, Error> {
        let mut marked = Self(Vec::new());
        for source in sources {
            if let Err(error) = say_frozen(source, true) {
                marked.unmark();
                return Err(error);
            }
            marked.0.push(source);
        }
        Ok(marked)
    }

    /// To be called when nothing is frozen any more. A mark that stays costs nothing: what
    /// is not frozen cannot be thawed.
    fn unmark(self) {
        for source in self.0 {
            if let Err(error) = say_frozen(source, false) {
                tracing::warn!(folder = %source.path().display(), %error, "the journal still says frozen");
            }
        }
    }
}

fn say_frozen(source: &VolumeFolder, frozen: bool) -> Result<(), Error> {
    let mut journal = source.read_journal()?;
    if journal.frozen != frozen {
        journal.frozen = frozen;
        if frozen {
            source.write_journal(&journal)?;
        } else {
            source.shorten_journal(&journal)?;
        }
    }
    Ok(())
}

/// Ends a freeze that a crash left. Nothing if there is none.
pub(super) fn thaw(folder: &VolumeFolder) -> Result<(), Error> {
    let Content::Filesystem(fs) = folder.read_volume()?.content else { return Ok(()) };
    let Some(device) = Image::find_device(folder)? else { return Ok(()) };
    match Mounted::of(fs, &device)? {
        Some(mounted) => mounted.thaw(),
        // Unmounted while it was frozen: the freeze keeps it alive, and a new mount reaches it.
        None if device.is_claimed()? => thaw_unmounted(fs, &device),
        None => Ok(()),
    }
}

fn thaw_unmounted(fs: FsType, device: &LoopDevice) -> Result<(), Error> {
    let mount = mount::mount_nowhere(fs, &device.path, &MountOptions::default())?;
    Mounted::nowhere(device, &mount)?.thaw()
}
