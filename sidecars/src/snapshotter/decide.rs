//! What to do next for one content. Pure: the loop asks, applies, and asks again.
//!
//! The order that makes a crash harmless, for a snapshot as for a group snapshot:
//! 1. the intent (an annotation on the content, which a finalizer keeps) is saved, against the very
//!    version that was read;
//! 2. CreateSnapshot, under a name made of the snapshot's UID, the same call until it answers;
//! 3. the snapshot's id is saved in the content's status;
//! 4. the intent is taken away.
//!
//! So as long as a snapshot may exist of which the content does not tell the id, and only so
//! long, the content says so. If it is to go then, the same call gives the id first.

use std::{collections::HashMap, sync::Arc};

use holdfast_api::snapshot::names::RESERVED;

use super::{
    content::{Content, Parameters, has_intent, is_going, is_held},
    parameters,
    reason::{Reason, Task},
};
use crate::{
    csi::{CsiError, DriverFacts},
    writes::SecretKey,
};

/// What is known of the content's class.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Class<C: Content> {
    NotAsked,
    /// The API says that there is none of the name.
    Absent,
    There(Box<C::Class>),
}

/// What came of the steps of this very look.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Progress<C: Content> {
    Begun,
    /// The driver has it, as it says here.
    Told(Box<C::Told>),
    /// The driver has none of this id.
    Missing {
        handle: String,
    },
    Failed(Task, CsiError),
    /// What the driver said is in the status.
    Saved {
        ready: bool,
    },
    /// The failure is in the status.
    Noted(Box<Reason>),
    Deleted,
}

