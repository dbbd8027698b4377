//! SQLite: WAL, synchronous=FULL, one process, one connection.
//!
//! The locking mode is EXCLUSIVE: no other process reads or writes the file while
//! the store is open, so no foreign reader holds up a checkpoint, and the WAL's
//! index is in memory instead of a file, which a full disk could not hold.
//!
//! A batch is one statement, and so one transaction, however many writes it holds: the rows go
//! in as one JSON array, the bodies as one blob of which each row takes its slice. Every statement
//! more would wake this process once more, and every table make another page go to the disk.

mod file;
mod lock;
mod rows;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sqlx::error::ErrorKind;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};

use super::columns::{from_sql, to_sql};
use super::{ChangeRow, CommitFailure, Dialect, DialectError, FILL_STEP, Foreign, Loaded, Settled, Size};
use crate::store::{Change, OpenError, Restored, Term};
pub(crate) use file::real_path;
use file::{allow_vacuum, check, connect, create, identify, migrate, open_error, refuse_foreign, tune};
pub(crate) use lock::ProcessLock;
use rows::{Batch, begin, changes_after, counter, object_row};

/// The WAL is copied into the database when about so much was written to it.
/// SQLite then starts over at the WAL's beginning, so this bounds its size.
const CHECKPOINT_BYTES: usize = 4 << 20;
/// What a transaction writes to the WAL besides its bodies, roughly: the pages at the tree's edge.
const PAGES_OF_A_COMMIT: usize = 3 * PAGE;
/// SQLite's pages, as `initialize` leaves them.
const PAGE: usize = 4096;
/// Free pages that one transaction gives back, the number in its statement. 1 MiB.
const VACUUM_STEP: i64 = 256;
/// Of the file's pages one in so many may stay free.
const KEEP_FREE: i64 = 8;
/// Writes do not wait longer than about this for pages to be given back.
const VACUUM_DEADLINE: Duration = Duration::from_millis(20);

/// Writes the rows of a batch. One whose revision somebody else has taken is refused, and all with it.
const APPEND: &str = "INSERT INTO change (revision, kind, previous, resource, namespace, name, body)
     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
            substr(?1, value ->> 6, value ->> 7)
     FROM json_each(?2)";

/// The database file and the one connection to it.
pub(crate) struct Sqlite {
    path: PathBuf,
    /// Free again once the file is closed.
    lock: Option<ProcessLock>,
    connection: Option<SqliteConnection>,
    /// About how much was written since the last checkpoint.
    written: usize,
    /// The revision that the file is at. It has no other writer, so what was read or committed last still holds;
    /// `None` when a failure leaves it to be read again.
    revision: Option<u64>,
}

impl Sqlite {
    /// Locks and opens the file, makes it a store when it is new or empty, and checks it.
    /// A file that is not ours is not written to.
    pub(crate) async fn open(path: &Path) -> Result<Self, OpenError> {
        let path = real_path(path)?;
        let lock = ProcessLock::take(&path)?;
        create(&path)?;
        refuse_foreign(&path)?;
        let failed = |doing| {
            let path = &path;
            move |source| open_error(doing, path, source)
        };
        let mut connection = connect(&path).await.map_err(failed("open"))?;
        let found = identify(&mut connection, &path).await?;
        migrate(&mut connection, found, &path).await.map_err(failed("create the tables of"))?;
        tune(&mut connection).await.map_err(failed("set up"))?;
        check(&mut connection, &path).await?;
        allow_vacuum(&mut connection, &path).await;
        Ok(Self { path, lock: Some(lock), connection: Some(connection), written: 0, revision: None })
    }

    /// The connection; a new one when the last one failed.
    async fn connection(&mut self) -> sqlx::Result<&mut SqliteConnection> {
        if self.connection.is_none() {
            let mut connection = connect(&self.path).await?;
            tune(&mut connection).await?;
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)
    }

