//! SQLite: WAL, synchronous=FULL, one process, one connection.
//!
//! A batch is a handful of statements however many writes it holds: the rows go
//! in as one JSON array, the bodies as one blob of which each row takes its slice.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions, Connection, Row};

use super::{ChangeRow, CommitFailure, Dialect, DialectError, Loaded, ObjectRow};
use crate::store::{Change, ChangeKind, Key, OpenError};

/// `PRAGMA application_id` of our files, "Hold" in ASCII.
const APPLICATION_ID: i64 = 1_215_261_796;
/// The schema that this code reads and writes.
const SCHEMA_VERSION: i64 = 1;
/// The WAL is copied into the database when about so much was written to it.
/// SQLite then starts over at the WAL's beginning, so this bounds its size.
const CHECKPOINT_BYTES: usize = 4 << 20;

/// The database file and the one connection to it.
pub(crate) struct Sqlite {
    path: PathBuf,
    connection: Option<SqliteConnection>,
    /// About how much was written since the last checkpoint.
    written: usize,
}

impl Sqlite {
    /// Opens the file, makes it a store when it is new or empty, and checks it.
    /// The caller holds the lock of the file. A file that is not ours is not written to.
    pub(crate) async fn open(path: &Path) -> Result<Self, OpenError> {
        let failed = |doing| {
            let path = path.to_owned();
            move |source| OpenError::Database { doing, path, source }
        };
        let mut connection = connect(path).await.map_err(failed("open"))?;
        if identify(&mut connection, path).await? == Found::Empty {
            initialize(&mut connection).await.map_err(failed("create the tables of"))?;
        }
        tune(&mut connection).await.map_err(failed("set up"))?;
        check(&mut connection, path).await?;
        Ok(Self { path: path.to_owned(), connection: Some(connection), written: 0 })
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
                self.disconnect().await;
                Err(DialectError { doing, source })
            }
        }
    }

    async fn try_load(&mut self, limit: u64) -> sqlx::Result<Loaded> {
        let connection = self.connection().await?;
        sqlx::query("BEGIN").execute(&mut *connection).await?;
        let (revision, compacted) = counter(connection).await?;
        let floor = revision.saturating_sub(limit).max(compacted);
        let objects = sqlx::query(
            "SELECT c.revision, c.resource, c.namespace, c.name, c.body
             FROM object o JOIN change c ON c.revision = o.revision",
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
        Ok(Loaded { revision, compacted, floor, objects, changes, replaced })
    }

    async fn try_begin(&mut self, seen: u64) -> sqlx::Result<Vec<ChangeRow>> {
        let connection = self.connection().await?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let (revision, _) = counter(connection).await?;
        if revision < seen {
            return Err(sqlx::Error::Protocol(format!(
                "the file is at revision {revision}, but {seen} was committed: it was replaced by an older one"
            )));
        }
        if revision == seen { Ok(Vec::new()) } else { changes_after(connection, seen).await }
    }

    /// Everything of a commit but the COMMIT.
    async fn append(&mut self, changes: &[Arc<Change>]) -> sqlx::Result<()> {
        let batch = Batch::of(changes)?;
        self.written += batch.bodies.len() + batch.rows.len();
        let connection = self.connection().await?;
        sqlx::query(
            "INSERT INTO change (revision, kind, previous, resource, namespace, name, body)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                    substr(?2, value ->> 6, value ->> 7)
             FROM json_each(?1)",
        )
        .bind(batch.rows)
        .bind(batch.bodies)
        .execute(&mut *connection)
        .await?;
        if let Some(put) = batch.put {
            sqlx::query(
                "INSERT INTO object (resource, namespace, name, revision)
                 SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each(?1) WHERE true
                 ON CONFLICT (resource, namespace, name) DO UPDATE SET revision = excluded.revision",
            )
            .bind(put)
            .execute(&mut *connection)
            .await?;
        }
        if let Some(delete) = batch.delete {
            sqlx::query(
                "DELETE FROM object WHERE (resource, namespace, name) IN
                 (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1))",
            )
            .bind(delete)
            .execute(&mut *connection)
            .await?;
        }
        sqlx::query("UPDATE revision SET current = ?1").bind(batch.last).execute(&mut *connection).await?;
        Ok(())
    }

    async fn try_settle(&mut self, base: u64) -> sqlx::Result<u64> {
        // A new connection reads the WAL itself: what a failed COMMIT left there
        // in full is then committed, what it left in part never happened. The old
        // one would only tell what it believed.
        self.disconnect().await;
        let connection = self.connection().await?;
        let (revision, _) = counter(connection).await?;
        if revision != base {
            // It is in the WAL as the kernel has it, which is not yet on the disk:
            // the fsync may be what failed. A complete checkpoint syncs both files.
            let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await?;
            if row.try_get::<i64, _>(0)? != 0 {
                return Err(sqlx::Error::Protocol("a reader holds up the checkpoint".to_owned()));
            }
            self.written = 0;
        }
        Ok(revision)
    }

    async fn try_compact(&mut self, from: u64, to: u64) -> sqlx::Result<()> {
        let (from, to) = (to_sql(from)?, to_sql(to)?);
        let connection = self.connection().await?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
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

    async fn try_maintain(&mut self) -> sqlx::Result<()> {
        if self.written < CHECKPOINT_BYTES {
            return Ok(());
        }
        let connection = self.connection().await?;
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut *connection).await?;
        self.written = 0;
        Ok(())
    }
}

