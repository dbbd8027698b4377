//! What people do with a pool besides CSI: look into its trash, restore, free.
//!
//! Whoever has the pool carries the order out: the driver that uses it, which is asked
//! on a socket in the pool's folder, or, where no driver has it, this process, which
//! takes the pool's lock for so long. So there is one way to change a pool, under the
//! same lock, guards and accounts, whether a driver runs or not.

pub(crate) mod socket;

use std::{collections::BTreeMap, ffi::OsString, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, time::Instant};

use crate::{
    command::Runner,
    config::PoolConfig,
    controller::{check_name, volume_context},
    error::Error,
    guard::Guards,
    pool::{Import, Pool, Progress, Watcher, trash},
    size::Bytes,
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
    carry_out_watched(pool, tool_path, order, Arc::new(|_| ())).await
}

/// As [`carry_out`]; `watcher` is told now and then how far a copy is.
///
/// # Errors
/// As [`carry_out`].
pub async fn carry_out_watched(
    pool: &PoolConfig,
    tool_path: Option<OsString>,
    order: Order,
    watcher: Arc<dyn Fn(Progress) + Send + Sync>,
) -> Result<Outcome, Error> {
    let runner = Runner::new(tool_path, Handle::current());
    let begun = Instant::now();
    loop {
        let (config, here, told) = (pool.clone(), order.clone(), Arc::clone(&watcher));
        let runner = runner.clone();
        let done = tokio::task::spawn_blocking(move || {
            let pool = Pool::open_existing(&config, &runner)?;
            let done = obey(&pool, &Guards::default(), None, &here, &*told);
            pool.let_go();
            done
        });
        let taken = match done.await.map_err(|error| Error::Lost(error.to_string()))? {
            Err(error @ Error::PoolInUse(_)) => error,
            done => return done,
        };
        // Nothing was begun where nobody listened.
        match socket::ask(pool, &order, &*watcher).await? {
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
    watcher: Watcher<'_>,
) -> Result<Outcome, Error> {
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
    }
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