    /// Ends the connection and with it whatever it was in the middle of.
    async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "closing a failed connection");
        }
    }

    /// Names what failed. The connection is given up, so that nothing of a
    /// half-done transaction can reach the next one.
    async fn check<T>(&mut self, doing: &'static str, result: sqlx::Result<T>) -> Result<T, DialectError> {
        match result {
            Ok(value) => Ok(value),
            Err(source) => {
                self.revision = None;
                self.disconnect().await;
                Err(DialectError { doing, source: source.into() })
            }
        }
    }

    async fn try_load(&mut self, limit: u64) -> sqlx::Result<Loaded> {
        let connection = self.connection().await?;
        sqlx::query("BEGIN").execute(&mut *connection).await?;
        let (revision, compacted) = counter(connection).await?;
        let incarnation: i64 =
            sqlx::query_scalar("SELECT incarnation FROM revision").fetch_one(&mut *connection).await?;
        let incarnation = from_sql(incarnation)?;
        let floor = revision.saturating_sub(limit).max(compacted);
        let objects = sqlx::query(
            "SELECT revision, resource, namespace, name, body FROM change
             WHERE kind <> 2 AND revision NOT IN (SELECT previous FROM change WHERE previous IS NOT NULL)",
        )
        .try_map(object_row)
        .fetch_all(&mut *connection)
        .await?;
        let changes = changes_after(connection, floor).await?;
        let replaced = sqlx::query(
            "SELECT revision, resource, namespace, name, body FROM change WHERE revision IN
             (SELECT previous FROM change WHERE revision > ?1 AND previous <= ?1)",
        )
        .bind(to_sql(floor)?)
        .try_map(object_row)
        .fetch_all(&mut *connection)
        .await?;
        sqlx::query("COMMIT").execute(&mut *connection).await?;
        Ok(Loaded { revision, compacted, incarnation, floor, objects, changes, replaced })
    }

    async fn try_begin(&mut self, seen: u64) -> sqlx::Result<Vec<ChangeRow>> {
        if self.revision == Some(seen) {
            return Ok(Vec::new());
        }
        let connection = self.connection().await?;
        let (revision, _) = counter(connection).await?;
        if revision < seen {
            return Err(sqlx::Error::Protocol(format!(
                "the file is at revision {revision}, but {seen} was committed: it was replaced by an older one"
            )));
        }
        let changes = if revision == seen { Vec::new() } else { changes_after(connection, seen).await? };
        self.revision = Some(revision);
        Ok(changes)
    }

    async fn append(&mut self, changes: &[Arc<Change>]) -> sqlx::Result<()> {
        let Batch { rows, bodies } = Batch::of(changes)?;
        self.written += PAGES_OF_A_COMMIT + 2 * (bodies.len() + rows.len());
        sqlx::query(APPEND).bind(bodies).bind(rows).execute(self.connection().await?).await.map(drop)
    }

    /// Says whether a failure leaves it open whether it happened.
    async fn try_commit(&mut self, changes: &[Arc<Change>]) -> Result<(), (sqlx::Error, bool)> {
        let base = self.revision.map(|base| base + 1);
        if base.is_none() || base != changes.first().map(|change| change.revision) {
            let why = format!("the changes do not follow {base:?}, which was read");
            return Err((sqlx::Error::Protocol(why), false));
        }
        match self.append(changes).await {
            Ok(()) => {
                self.revision = changes.last().map(|change| change.revision);
                Ok(())
            }
            // What the tables do not take was never tried to be committed.
            Err(error) => {
                let refused = error.as_database_error().is_some_and(|error| error.kind() != ErrorKind::Other);
                Err((error, !refused))
            }
        }
    }

    async fn try_settle(&mut self, base: u64, last: u64) -> sqlx::Result<Settled> {
        // A new connection reads the WAL itself: what a failed COMMIT left there
        // in full is then committed, what it left in part never happened. The old
        // one would only tell what it believed.
        self.disconnect().await;
        let connection = self.connection().await?;
        let (revision, _) = counter(connection).await?;
        if revision == base {
            return Ok(Settled::DidNot);
        }
        if revision != last {
            return Err(sqlx::Error::Protocol(format!(
                "the counter is at {revision}, neither {base} nor {last}"
            )));
        }
        // It is in the WAL as the kernel has it, which is not yet on the disk:
        // the fsync may be what failed. A complete checkpoint syncs both files.
        let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await?;
        if row.try_get::<i64, _>(0)? != 0 {
            return Err(sqlx::Error::Protocol("a reader holds up the checkpoint".to_owned()));
        }
        self.written = 0;
        Ok(Settled::Happened)
    }

    async fn try_compact(&mut self, to: u64) -> sqlx::Result<()> {
        let connection = self.connection().await?;
        let (_, compacted) = begin(connection).await?;
        let (from, to) = (to_sql(compacted)?, to_sql(to)?);
        // A body may go when the change that replaced it is compacted: then no
        // living object and no remaining change refers to it.
        sqlx::query(
            "DELETE FROM change WHERE revision IN
             (SELECT previous FROM change WHERE revision > ?1 AND revision <= ?2)",
        )
        .bind(from)
        .bind(to)
        .execute(&mut *connection)
        .await?;
        sqlx::query("DELETE FROM change WHERE revision > ?1 AND revision <= ?2 AND kind = 2")
            .bind(from)
            .bind(to)
            .execute(&mut *connection)
            .await?;
        sqlx::query("UPDATE revision SET compacted = ?1").bind(to).execute(&mut *connection).await?;
        sqlx::query("COMMIT").execute(&mut *connection).await?;
        Ok(())
    }

    async fn try_maintain(&mut self, is_idle: bool) -> sqlx::Result<()> {
        let given_back = if is_idle { self.give_back().await? } else { 0 };
        self.written += given_back;
        // The file gets shorter when the WAL is copied into it.
        if self.written < CHECKPOINT_BYTES && given_back == 0 {
            return Ok(());
        }
        let connection = self.connection().await?;
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut *connection).await?;
        self.written = 0;
        Ok(())
    }
}

