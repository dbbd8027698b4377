//! What people do with a pool besides CSI: look into its trash, restore, free.
//!
//! Whoever has the pool carries the order out: the driver that uses it, which is asked
//! on a socket in the pool's folder, or, where no driver has it, this process, which
//! takes the pool's lock for so long. So there is one way to change a pool, under the
//! same lock, guards and accounts, whether a driver runs or not.

mod passing;
mod peer;
pub(crate) mod socket;

use std::{collections::BTreeMap, ffi::OsString, os::fd::OwnedFd, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, time::Instant};
use tokio_util::sync::CancellationToken;

use peer::Peer;

use crate::{
    command::Runner,
    config::PoolConfig,
    controller::{check_name, volume_context},
    error::{Error, Tried as _},
    guard::{Guards, Name},
    pool::{Import, Pool, Progress, Watcher, envelope::Incoming, look_at_snapshots, trash},
    size::Bytes,
    snapshot::{Snapshot, SnapshotId},
    volume::Content,
    volume_id::VolumeId,
};

/// How long an order waits for a driver that has the pool and does not listen: one that is
/// just starting or ending.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

/// Something to do with a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Order {
    /// Bring a deleted volume back, named by its id or by its entry in the trash.
    Restore {
        /// The id or the entry.
        what: String,
    },
    /// Free what is in the trash, for good.
    Empty {
        /// Only what was deleted at least so long ago.
        older_than: Duration,
        /// Only what was this volume.
        volume_id: Option<String>,
    },
    /// Make a volume of a file or a folder that is there already.
    Import(Import),
    /// Write a snapshot into the stream that comes with the order.
    Send {
        /// Its id.
        snapshot_id: String,
        /// Only what differs from this one, of the same pool.
        since: Option<String>,
    },
    /// Make a snapshot of the stream that comes with the order.
    Receive {
        /// Its name, as CreateSnapshot would be called with; that which it had where it was sent
        /// without.
        name: Option<String>,
    },
}

impl Order {
    /// Whether somebody else decides how long it takes.
    fn is_transfer(&self) -> bool {
        matches!(self, Self::Send { .. } | Self::Receive { .. })
    }
}

/// What became of an [`Order`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The volume is back.
    Restored {
        /// Its id, the same as before.
        volume_id: String,
        /// Its size in bytes.
        capacity: u64,
    },
    /// These entries of the trash are gone.
    Freed {
        /// Their names.
        entries: Vec<String>,
    },
    /// The volume is there.
    Imported {
        /// Its id.
        volume_id: String,
        /// Its size in bytes.
        capacity: u64,
        /// The file system that it holds; `None` for a raw block device and for a folder.
        fs_type: Option<String>,
        /// Whether it is a raw block device.
        raw_block: bool,
        /// Its `volume_context`.
        context: BTreeMap<String, String>,
        /// The node on which it can be reached, where a driver that runs said so.
        node_id: Option<String>,
    },
    /// The snapshot was written.
    Sent(SnapshotInfo),
    /// The snapshot is there.
    Received(SnapshotInfo),
}

/// Carries out an order on a pool, here or in the driver that has it.
///
/// # Errors
/// A pool that is not there, a driver that has it and does not answer, and whatever the
/// order runs into.
pub async fn carry_out(
    pool: &PoolConfig,
    tool_path: Option<OsString>,
    order: Order,
) -> Result<Outcome, Error> {
    carry_out_watched(pool, tool_path, order, None, Arc::new(|_| ())).await
}

/// As [`carry_out`]; `stream` is what a snapshot is written to or read from, and `watcher` is
/// told now and then how far it is.
///
/// # Errors
/// As [`carry_out`].
pub async fn carry_out_watched(
    pool: &PoolConfig,
    tool_path: Option<OsString>,
    order: Order,
    stream: Option<OwnedFd>,
    watcher: Arc<dyn Fn(Progress) + Send + Sync>,
) -> Result<Outcome, Error> {
    let runner = Runner::new(tool_path, Handle::current());
    let begun = Instant::now();
    loop {
        let (config, here, told) = (pool.clone(), order.clone(), Arc::clone(&watcher));
        let runner = runner.clone();
        // Here, whoever ends the transfer ends the process.
        let ended = CancellationToken::new();
        let shared = |fd: &OwnedFd| fd.try_clone().and_then(|fd| Peer::new(fd, ended.clone()));
        let shared = stream.as_ref().map(|fd| shared(fd).tried(|| "sharing the stream".to_owned()));
        let shared = shared.transpose()?;
        let done = tokio::task::spawn_blocking(move || {
            let pool = Pool::open_existing(&config, &runner)?;
            let done = obey(&pool, &Guards::default(), None, &here, shared, &*told);
            pool.let_go();
            done
        });
        let taken = match done.await.map_err(|error| Error::Lost(error.to_string()))? {
            Err(error @ Error::PoolInUse(_)) => error,
            done => return done,
        };
        // Nothing was begun where nobody listened.
        match socket::ask(pool, &order, stream.as_ref(), &*watcher).await? {
            Some(outcome) => return Ok(outcome),
            None if begun.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            None => return Err(taken),
        }
    }
}

