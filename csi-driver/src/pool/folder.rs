//! The folder of one volume or one snapshot: its metadata, and access to the data beside
//! it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self as rfs, AtFlags, Mode, OFlags, RenameFlags, ResolveFlags},
    io::Errno,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, Tried as _},
    kernel,
    snapshot::Snapshot,
    step,
    volume::{NodeJournal, Volume},
};

/// What the driver knows of a volume, durable.
const VOLUME_FILE: &str = "volume.json";
/// What the driver knows of a snapshot, durable.
const SNAPSHOT_FILE: &str = "snapshot.json";
/// What the node side did since the machine started; need not outlive a power cut.
const NODE_FILE: &str = "node.json";

/// An opened folder of a volume or a snapshot.
#[derive(Debug)]
pub(crate) struct VolumeFolder {
    pub(super) fd: OwnedFd,
    path: PathBuf,
}

impl VolumeFolder {
    /// Opens the folder `name` in `parent`, which lies at `parent_path`. `None` only
    /// when the file system says that there is none.
    pub(super) fn open(parent: &OwnedFd, parent_path: &Path, name: &str) -> Result<Option<Self>, Error> {
        let path = parent_path.join(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rfs::openat2(parent, name, flags, Mode::empty(), inside()) {
            Ok(fd) => Ok(Some(Self { fd, path })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).tried(|| format!("opening {}", path.display())),
        }
    }

    /// Where the folder is, for messages and outside commands.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is known not to be at its path any more: deleted, that is in the trash, or moved.
    pub(crate) fn is_elsewhere(&self) -> bool {
        let own = rfs::fstat(&self.fd).map(|stat| (stat.st_dev, stat.st_ino));
        match rfs::lstat(&self.path).map(|stat| (stat.st_dev, stat.st_ino)) {
            Err(Errno::NOENT) => true,
            found => own.is_ok() && found.is_ok() && own != found,
        }
    }

    /// The path of a file or folder in it.
    pub(crate) fn child(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a file or folder in it; never through a link or into a mount.
    pub(crate) fn open_child(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Error> {
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o600) } else { Mode::empty() };
        rfs::openat2(&self.fd, name, flags | OFlags::CLOEXEC, mode, inside())
            .tried(|| format!("opening {}", self.child(name).display()))
    }

    /// As [`VolumeFolder::open_child`]; `None` only when the file system says that there is none.
    pub(crate) fn try_open_child(&self, name: &str, flags: OFlags) -> Result<Option<OwnedFd>, Error> {
        match self.open_child(name, flags) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Gives a file in it the name of another, which is gone then, durably.
    pub(crate) fn rename_child(&self, from: &str, to: &str) -> Result<(), Error> {
        rfs::renameat(&self.fd, from, &self.fd, to)
            .tried(|| format!("renaming to {}", self.child(to).display()))?;
        step::passed("file renamed into place");
        self.sync()
    }

    /// Removes a file in it, if it is there.
    pub(crate) fn remove_child(&self, name: &str) -> Result<(), Error> {
        match rfs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error).tried(|| format!("removing {}", self.child(name).display())),
        }
    }