impl Sqlite {
    /// Gives free pages back to the file system, as many as a pause allows; the rest when it is called again.
    /// Some stay for the next writes. Returns about how many bytes went through the WAL for it.
    async fn give_back(&mut self) -> sqlx::Result<usize> {
        let started = Instant::now();
        let mut pages = 0;
        while started.elapsed() < VACUUM_DEADLINE {
            let connection = self.connection().await?;
            let (free, all) = pages_of(connection).await?;
            if free <= all / KEEP_FREE + VACUUM_STEP {
                break;
            }
            // A transaction of its own: a crash leaves the file as before or after.
            sqlx::query("PRAGMA incremental_vacuum(256)").fetch_all(&mut *connection).await?;
            if pages_of(connection).await?.0 >= free {
                // A file that was made without the means for it, and could not be given them.
                break;
            }
            pages += VACUUM_STEP;
        }
        Ok(usize::try_from(pages).unwrap_or(usize::MAX).saturating_mul(PAGE))
    }

    async fn try_size(&mut self) -> sqlx::Result<Size> {
        let (free, all) = pages_of(self.connection().await?).await?;
        let bytes = |pages: i64| u64::try_from(pages).unwrap_or_default() * PAGE as u64;
        Ok(Size { total: bytes(all), free: bytes(free) })
    }
}

impl Sqlite {
    async fn try_integrity(&mut self) -> sqlx::Result<Vec<String>> {
        let connection = self.connection().await?;
        let mut said: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check(20)").fetch_all(&mut *connection).await?;
        said.retain(|line| line != "ok");
        Ok(said)
    }

    async fn try_fill(&mut self, changes: &[Arc<Change>], restored: Restored) -> sqlx::Result<()> {
        self.revision = None;
        begin(self.connection().await?).await?;
        for changes in changes.chunks(FILL_STEP) {
            self.append(changes).await?;
        }
        let connection = self.connection().await?;
        sqlx::query("UPDATE revision SET compacted = ?1, incarnation = ?2")
            .bind(to_sql(restored.revision)?)
            .bind(to_sql(restored.incarnation)?)
            .execute(&mut *connection)
            .await?;
        sqlx::query("COMMIT").execute(&mut *connection).await.map(drop)
    }
}

/// Free pages, and all pages.
async fn pages_of(connection: &mut SqliteConnection) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as("SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count")
        .fetch_one(connection)
        .await
}

#[async_trait]
impl Dialect for Sqlite {
    /// There is nobody else.
    fn term(&self) -> Option<Term> {
        None
    }

    async fn load(&mut self, changes: usize) -> Result<Loaded, DialectError> {
        let result = self.try_load(u64::try_from(changes).unwrap_or(u64::MAX)).await;
        self.check("read the objects", result).await
    }

    /// The transaction itself begins in `commit`: the lock on the file keeps every other writer out.
    async fn begin(&mut self, seen: u64) -> Result<Foreign, DialectError> {
        let result = self.try_begin(seen).await;
        self.check("read the revision", result).await.map(Foreign::Changes)
    }

    /// Nothing is open between `begin` and `commit`.
    async fn rollback(&mut self) -> Result<(), DialectError> {
        Ok(())
    }

    async fn commit(&mut self, changes: &[Arc<Change>]) -> Result<(), CommitFailure> {
        match self.try_commit(changes).await {
            Ok(()) => Ok(()),
            Err((error, is_open)) => {
                let failed = self.check::<()>("write the changes", Err(error)).await;
                failed.map_err(if is_open { CommitFailure::Unknown } else { CommitFailure::Refused })
            }
        }
    }

    async fn settle(&mut self, base: u64, last: u64) -> Result<Settled, DialectError> {
        let result = self.try_settle(base, last).await;
        self.check("learn what became of a commit", result).await
    }

    /// Nobody else writes to the file.
    async fn tail(&mut self, _seen: u64) -> Result<Foreign, DialectError> {
        Ok(Foreign::Changes(Vec::new()))
    }

    async fn changed(&mut self) {
        std::future::pending().await
    }

    async fn compact(&mut self, to: u64) -> Result<u64, DialectError> {
        let result = self.try_compact(to).await;
        self.check("compact the change log", result).await.map(|()| to)
    }

    async fn maintain(&mut self, is_idle: bool) -> Result<(), DialectError> {
        let result = self.try_maintain(is_idle).await;
        self.check("copy the WAL into the database", result).await
    }

    async fn integrity(&mut self) -> Result<Vec<String>, DialectError> {
        let result = self.try_integrity().await;
        self.check("check the file", result).await
    }

    async fn fill(&mut self, changes: &[Arc<Change>], restored: Restored) -> Result<(), DialectError> {
        let result = self.try_fill(changes, restored).await;
        self.check("write the objects", result).await
    }

    async fn size(&mut self) -> Result<Size, DialectError> {
        let result = self.try_size().await;
        self.check("ask for the size", result).await
    }

    /// Nobody else writes to the file, so nothing is ever loaded a second time.
    fn contradicted(&mut self, _seen: u64) {}

    /// The lock is held for as long as the process has the store open.
    fn lost(&self) -> Option<&str> {
        None
    }

    async fn close(&mut self) {
        // The last connection copies the WAL into the file and removes it.
        self.disconnect().await;
        self.lock = None;
    }
}

#[cfg(test)]
mod tests;
