//! Secrets encrypted at rest: between the writer and SQL, bodies of some resources are encrypted
//! on their way in and decrypted on their way out. Memory, watches and clients see them in the
//! clear; the database, its log, backups of either kind and the replication of it never do.
//!
//! A body that is in the clear although its resource should not be was written before there were
//! keys. It is read, and written anew when the store is opened, as is what an older key encrypts.

mod keys;
mod record;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::Value;

use super::dialect::{CommitFailure, Dialect, DialectError, Foreign, Loaded, ObjectRow, Settled, Size};
use super::{Change, CommitError, Key, Object, OpenError, Precondition, Restored, Store, Term, Write};
use record::Id;

pub(super) use keys::Keys;

/// What is encrypted.
const RESOURCES: [&str; 1] = ["secrets"];
/// How much is written anew at once.
const AT_ONCE: usize = 256;

/// Objects that are in the clear, or under an older key.
pub(super) type Stale = Arc<Mutex<Vec<Key>>>;

/// A dialect whose secrets are encrypted.
pub(super) struct Sealed {
    inner: Box<dyn Dialect>,
    keys: Arc<Keys>,
    stale: Stale,
    /// Why nothing more can be read.
    refused: Option<String>,
}

fn failed(doing: &'static str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> DialectError {
    DialectError { doing, source: sqlx::Error::Io(io::Error::other(why)).into() }
}

/// What is stored is wrong, not how it was asked for.
fn undecryptable(why: String) -> DialectError {
    DialectError { doing: "decrypt the secrets of", source: sqlx::Error::Decode(why.into()).into() }
}

impl Sealed {
    /// Puts keys between.
    pub(super) fn new(inner: Box<dyn Dialect>, keys: Arc<Keys>) -> (Self, Stale) {
        let stale = Stale::default();
        (Self { inner, keys, stale: stale.clone(), refused: None }, stale)
    }

    /// Decrypts a row; says by which key it was encrypted, if it was.
    fn unseal(&self, row: &mut ObjectRow) -> Result<Option<Id>, String> {
        let unsealed = self.keys.unseal(&row.key, row.revision, &row.body)?;
        Ok(unsealed.map(|(id, body)| {
            row.body = body;
            id
        }))
    }

    fn unseal_loaded(&self, loaded: &mut Loaded) -> Result<(), String> {
        let mut older: BTreeMap<Id, usize> = BTreeMap::new();
        let mut stale = Vec::new();
        let living = loaded.objects.len();
        let changes = loaded.changes.iter_mut().map(|change| &mut change.object);
        let rows = loaded.objects.iter_mut().chain(changes).chain(&mut loaded.replaced);
        for (number, row) in rows.enumerate() {
            let key = self.unseal(row)?;
            let is_fresh = key == Some(self.keys.first);
            if let Some(key) = key.filter(|_| !is_fresh) {
                *older.entry(key).or_default() += 1;
            }
            if number < living && !is_fresh && is_secret(&row.key) {
                stale.push(row.key.clone());
            }
        }
        for (key, entries) in older {
            tracing::info!(%key, entries, "an older key of the secrets is still needed; look again after the next start");
        }
        *self.stale.lock() = stale;
        Ok(())
    }

    fn unseal_foreign(&mut self, mut foreign: Foreign) -> Result<Foreign, DialectError> {
        if let Foreign::Changes(rows) = &mut foreign {
            for row in rows {
                if let Err(why) = self.unseal(&mut row.object) {
                    // It will not be otherwise at the next look.
                    self.refused = Some(why.clone());
                    return Err(undecryptable(why));
                }
            }
        }
        Ok(foreign)
    }

    fn seal(&self, change: &Arc<Change>) -> Result<Arc<Change>, DialectError> {
        if !is_secret(&change.object.key) {
            return Ok(change.clone());
        }
        let Object { key, revision, uid, body } = &*change.object;
        let body = self.keys.seal(key, change.revision, body);
        let body = body.ok_or_else(|| failed("encrypt a secret", "the kernel gives no random numbers"))?;
        let object = Object { key: key.clone(), revision: *revision, uid: uid.clone(), body };
        Ok(Arc::new(Change { object: Arc::new(object), ..Change::clone(change) }))
    }
}

/// The keys of a file.
pub(super) fn keys(path: &Path) -> Result<Arc<Keys>, OpenError> {
    let failed =
        |source| OpenError::File { doing: "read the keys of the secrets in", path: path.to_owned(), source };
    Keys::open(path).map(Arc::new).map_err(failed)
}

/// The body of an object of a backup in the clear; `None` where it is so already.
///
/// # Errors
/// In a sentence, when it cannot be decrypted with these keys.
pub(super) fn unsealed(object: &Object, keys: Option<&Keys>) -> Result<Option<Bytes>, String> {
    match keys {
        Some(keys) => Ok(keys.unseal(&object.key, object.revision, &object.body)?.map(|(_, body)| body)),
        None if is_sealed(&object.body) => Err(format!("{} is encrypted, and there are no keys", object.key)),
        None => Ok(None),
    }
}