/// All that a decision looks at.
#[derive(Debug, Clone)]
pub(crate) struct View<C: Content> {
    pub facts: Arc<DriverFacts>,
    /// Tell the driver the names of the objects.
    pub extra_create_metadata: bool,
    pub content: Option<Arc<C>>,
    /// `content` comes from the API itself and not from the cache.
    pub live: bool,
    pub class: Class<C>,
    /// The intent is of this very process, and every call since was refused for certain.
    pub clear: bool,
    pub progress: Progress<C>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action<C: Content> {
    /// Nothing until something changes.
    Rest(Reason),
    /// Nothing now; the same again after the backoff.
    Retry(Reason),
    /// Read the content from the API.
    ReadContent(Reason),
    /// Read its class from the API.
    ReadClass { class: String, reason: Reason },
    /// Put the intent and the finalizer on the content, if it is still the version that was read.
    RecordIntent(Reason),
    /// CreateSnapshot, CreateVolumeGroupSnapshot.
    Create { request: Box<C::Request>, secret: Option<SecretKey>, reason: Reason },
    /// Ask the driver how it is: GetSnapshot or ListSnapshots, GetVolumeGroupSnapshot.
    Ask { handle: String, secret: Option<SecretKey>, reason: Reason },
    /// Save what the driver said.
    Save { told: Box<C::Told>, reason: Reason },
    /// Save that a snapshot which the driver cannot be asked about is what it is said to be.
    Trust { handle: String, reason: Reason },
    /// Take the intent off.
    DropIntent(Reason),
    /// Say in the status why not.
    NoteFailure(Reason),
    /// DeleteSnapshot, DeleteVolumeGroupSnapshot.
    Delete { handle: String, secret: Option<SecretKey>, reason: Reason },
    /// Take the finalizer and the intent off, so that the content goes.
    Unprotect(Reason),
}

impl<C: Content> Action<C> {
    pub(crate) fn reason(&self) -> &Reason {
        match self {
            Self::Rest(reason)
            | Self::Retry(reason)
            | Self::ReadContent(reason)
            | Self::ReadClass { reason, .. }
            | Self::RecordIntent(reason)
            | Self::Create { reason, .. }
            | Self::Ask { reason, .. }
            | Self::Save { reason, .. }
            | Self::Trust { reason, .. }
            | Self::DropIntent(reason)
            | Self::NoteFailure(reason)
            | Self::Delete { reason, .. }
            | Self::Unprotect(reason) => reason,
        }
    }
}

/// See the module's documentation.
pub(crate) fn decide<C: Content>(view: &View<C>) -> Action<C> {
    let Some(content) = view.content.as_deref() else { return Action::Rest(Reason::Gone) };
    if content.driver() != view.facts.name {
        return Action::Rest(Reason::NotOurs);
    }
    let going = is_going(content);
    // Steps of this look that must be brought to their end first.
    match &view.progress {
        Progress::Told(told) => return Action::Save { told: told.clone(), reason: Reason::Saving },
        Progress::Missing { handle } => {
            return Action::NoteFailure(Reason::Missing { handle: handle.clone() });
        }
        Progress::Failed(task, error) => {
            let doubt = *task == Task::Create && error.is_final() && has_intent(content) && !view.clear;
            let error = error.clone();
            return Action::NoteFailure(match doubt {
                true => Reason::InDoubt { name: own_name(content), error },
                false => Reason::Failed { task: *task, error },
            });
        }
        Progress::Noted(reason) => {
            // Nothing exists for certain: the content need not say otherwise until the next attempt.
            if has_intent(content) && view.clear {
                return Action::DropIntent(Reason::NothingMade);
            }
            return Action::Retry(Reason::Noted(reason.clone()));
        }
        Progress::Deleted => return Action::Unprotect(Reason::Deleted),
        Progress::Saved { .. } if !going && has_intent(content) => {
            return Action::DropIntent(Reason::Saved);
        }
        Progress::Saved { ready: true } if !going => return Action::Rest(Reason::Ready),
        Progress::Saved { ready: false } if !going => return Action::Retry(Reason::NotReady),
        Progress::Saved { .. } | Progress::Begun => {}
    }
    if going { delete(view, content) } else { create(view, content) }
}

fn create<C: Content>(view: &View<C>, content: &C) -> Action<C> {
    // Its group's content tells all that there is to it.
    if content.is_member() && !content.is_given() {
        return Action::Rest(Reason::OfGroup);
    }
    if content.is_ready() && content.handle().is_some() {
        return match has_intent(content) {
            true => Action::DropIntent(Reason::Saved),
            false => Action::Rest(Reason::Ready),
        };
    }
    match content.handle() {
        Some(handle) if C::can_ask(&view.facts) => {
            if let (Some(class), Class::NotAsked) = (class_name(content), &view.class) {
                return Action::ReadClass { class, reason: Reason::Asking };
            }
            match parameters::ask_secret(class(view), content) {
                Ok(secret) => Action::Ask { handle: handle.to_owned(), secret, reason: Reason::Asking },
                Err(error) => Action::NoteFailure(Reason::BadClass(error)),
            }
        }
        Some(handle) if content.is_given() && C::TRUST.is_some() => {
            Action::Trust { handle: handle.to_owned(), reason: Reason::Trusting }
        }
        _ => take(view, content, Reason::Creating),
    }
}

/// The call that makes it, the first time or again.
fn take<C: Content>(view: &View<C>, content: &C, reason: Reason) -> Action<C> {
    if !C::can_take(&view.facts) {
        return Action::NoteFailure(Reason::NotSupported);
    }
    if content.is_given() {
        return Action::Rest(Reason::NothingMade);
    }
    if let Some(class) = class_name(content) {
        match &view.class {
            Class::NotAsked => return Action::ReadClass { class, reason },
            Class::Absent => return Action::NoteFailure(Reason::NoClass { class }),
            Class::There(_) => {}
        }
    }
    let mut parameters = match parameters::of_driver(class(view)) {
        Ok(parameters) => parameters,
        Err(error) => return Action::NoteFailure(Reason::BadClass(error)),
    };
    // With the id in the status nothing is in doubt.
    if !is_held(content) || (!has_intent(content) && content.handle().is_none()) {
        return Action::RecordIntent(reason);
    }
    // The intent may be all that a stale cache still shows of a snapshot long taken.
    if !view.live {
        return Action::ReadContent(reason);
    }
    if view.extra_create_metadata {
        parameters.extend(object_names(content));
    }
    let Some(request) = content.request(own_name(content), parameters) else {
        return Action::Rest(Reason::NothingMade);
    };
    Action::Create { request: Box::new(request), secret: parameters::secret(content), reason }
}

fn delete<C: Content>(view: &View<C>, content: &C) -> Action<C> {
    if !is_held(content) {
        return Action::Rest(Reason::Released);
    }
    // What follows destroys data or forgets it: a cache is no ground for it.
    if !view.live {
        return Action::ReadContent(Reason::Checking);
    }
    if content.is_member() {
        return Action::Unprotect(Reason::OfGroup);
    }
    match content.handle() {
        // CSI has no "find by name": the same call again gives the id, and then it can be deleted.
        None if has_intent(content) && !view.clear => take(view, content, Reason::Abandoning),
        None => Action::Unprotect(Reason::NothingMade),
        Some(_) if content.deletion_policy() != "Delete" => Action::Unprotect(Reason::Kept),
        Some(_) if !C::can_take(&view.facts) => Action::NoteFailure(Reason::NotSupported),
        Some(handle) => Action::Delete {
            handle: handle.to_owned(),
            secret: parameters::secret(content),
            reason: Reason::Deleting,
        },
    }
}

/// The name under which the driver is asked for it; upstream's, so that either sidecar can go on
/// with what the other began.
fn own_name<C: Content>(content: &C) -> String {
    format!("{}{}", C::WORDS.prefix, content.belongs_to().uid.as_deref().unwrap_or_default())
}

fn class_name<C: Content>(content: &C) -> Option<String> {
    content.class_name().filter(|name| !name.is_empty()).map(str::to_owned)
}

fn class<C: Content>(view: &View<C>) -> Option<&Parameters> {
    match &view.class {
        Class::There(class) => C::parameters_of(class),
        Class::NotAsked | Class::Absent => None,
    }
}

fn object_names<C: Content>(content: &C) -> HashMap<String, String> {
    let (reference, kind) = (content.belongs_to(), C::WORDS.kind);
    let pairs = [
        (format!("{RESERVED}{kind}/name"), reference.name.clone()),
        (format!("{RESERVED}{kind}/namespace"), reference.namespace.clone()),
        (format!("{RESERVED}{kind}content/name"), content.meta().name.clone()),
    ];
    pairs.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect()
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
