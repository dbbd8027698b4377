//! Being alone, for a process whose controllers and mounts assume that there are no others; or with servers only.
//!
//! Two things together. A lock of the session, held on the very connection that writes,
//! keeps others from opening the store while this one is connected: a second process that must be alone, and servers,
//! which share the lock among themselves. And the counter's
//! row names its owner: every transaction reads that row under its lock, so a process that was cut
//! off, and overtaken meanwhile, cannot write any more, whatever it believes.

use sqlx::postgres::PgConnection;

use super::rows::Counter;
use super::session::failed;
use crate::store::{Database, Location, OpenError, Sharing};

/// The lock's number: "Holdfast" in ASCII.
const ALONE: i64 = 0x486f_6c64_6661_7374;

/// SQLSTATE of a lock that was not had in time (PostgreSQL, appendix A).
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// The owner that stands for all servers.
const SERVERS: i64 = 0;

/// The right to be the only one, or one of the servers.
#[derive(Debug)]
pub(super) struct Ownership {
    token: i64,
}

impl Ownership {
    /// That of a process which has not taken it yet.
    pub(super) fn of(sharing: &Sharing) -> Option<Self> {
        match sharing {
            Sharing::Anybody => None,
            Sharing::Servers(_) => Some(Self { token: SERVERS }),
            // Never zero.
            Sharing::Alone => Some(Self { token: rand::random::<i64>() | 1 }),
        }
    }

    /// Takes the lock, or says who has it.
    pub(super) async fn take(
        &self,
        connection: &mut PgConnection,
        database: &Database,
    ) -> Result<(), OpenError> {
        match self.lock(connection).await {
            Ok(()) => Ok(()),
            Err(error) if is_held(&error) => {
                let holder = holder(connection).await.unwrap_or_default();
                Err(OpenError::InUse { store: Location::Postgres(database.clone()), holder })
            }
            Err(error) => Err(failed("lock", database)(error)),
        }
    }

    /// Puts this process's number, or that of all servers, into the counter, under the lock. From then on a former owner
    /// writes no more.
    pub(super) async fn sign(
        &self,
        connection: &mut PgConnection,
        database: &Database,
    ) -> Result<(), OpenError> {
        sqlx::query("UPDATE revision SET owner = $1 WHERE owner <> $1")
            .bind(self.token)
            .execute(connection)
            .await
            .map(drop)
            .map_err(failed("note the owner in", database))
    }

    /// Takes the lock again, on a new connection. The server may take a moment to notice that
    /// the old one is gone; the session's `lock_timeout` ends the wait.
    pub(super) async fn lock(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let lock = match self.token {
            SERVERS => "SELECT pg_advisory_lock_shared($1)",
            _ => "SELECT pg_advisory_lock($1)",
        };
        sqlx::query(lock).bind(ALONE).execute(connection).await.map(drop)
    }

    pub(super) fn is_ours(&self, counter: &Counter) -> bool {
        counter.owner == self.token
    }
}

/// Whether a lock was not had because somebody else has it.
pub(super) fn is_held(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == LOCK_NOT_AVAILABLE)
}

/// Who has the lock, for people. `pg_locks` shows the number's halves (PostgreSQL, section 54.12).
async fn holder(connection: &mut PgConnection) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar(
        "SELECT format('%s (%s, server process %s)', a.application_name,
                       coalesce('at ' || host(a.client_addr), 'by unix socket'), a.pid)
         FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_database d ON d.oid = l.database
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND d.datname = current_database()
         AND (l.classid::bigint << 32) + l.objid::bigint = $1 ORDER BY a.pid LIMIT 1",
    )
    .bind(ALONE)
    .fetch_optional(connection)
    .await
}
