//! Rows to parameters and back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use sqlx::Row;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection, SqliteRow};

use super::super::columns::{from_sql, kind_from_sql, kind_to_sql, to_sql};
use super::super::{ChangeRow, ObjectRow};
use crate::store::{Change, ChangeKind, Key};

/// One batch as parameters of the statements.
pub(super) struct Batch {
    /// `[revision, kind, previous, resource, namespace, name, first byte of the body (from 1), its length]`
    pub(super) rows: String,
    pub(super) bodies: Vec<u8>,
    /// `[resource, namespace, name, revision]` of what exists afterwards.
    pub(super) put: String,
    /// `[resource, namespace, name]` of what does not.
    pub(super) delete: String,
    pub(super) last: i64,
}

impl Batch {
    pub(super) fn of(changes: &[Arc<Change>]) -> sqlx::Result<Self> {
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
        Ok(Self {
            rows: Value::Array(rows).to_string(),
            bodies,
            put: Value::Array(put).to_string(),
            delete: Value::Array(delete).to_string(),
            last: to_sql(changes.last().map_or(0, |change| change.revision))?,
        })
    }

    /// Gives the statements that write the rows their parameters.
    pub(super) fn bind(
        self,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Query<'_, Sqlite, SqliteArguments> {
        query.bind(self.bodies).bind(self.rows).bind(self.put).bind(self.delete)
    }
}

/// The latest and the compacted revision.
pub(super) async fn counter(connection: &mut SqliteConnection) -> sqlx::Result<(u64, u64)> {
    let (current, compacted): (i64, i64) =
        sqlx::query_as("SELECT current, compacted FROM revision").fetch_one(connection).await?;
    Ok((from_sql(current)?, from_sql(compacted)?))
}

/// Keeps other writers out, and reads the counter as [`counter`] does.
pub(super) async fn begin(connection: &mut SqliteConnection) -> sqlx::Result<(u64, u64)> {
    let (current, compacted): (i64, i64) =
        sqlx::query_as("BEGIN IMMEDIATE; SELECT current, compacted FROM revision")
            .fetch_one(connection)
            .await?;
    Ok((from_sql(current)?, from_sql(compacted)?))
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
