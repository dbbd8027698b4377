//! Why an object is not collected.

use std::fmt;

/// One reason; feeds the event and the log line alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// What has no namespace cannot belong to what has one.
    OutOfReach { kind: String, name: String },
}

impl Reason {
    /// The event's `reason`, in upstream's spelling.
    pub(crate) fn name(&self) -> &'static str {
        "OwnerRefInvalidNamespace"
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfReach { kind, name } => write!(
                f,
                "ownerRef [{kind} {name}] names an owner with a namespace, and this object has none, so it is never \
                 collected: take the reference off, or name an owner without a namespace"
            ),
        }
    }
}
