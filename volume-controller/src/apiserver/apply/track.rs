//! Who owns what after a write that is no apply. Pure.

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
    pub(super) fn of(self, kind: &Kind, set: &FieldSet) -> FieldSet {
        match self {
            Self::Main if !kind.has_status => set.clone(),
            Self::Main => set.without_trees(&FieldSet::of_names(&[&["status"]])),
            Self::Status if kind.kind == "Pod" => set.without_trees(&FieldSet::of_names(&[
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ])),
            Self::Status => set.without_trees(&FieldSet::of_names(&[&["spec"]])),
            Self::OnlyStatus => set.tree("status"),
        }
    }
}

/// Fields that say what the object is, or that the server writes: nobody owns them.
fn nobodys() -> FieldSet {
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
}

/// The fields that a manager can own.
pub(super) fn ownable(set: &FieldSet) -> FieldSet {
    set.difference(&nobodys())
}

/// An object of the kind before it has anything in it.
pub(super) fn blank(kind: &Kind) -> Value {
    let root = Place::of(kind);
    let parts = ["metadata", "spec", "status"].into_iter().filter(|part| root.declares(part));
    Value::Object(parts.map(|part| (part.to_owned(), Value::Object(Map::new()))).collect())
}

/// The owners after `manager` has made `new` out of `live`: what it changed is its own,
/// and what went is nobody's any more. What was written as it was changes no hands.
/// Neither form has `managedFields`.
pub(super) fn updated(
    kind: &Kind,
    reach: Reach,
    manager: &Manager,
    live: &Value,
    new: &Value,
    mut owners: Owners,
    now: Timestamp,
) -> Owners {
    let changes = Changes::between(Place::of(kind), live, new);
    let gained = reach.of(kind, &changes.modified).union(&reach.of(kind, &changes.added));
    let lost = reach.of(kind, &changes.removed);
    if gained.is_empty() && lost.is_empty() {
        return owners;
    }
    owners.take(&gained.clone().union(&lost), None);
    let mine = ownable(&gained);
    if !mine.is_empty() {
        let mine = owners.get(manager).map_or(mine.clone(), |entry| mine.union(&entry.fields));
        owners.set(manager, mine, Some(now));
    }
    owners.cap();
    owners
}
