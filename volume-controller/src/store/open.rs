//! Opening a store: lock, check, load, and only then start to write.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::dialect::{Dialect, DialectError, Sqlite};
use super::lock::ProcessLock;
use super::memory::Memory;
use super::writer::Writer;
use super::{Config, Metrics, OpenError, Store, link};

pub(crate) async fn open(config: Config) -> Result<Store, OpenError> {
    let path = real_path(&config.path)?;
    let lock = ProcessLock::take(&path)?;
    create(&path)?;
    let dialect = Sqlite::open(&path).await?;
    start(Box::new(dialect), lock, path, config).await
}

/// Loads what the database has and starts the writer.
pub(crate) async fn start(
    mut dialect: Box<dyn Dialect>,
    lock: ProcessLock,
    path: PathBuf,
    config: Config,
) -> Result<Store, OpenError> {
    let rows = match dialect.load(config.log.changes).await {
        Ok(rows) => rows,
        Err(DialectError { doing, source }) => return Err(OpenError::Database { doing, path, source }),
    };
    let (revision, compacted, floor) = (rows.revision, rows.compacted, rows.floor);
    let linked = link::loaded(rows).map_err(|why| OpenError::Damaged { path: path.clone(), why })?;
    let now = Instant::now();
    let changes = linked
        .changes
        .into_iter()
        // Older than the clock itself: as if made now, which keeps it longer, never shorter.
        .map(|(change, age)| (change, now.checked_sub(age).unwrap_or(now)))
        .collect();
    let memory = Arc::new(Memory::new(revision, floor, linked.objects, changes, config.log));
    let metrics = Metrics::new();
    let (sender, queue) = mpsc::channel(config.queue.max(1));
    let (closed_sender, closed) = watch::channel(false);
    let closing = CancellationToken::new();
    let writer = Writer {
        dialect,
        memory: memory.clone(),
        metrics: metrics.clone(),
        limits: config.batch,
        queue,
        waiting: VecDeque::new(),
        closing: closing.clone(),
        closed: closed_sender,
        lock,
        compacted,
        unsettled: None,
    };
    writer.tell();
    tokio::spawn(writer.run());
    tracing::info!(path = %path.display(), revision, "opened the store");
    Ok(Store { memory, queue: sender, metrics, closing, closed, progress: config.progress })
}

/// The file as it is called without links, so that two names of it have one lock.
fn real_path(path: &Path) -> Result<PathBuf, OpenError> {
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
fn create(path: &Path) -> Result<(), OpenError> {
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
