//! PostgreSQL: any number of processes, each with one connection to write and read by,
//! and one to hear of the others.
//!
//! Whoever writes locks the one row of `revision` first and holds it until COMMIT has done
//! its work. So transactions happen one after the other, in the order of their revisions, and a
//! reader who sees a revision sees all before it.
//!
//! What a process has read must stay true. When the database does not continue it, nothing is written on top
//! of that, and the process says so, whoever else has the database meanwhile.

mod credentials;
mod election;
mod listen;
mod owner;
mod past;
mod rows;
mod schema;
mod session;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::columns::{from_sql, to_sql};
use super::{CommitFailure, Dialect, DialectError, FILL_STEP, Foreign, Loaded, Settled, Size};
use crate::store::{Change, Config, Credential, Database, OpenError, Restored, Sharing, Term};
pub use election::Candidate;
use listen::News;
use owner::Ownership;
use past::Past;
use rows::{Counter, after, append, change_row, counter, lock_counter, object_row, token_of};
use session::{DEADLINE, LOAD_DEADLINE, in_time, within};

/// The database and the connection to it.
pub(crate) struct Postgres {
    database: Database,
    allow_fsync_off: bool,
    connection: Option<PgConnection>,
    /// Of a process that must be alone, or with servers only.
    ownership: Option<Ownership>,
    news: News,
    /// Names this store in the words that it sends.
    origin: i64,
    past: Past,
    /// Of the leader, as of the last transaction.
    term: Option<Term>,
    /// The token of the last commit that was tried.
    tried: i64,
    lost: Option<String>,
}

impl Postgres {
    /// Opens the database, makes its tables when it has none, and checks them. What is not
    /// ours is not written to, nor what somebody has who must be alone. Runs a task on the current tokio
    /// runtime until it is dropped.
    pub(crate) async fn open(database: &Database, config: &Config) -> Result<Self, OpenError> {
        let mut connection = session::connect(database, config.allow_fsync_off)
            .await
            .map_err(|error| error.into_open(database))?;
        let ownership = Ownership::of(&config.sharing);
        // Before anything is looked at: a lock needs no tables.
        if let Some(ownership) = &ownership {
            in_time(DEADLINE, database, ownership.take(&mut connection, database)).await?;
        }
        in_time(DEADLINE, database, schema::prepare(&mut connection, database, config.expected)).await?;
        if let Sharing::Servers(here) = &config.sharing {
            in_time(DEADLINE, database, credentials::compare(&mut connection, database, here)).await?;
        }
        in_time(LOAD_DEADLINE, database, schema::check(&mut connection, database)).await?;
        if let Some(ownership) = &ownership {
            in_time(DEADLINE, database, ownership.sign(&mut connection, database)).await?;
        }
        let origin = rand::random();
        Ok(Self {
            database: database.clone(),
            allow_fsync_off: config.allow_fsync_off,
            connection: Some(connection),
            ownership,
            news: News::of(database, origin),
            origin,
            past: Past::default(),
            term: None,
            tried: 0,
            lost: None,
        })
    }

    /// See [`crate::store::note_credentials`].
    pub(crate) async fn note(
        database: &Database,
        config: &Config,
        credentials: &[Credential],
    ) -> Result<(), OpenError> {
        let connection = session::connect(database, config.allow_fsync_off).await;
        let mut connection = connection.map_err(|error| error.into_open(database))?;
        let is_alone = config.sharing == Sharing::Alone;
        in_time(DEADLINE, database, credentials::note(&mut connection, database, credentials, is_alone)).await
    }

