//! Rows to parameters and back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use crate::store::dialect::columns::{from_sql, kind_from_sql, kind_to_sql, to_sql};
use crate::store::dialect::{ChangeRow, ObjectRow};
use crate::store::{Change, Key};

/// The row of `revision`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counter {
    /// The latest revision.
    pub(super) current: u64,
    /// Up to where the change log is compacted.
    pub(super) compacted: u64,
    /// The token of the commit that wrote the latest revision.
    pub(super) token: i64,
    /// The process that must be alone; 0 while servers have the store.
    pub(super) owner: i64,
    /// The term of the server that leads; 0 when there was none.
    pub(super) leader: i64,
}

fn counter_row(row: &PgRow) -> sqlx::Result<Counter> {
    Ok(Counter {
        current: from_sql(row.try_get(0)?)?,
        compacted: from_sql(row.try_get(1)?)?,
        token: row.try_get(2)?,
        owner: row.try_get(3)?,
        leader: row.try_get(4)?,
    })
}

/// The counter as it is, without a lock, and the schema's version.
pub(super) async fn counter(connection: &mut PgConnection) -> sqlx::Result<(Counter, i64)> {
    let row = sqlx::query(
        "SELECT current, compacted, token, owner, leader, (SELECT version FROM schema_version) FROM revision",
    )
    .fetch_one(connection)
    .await?;
    Ok((counter_row(&row)?, row.try_get(5)?))
}

/// The token of the commit that wrote a revision, if there is one and it is still in the log.
pub(super) async fn token_of(
    connection: &mut PgConnection,
    revision: Option<u64>,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("SELECT token FROM change WHERE revision = $1")
        .bind(revision.map(to_sql).transpose()?)
        .fetch_optional(connection)
        .await
}

/// Begins a transaction and locks the counter, so that nobody else writes until its end. Waits
/// for whoever has the lock. Also returns the schema's version.
pub(super) async fn lock_counter(connection: &mut PgConnection) -> sqlx::Result<(Counter, i64)> {
    let rows = sqlx::raw_sql(
        "BEGIN;
         SELECT current, compacted, token, owner, leader FROM revision FOR UPDATE;
         SELECT version FROM schema_version;",
    )
    .fetch_all(connection)
    .await?;
    let [counter, version] = rows.as_slice() else {
        return Err(sqlx::Error::Protocol(format!(
            "the tables revision and schema_version have {} rows together, expected one each",
            rows.len()
        )));
    };
    Ok((counter_row(counter)?, version.try_get(0)?))
}

/// What was committed after a revision, and the counter, as of one moment.
pub(super) struct After {
    pub(super) counter: Counter,
    /// The token of the commit that wrote the revision itself, if that is still in the log.
    pub(super) token: Option<i64>,
    pub(super) changes: Vec<ChangeRow>,
}

/// One statement, so that no compaction comes between the counter and the changes.
pub(super) async fn after(connection: &mut PgConnection, seen: u64) -> sqlx::Result<After> {
    let rows = sqlx::query(
        "SELECT r.current, r.compacted, r.token, r.owner, r.leader,
                (SELECT token FROM change WHERE revision = $1), c.revision, c.resource, c.namespace, c.name, c.body, c.kind, c.previous,
                greatest(0, extract(epoch FROM now() - c.committed))::bigint
         FROM revision r LEFT JOIN change c ON c.revision > $1
         ORDER BY c.revision",
    )
    .bind(to_sql(seen)?)
    .fetch_all(connection)
    .await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (counter, token) = (counter_row(first)?, first.try_get(5)?);
    let mut changes = Vec::with_capacity(rows.len());
    for row in &rows {
        // Without any change there is one row, which has the counter only.
        if row.try_get::<Option<i64>, _>(6)?.is_some() {
            changes.push(change_row(row, 6)?);
        }
    }
    Ok(After { counter, token, changes })
}

/// One change, from the column `first` on.
pub(super) fn change_row(row: &PgRow, first: usize) -> sqlx::Result<ChangeRow> {
    Ok(ChangeRow {
        object: object_row(row, first)?,
        kind: kind_from_sql(row.try_get(first + 5)?)?,
        previous: row.try_get::<Option<i64>, _>(first + 6)?.map(from_sql).transpose()?,
        age: Duration::from_secs(from_sql(row.try_get(first + 7)?)?),
    })
}

/// One object, from the column `first` on.
pub(super) fn object_row(row: &PgRow, first: usize) -> sqlx::Result<ObjectRow> {
    Ok(ObjectRow {
        revision: from_sql(row.try_get(first)?)?,
        key: Key::new(row.try_get(first + 1)?, row.try_get(first + 2)?, row.try_get(first + 3)?),
        body: Bytes::copy_from_slice(row.try_get(first + 4)?),
    })
}

/// Writes a batch in one statement however many changes it holds, moves the counter to its
/// last revision, and tells the replicas that listen, once it is committed.
pub(super) async fn append(
    connection: &mut PgConnection,
    changes: &[Arc<Change>],
    token: i64,
    origin: i64,
) -> sqlx::Result<()> {
    let revisions = changes.iter().map(|change| to_sql(change.revision)).collect::<sqlx::Result<Vec<_>>>()?;
    let previous = changes
        .iter()
        .map(|change| change.previous.as_ref().map(|previous| to_sql(previous.revision)).transpose())
        .collect::<sqlx::Result<Vec<_>>>()?;
    let kinds: Vec<i16> = changes.iter().map(|change| kind_to_sql(change.kind)).collect();
    let resources: Vec<&str> = changes.iter().map(|change| &*change.object.key.resource).collect();
    let namespaces: Vec<&str> = changes.iter().map(|change| &*change.object.key.namespace).collect();
    let names: Vec<&str> = changes.iter().map(|change| &*change.object.key.name).collect();
    let bodies: Vec<&[u8]> = changes.iter().map(|change| &*change.object.body).collect();
    let last = revisions.last().copied();
    sqlx::query(
        "WITH log AS (
             INSERT INTO change (revision, kind, previous, token, resource, namespace, name, body)
             SELECT revision, kind, previous, $8, resource, namespace, name, body
             FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bytea[])
             AS w (revision, kind, previous, resource, namespace, name, body)
         )
         UPDATE revision SET current = $9, token = $8 RETURNING pg_notify('holdfast', $10::bigint::text)",
    )
    .bind(revisions)
    .bind(kinds)
    .bind(previous)
    .bind(resources)
    .bind(namespaces)
    .bind(names)
    .bind(bodies)
    .bind(token)
    .bind(last)
    .bind(origin)
    .fetch_one(connection)
    .await
    .map(drop)
}
