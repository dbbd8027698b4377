//! Reads, empties and finishes namespaces.

use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::Value;

use super::decide::{Action, CONTENT, Content};
use crate::{
    apiserver::kinds::{self, Scope},
    controllers::{
        engine::{Io, Outcome},
        view::At,
    },
    lifecycle,
    store::{Precondition, Store},
};

/// Deletions under way at once; the store commits them together.
const AT_ONCE: usize = 64;

/// What is in a namespace, whatever its kind.
pub(crate) fn content(store: &Store, namespace: &str) -> Vec<Content> {
    // Each resource once, whatever its versions.
    let stored = kinds::ALL.iter().filter(|kind| std::ptr::eq(**kind, kinds::stored(kind)));
    let resources = stored.filter(|kind| kind.scope == Scope::Namespaced).map(|kind| kind.resource());
    let objects = resources.flat_map(|resource| store.list(&resource, Some(namespace), None, None).objects);
    objects
        .filter_map(|object| {
            let body: Value = object.decode().ok()?;
            Some(Content {
                at: At { key: object.key.clone(), revision: object.revision },
                deleting: !body["metadata"]["deletionTimestamp"].is_null(),
                grace: lifecycle::own_grace(&object.key.resource, &body),
            })
        })
        .collect()
}

/// One step. A crash in between leaves a namespace that is still being deleted, and
/// the next look goes on.
pub(crate) async fn apply(io: &Io, action: Action, again: Duration) -> Outcome {
    match action {
        Action::Await => Outcome::After(again),
        Action::Finish(namespace) => {
            let write = io.edit(&namespace, |body| {
                if let Some(list) = body["spec"]["finalizers"].as_array_mut() {
                    list.retain(|finalizer| finalizer != CONTENT);
                }
            });
            io.commit(vec![write]).await
        }
        Action::Empty(open) => {
            stream::iter(open).for_each_concurrent(AT_ONCE, |content| begin(&io.store, content)).await;
            Outcome::After(again)
        }
    }
}

/// Begins the deletion of one object. One that changed meanwhile is found again by the next look.
async fn begin(store: &Store, Content { at, grace, .. }: Content) {
    let body = store.get(&at.key).filter(|object| object.revision == at.revision);
    let Some(body) = body.and_then(|object| object.decode().ok()) else { return };
    let write = lifecycle::delete(at.key, Precondition::Revision(at.revision), body, grace, Timestamp::now());
    if let Err(error) = store.commit(vec![write]).await {
        tracing::debug!(%error, "an object of a namespace that is being deleted stays for now");
    }
}