#[async_trait]
impl Dialect for Sqlite {
    async fn load(&mut self, changes: usize) -> Result<Loaded, DialectError> {
        let result = self.try_load(u64::try_from(changes).unwrap_or(u64::MAX)).await;
        self.check("read the objects", result).await
    }

    async fn begin(&mut self, seen: u64) -> Result<Vec<ChangeRow>, DialectError> {
        let result = self.try_begin(seen).await;
        self.check("begin a transaction", result).await
    }

    async fn rollback(&mut self) -> Result<(), DialectError> {
        let result = async {
            let connection = self.connection().await?;
            sqlx::query("ROLLBACK").execute(connection).await
        }
        .await;
        self.check("roll back", result).await.map(drop)
    }

    async fn commit(&mut self, changes: &[Arc<Change>]) -> Result<(), CommitFailure> {
        let result = self.append(changes).await;
        self.check("write the changes", result).await.map_err(CommitFailure::Refused)?;
        let result = async {
            let connection = self.connection().await?;
            sqlx::query("COMMIT").execute(connection).await
        }
        .await;
        self.check("commit", result).await.map(drop).map_err(CommitFailure::Unknown)
    }

    async fn settle(&mut self, base: u64) -> Result<u64, DialectError> {
        let result = self.try_settle(base).await;
        self.check("learn what became of a commit", result).await
    }

    async fn compact(&mut self, from: u64, to: u64) -> Result<(), DialectError> {
        let result = self.try_compact(from, to).await;
        self.check("compact the change log", result).await
    }

    async fn maintain(&mut self) -> Result<(), DialectError> {
        let result = self.try_maintain().await;
        self.check("copy the WAL into the database", result).await
    }

    async fn close(&mut self) {
        // The last connection copies the WAL into the file and removes it.
        self.disconnect().await;
    }
}

/// One batch as parameters of the statements.
struct Batch {
    /// `[revision, kind, previous, resource, namespace, name, first byte of the body (from 1), its length]`
    rows: String,
    bodies: Vec<u8>,
    /// `[resource, namespace, name, revision]` of what exists afterwards.
    put: Option<String>,
    /// `[resource, namespace, name]` of what does not.
    delete: Option<String>,
    last: i64,
}

impl Batch {
    fn of(changes: &[Arc<Change>]) -> sqlx::Result<Self> {
        let mut bodies = Vec::with_capacity(changes.iter().map(|change| change.object.body.len()).sum());
        let mut rows = Vec::with_capacity(changes.len());
        // Within a batch a key may be written more than once: the last one counts.
        let mut last_of: HashMap<&Key, &Change> = HashMap::new();
        for change in changes {
            let Key { resource, namespace, name } = &change.object.key;
            let body = &change.object.body;
            let previous = change.previous.as_ref().map(|previous| previous.revision);
            let kind = kind_to_sql(change.kind);
            let first = bodies.len() + 1;
            rows.push(json!([
                change.revision,
                kind,
                previous,
                &**resource,
                &**namespace,
                &**name,
                first,
                body.len()
            ]));
            bodies.extend_from_slice(body);
            last_of.insert(&change.object.key, change);
        }
        let mut put = Vec::new();
        let mut delete = Vec::new();
        for (Key { resource, namespace, name }, change) in last_of {
            if change.kind == ChangeKind::Deleted {
                delete.push(json!([&**resource, &**namespace, &**name]));
            } else {
                put.push(json!([&**resource, &**namespace, &**name, change.revision]));
            }
        }
        let text = |list: Vec<serde_json::Value>| {
            (!list.is_empty()).then(|| serde_json::Value::Array(list).to_string())
        };
        Ok(Self {
            rows: serde_json::Value::Array(rows).to_string(),
            bodies,
            put: text(put),
            delete: text(delete),
            last: to_sql(changes.last().map_or(0, |change| change.revision))?,
        })
    }
}

async fn connect(path: &Path) -> sqlx::Result<SqliteConnection> {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging()
        .connect()
        .await
}

#[derive(PartialEq)]
enum Found {
    Empty,
    Ours,
}

