//! The folder of one volume or one snapshot: its metadata, and access to the data beside
//! it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self as rfs, Mode, OFlags, ResolveFlags},
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

    /// Writes `volume.json` so that after a crash or a power cut the old or the new
    /// content is there, whole.
    pub(crate) fn write_volume(&self, volume: &Volume) -> Result<(), Error> {
        self.write(VOLUME_FILE, volume, true)
    }

    /// Reads `snapshot.json`, as [`VolumeFolder::read_volume`] does.
    pub(crate) fn read_snapshot(&self) -> Result<Snapshot, Error> {
        self.read(SNAPSHOT_FILE)?.ok_or_else(|| Error::Corrupt {
            path: self.path.clone(),
            reason: format!("it has no {SNAPSHOT_FILE}"),
        })
    }

    /// Writes `snapshot.json` into a folder that does not have it yet.
    pub(super) fn write_snapshot(&self, snapshot: &Snapshot) -> Result<(), Error> {
        self.write(SNAPSHOT_FILE, snapshot, true)
    }

    /// Reads the node's journal. One from another boot, or one that a power cut
    /// damaged, speaks of mounts that are gone: it counts as empty.
    pub(crate) fn read_journal(&self) -> Result<NodeJournal, Error> {
        let boot = kernel::boot_id()?;
        let journal = match self.read::<NodeJournal>(NODE_FILE) {
            Ok(journal) => journal.unwrap_or_default(),
            Err(Error::Corrupt { path, reason }) => {
                tracing::warn!(path = %path.display(), %reason, "the node's journal is damaged; the mount table decides");
                NodeJournal::default()
            }
            Err(error) => return Err(error),
        };
        if journal.boot == boot { Ok(journal) } else { Ok(NodeJournal { boot, ..NodeJournal::default() }) }
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

    fn write<T: Serialize>(&self, name: &str, value: &T, durable: bool) -> Result<(), Error> {
        write_json(&self.fd, &self.path, name, value, durable)
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
    let path = folder_path.join(name);
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::Corrupt { path: path.clone(), reason: error.to_string() })?;
    // A crash before the rename leaves this file; the next write truncates it.
    let new = format!("{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let fd = rfs::openat2(folder, &new, flags, Mode::from_raw_mode(0o600), inside())
        .tried(|| format!("making {}", folder_path.join(&new).display()))?;
    let mut file = File::from(fd);
    file.write_all(&text).tried(|| format!("writing {}", folder_path.join(&new).display()))?;
    if durable {
        rfs::fsync(file.as_fd()).tried(|| format!("syncing {}", folder_path.join(&new).display()))?;
    }
    step::passed("json written beside the old one");
    rfs::renameat(folder, &new, folder, name).tried(|| format!("renaming to {}", path.display()))?;
    step::passed("json renamed into place");
    if durable {
        rfs::fsync(folder).tried(|| format!("syncing {}", folder_path.display()))?;
    }
    Ok(())
}
