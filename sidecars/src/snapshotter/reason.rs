//! Why the snapshotter does what it does, for the log, the Events and the reader.

use std::fmt;

use super::{content::Words, parameters::ClassError};
use crate::{
    csi::CsiError,
    events::{Explain, Headline},
    writes::Blocked,
};

/// What the driver was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Create,
    Ask,
    Delete,
}

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    Gone,
    NotOurs,
    Creating,
    Asking,
    Trusting,
    Saving,
    Saved,
    Ready,
    NotReady,
    Checking,
    Abandoning,
    Deleting,
    Deleted,
    NothingMade,
    Kept,
    OfGroup,
    Released,
    NotSupported,
    NoClass {
        class: String,
    },
    BadClass(ClassError),
    Missing {
        handle: String,
    },
    Failed {
        task: Task,
        error: CsiError,
    },
    /// Refused, after an earlier call that was never answered.
    InDoubt {
        name: String,
        error: CsiError,
    },
    /// In the status by now; told already.
    Noted(Box<Reason>),
    Blocked(Blocked),
}

impl Reason {
    /// For people, in the words of what it is about.
    pub(crate) fn in_words(&self, words: &'static Words) -> Said<'_> {
        Said { reason: self, words }
    }
}

/// A reason, told.
pub(crate) struct Said<'a> {
    reason: &'a Reason,
    words: &'static Words,
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Words { noun, created, bound, .. } = self.words;
        match self.reason {
            Reason::Gone => write!(f, "the content is gone"),
            Reason::NotOurs => write!(f, "not of this driver"),
            Reason::Creating => write!(f, "asking the driver for a {noun}"),
            Reason::Asking => write!(f, "asking the driver how the {noun} is"),
            Reason::Trusting => {
                write!(f, "the driver cannot be asked about snapshots: taking it for what it is said to be")
            }
            Reason::Saving => write!(f, "saving what the driver says of the {noun}"),
            Reason::Saved => write!(f, "the driver's id of the {noun} is saved"),
            Reason::Ready => write!(f, "the {noun} is ready"),
            Reason::NotReady => write!(f, "the driver is not done with the {noun} yet"),
            Reason::Checking => write!(f, "making sure before deleting"),
            Reason::Abandoning => {
                write!(f, "a {noun} may have been taken: asking the driver again, to delete it then")
            }
            Reason::Deleting => write!(f, "deleting the {noun}"),
            Reason::Deleted => write!(f, "the driver deleted the {noun}"),
            Reason::NothingMade => write!(f, "no {noun} was taken"),
            Reason::Kept => write!(f, "the deletion policy keeps the {noun}"),
            Reason::OfGroup => write!(f, "the snapshot is taken and deleted with its group"),
            Reason::Released => write!(f, "nothing of ours keeps the content"),
            Reason::NotSupported => write!(
                f,
                "the driver neither takes nor deletes {noun}s (it does not declare {})",
                self.words.capability
            ),
            Reason::NoClass { class } => write!(
                f,
                "Failed to create {noun}: {}class {class:?} is not there: create it again",
                self.words.kind
            ),
            Reason::BadClass(error) => write!(f, "the {noun} class cannot be used: {error}"),
            Reason::Missing { handle } => write!(
                f,
                "the driver has no {noun} {handle:?}: correct the handle by making the content anew, or bring the \
                 {noun} back"
            ),
            Reason::Failed { task: Task::Create, error } => write!(f, "Failed to create {noun}: {error}"),
            Reason::Failed { task: Task::Ask, error } => {
                write!(f, "Failed to check and update {noun} content: {error}")
            }
            Reason::Failed { task: Task::Delete, error } => write!(f, "Failed to delete {noun}: {error}"),
            // The way out comes first: a driver's long message must not cut it off.
            Reason::InDoubt { name, error } => write!(
                f,
                "an earlier attempt to take the {noun} was never answered, so it may exist, and what the driver \
                 answers now does not tell. The content waits until the driver succeeds: remedy what it says. When you \
                 are sure that the driver has no {noun} {name}, delete the {noun} object and remove the content's \
                 annotation {created} (if it stays even so, its finalizer {bound}). The driver says: {error}"
            ),
            Reason::Noted(reason) => reason.in_words(self.words).fmt(f),
            Reason::Blocked(what) => write!(f, "{what}"),
        }
    }
}

impl Explain for Said<'_> {
    fn headline(&self) -> Option<Headline> {
        let [not_created, not_asked, not_deleted] = self.words.events;
        match self.reason {
            Reason::Failed { task: Task::Delete, .. } => {
                Some(Headline::warning(not_deleted, "DeleteSnapshot"))
            }
            Reason::Failed { task: Task::Ask, .. } | Reason::Missing { .. } => {
                Some(Headline::warning(not_asked, "CheckSnapshot"))
            }
            Reason::Failed { task: Task::Create, .. }
            | Reason::InDoubt { .. }
            | Reason::NotSupported
            | Reason::NoClass { .. }
            | Reason::BadClass(_)
            | Reason::Blocked(Blocked { passes: false, .. }) => {
                Some(Headline::warning(not_created, "CreateSnapshot"))
            }
            _ => None,
        }
    }
}
