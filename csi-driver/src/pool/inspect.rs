//! What each configured pool can do, found out without changing anything: for people
//! who set up a driver. A driver may have the pools meanwhile.

use std::{os::fd::OwnedFd, path::PathBuf};

use rustix::{
    fs::{self as rfs, FlockOperation, Mode, OFlags},
    io::Errno,
};
use tokio::runtime::Handle;

use super::{
    apart,
    opening::{LOCK_FILE, is_pool, open_root},
};
use crate::{
    backend::{self, Surroundings, tmpfs::Memory},
    command::Runner,
    config::{BackendKind, Config, PoolConfig},
    error::{Error, Tried as _},
    kernel::{io_max::IoGroup, reflink},
    metrics::Metrics,
};

/// Whose the pool's folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolState {
    /// It is missing, and `create` lets the driver make it.
    Missing,
    /// It is empty, and `create` lets the first driver make a pool of it.
    Empty,
    /// It is this pool.
    Ready,
    /// It is this pool, and a driver uses it now.
    InUse,
}

/// What was found out about one pool.
#[derive(Debug)]
#[non_exhaustive]
pub struct PoolReport {
    /// Its name.
    pub name: String,
    /// What makes its volumes.
    pub backend: BackendKind,
    /// Its folder, as configured.
    pub path: PathBuf,
    /// What can be said of the folder; the error is why a driver could not use it.
    pub found: Result<Findings, Error>,
}

/// What was found out about a pool that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Findings {
    /// Whose the folder is.
    pub state: PoolState,
    /// The name of the file system below it.
    pub fs: String,
    /// Bytes that are free there for this process.
    pub free: u64,
    /// Why volumes cannot be held to their size, if they cannot.
    pub unenforced: Option<String>,
    /// Whether files can share their blocks (FICLONE): copies at once.
    pub reflink: bool,
    /// What is missing for some of the volumes; one line each.
    pub lacks: Vec<String>,
}

/// Looks at every pool of the configuration.
///
/// # Errors
/// None of a pool's own: those are in its report.
pub async fn inspect(config: &Config) -> Result<Vec<PoolReport>, Error> {
    let runner = Runner::new(config.tool_path.clone(), Handle::current());
    let (name, pools) = (config.driver_name.clone(), config.pools.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let apart = apart::look(&pools);
        pools
            .into_iter()
            .zip(apart)
            .map(|(pool, apart)| PoolReport {
                found: apart.and_then(|()| look(&name, &pool, &runner)),
                name: pool.name,
                backend: pool.backend,
                path: pool.path,
            })
            .collect()
    });
    looked.await.map_err(|error| Error::Lost(error.to_string()))
}

fn look(driver: &str, pool: &PoolConfig, runner: &Runner) -> Result<Findings, Error> {
    if pool.backend == BackendKind::Tmpfs {
        let memory = Memory::new(driver, pool)?;
        return Ok(Findings {
            state: PoolState::Ready,
            fs: "tmpfs".to_owned(),
            free: memory.capacity.saturating_sub(memory.used()?),
            unenforced: None,
            reflink: false,
            lacks: Vec::new(),
        });
    }
    let (path, root, state) = match open_root(pool) {
        Ok((path, root)) => {
            let state = state(pool, &root, &path)?;
            (path, root, state)
        }
        Err(error) if !pool.create || pool.path.exists() => return Err(error),
        // The folder is made on the file system of the nearest one that is there.
        Err(error) => {
            let parent = pool.path.ancestors().find(|path| path.is_dir()).ok_or(error)?;
            let (path, root) = open_root(&PoolConfig { path: parent.to_owned(), ..pool.clone() })?;
            (path, root, PoolState::Missing)
        }
    };
    let stat = rfs::fstatvfs(&root).tried(|| format!("asking {} for room", path.display()))?;
    let surroundings = Surroundings::of(pool, &path, &root, runner.clone(), Metrics::default())?;
    let fs = surroundings.fs_name.clone();
    let backend = backend::make(surroundings)?;
    let mut lacks = backend.lacks();
    if let Some(Err(error)) = pool.io_cgroup.as_deref().map(|group| IoGroup::new(group).check()) {
        lacks.push(format!("iops and bandwidth cannot be limited: {error}"));
    }
    if stat.f_flag.contains(rfs::StatVfsMountFlags::RDONLY) {
        lacks.push(format!("{} is mounted read-only: no volume can be made", path.display()));
    }
    Ok(Findings {
        state,
        fs,
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        unenforced: backend.can_enforce().err().map(|error| error.to_string()),
        reflink: reflink::is_possible(&root)?,
        lacks,
    })
}

fn state(pool: &PoolConfig, root: &OwnedFd, path: &std::path::Path) -> Result<PoolState, Error> {
    if !is_pool(pool, root, path)? {
        return Ok(PoolState::Empty);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = match rfs::openat(root, LOCK_FILE, flags, Mode::empty()) {
        Ok(lock) => lock,
        Err(Errno::NOENT) => return Ok(PoolState::Ready),
        Err(error) => return Err(error).tried(|| format!("opening {}", path.join(LOCK_FILE).display())),
    };
    // Shared, and let go at once: enough to see whether a driver has it for itself.
    match rfs::flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(PoolState::Ready),
        Err(Errno::WOULDBLOCK) => Ok(PoolState::InUse),
        Err(error) => Err(error).tried(|| format!("asking who has {}", path.display())),
    }
}
