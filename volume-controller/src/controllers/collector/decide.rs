//! What becomes of an object whose owners are gone, or go (Kubernetes, "Garbage Collection").

use super::{
    graph::{FOREGROUND, Graph, Node, ORPHAN, Owner},
    reason::Reason,
};
use crate::{
    controllers::view::At,
    store::{Guard, Key},
};

/// What is known of an owner.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Standing {
    /// It is there.
    There,
    /// It is not there, or another one has its name; the guard says so.
    Gone(Guard),
    /// Nobody here knows objects of its kind.
    Unknown,
    /// The reference leads out of the object's namespace.
    OutOfReach,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Take references off objects: to owners that are gone or let go of them.
    Unlink { objects: Vec<At>, uids: Vec<String>, guards: Vec<Guard> },
    /// Take a finalizer off: what it stood for is done.
    Release { object: At, finalizer: &'static str },
    /// Let no owner wait for this one: it would wait for itself.
    Unblock { object: At },
    /// Begin the deletion of an object that has no owner any more.
    Delete { object: At, foreground: bool, guards: Vec<Guard> },
    /// Say why it stays.
    Tell { object: At, reason: Reason },
}

/// References taken off in one transaction.
const STEP: usize = 256;

/// What to do about one object. Nothing is deleted unless every owner is known to be gone, or to
/// wait for this one to go.
pub(crate) fn decide(
    graph: &Graph,
    standing: impl Fn(&Owner, &Key) -> Standing,
    key: &Key,
) -> Option<Action> {
    let node = graph.node(key)?;
    if node.is_deleting && node.has(ORPHAN) {
        return Some(orphan(graph, node));
    }
    if node.waits() {
        let is_blocked = |one: &Node| one.owner(&node.uid).is_some_and(Owner::is_blocked);
        let blocked = graph.dependents(&node.uid).any(is_blocked);
        return (!blocked).then(|| Action::Release { object: node.at.clone(), finalizer: FOREGROUND });
    }
    if node.is_deleting {
        return None;
    }
    let (mut gone, mut waiting, mut guards) = (Vec::new(), Vec::new(), Vec::new());
    let mut is_kept = false;
    for owner in &node.owners {
        match standing(owner, key) {
            Standing::There if waits(graph, owner) => waiting.push(owner.uid.clone()),
            Standing::There => is_kept = true,
            Standing::Gone(guard) => {
                gone.push(owner.uid.clone());
                guards.push(guard);
            }
            // Not known is not gone.
            Standing::Unknown => return None,
            Standing::OutOfReach => {
                let reason = Reason::OutOfReach { kind: owner.kind.clone(), name: owner.name.clone() };
                return Some(Action::Tell { object: node.at.clone(), reason });
            }
        }
    }
    let object = node.at.clone();
    if is_kept {
        gone.append(&mut waiting);
        return (!gone.is_empty()).then(|| Action::Unlink { objects: vec![object], uids: gone, guards });
    }
    if !waiting.is_empty() {
        // One that would wait for those that wait for it waits for ever.
        let in_circle = graph.dependents(&node.uid).any(Node::waits);
        if in_circle && node.owners.iter().any(Owner::is_blocked) {
            return Some(Action::Unblock { object });
        }
        let foreground = graph.has_dependents(&node.uid);
        return Some(Action::Delete { object, foreground, guards });
    }
    (!gone.is_empty()).then(|| Action::Delete { object, foreground: node.has(FOREGROUND), guards })
}

/// Whether the owner waits for those that it owns.
fn waits(graph: &Graph, owner: &Owner) -> bool {
    graph.going(&owner.uid).is_some_and(Node::waits)
}

/// Its dependents stay without it.
fn orphan(graph: &Graph, node: &Node) -> Action {
    let objects: Vec<At> = graph.dependents(&node.uid).take(STEP).map(|one| one.at.clone()).collect();
    if objects.is_empty() {
        return Action::Release { object: node.at.clone(), finalizer: ORPHAN };
    }
    Action::Unlink { objects, uids: vec![node.uid.clone()], guards: Vec::new() }
}
