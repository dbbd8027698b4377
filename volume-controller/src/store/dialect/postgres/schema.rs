//! The tables: found, made, brought up to date, and checked.

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::rows::counter;
use super::session::failed;
use crate::store::dialect::columns::to_sql;
use crate::store::{Database, Expected, Location, OpenError, StoreId};

/// What leads from each version of the schema to the next; the first makes it. Each sets `schema_version`.
/// One that is released is never edited.
const MIGRATIONS: &[&str] = &[
    include_str!("1.sql"),
    include_str!("2.sql"),
    include_str!("3.sql"),
    include_str!("4.sql"),
    include_str!("5.sql"),
];

/// The schema that this code reads and writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Held while the tables are made or changed: replicas that start at once take turns. "HoldMigr" in ASCII.
const MIGRATING: i64 = 0x486f_6c64_4d69_6772;

/// Makes the tables, or brings them up to date, in one transaction: a crash leaves them as they
/// were, and so does an error. Refuses what is not ours, newer, or not the store that is expected.
pub(super) async fn prepare(
    connection: &mut PgConnection,
    database: &Database,
    expected: Expected,
) -> Result<(), OpenError> {
    let mut transaction = connection.begin().await.map_err(failed("begin in", database))?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(MIGRATING)
        .execute(&mut *transaction)
        .await
        .map_err(failed("lock the schema of", database))?;
    let (has_schema, relations, has_version): (bool, i64, bool) = sqlx::query_as(
        "SELECT to_regnamespace('holdfast') IS NOT NULL,
                (SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('holdfast')),
                to_regclass('holdfast.schema_version') IS NOT NULL",
    )
    .fetch_one(&mut *transaction)
    .await
    .map_err(failed("look into", database))?;
    let mut found: i64 = 0;
    if has_version {
        found = sqlx::query_scalar("SELECT version FROM schema_version")
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed("read the schema's version of", database))?;
    } else if relations != 0 {
        let why =
            format!("its schema \"holdfast\" has {relations} tables and indices of another application");
        return Err(OpenError::Foreign { store: Location::Postgres(database.clone()), why });
    }
    if found > VERSION {
        let store = Location::Postgres(database.clone());
        return Err(OpenError::Newer { store, found, known: VERSION });
    }
    if let Expected::Existing(expected) = expected
        && found == 0
    {
        return Err(OpenError::Absent { store: Location::Postgres(database.clone()), expected });
    }
    if !has_schema {
        sqlx::raw_sql("CREATE SCHEMA holdfast")
            .execute(&mut *transaction)
            .await
            .map_err(failed("create a schema in", database))?;
    }
    let done = usize::try_from(found).unwrap_or_default();
    for migration in MIGRATIONS.iter().skip(done) {
        sqlx::raw_sql(*migration)
            .execute(&mut *transaction)
            .await
            .map_err(failed("create the tables of", database))?;
    }
    if let Expected::Mine(mine) = expected
        && found == 0
    {
        sqlx::query("UPDATE revision SET store = $1::text::uuid")
            .bind(mine.to_string())
            .execute(&mut *transaction)
            .await
            .map_err(failed("create the tables of", database))?;
    }
    identify(&mut transaction, database, expected).await?;
    transaction.commit().await.map_err(failed("create the tables of", database))
}

async fn identify(
    connection: &mut PgConnection,
    database: &Database,
    expected: Expected,
) -> Result<(), OpenError> {
    let (Expected::Mine(expected) | Expected::Existing(expected)) = expected else { return Ok(()) };
    let found: sqlx::Result<String> =
        sqlx::query_scalar("SELECT store::text FROM revision").fetch_one(connection).await;
    let found =
        found.and_then(|found| found.parse::<StoreId>().map_err(|error| sqlx::Error::Decode(error.into())));
    let found = found.map_err(failed("read which store is in", database))?;
    if found == expected {
        return Ok(());
    }
    Err(OpenError::Another { store: Location::Postgres(database.clone()), found, expected })
}

/// Whether the log has no gap and ends at the counter, as of one moment.
pub(super) async fn check(connection: &mut PgConnection, database: &Database) -> Result<(), OpenError> {
    let damage = find_damage(connection).await.map_err(failed("check", database))?;
    match damage {
        Some(why) => Err(OpenError::Damaged { store: Location::Postgres(database.clone()), why }),
        None => Ok(()),
    }
}

pub(super) async fn find_damage(connection: &mut PgConnection) -> sqlx::Result<Option<String>> {
    let mut transaction = connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    // Large stores take their time.
    sqlx::raw_sql("SET LOCAL statement_timeout = '10min'").execute(&mut *transaction).await?;
    let (counter, _) = counter(&mut transaction).await?;
    let (revision, compacted) = (counter.current, counter.compacted);
    let (changes, newest): (i64, i64) =
        sqlx::query_as("SELECT count(*), coalesce(max(revision), $1) FROM change WHERE revision > $1")
            .bind(to_sql(compacted)?)
            .fetch_one(&mut *transaction)
            .await?;
    let expected = to_sql(revision - compacted)?;
    if changes != expected || newest != to_sql(revision)? {
        return Ok(Some(format!(
            "the log has {changes} changes after revision {compacted} and ends at {newest}, expected {expected} up to {revision}"
        )));
    }
    let torn: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM change c LEFT JOIN change p ON p.revision = c.previous
         AND p.kind <> 2 AND p.resource = c.resource AND p.namespace = c.namespace AND p.name = c.name
         WHERE c.revision > $1 AND c.previous IS NOT NULL AND p.revision IS NULL",
    )
    .bind(to_sql(compacted)?)
    .fetch_one(&mut *transaction)
    .await?;
    transaction.rollback().await?;
    Ok((torn != 0).then(|| format!("of {torn} changes what they replaced is not there")))
}
