//! The store: every object, in memory for reading, in SQL for durability.
//!
//! A write is a key, a precondition and a new body; a transaction is a list of
//! writes, all or none. One writer drains the queue and commits everything that
//! waits in one SQL transaction, so latency is one fsync and throughput many.
//! The revision is taken inside that transaction, so commit order is revision
//! order, and every write of a transaction has a revision of its own.
//!
//! In a PostgreSQL database several processes may have the same store open, each with
//! its own memory and its own writer. What one commits the others follow; before
//! one commits it knows everything that the others have.
//!
//! Reads and watches are served from memory. The window of changes in which a
//! watch can start is kept on disk as well, so watches resume after a restart.

mod backup;
mod check;
mod config;
mod credential;
mod dialect;
mod error;
mod follow;
mod identity;
mod lead;
mod link;
mod location;
mod log;
mod memory;
mod metrics;
mod open;
mod plan;
mod present;
mod quota;
mod restore;
mod seal;
mod settle;
mod types;
mod watch;
mod writer;

#[cfg(test)]
mod fault_tests;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use backup::{Backup, BackupError, Header as BackupHeader, Reader as BackupReader, Snapshot};
pub use check::{CheckError, Report};
pub use config::{BatchLimits, Config, LogLimits, Sharing};
pub use credential::Credential;
pub use dialect::Candidate;
pub use error::{OpenError, Said};
pub use identity::{Expected, StoreId};
pub use lead::Term;
pub use location::{Database, Location, NotADatabase};
pub use metrics::{Metrics, ResourceLabel};
pub use open::note_credentials;
pub use present::PresentError;
pub use quota::Level;
pub use restore::{RestoreError, Restored, restore};
pub use types::{
    Change, ChangeKind, CommitError, Committed, Guard, Key, List, Object, Precondition, Transaction, Write,
};
pub use watch::{Expired, Next, Watch, WatchError};

use memory::Memory;
use writer::Request;

/// Why a store is open no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was closed, or nobody had it any more.
    Closed,
    /// This process may not write to it any more, for this reason. Whatever else of it acts on
    /// what the store says should end, too.
    Lost(String),
}

/// An open store. Clones are cheap and are the same store. When the last clone
/// is gone the store closes by itself; [`Store::close`] waits for it.
#[derive(Debug, Clone)]
pub struct Store {
    memory: Arc<Memory>,
    queue: mpsc::Sender<Request>,
    checks: mpsc::Sender<check::Asked>,
    /// Where others write as well.
    present: Option<mpsc::Sender<present::Asked>>,
    metrics: Metrics,
    closing: CancellationToken,
    ended: tokio::sync::watch::Receiver<Option<Ended>>,
    level: tokio::sync::watch::Receiver<Level>,
    reachable: tokio::sync::watch::Receiver<bool>,
    incarnation: u64,
    /// What this handle writes counts in this term only.
    term: Option<Term>,
    keys: Option<Arc<seal::Keys>>,
    progress: std::time::Duration,
}

impl Store {
    /// Opens the store, creates it when its file or database is empty or the file not there,
    /// and starts its writer on the current tokio runtime.
    ///
    /// # Errors
    /// See [`OpenError`]; none of them leaves an object changed.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        open::open(config).await
    }

    /// The latest revision that is committed and visible.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.memory.revision()
    }

    /// One object as it is now.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.memory.get(key)
    }

    /// The objects of one resource as of one revision, in the order of namespace
    /// and name: of one namespace (the empty one is that of kinds without) or of
    /// all; those after the given namespace and name; at most `limit`.
    #[must_use]
    pub fn list(
        &self,
        resource: &str,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        limit: Option<usize>,
    ) -> List {
        self.memory.list(resource, namespace, after, limit)
    }

    /// The same list as it was at revision `at`, without a limit. One that is still to
    /// come is answered with the present, whose revision the list then has.
    ///
    /// # Errors
    /// When the log does not reach back to `at`.
    pub fn list_at(
        &self,
        resource: &str,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        at: u64,
    ) -> Result<List, Expired> {
        self.memory.list_at(resource, namespace, after, at)
    }

    /// Whether writes are taken: the store was not closed and has not been lost.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.closing.is_cancelled() && self.ended.borrow().is_none()
    }

    /// Whether the database answered when it was last asked, a moment ago. Where it did not, reads go on.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        *self.reachable.borrow()
    }

    /// Commits one transaction, all of it or nothing. When it returns, the writes are
    /// durable and visible to every read and watch. Once it has begun to wait for its
    /// turn it goes through even if the caller is dropped. Preconditions and guards are
    /// checked against the objects before the transaction; a key may be written once.
    /// Without writes nothing is done, and no guard is looked at.
    ///
    /// # Errors
    /// See [`CommitError`]. After every one but [`CommitError::Unknown`], nothing was written.
    pub async fn commit(&self, transaction: impl Into<Transaction>) -> Result<Vec<Committed>, CommitError> {
        let transaction = transaction.into();
        if transaction.writes.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, outcome) = oneshot::channel();
        self.queue
            .send(Request { transaction, term: self.term, answer })
            .await
            .map_err(|_| CommitError::Closed)?;
        outcome
            .await
            .unwrap_or_else(|_| Err(CommitError::Unknown("the store's writer was stopped".to_owned())))
    }

    /// Follows the changes of some resources (none given: of all) with a revision
    /// above `from`, in order, each exactly once. A revision that is still to come
    /// is waited for: nothing up to and with it is delivered.
    ///
    /// # Errors
    /// When the log does not reach back to `from`. From exactly the compacted revision it does.
    pub fn watch(&self, resources: &[&str], from: u64) -> Result<Watch, Expired> {
        let subscription = self.memory.subscribe(resources, from)?;
        Ok(Watch::new(self.memory.clone(), subscription, from, self.progress))
    }

    /// The oldest revision from which a watch can start.
    #[must_use]
    pub fn compacted(&self) -> u64 {
        self.memory.floor()
    }

    /// The bytes of all objects' JSON together: what [`Config::quota`] is about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// How near the objects are to [`Config::quota`], now and whenever that changes.
    #[must_use]
    pub fn level(&self) -> tokio::sync::watch::Receiver<Level> {
        self.level.clone()
    }

    /// A number that is another one after each restore from a backup; 0 when there was none.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The store's metrics, to be registered by whoever serves them.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Writes what waits, closes the database and frees its lock. Later commits are
    /// refused, reads still work, watches end once they have delivered everything.
    pub async fn close(&self) {
        self.closing.cancel();
        self.ended().await;
    }

    /// Waits until the store is open no more, and says why.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        // An error means that the writer is gone, and the lock with it.
        let ended = ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        ended.unwrap_or_else(|| Ended::Lost("the store's writer was stopped".to_owned()))
    }
}
