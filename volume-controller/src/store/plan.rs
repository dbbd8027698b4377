//! What a batch of transactions would do, decided before anything is written:
//! pure, from the objects as they are and the writes admitted so far.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Change, ChangeKind, CommitError, Committed, Key, Object, Precondition, Write};

/// The changes of one batch, in order, on top of the objects that `current` shows.
pub(crate) struct Plan<F> {
    revision: u64,
    current: F,
    overlay: HashMap<Key, Option<Arc<Object>>>,
    changes: Vec<Arc<Change>>,
    bytes: usize,
}

impl<F: Fn(&Key) -> Option<Arc<Object>>> Plan<F> {
    /// An empty plan on top of `revision`.
    pub(crate) fn new(revision: u64, current: F) -> Self {
        Self { revision, current, overlay: HashMap::new(), changes: Vec::new(), bytes: 0 }
    }

    /// The changes so far; the first has the revision after the one started from.
    pub(crate) fn into_changes(self) -> Vec<Arc<Change>> {
        self.changes
    }

    /// The size of the bodies so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Admits one transaction, or refuses it and leaves the plan as it was.
    pub(crate) fn admit(&mut self, writes: Vec<Write>) -> Result<Vec<Committed>, CommitError> {
        let mut keys = HashSet::with_capacity(writes.len());
        let mut staged = Vec::with_capacity(writes.len());
        for write in writes {
            let revision = self.revision + staged.len() as u64 + 1;
            if !keys.insert(write.key.clone()) {
                return Err(CommitError::Twice { key: write.key });
            }
            let current = match self.overlay.get(&write.key) {
                Some(planned) => planned.clone(),
                None => (self.current)(&write.key),
            };
            staged.push(Arc::new(stage(write, current, revision)?));
        }
        let mut committed = Vec::with_capacity(staged.len());
        for change in staged {
            self.revision = change.revision;
            let after = (change.kind != ChangeKind::Deleted).then(|| change.object.clone());
            self.overlay.insert(change.object.key.clone(), after);
            committed.push(Committed { revision: change.revision, object: change.object.clone() });
            self.bytes += change.object.body.len();
            self.changes.push(change);
        }
        Ok(committed)
    }
}

/// One write as a change, if its precondition holds.
fn stage(write: Write, current: Option<Arc<Object>>, revision: u64) -> Result<Change, CommitError> {
    let Write { key, precondition, body } = write;
    let malformed = |why| CommitError::Malformed { key: key.clone(), why };
    if key.resource.is_empty() || key.name.is_empty() {
        return Err(malformed("its resource and its name must not be empty"));
    }
    if [&key.resource, &key.namespace, &key.name].iter().any(|part| part.contains('\0')) {
        return Err(malformed("its key contains a NUL character"));
    }
    let holds = match (&precondition, &current) {
        (Precondition::Absent, Some(current)) => {
            return Err(CommitError::Exists { key, current: current.clone() });
        }
        (Precondition::Absent, None) if body.is_some() => true,
        (_, None) => return Err(CommitError::Missing { key }),
        (Precondition::Revision(expected), Some(current)) => current.revision == *expected,
        (Precondition::Uid(expected), Some(current)) => current.uid == *expected,
        (Precondition::Present, Some(_)) => true,
    };
    let kind = match (&current, &body) {
        (_, None) => ChangeKind::Deleted,
        (None, Some(_)) => ChangeKind::Created,
        (Some(_), Some(_)) => ChangeKind::Updated,
    };
    if let Some(current) = &current
        && !holds
    {
        return Err(CommitError::Conflict { key, current: current.clone() });
    }
    let body = match (body, &current) {
        (Some(body), _) => body,
        (None, Some(current)) => {
            serde_json::from_slice(&current.body).map_err(|_| malformed("the stored body is not JSON"))?
        }
        (None, None) => return Err(CommitError::Missing { key }),
    };
    let (uid, body) = seal(body, revision).map_err(malformed)?;
    // The key that is already in memory is shared instead of kept twice.
    let key = current.as_ref().map_or(key, |current| current.key.clone());
    let object = Arc::new(Object { key, revision, uid, body });
    Ok(Change { revision, kind, object, previous: current })
}

/// The body as stored: `metadata.resourceVersion` set. And its `metadata.uid`.
fn seal(mut body: Value, revision: u64) -> Result<(Box<str>, Bytes), &'static str> {
    let Value::Object(fields) = &mut body else { return Err("the body is not a JSON object") };
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    let Value::Object(metadata) = metadata else { return Err("metadata is not a JSON object") };
    metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
    let uid = metadata.get("uid").and_then(Value::as_str).unwrap_or_default().into();
    let body = serde_json::to_vec(&body).map_err(|_| "the body cannot be written as JSON")?;
    Ok((uid, body.into()))
}

/// `metadata.uid` of a stored body; empty when it has none.
pub(crate) fn uid_of(body: &[u8]) -> serde_json::Result<Box<str>> {
    #[derive(Deserialize)]
    struct Body {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        uid: Value,
    }
    let body: Body = serde_json::from_slice(body)?;
    Ok(body.metadata.uid.as_str().unwrap_or_default().into())
}
