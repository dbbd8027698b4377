//! What to do for one namespace, given what is in it.

use crate::{
    controllers::view::{At, View, is_deleting},
    store::Key,
};

/// One object in a namespace.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Content {
    pub(crate) at: At,
    /// Its deletion has begun.
    pub(crate) deleting: bool,
    /// Seconds that it has to end in: a pod on a node.
    pub(crate) grace: u32,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Begin the deletion of what is not being deleted yet, then look again.
    Empty(Vec<Content>),
    /// Everything left is on its way out, held by finalizers or a grace period.
    Await,
    /// Nothing is left: take the namespace's own finalizer off.
    Finish(At),
}

/// The finalizer in a namespace's `spec.finalizers` that stands for its content.
/// Others in that list are somebody else's to take off.
pub(crate) const CONTENT: &str = "kubernetes";

/// `None` for a namespace that stays, or whose content is settled already.
pub(crate) fn decide(view: &View, key: &Key, content: &[Content]) -> Option<Action> {
    let namespace = view.namespaces.at(key).filter(|namespace| is_deleting(&namespace.metadata))?;
    let mut held = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
    if !held.any(|finalizer| finalizer == CONTENT) {
        return None;
    }
    if content.is_empty() {
        return Some(Action::Finish(namespace.at()));
    }
    let open: Vec<Content> = content.iter().filter(|content| !content.deleting).cloned().collect();
    Some(if open.is_empty() { Action::Await } else { Action::Empty(open) })
}
