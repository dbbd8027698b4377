//! Why attach-detach does what it does, in words for people.

use std::fmt;

use holdfast_api::nodes::OUT_OF_SERVICE;

/// What is known of the node that has a volume that another one wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holder {
    /// It is ready, and lets go of the volume by itself.
    Well,
    /// It is not ready, so it may have the volume for long.
    Silent,
    /// It has no object any more.
    Gone { attachment: String },
}

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
    MultiAttach { volume: String, other: String, pods: Vec<String>, holder: Holder },
    /// No pod on the node uses the volume, and the node says that it does not either.
    Unused { volume: String, node: String },
    /// No pod on the node uses the volume, and somebody says that the node is shut down.
    OutOfService { volume: String, node: String },
    /// The volume is attached to a machine that had the node's name before.
    OtherMachine { volume: String, node: String, attachment: String },
    /// The list of attached volumes in the node's status is behind.
    StatusBehind,
}

impl Reason {
    /// The event's `reason`, in upstream's spelling.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Wanted { .. } => "AttachingVolume",
            Self::Attached { .. } => "SuccessfulAttachVolume",
            Self::Failed { .. } | Self::MultiAttach { .. } | Self::OtherMachine { .. } => {
                "FailedAttachVolume"
            }
            Self::Unused { .. } => "DetachingVolume",
            Self::OutOfService { .. } => "ForcedDetach",
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
            Self::MultiAttach { volume, other, pods, holder } => {
                write!(f, "Multi-Attach error for volume {volume:?}: ")?;
                if pods.is_empty() {
                    write!(f, "it is attached to node {other:?} and can be on one node only")?;
                } else {
                    let pods = pods.join(", ");
                    write!(
                        f,
                        "it is in use on node {other:?} by pod(s) {pods}; it follows once they are gone"
                    )?;
                }
                match holder {
                    Holder::Well => Ok(()),
                    Holder::Silent => write!(
                        f,
                        "; that node is not ready, so it may have the volume still: if it is shut down and stays so, say: \
                         kubectl taint nodes {other} {OUT_OF_SERVICE}=nodeshutdown:NoExecute"
                    ),
                    Holder::Gone { attachment } => write!(
                        f,
                        "; that node no longer exists, so nobody can say whether it still has the volume: once the machine is \
                         shut down, say: kubectl delete volumeattachment {attachment}"
                    ),
                }
            }
            Self::Unused { volume, node } => {
                write!(f, "no pod on node {node:?} uses volume {volume:?} and the node has let go of it")
            }
            Self::OutOfService { volume, node } => write!(
                f,
                "volume {volume:?} is detached from node {node:?} without the node's word: its taint {OUT_OF_SERVICE} says \
                 that it is shut down"
            ),
            Self::OtherMachine { volume, node, attachment } => write!(
                f,
                "volume {volume:?} is attached to another machine that had the name of node {node:?} before, and nobody can \
                 say whether that one still has it: once it is shut down, say: kubectl delete volumeattachment {attachment}"
            ),
            Self::StatusBehind => f.write_str("the node's list of attached volumes is behind"),
        }
    }
}
