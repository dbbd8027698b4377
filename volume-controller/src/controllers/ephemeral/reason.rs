//! Why a pod's own volume waits.

use std::fmt;

/// One reason; feeds the event and the log line alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A claim of that name is there, and not this pod's.
    NotOwner { volume: String, claim: String, pod: String },
    /// The claim is refused, as anybody's would be.
    Refused { volume: String, claim: String, why: String },
}

impl Reason {
    /// The event's `reason`, in upstream's spelling.
    pub(crate) fn name(&self) -> &'static str {
        "FailedBinding"
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOwner { volume, claim, pod } => write!(
                f,
                "ephemeral volume {volume}: PVC {claim} was not created for pod {pod} (pod is not owner); delete the \
                 claim if nobody needs it, or give the pod or its volume another name"
            ),
            Self::Refused { volume, claim, why } => {
                write!(f, "ephemeral volume {volume}: create PVC {claim}: {why}")
            }
        }
    }
}
