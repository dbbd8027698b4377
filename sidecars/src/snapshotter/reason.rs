//! Why the snapshotter does what it does, for the log, the Events and the reader.

use std::fmt;

use holdfast_api::snapshot::names::{BEING_CREATED, CONTENT_BOUND};

use super::parameters::ClassError;
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

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => write!(f, "the content is gone"),
            Self::NotOurs => write!(f, "not of this driver"),
            Self::Creating => write!(f, "asking the driver for a snapshot"),
            Self::Asking => write!(f, "asking the driver how the snapshot is"),
            Self::Trusting => {
                write!(f, "the driver cannot be asked about snapshots: taking it for what it is said to be")
            }
            Self::Saving => write!(f, "saving what the driver says of the snapshot"),
            Self::Saved => write!(f, "the driver's id of the snapshot is saved"),
            Self::Ready => write!(f, "the snapshot is ready"),
            Self::NotReady => write!(f, "the driver is not done with the snapshot yet"),
            Self::Checking => write!(f, "making sure before deleting"),
            Self::Abandoning => {
                write!(f, "a snapshot may have been taken: asking the driver again, to delete it then")
            }
            Self::Deleting => write!(f, "deleting the snapshot"),
            Self::Deleted => write!(f, "the driver deleted the snapshot"),
            Self::NothingMade => write!(f, "no snapshot was taken"),
            Self::Kept => write!(f, "the deletion policy keeps the snapshot"),
            Self::OfGroup => write!(f, "the snapshot is deleted with its group"),
            Self::Released => write!(f, "nothing of ours keeps the content"),
            Self::NotSupported => write!(
                f,
                "the driver neither takes nor deletes snapshots (it does not declare CREATE_DELETE_SNAPSHOT)"
            ),
            Self::NoClass { class } => write!(
                f,
                "Failed to create snapshot: volumesnapshotclass {class:?} is not there: create it again"
            ),
            Self::BadClass(error) => write!(f, "the snapshot class cannot be used: {error}"),
            Self::Missing { handle } => write!(
                f,
                "the driver has no snapshot {handle:?}: correct the handle by making the content anew, or bring the \
                 snapshot back"
            ),
            Self::Failed { task: Task::Create, error } => write!(f, "Failed to create snapshot: {error}"),
            Self::Failed { task: Task::Ask, error } => {
                write!(f, "Failed to check and update snapshot content: {error}")
            }
            Self::Failed { task: Task::Delete, error } => write!(f, "Failed to delete snapshot: {error}"),
            // The way out comes first: a driver's long message must not cut it off.
            Self::InDoubt { name, error } => write!(
                f,
                "an earlier attempt to take the snapshot was never answered, so it may exist, and what the driver \
                 answers now does not tell. The content waits until the driver succeeds: remedy what it says. When you \
                 are sure that the driver has no snapshot {name}, delete the snapshot object and remove the content's \
                 annotation {BEING_CREATED} (if it stays even so, its finalizer {CONTENT_BOUND}). The driver says: {error}"
            ),
            Self::Noted(reason) => reason.fmt(f),
            Self::Blocked(what) => write!(f, "{what}"),
        }
    }
}

impl Explain for Reason {
    fn headline(&self) -> Option<Headline> {
        match self {
            Self::Failed { task: Task::Delete, .. } => {
                Some(Headline::warning("SnapshotDeleteError", "DeleteSnapshot"))
            }
            Self::Failed { task: Task::Ask, .. } | Self::Missing { .. } => {
                Some(Headline::warning("SnapshotContentCheckandUpdateFailed", "CheckSnapshot"))
            }
            Self::Failed { task: Task::Create, .. }
            | Self::InDoubt { .. }
            | Self::NotSupported
            | Self::NoClass { .. }
            | Self::BadClass(_)
            | Self::Blocked(Blocked { passes: false, .. }) => {
                Some(Headline::warning("SnapshotCreationFailed", "CreateSnapshot"))
            }
            _ => None,
        }
    }
}
