//! Looks owners up, and carries out what was decided.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    decide::{Action, Standing},
    graph::{FOREGROUND, Owner},
};
use crate::{
    apiserver::kinds::{self, Scope},
    controllers::{
        engine::{Io, Outcome},
        recorder::{News, Severity},
        view::At,
    },
    lifecycle,
    store::{CommitError, Guard, Key, Precondition, Store, Transaction, Write},
};

const COMPONENT: &str = "garbage-collector-controller";

/// What the store knows of an owner. The store's memory is never older than what is decided on.
pub(crate) fn standing(store: &Store, owner: &Owner, dependent: &Key) -> Standing {
    let Some(kind) = kinds::named(&owner.api_version, &owner.kind).map(kinds::stored) else {
        return Standing::Unknown;
    };
    let namespace = match kind.scope {
        Scope::Cluster => "",
        Scope::Namespaced if dependent.namespace.is_empty() => return Standing::OutOfReach,
        Scope::Namespaced => &dependent.namespace,
    };
    let key = Key::new(&kind.resource(), namespace, &owner.name);
    match store.get(&key) {
        Some(object) if *object.uid == *owner.uid => Standing::There,
        // A UID never comes again.
        Some(object) => Standing::Gone(Guard { precondition: Precondition::Revision(object.revision), key }),
        None => Standing::Gone(Guard { key, precondition: Precondition::Absent }),
    }
}

/// One step, in one transaction. A crash before it changes nothing, and the next start finds it again.
pub(crate) async fn apply(io: &Io, action: Action) -> Outcome {
    let (writes, guards): (Vec<Option<Write>>, Vec<Guard>) = match action {
        Action::Tell { object, reason } => {
            io.recorder.tell(News {
                about: object.key,
                component: COMPONENT,
                severity: Severity::Warning,
                reason: reason.name(),
                message: reason.to_string(),
            });
            return Outcome::Settled;
        }
        Action::Unlink { objects, uids, guards } => {
            let unlinked = |body: &mut Value| {
                retain(&mut body["metadata"], "ownerReferences", |owner| {
                    !uids.iter().any(|uid| owner["uid"] == **uid)
                });
            };
            (objects.iter().map(|object| io.edit(object, unlinked)).collect(), guards)
        }
        Action::Release { object, finalizer } => {
            let released = |body: &mut Value| {
                retain(&mut body["metadata"], "finalizers", |held| held != finalizer);
            };
            (vec![io.edit(&object, released)], Vec::new())
        }
        Action::Unblock { object } => {
            let unblocked = |body: &mut Value| {
                for owner in body["metadata"]["ownerReferences"].as_array_mut().into_iter().flatten() {
                    owner["blockOwnerDeletion"] = json!(false);
                }
            };
            (vec![io.edit(&object, unblocked)], Vec::new())
        }
        Action::Delete { object, foreground, guards } => {
            (vec![deletion(&io.store, object, foreground)], guards)
        }
    };
    let Some(writes) = writes.into_iter().collect::<Option<Vec<Write>>>() else { return Outcome::Again };
    match io.store.commit(Transaction { guards, writes, ..Transaction::default() }).await {
        // The watch shows it, and wakes whoever has to look again.
        Ok(_) => Outcome::Settled,
        Err(
            CommitError::Exists { .. }
            | CommitError::Missing { .. }
            | CommitError::Conflict { .. }
            | CommitError::Deposed,
        ) => Outcome::Again,
        Err(error) => {
            tracing::error!(%error, "the collector's write failed");
            Outcome::Again
        }
    }
}

/// The beginning of an object's deletion, or its end where nothing holds it; `None` when it changed since.
fn deletion(store: &Store, object: At, foreground: bool) -> Option<Write> {
    let found = store.get(&object.key).filter(|found| found.revision == object.revision)?;
    let mut body: Value = found.decode().ok()?;
    if foreground {
        lifecycle::propagate(&mut body, FOREGROUND);
    }
    let precondition = Precondition::Revision(object.revision);
    let grace = lifecycle::own_grace(&object.key.resource, &body);
    tracing::info!(key = %object.key, uid = %found.uid, "deleting what has no owner any more");
    Some(lifecycle::delete(object.key, precondition, body, grace, Timestamp::now()))
}

/// Keeps some of a list; an empty one goes.
fn retain(metadata: &mut Value, field: &str, keep: impl Fn(&Value) -> bool) {
    if let Some(list) = metadata[field].as_array_mut() {
        list.retain(keep);
        if list.is_empty()
            && let Some(metadata) = metadata.as_object_mut()
        {
            metadata.remove(field);
        }
    }
}
