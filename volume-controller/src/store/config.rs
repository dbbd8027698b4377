//! What a store is opened with.

use std::path::PathBuf;
use std::time::Duration;

use super::{Credential, Expected, Location};

/// Where the store is and what it may use.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file or the database.
    pub location: Location,
    /// Which store the database must have.
    pub expected: Expected,
    /// Who else may have the store open meanwhile. A store in an SQLite file is always alone.
    pub sharing: Sharing,
    /// The file with the keys that secrets are encrypted with at rest; made when it is not there and nothing
    /// in the store needs it. Every process that has the store open needs the same. Without one, secrets are
    /// stored in the clear, and one that is encrypted cannot be read.
    pub keys: Option<PathBuf>,
    /// For tests only: accept a PostgreSQL server with `fsync=off`, which loses acknowledged writes
    /// when its machine crashes.
    pub allow_fsync_off: bool,
    /// The most bytes that the objects' JSON may have, all together; `None` for no limit. See
    /// [`super::CommitError::Full`]. Memory and database need somewhat more than that.
    pub quota: Option<u64>,
    /// How much of the past is kept for watches.
    pub log: LogLimits,
    /// How much one SQL transaction may hold.
    pub batch: BatchLimits,
    /// How many transactions may wait for the writer before [`super::Store::commit`] waits itself.
    pub queue: usize,
    /// A watch that has nothing to tell says so ([`super::Next::Progress`]) at most this often.
    pub progress: Duration,
}

impl Config {
    /// The limits that fit one machine, for the store at `location`; a path is that of an SQLite file.
    #[must_use]
    pub fn new(location: impl Into<Location>) -> Self {
        Self {
            location: location.into(),
            expected: Expected::Any,
            sharing: Sharing::Anybody,
            keys: None,
            allow_fsync_off: false,
            quota: None,
            log: LogLimits::default(),
            batch: BatchLimits::default(),
            queue: 1024,
            progress: Duration::from_secs(1),
        }
    }
}

/// With whom a process shares a PostgreSQL database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sharing {
    /// With everybody, unasked.
    #[default]
    Anybody,
    /// With other servers that have the same keys, and with nobody who must be alone. These are what this one has of
    /// them, before it makes any.
    Servers(Vec<Credential>),
    /// With no server, and with nobody else who must be alone: for a process whose controllers and mounts assume that
    /// there are no others.
    Alone,
}

/// The window in which a watch can start or lag. Whatever limit is reached first
/// moves its start; the same window is kept on disk, so it outlives a restart.
#[derive(Debug, Clone)]
pub struct LogLimits {
    /// Number of changes.
    pub changes: usize,
    /// Bytes of bodies. What objects were before the window's first change to
    /// them is held besides, at most as much again.
    pub bytes: usize,
    /// Age of a change. Kubernetes' API server keeps its past for five to ten minutes.
    pub age: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { changes: 10_000, bytes: 16 << 20, age: Duration::from_secs(600) }
    }
}

/// What is committed together. A single transaction above a limit still goes, alone.
#[derive(Debug, Clone)]
pub struct BatchLimits {
    /// Number of writes.
    pub writes: usize,
    /// Bytes of bodies.
    pub bytes: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { writes: 512, bytes: 8 << 20 }
    }
}
