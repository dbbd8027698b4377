//! The wall between the store and SQL: one module per SQL dialect.
//!
//! A dialect may lose its connection on any error; the next call makes a new
//! one. So after an error nothing of an unfinished transaction is left.

mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

use super::{Change, ChangeKind, Key};

pub(crate) use sqlite::Sqlite;

/// A database that keeps the tables `object`, `change` and `revision`.
#[async_trait]
pub(crate) trait Dialect: Send {
    /// Everything that memory needs, as of one moment; of the change log at
    /// most the last `changes`.
    async fn load(&mut self, changes: usize) -> Result<Loaded, DialectError>;

    /// Opens a transaction that keeps every other writer out, and returns what
    /// others have committed after revision `seen`, in order and without a gap.
    /// Whoever commits must know these first: preconditions are checked against them.
    async fn begin(&mut self, seen: u64) -> Result<Vec<ChangeRow>, DialectError>;

    /// Ends the transaction without having written.
    async fn rollback(&mut self) -> Result<(), DialectError>;

    /// Writes the changes, which follow what `begin` found without a gap, sets
    /// the counter to the last of them, and commits durably.
    async fn commit(&mut self, changes: &[Arc<Change>]) -> Result<(), CommitFailure>;

    /// Asks the database, on a new connection, for the revision of its counter,
    /// after a commit on top of `base` failed. An answer other than `base` is
    /// given only when what it tells is durable.
    async fn settle(&mut self, base: u64) -> Result<u64, DialectError>;

    /// Compacts the log from `from` (where it is compacted to now) to `to`, in one transaction.
    async fn compact(&mut self, from: u64, to: u64) -> Result<(), DialectError>;

    /// What the database needs now and then; called when nobody waits for a write.
    async fn maintain(&mut self) -> Result<(), DialectError>;

    /// Leaves the database in order.
    async fn close(&mut self);
}

/// What a database failed at.
#[derive(Debug, Error)]
#[error("cannot {doing}: {source}")]
pub(crate) struct DialectError {
    /// What was tried.
    pub(crate) doing: &'static str,
    /// What it said.
    #[source]
    pub(crate) source: sqlx::Error,
}

/// How a commit failed.
#[derive(Debug, Error)]
pub(crate) enum CommitFailure {
    /// Before COMMIT: nothing of it is there.
    #[error(transparent)]
    Refused(DialectError),
    /// At COMMIT: it may be there or not. See [`Dialect::settle`].
    #[error(transparent)]
    Unknown(DialectError),
}

/// One row of `object`, with its body.
pub(crate) struct ObjectRow {
    pub(crate) revision: u64,
    pub(crate) key: Key,
    pub(crate) body: Bytes,
}

/// One row of `change`.
pub(crate) struct ChangeRow {
    pub(crate) kind: ChangeKind,
    /// The revision of the object before, for an update or a deletion.
    pub(crate) previous: Option<u64>,
    /// How long ago it was committed, by the database's clock.
    pub(crate) age: Duration,
    /// The object after, or for a deletion its last body.
    pub(crate) object: ObjectRow,
}

/// The database as of one moment.
pub(crate) struct Loaded {
    /// The latest revision.
    pub(crate) revision: u64,
    /// Up to where the change log is compacted.
    pub(crate) compacted: u64,
    /// The revision before the first of `changes`, or the latest when there are none.
    pub(crate) floor: u64,
    /// All that exist.
    pub(crate) objects: Vec<ObjectRow>,
    /// Those after `floor`, in order.
    pub(crate) changes: Vec<ChangeRow>,
    /// The objects before `floor` that `changes` replaced or deleted.
    pub(crate) replaced: Vec<ObjectRow>,
}