    /// The connection; a new one when the last one failed.
    async fn connection(&mut self) -> sqlx::Result<&mut PgConnection> {
        if let Some(why) = &self.lost {
            return Err(sqlx::Error::Protocol(why.clone()));
        }
        if self.connection.is_none() {
            let mut connection = session::connect(&self.database, self.allow_fsync_off)
                .await
                .map_err(session::SessionError::into_sqlx)?;
            let (counter, version) = counter(&mut connection).await?;
            self.verify_version(version)?;
            let token = token_of(&mut connection, self.past.revision()).await?;
            self.verify(&counter, token)?;
            if let Some(ownership) = &self.ownership {
                ownership.lock(&mut connection).await?;
            }
            self.connection = Some(connection);
            // What cut off the one may have cut off the other, which has nothing to send and would not notice.
            self.news = News::of(&self.database, self.origin);
        }
        self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)
    }

    /// Runs to its end or names what failed. Then the connection is given up at once, so that
    /// nothing of a half-done transaction can reach the next one; the server rolls it back.
    fn check<T>(&mut self, doing: &'static str, result: sqlx::Result<T>) -> Result<T, DialectError> {
        result.map_err(|source| {
            self.connection = None;
            DialectError { doing, source: source.into() }
        })
    }

    /// Refuses to go on for good.
    fn lose<T>(&mut self, why: String) -> sqlx::Result<T> {
        let error = sqlx::Error::Protocol(why.clone());
        self.lost = Some(why);
        Err(error)
    }

    fn verify_version(&mut self, version: i64) -> sqlx::Result<()> {
        if version == schema::VERSION {
            return Ok(());
        }
        self.lose(format!(
            "a newer program has brought {} to schema version {version}, this one knows version {}; start the newer \
             program in its place",
            self.database,
            schema::VERSION
        ))
    }

    /// Whether the database still has what was read here, and is ours; `token` is that of the known revision now.
    /// The past comes first: a restored database has some former owner's number in it.
    fn verify(&mut self, counter: &Counter, token: Option<i64>) -> sqlx::Result<()> {
        if self.past.contradicts(counter, token) {
            return self.lose_history(self.past.revision().unwrap_or_default());
        }
        match &self.ownership {
            Some(ownership) if !ownership.is_ours(counter) => self.lose(format!(
                "another process has taken {} over while this one was cut off from it; stop one of them",
                self.database
            )),
            _ => Ok(()),
        }
    }

    fn lose_history<T>(&mut self, seen: u64) -> sqlx::Result<T> {
        self.lose(format!(
            "{} does not continue what this process has read up to revision {seen}: it was restored, or failed over to \
             a copy that lacks commits; start this process again",
            self.database
        ))
    }

    /// What others have committed after `seen`, given the counter as it is now.
    async fn foreign(&mut self, seen: u64, counter: Counter) -> sqlx::Result<Foreign> {
        if counter.current == seen {
            // Nothing came after it, so the counter has its token.
            self.verify(&counter, Some(counter.token))?;
            return Ok(Foreign::Changes(Vec::new()));
        }
        let after = after(self.connection().await?, seen).await?;
        self.verify(&after.counter, after.token)?;
        if after.counter.compacted > seen {
            return Ok(Foreign::Compacted);
        }
        self.past.hear(&after.counter);
        Ok(Foreign::Changes(after.changes))
    }

    /// Begins a transaction in which nobody else writes.
    async fn lock(&mut self) -> sqlx::Result<Counter> {
        let (counter, version) = lock_counter(self.connection().await?).await?;
        self.verify_version(version)?;
        self.term = (counter.leader != 0).then_some(Term(counter.leader));
        Ok(counter)
    }

    async fn try_load(&mut self, limit: u64) -> sqlx::Result<Loaded> {
        let connection = self.connection().await?;
        sqlx::raw_sql(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '10min'",
        )
        .execute(&mut *connection)
        .await?;
        let (counter, version) = counter(connection).await?;
        self.verify_version(version)?;
        let connection = self.same_connection()?;
        let incarnation: i64 =
            sqlx::query_scalar("SELECT incarnation FROM revision").fetch_one(&mut *connection).await?;
        let incarnation = from_sql(incarnation)?;
        let Counter { current: revision, compacted, .. } = counter;
        let floor = revision.saturating_sub(limit).max(compacted);
        let objects = sqlx::query(
            "SELECT revision, resource, namespace, name, body FROM change c
             WHERE kind <> 2 AND NOT EXISTS (SELECT FROM change later WHERE later.previous = c.revision)",
        )
        .try_map(|row| object_row(&row, 0))
        .fetch_all(&mut *connection)
        .await?;
        let changes = sqlx::query(
            "SELECT revision, resource, namespace, name, body, kind, previous,
                    greatest(0, extract(epoch FROM now() - committed))::bigint
             FROM change WHERE revision > $1 ORDER BY revision",
        )
        .bind(to_sql(floor)?)
        .try_map(|row| change_row(&row, 0))
        .fetch_all(&mut *connection)
        .await?;
        let replaced = sqlx::query(
            "SELECT revision, resource, namespace, name, body FROM change WHERE revision IN
             (SELECT previous FROM change WHERE revision > $1 AND previous <= $1)",
        )
        .bind(to_sql(floor)?)
        .try_map(|row| object_row(&row, 0))
        .fetch_all(&mut *connection)
        .await?;
        sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
        self.past.hear(&counter);
        Ok(Loaded { revision, compacted, incarnation, floor, objects, changes, replaced })
    }

    async fn try_begin(&mut self, seen: u64) -> sqlx::Result<Foreign> {
        self.past.reach(seen);
        let counter = self.lock().await?;
        self.foreign(seen, counter).await
    }

    async fn try_tail(&mut self, seen: u64) -> sqlx::Result<Foreign> {
        self.past.reach(seen);
        let (counter, version) = counter(self.connection().await?).await?;
        self.verify_version(version)?;
        self.foreign(seen, counter).await
    }

    async fn try_append(&mut self, changes: &[Arc<Change>]) -> sqlx::Result<()> {
        self.tried = rand::random();
        let (token, origin) = (self.tried, self.origin);
        append(self.same_connection()?, changes, token, origin).await
    }

    /// The connection on which a transaction was begun. Never a new one: there COMMIT would
    /// succeed without having committed anything.
    fn same_connection(&mut self) -> sqlx::Result<&mut PgConnection> {
        self.connection.as_mut().ok_or_else(|| sqlx::Error::Protocol("there is no transaction".to_owned()))
    }

    /// Goes on in a transaction that was begun.
    async fn run(&mut self, sql: &'static str) -> sqlx::Result<()> {
        sqlx::raw_sql(sql).execute(self.same_connection()?).await.map(drop)
    }

    async fn try_settle(&mut self, base: u64, last: u64) -> sqlx::Result<Settled> {
        // What the server still does for the old connection ends before the lock is
        // had: a transaction lets go of the counter when it is either durable or gone.
        self.connection = None;
        self.past.reach(base);
        let counter = self.lock().await?;
        let connection = self.same_connection()?;
        let token = token_of(connection, Some(base + 1)).await?;
        let before = token_of(connection, Some(base)).await?;
        if token == Some(self.tried) {
            // It is here, but the wait for a standby (`synchronous_standby_names`) ended with the old connection. A
            // commit that writes waits for everything before it.
            self.run("UPDATE revision SET owner = owner; COMMIT").await?;
            self.past.know(last, self.tried);
            return Ok(Settled::Happened);
        }
        self.run("ROLLBACK").await?;
        if counter.current == base {
            self.verify(&counter, Some(counter.token))?;
        } else {
            self.verify(&counter, before)?;
        }
        Ok(if token.is_none() && counter.compacted > base { Settled::Compacted } else { Settled::DidNot })
    }

    async fn try_fill(&mut self, changes: &[Arc<Change>], restored: Restored) -> sqlx::Result<()> {
        self.lock().await?;
        for changes in changes.chunks(FILL_STEP) {
            self.try_append(changes).await?;
        }
        sqlx::query("UPDATE revision SET current = $1, compacted = $1, incarnation = $2")
            .bind(to_sql(restored.revision)?)
            .bind(to_sql(restored.incarnation)?)
            .execute(self.same_connection()?)
            .await?;
        self.run("COMMIT").await
    }

    /// What lies free inside the tables only the server knows, roughly.
    async fn try_size(&mut self) -> sqlx::Result<Size> {
        let total: i64 = sqlx::query_scalar(
            "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
             WHERE relnamespace = 'holdfast'::regnamespace AND relkind = 'r'",
        )
        .fetch_one(self.connection().await?)
        .await?;
        Ok(Size { total: u64::try_from(total).unwrap_or_default(), free: 0 })
    }

    async fn try_compact(&mut self, to: u64) -> sqlx::Result<u64> {
        let counter = self.lock().await?;
        let known = self.past.revision();
        let token = token_of(self.same_connection()?, known).await?;
        self.verify(&counter, token)?;
        if counter.compacted >= to {
            self.run("ROLLBACK").await?;
            return Ok(counter.compacted);
        }
        let (from, until) = (to_sql(counter.compacted)?, to_sql(to)?);
        let connection = self.same_connection()?;
        // A body may go when the change that replaced it is compacted: then no
        // living object and no remaining change refers to it.
        sqlx::query(
            "DELETE FROM change WHERE revision IN
             (SELECT previous FROM change WHERE revision > $1 AND revision <= $2)",
        )
        .bind(from)
        .bind(until)
        .execute(&mut *connection)
        .await?;
        sqlx::query("DELETE FROM change WHERE revision > $1 AND revision <= $2 AND kind = 2")
            .bind(from)
            .bind(until)
            .execute(&mut *connection)
            .await?;
        sqlx::query("UPDATE revision SET compacted = $1").bind(until).execute(&mut *connection).await?;
        self.run("COMMIT").await?;
        Ok(to)
    }
}