/// Carries out an order on an opened pool, of the driver on `node_id` if there is one.
pub(crate) fn obey(
    pool: &Pool,
    guards: &Guards,
    node_id: Option<&str>,
    order: &Order,
    stream: Option<Peer>,
    watcher: Watcher<'_>,
) -> Result<Outcome, Error> {
    let stream = || stream.ok_or_else(|| Error::Invalid("no stream came with the order".to_owned()));
    match order {
        Order::Restore { what } => {
            let entry = pool.find_entry(what)?;
            let _guard = guards.take(&entry.id)?;
            let volume = pool.restore(&entry)?;
            tracing::info!(volume = %volume.id, "restored from the trash");
            Ok(Outcome::Restored { volume_id: volume.id.to_string(), capacity: volume.capacity })
        }
        Order::Empty { older_than, volume_id } => {
            let only = volume_id.as_deref().map(VolumeId::parse).transpose()?;
            let entries = pool.free_older_than(*older_than, only.as_ref(), &|| false)?;
            tracing::info!(pool = %pool.name, entries = entries.len(), "emptied the trash");
            Ok(Outcome::Freed { entries })
        }
        Order::Import(import) => {
            check_name(&import.name)?;
            let id = VolumeId::derive(&pool.name, &import.name);
            let _guard = guards.take(&id)?;
            let volume = pool.import(&id, import, watcher)?;
            tracing::info!(volume = %id, size = %Bytes(volume.capacity), content = %volume.content, "imported");
            Ok(Outcome::Imported {
                volume_id: id.to_string(),
                capacity: volume.capacity,
                fs_type: match volume.content {
                    Content::Filesystem(fs) => Some(fs.to_string()),
                    Content::Block | Content::Folder => None,
                },
                raw_block: volume.content == Content::Block,
                context: volume_context(pool).into_iter().collect(),
                node_id: node_id.map(str::to_owned),
            })
        }
        Order::Send { snapshot_id, since } => {
            let id = SnapshotId::parse(snapshot_id)?;
            let since = since.as_deref().map(SnapshotId::parse).transpose()?;
            if since.as_ref().is_some_and(|since| *since == id || since.pool() != id.pool()) {
                return Err(Error::Invalid("--since takes another snapshot of the same pool".to_owned()));
            }
            let _guard = guards.share(&id)?;
            let _base_guard = since.as_ref().map(|since| guards.share(since)).transpose()?;
            let snapshot = pool.send(&id, since.as_ref(), stream()?, watcher)?;
            tracing::info!(snapshot = %id, "sent");
            Ok(Outcome::Sent(snapshot.into()))
        }
        Order::Receive { name } => {
            let mut incoming = Incoming::open(stream()?)?;
            let name = name.clone().unwrap_or_else(|| incoming.label().snapshot.name.clone());
            check_name(&name)?;
            let id = SnapshotId::derive(&pool.name, &name);
            let _name = guards.take(&Name::snapshot(&name))?;
            let _guard = guards.take(&id)?;
            let base = pool.find_base(incoming.label())?;
            let _base_guard = base.as_ref().map(|base| guards.share(base)).transpose()?;
            let snapshot = pool.receive(&id, &name, &mut incoming, watcher)?;
            tracing::info!(snapshot = %id, source = %snapshot.source, size = %Bytes(snapshot.capacity), "received");
            Ok(Outcome::Received(snapshot.into()))
        }
    }
}

/// A snapshot, as people are shown it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Its id.
    pub snapshot_id: String,
    /// The name that CreateSnapshot was called with.
    pub name: String,
    /// The id of the volume that was cut, which may be gone or never have been here.
    pub source_volume_id: String,
    /// When it was cut, in seconds since 1970.
    pub created: u64,
    /// The volume's size then, in bytes.
    pub capacity: u64,
}

impl From<Snapshot> for SnapshotInfo {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            snapshot_id: snapshot.id.to_string(),
            source_volume_id: snapshot.source.to_string(),
            created: snapshot.created.unix(),
            capacity: snapshot.capacity,
            name: snapshot.name,
        }
    }
}

/// The snapshots of a pool, oldest first. Changes nothing, and needs no driver.
///
/// # Errors
/// A pool that is not there or cannot be read.
pub fn list_snapshots(pool: &PoolConfig) -> Result<Vec<SnapshotInfo>, Error> {
    let mut found: Vec<SnapshotInfo> = look_at_snapshots(pool)?.into_iter().map(Into::into).collect();
    found.sort_by(|one, other| (one.created, &one.snapshot_id).cmp(&(other.created, &other.snapshot_id)));
    Ok(found)
}

/// A deleted volume that can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Trashed {
    /// Its name in the trash; the way to tell apart two volumes that had one id.
    pub entry: String,
    /// The volume's id.
    pub volume_id: String,
    /// When it was deleted, in seconds since 1970.
    pub deleted: u64,
    /// The name that CreateVolume was called with; `None` when the metadata cannot be read.
    pub name: Option<String>,
    /// Its size in bytes; `None` when the metadata cannot be read.
    pub capacity: Option<u64>,
}

/// What is in a pool's trash, oldest first. Changes nothing, and needs no driver.
///
/// # Errors
/// A pool that is not there or cannot be read.
pub fn list_trash(pool: &PoolConfig) -> Result<Vec<Trashed>, Error> {
    let look = |(entry, volume): (trash::Entry, Option<crate::volume::Volume>)| Trashed {
        entry: entry.name,
        volume_id: entry.id.to_string(),
        deleted: entry.deleted,
        capacity: volume.as_ref().map(|volume| volume.capacity),
        name: volume.map(|volume| volume.name),
    };
    Ok(trash::look(pool)?.into_iter().map(look).collect())
}
