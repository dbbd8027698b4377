//! Taking a pool into use: whose it is, what it is, and what a crash left in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use rustix::{
    fs::{self as rfs, FlockOperation, Mode, OFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{
    NEW, Pool, VolumeFolder, folder,
    ledger::{Ledger, Promise},
    make_and_open, names,
};
use crate::{
    backend::{self, Surroundings},
    command::Runner,
    config::{BackendKind, ConfigError, PoolConfig},
    error::{Error, Tried as _},
    metrics::Metrics,
    step,
    volume::{Origin, Volume},
    volume_id::VolumeId,
};

const POOL_FILE: &str = "pool.json";
pub(super) const LOCK_FILE: &str = ".lock";
/// The layout that this driver reads and writes.
const LAYOUT: u32 = 1;

/// The content of `pool.json`: says that the folder is a pool and of which kind, so
/// that a wrong path is not filled with volumes.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    name: String,
    backend: BackendKind,
    layout: u32,
}

impl Pool {
    /// Opens a pool, or makes it where the folder is empty. Leftovers of volumes that
    /// were never finished are removed; the trash is left to [`Pool::empty_trash`].
    pub(crate) fn open(config: &PoolConfig, runner: &Runner, metrics: &Metrics) -> Result<Self, Error> {
        if config.create {
            fs::create_dir_all(&config.path).tried(|| format!("making {}", config.path.display()))?;
        }
        let (path, root) = open_root(config)?;
        let lock = lock(&root, &path)?;
        check_marker(config, &root, &path)?;
        let volumes = make_and_open(&root, &path, "volumes")?;
        let snapshots = make_and_open(&root, &path, "snapshots")?;
        let groups = make_and_open(&root, &path, "groups")?;
        let trash = make_and_open(&root, &path, "trash")?;
        rfs::fsync(&root).tried(|| format!("syncing {}", path.display()))?;

        let surroundings = Surroundings::of(config, &path, &root, runner.clone(), metrics.clone())?;
        let mut pool = Self {
            name: config.name.clone(),
            backend: backend::make(surroundings)?,
            limits: config.limits,
            ledger: Ledger::new(&config.name, None, BTreeMap::new(), BTreeMap::new()),
            group_ids: Mutex::default(),
            path,
            root,
            volumes,
            snapshots,
            groups,
            trash,
            deleted: tokio::sync::Notify::new(),
            retention: config.trash.retention,
            had_snapshots: false,
            lock,
        };
        // First of all: whoever writes there waits for it.
        pool.thaw_volumes()?;
        if let Err(error) = pool.backend.begin() {
            tracing::warn!(pool = %pool.name, %error, "limits may be left on devices that nobody uses");
        }
        pool.remove_half_made()?;
        pool.finish_imports()?;
        pool.finish_groups()?;
        let snapshots = pool.snapshot_promises()?;
        pool.had_snapshots = !snapshots.is_empty();
        let promised = snapshots.iter().map(|(id, snapshot)| (id.clone(), snapshot.bytes)).collect();
        let sources = snapshots.into_values().filter_map(|snapshot| snapshot.source).collect();
        pool.ledger = Ledger::new(&pool.name, pool.limits.capacity, pool.promises(sources)?, promised);
        pool.count_trash()?;
        Ok(pool)
    }

    /// As [`Pool::open`], for a folder that has to be this pool already: nobody who only
    /// looks after a pool makes one.
    pub(crate) fn open_existing(config: &PoolConfig, runner: &Runner) -> Result<Self, Error> {
        let config = PoolConfig { create: false, ..config.clone() };
        let (path, root) = open_root(&config)?;
        // Without `create`: a folder that is no pool is an error.
        is_pool(&config, &root, &path)?;
        // The command ends before anybody could ask what it measured.
        Self::open(&config, runner, &Metrics::default())
    }

    /// Ends the freezes that a crash left. One that cannot be ended keeps its record, for
    /// the next start, and must not keep the other volumes from their users.
    fn thaw_volumes(&self) -> Result<(), Error> {
        for id in self.ids()? {
            let Some(folder) = self.find(&id)? else { continue };
            let thawed = folder.read_journal().and_then(|mut journal| {
                if journal.frozen {
                    self.backend.thaw(&folder)?;
                    step::passed("volume left frozen is thawed");
                    journal.frozen = false;
                    folder.write_journal(&journal)?;
                    tracing::warn!(volume = %id, "was left frozen by a driver that ended in a snapshot; it is thawed");
                }
                Ok(())
            });
            if let Err(error) = thawed {
                tracing::error!(volume = %id, %error,
                    "this volume may be frozen still; thaw it where it is mounted (fsfreeze --unfreeze)");
            }
        }
        Ok(())
    }

    /// The limits of a volume in use, whose cgroup may have been made anew since they were set.
    pub(crate) fn limit_again(&self, folder: &VolumeFolder, volume: &Volume) {
        if !volume.mutable.limits.is_none()
            && let Err(error) = self.backend.modify(folder, volume)
        {
            tracing::warn!(volume = %volume.id, %error, "the limits of this volume may not hold");
        }
    }

