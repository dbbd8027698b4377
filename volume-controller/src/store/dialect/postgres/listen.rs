//! Word of commits by other replicas, over a connection of its own. Losing a word loses
//! time only: whoever waits looks by himself now and then.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::session::{SETTINGS, options};
use crate::store::Database;

/// How long a lost word is not noticed.
const POLL: Duration = Duration::from_secs(1);
/// Pause after a failed connection.
const PAUSE: Duration = Duration::from_secs(1);

/// Hears of commits until dropped.
pub(super) struct News {
    heard: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

impl News {
    /// Listens for commits of others than `origin`.
    pub(super) fn of(database: &Database, origin: i64) -> Self {
        let heard = Arc::new(Notify::new());
        let task = tokio::spawn(listen(database.clone(), origin.to_string(), heard.clone()));
        Self { heard, _task: AbortOnDropHandle::new(task) }
    }

    /// Returns when something was heard, or may have been missed. Cancel-safe.
    pub(super) async fn wait(&self) {
        tokio::select! {
            () = self.heard.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

async fn listen(database: Database, origin: String, heard: Arc<Notify>) {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(|connection, _| {
            Box::pin(async { connection.execute(sqlx::raw_sql(SETTINGS)).await.map(drop) })
        })
        .connect_lazy_with(options(&database));
    loop {
        if let Err(error) = follow(&pool, &origin, &heard).await {
            tracing::debug!(%error, "not told of commits by other replicas; looking for them every {POLL:?}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Listens on one connection, until that is lost.
async fn follow(pool: &sqlx::PgPool, origin: &str, heard: &Notify) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen("holdfast").await?;
    loop {
        // What was committed before is not told.
        heard.notify_one();
        while let Some(word) = listener.try_recv().await? {
            if word.payload() != origin {
                heard.notify_one();
            }
        }
        // The connection was lost; the next call makes another.
    }
}
