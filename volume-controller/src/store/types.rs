//! What goes into the store and what comes out of it.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

/// Names one object. The order is that of a list: resource, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Plural and group, `persistentvolumeclaims` or `storageclasses.storage.k8s.io`:
    /// the name that a CustomResourceDefinition would have.
    pub resource: Arc<str>,
    /// Empty for kinds without namespaces.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl Key {
    /// A key from its parts; `namespace` is empty for kinds without namespaces.
    #[must_use]
    pub fn new(resource: &str, namespace: &str, name: &str) -> Self {
        Self { resource: resource.into(), namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{} {}", self.resource, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.resource, self.name),
        }
    }
}

/// One object as it was at one revision. Immutable and shared, never copied.
#[derive(PartialEq, Eq)]
pub struct Object {
    /// Where it is.
    pub key: Key,
    /// The revision that wrote it; the same as `metadata.resourceVersion` in the body.
    pub revision: u64,
    /// `metadata.uid`; empty when the body has none.
    pub uid: Box<str>,
    /// The JSON body, `metadata.resourceVersion` included.
    pub body: Bytes,
}

impl Object {
    /// The body as a typed object.
    ///
    /// # Errors
    /// When the stored JSON does not fit the type.
    pub fn decode<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.body)
    }
}

/// Without the body: an object in a log line or an error may be a Secret.
impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object")
            .field("key", &self.key)
            .field("revision", &self.revision)
            .field("uid", &self.uid)
            .field("bytes", &self.body.len())
            .finish()
    }
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing is there: a create.
    Absent,
    /// The object is there at exactly this revision.
    Revision(u64),
    /// The object is there and has this UID, at whatever revision.
    Uid(Box<str>),
    /// The object is there.
    Present,
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// What to write.
    pub key: Key,
    /// What must hold; else the whole transaction is refused.
    pub precondition: Precondition,
    /// The new body, or `None` to delete. `metadata.resourceVersion` is set by the store.
    pub body: Option<Value>,
}

/// What must hold of an object that a transaction does not write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The object that is only looked at.
    pub key: Key,
    /// What must hold; else the whole transaction is refused. [`Precondition::Absent`]
    /// says that nothing may be there.
    pub precondition: Precondition,
}

/// What happens as a whole or not at all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transaction {
    /// What must hold besides the writes' own preconditions.
    pub guards: Vec<Guard>,
    /// What is written.
    pub writes: Vec<Write>,
    /// Nobody is held up when it is committed a few milliseconds later, together with what others write meanwhile:
    /// so it neither costs a commit of its own nor makes others wait for one. It is as durable as any when it is
    /// acknowledged.
    pub is_patient: bool,
}

impl From<Vec<Write>> for Transaction {
    fn from(writes: Vec<Write>) -> Self {
        Self { writes, ..Self::default() }
    }
}

/// What became of one write: the object as written, or for a deletion its last
/// body with the deletion's revision as `resourceVersion`.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The revision of this write.
    pub revision: u64,
    /// The object after the write.
    pub object: Arc<Object>,
}

/// Why a transaction did not happen.
#[derive(Debug, Clone, Error)]
pub enum CommitError {
    /// A create found something. Nothing of the transaction was written.
    #[error("{key} already exists")]
    Exists {
        /// What was to be created.
        key: Key,
        /// What is there.
        current: Arc<Object>,
    },
    /// A precondition other than `Absent` found nothing.
    #[error("{key} is not there")]
    Missing {
        /// What was looked for.
        key: Key,
    },
    /// The object is there, but not as the precondition says.
    #[error("{key} was changed meanwhile (it is at revision {})", current.revision)]
    Conflict {
        /// What was to be written.
        key: Key,
        /// What is there.
        current: Arc<Object>,
    },
    /// The same key twice in one transaction.
    #[error("{key} occurs twice in one transaction")]
    Twice {
        /// The key.
        key: Key,
    },
    /// The body is not a JSON object with an object (or nothing) as `metadata`, or the key has an empty part.
    #[error("{key} cannot be stored: {why}")]
    Malformed {
        /// What was to be written.
        key: Key,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The database refused; nothing was written. The text says what it said.
    #[error("the database refused the write: {0}")]
    Database(String),
    /// There is no room for it: the disk is full, or the objects have reached [`super::Config::quota`].
    /// Nothing was written; reads and deletions go on, and so does this once there is room.
    #[error("the store has no room for the write: {0}")]
    Full(String),
    /// The database failed while committing and could not be asked what became
    /// of it: the write may or may not have happened. Read before trying again.
    #[error("whether the write happened is not known: {0}")]
    Unknown(String),
    /// It was to be done in a [`super::Term`] that is over. Nothing was written.
    #[error("another server leads now")]
    Deposed,
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl CommitError {
    /// Whether the same transaction may succeed later without a change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Database(_) | Self::Full(_))
    }
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The object came to be.
    Created,
    /// The object was replaced.
    Updated,
    /// The object is gone.
    Deleted,
}

/// One entry of the change log.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its place in the order of all changes.
    pub revision: u64,
    /// What happened.
    pub kind: ChangeKind,
    /// The object after the change; for a deletion as in [`Committed`].
    pub object: Arc<Object>,
    /// The object before the change; `None` for a creation.
    pub previous: Option<Arc<Object>>,
}

/// A consistent piece of a list.
#[derive(Debug, Clone)]
pub struct List {
    /// The revision at which the list is true; a watch may go on from here.
    pub revision: u64,
    /// The objects, in the order of their keys.
    pub objects: Vec<Arc<Object>>,
}