/// What kind of file it is, by reading only.
async fn identify(connection: &mut SqliteConnection, path: &Path) -> Result<Found, OpenError> {
    let failed = |source| read_error(path, source);
    let application: i64 =
        sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await.map_err(failed)?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if application == 0 && tables == 0 {
        return Ok(Found::Empty);
    }
    if application != APPLICATION_ID {
        let why =
            format!("it is a database of another application, id {application}, {tables} tables and indices");
        return Err(OpenError::Foreign { path: path.to_owned(), why });
    }
    let version: i64 = sqlx::query_scalar("SELECT version FROM schema_version")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if version > SCHEMA_VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found: version, known: SCHEMA_VERSION });
    }
    Ok(Found::Ours)
}

/// Makes an empty file a store. One transaction: a crash leaves an empty file.
async fn initialize(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::raw_sql(include_str!("sqlite.sql")).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// What holds for a connection, not for the file (but for the WAL mode).
async fn tune(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    sqlx::raw_sql(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 16777216;
         PRAGMA temp_store = MEMORY;",
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Whether the file is in order, and the tables agree with one another.
async fn check(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let failed = |source| read_error(path, source);
    let damaged = |why: String| Err(OpenError::Damaged { path: path.to_owned(), why });
    let found: String =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *connection).await.map_err(failed)?;
    if found != "ok" {
        return damaged(found);
    }
    let (revision, compacted) = counter(connection).await.map_err(failed)?;
    let (changes, newest): (i64, i64) =
        sqlx::query_as("SELECT count(*), coalesce(max(revision), ?1) FROM change WHERE revision > ?1")
            .bind(to_sql(compacted).map_err(failed)?)
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
    let expected = to_sql(revision - compacted).map_err(failed)?;
    if changes != expected || newest != to_sql(revision).map_err(failed)? {
        return damaged(format!(
            "the log has {changes} changes after revision {compacted} and ends at {newest}, expected {expected} up to {revision}"
        ));
    }
    let lost: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM object o LEFT JOIN change c ON c.revision = o.revision
         AND c.kind <> 2 AND c.resource = o.resource AND c.namespace = o.namespace AND c.name = o.name
         WHERE c.revision IS NULL",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    if lost != 0 {
        return damaged(format!("{lost} objects have no body"));
    }
    Ok(())
}

/// An error met while reading a file that should be a store, told apart by SQLite's
/// result codes: 26 is NOTADB, 11 is CORRUPT.
fn read_error(path: &Path, source: sqlx::Error) -> OpenError {
    let path = path.to_owned();
    let code = source.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    match code.map(|code| code & 0xff) {
        Some(26) => OpenError::Foreign { path, why: "it is not an SQLite database".to_owned() },
        Some(11) => OpenError::Damaged { path, why: source.to_string() },
        _ => OpenError::Database { doing: "read", path, source },
    }
}

/// The latest and the compacted revision.
async fn counter(connection: &mut SqliteConnection) -> sqlx::Result<(u64, u64)> {
    let (current, compacted): (i64, i64) =
        sqlx::query_as("SELECT current, compacted FROM revision").fetch_one(connection).await?;
    Ok((from_sql(current)?, from_sql(compacted)?))
}

async fn changes_after(connection: &mut SqliteConnection, from: u64) -> sqlx::Result<Vec<ChangeRow>> {
    sqlx::query(
        "SELECT revision, resource, namespace, name, body, kind, previous, max(0, unixepoch() - committed)
         FROM change WHERE revision > ?1 ORDER BY revision",
    )
    .bind(to_sql(from)?)
    .try_map(change_row)
    .fetch_all(connection)
    .await
}

fn object_row(row: SqliteRow) -> sqlx::Result<ObjectRow> {
    Ok(ObjectRow {
        revision: from_sql(row.try_get(0)?)?,
        key: Key::new(row.try_get(1)?, row.try_get(2)?, row.try_get(3)?),
        body: Bytes::copy_from_slice(row.try_get(4)?),
    })
}

fn change_row(row: SqliteRow) -> sqlx::Result<ChangeRow> {
    Ok(ChangeRow {
        kind: kind_from_sql(row.try_get(5)?)?,
        previous: row.try_get::<Option<i64>, _>(6)?.map(from_sql).transpose()?,
        age: Duration::from_secs(from_sql(row.try_get(7)?)?),
        object: object_row(row)?,
    })
}

fn kind_to_sql(kind: ChangeKind) -> i64 {
    match kind {
        ChangeKind::Created => 0,
        ChangeKind::Updated => 1,
        ChangeKind::Deleted => 2,
    }
}

fn kind_from_sql(kind: i64) -> sqlx::Result<ChangeKind> {
    match kind {
        0 => Ok(ChangeKind::Created),
        1 => Ok(ChangeKind::Updated),
        2 => Ok(ChangeKind::Deleted),
        other => Err(sqlx::Error::Decode(format!("there is no kind {other} of change").into())),
    }
}

fn to_sql(revision: u64) -> sqlx::Result<i64> {
    i64::try_from(revision).map_err(|error| sqlx::Error::Encode(error.into()))
}

fn from_sql(revision: i64) -> sqlx::Result<u64> {
    u64::try_from(revision).map_err(|error| sqlx::Error::Decode(error.into()))
}
