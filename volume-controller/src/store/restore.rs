//! A backup becomes a store.
//!
//! Clients may have seen what was written after the backup was taken. So the restored store goes on far above every
//! revision that the old one can have given out, and its log begins there: a watch from before gets 410 and lists anew. Its
//! incarnation is a new one, by which those who remember the old one see what happened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use super::dialect::{Dialect, DialectError, Postgres, ProcessLock, Sqlite, real_path};
use super::seal::{self, Keys, Sealed};
use super::{Backup, Change, Config, Location, OpenError};

/// The restored store goes on at least so far above the backup, …
const GAP: u64 = 1_000_000_000;
/// … and so many revisions for each second since it was taken: more than a store commits.
const REVISIONS_PER_SECOND: u64 = 100_000;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Where the store goes on.
    pub revision: u64,
    /// How many objects it has.
    pub objects: u64,
    /// See [`super::Store::incarnation`].
    pub incarnation: u64,
}

/// Why a backup was not restored. Nothing that was there has changed.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// There is something already.
    #[error("{what} is there already, and nothing is overwritten: {remedy}")]
    NotEmpty {
        /// What was found.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The store cannot be made there; also when a process has it open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A secret in the backup cannot be decrypted, or no key is there to decrypt it with.
    #[error("{0}; the backup needs the encryption.keys of the root that it is of")]
    Sealed(String),
    /// A file cannot be written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The database refused.
    #[error("cannot write the objects: {0}")]
    Database(String),
}

impl From<DialectError> for RestoreError {
    fn from(error: DialectError) -> Self {
        Self::Database(error.to_string())
    }
}

/// Makes a store with what is in a backup, where there is none. All of it or nothing: a crash leaves no store, and
/// perhaps a file that ends in `.restoring`, which the next attempt removes.
///
/// # Errors
/// See [`RestoreError`].
pub async fn restore(config: Config, backup: &Backup) -> Result<Restored, RestoreError> {
    let keys = config.keys.as_deref().map(seal::keys).transpose()?;
    // Before anything is made: half of the secrets is no store.
    let changes = backup.changes(keys.as_deref()).map_err(RestoreError::Sealed)?;
    let age = Timestamp::now().duration_since(backup.header.taken);
    let age = Duration::try_from(age).unwrap_or_default().as_secs();
    let restored = Restored {
        revision: backup.header.revision.saturating_add(GAP.max(age.saturating_mul(REVISIONS_PER_SECOND))),
        objects: backup.objects.len() as u64,
        // Positive in every database, and never that of a store which was not restored.
        incarnation: rand::random::<u64>() >> 1 | 1,
    };
    match &config.location {
        Location::File(path) => into_file(path, keys, &changes, restored).await?,
        Location::Postgres(database) => {
            let dialect = Box::new(Postgres::open(database, &config).await?);
            fill(dialect, keys, &changes, restored).await?;
        }
    }
    Ok(restored)
}

/// Writes everything in one transaction, if there is nothing, and closes the database.
async fn fill(
    mut dialect: Box<dyn Dialect>,
    keys: Option<Arc<Keys>>,
    changes: &[Arc<Change>],
    restored: Restored,
) -> Result<(), RestoreError> {
    if let Some(keys) = keys {
        dialect = Box::new(Sealed::new(dialect, keys).0);
    }
    let result = async {
        let found = dialect.load(0).await?;
        if found.revision > 1 || !found.objects.is_empty() {
            return Err(RestoreError::NotEmpty {
                what: format!("a store with {} objects at revision {}", found.objects.len(), found.revision),
                remedy: "choose an empty database, or `DROP SCHEMA holdfast CASCADE` in this one",
            });
        }
        Ok(dialect.fill(changes, restored).await?)
    };
    let result = result.await;
    dialect.close().await;
    result
}

/// Fills a file beside the one that is to be, and gives it the name when it is whole.
async fn into_file(
    path: &Path,
    keys: Option<Arc<Keys>>,
    changes: &[Arc<Change>],
    restored: Restored,
) -> Result<(), RestoreError> {
    let path = real_path(path)?;
    let _lock = ProcessLock::take(&path)?;
    // A log that an earlier file left would be played into the new one.
    for suffix in ["", "-wal", "-journal"] {
        let found = beside(&path, suffix);
        match std::fs::symlink_metadata(&found) {
            Ok(_) => {
                return Err(RestoreError::NotEmpty {
                    what: found.display().to_string(),
                    remedy: "move it away, with what lies beside it under the same name",
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(RestoreError::File { doing: "look for", path: found, source }),
        }
    }
    let fresh = beside(&path, ".restoring");
    clear(&fresh)?;
    let result = async {
        fill(Box::new(Sqlite::open(&fresh).await?), keys, changes, restored).await?;
        let failed = |doing| {
            let path = path.clone();
            move |source| RestoreError::File { doing, path, source }
        };
        std::fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(failed("write"))?;
        std::fs::rename(&fresh, &path).map_err(failed("make"))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("make"))
    };
    let result = result.await;
    let cleared = clear(&fresh);
    result.and(cleared)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Removes what an attempt leaves, a killed one included.
fn clear(fresh: &Path) -> Result<(), RestoreError> {
    for suffix in ["", "-wal", "-shm", "-journal", ".lock"] {
        let path = beside(fresh, suffix);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(RestoreError::File { doing: "remove", path, source });
            }
            _ => {}
        }
    }
    Ok(())
}
