//! The database file: what it is, how it is made, opened and checked.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteLockingMode};
use sqlx::{ConnectOptions, Connection};

use super::super::columns::to_sql;
use super::rows::counter;
use crate::store::OpenError;

/// `PRAGMA application_id` of our files, "Hold" in ASCII.
const APPLICATION_ID: i64 = 1_215_261_796;
/// What leads from each version of the schema to the next; the first makes it. Each sets `schema_version`.
/// One that is released is never edited.
const MIGRATIONS: &[&str] = &[include_str!("1.sql"), include_str!("2.sql"), include_str!("3.sql")];
/// The schema that this code reads and writes.
const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;
/// How long to wait for another process to let go of the file. The lock file keeps
/// stores apart; this is for tools that look into the database.
const BUSY: Duration = Duration::from_secs(2);

/// The file as it is called without links, so that two names of it have one lock.
pub(crate) fn real_path(path: &Path) -> Result<PathBuf, OpenError> {
    let failed = |source| OpenError::File { doing: "find", path: path.to_owned(), source };
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
            let folder = match path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            Ok(folder.canonicalize().map_err(failed)?.join(name))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Creates the file if it is not there. It holds secrets: only its owner may
/// read it. SQLite gives the files next to it the same mode.
pub(super) fn create(path: &Path) -> Result<(), OpenError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|source| OpenError::File { doing: "open", path: path.to_owned(), source })
}

pub(super) async fn connect(path: &Path) -> sqlx::Result<SqliteConnection> {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .locking_mode(SqliteLockingMode::Exclusive)
        .busy_timeout(BUSY)
        .disable_statement_logging()
        .connect()
        .await
}

/// What every SQLite database begins with (file format, section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Refuses what is no SQLite database before SQLite itself looks at it: beside a foreign
/// file a log that an earlier database left would be played into it on opening.
/// What cannot be read here SQLite will complain of.
pub(super) fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    let mut begin = Vec::with_capacity(MAGIC.len());
    let Ok(file) = File::open(path) else { return Ok(()) };
    if file.take(MAGIC.len() as u64).read_to_end(&mut begin).is_err() {
        return Ok(());
    }
    if begin.is_empty() || begin == MAGIC {
        return Ok(());
    }
    Err(OpenError::Foreign { store: path.into(), why: "it is not an SQLite database".to_owned() })
}

/// What a file is that may be opened.
#[derive(PartialEq)]
pub(super) enum Found {
    Empty,
    /// A store of this version of the schema.
    Ours(i64),
}

/// What kind of file it is, by reading only.
pub(super) async fn identify(connection: &mut SqliteConnection, path: &Path) -> Result<Found, OpenError> {
    let failed = |source| open_error("read", path, source);
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
        return Err(OpenError::Foreign { store: path.into(), why });
    }
    let version: i64 = sqlx::query_scalar("SELECT version FROM schema_version")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if version > SCHEMA_VERSION {
        return Err(OpenError::Newer { store: path.into(), found: version, known: SCHEMA_VERSION });
    }
    Ok(Found::Ours(version))
}

/// Makes an empty file a store, or brings an older one up to date. One transaction: a crash leaves the file as it was.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    found: Found,
    path: &Path,
) -> sqlx::Result<()> {
    let version = match found {
        Found::Ours(SCHEMA_VERSION) => return Ok(()),
        Found::Ours(version) => version,
        Found::Empty => {
            // Only before there is anything in the file.
            sqlx::raw_sql("PRAGMA auto_vacuum = INCREMENTAL").execute(&mut *connection).await?;
            0
        }
    };
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or_default()) {
        sqlx::raw_sql(*migration).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    if version > 0 {
        tracing::info!(
            file = %path.display(),
            from = version,
            to = SCHEMA_VERSION,
            "brought the store up to date; programs before this one refuse it from now on"
        );
    }
    Ok(())
}

/// Lets a file that an earlier version made give free pages back. That writes the file anew, once, in one
/// transaction; without the room for it the file stays as it is, which only costs room.
pub(super) async fn allow_vacuum(connection: &mut SqliteConnection, path: &Path) {
    const INCREMENTAL: i64 = 2;
    let result = async {
        let mode: i64 = sqlx::query_scalar("PRAGMA auto_vacuum").fetch_one(&mut *connection).await?;
        if mode == INCREMENTAL {
            return Ok(());
        }
        tracing::info!(file = %path.display(), "writing the store's file anew, so that it can get smaller");
        sqlx::raw_sql("PRAGMA auto_vacuum = INCREMENTAL; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut *connection)
            .await
            .map(drop)
    };
    let result: sqlx::Result<()> = result.await;
    if let Err(error) = result {
        tracing::warn!(file = %path.display(), %error, "the store's file will not get smaller when objects go");
    }
}

/// What holds for a connection, not for the file (but for the WAL mode).
pub(super) async fn tune(connection: &mut SqliteConnection) -> sqlx::Result<()> {
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

/// Whether the file is in order, and the log has no gap.
pub(super) async fn check(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let failed = |source| open_error("read", path, source);
    let damaged = |why: String| Err(OpenError::Damaged { store: path.into(), why });
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
    let torn: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM change c LEFT JOIN change p ON p.revision = c.previous
         AND p.kind <> 2 AND p.resource = c.resource AND p.namespace = c.namespace AND p.name = c.name
         WHERE c.revision > ?1 AND c.previous IS NOT NULL AND p.revision IS NULL",
    )
    .bind(to_sql(compacted).map_err(failed)?)
    .fetch_one(&mut *connection)
    .await
    .map_err(failed)?;
    if torn != 0 {
        return damaged(format!("of {torn} changes what they replaced is not there"));
    }
    Ok(())
}

/// An error met before the file is known to be a store in order, told apart by
/// SQLite's result codes (sqlite.org/rescode.html).
pub(super) fn open_error(doing: &'static str, path: &Path, source: sqlx::Error) -> OpenError {
    const BUSY: i32 = 5;
    const CORRUPT: i32 = 11;
    const NOTADB: i32 = 26;
    let store = path.into();
    let code = source.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
    // The low byte is the primary code.
    match code.map(|code| code & 0xff) {
        Some(BUSY) => OpenError::InUse { store, holder: None },
        Some(NOTADB) => OpenError::Foreign { store, why: "it is not an SQLite database".to_owned() },
        Some(CORRUPT) => OpenError::Damaged { store, why: source.to_string() },
        _ => OpenError::Database { doing, store, source: source.into() },
    }
}
