//! Why a claim's growth waits.

use std::fmt;

/// One reason; feeds the event and the log line alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The volume is of a kind that nothing here can grow.
    NoPlugin { volume: String },
}

impl Reason {
    /// The event's `reason`, in upstream's spelling.
    pub(crate) fn name(&self) -> &'static str {
        "ExternalExpanding"
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlugin { volume } => write!(
                f,
                "didn't find a plugin capable of expanding volume {volume:?}, which is not a CSI volume; waiting for an \
                 external controller to process this PVC. To go on without: ask for the size that the claim has"
            ),
        }
    }
}
