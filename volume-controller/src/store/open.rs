//! Opening a store: lock, check, load, and only then start to write.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::dialect::{Dialect, DialectError, Postgres, Sqlite};
use super::memory::Memory;
use super::quota::Level;
use super::seal::{self, Sealed};
use super::writer::Writer;
use super::{Config, Credential, Location, Metrics, OpenError, Sharing, Store, link};

pub(crate) async fn open(mut config: Config) -> Result<Store, OpenError> {
    if let (Sharing::Servers(here), Some(path)) = (&mut config.sharing, &config.keys) {
        here.push(seal::keys(path)?.credential());
    }
    let dialect: Box<dyn Dialect> = match &config.location {
        Location::File(path) => Box::new(Sqlite::open(path).await?),
        Location::Postgres(database) => Box::new(Postgres::open(database, &config).await?),
    };
    // Only now that nobody else is writing that file.
    let Some(path) = &config.keys else { return start(dialect, config).await };
    let keys = seal::keys(path)?;
    let (sealed, stale) = Sealed::new(dialect, keys.clone());
    let store = Store { keys: Some(keys), ..start(Box::new(sealed), config).await? };
    seal::renew(&store, &stale).await;
    Ok(store)
}

/// Notes by which keys the servers of this store know one another, where it is in PostgreSQL: those of [`Config::keys`] and
/// of `credentials`. To be called once all of them are on the disk; a crash before leaves a store to which nobody else
/// has come. A process that must be alone replaces what was noted.
///
/// # Errors
/// [`OpenError::OtherKeys`] when another server has noted other keys meanwhile, and when the database fails.
pub async fn note_credentials(config: &Config, mut credentials: Vec<Credential>) -> Result<(), OpenError> {
    let Location::Postgres(database) = &config.location else { return Ok(()) };
    if let Some(path) = &config.keys {
        credentials.push(seal::keys(path)?.credential());
    }
    Postgres::note(database, config, &credentials).await
}

/// Loads what the database has and starts the writer.
pub(crate) async fn start(mut dialect: Box<dyn Dialect>, config: Config) -> Result<Store, OpenError> {
    let is_shared = matches!(config.location, Location::Postgres(_)) && config.sharing != Sharing::Alone;
    let store = config.location;
    let rows = match dialect.load(config.log.changes).await {
        Ok(rows) => rows,
        Err(DialectError { doing, source }) => return Err(OpenError::Database { doing, store, source }),
    };
    let (compacted, incarnation) = (rows.compacted, rows.incarnation);
    let contents = link::loaded(rows).map_err(|why| OpenError::Damaged { store: store.clone(), why })?;
    let revision = contents.revision;
    let window = config.log.changes;
    let memory = Arc::new(Memory::new(contents, config.log));
    let metrics = Metrics::new();
    metrics.quota_bytes.set(config.quota.map_or(0, |quota| i64::try_from(quota).unwrap_or(i64::MAX)));
    let (checks, asked) = mpsc::channel(1);
    let (present, present_asked) = mpsc::channel(config.queue.max(1));
    let (sender, queue) = mpsc::channel(config.queue.max(1));
    let (level_sender, level) = watch::channel(Level::default());
    let (ended_sender, ended) = watch::channel(None);
    let (reachable_sender, reachable) = watch::channel(true);
    let closing = CancellationToken::new();
    let writer = Writer {
        dialect,
        memory: memory.clone(),
        metrics: metrics.clone(),
        limits: config.batch,
        window,
        queue,
        checks: asked,
        present: present_asked,
        waiting: VecDeque::new(),
        due: None,
        closing: closing.clone(),
        ended: ended_sender,
        compacted,
        quota: config.quota,
        level: level_sender,
        is_failing: false,
        unsettled: None,
        reachable: reachable_sender,
    };
    writer.tell();
    tokio::spawn(writer.run());
    tracing::info!(%store, revision, "opened the store");
    Ok(Store {
        memory,
        queue: sender,
        checks,
        present: is_shared.then_some(present),
        metrics,
        closing,
        ended,
        level,
        reachable,
        incarnation,
        term: None,
        keys: None,
        progress: config.progress,
    })
}
