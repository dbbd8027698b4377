//! Rows to parameters and back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::super::columns::{from_sql, kind_from_sql, kind_to_sql, to_sql};
use super::super::{ChangeRow, ObjectRow};
use crate::store::{Change, Key};

/// One batch as parameters of the statement.
pub(super) struct Batch {
    /// `[revision, kind, previous, resource, namespace, name, first byte of the body (from 1), its length]`
    pub(super) rows: String,
    pub(super) bodies: Vec<u8>,
}

impl Batch {
    pub(super) fn of(changes: &[Arc<Change>]) -> sqlx::Result<Self> {
        let mut bodies = Vec::with_capacity(changes.iter().map(|change| change.object.body.len()).sum());
        let mut rows = Vec::with_capacity(changes.len());
        for change in changes {
            let Key { resource, namespace, name } = &change.object.key;
            let body = &change.object.body;
            let previous = change.previous.as_ref().map(|previous| to_sql(previous.revision)).transpose()?;
            let (revision, kind) = (to_sql(change.revision)?, kind_to_sql(change.kind));
            let first = bodies.len() + 1;
            rows.push((revision, kind, previous, &**resource, &**namespace, &**name, first, body.len()));
            bodies.extend_from_slice(body);
        }
        let rows = serde_json::to_string(&rows).map_err(|error| sqlx::Error::Encode(error.into()))?;
        Ok(Self { rows, bodies })
    }
}

/// The latest revision and the compacted one, which is the latest where no change is left after it.
const COUNTER: &str =
    "SELECT max(compacted, (SELECT coalesce(max(revision), 0) FROM change)), compacted FROM revision";

/// The latest and the compacted revision.
pub(super) async fn counter(connection: &mut SqliteConnection) -> sqlx::Result<(u64, u64)> {
    let (current, compacted): (i64, i64) = sqlx::query_as(COUNTER).fetch_one(connection).await?;
    Ok((from_sql(current)?, from_sql(compacted)?))
}

/// Keeps other writers out, and reads the counter as [`counter`] does.
pub(super) async fn begin(connection: &mut SqliteConnection) -> sqlx::Result<(u64, u64)> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    counter(connection).await
}

pub(super) async fn changes_after(
    connection: &mut SqliteConnection,
    from: u64,
) -> sqlx::Result<Vec<ChangeRow>> {
    sqlx::query(
        "SELECT revision, resource, namespace, name, body, kind, previous, max(0, unixepoch() - committed)
         FROM change WHERE revision > ?1 ORDER BY revision",
    )
    .bind(to_sql(from)?)
    .try_map(change_row)
    .fetch_all(connection)
    .await
}

pub(super) fn object_row(row: SqliteRow) -> sqlx::Result<ObjectRow> {
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
