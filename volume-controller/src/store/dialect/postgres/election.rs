//! Which of several servers runs the controllers.
//!
//! Whoever has a lock of the session writes a number of its own, its term, into the counter's row. The lock decides who may
//! begin: it is free at once when its holder ends, is killed or lets go, and after about ten seconds when the holder's
//! machine is gone. The number decides whose writes count: each transaction of controllers compares it under the
//! counter's lock, so one who was overtaken without noticing changes nothing any more. Both are on a connection of their own,
//! which waits for the lock while the store writes on another.

use std::time::Duration;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::time::{Instant, sleep, timeout};

use super::owner::is_held;
use super::session::{self, DEADLINE, within};
use crate::store::{Config, Database, Location, Term};

/// The lock's number: "HoldLead" in ASCII.
const LEAD: i64 = 0x486f_6c64_4c65_6164;
/// How often who leads looks whether that is still so. By this the server also sees that the process is not hung.
const LOOK: Duration = Duration::from_secs(1);
/// Looking takes less.
const ANSWER: Duration = Duration::from_secs(5);
/// Who could not find out for so long stops leading: others may have begun.
const DOUBT: Duration = Duration::from_secs(10);
/// Pause after a failed connection.
const PAUSE: Duration = Duration::from_millis(500);

/// A server that would lead. Dropped, it lets go of what it has.
#[derive(Debug)]
pub struct Candidate {
    database: Database,
    allow_fsync_off: bool,
    connection: Option<PgConnection>,
    /// The one that was begun last.
    term: Option<Term>,
}

impl Candidate {
    /// For the store that is open with this; `None` where nobody else can have it open.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let Location::Postgres(database) = &config.location else { return None };
        let database = database.clone();
        Some(Self { database, allow_fsync_off: config.allow_fsync_off, connection: None, term: None })
    }

    /// Waits until this process leads. However often it is elected, each term is another one. Cancel-safe.
    pub async fn elected(&mut self) -> Term {
        loop {
            // Dropped in the middle, the connection goes with the future, and what was taken on it.
            match self.stand().await {
                Ok(Some(term)) => return term,
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "standing for election failed and will be tried again");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits until this process leads no more: another term has begun, or that could not be found out for a
    /// while. Says which. Cancel-safe; to be called after [`Candidate::elected`].
    pub async fn deposed(&mut self) -> &'static str {
        let mut confirmed = Instant::now();
        loop {
            sleep(LOOK).await;
            // Given up in the middle, the connection goes.
            match timeout(ANSWER, self.is_leading()).await {
                Ok(Ok(true)) => confirmed = Instant::now(),
                Ok(Ok(false)) => return "another server has taken over",
                _ if confirmed.elapsed() > DOUBT => {
                    return "the database did not say for a while whether this server still leads";
                }
                unknown => tracing::debug!(?unknown, "whether this server still leads is not known"),
            }
        }
    }

    /// Lets another one lead at once.
    pub async fn resign(mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = within(ANSWER, connection.close()).await
        {
            tracing::debug!(%error, "closing the connection by which this server led");
        }
    }

    /// Waits for the lock for a while, and begins a term with it. On an error the connection is given up, and with it the
    /// lock.
    async fn stand(&mut self) -> sqlx::Result<Option<Term>> {
        let mut connection = self.connection().await?;
        match within(DEADLINE, lock(&mut connection)).await {
            Ok(()) => {}
            Err(error) if is_held(&error) => {
                within(DEADLINE, end_hung(&mut connection)).await?;
                self.connection = Some(connection);
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        // Never zero, and none that was there before, also in a database that went back in time.
        let term = rand::random::<i64>() | 1;
        let sign = sqlx::query("UPDATE revision SET leader = $1").bind(term);
        within(DEADLINE, sign.execute(&mut connection)).await?;
        self.connection = Some(connection);
        self.term = Some(Term(term));
        Ok(self.term)
    }

    async fn is_leading(&mut self) -> sqlx::Result<bool> {
        let has_lock = self.connection.is_some();
        let mut connection = self.connection().await?;
        let mut is_mine = leader(&mut connection).await? == self.term;
        if is_mine && !has_lock {
            // Nobody has begun since the connection was lost; nor will anybody, once this has the lock again.
            lock(&mut connection).await?;
            is_mine = leader(&mut connection).await? == self.term;
        }
        self.connection = Some(connection);
        Ok(is_mine)
    }

    async fn connection(&mut self) -> sqlx::Result<PgConnection> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => {
                let connection = session::connect(&self.database, self.allow_fsync_off).await;
                connection.map_err(session::SessionError::into_sqlx)
            }
        }
    }
}

/// Takes the lock; the session's `lock_timeout` ends the wait.
async fn lock(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_advisory_lock($1)").bind(LEAD).execute(connection).await.map(drop)
}

/// Whose term it is.
async fn leader(connection: &mut PgConnection) -> sqlx::Result<Option<Term>> {
    let leader: i64 = sqlx::query_scalar("SELECT leader FROM revision").fetch_one(connection).await?;
    Ok((leader != 0).then_some(Term(leader)))
}

/// Ends the session of a holder that has not looked for a long time: its process is stopped or hung, and would keep the lock
/// for as long as that lasts. PostgreSQL allows that to sessions of the same role.
async fn end_hung(connection: &mut PgConnection) -> sqlx::Result<()> {
    // MATERIALIZED keeps the planner from calling the function on every session there is, before it looks at the lock.
    let ended: Vec<bool> = sqlx::query_scalar(
        "WITH hung AS MATERIALIZED (
             SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_database d ON d.oid = l.database
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND d.datname = current_database()
             AND (l.classid::bigint << 32) + l.objid::bigint = $1
             AND a.state_change < clock_timestamp() - make_interval(secs => $2)
         )
         SELECT pg_terminate_backend(pid) FROM hung",
    )
    .bind(LEAD)
    .bind(DOUBT.as_secs_f64())
    .fetch_all(connection)
    .await?;
    if ended.contains(&true) {
        tracing::warn!("the server that led has not been heard of for {DOUBT:?}; its session was ended");
    }
    Ok(())
}
