//! What clients did and saw, and whether the two agree.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;

/// One event of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) revision: u64,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// The operation that wrote it; `None` for a deletion.
    pub(crate) operation: Option<String>,
    /// Of the counter.
    pub(crate) value: u64,
}

impl Seen {
    pub(crate) fn of(object: &ConfigMap, is_deleted: bool) -> Result<Self> {
        Ok(Self {
            revision: revision(object)?,
            name: object.name_any(),
            uid: object.uid().context("an object without a UID")?,
            operation: (!is_deleted).then(|| field(object, "operation")),
            value: field(object, "value").parse().unwrap_or_default(),
        })
    }
}

pub(crate) fn revision(object: &ConfigMap) -> Result<u64> {
    Ok(object.resource_version().context("an object without a revision")?.parse()?)
}

pub(crate) fn field(object: &ConfigMap, name: &str) -> String {
    object.data.as_ref().and_then(|data| data.get(name)).cloned().unwrap_or_default()
}

/// What became of one write, as its client was told.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    /// Done, at this revision.
    Written(u64),
    /// The object with this UID was deleted.
    Deleted(String),
    /// Nothing was written.
    Refused,
    /// The answer was lost, or was that nobody knows.
    Unknown,
}

/// Everything that was told, by operation.
pub(crate) type Operations = BTreeMap<String, Told>;

/// Checks a watcher's events against what was told. Says how many of the unknown happened.
pub(crate) fn agree(seen: &[Seen], told: &Operations) -> Result<usize> {
    let mut written: BTreeMap<&str, u64> = BTreeMap::new();
    let mut deleted = BTreeSet::new();
    for event in seen {
        match &event.operation {
            Some(operation) => {
                let before = written.insert(operation, event.revision);
                ensure!(before.is_none(), "{operation} was seen twice: at {before:?} and {}", event.revision);
                ensure!(told.contains_key(operation), "nobody did {operation}: {event:?}");
            }
            None => ensure!(deleted.insert(event.uid.as_str()), "it was deleted twice: {event:?}"),
        }
    }
    let mut happened = 0;
    for (operation, told) in told {
        let at = written.get(operation.as_str());
        match told {
            Told::Written(revision) => {
                ensure!(
                    at == Some(revision),
                    "{operation} was acknowledged at {revision} and seen at {at:?}"
                );
            }
            Told::Deleted(uid) => {
                ensure!(deleted.contains(uid.as_str()), "{operation}: the deletion of {uid} was not seen");
            }
            Told::Refused => ensure!(at.is_none(), "{operation} was refused, and seen at {at:?}"),
            Told::Unknown => happened += usize::from(at.is_some()),
        }
    }
    Ok(happened)
}

/// What the events lead to: each object's revision and last operation.
pub(crate) fn replay(seen: &[Seen]) -> BTreeMap<String, (u64, String)> {
    let mut objects = BTreeMap::new();
    for event in seen {
        match &event.operation {
            Some(operation) => {
                objects.insert(event.name.clone(), (event.revision, operation.clone()));
            }
            None => {
                objects.remove(&event.name);
            }
        }
    }
    objects
}

/// That nobody's addition was built on an old value.
pub(crate) fn counts(seen: &[Seen], counter: &str) -> Result<u64> {
    let mut last = 0;
    for event in seen.iter().filter(|event| event.name == counter) {
        ensure!(event.value == last + 1, "{last} was followed by {}: {event:?}", event.value);
        last = event.value;
    }
    Ok(last)
}