    /// Makes a folder in it, open to everybody who can reach it: who may, the
    /// orchestrator decides when it publishes the volume.
    pub(crate) fn make_folder(&self, name: &str) -> Result<(), Error> {
        rfs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))
            .tried(|| format!("making {}", self.child(name).display()))?;
        step::passed("folder made");
        Ok(())
    }

    /// Reads `volume.json`. That it is missing or unreadable is damage, for a volume's
    /// folder appears with it inside.
    pub(crate) fn read_volume(&self) -> Result<Volume, Error> {
        self.read(VOLUME_FILE)?.ok_or_else(|| Error::Corrupt {
            path: self.path.clone(),
            reason: format!("it has no {VOLUME_FILE}"),
        })
    }

    /// The volume, or `None` where what the driver wrote of it is damaged: it can be taken away
    /// from its pods all the same, by the journal and by what the kernel says.
    pub(crate) fn read_volume_even_damaged(&self) -> Result<Option<Volume>, Error> {
        match self.read_volume() {
            Err(error @ Error::Corrupt { .. }) => {
                tracing::warn!(%error, "taking away a volume that is damaged");
                Ok(None)
            }
            volume => volume.map(Some),
        }
    }

    /// Writes `volume.json` so that after a crash or a power cut the old or the new
    /// content is there, whole.
    pub(crate) fn write_volume(&self, volume: &Volume) -> Result<(), Error> {
        self.write(VOLUME_FILE, volume, true)
    }

    /// Reads `snapshot.json`, as [`VolumeFolder::read_volume`] does.
    pub(crate) fn read_snapshot(&self) -> Result<Snapshot, Error> {
        match self.read(SNAPSHOT_FILE) {
            Ok(Some(snapshot)) => Ok(snapshot),
            Ok(None) => Err(Error::CorruptSnapshot {
                path: self.path.clone(),
                reason: format!("it has no {SNAPSHOT_FILE}"),
            }),
            Err(Error::Corrupt { path, reason }) => Err(Error::CorruptSnapshot { path, reason }),
            Err(error) => Err(error),
        }
    }

    /// Whether it is a snapshot's, and not a volume's.
    pub(crate) fn is_snapshot(&self) -> Result<bool, Error> {
        Ok(self.try_open_child(SNAPSHOT_FILE, OFlags::PATH)?.is_some())
    }

    /// Writes `snapshot.json` into a folder that does not have it yet.
    pub(super) fn write_snapshot(&self, snapshot: &Snapshot) -> Result<(), Error> {
        self.write(SNAPSHOT_FILE, snapshot, true)
    }

    /// Reads the node's journal. One from another boot, or one that a power cut
    /// damaged, speaks of mounts that are gone: it counts as empty.
    pub(crate) fn read_journal(&self) -> Result<NodeJournal, Error> {
        let boot = kernel::boot_id()?;
        let journal = self.read_journal_of_any_boot()?;
        if journal.boot == boot { Ok(journal) } else { Ok(NodeJournal { boot, ..NodeJournal::default() }) }
    }

    /// The node's journal as it was written, by whichever boot: the folders and files that were made
    /// to mount on are there still. One that is damaged counts as empty.
    pub(crate) fn read_journal_of_any_boot(&self) -> Result<NodeJournal, Error> {
        match self.read::<NodeJournal>(NODE_FILE) {
            Ok(journal) => Ok(journal.unwrap_or_default()),
            Err(Error::Corrupt { path, reason }) => {
                tracing::warn!(path = %path.display(), %reason, "the node's journal is damaged; the mount table decides");
                Ok(NodeJournal::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the node's journal: whole after the end of this process, not
    /// necessarily after a power cut, which takes the mounts away as well.
    pub(crate) fn write_journal(&self, journal: &NodeJournal) -> Result<(), Error> {
        self.write(NODE_FILE, journal, false)
    }

    /// Makes what was done in the folder durable.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        rfs::fsync(&self.fd).tried(|| format!("syncing {}", self.path.display()))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        read_json(&self.fd, &self.path, name)
    }

    /// As [`VolumeFolder::write_journal`], where something was only taken out. A path in the
    /// journal that is not mounted says nothing, so a file system that is full or read-only
    /// keeps the record and holds up nobody who unmounts.
    pub(crate) fn shorten_journal(&self, journal: &NodeJournal) -> Result<(), Error> {
        let says_nothing = NodeJournal { boot: journal.boot.clone(), ..NodeJournal::default() };
        let shortened =
            if *journal == says_nothing { self.remove_journal() } else { self.write_journal(journal) };
        match shortened {
            Err(error) if error.is_of_storage() => {
                tracing::warn!(%error, "the journal names a path that is not in use any more");
                Ok(())
            }
            shortened => shortened,
        }
    }

    /// Gives its blocks back, with which a full file system can note that the volume is
    /// detached.
    fn remove_journal(&self) -> Result<(), Error> {
        for name in [NODE_FILE.to_owned(), new_name(NODE_FILE)] {
            match rfs::unlinkat(&self.fd, &name, AtFlags::empty()) {
                Ok(()) => step::passed("journal removed"),
                Err(Errno::NOENT) => {}
                Err(error) => {
                    return Err(error).tried(|| format!("removing {}", self.child(&name).display()));
                }
            }
        }
        Ok(())
    }

    fn write<T: Serialize>(&self, name: &str, value: &T, durable: bool) -> Result<(), Error> {
        replace_json(&self.fd, &self.path, name, value, durable, Old::Stays)
    }
}

/// Paths are resolved inside a folder only.
pub(crate) fn inside() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV
}

/// Reads a JSON file in an opened folder; `None` when there is none.
pub(super) fn read_json<T: DeserializeOwned>(
    folder: &OwnedFd,
    folder_path: &Path,
    name: &str,
) -> Result<Option<T>, Error> {
    let path = folder_path.join(name);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let mut file = match rfs::openat2(folder, name, flags, Mode::empty(), inside()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error).tried(|| format!("opening {}", path.display())),
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text).tried(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| Error::Corrupt { path, reason: error.to_string() })
}

/// Writes a JSON file beside the old one and renames it into place.
pub(super) fn write_json<T: Serialize>(
    folder: &OwnedFd,
    folder_path: &Path,
    name: &str,
    value: &T,
    durable: bool,
) -> Result<(), Error> {
    replace_json(folder, folder_path, name, value, durable, Old::Goes)
}

/// What becomes of the file that was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Old {
    Goes,
    /// It stays beside the new one, and the next text is written over it: on a file system
    /// that is full to the last block, what was written once can still be written.
    Stays,
}

fn new_name(name: &str) -> String {
    format!("{name}.new")
}

fn replace_json<T: Serialize>(
    folder: &OwnedFd,
    folder_path: &Path,
    name: &str,
    value: &T,
    durable: bool,
    old: Old,
) -> Result<(), Error> {
    let path = folder_path.join(name);
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::Corrupt { path: path.clone(), reason: error.to_string() })?;
    // A crash before the rename leaves this file, with any content: nobody reads it.
    let new = new_name(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let fd = rfs::openat2(folder, &new, flags, Mode::from_raw_mode(0o600), inside())
        .tried(|| format!("making {}", folder_path.join(&new).display()))?;
    let mut file = File::from(fd);
    // Shortened after, not before: its blocks are kept.
    file.write_all(&text)
        .and_then(|()| file.set_len(text.len() as u64))
        .tried(|| format!("writing {}", folder_path.join(&new).display()))?;
    if durable {
        rfs::fsync(file.as_fd()).tried(|| format!("syncing {}", folder_path.join(&new).display()))?;
    }
    step::passed("json written beside the old one");
    let exchanged = match old {
        Old::Goes => false,
        Old::Stays => match rfs::renameat_with(folder, &new, folder, name, RenameFlags::EXCHANGE) {
            Ok(()) => true,
            // There is no old one yet, or this file system exchanges nothing.
            Err(Errno::NOENT | Errno::INVAL) => false,
            Err(error) => return Err(error).tried(|| format!("renaming to {}", path.display())),
        },
    };
    if !exchanged {
        rfs::renameat(folder, &new, folder, name).tried(|| format!("renaming to {}", path.display()))?;
    }
    step::passed("json renamed into place");
    if durable {
        rfs::fsync(folder).tried(|| format!("syncing {}", folder_path.display()))?;
    }
    Ok(())
}
