//! The answer to "may they?", from an index in memory that is always as new as the store.

use std::ops::ControlFlow;

use futures::FutureExt;
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef};
use parking_lot::Mutex;
use tokio::task::unconstrained;

use super::super::status::ApiError;
use super::super::user::{MASTERS, User};
use super::attributes::{Attributes, Object};
use super::index::{Index, resources};
use super::matching::allows;
use crate::store::{ChangeKind, Next, Store, Watch, WatchError};

/// What may be done, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    /// For people; may be empty.
    pub(crate) reason: String,
}

/// Who may do what in the cluster of one store.
pub(crate) struct Access {
    store: Store,
    known: Mutex<Known>,
}

/// The index, and the changes that it has not seen yet.
#[derive(Default)]
struct Known {
    index: Index,
    /// `None` before the first question.
    changes: Option<Watch>,
}

impl Access {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// Whether a user may do something.
    pub(crate) fn decide(&self, user: &User, asked: &Attributes) -> Decision {
        if user.is_in(MASTERS) {
            return Decision { allowed: true, reason: String::new() };
        }
        let namespace = match &asked.object {
            Object::Resource(resource) => resource.namespace.as_str(),
            Object::Path(_) => "",
        };
        self.look(|index| {
            let mut missing = Vec::new();
            let found = index.visit(user, namespace, |grant| {
                match grant.rules {
                    None => missing.push(grant.missing()),
                    Some(rules) if rules.iter().any(|rule| allows(rule, asked)) => {
                        return ControlFlow::Break(grant.reason());
                    }
                    Some(_) => {}
                }
                ControlFlow::Continue(())
            });
            match (found, missing.as_slice()) {
                (ControlFlow::Break(reason), _) => Decision { allowed: true, reason },
                (_, []) => Decision::default(),
                (_, [one]) => Decision { allowed: false, reason: format!("RBAC: {one}") },
                (_, many) => Decision { allowed: false, reason: format!("RBAC: [{}]", many.join(", ")) },
            }
        })
    }

    /// Refuses what a user may not do.
    pub(crate) fn check(&self, user: &User, asked: &Attributes) -> Result<(), ApiError> {
        let decision = self.decide(user, asked);
        if decision.allowed { Ok(()) } else { Err(asked.denied(user, &decision.reason)) }
    }

    /// Every rule that a user has in a namespace; and the roles that are bound but not there.
    pub(crate) fn rules_of(&self, user: &User, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        self.look(|index| {
            let (mut rules, mut missing) = (Vec::new(), Vec::new());
            let _ = index.visit(user, namespace, |grant| {
                match grant.rules {
                    None => missing.push(grant.missing()),
                    Some(found) => rules.extend_from_slice(found),
                }
                ControlFlow::<()>::Continue(())
            });
            (rules, missing)
        })
    }

    /// The rules of the role that a binding in `namespace` (empty: of the cluster) names.
    pub(crate) fn rules_in(&self, role: &RoleRef, namespace: &str) -> Option<Vec<PolicyRule>> {
        self.look(|index| index.rules(role, namespace).map(<[_]>::to_vec))
    }

    /// Looks at the index with everything in it that is committed: whoever has lost a role
    /// has lost it with the answer to the write.
    fn look<R>(&self, look: impl FnOnce(&Index) -> R) -> R {
        let mut known = self.known.lock();
        known.catch_up(&self.store);
        look(&known.index)
    }
}

impl Known {
    fn catch_up(&mut self, store: &Store) {
        loop {
            let Some(changes) = &mut self.changes else {
                self.fill(store);
                continue;
            };
            // Not more than a look: what is not there yet is not waited for. Nor may the
            // runtime's share of time end it early.
            match unconstrained(changes.next()).now_or_never() {
                None => return,
                Some(Ok(Next::Progress(_))) => {}
                Some(Ok(Next::Change(change))) => match change.kind {
                    ChangeKind::Deleted => self.index.take(&change.object.key),
                    ChangeKind::Created | ChangeKind::Updated => self.index.put(&change.object),
                },
                Some(Err(WatchError::TooSlow)) => self.changes = None,
                // Nothing changes any more.
                Some(Err(WatchError::Closed)) => return,
            }
        }
    }

    /// Begins anew with a list. Changes between the beginning and the list are seen twice,
    /// the second time in their order.
    fn fill(&mut self, store: &Store) {
        let resources = resources();
        let start = store.revision();
        self.index = Index::default();
        for resource in &resources {
            for object in store.list(resource, None, None, None).objects {
                self.index.put(&object);
            }
        }
        // An error means that the start is compacted meanwhile: then the next round begins later.
        self.changes = store.watch(&resources.each_ref().map(String::as_str), start).ok();
    }
}