#[async_trait]
impl Dialect for Postgres {
    fn term(&self) -> Option<Term> {
        self.term
    }

    async fn load(&mut self, changes: usize) -> Result<Loaded, DialectError> {
        let limit = u64::try_from(changes).unwrap_or(u64::MAX);
        let result = within(LOAD_DEADLINE, self.try_load(limit)).await;
        self.check("read the objects", result)
    }

    async fn begin(&mut self, seen: u64) -> Result<Foreign, DialectError> {
        let result = within(DEADLINE, self.try_begin(seen)).await;
        self.check("begin a transaction", result)
    }

    async fn rollback(&mut self) -> Result<(), DialectError> {
        let result = within(DEADLINE, self.run("ROLLBACK")).await;
        self.check("roll back", result)
    }

    async fn commit(&mut self, changes: &[Arc<Change>]) -> Result<(), CommitFailure> {
        let result = within(DEADLINE, self.try_append(changes)).await;
        self.check("write the changes", result).map_err(CommitFailure::Refused)?;
        let result = within(DEADLINE, self.run("COMMIT")).await;
        self.check("commit", result).map_err(CommitFailure::Unknown)?;
        if let Some(last) = changes.last() {
            self.past.know(last.revision, self.tried);
        }
        Ok(())
    }

    async fn settle(&mut self, base: u64, last: u64) -> Result<Settled, DialectError> {
        let result = within(DEADLINE, self.try_settle(base, last)).await;
        self.check("learn what became of a commit", result)
    }

