//! The wall between the store and SQL: one module per SQL dialect.
//!
//! A dialect may lose its connection on any error; the next call makes a new
//! one. So after an error nothing of an unfinished transaction is left.

mod columns;
mod postgres;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

use super::error::Said;
use super::{Change, ChangeKind, CommitError, Key, Restored, Term};

pub use postgres::Candidate;
pub(crate) use postgres::Postgres;
pub(crate) use sqlite::{ProcessLock, Sqlite, real_path};

/// A database that keeps the tables `change` and `revision`.
#[async_trait]
pub(crate) trait Dialect: Send {
    /// Everything that memory needs, as of one moment; of the change log at
    /// most the last `changes`.
    async fn load(&mut self, changes: usize) -> Result<Loaded, DialectError>;

    /// Opens a transaction that keeps every other writer out, and returns what
    /// others have committed after revision `seen`.
    /// Whoever commits must know these first: preconditions are checked against them.
    async fn begin(&mut self, seen: u64) -> Result<Foreign, DialectError>;

    /// Whose term it is, as of the transaction that was begun last; `None` where nobody was ever elected.
    fn term(&self) -> Option<Term>;

    /// Ends the transaction without having written.
    async fn rollback(&mut self) -> Result<(), DialectError>;

    /// Writes the changes, which follow what `begin` found without a gap, sets
    /// the counter to the last of them, and commits durably.
    async fn commit(&mut self, changes: &[Arc<Change>]) -> Result<(), CommitFailure>;

    /// Asks the database, on a new connection and after whatever the old one still
    /// does, whether the last commit happened, which had failed. It was to take the
    /// revisions after `base` up to `last`. That it happened is said only when it is durable.
    async fn settle(&mut self, base: u64, last: u64) -> Result<Settled, DialectError>;

    /// What others have committed after revision `seen`. Keeps nobody out.
    async fn tail(&mut self, seen: u64) -> Result<Foreign, DialectError>;

    /// Returns when others may have committed something: at once, later than that, or
    /// without reason, but never never. Cancel-safe. Where there are no others it does not return.
    async fn changed(&mut self);

    /// Compacts the log up to `to` in one transaction, unless it is already; returns
    /// up to where it is compacted now.
    async fn compact(&mut self, to: u64) -> Result<u64, DialectError>;

    /// What the database needs now and then; `is_idle` says that nothing was written for a while, so that more
    /// than a few milliseconds may be spent.
    async fn maintain(&mut self, is_idle: bool) -> Result<(), DialectError>;

    /// What the database finds wrong with itself; nothing when it is in order. Reads everything.
    async fn integrity(&mut self) -> Result<Vec<String>, DialectError>;

    /// Writes these changes into a store without objects, and sets its revision, its log's begin and its incarnation. One
    /// transaction; an error leaves the store without objects.
    async fn fill(&mut self, changes: &[Arc<Change>], restored: Restored) -> Result<(), DialectError>;

    /// What the database occupies. Cheap.
    async fn size(&mut self) -> Result<Size, DialectError>;

    /// What is loaded contradicts what was read before, up to revision `seen`: from now on this process is
    /// lost to the database. Only where others commit.
    fn contradicted(&mut self, seen: u64);

    /// Why this process may never write to the database again, once that is so.
    fn lost(&self) -> Option<&str>;

    /// Leaves the database in order, and frees what keeps others away from it.
    async fn close(&mut self);
}

/// How many changes [`Dialect::fill`] writes with one statement.
const FILL_STEP: usize = 256;

/// What others have committed.
pub(crate) enum Foreign {
    /// These, in order and without a gap; often none.
    Changes(Vec<ChangeRow>),
    /// Some of it is compacted and cannot be told any more: everything has to be loaded again.
    Compacted,
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// All of it is there, durably.
    Happened,
    /// Nothing of it is there, nor will be.
    DidNot,
    /// Its place in the log is compacted. Whether it happened is not known, what there is now is.
    Compacted,
}

/// What a database failed at.
#[derive(Debug, Error)]
#[error("cannot {doing}: {source}")]
pub(crate) struct DialectError {
    /// What was tried.
    pub(crate) doing: &'static str,
    /// What it said.
    #[source]
    pub(crate) source: Said,
}

/// What a failure before or instead of a commit means to the one who asked for it.
impl From<DialectError> for CommitError {
    fn from(error: DialectError) -> Self {
        match error.source.is_full() {
            true => {
                Self::Full(format!("{error}; make room where the database lies, then it goes on by itself"))
            }
            false => Self::Database(error.to_string()),
        }
    }
}

/// What the database occupies, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) total: u64,
    /// Of `total`, what the next writes will use.
    pub(crate) free: u64,
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

/// An object as one row of `change` made it.
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
    /// Another number after each restore from a backup; 0 for a store that was never restored.
    pub(crate) incarnation: u64,
    /// The revision before the first of `changes`, or the latest when there are none.
    pub(crate) floor: u64,
    /// All that exist.
    pub(crate) objects: Vec<ObjectRow>,
    /// Those after `floor`, in order.
    pub(crate) changes: Vec<ChangeRow>,
    /// The objects before `floor` that `changes` replaced or deleted.
    pub(crate) replaced: Vec<ObjectRow>,
}
