//! Who owns what after a write that is no apply. Pure.

use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::super::kinds::Kind;
use super::compare::Changes;
use super::fieldset::FieldSet;
use super::managers::{Manager, Owners};
use super::schema::Place;

/// What of an object a write can change. The rest is not the writer's, whatever it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All but `status`, where that has a subresource of its own.
    Main,
    /// All but `spec`.
    Status,
    /// Nothing but `status`.
    OnlyStatus,
}

impl Reach {
    /// The part of a set that a write can own.
    pub(super) fn of(self, kind: &Kind, mut set: FieldSet) -> FieldSet {
        match self {
            Self::Main if kind.has_status => set.remove_tree(&["status"]),
            Self::Main => {}
            Self::Status => {
                set.remove_tree(&["spec"]);
                if kind.kind == "Pod" {
                    set.remove_tree(&["metadata", "deletionTimestamp"]);
                    set.remove_tree(&["metadata", "ownerReferences"]);
                }
            }
            Self::OnlyStatus => set.keep_tree("status"),
        }
        set
    }
}

/// Fields that say what the object is, or that the server writes: nobody owns them.
static NOBODYS: LazyLock<FieldSet> = LazyLock::new(|| {
    FieldSet::of_names(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

/// The fields that a manager can own.
pub(super) fn ownable(set: &FieldSet) -> FieldSet {
    set.difference(&NOBODYS)
}

/// An object of the kind before it has anything in it.
pub(super) fn blank(kind: &Kind) -> Value {
    let root = Place::of(kind);
    let parts = ["metadata", "spec", "status"].into_iter().filter(|part| root.declares(part));
    Value::Object(parts.map(|part| (part.to_owned(), Value::Object(Map::new()))).collect())
}

/// What a write did, of all that somebody can own.
pub(super) struct Touched {
    /// What it changed or added.
    gained: FieldSet,
    lost: FieldSet,
}

impl Touched {
    /// What made `new` out of `live`.
    pub(super) fn between(kind: &Kind, reach: Reach, live: &Value, new: &Value) -> Self {
        let Changes { removed, modified, added } = Changes::between(Place::of(kind), live, new);
        let gained = ownable(&reach.of(kind, modified.union(&added)));
        Self { gained, lost: ownable(&reach.of(kind, removed)) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gained.is_empty() && self.lost.is_empty()
    }

    /// The owners after the write: what `manager` changed is its own, and what went is
    /// nobody's any more. What was written as it was changes no hands.
    pub(super) fn by(self, manager: &Manager, mut owners: Owners, now: Timestamp) -> Owners {
        let Self { gained, lost } = self;
        owners.take(&gained, None);
        owners.take(&lost, None);
        if !gained.is_empty() {
            let before = owners.get(manager).map(|entry| &entry.fields);
            let mine = before.map_or_else(|| gained.clone(), |before| gained.clone().union(before));
            owners.set(manager, mine, Some(now));
        }
        owners.cap();
        owners
    }
}