/// Whether a body is encrypted.
pub(super) fn is_sealed(body: &[u8]) -> bool {
    record::read(body).is_some()
}

pub(super) fn is_secret(key: &Key) -> bool {
    RESOURCES.contains(&&*key.resource)
}

/// Writes what is in the clear, or under an older key, anew. A crash in between leaves some, and the
/// next start goes on.
pub(super) async fn renew(store: &Store, stale: &Stale) {
    let stale = std::mem::take(&mut *stale.lock());
    let found = stale.len();
    let mut left = 0_usize;
    for keys in stale.chunks(AT_ONCE) {
        // One transaction each, which the store commits together: one that changed holds up no other.
        let outcomes = join_all(keys.iter().map(|key| renew_one(store, key))).await;
        for error in outcomes.into_iter().filter_map(Result::err) {
            tracing::warn!(error, "a secret is not yet encrypted with the first key");
            left += 1;
        }
    }
    if found > left {
        tracing::info!(secrets = found - left, "encrypted with the first key");
    }
}

async fn renew_one(store: &Store, key: &Key) -> Result<(), String> {
    // What is gone needs nothing.
    let Some(object) = store.get(key) else { return Ok(()) };
    let body = object.decode::<Value>().map_err(|error| format!("{key}: {error}"))?;
    let precondition = Precondition::Revision(object.revision);
    match store.commit(vec![Write { key: key.clone(), precondition, body: Some(body) }]).await {
        // Whoever was faster has encrypted with a key of today.
        Ok(_) | Err(CommitError::Conflict { .. } | CommitError::Missing { .. }) => Ok(()),
        Err(error) => Err(format!("{key}: {error}")),
    }
}

#[async_trait]
impl Dialect for Sealed {
    fn term(&self) -> Option<Term> {
        self.inner.term()
    }

    async fn load(&mut self, changes: usize) -> Result<Loaded, DialectError> {
        let mut loaded = self.inner.load(changes).await?;
        self.unseal_loaded(&mut loaded).map_err(undecryptable)?;
        // A crash after this leaves a key that nothing needs yet.
        self.keys.keep().map_err(|error| failed("write the keys of the secrets of", error))?;
        Ok(loaded)
    }

    async fn begin(&mut self, seen: u64) -> Result<Foreign, DialectError> {
        let foreign = self.inner.begin(seen).await?;
        match self.unseal_foreign(foreign) {
            Ok(foreign) => Ok(foreign),
            Err(error) => {
                // Nobody goes on with a transaction whose beginning failed.
                let _ = self.inner.rollback().await;
                Err(error)
            }
        }
    }

    async fn rollback(&mut self) -> Result<(), DialectError> {
        self.inner.rollback().await
    }

    async fn commit(&mut self, changes: &[Arc<Change>]) -> Result<(), CommitFailure> {
        match changes.iter().map(|change| self.seal(change)).collect::<Result<Vec<_>, _>>() {
            Ok(sealed) => self.inner.commit(&sealed).await,
            Err(error) => {
                let _ = self.inner.rollback().await;
                Err(CommitFailure::Refused(error))
            }
        }
    }

    async fn settle(&mut self, base: u64, last: u64) -> Result<Settled, DialectError> {
        self.inner.settle(base, last).await
    }

    async fn tail(&mut self, seen: u64) -> Result<Foreign, DialectError> {
        let foreign = self.inner.tail(seen).await?;
        self.unseal_foreign(foreign)
    }

    async fn changed(&mut self) {
        self.inner.changed().await;
    }

    async fn compact(&mut self, to: u64) -> Result<u64, DialectError> {
        self.inner.compact(to).await
    }

    async fn maintain(&mut self, is_idle: bool) -> Result<(), DialectError> {
        self.inner.maintain(is_idle).await
    }

    async fn integrity(&mut self) -> Result<Vec<String>, DialectError> {
        self.inner.integrity().await
    }

    async fn fill(&mut self, changes: &[Arc<Change>], restored: Restored) -> Result<(), DialectError> {
        let sealed = changes.iter().map(|change| self.seal(change)).collect::<Result<Vec<_>, _>>()?;
        self.inner.fill(&sealed, restored).await
    }

    async fn size(&mut self) -> Result<Size, DialectError> {
        self.inner.size().await
    }

    fn contradicted(&mut self, seen: u64) {
        self.inner.contradicted(seen);
    }

    fn lost(&self) -> Option<&str> {
        self.refused.as_deref().or_else(|| self.inner.lost())
    }

    async fn close(&mut self) {
        self.inner.close().await;
    }
}
