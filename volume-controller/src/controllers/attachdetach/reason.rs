//! Why attach-detach does what it does, in words for people.

use std::fmt;

/// One reason; feeds the event, the log line and the error alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A pod on the node uses the volume.
    Wanted { volume: String, node: String },
    /// The attachment says that it is attached.
    Attached { volume: String },
    /// The driver could not attach the volume, and tries on.
    Failed { volume: String, message: String },
    /// The volume can be on one node only and is on another.
    MultiAttach { volume: String, other: String, pods: Vec<String> },
    /// No pod on the node uses the volume, and the node says that it does not either.
    Unused { volume: String, node: String },
    /// The list of attached volumes in the node's status is behind.
    StatusBehind,
}

impl Reason {
    /// The event's `reason`, in upstream's spelling.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Wanted { .. } => "AttachingVolume",
            Self::Attached { .. } => "SuccessfulAttachVolume",
            Self::Failed { .. } | Self::MultiAttach { .. } => "FailedAttachVolume",
            Self::Unused { .. } => "DetachingVolume",
            Self::StatusBehind => "VolumesAttachedChanged",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wanted { volume, node } => write!(f, "volume {volume:?} is wanted on node {node:?}"),
            Self::Attached { volume } => write!(f, "AttachVolume.Attach succeeded for volume {volume:?}"),
            Self::Failed { volume, message } => {
                write!(f, "AttachVolume.Attach failed for volume {volume:?} : {message}")
            }
            Self::MultiAttach { volume, other, pods } if pods.is_empty() => write!(
                f,
                "Multi-Attach error for volume {volume:?}: it is attached to node {other:?} and can be on one node only"
            ),
            Self::MultiAttach { volume, other, pods } => write!(
                f,
                "Multi-Attach error for volume {volume:?}: it is in use on node {other:?} by pod(s) {}; \
                 it follows once they are gone",
                pods.join(", ")
            ),
            Self::Unused { volume, node } => {
                write!(f, "no pod on node {node:?} uses volume {volume:?} and the node has let go of it")
            }
            Self::StatusBehind => f.write_str("the node's list of attached volumes is behind"),
        }
    }
}