    async fn tail(&mut self, seen: u64) -> Result<Foreign, DialectError> {
        let result = within(DEADLINE, self.try_tail(seen)).await;
        self.check("look for commits of other replicas", result)
    }

    async fn changed(&mut self) {
        self.news.wait().await;
    }

    async fn compact(&mut self, to: u64) -> Result<u64, DialectError> {
        let result = within(DEADLINE, self.try_compact(to)).await;
        self.check("compact the change log", result)
    }

    /// Autovacuum does it.
    async fn maintain(&mut self, _is_idle: bool) -> Result<(), DialectError> {
        Ok(())
    }

    async fn integrity(&mut self) -> Result<Vec<String>, DialectError> {
        let result =
            within(LOAD_DEADLINE, async { schema::find_damage(self.connection().await?).await }).await;
        self.check("check the tables", result).map(|damage| damage.into_iter().collect())
    }

    async fn fill(&mut self, changes: &[Arc<Change>], restored: Restored) -> Result<(), DialectError> {
        let result = within(LOAD_DEADLINE, self.try_fill(changes, restored)).await;
        self.check("write the objects", result)
    }

    async fn size(&mut self) -> Result<Size, DialectError> {
        let result = within(DEADLINE, self.try_size()).await;
        self.check("ask for the size", result)
    }

    fn contradicted(&mut self, seen: u64) {
        let _ = self.lose_history::<()>(seen);
    }

    fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = within(DEADLINE, connection.close()).await
        {
            tracing::debug!(%error, "closing the connection");
        }
    }
}