    /// The bytes that can be written to a volume, more than its size where a crash or a failure
    /// ended an expansion half-way: then the larger size is written down, for what is written to it
    /// has to be in its snapshots and copies. Where the size is a quota, that is what it was before.
    fn settle_size(&self, folder: &VolumeFolder, volume: &Volume) -> u64 {
        if let Err(error) = self.backend.hold_to_size(folder, volume) {
            tracing::warn!(volume = %volume.id, %error, "the size of this volume may not hold until it is staged again");
        }
        let measured = self.backend.measured_size(folder);
        if measured > volume.capacity {
            let grown = Volume { capacity: measured, ..volume.clone() };
            match folder.write_volume(&grown) {
                Ok(()) => step::passed("larger size written down"),
                // A read-only pool, say: the next expansion or start does it.
                Err(error) => {
                    tracing::warn!(volume = %volume.id, %error, "this volume has {measured} bytes and more \
                    than is written down")
                }
            }
        }
        volume.capacity.max(measured)
    }

    fn remove_half_made(&self) -> Result<(), Error> {
        for name in names(&self.volumes, &self.volumes_path())? {
            if name.starts_with(NEW) {
                tracing::info!(pool = %self.name, entry = %name, "removing a volume that was never finished");
                if let Err(error) = self.discard_new_volume(&name) {
                    // It is nobody's, and keeps nobody from the others.
                    tracing::error!(pool = %self.name, entry = %name, %error, "it stays until the next start");
                }
            }
        }
        Ok(())
    }

    /// What each volume was promised. A volume whose metadata cannot be read still
    /// exists: it is counted with what its data says. `sharing` are those of which there
    /// are snapshots.
    fn promises(&self, mut sharing: BTreeSet<VolumeId>) -> Result<BTreeMap<VolumeId, Promise>, Error> {
        let mut promises = BTreeMap::new();
        for id in self.ids()? {
            let Some(folder) = self.find(&id)? else { continue };
            let bytes = match folder.read_volume() {
                Ok(volume) => {
                    if let Some(Origin::Volume(origin)) = &volume.origin {
                        sharing.insert(origin.clone());
                    }
                    if volume.origin.is_some() {
                        sharing.insert(id.clone());
                    }
                    self.limit_again(&folder, &volume);
                    self.settle_size(&folder, &volume)
                }
                Err(error) => {
                    tracing::error!(volume = %id, %error, "this volume cannot be used");
                    self.backend.measured_size(&folder)
                }
            };
            promises.insert(id, Promise { bytes, shares: false });
        }
        for (id, promise) in &mut promises {
            promise.shares = sharing.contains(id);
        }
        Ok(promises)
    }
}

/// The pool's folder, by its real path.
pub(crate) fn open_root(config: &PoolConfig) -> Result<(PathBuf, OwnedFd), Error> {
    let wrong = |path: &Path, error: std::io::Error| {
        let reason = format!("{}: {error}; make the folder, or mount what belongs there", path.display());
        Error::Config(ConfigError::value(format!("pool {:?}: path", config.name), reason))
    };
    let path = fs::canonicalize(&config.path).map_err(|error| wrong(&config.path, error))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rfs::open(&path, flags, Mode::empty()).map_err(|error| wrong(&path, error.into()))?;
    Ok((path, root))
}

/// One driver a pool. The kernel drops the lock with the process, however it ends.
fn lock(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Error> {
    // Not for writing: that would keep the file system from being made read-only, and the
    // driver from serving one that is.
    let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rfs::openat(root, LOCK_FILE, flags, Mode::from_raw_mode(0o600))
        .tried(|| format!("making {}", path.join(LOCK_FILE).display()))?;
    match rfs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(Error::PoolInUse(path.to_owned())),
        Err(error) => Err(error).tried(|| format!("locking {}", path.join(LOCK_FILE).display())),
    }
}

/// Takes the folder for this pool: makes the marker where the folder is empty.
fn check_marker(config: &PoolConfig, root: &OwnedFd, path: &Path) -> Result<(), Error> {
    if is_pool(config, root, path)? {
        return Ok(());
    }
    let marker = Marker { name: config.name.clone(), backend: config.backend, layout: LAYOUT };
    folder::write_json(root, path, POOL_FILE, &marker, true)
}

/// Whether the folder is this pool already; else it is empty, and can become it. What is
/// another pool, or no pool and not empty, is an error.
pub(super) fn is_pool(config: &PoolConfig, root: &OwnedFd, path: &Path) -> Result<bool, Error> {
    let wrong = |reason: String| {
        Err(Error::Config(ConfigError::value(
            format!("pool {:?}: path", config.name),
            format!("{} {reason}", path.display()),
        )))
    };
    match folder::read_json::<Marker>(root, path, POOL_FILE)? {
        Some(marker) if marker.layout != LAYOUT => {
            wrong(format!("has layout {}, and this driver knows layout {LAYOUT}", marker.layout))
        }
        Some(marker) if marker.backend != config.backend || marker.name != config.name => wrong(format!(
            "is the {} pool {:?}; correct the configuration",
            marker.backend.as_str(),
            marker.name
        )),
        Some(_) => Ok(true),
        None => {
            let foreign = names(root, path)?
                .into_iter()
                .find(|name| ![LOCK_FILE, "lost+found", "pool.json.new"].contains(&name.as_str()));
            match foreign {
                Some(name) => {
                    wrong(format!("is not a pool and not empty (it has {name:?}); give an empty folder"))
                }
                // Often the folder on which a file system is mounted, without it: made into a
                // pool, it would be one in which every volume is gone.
                None if !config.create => wrong(
                    "is empty, so no pool yet; mount what belongs there, or, for a new pool, set create = true until it is made"
                        .to_owned(),
                ),
                None => Ok(false),
            }
        }
    }
}
